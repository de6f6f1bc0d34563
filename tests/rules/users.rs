//! Users with some rights, and what they are allowed and refused.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{SOON, World},
};

pub const GROUP: &str = "kms.cmk-operator.dev";

/// A user who may do this in a namespace. Asked for again in another namespace, the same user may do more.
pub async fn user(world: &World, namespace: &str, name: &str, rules: Value) -> Client {
    let user = format!("{name}-{}", world.namespace);
    let role = json!({"metadata": {"name": user}, "rules": rules});
    let role: Role = serde_json::from_value(role).unwrap();
    Api::namespaced(world.client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
    let binding = json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    let binding: RoleBinding = serde_json::from_value(binding).unwrap();
    Api::namespaced(world.client.clone(), namespace).create(&PostParams::default(), &binding).await.unwrap();
    world.bed.control_plane.client_as(&user, &["system:authenticated"]).await
}

pub fn rule(resources: &[&str], verbs: &[&str], names: &[&str]) -> Value {
    json!({"apiGroups": [GROUP], "resources": resources, "verbs": verbs, "resourceNames": names})
}

pub const WRITE: [&str; 5] = ["get", "create", "update", "patch", "delete"];

/// Tries until it is allowed: RBAC takes a moment.
pub async fn allowed<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, kube::Error>) -> T {
    eventually(&format!("{what} to be allowed"), SOON, async || attempt().await.map_err(|e| e.to_string())).await
}

/// Tries until it is a policy that refuses, not RBAC, and returns what it says.
pub async fn refused<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, kube::Error>) -> String {
    eventually(&format!("{what} to be refused by a policy"), SOON, async || match attempt().await {
        Ok(_) => panic!("{what} was allowed"),
        Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => {
            assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"), "{}", status.message);
            Ok(status.message)
        }
        Err(other) => Err(other.to_string()),
    })
    .await
}

/// A user who may do this everywhere, until [`forget`].
pub async fn cluster_user(world: &World, name: &str, rules: Value) -> Client {
    let user = format!("{name}-{}", world.namespace);
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": user}, "rules": rules})).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &role).await.unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }))
    .unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
    world.bed.control_plane.client_as(&user, &["system:authenticated"]).await
}

/// Takes the rights of a [`cluster_user`] away.
pub async fn forget(world: &World, name: &str) {
    let user = format!("{name}-{}", world.namespace);
    let params = DeleteParams::default();
    Api::<ClusterRole>::all(world.client.clone()).delete(&user, &params).await.unwrap();
    Api::<ClusterRoleBinding>::all(world.client.clone()).delete(&user, &params).await.unwrap();
}
