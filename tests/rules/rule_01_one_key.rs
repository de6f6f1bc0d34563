//! Rule 1: applying a `CustomerMasterKey` makes one key, once.

use std::collections::BTreeMap;

use cmk_operator::{
    api::{
        CustomerMasterKey, KeyStoreRef,
        conditions::{STALLED, reason},
        metadata,
    },
    cluster::KubeCluster,
    crypto::{SystemRandom, random_uuid},
    kms::{DesiredKey, KeyRecord, KeyStep, KeyUsage, Origin, Owner},
    store::{Freshness, KeyStore, NewKey, embedded::EmbeddedStore},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::{
    eventually,
    world::{SOON, World, key_id, key_state},
};

#[tokio::test]
async fn rule_1_a_manifest_becomes_a_key() {
    let (world, operator) = World::with_operator("r1-simple").await;
    world.apply_key("orders", json!({"description": "Orders database", "tags": {"team": "orders"}})).await;
    let key = world.key_ready("orders").await;

    let id = key_id(&key);
    assert_eq!(key_state(&key), "Enabled");
    assert_eq!(key.annotations()[metadata::KEY_ID], id);
    assert_eq!(key.finalizers(), [metadata::FINALIZER]);
    let status = serde_json::to_value(key.status.unwrap()).unwrap();
    let metadata = &status["keyMetadata"];
    assert_eq!(metadata["arn"], format!("acs:kms:cn-hangzhou:123456:key/{id}"));
    assert_eq!(metadata["description"], "Orders database");
    assert_eq!(metadata["origin"], "Aliyun_KMS");
    assert_eq!(metadata["keyUsage"], "ENCRYPT/DECRYPT");
    assert_eq!(metadata["creator"], "123456");
    assert_eq!(metadata["keyManager"], "CUSTOMER");
    assert_eq!(metadata["protectionLevel"], "SOFTWARE");
    assert!(metadata.get("deleteDate").is_none());

    let record = world.only_record().await;
    assert_eq!(record["keyId"], id);
    assert_eq!(record["owner"]["name"], "orders");
    assert_eq!(record["tags"], json!({"team": "orders"}));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_1_a_restart_makes_no_second_key() {
    let (world, operator) = World::with_operator("r1-restart").await;
    world.apply_key("orders", json!({})).await;
    let before = world.key_ready("orders").await;
    operator.stop().await.unwrap();

    let operator = world.start().await;
    // Proof that the new operator has been at work: it answers a change.
    world.apply_key("orders", json!({"description": "changed"})).await;
    let after = world.key_ready("orders").await;
    assert_eq!(key_id(&after), key_id(&before));
    assert_eq!(world.only_record().await["keyId"], key_id(&before));
    operator.stop().await.unwrap();
}

/// A Velero restore: no status, no ownerReferences, a new UID; the annotations and finalizers are kept.
#[tokio::test]
async fn rule_1_a_restored_object_finds_its_key() {
    let (world, operator) = World::with_operator("r1-restore").await;
    world.apply_key("orders", json!({"description": "kept"})).await;
    let before = world.key_ready("orders").await;
    operator.stop().await.unwrap();

    // Gone without the operator, as in a disaster: by force.
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.keys().patch("orders", &PatchParams::default(), &patch).await.unwrap();
    world.delete_key("orders").await;
    let mut restored = CustomerMasterKey::new("orders", before.spec.clone());
    restored.metadata.annotations = before.metadata.annotations.clone();
    restored.metadata.finalizers = before.metadata.finalizers.clone();
    let restored = world.keys().create(&PostParams::default(), &restored).await.unwrap();
    assert_ne!(restored.uid(), before.uid());

    let operator = world.start().await;
    let after = world.key_ready("orders").await;
    assert_eq!(key_id(&after), key_id(&before));
    assert_eq!(world.only_record().await["owner"]["uid"], after.uid().unwrap());
    operator.stop().await.unwrap();
}

/// Records come back after the objects: meanwhile no object gets another key.
#[tokio::test]
async fn rule_1_an_object_without_its_record_never_gets_another_key() {
    let (world, operator) = World::with_operator("r1-missing").await;
    world.apply_key("orders", json!({})).await;
    let before = world.key_ready("orders").await;
    operator.stop().await.unwrap();
    let record = world.records().await.remove(0);
    world.operator_secrets().delete(&record.name_any(), &DeleteParams::default()).await.unwrap();

    let operator = world.start().await;
    let stalled = world.key_says("orders", STALLED, "True", reason::KEY_RECORD_MISSING).await;
    assert_eq!(key_id(&stalled), key_id(&before), "status still names the key to look for");
    assert!(world.records().await.is_empty());
    assert!(world.event("orders", reason::KEY_RECORD_MISSING).await.contains(&key_id(&before)));

    // Restored from a backup, it is found by itself.
    let mut restored = record.clone();
    restored.metadata = ObjectMeta {
        name: record.metadata.name.clone(),
        labels: record.metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    world.operator_secrets().create(&PostParams::default(), &restored).await.unwrap();
    assert_eq!(key_id(&world.key_ready("orders").await), key_id(&before));
    operator.stop().await.unwrap();
}

/// The annotation alone, copied from another object, does not give a key.
#[tokio::test]
async fn rule_1_a_copied_annotation_gives_no_key() {
    let (world, operator) = World::with_operator("r1-copied").await;
    world.apply_key("orders", json!({})).await;
    let original = world.key_ready("orders").await;
    let mut copy = CustomerMasterKey::new("copy", original.spec.clone());
    copy.metadata.annotations = original.metadata.annotations.clone();
    world.keys().create(&PostParams::default(), &copy).await.unwrap();
    world.key_says("copy", STALLED, "True", reason::KEY_RECORD_MISSING).await;
    assert_eq!(world.records().await.len(), 1);
    operator.stop().await.unwrap();
}

/// Interrupted right after the record was written: the next pass goes on with that key.
#[tokio::test]
async fn rule_1_the_record_comes_first_and_is_found_again() {
    let world = World::new("r1-first").await;
    world.apply_key("orders", json!({})).await;
    let key = world.keys().get("orders").await.unwrap();
    let record = write_record(&world, &key).await;

    let operator = world.start().await;
    let after = world.key_ready("orders").await;
    assert_eq!(key_id(&after), record.key_id.to_string());
    assert_eq!(world.records().await.len(), 1);
    operator.stop().await.unwrap();
}

/// Interrupted right after the record was written, and the object deleted before the operator came back: nobody
/// can ever have used that key, and the API server's history proves it.
#[tokio::test]
async fn rule_1_a_record_that_never_belonged_to_a_finished_object_is_forgotten() {
    let world = World::new("r1-forgotten").await;
    world.apply_key("before", json!({})).await;
    world.apply_key("after", json!({})).await;
    write_record(&world, &world.keys().get("before").await.unwrap()).await;
    world.delete_key("before").await;
    // The other way round: the operator had yet to see the deletion when it wrote the record.
    let deleted = world.keys().get("after").await.unwrap();
    world.delete_key("after").await;
    write_record(&world, &deleted).await;
    assert_eq!(world.records().await.len(), 2);

    let operator = world.start().await;
    eventually("the record to be forgotten", SOON, async || {
        let left = world.records().await.len();
        if left == 0 { Ok(()) } else { Err(format!("{left} records")) }
    })
    .await;
    operator.stop().await.unwrap();
}

/// Applied again, interrupted right after the key was claimed, and deleted before the operator came back: the key
/// is older than that object and may have been used. It is let go again, never forgotten.
#[tokio::test]
async fn rule_1_a_key_of_an_earlier_object_is_never_forgotten() {
    let (world, operator) = World::with_operator("r1-earlier").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    world.delete_key("orders").await;
    operator.stop().await.unwrap();

    let again = world.apply_key("orders", json!({"pendingDeletionDays": 30})).await;
    let (store, namespace_uid) = store(&world).await;
    let slot = world.slot("orders");
    let key = store.find(&slot, Freshness::Live).await.unwrap().current.unwrap();
    let claim = KeyStep::Claim(Owner {
        namespace_uid,
        uid: again.uid().unwrap(),
        resource_version: again.resource_version().unwrap(),
        ..key.record.owner.clone()
    });
    store.update(&key, &[claim, KeyStep::CancelDeletion]).await.unwrap();
    world.delete_key("orders").await;

    let operator = world.start().await;
    let record = eventually("the key to be let go", SOON, async || {
        let record = world.only_record().await;
        if record["owner"]["released"] == true { Ok(record) } else { Err(record.to_string()) }
    })
    .await;
    assert_eq!((&record["keyId"], &record["deletion"]["pendingDays"]), (&json!(id), &json!(30)));
    operator.stop().await.unwrap();
}

/// The object was finished, and was taken away by force while the operator was down: its key is kept, and
/// reported.
#[tokio::test]
async fn rule_1_a_record_of_a_finished_object_is_reported_and_kept() {
    let (world, operator) = World::with_operator("r1-kept").await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    operator.stop().await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.keys().patch("orders", &PatchParams::default(), &patch).await.unwrap();
    world.delete_key("orders").await;

    let operator = world.start().await;
    eventually("the metric to report it", SOON, async || {
        let metrics = operator.metrics.render();
        metrics.contains("cmk_records_without_object 1").then_some(()).ok_or(metrics)
    })
    .await;
    assert_eq!(world.records().await.len(), 1);
    operator.stop().await.unwrap();
}

/// Writes a record as the operator does, and stops there.
async fn write_record(world: &World, key: &CustomerMasterKey) -> KeyRecord {
    let (store, namespace_uid) = store(world).await;
    let new = NewKey {
        key_id: random_uuid(&SystemRandom).unwrap(),
        version_id: random_uuid(&SystemRandom).unwrap(),
        store: KeyStoreRef::default().to_string(),
        region: "cn-hangzhou".into(),
        account_id: "123456".into(),
        generation: 0,
        owner: Owner {
            namespace: world.namespace.clone(),
            namespace_uid,
            name: key.name_any(),
            uid: key.uid().unwrap(),
            resource_version: key.resource_version().unwrap(),
            released: false,
        },
        origin: Origin::AliyunKms,
        key_usage: KeyUsage::EncryptDecrypt,
        desired: DesiredKey {
            description: String::new(),
            tags: BTreeMap::new(),
            enabled: true,
            deletion_protection: false,
            rotation_interval_days: None,
            rotation_request: None,
            schedule_deletion: false,
            pending_deletion_days: 366,
        },
    };
    KeyRecord::clone(&store.create(&new).await.unwrap().record)
}

/// The key store, and the UID of the test's namespace.
async fn store(world: &World) -> (EmbeddedStore<KubeCluster>, String) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = namespaces.get(&world.namespace).await.unwrap();
    (world.store().await, namespace.uid().unwrap())
}
