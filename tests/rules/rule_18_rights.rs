//! Rule 18: making an object needs the right that it exercises.

use cmk_operator::api::{
    ClusterKeyStore, CustomerMasterKey, DataKey,
    conditions::{STALLED, reason},
    metadata,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{blob, foreign_secret, merge},
    rule_12_rotation::rotated,
    support::world::{OPERATOR_NAMESPACE, World, apply},
    users::{WRITE, allowed, cluster_user, forget, refused, rule, user},
};

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
    // So does a rotation, which makes a new one.
    let rotate = Patch::Merge(json!({"metadata": {"annotations": {metadata::ROTATE_REQUESTED_AT: "1"}}}));
    let said = refused("a rotation", async || nobody.patch("dek", &PatchParams::default(), &rotate).await).await;
    assert!(said.contains("generatedatakey"), "{said}");
    allowed("a rotation", async || one_key.patch("dek", &PatchParams::default(), &rotate).await).await;
    // Other metadata and deletion don't.
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    allowed("a label", async || nobody.patch("dek", &PatchParams::default(), &label).await).await;
    let answered = Patch::Merge(json!({"metadata": {"annotations": {metadata::ROTATE_REQUESTED_AT: null}}}));
    allowed("taking a request away", async || nobody.patch("dek", &PatchParams::default(), &answered).await).await;
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
    let annotations = [metadata::CIPHERTEXT_BLOB, metadata::CIPHERTEXT_HISTORY];
    for part in ["decrypt", "spec.ciphertextBlob", annotations[0], annotations[1], "cmk-decrypter"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    allowed("spec.ciphertextBlob", async || apply(&decrypter, "brought", "DataKey", in_spec.clone()).await).await;
    world.data_key_ready("brought").await;

    let history = json!([{"ciphertextBlob": given, "generatedAt": "2026-01-01T00:00:00Z"}]).to_string();
    for (name, annotation, value) in [("annotated", annotations[0], &given), ("former", annotations[1], &history)] {
        let annotated: DataKey = serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "DataKey",
            "metadata": {"name": name, "annotations": {annotation: value}}, "spec": {"keyRef": {"name": "orders"}},
        }))
        .unwrap();
        let create = PostParams::default();
        refused(annotation, async || maker.create(&create, &annotated).await).await;
        allowed(annotation, async || decrypter.create(&create, &annotated).await).await;
        // Allowed, and of no use to them all the same.
        world.data_key_says(name, STALLED, "True", reason::FOREIGN_CIPHERTEXT).await;
    }

    // On an object that is there: brought counts, taken away or left alone does not.
    allowed("a data key", async || apply(&maker, "plain", "DataKey", json!({"keyRef": {"name": "orders"}})).await)
        .await;
    world.data_key_ready("plain").await;
    let annotate = |name: &str, value: Value| Patch::Merge(json!({"metadata": {"annotations": {name: value}}}));
    let params = PatchParams::default();
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    // With a history as well, which is there to be changed.
    merge(&world.data_keys(), "plain", json!({"metadata": {"annotations": {metadata::ROTATE_REQUESTED_AT: "1"}}}))
        .await;
    rotated(&world, "plain", 1).await;
    for (annotation, brought) in [(annotations[0], &given), (annotations[1], &history)] {
        let brought = annotate(annotation, json!(brought));
        refused("an update", async || maker.patch("plain", &params, &brought).await).await;
        allowed("a label", async || maker.patch("plain", &params, &label).await).await;
        let taken = annotate(annotation, Value::Null);
        allowed("taking it away", async || maker.patch("plain", &params, &taken).await).await;
        allowed("an update", async || decrypter.patch("plain", &params, &brought).await).await;
    }
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
    let store = &world.namespace;
    let stores: Api<ClusterKeyStore> = Api::all(world.client.clone());
    apply(&stores, store, "ClusterKeyStore", json!({"embedded": {}})).await.unwrap();
    refused("a key store's status", async || stores.patch_status(store, &params, &patch).await).await;
    stores.delete(store, &DeleteParams::default()).await.unwrap();
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

/// Its right to create Secrets would otherwise be the right to act as anybody.
#[tokio::test]
async fn rule_18_the_operator_has_no_token_made() {
    let world = World::new("r18-token").await;
    let api: Api<Secret> = Api::namespaced(world.operator_client().await, &world.namespace);
    let secret = |name: &str, type_: &str| -> Secret {
        let annotations = json!({"kubernetes.io/service-account.name": "default"});
        let metadata = json!({"name": name, "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "type": type_})).unwrap()
    };
    for type_ in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "mine"] {
        let made = async || api.create(&PostParams::default(), &secret("token", type_)).await;
        let said = refused("another type", made).await;
        assert!(said.contains("in other hands"), "{said}");
    }
    allowed("its own", async || api.create(&PostParams::default(), &secret("own", "Opaque")).await).await;
    // It is not about others.
    let others = secret("others", "kubernetes.io/service-account-token");
    allowed("somebody else", async || world.secrets().create(&PostParams::default(), &others).await).await;
}

#[tokio::test]
async fn rule_18_a_data_key_needs_generatedatakey_where_its_key_is() {
    let world = World::new("r18-elsewhere").await;
    let owner = format!("{}-owner", world.namespace);
    world.create_namespace(&owner).await;
    let spec = json!({"keyRef": {"name": "orders", "namespace": owner}});
    let generate = rule(&["customermasterkeys"], &["generatedatakey"], &[]);
    let here = json!([rule(&["datakeys"], &WRITE, &[]), generate]);
    let api = data_keys(&user(&world, &world.namespace, "maker", here).await, &world.namespace);

    // The right in one's own namespace says nothing about another's key.
    let said = refused("another's key", async || apply(&api, "dek", "DataKey", spec.clone()).await).await;
    assert!(said.contains(&format!("{owner}/orders")) && said.contains("generatedatakey"), "{said}");
    allowed("one's own", async || apply(&api, "own", "DataKey", json!({"keyRef": {"name": "orders"}})).await).await;
    let orders = rule(&["customermasterkeys"], &["generatedatakey"], &["orders"]);
    user(&world, &owner, "maker", json!([orders])).await;
    allowed("another's key", async || apply(&api, "dek", "DataKey", spec.clone()).await).await;
    let payroll = json!({"keyRef": {"name": "payroll", "namespace": owner}});
    refused("another key of theirs", async || apply(&api, "other", "DataKey", payroll.clone()).await).await;

    // A ciphertext of another namespace's key needs decrypt there.
    let brought = json!({"keyRef": {"name": "orders", "namespace": owner}, "ciphertextBlob": "Y2sB"});
    let said = refused("a ciphertext", async || apply(&api, "brought", "DataKey", brought.clone()).await).await;
    assert!(said.contains(&format!("{owner}/orders")) && said.contains("decrypt"), "{said}");
}

/// The service key is there for all DataKeys of its namespace; what it encrypted is not.
#[tokio::test]
async fn rule_18_without_key_ref_only_a_ciphertext_needs_a_right() {
    let world = World::new("r18-service").await;
    let write = || rule(&["datakeys"], &WRITE, &[]);
    let maker = data_keys(&user(&world, &world.namespace, "maker", json!([write()])).await, &world.namespace);
    allowed("a data key", async || apply(&maker, "dek", "DataKey", json!({})).await).await;
    let brought = json!({"ciphertextBlob": "Y2sB"});
    let said = refused("a ciphertext", async || apply(&maker, "brought", "DataKey", brought.clone()).await).await;
    assert!(said.contains(&format!("{}/acs-datakey", world.namespace)) && said.contains("decrypt"), "{said}");
    for annotation in [metadata::CIPHERTEXT_BLOB, metadata::CIPHERTEXT_HISTORY] {
        let annotate = Patch::Merge(json!({"metadata": {"annotations": {annotation: "Y2sB"}}}));
        refused(annotation, async || maker.patch("dek", &PatchParams::default(), &annotate).await).await;
    }

    let rules = json!([write(), rule(&["customermasterkeys"], &["decrypt"], &["acs-datakey"])]);
    let decrypter = data_keys(&user(&world, &world.namespace, "decrypter", rules).await, &world.namespace);
    allowed("a ciphertext", async || apply(&decrypter, "brought", "DataKey", brought.clone()).await).await;
    // Named, it is a key like any other.
    let named = json!({"keyRef": {"name": metadata::SERVICE_KEY}});
    refused("naming it", async || apply(&maker, "named", "DataKey", named.clone()).await).await;
}

#[tokio::test]
async fn rule_18_importing_needs_get_on_the_secret() {
    let world = World::new("r18-import").await;
    let keys = |client: Client| -> Api<CustomerMasterKey> { Api::namespaced(client, &world.namespace) };
    let write = || rule(&["customermasterkeys"], &WRITE, &[]);
    let read =
        |names: &[&str]| json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": names});
    let writer = keys(user(&world, &world.namespace, "writer", json!([write()])).await);
    let reader = keys(user(&world, &world.namespace, "reader", json!([write(), read(&["material"])])).await);
    let spec = |secret: &str, more: Value| {
        let mut spec = json!({
            "origin": "EXTERNAL", "importedKeyMaterial": {"secretRef": {"name": secret, "key": "material"}},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let apply = async |api: &Api<CustomerMasterKey>, spec: Value| apply(api, "orders", "CustomerMasterKey", spec).await;

    let said = refused("the Secret", async || apply(&writer, spec("material", json!({}))).await).await;
    for part in ["writer", "spec.importedKeyMaterial.secretRef", &format!("{}/material", world.namespace), "get"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    refused("another Secret", async || apply(&reader, spec("other", json!({}))).await).await;
    allowed("without material", async || apply(&writer, json!({"origin": "EXTERNAL"})).await).await;
    refused("the Secret, later", async || apply(&writer, spec("material", json!({}))).await).await;
    allowed("the Secret", async || apply(&reader, spec("material", json!({}))).await).await;

    // Declared once, it does not stop anybody from changing the rest, or from taking it away.
    allowed("a change", async || apply(&writer, spec("material", json!({"description": "Orders"}))).await).await;
    refused("a change of the Secret", async || apply(&writer, spec("other", json!({}))).await).await;
    allowed("taking it away", async || apply(&writer, json!({"origin": "EXTERNAL"})).await).await;
}

#[tokio::test]
async fn rule_18_adopting_a_key_needs_adopt_on_its_store() {
    let world = World::new("r18-key-id").await;
    let write = || rule(&["customermasterkeys"], &WRITE, &[]);
    let adopt = |stores: &[&str]| rule(&["clusterkeystores"], &["adopt"], stores);
    let keys = |client: Client| -> Api<CustomerMasterKey> { Api::namespaced(client, &world.namespace) };
    let writer = keys(user(&world, &world.namespace, "writer", json!([write()])).await);
    let of_default = keys(cluster_user(&world, "of-default", json!([write(), adopt(&["default"])])).await);
    let of_eu = keys(cluster_user(&world, "of-eu", json!([write(), adopt(&["eu"])])).await);
    let id = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";
    let in_default = json!({"keyId": id});
    let in_eu = json!({"keyId": id, "keyStoreRef": {"kind": "ClusterKeyStore", "name": "eu"}});
    let apply = async |api: &Api<CustomerMasterKey>, name: &str, spec: &Value| {
        apply(api, name, "CustomerMasterKey", spec.clone()).await
    };

    let said = refused("a key of default", async || apply(&writer, "orders", &in_default).await).await;
    for part in ["writer", "spec.keyId", "ClusterKeyStore default", "verb adopt", "cmk-adopter"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = refused("a key of eu", async || apply(&of_default, "orders", &in_eu).await).await;
    assert!(said.contains("ClusterKeyStore eu"), "{said}");
    refused("a key of default", async || apply(&of_eu, "orders", &in_default).await).await;
    allowed("a key of default", async || apply(&of_default, "orders", &in_default).await).await;
    allowed("a key of eu", async || apply(&of_eu, "orders-eu", &in_eu).await).await;
    // What is adopted already is changed by who may change it.
    let described = json!({"keyId": id, "description": "Orders"});
    allowed("a change", async || apply(&writer, "orders", &described).await).await;

    for name in ["of-default", "of-eu"] {
        forget(&world, name).await;
    }
}

#[tokio::test]
async fn rule_18_adopt_keys_needs_adopt() {
    let world = World::new("r18-adopt").await;
    let write = json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create", "update", "patch", "get"]});
    let plain: Api<Namespace> = Api::all(cluster_user(&world, "plain", json!([write])).await);
    let adopt = |stores: &[&str]| json!([write, rule(&["clusterkeystores"], &["adopt"], stores)]);
    let adopter: Api<Namespace> = Api::all(cluster_user(&world, "adopter", adopt(&[])).await);
    let of_one: Api<Namespace> = Api::all(cluster_user(&world, "of-one", adopt(&["default"])).await);
    let annotate = |value: Value| Patch::Merge(json!({"metadata": {"annotations": {metadata::ADOPT_KEYS: value}}}));
    let params = PatchParams::default();
    let name = &world.namespace;

    let said = refused("the annotation", async || plain.patch(name, &params, &annotate(json!("true"))).await).await;
    assert!(said.contains("adopt on all clusterkeystores") && said.contains(name), "{said}");
    // It takes the keys of whichever store, so the right to one store is not enough.
    refused("the annotation", async || of_one.patch(name, &params, &annotate(json!("true"))).await).await;
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

    for name in ["plain", "adopter", "of-one"] {
        forget(&world, name).await;
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
    world.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    world.delete_key("orders").await;
    let metrics = operator.metrics.render();
    assert!(!metrics.contains("result=\"forbidden\"") && !metrics.contains("result=\"refused\""), "{metrics}");
    operator.stop().await.unwrap();
}
