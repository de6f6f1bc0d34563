//! Rule 12: the data keys before the current one are kept in an annotation as well, and come back from there where status
//! and Secret were lost.

use cmk_operator::api::{
    DataKey,
    conditions::{READY, STALLED, reason},
    data_key::FormerDataKey,
    metadata,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{
        blob, complete_context, condition, conditions_of, create_data_key, decrypted, deleted_and_restored, later_event,
    },
    rule_12_data_keys::{under_orders, with_key},
    rule_12_rotation::{annotate, history, holds_both, request, rotated},
    support::{
        eventually,
        world::{SOON, World, gone},
    },
};

fn annotated_history(data_key: &DataKey) -> Vec<FormerDataKey> {
    serde_json::from_str(&data_key.annotations()[metadata::CIPHERTEXT_HISTORY]).unwrap()
}

/// Deletes the DataKey and its Secret, and creates it with these annotations: as a restore does, without status.
async fn lost_and_restored(world: &World, data_key: &DataKey, annotations: Value) {
    let name = data_key.name_any();
    world.data_keys().delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&world.data_keys(), &name).await;
    let _ = world.secrets().delete(&name, &DeleteParams::default()).await;
    gone(&world.secrets(), &name).await;
    create_data_key(world, &name, annotations, serde_json::to_value(&data_key.spec).unwrap()).await;
}

#[tokio::test]
async fn rule_12_restored_without_status_and_secret_a_data_key_has_its_whole_history() {
    let (world, operator) = with_key("r12-restored").await;
    world.apply_data_key("dek", under_orders(json!({"rotationIntervalDays": 30}))).await;
    let mut before = world.data_key_ready("dek").await;
    let context = complete_context(&world.namespace, "dek", &[]);
    let mut plaintexts = vec![decrypted(&world, "orders", &context, &blob(&before)).await];
    for times in 1..=3 {
        world.clock.advance_days(10);
        request(&world, "dek", &format!("{times}")).await;
        before = rotated(&world, "dek", times).await;
        assert_eq!(annotated_history(&before), before.status.as_ref().unwrap().history);
        plaintexts.push(decrypted(&world, "orders", &context, &blob(&before)).await);
    }
    let secret = holds_both(&world, &before).await;

    // The operator runs, and meets it twenty days later.
    world.clock.advance_days(20);
    lost_and_restored(&world, &before, json!(before.annotations())).await;
    let after = rotated(&world, "dek", 3).await;
    let (was, is) = (before.status.as_ref().unwrap(), after.status.as_ref().unwrap());
    assert_eq!((&is.ciphertext_blob, &is.history), (&was.ciphertext_blob, &was.history));
    assert_eq!((&is.generated_at, &is.next_rotation), (&was.generated_at, &was.next_rotation), "the interval goes on");
    assert_eq!(after.annotations(), before.annotations());
    assert!(holds_both(&world, &after).await.data == secret.data);
    for (text, plaintext) in history(&after).iter().zip(&plaintexts) {
        assert!(decrypted(&world, "orders", &context, text).await == *plaintext);
    }
    let said = world.event("dek", reason::DATA_KEY_ADOPTED).await;
    assert!(said.contains("annotation") && said.contains("status.history: 3"), "{said}");

    world.clock.advance_days(11);
    let fourth = rotated(&world, "dek", 4).await;
    assert_eq!(history(&fourth), [history(&after), vec![blob(&after)]].concat());

    // Without the current one: a new one, and the history stays.
    let mut annotations = fourth.annotations().clone();
    annotations.remove(metadata::CIPHERTEXT_BLOB);
    lost_and_restored(&world, &fourth, json!(annotations)).await;
    let new = rotated(&world, "dek", 4).await;
    assert_eq!(history(&new), history(&fourth));
    assert_ne!(blob(&new), blob(&fourth));
    holds_both(&world, &new).await;
    operator.stop().await.unwrap();
}

/// The data key `dek`, rotated once, and its Secret. There is another one, `other`.
async fn rotated_beside_another(world: &World) -> (DataKey, Secret) {
    for name in ["dek", "other"] {
        world.apply_data_key(name, under_orders(json!({}))).await;
        world.data_key_ready(name).await;
    }
    request(world, "dek", "1").await;
    let before = rotated(world, "dek", 1).await;
    let secret = holds_both(world, &before).await;
    (before, secret)
}

#[tokio::test]
async fn rule_12_status_wins_over_the_annotation_with_the_history() {
    let (world, operator) = with_key("r12-wins2").await;
    let (before, secret) = rotated_beside_another(&world).await;
    let text = &before.annotations()[metadata::CIPHERTEXT_HISTORY];
    let foreign = text.replace(&history(&before)[0], &blob(&world.data_key_ready("other").await));
    for value in [json!(foreign), json!("[]"), json!("nonsense"), Value::Null] {
        annotate(&world, "dek", json!({metadata::CIPHERTEXT_HISTORY: value})).await;
        eventually("the annotation to be brought back", SOON, async || {
            let now = world.data_keys().get("dek").await.map_err(|e| e.to_string())?;
            let found = now.annotations().get(metadata::CIPHERTEXT_HISTORY).cloned();
            if found.as_ref() == Some(text) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
    let after = rotated(&world, "dek", 1).await;
    assert_eq!((blob(&after), history(&after)), (blob(&before), history(&before)));
    assert!(world.secrets().get("dek").await.unwrap().data == secret.data);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_foreign_entry_of_an_annotated_history_is_never_delivered() {
    let (world, operator) = with_key("r12-foreign2").await;
    let (before, secret) = rotated_beside_another(&world).await;
    let own = annotated_history(&before);
    let mut with_foreign = own.clone();
    with_foreign.push(FormerDataKey { ciphertext_blob: blob(&world.data_key_ready("other").await), ..own[0].clone() });
    let mut foreign_first = with_foreign.clone();
    foreign_first.reverse();
    for (text, says) in [
        (serde_json::to_string(&with_foreign).unwrap(), "Entry 2"),
        (serde_json::to_string(&foreign_first).unwrap(), "Entry 1"),
        ("nonsense".to_owned(), "JSON list"),
    ] {
        let mut annotations = before.annotations().clone();
        annotations.insert(metadata::CIPHERTEXT_HISTORY.into(), text);
        lost_and_restored(&world, &before, json!(annotations)).await;
        let stalled = world.data_key_says("dek", STALLED, "True", reason::FOREIGN_CIPHERTEXT).await;
        let message = &condition(conditions_of(&stalled), READY).message;
        assert!(message.contains(metadata::CIPHERTEXT_HISTORY) && message.contains(says), "{message}");
        later_event(&world, "orders").await;
        assert!(world.secrets().get_opt("dek").await.unwrap().is_none(), "nothing is delivered");
        let status = world.data_keys().get("dek").await.unwrap().status.unwrap();
        assert!(status.ciphertext_blob.is_none() && status.history.is_empty(), "nothing is taken over");

        // As the message says.
        let own = serde_json::to_string(&own).unwrap();
        annotate(&world, "dek", json!({metadata::CIPHERTEXT_HISTORY: own})).await;
        let after = rotated(&world, "dek", 1).await;
        assert_eq!((blob(&after), history(&after)), (blob(&before), history(&before)));
        assert!(holds_both(&world, &after).await.data == secret.data);
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_full_history_stops_the_rotation() {
    let (world, operator) = with_key("r12-full").await;
    // Of the most bytes: the history fits into an annotation all the same.
    world.apply_data_key("dek", under_orders(json!({"numberOfBytes": 1024}))).await;
    world.data_key_ready("dek").await;
    request(&world, "dek", "1").await;
    let once = rotated(&world, "dek", 1).await;
    operator.stop().await.unwrap();

    let api: Api<DataKey> = Api::namespaced(world.operator_client().await, &world.namespace);
    let mut full = api.get("dek").await.unwrap();
    let former: FormerDataKey = full.status.as_ref().unwrap().history[0].clone();
    full.status.as_mut().unwrap().history = vec![former; 63];
    api.replace_status("dek", &PostParams::default(), &full).await.unwrap();
    let operator = world.start().await;
    request(&world, "dek", "2").await;
    let last = rotated(&world, "dek", 64).await;
    assert_ne!(blob(&last), blob(&once));
    assert_eq!(annotated_history(&last), last.status.as_ref().unwrap().history);
    let secret = holds_both(&world, &last).await;

    request(&world, "dek", "3").await;
    let stalled = world.data_key_says("dek", STALLED, "True", reason::HISTORY_FULL).await;
    let message = &condition(conditions_of(&stalled), READY).message;
    assert!(message.contains("64 data keys") && message.contains("new DataKey"), "{message}");
    assert_eq!((blob(&stalled), history(&stalled)), (blob(&last), history(&last)));
    assert!(deleted_and_restored(&world, "dek").await.data == secret.data, "it stays delivered");
    world.event("dek", reason::HISTORY_FULL).await;

    // As the message says.
    annotate(&world, "dek", json!({metadata::ROTATE_REQUESTED_AT: null})).await;
    world.data_key_ready("dek").await;
    operator.stop().await.unwrap();
}

/// The annotations that others have put there leave no room for the history: said before a data key is generated that
/// could not be delivered.
#[tokio::test]
async fn rule_12_no_room_in_the_annotations_stops_the_rotation() {
    let (world, operator) = with_key("r12-crowded").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    let before = world.data_key_ready("dek").await;
    annotate(&world, "dek", json!({"example.com/notes": "x".repeat(261_600)})).await;
    request(&world, "dek", "1").await;
    let stalled = world.data_key_says("dek", STALLED, "True", reason::HISTORY_FULL).await;
    let message = &condition(conditions_of(&stalled), READY).message;
    assert!(message.contains("256 KiB") && message.contains(metadata::CIPHERTEXT_HISTORY), "{message}");
    assert_eq!((blob(&stalled), history(&stalled).len()), (blob(&before), 0));

    // As much as there is just room for.
    let there: usize = before.annotations().iter().map(|(name, value)| name.len() + value.len()).sum();
    let others = "example.com/notes".len() + metadata::ROTATE_REQUESTED_AT.len() + 1;
    let room = 256 * 1024 - there - others - blob(&before).len() - 256;
    annotate(&world, "dek", json!({"example.com/notes": "x".repeat(room)})).await;
    let after = rotated(&world, "dek", 1).await;
    assert_eq!(history(&after), [blob(&before)]);
    holds_both(&world, &after).await;
    operator.stop().await.unwrap();
}
