//! Rule 12, where status is lost: what the data key is made again from, and what is never taken for it.

use cmk_operator::api::{
    conditions::{READY, STALLED, reason},
    metadata,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{blob, condition, conditions_of, create_data_key, later_event, merge},
    rule_12_data_keys::{lose_status, under_orders, with_key},
    support::{
        eventually,
        world::{SOON, gone},
    },
};

#[tokio::test]
async fn rule_12_a_lost_status_is_taken_from_the_annotation() {
    let (world, operator) = with_key("r12-status").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    let before = world.data_key_ready("dek").await;
    let secret = world.secrets().get("dek").await.unwrap();
    operator.stop().await.unwrap();

    lose_status(&world, "dek").await;
    // With the Secret there, and with it gone as well.
    for delete in [false, true] {
        if delete {
            world.secrets().delete("dek", &DeleteParams::default()).await.unwrap();
        }
        let operator = world.start().await;
        let after = world.data_key_ready("dek").await;
        assert_eq!(blob(&after), blob(&before));
        assert_eq!(after.status.unwrap().key_id, before.status.as_ref().unwrap().key_id);
        assert!(world.secrets().get("dek").await.unwrap().data == secret.data, "the same bytes");
        let said = world.event("dek", reason::DATA_KEY_ADOPTED).await;
        assert!(said.contains("annotation"), "{said}");
        operator.stop().await.unwrap();
        lose_status(&world, "dek").await;
    }
}

#[tokio::test]
async fn rule_12_status_and_annotation_lost_the_secret_is_taken_over() {
    let (world, operator) = with_key("r12-takeover").await;
    let spec = under_orders(json!({"encryptionContext": {"app": "shop"}}));
    world.apply_data_key("dek", spec.clone()).await;
    let before = world.data_key_ready("dek").await;
    let secret = world.secrets().get("dek").await.unwrap();
    world.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    gone(&world.data_keys(), "dek").await;

    world.apply_data_key("dek", spec).await;
    let after = world.data_key_ready("dek").await;
    assert_ne!(after.uid(), before.uid());
    assert_eq!(blob(&after), blob(&before));
    assert_eq!(after.annotations()[metadata::CIPHERTEXT_BLOB], blob(&before));
    let kept = world.secrets().get("dek").await.unwrap();
    assert!(kept.uid() == secret.uid() && kept.data == secret.data, "the Secret is not touched");
    let said = world.event("dek", reason::DATA_KEY_ADOPTED).await;
    assert!(said.contains("Secret"), "{said}");
    operator.stop().await.unwrap();
}

/// Whose label and annotation were copied: the DataKey that they name is another one.
#[tokio::test]
async fn rule_12_a_copied_secret_is_not_taken_over() {
    let (world, operator) = with_key("r12-copied").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    world.data_key_ready("dek").await;
    let original = world.secrets().get("dek").await.unwrap();
    let copy = |name: &str, data_key: String| {
        let mut copy = Secret { data: original.data.clone(), ..Secret::default() };
        copy.metadata.name = Some(name.into());
        copy.metadata.labels = original.metadata.labels.clone();
        copy.metadata.annotations = original.metadata.annotations.clone();
        copy.annotations_mut().insert(metadata::DATA_KEY.into(), data_key);
        copy
    };
    let original_owner = original.annotations()[metadata::DATA_KEY].clone();

    // It says that it is of `dek`: not ours, left alone.
    let as_is = copy("as-is", original_owner);
    world.secrets().create(&PostParams::default(), &as_is).await.unwrap();
    world.apply_data_key("as-is", under_orders(json!({}))).await;
    let blocked = world.data_key_says("as-is", STALLED, "True", reason::SECRET_CONFLICT).await;
    assert_ne!(blob(&blocked), blob(&world.data_key_ready("dek").await));

    // It says that it is of `forged`, but its ciphertext was made for `dek`.
    let forged = copy("forged", format!("{}/forged", world.namespace));
    world.secrets().create(&PostParams::default(), &forged).await.unwrap();
    world.apply_data_key("forged", under_orders(json!({}))).await;
    let stalled = world.data_key_says("forged", STALLED, "True", reason::FOREIGN_CIPHERTEXT).await;
    assert!(stalled.status.unwrap().ciphertext_blob.is_none());
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_foreign_annotation_is_never_delivered() {
    let (world, operator) = with_key("r12-foreign").await;
    world.apply_data_key("other", under_orders(json!({}))).await;
    let of_another = blob(&world.data_key_ready("other").await);
    for (name, annotation) in [("another", of_another.as_str()), ("garbage", "AAAA"), ("not-base64", "§")] {
        let annotations = json!({metadata::CIPHERTEXT_BLOB: annotation});
        create_data_key(&world, name, annotations, under_orders(json!({}))).await;
        let stalled = world.data_key_says(name, STALLED, "True", reason::FOREIGN_CIPHERTEXT).await;
        let message = &condition(conditions_of(&stalled), READY).message;
        assert!(message.contains(metadata::CIPHERTEXT_BLOB), "{message}");
        world.event(name, reason::FOREIGN_CIPHERTEXT).await;
        later_event(&world, "orders").await;
        assert!(world.secrets().get_opt(name).await.unwrap().is_none(), "{name}: nothing is delivered");
        let now = world.data_keys().get(name).await.unwrap();
        assert!(now.status.unwrap().ciphertext_blob.is_none(), "{name}: and nothing is generated");

        let none = json!({"metadata": {"annotations": {metadata::CIPHERTEXT_BLOB: null}}});
        merge(&world.data_keys(), name, none).await;
        assert_ne!(blob(&world.data_key_ready(name).await), annotation, "{name}: as the message says, that helps");
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_status_wins_over_the_annotation() {
    let (world, operator) = with_key("r12-wins").await;
    for name in ["dek", "other"] {
        world.apply_data_key(name, under_orders(json!({}))).await;
    }
    let (mine, other) = (blob(&world.data_key_ready("dek").await), blob(&world.data_key_ready("other").await));
    let data = world.secrets().get("dek").await.unwrap().data;
    for value in [json!(other), json!("nonsense"), Value::Null] {
        merge(&world.data_keys(), "dek", json!({"metadata": {"annotations": {metadata::CIPHERTEXT_BLOB: value}}}))
            .await;
        eventually("the annotation to be brought back", SOON, async || {
            let now = world.data_keys().get("dek").await.map_err(|e| e.to_string())?;
            let found = now.annotations().get(metadata::CIPHERTEXT_BLOB).cloned();
            if found.as_ref() == Some(&mine) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
    assert_eq!(blob(&world.data_key_ready("dek").await), mine);
    assert!(world.secrets().get("dek").await.unwrap().data == data);
    operator.stop().await.unwrap();
}
