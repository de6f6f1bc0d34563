//! Backups as Velero makes and restores them, and what has to be the same after a restore.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::api::{CustomerMasterKey, DataKey, metadata};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{SOON, World, gone, record_json},
};

/// What is restored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    OperatorNamespace,
    RootKey,
    Records,
    Aliases,
    Namespace,
    Keys,
    DataKeys,
    /// The Secrets delivered for data keys.
    Delivered,
    /// All others.
    OtherSecrets,
}

/// Objects as Velero restores them: no status, UID, resource version, owner references or managed fields; with labels,
/// annotations and finalizers, and with a label of its own.
pub struct Backup(BTreeMap<Part, Vec<(ApiResource, DynamicObject)>>);

impl Backup {
    pub async fn take(world: &World) -> Self {
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let all = ListParams::default();
        let operators = async |type_: &str| {
            let all = world.operator_secrets().list(&all).await.unwrap();
            all.items.into_iter().filter(|s| s.type_.as_deref() == Some(type_)).collect::<Vec<_>>()
        };
        let (delivered, others): (Vec<_>, Vec<_>) =
            world.secrets().list(&all).await.unwrap().items.into_iter().partition(is_delivered);
        let namespace = async |name: &str| stored(vec![namespaces.get(name).await.unwrap()]);
        Self(BTreeMap::from([
            (Part::OperatorNamespace, namespace(&world.operator_namespace).await),
            (Part::RootKey, stored(operators(metadata::ROOT_KEY_TYPE).await)),
            (Part::Records, stored(operators(metadata::KEY_RECORD_TYPE).await)),
            (Part::Aliases, stored(operators(metadata::ALIAS_TYPE).await)),
            (Part::Namespace, namespace(&world.namespace).await),
            (Part::Keys, stored(world.keys().list(&all).await.unwrap().items)),
            (Part::DataKeys, stored(world.data_keys().list(&all).await.unwrap().items)),
            (Part::Delivered, stored(delivered)),
            (Part::OtherSecrets, stored(others)),
        ]))
    }

    /// Creates what is in a part. What exists already is left alone, as Velero does.
    pub async fn restore(&self, client: &Client, part: Part) {
        for (resource, object) in &self.0[&part] {
            let api: Api<DynamicObject> = match object.namespace() {
                Some(namespace) => Api::namespaced_with(client.clone(), &namespace, resource),
                None => Api::all_with(client.clone(), resource),
            };
            match api.create(&PostParams::default(), object).await {
                Ok(_) => {}
                Err(kube::Error::Api(error)) if error.is_already_exists() => {}
                Err(error) => panic!("{part:?}, {}: {error}", object.name_any()),
            }
        }
    }
}

fn is_delivered(secret: &Secret) -> bool {
    secret.labels().get(metadata::COMPONENT_LABEL).is_some_and(|value| value == metadata::COMPONENT_DATA_KEY)
}

fn stored<K>(objects: Vec<K>) -> Vec<(ApiResource, DynamicObject)>
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    let resource = ApiResource::erase::<K>(&());
    let bare = |object: &K| -> DynamicObject {
        let mut value = serde_json::to_value(object).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.remove("status");
        fields.insert("apiVersion".into(), json!(resource.api_version));
        fields.insert("kind".into(), json!(resource.kind));
        let metadata = fields["metadata"].as_object_mut().unwrap();
        metadata
            .retain(|field, _| ["name", "namespace", "labels", "annotations", "finalizers"].contains(&field.as_str()));
        let labels = metadata.entry("labels").or_insert(json!({}));
        labels["velero.io/restore-name"] = json!("restore-1");
        serde_json::from_value(value).unwrap()
    };
    objects.iter().map(|object| (resource.clone(), bare(object))).collect()
}

/// Takes the finalizers off the keys and deletes all objects, as a disaster does: without the operator.
pub async fn lose_objects(world: &World) {
    for data_key in world.data_keys().list(&ListParams::default()).await.unwrap() {
        world.data_keys().delete(&data_key.name_any(), &DeleteParams::default()).await.unwrap();
        gone(&world.data_keys(), &data_key.name_any()).await;
    }
    lose_finalizers(world).await;
    for key in world.keys().list(&ListParams::default()).await.unwrap() {
        world.keys().delete(&key.name_any(), &DeleteParams::default()).await.unwrap();
        gone(&world.keys(), &key.name_any()).await;
    }
    lose_secrets(&world.secrets(), |_| true).await;
}

async fn lose_finalizers(world: &World) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for key in world.keys().list(&ListParams::default()).await.unwrap() {
        world.keys().patch(&key.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Deletes Secrets.
pub async fn lose_secrets(api: &Api<Secret>, which: impl Fn(&Secret) -> bool) {
    for secret in api.list(&ListParams::default()).await.unwrap().items.iter().filter(|secret| which(secret)) {
        // The garbage collector may have been faster.
        let _ = api.delete(&secret.name_any(), &DeleteParams::default()).await;
        gone(api, &secret.name_any()).await;
    }
}

/// Deletes the namespace with all that is in it, as a disaster does: without the operator.
pub async fn lose_namespace(world: &World) {
    lose_finalizers(world).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    gone(&namespaces, &world.namespace).await;
}

/// All that has to be the same: identity, state and aliases of keys, and the data keys. By what it is about.
pub type Facts = BTreeMap<String, String>;

pub async fn facts(world: &World) -> Result<Facts, String> {
    let failed = |e: kube::Error| e.to_string();
    let all = ListParams::default();
    let keys = world.keys().list(&all).await.map_err(failed)?.items;
    let data_keys = world.data_keys().list(&all).await.map_err(failed)?.items;
    let secrets = world.secrets().list(&all).await.map_err(failed)?.items;
    let own = world.operator_secrets().list(&all).await.map_err(failed)?.items;
    let of_keys = keys.iter().map(|key| (format!("key {}", key.name_any()), key_facts(key).to_string()));
    let of_data_keys = data_keys
        .iter()
        .map(|data_key| (format!("data key {}", data_key.name_any()), data_key_facts(data_key).to_string()));
    let delivered = secrets.iter().filter(|secret| is_delivered(secret)).flat_map(|secret| {
        let entries = secret.data.iter().flatten();
        let fact = |(name, bytes): (&String, &k8s_openapi::ByteString)| {
            (format!("Secret {} {name}", secret.name_any()), BASE64_STANDARD.encode(&bytes.0))
        };
        entries.map(fact).collect::<Vec<_>>()
    });
    let stored = own.iter().filter_map(|secret| {
        let fact = match secret.type_.as_deref()? {
            metadata::KEY_RECORD_TYPE => record_facts(secret),
            metadata::ALIAS_TYPE => serde_json::from_slice(&secret.data.as_ref()?["claim"].0).unwrap(),
            metadata::ROOT_KEY_TYPE => json!(secret.data.as_ref()?["id"]),
            _ => return None,
        };
        Some((format!("stored {}", secret.name_any()), fact.to_string()))
    });
    Ok(of_keys.chain(of_data_keys).chain(delivered).chain(stored).collect())
}

fn key_facts(key: &CustomerMasterKey) -> Value {
    let mut status = serde_json::to_value(&key.status).unwrap();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let standing = conditions.iter().map(|c| (c["type"].to_string(), json!([c["status"], c["reason"]])));
    json!({
        "annotation": key.annotations().get(metadata::KEY_ID),
        "finalizers": key.finalizers(),
        "alias": status["alias"],
        "keyMetadata": status["keyMetadata"].take(),
        "keyVersions": status["keyVersions"],
        "conditions": standing.collect::<BTreeMap<_, _>>(),
    })
}

fn data_key_facts(data_key: &DataKey) -> Value {
    let status = serde_json::to_value(&data_key.status).unwrap();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    json!({
        "annotations": data_key.annotations(),
        "ciphertextBlob": status["ciphertextBlob"],
        "keyId": status["keyId"],
        "generatedAt": status["generatedAt"],
        "history": status["history"],
        "ready": ready.map(|ready| json!([ready["status"], ready["reason"]])),
        "ownedSecret": status["secretRef"],
    })
}

/// The record without what says which object has claimed the key last: that is another one. Nobody claims a tombstone.
fn record_facts(secret: &Secret) -> Value {
    let mut record = record_json(secret);
    record["revision"].take();
    for field in ["uid", "namespaceUid", "resourceVersion"] {
        record["owner"][field].take();
    }
    if record["erasedAt"].is_string() {
        record["owner"]["released"].take();
    }
    record
}

/// Waits until everything is as it was. Names what differs, without its value, which may be a plaintext.
pub async fn as_before(world: &World, what: &str, before: &Facts) {
    eventually(&format!("everything to be as before ({what})"), SOON, async || {
        let now = facts(world).await?;
        let names: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
        let differing: Vec<_> = names.into_iter().filter(|name| before.get(*name) != now.get(*name)).collect();
        let shown = |facts: &Facts, name: &String| match name.starts_with("Secret") {
            true => facts.contains_key(name).to_string(),
            false => facts.get(name).cloned().unwrap_or_default(),
        };
        let differences: Vec<_> = differing
            .iter()
            .map(|name| format!("{name}:\n  was {}\n  is  {}", shown(before, name), shown(&now, name)))
            .collect();
        if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
    })
    .await;
}
