//! The manifests of `examples/`, applied on a control plane of one's own, as they have names and namespaces in them.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ObjectMeta, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    support::{
        eventually,
        world::{Operator, SOON, World, private_bed},
    },
    tools::REPOSITORY,
};

/// Where most of them are.
pub const NAMESPACE: &str = "shop";
const GROUP: &str = "kms.cmk-operator.dev";

/// All documents of `examples/*.yaml`, in the order in which kubectl applies them.
pub fn documents() -> Vec<Value> {
    let all = fs::read_dir(Path::new(REPOSITORY).join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    let parse = |text: String| {
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        documents.map(|document| Value::deserialize(document).unwrap()).collect::<Vec<_>>()
    };
    texts.flat_map(parse).collect()
}

/// Whether a document is of one of our kinds.
pub fn is_ours(document: &Value) -> bool {
    document["apiVersion"].as_str().unwrap().starts_with(&format!("{GROUP}/"))
}

/// A file with some of the documents, for kubectl.
pub fn file(wanted: impl Fn(&Value) -> bool) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let texts =
        documents().into_iter().filter(|document| wanted(document)).map(|document| format!("---\n{document}\n"));
    fs::write(file.path(), texts.collect::<String>()).unwrap();
    file
}

/// A control plane with an operator for all namespaces, and a world whose namespace is that of the examples.
pub async fn with_operator(name: &str) -> (World, Operator) {
    let world = World::on(private_bed().await, name).await;
    let settings = cmk_operator::runtime::operator::Settings { watch_namespaces: vec![], ..world.settings() };
    let operator = world.start_with(settings).await;
    (World { namespace: NAMESPACE.to_owned(), ..world }, operator)
}

/// kubectl as the administrator, for manifests that name their namespaces: `World::kubectl` names one.
pub fn kubectl(world: &World, args: &[&str]) -> Command {
    world.bed.control_plane.kubectl(args)
}

/// The Secret that `13-imported-key.yaml` asks for. The namespace has to exist.
pub async fn bring_material(world: &World) {
    let secret = Secret {
        metadata: ObjectMeta { name: Some("imported-material".into()), ..ObjectMeta::default() },
        data: Some([("material".to_owned(), ByteString(vec![7; 32]))].into()),
        ..Secret::default()
    };
    world.secrets().create(&PostParams::default(), &secret).await.unwrap();
}

/// The object that a document of ours describes.
async fn live(client: &Client, document: &Value) -> Result<DynamicObject, String> {
    let kind = document["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1alpha1", kind));
    let api: Api<DynamicObject> = match document["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.get(document["metadata"]["name"].as_str().unwrap()).await.map_err(|error| error.to_string())
}

/// All objects of ours in the examples, once each of them is Ready, by kind and name.
pub async fn ready(world: &World) -> BTreeMap<String, Value> {
    let documents: Vec<_> = documents().into_iter().filter(is_ours).collect();
    let name = |document: &Value| format!("{} {}", document["kind"], document["metadata"]["name"]);
    for document in &documents {
        // A store is Ready before the first key is in it, and then says that it is in use.
        let in_use = document["kind"] == "ClusterKeyStore"
            && documents.iter().any(|key| key["spec"]["keyStoreRef"]["name"] == document["metadata"]["name"]);
        eventually(&format!("{} to be ready", name(document)), SOON, async || {
            let object = live(&world.client, document).await?;
            let generation = object.metadata.generation;
            let is_true = |type_: &str| {
                object.data["status"]["conditions"].as_array().into_iter().flatten().any(|c| {
                    c["type"] == type_ && c["status"] == "True" && c["observedGeneration"].as_i64() == generation
                })
            };
            let ready = is_true("Ready") && (!in_use || is_true("InUse"));
            if ready { Ok(()) } else { Err(format!("{:?}", object.data["status"])) }
        })
        .await;
    }
    // All of them as they are when nothing changes any more.
    let mut found = BTreeMap::new();
    for document in &documents {
        let (name, object) = (name(document), live(&world.client, document).await.unwrap());
        assert_eq!(object.data["spec"], document["spec"], "{name}: what is stored is what was applied");
        assert!(object.resource_version().is_some());
        found.insert(name, serde_json::to_value(object).unwrap());
    }
    found
}
