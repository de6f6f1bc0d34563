//! Rule 12: a data key that rotates is kept, in the Secret and in status, and nothing of it is lost.

use cmk_operator::api::{
    DataKey,
    conditions::{READY, STALLED, reason},
    metadata,
};
use futures::StreamExt;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    ResourceExt,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{
        CIPHERTEXT_BLOB, PLAINTEXT, blob, complete_context, condition, conditions_of, decrypted, deleted_and_restored,
        later_event, merge, secret_when,
    },
    rule_12_data_keys::{lose_status, under_orders, with_key},
    support::{
        eventually,
        world::{SOON, World, entry},
    },
};

pub const PREVIOUS_PLAINTEXT: &str = "previous-plaintext";
pub const PREVIOUS_CIPHERTEXT_BLOB: &str = "previous-ciphertextBlob";

/// Asks for a rotation, as the administrator.
pub async fn request(world: &World, name: &str, value: &str) {
    annotate(world, name, json!({metadata::ROTATE_REQUESTED_AT: value})).await;
}

/// Changes annotations, as the administrator.
pub async fn annotate(world: &World, name: &str, annotations: Value) {
    merge(&world.data_keys(), name, json!({"metadata": {"annotations": annotations}})).await;
}

/// Waits until a data key that was rotated so many times is delivered.
pub async fn rotated(world: &World, name: &str, times: usize) -> DataKey {
    eventually(&format!("{name} to have been rotated {times} times"), SOON, async || {
        let data_key = world.data_keys().get(name).await.map_err(|e| e.to_string())?;
        let status = data_key.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().any(|c| c.type_ == READY && c.status == "True");
        if ready && status.history.len() == times { Ok(data_key) } else { Err(format!("{status:#?}")) }
    })
    .await
}

pub fn history(data_key: &DataKey) -> Vec<String> {
    data_key.status.as_ref().unwrap().history.iter().map(|former| former.ciphertext_blob.clone()).collect()
}

/// Checks that a Secret has the current data key and the one before, and what they decrypt to.
pub async fn holds_both(world: &World, data_key: &DataKey) -> Secret {
    let name = data_key.name_any();
    let secret = world.secrets().get(&name).await.unwrap();
    let context = complete_context(&world.namespace, &name, &[]);
    let (current, previous) = (blob(data_key), history(data_key).pop().unwrap());
    for (blob, blob_entry, plaintext_entry) in
        [(current, CIPHERTEXT_BLOB, PLAINTEXT), (previous, PREVIOUS_CIPHERTEXT_BLOB, PREVIOUS_PLAINTEXT)]
    {
        assert_eq!(entry(&secret, blob_entry), blob.clone().into_bytes());
        assert_eq!(entry(&secret, plaintext_entry), decrypted(world, "orders", &context, &blob).await);
    }
    assert_ne!(entry(&secret, PLAINTEXT), entry(&secret, PREVIOUS_PLAINTEXT));
    secret
}

/// Days between two times in status.
fn days(from: &Time, to: &Time) -> i64 {
    (to.0.as_second() - from.0.as_second()) / 86_400
}

#[tokio::test]
async fn rule_12_a_data_key_rotates_by_its_interval_and_the_one_before_stays() {
    let (world, operator) = with_key("r12-interval").await;
    let every = |days: Option<i32>| match days {
        Some(days) => under_orders(json!({"rotationIntervalDays": days})),
        None => under_orders(json!({})),
    };
    world.apply_data_key("dek", every(Some(30))).await;
    let first = world.data_key_ready("dek").await;
    let status = first.status.as_ref().unwrap();
    assert_eq!(days(status.generated_at.as_ref().unwrap(), status.next_rotation.as_ref().unwrap()), 30);
    let plaintext = entry(&world.secrets().get("dek").await.unwrap(), PLAINTEXT);

    world.clock.advance_days(29);
    later_event(&world, "orders").await;
    assert!(history(&world.data_key_ready("dek").await).is_empty(), "not yet");
    world.clock.advance_days(2);
    let second = rotated(&world, "dek", 1).await;
    assert_eq!(history(&second), [blob(&first)]);
    let status = second.status.as_ref().unwrap();
    assert_eq!(status.history[0].generated_at, first.status.as_ref().unwrap().generated_at.clone().unwrap());
    assert_eq!(days(status.generated_at.as_ref().unwrap(), status.next_rotation.as_ref().unwrap()), 30);
    assert_eq!(days(&status.history[0].generated_at, status.generated_at.as_ref().unwrap()), 31);
    let secret = holds_both(&world, &second).await;
    assert_eq!(entry(&secret, PREVIOUS_PLAINTEXT), plaintext);
    assert!(world.event("dek", reason::DATA_KEY_ROTATED).await.contains(PREVIOUS_PLAINTEXT));

    // Deleted or tampered with: the same bytes, of both.
    assert!(deleted_and_restored(&world, "dek").await.data == secret.data);
    for patch in [
        json!({"data": {PREVIOUS_PLAINTEXT: null}}),
        json!({"stringData": {PREVIOUS_PLAINTEXT: "x"}}),
        json!({"stringData": {PREVIOUS_CIPHERTEXT_BLOB: "x"}}),
    ] {
        merge(&world.secrets(), "dek", patch).await;
        secret_when(&world, "dek", "to have both again", |now| now.data == secret.data).await;
    }

    // A changed interval counts from the last rotation.
    let next = async |days_: Option<i32>| {
        world.apply_data_key("dek", every(days_)).await;
        let status = world.data_key_ready("dek").await.status.unwrap();
        status.next_rotation.map(|next| days(&status.generated_at.unwrap(), &next))
    };
    assert_eq!((next(Some(50)).await, next(None).await, next(Some(7)).await), (Some(50), None, Some(7)));
    world.clock.advance_days(8);
    let third = rotated(&world, "dek", 2).await;
    assert_eq!(history(&third), [blob(&first), blob(&second)]);
    holds_both(&world, &third).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_requested_rotation_is_made_once() {
    let (world, operator) = with_key("r12-request").await;
    let object: DataKey = serde_json::from_value(json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "DataKey",
        "metadata": {"name": "dek", "annotations": {metadata::ROTATE_REQUESTED_AT: "at first"}},
        "spec": under_orders(json!({})),
    }))
    .unwrap();
    world.data_keys().create(&PostParams::default(), &object).await.unwrap();
    let first = rotated(&world, "dek", 0).await;
    assert_eq!(first.status.as_ref().unwrap().last_handled_rotation.as_deref(), Some("at first"));

    let mut expected = Vec::new();
    let mut before = first;
    for (times, value) in [(1, "2026-01-01T00:00:00Z"), (2, "again"), (3, "2026-01-01T00:00:00Z")] {
        expected.push(blob(&before));
        request(&world, "dek", value).await;
        before = rotated(&world, "dek", times).await;
        assert_eq!(history(&before), expected, "the newest last");
        assert_eq!(before.status.as_ref().unwrap().last_handled_rotation.as_deref(), Some(value));
        holds_both(&world, &before).await;
    }
    operator.stop().await.unwrap();
    let operator = world.start().await;
    later_event(&world, "orders").await;
    assert_eq!(blob(&rotated(&world, "dek", 3).await), blob(&before), "once, also after a restart");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_rotation_is_stored_before_the_secret_has_it() {
    let (world, operator) = with_key("r12-order2").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    world.data_key_ready("dek").await;
    let start = world.data_keys().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    request(&world, "dek", "now").await;
    let new = blob(&rotated(&world, "dek", 1).await);
    let delivered: u64 = world.secrets().get("dek").await.unwrap().resource_version().unwrap().parse().unwrap();

    let api = world.data_keys();
    let params = WatchParams::default().fields("metadata.name=dek").timeout(10);
    let mut changes = api.watch(&params, &start).await.unwrap().boxed();
    let (mut in_status, mut in_annotation) = (None, None);
    while let Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) = changes.next().await {
        let version: u64 = object.resource_version().unwrap().parse().unwrap();
        let status = object.status.clone().unwrap_or_default();
        if in_status.is_none() && status.ciphertext_blob.as_ref() == Some(&new) {
            in_status = Some(version);
            assert_eq!(status.last_handled_rotation.as_deref(), Some("now"), "answered in the same write");
            assert_eq!(status.history.len(), 1, "and the one before kept in it");
        }
        if object.annotations().get(metadata::CIPHERTEXT_BLOB) == Some(&new) {
            in_annotation = Some(version);
            let former = serde_json::to_string(&status.history).unwrap();
            assert_eq!(object.annotations().get(metadata::CIPHERTEXT_HISTORY), Some(&former), "in the same write");
            break;
        }
    }
    let (in_status, in_annotation) = (in_status.unwrap(), in_annotation.unwrap());
    assert!(in_status < in_annotation && in_annotation < delivered, "{in_status} {in_annotation} {delivered}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_status_lost_after_a_rotation_both_are_taken_over() {
    let (world, operator) = with_key("r12-lost2").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    world.data_key_ready("dek").await;
    request(&world, "dek", "now").await;
    let before = rotated(&world, "dek", 1).await;
    let secret = holds_both(&world, &before).await;
    operator.stop().await.unwrap();

    for annotation_lost in [false, true] {
        lose_status(&world, "dek").await;
        if annotation_lost {
            annotate(&world, "dek", json!({metadata::CIPHERTEXT_BLOB: null, metadata::CIPHERTEXT_HISTORY: null})).await;
        }
        let operator = world.start().await;
        let after = rotated(&world, "dek", 1).await;
        assert_eq!((blob(&after), history(&after)), (blob(&before), history(&before)));
        assert_eq!(after.status.unwrap().last_handled_rotation.as_deref(), Some("now"), "it is not made again");
        let kept = world.secrets().get("dek").await.unwrap();
        assert!(kept.data == secret.data && kept.resource_version() == secret.resource_version(), "not touched");
        operator.stop().await.unwrap();
    }
    let events = world.event("dek", reason::DATA_KEY_ADOPTED).await;
    assert!(events.contains("annotation") || events.contains("status.history"), "{events}");
}

#[tokio::test]
async fn rule_12_a_rotation_uses_the_newest_version_of_the_key() {
    let (world, operator) = with_key("r12-version").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    let first = world.data_key_ready("dek").await;
    world.annotate_key("orders", json!({metadata::ROTATE_REQUESTED_AT: "now"})).await;
    let newest = eventually("the key to have two versions", SOON, async || {
        let versions = world.keys().get("orders").await.map_err(|e| e.to_string())?.status.unwrap().key_versions;
        if versions.len() == 2 { Ok(versions[1].id.clone()) } else { Err(format!("{versions:?}")) }
    })
    .await;
    let version = |data_key: &DataKey| data_key.status.as_ref().unwrap().key_version_id.clone().unwrap();
    later_event(&world, "orders").await;
    assert_eq!(version(&world.data_key_ready("dek").await), version(&first), "the data key does not move by itself");

    request(&world, "dek", "now").await;
    let second = rotated(&world, "dek", 1).await;
    assert_ne!(version(&second), version(&first));
    assert_eq!(version(&second), newest);
    holds_both(&world, &second).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_what_can_not_rotate_says_so() {
    let (world, operator) = with_key("r12-refused").await;
    world.apply_data_key("origin", under_orders(json!({}))).await;
    let given = blob(&world.data_key_ready("origin").await);
    let context = json!({metadata::DATA_KEY: format!("{}/origin", world.namespace)});
    for (name, fields) in [
        ("immutable", json!({"secret": {"immutable": true}})),
        ("given", json!({"ciphertextBlob": given, "encryptionContext": context})),
    ] {
        world.apply_data_key(name, under_orders(fields.clone())).await;
        let before = world.data_key_ready(name).await;
        let secret = world.secrets().get(name).await.unwrap();
        request(&world, name, "now").await;
        let stalled = world.data_key_says(name, STALLED, "True", reason::ROTATION_REFUSED).await;
        let message = &condition(conditions_of(&stalled), READY).message;
        assert!(message.contains(metadata::ROTATE_REQUESTED_AT), "{message}");
        assert_eq!((blob(&stalled), history(&stalled).len()), (blob(&before), 0));
        assert!(world.secrets().get(name).await.unwrap().data == secret.data, "it stays delivered");

        // Declared, it is refused.
        let mut declared: Value = under_orders(fields);
        declared["rotationIntervalDays"] = json!(30);
        let object = json!({"spec": declared});
        let refused = world
            .data_keys()
            .patch(name, &Default::default(), &kube::api::Patch::Merge(object))
            .await
            .expect_err("an interval is refused")
            .to_string();
        assert!(refused.contains("spec.rotationIntervalDays must be absent"), "{refused}");
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_the_previous_one_is_delivered_as_declared() {
    let (world, operator) = with_key("r12-forms2").await;
    world.apply_data_key("dek", under_orders(json!({"secret": {"encoding": "Hex"}}))).await;
    world.data_key_ready("dek").await;
    let first = entry(&world.secrets().get("dek").await.unwrap(), PLAINTEXT);
    request(&world, "dek", "now").await;
    rotated(&world, "dek", 1).await;
    assert_eq!(entry(&world.secrets().get("dek").await.unwrap(), PREVIOUS_PLAINTEXT), first);

    world.apply_data_key("dek", under_orders(json!({"withoutPlaintext": true}))).await;
    world.data_key_ready("dek").await;
    let data = world.secrets().get("dek").await.unwrap().data.unwrap();
    assert!(!data.contains_key(PREVIOUS_PLAINTEXT) && data.contains_key(PREVIOUS_CIPHERTEXT_BLOB));
    world.apply_data_key("dek", under_orders(json!({"secret": {"encoding": "Hex"}}))).await;
    world.data_key_ready("dek").await;
    assert_eq!(entry(&world.secrets().get("dek").await.unwrap(), PREVIOUS_PLAINTEXT), first);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_crash_in_a_rotation_loses_nothing_and_rotates_once() {
    let (world, operator) = with_key("r12-crash").await;
    let mut operator = Some(operator);
    world.apply_data_key("dek", under_orders(json!({}))).await;
    let mut blobs = vec![blob(&world.data_key_ready("dek").await)];
    for times in 1..=6 {
        request(&world, "dek", &format!("{times}")).await;
        // Somewhere behind the first write.
        let stored = eventually("the rotation to have begun", SOON, async || {
            let data_key = world.data_keys().get("dek").await.map_err(|e| e.to_string())?;
            if history(&data_key).len() == times { Ok(data_key) } else { Err(format!("{:?}", history(&data_key))) }
        })
        .await;
        operator.take().unwrap().crash().await;
        if times % 2 == 0 {
            world.secrets().delete("dek", &Default::default()).await.unwrap();
        }
        operator = Some(world.start().await);
        let after = rotated(&world, "dek", times).await;
        assert_eq!((blob(&after), history(&after)), (blob(&stored), blobs.clone()), "once");
        secret_when(&world, "dek", "to be delivered", |secret| {
            secret.data.as_ref().is_some_and(|data| data[CIPHERTEXT_BLOB].0 == blob(&after).into_bytes())
        })
        .await;
        holds_both(&world, &after).await;
        blobs.push(blob(&after));
    }
    operator.unwrap().stop().await.unwrap();
}
