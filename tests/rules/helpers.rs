//! What several rules need to look at or to do.

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::{
    api::{DataKey, conditions, metadata},
    cluster::{KubeCluster, Views},
    crypto::{RootKeyRing, SystemRandom},
    kms::EncryptionContext,
    runtime::{metrics::Metrics, operator::Settings},
    store::{
        Freshness, KeyStore, StoredKey,
        embedded::{EmbeddedStore, root_key},
    },
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use std::{process::Command, sync::Arc};

use crate::support::{
    eventually,
    world::{SOON, World, gone, record_json},
};

pub const PLAINTEXT: &str = "plaintext";
pub const CIPHERTEXT_BLOB: &str = "ciphertextBlob";

/// The cluster as the operator sees it, without its watches.
pub async fn operator_cluster(world: &World) -> KubeCluster {
    let views = Views { scopes: vec![], ..Views::blind() };
    KubeCluster::new(world.operator_client().await, views)
}

/// The operator's root keys.
pub async fn ring(world: &World) -> RootKeyRing {
    let secret = world.operator_secrets().get(metadata::ROOT_KEY_SECRET).await.unwrap();
    root_key::decode(&secret, &world.operator_namespace).unwrap()
}

/// The operator's key store, in this process.
pub async fn store(world: &World) -> EmbeddedStore<KubeCluster> {
    EmbeddedStore::new(
        &world.operator_namespace,
        operator_cluster(world).await,
        Arc::new(ring(world).await),
        world.clock.clone(),
        Arc::new(SystemRandom),
    )
}

/// The key of a `CustomerMasterKey` of the test, as the store holds it now.
pub async fn stored_key(world: &World, store: &EmbeddedStore<KubeCluster>, name: &str) -> StoredKey {
    let slot = world.slot(name);
    store.find(&slot, Freshness::Live).await.unwrap().current.unwrap()
}

/// The complete encryption context of a generated data key.
pub fn complete_context(namespace: &str, name: &str, user: &[(&str, &str)]) -> EncryptionContext {
    let user = user.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let context = EncryptionContext::try_from_pairs(user).unwrap();
    context.with_entry(metadata::DATA_KEY, format!("{namespace}/{name}")).unwrap()
}

/// What a ciphertext, base64, decrypts to.
pub async fn decrypted(world: &World, key: &str, context: &EncryptionContext, blob: &str) -> Vec<u8> {
    let store = store(world).await;
    let key = stored_key(world, &store, key).await;
    let blob = BASE64_STANDARD.decode(blob).unwrap();
    store.decrypt(&key, context, &blob).await.unwrap().expose().to_vec()
}

/// The ciphertext in status.
pub fn blob(data_key: &DataKey) -> String {
    data_key.status.as_ref().and_then(|s| s.ciphertext_blob.clone()).expect("a ciphertext in status")
}

/// A condition.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> &'a Condition {
    conditions::find(conditions, type_).unwrap_or_else(|| panic!("no condition {type_}"))
}

/// The conditions of a data key.
pub fn conditions_of(data_key: &DataKey) -> &[Condition] {
    &data_key.status.as_ref().unwrap().conditions
}

/// Merges into an object, as the administrator.
pub async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> K
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
}

/// Creates a Secret that is nobody's business but the test's.
pub async fn foreign_secret(world: &World, name: &str) -> Secret {
    let secret = json!({"metadata": {"name": name}, "stringData": {"plaintext": "not ours"}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    world.secrets().create(&PostParams::default(), &secret).await.unwrap()
}

/// Waits until the Secret is as `wanted` says.
pub async fn secret_when(world: &World, name: &str, what: &str, wanted: impl Fn(&Secret) -> bool) -> Secret {
    let api = world.secrets();
    eventually(&format!("Secret {name} {what}"), SOON, async || {
        let secret = api.get_opt(name).await.map_err(|e| e.to_string())?.ok_or("it does not exist")?;
        let keys: Vec<_> = secret.data.iter().flatten().map(|(key, _)| key.clone()).collect();
        if wanted(&secret) { Ok(secret) } else { Err(format!("{:?} with {keys:?}", secret.metadata)) }
    })
    .await
}

/// Deletes a Secret and waits until there is another one of its name.
pub async fn deleted_and_restored(world: &World, name: &str) -> Secret {
    let before = world.secrets().get(name).await.unwrap().uid();
    world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    secret_when(world, name, "to be made anew", |secret| secret.uid() != before).await
}

/// How many passes over objects of a kind have ended.
pub fn passes(metrics: &Metrics, kind: &str) -> u64 {
    let prefix = format!("cmk_passes_total{{kind=\"{kind}\",");
    let text = metrics.render();
    let lines = text.lines().filter(|line| line.starts_with(&prefix));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits for one more pass of a kind than there were.
pub async fn another_pass(metrics: &Metrics, kind: &str, before: u64) {
    eventually(&format!("another pass over a {kind}"), SOON, async || {
        let now = passes(metrics, kind);
        if now > before { Ok(()) } else { Err(format!("{now} as before")) }
    })
    .await;
}

/// Creates an object with these annotations.
pub async fn create_data_key(world: &World, name: &str, annotations: Value, spec: Value) -> DataKey {
    let object = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "DataKey",
        "metadata": {"name": name, "annotations": annotations}, "spec": spec,
    });
    let object: DataKey = serde_json::from_value(object).unwrap();
    world.data_keys().create(&PostParams::default(), &object).await.unwrap()
}

/// What makes the operator say something about everything it had to do before: a new data key that it
/// finishes.
pub async fn later_event(world: &World, key: &str) {
    let name = format!("later-{:08x}", rand::random::<u32>());
    world.apply_data_key(&name, json!({"keyRef": {"name": key}})).await;
    world.data_key_ready(&name).await;
}

/// The settings for an operator that watches the namespaces of all of these.
pub fn watching(worlds: &[&World]) -> Settings {
    let watch_namespaces = worlds.iter().map(|world| world.namespace.clone()).collect();
    Settings { watch_namespaces, ..worlds[0].settings() }
}

/// Takes an object away behind the operator's back, finalizers and all: as it was without them, since the operator may put
/// its own back at any moment.
pub async fn lose_key_object(world: &World, name: &str) {
    eventually("the object to be lost", SOON, async || {
        let bare = merge(&world.keys(), name, json!({"metadata": {"finalizers": null}})).await;
        let preconditions = Preconditions { uid: None, resource_version: bare.resource_version() };
        let as_seen = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        world.keys().delete(name, &as_seen).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    gone(&world.keys(), name).await;
}

/// The record of the key with an id, as JSON.
pub async fn record_of(world: &World, key_id: &str) -> Value {
    let records = world.records().await;
    records.iter().map(record_json).find(|record| record["keyId"] == key_id).unwrap_or_else(|| panic!("{key_id}"))
}

/// Waits until the record of the key with an id is as `wanted` says.
pub async fn record_when(world: &World, key_id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("the record of {key_id} {what}"), SOON, async || {
        let record = record_of(world, key_id).await;
        if wanted(&record) { Ok(record) } else { Err(record.to_string()) }
    })
    .await
}

/// Deletes a namespace with all its objects, and makes one of the same name.
pub async fn recreate_namespace(world: &World) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    gone(&namespaces, &world.namespace).await;
    world.create_namespace(&world.namespace).await;
}

/// Makes the Secret with the material, or replaces what is in it.
pub async fn material(world: &World, name: &str, bytes: &[u8]) -> Secret {
    let _ = world.secrets().delete(name, &DeleteParams::default()).await;
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.into()), ..Default::default() },
        data: Some([("material".to_owned(), ByteString(bytes.to_vec()))].into()),
        ..Secret::default()
    };
    world.secrets().create(&PostParams::default(), &secret).await.unwrap()
}

/// The spec of a key whose material is in a Secret, under `material`.
pub fn external(secret: &str) -> Value {
    json!({"origin": "EXTERNAL", "importedKeyMaterial": {"secretRef": {"name": secret, "key": "material"}}})
}

/// What `cmk-operator verify` says with these arguments: its exit status, and its text.
pub fn verify(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cmk-operator"))
        .args(["verify", "--namespace", &world.operator_namespace])
        .args(arguments)
        .env("KUBECONFIG", world.operator_kubeconfig())
        .env_remove("https_proxy")
        .env_remove("HTTPS_PROXY")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}
