//! A DataKey without keyRef is under its namespace's service key, which is made on demand (rules 1, 7 and 12).

use cmk_operator::{
    api::{
        conditions::{READY, STALLED, reason},
        metadata::{SERVICE_KEY, SERVICE_KEY_ALIAS},
    },
    runtime::operator::Settings,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::{
    helpers::{blob, complete_context, decrypted},
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

/// The object is gone, its key is not, and nor is its ciphertext: the key is taken back. With the record gone as well
/// it is missed, and never replaced.
#[tokio::test]
async fn rule_1_a_service_key_that_is_gone_is_taken_back_or_missed() {
    let (world, operator) = World::with_operator("r1-restore").await;
    world.apply_data_key("dek", json!({})).await;
    let before = world.data_key_ready("dek").await;
    operator.stop().await.unwrap();
    let record = world.records().await.remove(0);

    for record_is_there in [true, false] {
        // Without the operator nobody keeps the object.
        crate::helpers::merge(&world.keys(), SERVICE_KEY, json!({"metadata": {"finalizers": null}})).await;
        delete_even_if_protected(&world).await;
        if !record_is_there {
            let name = record.metadata.name.clone().unwrap();
            world.operator_secrets().delete(&name, &DeleteParams::default()).await.unwrap();
        }
        let operator = world.start().await;
        if record_is_there {
            let key = world.key_ready(SERVICE_KEY).await;
            assert_eq!(Some(key_id(&key)), before.status.as_ref().unwrap().key_id);
            assert_eq!(blob(&world.data_key_ready("dek").await), blob(&before));
        } else {
            world.key_says(SERVICE_KEY, STALLED, "True", reason::KEY_RECORD_MISSING).await;
            world.data_key_says("dek", READY, "False", reason::KEY_NOT_READY).await;
            assert!(world.records().await.is_empty(), "no other key is made");
        }
        operator.stop().await.unwrap();
    }
}

/// Admission refuses to delete a service key alone; a restore that left it out looks the same.
async fn delete_even_if_protected(world: &World) {
    world.keys().delete(SERVICE_KEY, &DeleteParams::default()).await.unwrap();
    gone(&world.keys(), SERVICE_KEY).await;
}
