//! Rule 5: deleting the object schedules the deletion of its key and lets the object go; applied again, it takes
//! the same key back.

use cmk_operator::api::{
    conditions::{STALLED, reason},
    metadata,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::helpers::recreate_namespace;
use crate::helpers::{blob, complete_context, decrypted};
use crate::support::{
    eventually,
    world::{SOON, World, entry, gone, key_id, key_state, record_json},
};

#[tokio::test]
async fn rule_5_deleted_and_applied_again_it_is_the_same_key() {
    let (world, operator) = World::with_operator("r5-again").await;
    let spec = json!({"description": "Orders", "pendingDeletionDays": 30});
    world.apply_key("orders", spec.clone()).await;
    let before = world.key_ready("orders").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let ciphertext = blob(&world.data_key_ready("dek").await);
    let delivered = entry(&world.secrets().get("dek").await.unwrap(), "plaintext");

    world.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    world.delete_key("orders").await;
    let record = world.only_record().await;
    assert_eq!(record["owner"]["released"], true);
    assert_eq!(record["deletion"]["pendingDays"], 30);
    world.event("orders", reason::DELETION_SCHEDULED).await;

    world.apply_key("orders", spec).await;
    let after = world.key_ready("orders").await;
    assert_eq!(key_id(&after), key_id(&before));
    assert_eq!(key_state(&after), "Enabled", "the deletion is cancelled");
    let record = world.only_record().await;
    assert_eq!(record["owner"]["released"], false);
    assert!(record["deletion"].is_null());
    world.event("orders", reason::KEY_ADOPTED).await;

    let context = complete_context(&world.namespace, "dek", &[]);
    assert_eq!(decrypted(&world, "orders", &context, &ciphertext).await, delivered, "old ciphertext decrypts");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_retain_leaves_the_key_as_it_is() {
    let (world, operator) = World::with_operator("r5-retain").await;
    world.apply_key("orders", json!({"deletionPolicy": "Retain"})).await;
    let before = world.key_ready("orders").await;
    world.delete_key("orders").await;
    let record = world.only_record().await;
    assert_eq!(record["owner"]["released"], true);
    assert!(record["deletion"].is_null());
    world.event("orders", reason::KEY_RETAINED).await;
    world.apply_key("orders", json!({})).await;
    assert_eq!(key_id(&world.key_ready("orders").await), key_id(&before));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_a_key_scheduled_before_keeps_its_date_when_the_object_goes() {
    let (world, operator) = World::with_operator("r5-scheduled").await;
    world.apply_key("orders", json!({"scheduleDeletion": true, "pendingDeletionDays": 30})).await;
    world.key_ready("orders").await;
    let date = world.only_record().await["deletion"].clone();
    world.clock.advance_days(3);
    world.delete_key("orders").await;
    assert_eq!(world.only_record().await["deletion"], date);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_other_finalizers_come_first() {
    let (world, operator) = World::with_operator("r5-finalizers").await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    let finalizers = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let both = finalizers(json!([metadata::FINALIZER, "example.dev/backup"]));
    world.keys().patch("orders", &PatchParams::default(), &both).await.unwrap();
    world.keys().delete("orders", &DeleteParams::default()).await.unwrap();
    let waiting = eventually("the operator to say that it waits", SOON, async || {
        let key = world.keys().get("orders").await.map_err(|e| e.to_string())?;
        let conditions = key.status.clone().unwrap().conditions;
        let waits = conditions.iter().any(|c| c.reason == reason::WAITING_FOR_FINALIZERS);
        if waits { Ok(key) } else { Err(format!("{conditions:?}")) }
    })
    .await;
    assert_eq!(waiting.finalizers().len(), 2);
    assert!(world.only_record().await["deletion"].is_null(), "nothing happens to the key yet");

    let ours = finalizers(json!([metadata::FINALIZER]));
    world.keys().patch("orders", &PatchParams::default(), &ours).await.unwrap();
    gone(&world.keys(), "orders").await;
    assert!(world.only_record().await["deletion"].is_object());
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_a_namespace_made_anew_gets_no_old_key_by_itself() {
    let (world, operator) = World::with_operator("r5-anew").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    recreate_namespace(&world).await;

    world.apply_key("orders", json!({})).await;
    world.key_says("orders", STALLED, "True", reason::NAMESPACE_RECREATED).await;
    assert_eq!(world.records().await.len(), 1);

    let adopt = Patch::Merge(json!({"metadata": {"annotations": {metadata::ADOPT_KEYS: "true"}}}));
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    namespaces.patch(&world.namespace, &PatchParams::default(), &adopt).await.unwrap();
    let adopted = world.key_ready("orders").await;
    assert_eq!((key_id(&adopted), key_state(&adopted)), (id, "Enabled".to_owned()));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_a_stalled_object_of_a_new_namespace_does_not_touch_the_key_when_it_goes() {
    let (world, operator) = World::with_operator("r5-untouched").await;
    world.apply_key("orders", json!({"deletionPolicy": "Retain"})).await;
    world.key_ready("orders").await;
    recreate_namespace(&world).await;
    let before = world.only_record().await;
    world.apply_key("orders", json!({})).await;
    world.key_says("orders", STALLED, "True", reason::NAMESPACE_RECREATED).await;
    world.delete_key("orders").await;
    assert_eq!(world.only_record().await, before);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_abandon_key_gives_a_new_key_and_acts_once() {
    let (world, operator) = World::with_operator("r5-abandon").await;
    world.apply_key("orders", json!({})).await;
    let first = key_id(&world.key_ready("orders").await);
    recreate_namespace(&world).await;
    world.apply_key("orders", json!({})).await;
    world.key_says("orders", STALLED, "True", reason::NAMESPACE_RECREATED).await;

    world.annotate_key("orders", json!({metadata::ABANDON_KEY: "00000000-0000-4000-8000-000000000000"})).await;
    world.key_says("orders", STALLED, "True", reason::NAMESPACE_RECREATED).await;
    world.annotate_key("orders", json!({metadata::ABANDON_KEY: first})).await;
    let second = world.key_ready("orders").await;
    assert_ne!(key_id(&second), first);
    assert_eq!(second.annotations()[metadata::KEY_ID], key_id(&second));

    // The annotation is still there, and names a key that the record no longer has.
    world.apply_key("orders", json!({"description": "again"})).await;
    assert_eq!(key_id(&world.key_ready("orders").await), key_id(&second));
    let records: Vec<_> = world.records().await.iter().map(record_json).collect();
    assert_eq!(records.len(), 2);
    let old = records.iter().find(|r| r["keyId"] == first.as_str()).unwrap();
    assert_eq!(old["abandoned"], true);
    assert_ne!(old["versions"], json!([]), "its material stays");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_a_new_object_over_a_tombstone_is_stalled_until_abandon_key() {
    let (world, operator) = World::with_operator("r5-tombstone").await;
    world.apply_key("orders", json!({"pendingDeletionDays": 7})).await;
    let first = key_id(&world.key_ready("orders").await);
    world.delete_key("orders").await;
    world.clock.advance_days(8);
    eventually("the key to be erased", SOON, async || {
        let record = world.only_record().await;
        record["erasedAt"].is_string().then_some(()).ok_or_else(|| record.to_string())
    })
    .await;

    world.apply_key("orders", json!({})).await;
    let stalled = world.key_says("orders", STALLED, "True", reason::KEY_DELETED).await;
    assert_eq!(key_id(&stalled), first);
    world.annotate_key("orders", json!({metadata::ABANDON_KEY: first})).await;
    let fresh = world.key_ready("orders").await;
    assert_ne!(key_id(&fresh), first);
    assert_eq!(key_state(&fresh), "Enabled");
    operator.stop().await.unwrap();
}
