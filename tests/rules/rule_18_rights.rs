//! Rule 18: making an object needs the right that it exercises.

use cmk_operator::api::{
    CustomerMasterKey, DataKey,
    conditions::{STALLED, reason},
    metadata,
};
use k8s_openapi::api::{
    core::v1::Namespace,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{blob, foreign_secret, merge},
    support::{
        eventually,
        world::{OPERATOR_NAMESPACE, SOON, World, apply},
    },
};

const GROUP: &str = "kms.cmk-operator.dev";

/// A user who may do this, in the test's namespace and nothing else.
async fn user(world: &World, namespace: &str, name: &str, rules: Value) -> Client {
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

fn rule(resources: &[&str], verbs: &[&str], names: &[&str]) -> Value {
    json!({"apiGroups": [GROUP], "resources": resources, "verbs": verbs, "resourceNames": names})
}

const WRITE: [&str; 5] = ["get", "create", "update", "patch", "delete"];

/// Tries until it is allowed: RBAC takes a moment.
async fn allowed<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, kube::Error>) -> T {
    eventually(&format!("{what} to be allowed"), SOON, async || attempt().await.map_err(|e| e.to_string())).await
}

/// Tries until it is a policy that refuses, not RBAC, and returns what it says.
async fn refused<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, kube::Error>) -> String {
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

fn data_keys(client: &Client, namespace: &str) -> Api<DataKey> {
    Api::namespaced(client.clone(), namespace)
}

#[tokio::test]
async fn rule_18_a_data_key_needs_generatedatakey_on_its_key() {
    let (world, operator) = World::with_operator("r18-generate").await;
    for key in ["orders", "payroll"] {
        world.apply_key(key, json!({})).await;
        world.key_ready(key).await;
    }
    let spec = |key: &str| json!({"keyRef": {"name": key}});
    let write = || rule(&["datakeys"], &WRITE, &[]);

    let nobody = data_keys(&user(&world, &world.namespace, "nobody", json!([write()])).await, &world.namespace);
    let said = refused("a data key", async || apply(&nobody, "dek", "DataKey", spec("orders")).await).await;
    for part in ["generatedatakey", "nobody", &format!("{}/orders", world.namespace), "cmk-edit"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(world.data_keys().get_opt("dek").await.unwrap().is_none());

    let rules = json!([write(), rule(&["customermasterkeys"], &["generatedatakey"], &["orders"])]);
    let one_key = data_keys(&user(&world, &world.namespace, "one-key", rules).await, &world.namespace);
    allowed("a data key", async || apply(&one_key, "dek", "DataKey", spec("orders")).await).await;
    world.data_key_ready("dek").await;
    refused("one under another key", async || apply(&one_key, "other", "DataKey", spec("payroll")).await).await;

    // Changing the spec needs it too: it could send the data key to a Secret that one may read.
    let moved = json!({"keyRef": {"name": "orders"}, "secret": {"name": "mine"}});
    refused("a change", async || apply(&nobody, "dek", "DataKey", moved.clone()).await).await;
    // Metadata and deletion don't.
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    allowed("a label", async || nobody.patch("dek", &PatchParams::default(), &label).await).await;
    allowed("a deletion", async || nobody.delete("dek", &DeleteParams::default()).await).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_18_bringing_a_ciphertext_needs_decrypt() {
    let (world, operator) = World::with_operator("r18-decrypt").await;
    world.apply_key("orders", json!({})).await;
    world.apply_data_key("origin", json!({"keyRef": {"name": "orders"}})).await;
    let given = blob(&world.data_key_ready("origin").await);
    let write = || rule(&["datakeys"], &WRITE, &[]);
    let rules = |verbs: &[&str]| json!([write(), rule(&["customermasterkeys"], verbs, &["orders"])]);
    let maker = user(&world, &world.namespace, "maker", rules(&["generatedatakey"])).await;
    let maker = data_keys(&maker, &world.namespace);
    let decrypter = user(&world, &world.namespace, "decrypter", rules(&["generatedatakey", "decrypt"])).await;
    let decrypter = data_keys(&decrypter, &world.namespace);

    let identity = format!("{}/origin", world.namespace);
    let in_spec = json!({
        "keyRef": {"name": "orders"}, "ciphertextBlob": given,
        "encryptionContext": {metadata::DATA_KEY: identity},
    });
    let said =
        refused("spec.ciphertextBlob", async || apply(&maker, "brought", "DataKey", in_spec.clone()).await).await;
    for part in ["decrypt", "spec.ciphertextBlob", metadata::CIPHERTEXT_BLOB, "cmk-decrypter"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    allowed("spec.ciphertextBlob", async || apply(&decrypter, "brought", "DataKey", in_spec.clone()).await).await;
    world.data_key_ready("brought").await;

    let annotated: DataKey = serde_json::from_value(json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "DataKey",
        "metadata": {"name": "annotated", "annotations": {metadata::CIPHERTEXT_BLOB: given}},
        "spec": {"keyRef": {"name": "orders"}},
    }))
    .unwrap();
    let create = PostParams::default();
    refused("the annotation", async || maker.create(&create, &annotated).await).await;
    allowed("the annotation", async || decrypter.create(&create, &annotated).await).await;
    // Allowed, and of no use to them all the same.
    world.data_key_says("annotated", STALLED, "True", reason::FOREIGN_CIPHERTEXT).await;

    // On an object that is there: brought counts, taken away or left alone does not.
    allowed("a data key", async || apply(&maker, "plain", "DataKey", json!({"keyRef": {"name": "orders"}})).await)
        .await;
    world.data_key_ready("plain").await;
    let annotate =
        |value: Value| Patch::Merge(json!({"metadata": {"annotations": {metadata::CIPHERTEXT_BLOB: value}}}));
    let params = PatchParams::default();
    refused("an update", async || maker.patch("plain", &params, &annotate(json!(given))).await).await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    allowed("a label", async || maker.patch("plain", &params, &label).await).await;
    allowed("taking it away", async || maker.patch("plain", &params, &annotate(Value::Null)).await).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_18_status_is_the_operators() {
    let (world, operator) = World::with_operator("r18-status").await;
    world.apply_key("orders", json!({})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let (key, data_key) = (world.key_ready("orders").await, world.data_key_ready("dek").await);
    let all = ["customermasterkeys", "customermasterkeys/status", "datakeys", "datakeys/status"];
    let rules = json!([rule(&all, &WRITE, &[])]);
    let client = user(&world, &world.namespace, "writer", rules).await;
    let (keys, data_keys): (Api<CustomerMasterKey>, _) =
        (Api::namespaced(client.clone(), &world.namespace), data_keys(&client, &world.namespace));

    let params = PatchParams::default();
    let patch = Patch::Merge(json!({"status": {"conditions": []}}));
    let create = PostParams::default();
    for said in [
        refused("a key's status", async || keys.patch_status("orders", &params, &patch).await).await,
        refused("a key's status", async || keys.replace_status("orders", &create, &key).await).await,
        refused("a data key's status", async || data_keys.patch_status("dek", &params, &patch).await).await,
        refused("a data key's status", async || data_keys.replace_status("dek", &create, &data_key).await).await,
    ] {
        assert!(said.contains("only the operator") && said.contains("writes status"), "{said}");
    }
    // Not even an administrator.
    refused("an administrator", async || world.data_keys().patch_status("dek", &params, &patch).await).await;
    // In the object it is ignored.
    let blob = json!({"status": {"ciphertextBlob": "AAAA"}});
    merge(&world.data_keys(), "dek", blob).await;
    assert_eq!(world.data_keys().get("dek").await.unwrap(), data_key);
    assert_eq!(world.keys().get("orders").await.unwrap(), key);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_18_no_data_keys_beside_the_operator() {
    let world = World::new("r18-own").await;
    let client = user(
        &world,
        OPERATOR_NAMESPACE,
        "inside",
        json!([rule(&["datakeys"], &WRITE, &[]), rule(&["customermasterkeys"], &["generatedatakey", "decrypt"], &[]),]),
    )
    .await;
    let spec = json!({"keyRef": {"name": "orders"}});
    let name = format!("dek-{:08x}", rand::random::<u32>());
    for client in [client, world.client.clone()] {
        let api = data_keys(&client, OPERATOR_NAMESPACE);
        let said = refused("a data key", async || apply(&api, &name, "DataKey", spec.clone()).await).await;
        assert!(said.contains("refused in cmk-system"), "{said}");
    }
    for (kind, user) in [("role", "inside"), ("rolebinding", "inside")] {
        let name = format!("{user}-{}", world.namespace);
        let status =
            world.bed.control_plane.kubectl(["--namespace", OPERATOR_NAMESPACE, "delete", kind, &name]).output();
        assert!(status.unwrap().status.success());
    }
}

#[tokio::test]
async fn rule_18_adopt_keys_needs_adopt() {
    let world = World::new("r18-adopt").await;
    let mut clients = Vec::new();
    for (name, adopt) in [("plain", false), ("adopter", true)] {
        let user = format!("{name}-{}", world.namespace);
        let mut rules = vec![
            json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create", "update", "patch", "get"]}),
        ];
        if adopt {
            rules.push(json!({"apiGroups": [GROUP], "resources": ["clusterkeystores"], "verbs": ["adopt"]}));
        }
        let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": user}, "rules": rules})).unwrap();
        Api::all(world.client.clone()).create(&PostParams::default(), &role).await.unwrap();
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
        .unwrap();
        Api::all(world.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
        clients.push((user.clone(), world.bed.control_plane.client_as(&user, &["system:authenticated"]).await));
    }
    let namespaces = |i: usize| -> Api<Namespace> { Api::all(clients[i].1.clone()) };
    let (plain, adopter) = (namespaces(0), namespaces(1));
    let annotate = |value: Value| Patch::Merge(json!({"metadata": {"annotations": {metadata::ADOPT_KEYS: value}}}));
    let params = PatchParams::default();
    let name = &world.namespace;

    let said = refused("the annotation", async || plain.patch(name, &params, &annotate(json!("true"))).await).await;
    assert!(said.contains("adopt on clusterkeystores") && said.contains(name), "{said}");
    let made: Namespace = serde_json::from_value(json!({
        "metadata": {"name": format!("{name}-new"), "annotations": {metadata::ADOPT_KEYS: "true"}},
    }))
    .unwrap();
    refused("a namespace with it", async || plain.create(&PostParams::default(), &made).await).await;

    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    allowed("a label", async || plain.patch(name, &params, &label).await).await;
    allowed("the annotation", async || adopter.patch(name, &params, &annotate(json!("true"))).await).await;
    // It is newly setting it that needs the right.
    let other = Patch::Merge(json!({"metadata": {"labels": {"a": "c"}}}));
    allowed("a label", async || plain.patch(name, &params, &other).await).await;
    allowed("taking it away", async || plain.patch(name, &params, &annotate(Value::Null)).await).await;
    refused("the annotation again", async || plain.patch(name, &params, &annotate(json!("true"))).await).await;

    for (user, _) in &clients {
        Api::<ClusterRole>::all(world.client.clone()).delete(user, &DeleteParams::default()).await.unwrap();
        Api::<ClusterRoleBinding>::all(world.client.clone()).delete(user, &DeleteParams::default()).await.unwrap();
    }
}

/// The operator itself passes: it writes the annotation and status of every data key, with what it ships.
#[tokio::test]
async fn rule_18_the_operator_needs_no_more_than_it_ships() {
    let (world, operator) = World::with_operator("r18-operator").await;
    world.apply_key("orders", json!({})).await;
    foreign_secret(&world, "dek").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_says("dek", STALLED, "True", reason::SECRET_CONFLICT).await;
    world
        .apply_data_key(
            "dek",
            json!({"keyRef": {"name": "orders"}, "secret": {"name": "dek-2", "deletionPolicy": "Delete"}}),
        )
        .await;
    world.data_key_ready("dek").await;
    world.delete_key("orders").await;
    let metrics = operator.metrics.render();
    assert!(!metrics.contains("result=\"forbidden\"") && !metrics.contains("result=\"refused\""), "{metrics}");
    operator.stop().await.unwrap();
}
