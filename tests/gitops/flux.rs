//! What Flux does before it applies: whatever a manager called `kubectl…` owns becomes its own, so that what its manifest does
//! not have is removed. It is meant to undo what somebody did with kubectl. Here it is done by hand, as Flux does it.

use std::process::Command;

use cmk_operator::api::metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{SOON, World, key_id, key_state, succeed},
};

const FLUX: &str = "kustomize-controller";

/// The union of two sets of fields.
fn union(into: &mut Value, from: &Value) {
    for (name, inner) in from.as_object().into_iter().flatten() {
        union(into.as_object_mut().unwrap().entry(name).or_insert(json!({})), inner);
    }
}

/// Gives what the managers whose name begins with this own to another one.
async fn hand_over<K>(api: &Api<K>, name: &str, from: &str, to: &str, operation: &str)
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    eventually("nobody else to write the object meanwhile", SOON, async || {
        let object = api.get(name).await.unwrap();
        match api.patch(name, &PatchParams::default(), &Patch::Merge(handed_over(&object, from, to, operation))).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(status.to_string()),
            other => Ok(other.unwrap()),
        }
    })
    .await;
}

/// The patch that says so of an object as it is.
fn handed_over<K: Resource>(object: &K, from: &str, to: &str, operation: &str) -> Value {
    let theirs = |entry: &ManagedFieldsEntry| {
        let is_update = entry.operation.as_deref() == Some("Update") && entry.subresource.is_none();
        (is_update && entry.manager.as_deref().is_some_and(|manager| manager.starts_with(from)))
            || (entry.manager.as_deref() == Some(to) && entry.operation.as_deref() == Some(operation))
    };
    let (taken, mut kept): (Vec<_>, Vec<_>) = object.managed_fields().iter().cloned().partition(theirs);
    let mut fields = json!({});
    taken.iter().for_each(|entry| union(&mut fields, &entry.fields_v1.as_ref().unwrap().0));
    assert!(!taken.is_empty(), "nobody called {from}: {kept:?}");
    kept.push(ManagedFieldsEntry {
        manager: Some(to.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..taken[0].clone()
    });
    json!({"metadata": {"resourceVersion": object.resource_version(), "managedFields": kept}})
}

/// Applies a manifest as Flux does.
async fn apply<K>(api: &Api<K>, kind: &str, name: &str, spec: Value) -> K
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let object = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    api.patch(name, &PatchParams::apply(FLUX).force(), &Patch::Apply(object)).await.unwrap()
}

/// A key that was disabled in an emergency stays so; what was done with kubectl itself is undone, as Flux has it.
#[tokio::test]
async fn what_kubectl_cmk_does_stays() {
    let (world, operator) = World::with_operator("flux-cmk").await;
    for name in ["plugin", "kubectl"] {
        apply(&world.keys(), "CustomerMasterKey", name, json!({"description": "from Git"})).await;
        world.key_ready(name).await;
    }
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_kubectl-cmk"));
    plugin.args(["disable", "plugin", "--namespace", &world.namespace, "--no-wait"]);
    succeed(plugin.env("KUBECONFIG", world.bed.control_plane.admin_kubeconfig()).env_remove("https_proxy"));
    let spec = json!({"spec": {"enabled": false}}).to_string();
    succeed(&mut world.kubectl(&["patch", "cmk", "kubectl", "--type=merge", "-p", &spec]));
    hand_over(&world.keys(), "kubectl", "kubectl", FLUX, "Apply").await;
    for (name, enabled) in [("plugin", Some(false)), ("kubectl", None)] {
        let owners: Vec<_> = world.keys().get(name).await.unwrap().managed_fields().to_vec();
        let left = owners.iter().filter(|entry| entry.manager.as_ref().unwrap().starts_with("kubectl")).count();
        assert_eq!(left, 0, "{name}: Flux finds nothing to take");
        let applied = apply(&world.keys(), "CustomerMasterKey", name, json!({"description": "from Git"})).await;
        assert_eq!(applied.spec.enabled, enabled, "{name}");
    }
    assert_eq!(key_state(&world.key_ready("plugin").await), "Disabled");
    assert_eq!(key_state(&world.key_ready("kubectl").await), "Enabled");
    operator.stop().await.unwrap();
}

/// Restored with `kubectl create`, the operator's annotations and finalizer are kubectl's as well, and go when Flux comes: the
/// operator puts them back, with the same key and data key.
#[tokio::test]
async fn what_was_restored_with_kubectl_is_the_same_after_flux() {
    let (world, operator) = World::with_operator("flux-restored").await;
    apply(&world.keys(), "CustomerMasterKey", "orders", json!({})).await;
    let spec = || json!({"keyRef": {"name": "orders"}});
    apply(&world.data_keys(), "DataKey", "dek", spec()).await;
    let (key, data_key) = (world.key_ready("orders").await, world.data_key_ready("dek").await);
    operator.stop().await.unwrap();
    hand_over(&world.keys(), "orders", metadata::MANAGER, "kubectl-create", "Update").await;
    hand_over(&world.data_keys(), "dek", metadata::MANAGER, "kubectl-create", "Update").await;

    let operator = world.start().await;
    hand_over(&world.keys(), "orders", "kubectl", FLUX, "Apply").await;
    hand_over(&world.data_keys(), "dek", "kubectl", FLUX, "Apply").await;
    let applied = apply(&world.keys(), "CustomerMasterKey", "orders", json!({})).await;
    assert!(applied.finalizers().is_empty() && applied.annotations().is_empty(), "{applied:?}");
    let applied = apply(&world.data_keys(), "DataKey", "dek", spec()).await;
    assert!(applied.annotations().is_empty(), "{applied:?}");
    eventually("annotations and finalizer to be back", SOON, async || {
        let now = world.keys().get("orders").await.map_err(|e| e.to_string())?;
        let dek = world.data_keys().get("dek").await.map_err(|e| e.to_string())?;
        let same = now.finalizers() == key.finalizers()
            && now.annotations() == key.annotations()
            && dek.annotations() == data_key.annotations();
        if same { Ok(()) } else { Err(format!("{:?} {:?}", now.metadata, dek.metadata)) }
    })
    .await;
    assert_eq!(key_id(&world.key_ready("orders").await), key_id(&key));
    let blob = world.data_key_ready("dek").await.status.unwrap().ciphertext_blob;
    assert_eq!(blob, data_key.status.unwrap().ciphertext_blob);
    assert_eq!(world.records().await.len(), 1);
    operator.stop().await.unwrap();
}
