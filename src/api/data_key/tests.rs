use serde_json::{Value, json};

use super::*;
use crate::api::testing::check;

/// A DataKey under the key `orders`, with these fields besides.
fn data_key(fields: &Value) -> DataKey {
    let mut spec = json!({"keyRef": {"name": "orders"}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    DataKey::new("orders-dek", serde_json::from_value(spec).unwrap())
}

fn check_all(table: impl IntoIterator<Item = (Value, &'static str)>) {
    for (fields, expected) in table {
        let case: String = fields.to_string().chars().take(60).collect();
        check(data_key(&fields).validate_cel(), expected, &case);
    }
}

/// Limits are tried with ASCII: the API server counts characters, kube's evaluation counts bytes.
#[test]
fn spec_is_validated() {
    let base64 = "spec.ciphertextBlob must be base64";
    check_all([
        (json!({}), ""),
        (json!({"keyRef": {"name": "a.b-c"}}), ""),
        (json!({"keyRef": {"name": "Bad_Name"}}), "spec.keyRef.name must be the name of a CustomerMasterKey"),
        (json!({"keyRef": {"name": ""}}), "spec.keyRef.name must be the name of a CustomerMasterKey"),
        (json!({"keyRef": {"name": "orders", "namespace": "shop-1"}}), ""),
        (json!({"keyRef": {"name": "orders", "namespace": "a.b"}}), "spec.keyRef.namespace must be the name of a"),
        (json!({"keyRef": {"name": "orders", "namespace": ""}}), "spec.keyRef.namespace must be the name of a"),
        (json!({"rotationIntervalDays": 1}), ""),
        (json!({"rotationIntervalDays": 2560}), ""),
        (json!({"rotationIntervalDays": 0}), "spec.rotationIntervalDays must be 1 to 2560 days"),
        (json!({"rotationIntervalDays": 2561}), "spec.rotationIntervalDays must be 1 to 2560 days"),
        (json!({"rotationIntervalDays": 90, "secret": {"immutable": false}}), ""),
        (json!({"rotationIntervalDays": 90, "secret": {"immutable": true}}), "an immutable Secret can't rotate"),
        (json!({"rotationIntervalDays": 90, "ciphertextBlob": "Y2sB"}), "a given data key does not rotate"),
        (json!({"keySpec": "AES_128"}), ""),
        (json!({"keySpec": "AES_256", "numberOfBytes": 32}), "must not both be given"),
        (json!({"numberOfBytes": 0}), "spec.numberOfBytes must be 1 to 1024 bytes"),
        (json!({"numberOfBytes": 1}), ""),
        (json!({"numberOfBytes": 1024}), ""),
        (json!({"numberOfBytes": 1025}), "spec.numberOfBytes must be 1 to 1024 bytes"),
        (json!({"ciphertextBlob": "Y2sB", "numberOfBytes": 3}), ""),
        (json!({"ciphertextBlob": "Y2s="}), ""),
        (json!({"ciphertextBlob": "Y2s"}), base64),
        (json!({"ciphertextBlob": "Y2-_"}), base64),
        (json!({"ciphertextBlob": ""}), base64),
    ]);
}

#[test]
fn encryption_context_is_validated() {
    let context = |entries: &[(&str, usize)]| {
        let entries = entries.iter().map(|&(name, length)| (name.to_owned(), json!("v".repeat(length))));
        json!({"encryptionContext": Value::Object(entries.collect())})
    };
    let name_limit = "a name must be 1 to 1024 characters";
    check_all([
        (context(&[]), ""),
        (context(&[(&"k".repeat(1024), 2048)]), ""),
        (context(&[(&"k".repeat(1025), 1)]), name_limit),
        (context(&[("", 1)]), name_limit),
        (context(&[("k", 2049)]), "a value must be at most 2048 characters"),
        (context(&[("a", 1791), ("b", 1791), ("c", 1791), ("d", 1791)]), ""),
        (context(&[("a", 1791), ("b", 1791), ("c", 1791), ("d", 1792)]), "together must be at most 7168"),
        (context(&[("cmk-operator.dev/data-key", 1)]), "reserved for the operator"),
        (context(&[("app", 1), ("cmk-operator.dev/", 1)]), "reserved for the operator"),
        (json!({"encryptionContext": {"cmk-operator.dev/data-key": "a/b"}, "ciphertextBlob": "Y2sB"}), ""),
    ]);
}

#[test]
fn secret_is_validated() {
    let labels = |key: &str, value: &str| json!({"secret": {"labels": {key: value}}});
    let annotations = |key: &str, value: &str| json!({"secret": {"annotations": {key: value}}});
    let label_key = "a key must be a label name";
    check_all([
        (json!({"secret": {}}), ""),
        (json!({"secret": {"name": "A b"}}), "spec.secret.name must be the name of a Secret"),
        (labels("team", "a.b-c_D"), ""),
        (labels("example.com/team", ""), ""),
        (labels("team", "two words"), "a value in spec.secret.labels must be at most 63"),
        (labels(&"k".repeat(63), ""), ""),
        (labels(&"k".repeat(64), ""), label_key),
        (labels(&format!("{}/k", "p".repeat(253)), ""), ""),
        (labels(&format!("{}/k", "p".repeat(254)), ""), label_key),
        (labels("a..b/k", ""), label_key),
        (labels("two words", ""), label_key),
        (labels("cmk-operator.dev/component", "x"), "reserved for the operator"),
        (labels("app.kubernetes.io/managed-by", "x"), "reserved for the operator"),
        (labels("app.kubernetes.io/name", "x"), ""),
        (annotations("note", "any text, €"), ""),
        (annotations("two words", ""), "a key must be an annotation name"),
        (annotations("k", &"x".repeat(32767)), ""),
        (annotations("k", &"x".repeat(32768)), "together must be at most 32768 characters"),
        (annotations("cmk-operator.dev/data-key", "x"), "reserved for the operator"),
    ]);
}

#[test]
fn what_the_ciphertext_depends_on_is_immutable() {
    let none = || json!({});
    let bytes = |n: i32| json!({"numberOfBytes": n});
    let named = |name: &str| json!({"keySpec": name});
    let context = |value: &str| json!({"encryptionContext": {"app": value}});
    let empty = || json!({"encryptionContext": {}});
    let blob = |value: &str| json!({"ciphertextBlob": value});
    let (length, context_refused) = ("the length of a data key", "spec.encryptionContext is immutable");
    let table = [
        (none(), json!({"keyRef": {"name": "other"}}), "spec.keyRef is immutable"),
        (named("AES_256"), bytes(32), ""),
        (bytes(32), none(), ""),
        (none(), named("AES_256"), ""),
        (named("AES_128"), bytes(16), ""),
        (none(), named("AES_128"), length),
        (bytes(16), none(), length),
        (bytes(16), bytes(17), length),
        (none(), empty(), ""),
        (empty(), none(), ""),
        (none(), context("shop"), context_refused),
        (context("shop"), none(), context_refused),
        (context("shop"), context("other"), context_refused),
        (context("shop"), context("shop"), ""),
        (none(), blob("AAAA"), "spec.ciphertextBlob is immutable"),
        (blob("AAAA"), none(), "spec.ciphertextBlob is immutable"),
        (blob("AAAA"), blob("BBBB"), "spec.ciphertextBlob is immutable"),
        (none(), json!({"secret": {"name": "renamed"}, "withoutPlaintext": true}), ""),
    ];
    for (old, new, expected) in table {
        let result = data_key(&new).validate_cel_update(&data_key(&old));
        check(result, expected, &format!("{old} -> {new}"));
    }
}

/// Absent is the service key, which is another key than a named one.
#[test]
fn rule_12_the_key_is_immutable() {
    let under = |key_ref: Value| {
        let spec = if key_ref.is_null() { json!({}) } else { json!({"keyRef": key_ref}) };
        DataKey::new("orders-dek", serde_json::from_value(spec).unwrap())
    };
    let (none, orders) = (Value::Null, json!({"name": "orders"}));
    let shared = json!({"name": "orders", "namespace": "shop"});
    let refused = "spec.keyRef is immutable, and can't be added or removed";
    check(under(none.clone()).validate_cel(), "", "the service key");
    for (old, new, expected) in [
        (&none, &none, ""),
        (&orders, &orders, ""),
        (&shared, &shared, ""),
        (&none, &orders, refused),
        (&orders, &none, refused),
        (&orders, &shared, refused),
        (&shared, &json!({"name": "orders", "namespace": "billing"}), refused),
    ] {
        let result = under(new.clone()).validate_cel_update(&under(old.clone()));
        check(result, expected, &format!("{old} -> {new}"));
    }
}
