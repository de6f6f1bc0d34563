//! Rule 8: rotation adds a version, and every older version still decrypts.

use cmk_operator::api::{
    CustomerMasterKey,
    conditions::{READY, reason},
    metadata,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::helpers::{blob, complete_context, decrypted};
use crate::support::{
    eventually,
    world::{SOON, World, entry, key_id},
};

fn metadata_of(key: &CustomerMasterKey) -> Value {
    serde_json::to_value(key.status.as_ref().unwrap().key_metadata.as_ref().unwrap()).unwrap()
}

fn versions(key: &CustomerMasterKey) -> usize {
    key.status.as_ref().map_or(0, |status| status.key_versions.len())
}

/// Waits until a key has so many versions.
async fn with_versions(world: &World, name: &str, count: usize) -> CustomerMasterKey {
    eventually(&format!("{name} to have {count} versions"), SOON, async || {
        let key = world.keys().get(name).await.map_err(|e| e.to_string())?;
        if versions(&key) == count { Ok(key) } else { Err(format!("{:?}", key.status)) }
    })
    .await
}

async fn request(world: &World, name: &str, value: &str) {
    world.annotate_key(name, json!({metadata::ROTATE_REQUESTED_AT: value})).await;
}

#[tokio::test]
async fn rule_8_a_requested_rotation_is_made_once_and_every_version_decrypts() {
    let (world, operator) = World::with_operator("r8-request").await;
    world.apply_key("orders", json!({})).await;
    let first = world.key_ready("orders").await;
    let mut ciphertexts = Vec::new();
    for turn in 1..=3 {
        let name = format!("dek-{turn}");
        world.apply_data_key(&name, json!({"keyRef": {"name": "orders"}})).await;
        let ciphertext = blob(&world.data_key_ready(&name).await);
        let plaintext = entry(&world.secrets().get(&name).await.unwrap(), "plaintext");
        ciphertexts.push((name, ciphertext, plaintext));
        request(&world, "orders", &format!("turn {turn}")).await;
        let rotated = with_versions(&world, "orders", turn + 1).await;
        let status = rotated.status.as_ref().unwrap();
        assert_eq!(status.last_handled_rotation.as_deref(), Some(format!("turn {turn}").as_str()));
        let newest = &status.key_versions.last().unwrap().id;
        assert_eq!(metadata_of(&rotated)["primaryKeyVersion"], json!(newest));
        assert!(metadata_of(&rotated)["lastRotationDate"].is_string());
        assert_eq!(key_id(&rotated), key_id(&first));
    }
    world.event("orders", reason::KEY_ROTATED).await;
    for (name, ciphertext, plaintext) in &ciphertexts {
        let context = complete_context(&world.namespace, name, &[]);
        assert_eq!(&decrypted(&world, "orders", &context, ciphertext).await, plaintext, "{name}");
    }

    // Answered, it is not answered again, neither by a restart nor where status is lost.
    operator.stop().await.unwrap();
    let as_operator: Api<CustomerMasterKey> = Api::namespaced(world.operator_client().await, &world.namespace);
    let patch = Patch::Merge(json!({"status": null}));
    as_operator.patch_status("orders", &PatchParams::default(), &patch).await.unwrap();
    let operator = world.start().await;
    world.apply_key("orders", json!({"description": "again"})).await;
    assert_eq!(versions(&world.key_ready("orders").await), 4);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_8_a_key_rotates_an_interval_after_its_newest_version() {
    let (world, operator) = World::with_operator("r8-interval").await;
    world.apply_key("orders", json!({"rotationIntervalDays": 30})).await;
    let metadata = metadata_of(&world.key_ready("orders").await);
    assert_eq!(
        (&metadata["automaticRotation"], &metadata["rotationInterval"]),
        (&json!("Enabled"), &json!("2592000s"))
    );
    assert!(metadata["nextRotationDate"].is_string() && metadata["lastRotationDate"].is_null(), "{metadata}");

    world.clock.advance_days(31);
    with_versions(&world, "orders", 2).await;
    // Long overdue, it is made once, and the next one counts from then.
    world.clock.advance_days(300);
    with_versions(&world, "orders", 3).await;
    world.apply_key("orders", json!({"description": "no interval any more"})).await;
    let metadata = metadata_of(&world.key_ready("orders").await);
    assert_eq!(metadata["automaticRotation"], "Disabled");
    assert!(metadata["nextRotationDate"].is_null(), "{metadata}");
    world.clock.advance_days(300);
    world.apply_key("orders", json!({"description": "and no rotation"})).await;
    assert_eq!(versions(&world.key_ready("orders").await), 3);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_8_a_disabled_or_pending_key_does_not_rotate() {
    let (world, operator) = World::with_operator("r8-suspended").await;
    for (name, spec) in [
        ("disabled", json!({"rotationIntervalDays": 30, "enabled": false})),
        ("pending", json!({"rotationIntervalDays": 30, "scheduleDeletion": true})),
    ] {
        world.apply_key(name, spec).await;
        let metadata = metadata_of(&world.key_ready(name).await);
        assert_eq!(metadata["automaticRotation"], "Suspended", "{name}");
        assert!(metadata["nextRotationDate"].is_null(), "{name}: {metadata}");
        request(&world, name, "now").await;
        world.key_says(name, READY, "False", reason::ROTATION_SUSPENDED).await;
    }
    world.clock.advance_days(60);
    assert_eq!(versions(&world.keys().get("disabled").await.unwrap()), 1);

    // Enabled, it makes up for it at once: one rotation answers the request and the date.
    world.apply_key("disabled", json!({"rotationIntervalDays": 30})).await;
    let enabled = world.key_ready("disabled").await;
    assert_eq!(versions(&enabled), 2);
    assert_eq!(enabled.status.unwrap().last_handled_rotation.as_deref(), Some("now"));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_8_the_interval_of_a_disabled_key_can_not_be_changed() {
    let (world, operator) = World::with_operator("r8-blocked").await;
    world.apply_key("orders", json!({"enabled": false})).await;
    world.key_ready("orders").await;
    world.apply_key("orders", json!({"enabled": false, "rotationIntervalDays": 30})).await;
    world.key_says("orders", READY, "False", reason::REJECTED_DISABLED).await;
    world.apply_key("orders", json!({"rotationIntervalDays": 30})).await;
    assert_eq!(metadata_of(&world.key_ready("orders").await)["rotationInterval"], "2592000s");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_8_imported_material_never_rotates() {
    let (world, operator) = World::with_operator("r8-external").await;
    world.apply_key("orders", json!({"origin": "EXTERNAL"})).await;
    world.key_ready("orders").await;
    request(&world, "orders", "now").await;
    world.key_says("orders", READY, "False", reason::ROTATION_REFUSED).await;
    world.annotate_key("orders", json!({metadata::ROTATE_REQUESTED_AT: null})).await;
    world.key_ready("orders").await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_8_a_request_that_was_there_from_the_beginning_is_answered_by_the_first_version() {
    let (world, operator) = World::with_operator("r8-new").await;
    let object = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
        "metadata": {"name": "orders", "annotations": {metadata::ROTATE_REQUESTED_AT: "long ago"}}, "spec": {},
    });
    let object = serde_json::from_value(object).unwrap();
    world.keys().create(&Default::default(), &object).await.unwrap();
    let key = world.key_ready("orders").await;
    assert_eq!(versions(&key), 1);
    assert_eq!(key.status.unwrap().last_handled_rotation.as_deref(), Some("long ago"));
    world.keys().delete("orders", &DeleteParams::default()).await.unwrap();
    operator.stop().await.unwrap();
}
