//! A bad manifest is refused at once, with a sentence that names the field and says what it may be, and makes nothing
//! (design, rule 16). No operator runs here, and no policy is asked: the rules are in the CustomResourceDefinitions.

use cmk_operator::api::{ClusterKeyStore, CustomerMasterKey};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::world::{World, apply};

/// What the API server says against an object.
pub fn message(error: kube::Error) -> String {
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert!(status.code == 422 || status.code == 400, "{status:?}");
    status.message
}

/// Applies what is to be refused, in words that have all of `parts` and do not repeat the input.
async fn refused<K>(api: &Api<K>, (kind, name): (&str, &str), spec: &Value, parts: &[&str])
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let case: String = spec.to_string().chars().take(100).collect();
    let result = apply(api, name, kind, spec.clone()).await;
    let said = message(result.err().unwrap_or_else(|| panic!("{kind} {name} was accepted: {case}")));
    for part in parts {
        assert!(said.contains(part), "{case}: no {part:?} in {said}");
    }
    assert!(said.len() < 1000, "the message does not repeat the input: {} characters", said.len());
}

/// `spec` with more fields, or others.
fn with(spec: &Value, fields: &Value) -> Value {
    let mut spec = spec.clone();
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec
}

const KEY: &str = "CustomerMasterKey";
const KEY_ID: &str = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";

#[tokio::test]
async fn bad_input_in_a_key_is_refused_at_once() {
    let world = World::new("bad-key").await;
    let tags = |n: usize| (0..n).map(|i| (format!("t{i}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    for (spec, field, limit) in [
        (json!({"pendingDeletionDays": 6}), "spec.pendingDeletionDays", "7 to 366 days"),
        (json!({"pendingDeletionDays": 367}), "spec.pendingDeletionDays", "7 to 366 days"),
        (json!({"origin": "aliyun_kms"}), "spec.origin", "\"Aliyun_KMS\", \"AWS_KMS\", \"EXTERNAL\""),
        (json!({"origin": "External"}), "spec.origin", "\"Aliyun_KMS\", \"AWS_KMS\", \"EXTERNAL\""),
        (json!({"keyUsage": "encrypt/decrypt"}), "spec.keyUsage", "ENCRYPT/DECRYPT"),
        (json!({"description": "d".repeat(8193)}), "spec.description", "at most 8192 characters"),
        (json!({"description": "é".repeat(8193)}), "spec.description", "at most 8192 characters"),
        (json!({"tags": tags(21)}), "spec.tags", "20"),
        (json!({"tags": {"aliyun": "x"}}), "spec.tags", "aliyun, acs: or aws:"),
        (json!({"tags": {"": "x"}}), "spec.tags", "1 to 128 characters"),
        (json!({"tags": {"k": "v".repeat(257)}}), "spec.tags", "at most 256 characters"),
        (json!({"deletionPolicy": "Delete"}), "spec.deletionPolicy", "\"ScheduleDeletion\", \"Retain\""),
        (
            json!({"deletionProtection": true, "scheduleDeletion": true}),
            "spec.scheduleDeletion",
            "remove the protection",
        ),
        (json!({"rotationIntervalDays": 6}), "spec.rotationIntervalDays", "7 to 2560 days"),
        (json!({"rotationIntervalDays": 2561}), "spec.rotationIntervalDays", "7 to 2560 days"),
        (json!({"rotationIntervalDays": 365, "origin": "EXTERNAL"}), "spec.rotationIntervalDays", "must be absent"),
        (json!({"keyId": "orders"}), "spec.keyId", "groups of 8, 4, 4, 4 and 12"),
        (json!({"keyId": KEY_ID.to_uppercase()}), "spec.keyId", "lower-case hexadecimal digits"),
        (json!({"keyId": format!("{KEY_ID}{KEY_ID}")}), "spec.keyId", "36"),
        (json!({"keyStoreRef": {"name": "eu"}}), "spec.keyStoreRef.kind", "Required"),
        (json!({"keyStoreRef": {"kind": "ClusterKeyStore"}}), "spec.keyStoreRef.name", "Required"),
        (json!({"keyStoreRef": {"kind": "Vault", "name": "eu"}}), "spec.keyStoreRef.kind", "\"ClusterKeyStore\""),
        (json!({"keyStoreRef": {"kind": "ClusterKeyStore", "name": "E U"}}), "spec.keyStoreRef", "lower-case letters"),
        (json!({"allowedNamespaces": {"from": "Selector"}}), "spec.allowedNamespaces.selector", "must be given"),
        (json!({"allowedNamespaces": {"selector": {}}}), "spec.allowedNamespaces.selector", "only with that"),
        (
            json!({"allowedNamespaces": {"from": "None"}}),
            "spec.allowedNamespaces.from",
            "\"Same\", \"All\", \"Selector\"",
        ),
        (
            json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchExpressions": [
                {"key": "team", "operator": "Near", "values": ["a"]},
            ]}}}),
            "spec.allowedNamespaces.selector.matchExpressions[0].operator",
            "\"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
        ),
        (
            json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchExpressions": [
                {"key": "team", "operator": "In"},
            ]}}}),
            "spec.allowedNamespaces.selector.matchExpressions[0]",
            "In and NotIn need values",
        ),
    ] {
        refused(&world.keys(), (KEY, "bad"), &spec, &[field, limit]).await;
    }
    assert!(world.keys().list(&ListParams::default()).await.unwrap().items.is_empty(), "nothing was made");

    for (name, spec) in [
        ("longest", json!({"description": "d".repeat(8192)})),
        // Characters, not bytes.
        ("widest", json!({"description": "é".repeat(8192)})),
        ("shortest-window", json!({"pendingDeletionDays": 7})),
        ("longest-window", json!({"pendingDeletionDays": 366})),
        ("most-tags", json!({"tags": tags(20)})),
        ("fastest", json!({"rotationIntervalDays": 7})),
        ("slowest", json!({"rotationIntervalDays": 2560})),
        ("adopted", json!({"keyId": KEY_ID})),
        (
            "shared",
            json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchExpressions": [
                {"key": "team", "operator": "In", "values": ["a"]}, {"key": "frozen", "operator": "DoesNotExist"},
            ]}}}),
        ),
    ] {
        world.apply_key(name, spec).await;
    }
}

#[tokio::test]
async fn bad_input_in_an_alias_is_refused_at_once() {
    let world = World::new("bad-alias").await;
    let (form, acs, aws) = ("letters, digits, '/', '_' and '-' only", "begin with acs/", "begin with aws/");
    for (alias, sentence) in [
        ("", form),
        ("alias/", form),
        ("two words", form),
        ("alias/größe", form),
        ("alias/a:b", form),
        ("acs", acs),
        ("acs/x", acs),
        ("alias/acs", acs),
        ("alias/acs/DataKey", acs),
        ("aws/s3", aws),
        ("alias/aws/s3", aws),
        ("alias/aws", aws),
    ] {
        refused(&world.keys(), (KEY, "bad"), &json!({"alias": alias}), &["spec.alias", sentence]).await;
    }
    refused(&world.keys(), (KEY, "bad"), &json!({"alias": "a".repeat(257)}), &["spec.alias", "256"]).await;
    // The service key has its own name, and nothing else has it.
    let service = "acs-datakey";
    for spec in [json!({}), json!({"alias": "alias/orders"}), json!({"alias": "alias/acs/other"})] {
        refused(&world.keys(), (KEY, service), &spec, &["spec.alias", "must be alias/acs/DataKey"]).await;
    }
    let of_service = json!({"alias": "alias/acs/DataKey"});
    for (fields, parts) in [
        (json!({"enabled": false}), ["spec.enabled", "service-managed"]),
        (json!({"scheduleDeletion": true}), ["spec.scheduleDeletion", "service-managed"]),
        (json!({"origin": "EXTERNAL"}), ["spec.origin", "service-managed"]),
        (json!({"keyId": KEY_ID}), ["spec.keyId", "service-managed"]),
    ] {
        refused(&world.keys(), (KEY, service), &with(&of_service, &fields), &parts).await;
    }
    assert!(world.keys().list(&ListParams::default()).await.unwrap().items.is_empty(), "nothing was made");

    world.apply_key(service, of_service).await;
    for (name, alias) in [("with", "alias/orders"), ("without", "payroll"), ("longest", "a".repeat(255).as_str())] {
        world.apply_key(name, json!({"alias": alias})).await;
    }
}

#[tokio::test]
async fn bad_input_in_imported_material_is_refused_at_once() {
    let world = World::new("bad-import").await;
    let secret = json!({"secretRef": {"name": "material", "key": "material"}});
    let imported = |material: Value| json!({"origin": "EXTERNAL", "importedKeyMaterial": material});
    let wrapped = |wrapping: Value| imported(with(&secret, &json!({"wrapping": wrapping})));
    let named = |name: &str, key: &str| imported(json!({"secretRef": {"name": name, "key": key}}));
    for (spec, field, sentence) in [
        (json!({"importedKeyMaterial": secret}), "spec.importedKeyMaterial", "needs spec.origin EXTERNAL"),
        (
            json!({"origin": "AWS_KMS", "importedKeyMaterial": secret}),
            "spec.importedKeyMaterial",
            "needs spec.origin EXTERNAL",
        ),
        (imported(json!({})), "spec.importedKeyMaterial.secretRef", "Required"),
        (named("A", "material"), "spec.importedKeyMaterial.secretRef.name", "lower-case letters"),
        (named("", "material"), "spec.importedKeyMaterial.secretRef.name", "lower-case letters"),
        (named("material", ""), "spec.importedKeyMaterial.secretRef.key", "letters, digits"),
        (named("material", "a b"), "spec.importedKeyMaterial.secretRef.key", "letters, digits"),
        (imported(with(&secret, &json!({"expireTime": "soon"}))), "spec.importedKeyMaterial.expireTime", "date-time"),
        (
            wrapped(json!({"algorithm": "RSAES_OAEP_SHA_256"})),
            "spec.importedKeyMaterial.wrapping.importToken",
            "Required",
        ),
        (
            wrapped(json!({"algorithm": "RSA", "importToken": "Y2sB"})),
            "spec.importedKeyMaterial.wrapping.algorithm",
            "RSAES_OAEP_SHA_256",
        ),
        (
            wrapped(json!({"algorithm": "RSAES_OAEP_SHA_256", "importToken": "not base64"})),
            "spec.importedKeyMaterial.wrapping.importToken",
            "base64",
        ),
        (
            wrapped(json!({"algorithm": "RSAES_OAEP_SHA_256", "importToken": "A".repeat(16385)})),
            "spec.importedKeyMaterial.wrapping.importToken",
            "16384",
        ),
    ] {
        refused(&world.keys(), (KEY, "bad"), &spec, &[field, sentence]).await;
    }
    assert!(world.keys().list(&ListParams::default()).await.unwrap().items.is_empty(), "nothing was made");
    world.apply_key("material", imported(secret)).await;
}

#[tokio::test]
async fn bad_input_in_a_changed_key_is_refused_at_once() {
    let world = World::new("bad-update").await;
    let store = |name: &str| json!({"keyStoreRef": {"kind": "ClusterKeyStore", "name": name}});
    let material = json!({"secretRef": {"name": "material", "key": "material"}});
    let protected = json!({"origin": "EXTERNAL", "importedKeyMaterial": material, "deletionProtection": true});
    for (name, old, new, sentence) in [
        ("a", json!({}), json!({"keyId": KEY_ID}), "spec.keyId is immutable"),
        ("b", json!({"keyId": KEY_ID}), json!({}), "spec.keyId is immutable"),
        ("c", json!({}), store("eu"), "spec.keyStoreRef is immutable"),
        ("d", store("eu"), json!({}), "spec.keyStoreRef is immutable"),
        ("e", json!({}), json!({"origin": "EXTERNAL"}), "spec.origin is immutable"),
        ("f", protected.clone(), json!({"origin": "EXTERNAL"}), "spec.importedKeyMaterial must not be removed"),
        (
            "g",
            protected,
            json!({"origin": "EXTERNAL", "deletionProtection": true}),
            "spec.importedKeyMaterial must not be removed",
        ),
        (
            "h",
            json!({"deletionProtection": true}),
            json!({"scheduleDeletion": true}),
            "spec.scheduleDeletion must not be true in the same change",
        ),
        ("acs-datakey", json!({"alias": "alias/acs/DataKey"}), json!({}), "spec.alias"),
    ] {
        let before: CustomerMasterKey = world.apply_key(name, old).await;
        refused(&world.keys(), (KEY, name), &new, &[sentence]).await;
        assert_eq!(world.keys().get(name).await.unwrap(), before, "nothing was changed");
    }
    // Absent is the default, so this changes nothing.
    world.apply_key("c", store("default")).await;
}

#[tokio::test]
async fn bad_input_in_a_data_key_is_refused_at_once() {
    let world = World::new("bad-data-key").await;
    for (fields, field, limit) in [
        (json!({"numberOfBytes": 0}), "spec.numberOfBytes", "1 to 1024 bytes"),
        (json!({"numberOfBytes": -1}), "spec.numberOfBytes", "1 to 1024 bytes"),
        (json!({"numberOfBytes": 1025}), "spec.numberOfBytes", "1 to 1024 bytes"),
        (json!({"numberOfBytes": 32, "keySpec": "AES_256"}), "spec.numberOfBytes", "spec.keySpec"),
        (json!({"keySpec": "AES_512"}), "spec.keySpec", "\"AES_256\", \"AES_128\""),
        (json!({"encryptionContext": {"cmk-operator.dev/data-key": "a/b"}}), "spec.encryptionContext", "reserved"),
        (json!({"encryptionContext": {"cmk-operator.dev/x": "y"}}), "spec.encryptionContext", "reserved"),
        (json!({"encryptionContext": {"": "y"}}), "spec.encryptionContext", "1 to 1024 characters"),
        (json!({"encryptionContext": {"k": "v".repeat(2049)}}), "spec.encryptionContext", "2048 characters"),
        (json!({"ciphertextBlob": "not base64"}), "spec.ciphertextBlob", "base64"),
        (json!({"ciphertextBlob": "A".repeat(16388)}), "spec.ciphertextBlob", "16384"),
        (json!({"keyRef": {"name": "Orders"}}), "spec.keyRef.name", "lower-case letters"),
        (json!({"keyRef": {}}), "spec.keyRef.name", "Required"),
        (json!({"keyRef": {"name": "orders", "namespace": ""}}), "spec.keyRef.namespace", "lower-case letters"),
        (json!({"keyRef": {"name": "orders", "namespace": "a.b"}}), "spec.keyRef.namespace", "lower-case letters"),
        (json!({"secret": {"name": "A"}}), "spec.secret.name", "lower-case letters"),
        (json!({"secret": {"encoding": "raw"}}), "spec.secret.encoding", "\"Raw\", \"Base64\", \"Hex\""),
        (json!({"secret": {"labels": {"cmk-operator.dev/component": "x"}}}), "spec.secret.labels", "reserved"),
        (json!({"rotationIntervalDays": 0}), "spec.rotationIntervalDays", "1 to 2560 days"),
        (json!({"rotationIntervalDays": 2561}), "spec.rotationIntervalDays", "1 to 2560 days"),
        (
            json!({"rotationIntervalDays": 90, "secret": {"immutable": true}}),
            "spec.rotationIntervalDays",
            "an immutable Secret can't rotate",
        ),
        (
            json!({"rotationIntervalDays": 90, "ciphertextBlob": "Y2sB"}),
            "spec.rotationIntervalDays",
            "a given data key does not rotate",
        ),
    ] {
        let spec = with(&json!({"keyRef": {"name": "orders"}}), &fields);
        refused(&world.data_keys(), ("DataKey", "bad"), &spec, &[field, limit]).await;
    }
    assert!(world.data_keys().list(&ListParams::default()).await.unwrap().items.is_empty(), "nothing was made");

    let (orders, none) = (json!({"keyRef": {"name": "orders"}}), json!({}));
    let elsewhere = json!({"keyRef": {"name": "orders", "namespace": "other"}});
    for (name, old, new) in [("a", &orders, &elsewhere), ("b", &none, &orders), ("c", &orders, &none)] {
        world.apply_data_key(name, old.clone()).await;
        refused(&world.data_keys(), ("DataKey", name), new, &["spec.keyRef is immutable"]).await;
    }
}

#[tokio::test]
async fn bad_input_in_a_key_store_is_refused_at_once() {
    let world = World::new("bad-store").await;
    let stores: Api<ClusterKeyStore> = Api::all(world.client.clone());
    let (kind, name) = ("ClusterKeyStore", world.namespace.as_str());
    for (spec, field, sentence) in [
        (json!({}), "spec.embedded", "exactly one provider must be given"),
        (json!({"allowedNamespaces": {"from": "All"}}), "spec.embedded", "exactly one provider must be given"),
        (json!({"embedded": {"region": "EU"}}), "spec.embedded.region", "lower-case letters"),
        (json!({"embedded": {"region": "a:b"}}), "spec.embedded.region", "lower-case letters"),
        (json!({"embedded": {"region": "a".repeat(64)}}), "spec.embedded.region", "63"),
        (json!({"embedded": {"accountId": "1a"}}), "spec.embedded.accountId", "1 to 16 digits"),
        (json!({"embedded": {"accountId": "1".repeat(17)}}), "spec.embedded.accountId", "16"),
        (
            json!({"embedded": {"onNamespaceRecreated": "Adopt"}}),
            "spec.embedded.onNamespaceRecreated",
            "\"Stall\", \"NewKey\"",
        ),
        (
            json!({"embedded": {}, "allowedNamespaces": {"from": "Same"}}),
            "spec.allowedNamespaces.from",
            "All or Selector",
        ),
        (
            json!({"embedded": {}, "allowedNamespaces": {"from": "Selector"}}),
            "spec.allowedNamespaces.selector",
            "must be given",
        ),
    ] {
        refused(&stores, (kind, name), &spec, &[field, sentence]).await;
    }
    assert!(stores.get_opt(name).await.unwrap().is_none(), "nothing was made");

    apply(&stores, name, kind, json!({"embedded": {"region": "eu-west-1", "accountId": "1"}})).await.unwrap();
    for (spec, sentence) in [
        (json!({"embedded": {"accountId": "1"}}), "spec.embedded.region is immutable"),
        (json!({"embedded": {"region": "eu-west-2", "accountId": "1"}}), "spec.embedded.region is immutable"),
        (json!({"embedded": {"region": "eu-west-1"}}), "spec.embedded.accountId is immutable"),
    ] {
        refused(&stores, (kind, name), &spec, &[sentence]).await;
    }
    stores.delete(name, &DeleteParams::default()).await.unwrap();
}
