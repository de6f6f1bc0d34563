//! When policies are in force.

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::ConfigMap,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use super::{eventually, world::SOON};

/// Waits until the API server heeds all policies that are there now. It takes up what its watches have shown once a second,
/// and may have done that between two of them: one that is made after them tells, and goes again.
///
/// Not by trying to delete a namespace: for half a minute after that, every write there has the API server read the
/// namespace, and the benchmark counts requests.
pub async fn in_force(client: Client, namespace: &str) {
    let name = format!("in-force-{:08x}", rand::random::<u32>());
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]},
            ]},
            "validations": [{"expression": format!("object.metadata.name != '{name}'")}],
        },
    });
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();

    let config_maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let config_map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the policies to be in force", SOON, async || match config_maps.create(&params, &config_map).await {
        Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
}
