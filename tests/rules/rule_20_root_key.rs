//! Rule 20: no key and no root key is made with `--no-new-keys`; `verify`; a deleted root key is written back.
//! And section 4: a missing root key is never replaced by a new one while keys exist.

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::{
    api::{
        conditions::{STALLED, reason},
        metadata,
    },
    runtime::operator::OperatorError,
    store::embedded::root_key::RootKeyError,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::{
    helpers::verify,
    support::{
        eventually,
        world::{SOON, World, entry, key_id},
    },
};

#[tokio::test]
async fn rule_20_no_new_keys_makes_no_root_key() {
    let world = World::new("r20-no-root").await;
    let operator =
        world.launch(cmk_operator::runtime::operator::Settings { no_new_keys: true, ..world.settings() }).await;
    let ended = operator.ended().await;
    assert!(matches!(ended, OperatorError::RootKey(RootKeyError::CreationPaused { .. })), "{ended}");
    assert!(world.operator_secrets().get_opt(metadata::ROOT_KEY_SECRET).await.unwrap().is_none());
}

/// Rebuilding a cluster in the order root key, records, objects.
#[tokio::test]
async fn rule_20_no_new_keys_makes_no_key_and_serves_those_that_exist() {
    let (world, operator) = World::with_operator("r20-paused").await;
    world.apply_key("old", json!({})).await;
    let id = key_id(&world.key_ready("old").await);
    operator.stop().await.unwrap();

    let paused = cmk_operator::runtime::operator::Settings { no_new_keys: true, ..world.settings() };
    let operator = world.start_with(paused).await;
    world.apply_key("new", json!({})).await;
    world.key_says("new", STALLED, "True", reason::CREATION_PAUSED).await;
    world.apply_key("old", json!({"description": "changed"})).await;
    assert_eq!(key_id(&world.key_ready("old").await), id);
    assert_eq!(world.records().await.len(), 1);
    operator.stop().await.unwrap();

    let operator = world.start().await;
    world.key_ready("new").await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_20_a_deleted_root_key_is_written_back() {
    let (world, operator) = World::with_operator("r20-restore").await;
    let before = world.operator_secrets().get(metadata::ROOT_KEY_SECRET).await.unwrap();
    world.operator_secrets().delete(metadata::ROOT_KEY_SECRET, &DeleteParams::default()).await.unwrap();
    let after = eventually("the root key to be written back", SOON, async || {
        world.operator_secrets().get(metadata::ROOT_KEY_SECRET).await.map_err(|e| e.to_string())
    })
    .await;
    assert!(after.data == before.data && after.metadata.uid != before.metadata.uid);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn section_4_a_missing_root_key_is_not_replaced_while_keys_exist() {
    let (world, operator) = World::with_operator("r20-missing").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    operator.stop().await.unwrap();
    let root_key = world.operator_secrets().get(metadata::ROOT_KEY_SECRET).await.unwrap();
    world.operator_secrets().delete(metadata::ROOT_KEY_SECRET, &DeleteParams::default()).await.unwrap();

    let ended = world.launch(world.settings()).await.ended().await;
    assert!(ended.to_string().contains("1 key records exist"), "{ended}");

    // Nor when the records are gone too, and only the objects remember.
    let record = world.records().await.remove(0);
    world.operator_secrets().delete(record.metadata.name.as_ref().unwrap(), &DeleteParams::default()).await.unwrap();
    let ended = world.launch(world.settings()).await.ended().await;
    assert!(ended.to_string().contains("1 CustomerMasterKeys or DataKeys had a key before"), "{ended}");
    assert!(world.operator_secrets().get_opt(metadata::ROOT_KEY_SECRET).await.unwrap().is_none());

    // Both restored, everything is as before.
    for secret in [&root_key, &record] {
        let bare = ObjectMeta {
            name: secret.metadata.name.clone(),
            labels: secret.metadata.labels.clone(),
            ..ObjectMeta::default()
        };
        let restored = Secret { metadata: bare, ..secret.clone() };
        world.operator_secrets().create(&PostParams::default(), &restored).await.unwrap();
    }
    let operator = world.start().await;
    world.apply_key("orders", json!({"description": "changed"})).await;
    assert_eq!(key_id(&world.key_ready("orders").await), id);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn section_4_a_root_key_file_of_another_key_stalls_and_changes_nothing() {
    let (world, operator) = World::with_operator("r20-other").await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    operator.stop().await.unwrap();
    let before = world.only_record().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), BASE64_STANDARD.encode([7; 32])).unwrap();
    let settings =
        cmk_operator::runtime::operator::Settings { root_key_files: vec![file.path().to_owned()], ..world.settings() };
    let operator = world.start_with(settings).await;
    world.apply_key("orders", json!({"description": "changed"})).await;
    world.key_says("orders", STALLED, "True", reason::ROOT_KEY_MISSING).await;
    assert_eq!(world.only_record().await, before);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_20_verify_makes_no_root_key_and_says_what_it_needs() {
    let world = World::new("r20-verify-none").await;
    let (code, text) = verify(&world, &[]);
    assert!(code == Some(1) && text.contains("give the root key with --root-key-file"), "{text}");
    assert!(!text.contains("--no-new-keys"), "nobody gave that: {text}");
    assert!(world.operator_secrets().get_opt(metadata::ROOT_KEY_SECRET).await.unwrap().is_none());
}

#[tokio::test]
async fn rule_20_verify_says_whether_every_record_unwraps() {
    let (world, operator) = World::with_operator("r20-verify").await;
    for name in ["a", "b"] {
        world.apply_key(name, json!({})).await;
        world.key_ready(name).await;
    }
    let root_key = world.operator_secrets().get(metadata::ROOT_KEY_SECRET).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), BASE64_STANDARD.encode(entry(&root_key, "key"))).unwrap();
    let verify = |arguments: &[&str]| verify(&world, arguments);
    let good = "2 keys unwrap, 0 tombstones are authentic, 0 records are not usable";
    let (code, text) = verify(&[]);
    assert!(code == Some(0) && text.contains(good), "{text}");
    let (code, text) = verify(&["--root-key-file", file.path().to_str().unwrap()]);
    assert!(code == Some(0) && text.contains(good), "{text}");

    // A record that was changed is named.
    let record = world.records().await.remove(0);
    let mut bytes = entry(&record, "record");
    bytes[20] ^= 1;
    let patch = Patch::Merge(json!({"data": {"record": BASE64_STANDARD.encode(bytes)}}));
    let name = record.metadata.name.as_ref().unwrap();
    world.operator_secrets().patch(name, &PatchParams::default(), &patch).await.unwrap();
    let (code, text) = verify(&[]);
    assert!(code == Some(1) && text.contains(name) && text.contains("1 records are not usable"), "{text}");

    // Another root key unwraps nothing.
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), BASE64_STANDARD.encode([9; 32])).unwrap();
    let (code, text) = verify(&["--root-key-file", other.path().to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("0 keys unwrap"), "{text}");
    operator.stop().await.unwrap();
}
