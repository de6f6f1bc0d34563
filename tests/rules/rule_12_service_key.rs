//! A DataKey without keyRef is under its namespace's service key, which is made on demand (rules 1, 7 and 12).

use cmk_operator::{
    api::{
        conditions::{READY, STALLED, reason},
        metadata::{ADOPT_KEYS, CIPHERTEXT_BLOB, KEY_ID, SERVICE_KEY, SERVICE_KEY_ALIAS},
    },
    runtime::operator::Settings,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::{
    helpers::{blob, complete_context, create_data_key, decrypted, merge},
    support::world::{World, entry, gone, key_id},
};

#[tokio::test]
async fn rule_12_without_key_ref_the_service_key_is_made_on_demand() {
    let (world, operator) = World::with_operator("r12-service").await;
    assert!(world.keys().get_opt(SERVICE_KEY).await.unwrap().is_none(), "not before it is needed");
    world.apply_data_key("dek", json!({})).await;
    let data_key = world.data_key_ready("dek").await;
    let key = world.key_ready(SERVICE_KEY).await;
    assert_eq!(data_key.status.as_ref().unwrap().key_id, Some(key_id(&key)));
    let status = serde_json::to_value(key.status.as_ref().unwrap()).unwrap();
    assert_eq!(status["alias"], SERVICE_KEY_ALIAS);
    assert_eq!(status["keyMetadata"]["keyManager"], "SERVICE");
    assert!(key.spec.description.unwrap().contains("DataKeys without keyRef"));
    assert!(world.event("dek", reason::SERVICE_KEY_CREATED).await.contains(SERVICE_KEY));
    let context = complete_context(&world.namespace, "dek", &[]);
    let plaintext = decrypted(&world, SERVICE_KEY, &context, &blob(&data_key)).await;
    assert_eq!(entry(&world.secrets().get("dek").await.unwrap(), "plaintext"), plaintext);

    world.apply_data_key("another", json!({})).await;
    let another = world.data_key_ready("another").await;
    assert_eq!(another.status.unwrap().key_id, data_key.status.unwrap().key_id);
    assert_eq!(world.records().await.len(), 1);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_1_data_keys_at_once_make_one_service_key() {
    let world = World::new("r1-service").await;
    let names: Vec<_> = (0..6).map(|i| format!("dek-{i}")).collect();
    for name in &names {
        world.apply_data_key(name, json!({})).await;
    }
    // Two operators, each with a pass for every DataKey.
    let (one, other) = tokio::join!(world.start(), world.start());
    let mut ids = Vec::new();
    for name in &names {
        ids.push(world.data_key_ready(name).await.status.unwrap().key_id.unwrap());
    }
    ids.dedup();
    assert_eq!(ids, [key_id(&world.key_ready(SERVICE_KEY).await)]);
    assert_eq!(
        (world.keys().list(&Default::default()).await.unwrap().items.len(), world.records().await.len()),
        (1, 1)
    );
    one.stop().await.unwrap();
    other.stop().await.unwrap();
}

#[tokio::test]
async fn rule_7_a_service_key_never_blocks_its_namespace() {
    let (world, operator) = World::with_operator("r7-service").await;
    world.apply_data_key("dek", json!({})).await;
    world.data_key_ready("dek").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    // (The namespace controller asks every 5 to 15 seconds.)
    gone(&namespaces, &world.namespace).await;
    let record = world.only_record().await;
    assert!(record["owner"]["released"] == true && record["deletion"].is_null(), "retained: {record}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_20_no_service_key_is_made_while_no_keys_are() {
    let world = World::new("r20-service").await;
    world.store().await;
    let operator = world.start_with(Settings { no_new_keys: true, ..world.settings() }).await;
    world.apply_data_key("dek", json!({})).await;
    world.data_key_says("dek", STALLED, "True", reason::CREATION_PAUSED).await;
    assert!(world.keys().get_opt(SERVICE_KEY).await.unwrap().is_none());
    operator.stop().await.unwrap();

    let operator = world.start().await;
    world.data_key_says("dek", READY, "True", reason::AS_DECLARED).await;
    operator.stop().await.unwrap();
}

/// A namespace is restored without its service key's object: the key is taken back for the ciphertext that is there.
#[tokio::test]
async fn rule_1_a_restored_data_key_takes_its_service_key_back() {
    let (world, operator) = World::with_operator("r1-restored").await;
    world.apply_data_key("dek", json!({})).await;
    let before = world.data_key_ready("dek").await;
    let plaintext = entry(&world.secrets().get("dek").await.unwrap(), "plaintext");
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    gone(&namespaces, &world.namespace).await;

    world.create_namespace(&world.namespace).await;
    merge(&namespaces, &world.namespace, json!({"metadata": {"annotations": {ADOPT_KEYS: "true"}}})).await;
    create_data_key(&world, "dek", json!({CIPHERTEXT_BLOB: blob(&before)}), json!({})).await;
    let after = world.data_key_ready("dek").await;
    assert_eq!(blob(&after), blob(&before));
    assert_eq!(entry(&world.secrets().get("dek").await.unwrap(), "plaintext"), plaintext);
    assert_eq!(Some(key_id(&world.key_ready(SERVICE_KEY).await)), before.status.unwrap().key_id);
    assert_eq!(world.records().await.len(), 1);
    operator.stop().await.unwrap();
}

/// Where the key of a ciphertext is not known, as before its record is restored, no other one is made in its place.
#[tokio::test]
async fn rule_1_a_service_key_that_a_ciphertext_needs_is_missed_and_never_replaced() {
    let (origin, operator) = World::with_operator("r1-origin").await;
    origin.apply_data_key("dek", json!({})).await;
    let made = origin.data_key_ready("dek").await;
    operator.stop().await.unwrap();

    let (world, operator) = World::with_operator("r1-missed").await;
    create_data_key(&world, "dek", json!({CIPHERTEXT_BLOB: blob(&made)}), json!({})).await;
    let key = world.key_says(SERVICE_KEY, STALLED, "True", reason::KEY_RECORD_MISSING).await;
    assert_eq!(Some(&key.annotations()[KEY_ID]), made.status.as_ref().unwrap().key_id.as_ref());
    world.data_key_says("dek", READY, "False", reason::KEY_NOT_READY).await;
    assert!(world.records().await.is_empty());
    operator.stop().await.unwrap();
}
