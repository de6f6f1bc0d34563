//! Rule 11: an existing key of the store is adopted by `spec.keyId`: under another name, in another namespace.

use cmk_operator::{
    api::{
        conditions::{STALLED, reason},
        metadata,
    },
    kms::{KeyStep, Owner},
    store::{Freshness, KeyStore},
};
use jiff::SignedDuration;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{PLAINTEXT, blob, condition, lose_key_object, record_of, record_when, recreate_namespace, watching},
    support::{
        eventually,
        world::{Operator, SOON, World, entry, gone, key_id, key_state, record_json},
    },
};

/// Waits until a sweep has found so many records without an object.
async fn records_without_object(world: &World, operator: &Operator, count: usize) {
    eventually(&format!("{count} records without an object"), SOON, async || {
        world.clock.advance(SignedDuration::from_secs(1));
        let metrics = operator.metrics.render();
        let line = metrics.lines().find(|line| line.starts_with("cmk_records_without_object ")).unwrap_or_default();
        if line.ends_with(&format!(" {count}")) { Ok(()) } else { Err(line.to_owned()) }
    })
    .await;
}

/// The Secret that holds the record of a key.
async fn record_secret(world: &World, key_id: &str) -> String {
    let records = world.records().await;
    records.iter().find(|secret| record_json(secret)["keyId"] == key_id).unwrap().name_any()
}

#[tokio::test]
async fn rule_11_an_orphaned_key_is_adopted_from_another_namespace_and_name() {
    let old = World::new("r11-orphan").await;
    let new = old.another_namespace("new").await;
    let operator = old.start_with(watching(&[&old, &new])).await;
    old.apply_key("before", json!({"description": "Orders", "alias": "orders"})).await;
    let id = key_id(&old.key_ready("before").await);
    old.apply_data_key("dek", json!({"keyRef": {"name": "before"}})).await;
    let ciphertext = blob(&old.data_key_ready("dek").await);
    let plaintext = entry(&old.secrets().get("dek").await.unwrap(), PLAINTEXT);
    let secret = record_secret(&old, &id).await;

    // The objects are lost, as in a cluster that was rebuilt without them.
    operator.stop().await.unwrap();
    old.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    lose_key_object(&old, "before").await;
    let operator = old.start_with(watching(&[&old, &new])).await;
    records_without_object(&old, &operator, 1).await;
    let lost = record_of(&old, &id).await;
    assert_eq!((&lost["owner"]["released"], &lost["owner"]["name"]), (&json!(false), &json!("before")));

    let spec = json!({"keyId": id, "description": "Orders", "alias": "orders"});
    new.apply_key("after", spec.clone()).await;
    let adopted = new.key_ready("after").await;
    assert_eq!((key_id(&adopted), adopted.annotations()[metadata::KEY_ID].clone()), (id.clone(), id.clone()));
    assert_eq!((key_state(&adopted), adopted.status.unwrap().alias), ("Enabled".into(), Some("alias/orders".into())));
    new.event("after", reason::KEY_ADOPTED).await;
    let record = record_of(&old, &id).await;
    assert_eq!(record["home"], json!({"namespace": old.namespace, "name": "before"}));
    assert_eq!(record["owner"]["namespace"], new.namespace.as_str());
    assert_eq!(record["versions"], lost["versions"]);
    assert_eq!(record_secret(&old, &id).await, secret, "the record stays where it is");
    records_without_object(&old, &operator, 0).await;

    // What was encrypted before decrypts, and new data keys are made.
    let context = json!({metadata::DATA_KEY: format!("{}/dek", old.namespace)});
    let brought = json!({"keyRef": {"name": "after"}, "ciphertextBlob": ciphertext, "encryptionContext": context});
    new.apply_data_key("brought", brought).await;
    new.data_key_ready("brought").await;
    assert_eq!(entry(&new.secrets().get("brought").await.unwrap(), PLAINTEXT), plaintext);
    new.apply_data_key("fresh", json!({"keyRef": {"name": "after"}})).await;
    new.data_key_ready("fresh").await;

    // The former name gets another key, and may have the alias that the key left behind.
    let before = record_of(&old, &id).await;
    old.apply_key("before", json!({"alias": "orders"})).await;
    let another = old.key_ready("before").await;
    assert_ne!(key_id(&another), id);
    assert_eq!(record_of(&old, &key_id(&another)).await["generation"], 1);
    old.delete_key("before").await;
    assert_eq!(record_of(&old, &id).await, before, "the adopted key is not touched");

    // Deleted, the adopting object leaves the key as it is; applied again, it takes it back.
    for name in ["brought", "fresh"] {
        new.data_keys().delete(name, &DeleteParams::default()).await.unwrap();
        gone(&new.data_keys(), name).await;
    }
    new.delete_key("after").await;
    new.event("after", reason::KEY_RETAINED).await;
    let retained = record_of(&old, &id).await;
    assert_eq!((&retained["owner"]["released"], &retained["deletion"]), (&json!(true), &Value::Null));
    new.apply_key("after", spec).await;
    assert_eq!(key_id(&new.key_ready("after").await), id);
    // Nor does it matter that the namespace was made anew: the object names the key.
    new.delete_key("after").await;
    recreate_namespace(&new).await;
    new.apply_key("after", json!({"keyId": id})).await;
    assert_eq!(key_id(&new.key_ready("after").await), id);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_a_released_key_is_adopted_and_its_deletion_cancelled() {
    let (world, operator) = World::with_operator("r11-released").await;
    for name in ["scheduled", "witness"] {
        world.apply_key(name, json!({"pendingDeletionDays": 7})).await;
    }
    world.apply_key("retained", json!({"deletionPolicy": "Retain"})).await;
    let scheduled = key_id(&world.key_ready("scheduled").await);
    let witness = key_id(&world.key_ready("witness").await);
    let retained = key_id(&world.key_ready("retained").await);
    for name in ["scheduled", "witness", "retained"] {
        world.delete_key(name).await;
    }
    assert!(record_of(&world, &scheduled).await["deletion"].is_object());

    world.apply_key("cancelled", json!({"keyId": scheduled})).await;
    world.apply_key("taken", json!({"keyId": retained})).await;
    let cancelled = world.key_ready("cancelled").await;
    assert_eq!((key_id(&cancelled), key_state(&cancelled)), (scheduled.clone(), "Enabled".into()));
    assert_eq!(key_id(&world.key_ready("taken").await), retained);
    world.event("cancelled", reason::DELETION_CANCELLED).await;

    // The date passes: the other one is erased, and this one is not.
    world.clock.advance_days(8);
    record_when(&world, &witness, "to be erased", |record| record["erasedAt"].is_string()).await;
    let record = record_of(&world, &scheduled).await;
    assert!(record["erasedAt"].is_null() && record["deletion"].is_null() && record["versions"] != json!([]));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_what_does_not_match_or_has_an_owner_is_refused() {
    let (world, operator) = World::with_operator("r11-refused").await;
    world.apply_key("owner", json!({"description": "of the owner", "deletionPolicy": "Retain"})).await;
    let owned = key_id(&world.key_ready("owner").await);
    world.apply_key("erased", json!({"pendingDeletionDays": 7})).await;
    let erased = key_id(&world.key_ready("erased").await);
    world.delete_key("erased").await;
    world.clock.advance_days(8);
    record_when(&world, &erased, "to be erased", |record| record["erasedAt"].is_string()).await;
    let before = (record_of(&world, &owned).await, record_of(&world, &erased).await);

    let none = "00000000-0000-4000-8000-000000000000";
    let rows = [
        ("taken", json!({"keyId": owned}), reason::KEY_HAS_OWNER),
        ("tombstone", json!({"keyId": erased}), reason::KEY_DELETED),
        ("none", json!({"keyId": none}), reason::KEY_RECORD_MISSING),
        ("other-origin", json!({"keyId": owned, "origin": "AWS_KMS"}), reason::IMMUTABLE_FIELD_CHANGED),
    ];
    for (name, spec, expected) in rows {
        world.apply_key(name, spec).await;
        let key = world.key_says(name, STALLED, "True", expected).await;
        assert_eq!(key.status.clone().unwrap().key_metadata, None, "{name}: another object's key is not shown");
        assert!(key.finalizers().is_empty() && !key.annotations().contains_key(metadata::KEY_ID), "{name}");
        world.event(name, expected).await;
    }
    assert_eq!((record_of(&world, &owned).await, record_of(&world, &erased).await), before);
    assert_eq!(world.records().await.len(), 2, "and no key is made");

    // Whoever waits for a key gets it when its owner lets it go.
    world.delete_key("owner").await;
    assert_eq!(key_id(&world.key_ready("taken").await), owned);
    world.apply_key("second", json!({"keyId": owned})).await;
    world.key_says("second", STALLED, "True", reason::KEY_HAS_OWNER).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_the_former_object_restored_with_its_annotation_does_not_get_another_key_by_itself() {
    let (world, operator) = World::with_operator("r11-former").await;
    world.apply_key("before", json!({"deletionPolicy": "Retain"})).await;
    let id = key_id(&world.key_ready("before").await);
    world.delete_key("before").await;
    world.apply_key("after", json!({"keyId": id})).await;
    world.key_ready("after").await;
    let adopted = record_of(&world, &id).await;

    operator.stop().await.unwrap();
    world.apply_key("before", json!({})).await;
    world.annotate_key("before", json!({metadata::KEY_ID: id})).await;
    let operator = world.start().await;
    let stalled = world.key_says("before", STALLED, "True", reason::KEY_HAS_OWNER).await;
    assert!(condition(&stalled.status.unwrap().conditions, STALLED).message.contains("adopted"));
    assert_eq!(world.records().await.len(), 1);
    world.annotate_key("before", json!({metadata::ABANDON_KEY: id})).await;
    assert_ne!(key_id(&world.key_ready("before").await), id);
    assert_eq!(record_of(&world, &id).await, adopted);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_an_adoption_that_was_interrupted_is_finished_or_taken_back() {
    let (world, operator) = World::with_operator("r11-crash").await;
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        world.apply_key(name, json!({"deletionPolicy": "Retain"})).await;
        ids.push(key_id(&world.key_ready(name).await));
        world.delete_key(name).await;
    }
    operator.crash().await;

    // The operator ended between the claim and the finalizer.
    let store = world.store().await;
    for secret in world.records().await {
        store.note(&secret);
    }
    for (name, id) in [("finished", &ids[0]), ("undone", &ids[1])] {
        let object = world.apply_key(name, json!({"keyId": id})).await;
        let found = store.find_by_id("ClusterKeyStore/default", id.parse().unwrap(), Freshness::Live).await;
        let key = found.unwrap().unwrap();
        let owner = Owner {
            namespace: world.namespace.clone(),
            name: name.to_owned(),
            uid: object.uid().unwrap(),
            resource_version: object.resource_version().unwrap(),
            released: false,
            ..key.record.owner.clone()
        };
        store.update(&key, &[KeyStep::Claim(owner)]).await.unwrap();
    }
    // The second object goes before anybody looks.
    world.delete_key("undone").await;

    let operator = world.start().await;
    assert_eq!(key_id(&world.key_ready("finished").await), ids[0]);
    let released = record_when(&world, &ids[1], "to be released", |record| record["owner"]["released"] == true).await;
    assert!(released["deletion"].is_null(), "an object that adopts retains");
    world.apply_key("again", json!({"keyId": ids[1]})).await;
    assert_eq!(key_id(&world.key_ready("again").await), ids[1]);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_a_key_whose_record_is_restored_later_is_adopted_then() {
    let (world, operator) = World::with_operator("r11-later").await;
    world.apply_key("before", json!({"deletionPolicy": "Retain"})).await;
    let id = key_id(&world.key_ready("before").await);
    world.delete_key("before").await;
    let backup = world.records().await.remove(0);
    let name = backup.name_any();
    world.operator_secrets().delete(&name, &DeleteParams::default()).await.unwrap();

    world.apply_key("after", json!({"keyId": id})).await;
    world.key_says("after", STALLED, "True", reason::KEY_RECORD_MISSING).await;
    assert_eq!(world.records().await.len(), 0, "no key is made in its place");
    let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
    let restored = Secret { metadata, ..backup };
    world.operator_secrets().create(&PostParams::default(), &restored).await.unwrap();
    assert_eq!(key_id(&world.key_ready("after").await), id);
    operator.stop().await.unwrap();
}
