//! Rule 9: imported material is exactly 32 bytes, re-import must be identical, expiry leads to PendingImport, and the
//! referenced Secret is never changed.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use cmk_operator::{
    api::{
        CustomerMasterKey,
        conditions::{READY, reason},
    },
    clock::Clock,
    crypto::SystemRandom,
    kms::{WrappingAlgorithm, WrappingKeySpec},
};
use jiff::SignedDuration;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::helpers::{blob, complete_context, decrypted, external, material, ring};
use crate::support::{
    eventually,
    world::{SOON, World, entry, key_id, key_state},
};

const MATERIAL: [u8; 32] = [7; 32];

fn expiring(world: &World, secret: &str, days: i64) -> Value {
    let mut spec = external(secret);
    let time = world.clock.now() + SignedDuration::from_hours(24 * days);
    let time = jiff::Timestamp::from_second(time.as_second()).unwrap();
    spec["importedKeyMaterial"]["expireTime"] = json!(time.to_string());
    spec
}

async fn state_is(world: &World, name: &str, state: &str) -> CustomerMasterKey {
    eventually(&format!("{name} to be {state}"), SOON, async || {
        let key = world.keys().get(name).await.map_err(|e| e.to_string())?;
        let current = key.status.as_ref().and_then(|s| s.key_metadata.as_ref()).map(|m| m.key_state.to_string());
        if current.as_deref() == Some(state) { Ok(key) } else { Err(format!("{:?}", key.status)) }
    })
    .await
}

#[tokio::test]
async fn rule_9_a_key_waits_for_its_material_and_then_works() {
    let (world, operator) = World::with_operator("r9-waits").await;
    world.apply_key("orders", json!({"origin": "EXTERNAL"})).await;
    let declared = world.key_ready("orders").await;
    assert_eq!(key_state(&declared), "PendingImport", "as declared: nothing was named");
    assert!(world.only_record().await["versions"].as_array().unwrap().is_empty());
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_says("dek", READY, "False", reason::KEY_PENDING_IMPORT).await;

    world.apply_key("orders", external("brought")).await;
    world.key_says("orders", READY, "False", reason::MATERIAL_NOT_FOUND).await;
    let secret = material(&world, "brought", &MATERIAL).await;
    let key = world.key_ready("orders").await;
    assert_eq!((key_state(&key), key_id(&key)), ("Enabled".into(), key_id(&declared)));
    world.data_key_ready("dek").await;
    let arn = &key.status.unwrap().key_metadata.unwrap().arn;
    assert!(arn.starts_with("acs:kms:"), "{arn}");

    let after = world.secrets().get("brought").await.unwrap();
    assert_eq!(after.metadata.resource_version, secret.metadata.resource_version, "the Secret is never changed");
    let record = world.only_record().await.to_string();
    assert!(!record.contains(&"07".repeat(8)) && !record.contains("BwcHBwcHBwcHBwcH"), "the material is wrapped");
    // It is not needed any more.
    world.secrets().delete("brought", &DeleteParams::default()).await.unwrap();
    world
        .apply_key("orders", {
            let mut spec = external("brought");
            spec["description"] = json!("still there");
            spec
        })
        .await;
    assert_eq!(key_state(&world.key_ready("orders").await), "Enabled");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_9_only_exactly_32_bytes_are_imported() {
    let (world, operator) = World::with_operator("r9-length").await;
    for (name, length) in [("empty", 0), ("short", 31), ("long", 33), ("base64", 44)] {
        material(&world, name, &vec![7; length]).await;
        world.apply_key(name, external(name)).await;
        let refused = world.key_says(name, READY, "False", reason::INVALID_KEY_MATERIAL).await;
        assert_eq!(key_state(&refused), "PendingImport");
    }
    world.event("short", reason::INVALID_KEY_MATERIAL).await;
    // Mended in place, it is taken without anybody touching the key.
    material(&world, "short", &MATERIAL).await;
    world.key_ready("short").await;

    world
        .apply_key("no-entry", {
            let mut spec = external("short");
            spec["importedKeyMaterial"]["secretRef"]["key"] = json!("other");
            spec
        })
        .await;
    world.key_says("no-entry", READY, "False", reason::MATERIAL_NOT_FOUND).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_9_removed_material_is_deleted_and_only_the_same_comes_back() {
    let (world, operator) = World::with_operator("r9-same").await;
    material(&world, "first", &MATERIAL).await;
    world.apply_key("orders", external("first")).await;
    world.key_ready("orders").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let ciphertext = blob(&world.data_key_ready("dek").await);
    let plaintext = entry(&world.secrets().get("dek").await.unwrap(), "plaintext");

    world.apply_key("orders", json!({"origin": "EXTERNAL"})).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "PendingImport");
    world.event("orders", reason::MATERIAL_DELETED).await;
    let record = world.only_record().await;
    assert!(record["versions"].as_array().unwrap().is_empty(), "it is gone: {record}");

    material(&world, "other", &[8; 32]).await;
    world.apply_key("orders", external("other")).await;
    world.key_says("orders", READY, "False", reason::INVALID_KEY_MATERIAL).await;
    world.apply_key("orders", external("first")).await;
    world.key_ready("orders").await;
    let context = complete_context(&world.namespace, "dek", &[]);
    assert_eq!(decrypted(&world, "orders", &context, &ciphertext).await, plaintext, "old ciphertext decrypts");

    // Naming another Secret asks for another import: the same material is fine, other is not, and nothing is lost.
    material(&world, "copy", &MATERIAL).await;
    world.apply_key("orders", external("copy")).await;
    world.key_ready("orders").await;
    world.apply_key("orders", external("other")).await;
    let refused = world.key_says("orders", READY, "False", reason::INVALID_KEY_MATERIAL).await;
    assert_eq!(key_state(&refused), "Enabled");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_9_material_expires_and_can_be_imported_again() {
    let (world, operator) = World::with_operator("r9-expiry").await;
    material(&world, "brought", &MATERIAL).await;
    world.apply_key("orders", expiring(&world, "brought", 10)).await;
    let key = world.key_ready("orders").await;
    assert!(key.status.unwrap().key_metadata.unwrap().material_expire_time.is_some());
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;

    world.clock.advance_days(11);
    state_is(&world, "orders", "PendingImport").await;
    world.key_says("orders", READY, "False", reason::MATERIAL_EXPIRED).await;
    world.event("orders", reason::MATERIAL_EXPIRED).await;
    assert!(world.only_record().await["versions"].as_array().unwrap().is_empty(), "it is erased");
    world.data_key_says("dek", READY, "False", reason::KEY_PENDING_IMPORT).await;
    assert!(world.secrets().get("dek").await.is_ok(), "a delivered Secret stays");

    world.apply_key("orders", expiring(&world, "brought", 10)).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "Enabled");
    world.data_key_ready("dek").await;

    // Another expiry is another import, and needs the material.
    world.secrets().delete("brought", &DeleteParams::default()).await.unwrap();
    world.apply_key("orders", external("brought")).await;
    let waiting = world.key_says("orders", READY, "False", reason::MATERIAL_NOT_FOUND).await;
    assert_eq!(key_state(&waiting), "Enabled");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_9_disabled_and_pending_keys_keep_their_material() {
    let (world, operator) = World::with_operator("r9-states").await;
    material(&world, "brought", &MATERIAL).await;
    let with = |field: &str, value: Value| {
        let mut spec = external("brought");
        spec[field] = value;
        spec
    };
    world.apply_key("orders", with("enabled", json!(false))).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "Disabled", "imported, and disabled as declared");
    world.apply_key("orders", with("scheduleDeletion", json!(true))).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "PendingDeletion");
    let before = world.only_record().await;

    // Deleting material of a key that is to be deleted leaves state and date as they are.
    world.apply_key("orders", json!({"origin": "EXTERNAL", "scheduleDeletion": true})).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "PendingDeletion");
    let after = world.only_record().await;
    assert_eq!(before["deletion"], after["deletion"]);
    assert!(after["versions"].as_array().unwrap().is_empty());
    // And nothing is imported meanwhile.
    world.apply_key("orders", with("scheduleDeletion", json!(true))).await;
    world.key_says("orders", READY, "False", reason::REJECTED_PENDING_DELETION).await;
    world.apply_key("orders", external("brought")).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "Enabled");
    operator.stop().await.unwrap();
}

/// An import token for a key, as the endpoint will hand it out, and the material encrypted under its public key.
async fn wrapped(world: &World, key_id: &str, days_ago: i64) -> (String, Vec<u8>) {
    let now = world.clock.now() - SignedDuration::from_hours(24 * days_ago);
    let (algorithm, spec) = (WrappingAlgorithm::RsaesOaepSha256, WrappingKeySpec::Rsa2048);
    let issued = ring(world).await.issue_import_token(&SystemRandom, key_id.parse().unwrap(), algorithm, spec, now);
    let issued = issued.unwrap();
    let public = PublicEncryptingKey::from_der(&issued.public_key).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let mut encrypted = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA256_MGF1SHA256, &MATERIAL, &mut encrypted, None).unwrap();
    (issued.token, encrypted)
}

fn wrapped_spec(token: &str) -> Value {
    let mut spec = external("wrapped");
    spec["importedKeyMaterial"]["wrapping"] = json!({"algorithm": "RSAES_OAEP_SHA_256", "importToken": token});
    spec
}

#[tokio::test]
async fn rule_9_wrapped_material_is_imported_under_its_own_token_only() {
    let (world, operator) = World::with_operator("r9-wrapped").await;
    for name in ["orders", "other"] {
        world.apply_key(name, json!({"origin": "EXTERNAL"})).await;
    }
    let id = key_id(&world.key_ready("orders").await);
    let other = key_id(&world.key_ready("other").await);

    let (token, encrypted) = wrapped(&world, &other, 0).await;
    material(&world, "wrapped", &encrypted).await;
    world.apply_key("orders", wrapped_spec(&token)).await;
    world.key_says("orders", READY, "False", reason::INVALID_IMPORT_TOKEN).await;

    let (old, encrypted) = wrapped(&world, &id, 2).await;
    material(&world, "wrapped", &encrypted).await;
    world.apply_key("orders", wrapped_spec(&old)).await;
    world.key_says("orders", READY, "False", reason::EXPIRED_IMPORT_TOKEN).await;

    let (token, encrypted) = wrapped(&world, &id, 0).await;
    world.apply_key("orders", wrapped_spec(&token)).await;
    world.key_says("orders", READY, "False", reason::INVALID_KEY_MATERIAL).await;
    material(&world, "wrapped", &encrypted).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "Enabled");

    // A day later the token is no good any more, and need not be.
    world.clock.advance_days(2);
    let mut spec = wrapped_spec(&token);
    spec["description"] = json!("later");
    world.apply_key("orders", spec).await;
    world.key_ready("orders").await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_9_the_material_of_a_protected_key_is_not_deleted() {
    let (world, operator) = World::with_operator("r9-protected").await;
    material(&world, "brought", &MATERIAL).await;
    let mut spec = external("brought");
    spec["deletionProtection"] = json!(true);
    world.apply_key("orders", spec.clone()).await;
    world.key_ready("orders").await;
    // The API server refuses it at once, naming the field.
    let refused = crate::support::world::apply(
        &world.keys(),
        "orders",
        "CustomerMasterKey",
        json!({"origin": "EXTERNAL", "deletionProtection": true}),
    )
    .await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("spec.importedKeyMaterial must not be removed"), "{message}");
    operator.stop().await.unwrap();
}
