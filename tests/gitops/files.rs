//! The files in `gitops/` are what kubectl can read, and name what there is.

use std::{fs, path::Path, process::Command};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    support::world::{bed, succeed},
    tools::REPOSITORY,
};

fn documents(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(REPOSITORY).join(path)).unwrap();
    serde_yaml_ng::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// The component puts a health script for each of our kinds into the ConfigMap that Argo CD has, and leaves what else is
/// in it.
#[tokio::test]
async fn the_kustomize_component_extends_the_configuration_of_argo_cd() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::create_dir(here.join("health")).unwrap();
    for file in ["argocd-cm.yaml", "kustomization.yaml"] {
        fs::copy(Path::new(REPOSITORY).join("gitops/argocd").join(file), here.join("health").join(file)).unwrap();
    }
    let theirs =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: argocd-cm, namespace: argocd}\ndata: {url: there}\n";
    fs::write(here.join("theirs.yaml"), theirs).unwrap();
    fs::write(here.join("kustomization.yaml"), "resources: [theirs.yaml]\ncomponents: [health]\n").unwrap();
    let mut kubectl: Command = bed().await.control_plane.kubectl(["kustomize", here.to_str().unwrap()]);
    let map: Value = serde_yaml_ng::from_str(&succeed(&mut kubectl)).unwrap();
    assert_eq!(map["data"]["url"], "there");
    for crd in cmk_operator::api::crds::crds() {
        let key = format!("resource.customizations.health.{}_{}", crd.spec.group, crd.spec.names.kind);
        assert!(map["data"][&key].as_str().is_some_and(|script| script.contains("return {status")), "{key}");
    }
}

#[test]
fn the_examples_name_what_there_is() {
    let flux = documents("gitops/flux/keys.yaml");
    let binding = flux.iter().find(|document| document["kind"] == "RoleBinding").unwrap();
    let role = binding["roleRef"]["name"].as_str().unwrap();
    let roles = documents("deploy/rbac.yaml");
    assert!(roles.iter().any(|document| document["kind"] == "ClusterRole" && document["metadata"]["name"] == role));
    let keys = flux.iter().find(|document| document["metadata"]["name"] == "shop-keys").unwrap();
    assert_eq!(keys["spec"]["serviceAccountName"], binding["subjects"][0]["name"]);
    assert_eq!(keys["spec"]["dependsOn"][0]["name"], "cmk-operator");
    for document in
        documents("gitops/flux/operator.yaml").into_iter().chain(documents("gitops/argocd/applications.yaml"))
    {
        assert!(document["kind"].is_string() && document["metadata"]["name"].is_string(), "{document}");
    }
}
