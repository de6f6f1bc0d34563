use serde_json::{Value, json};

use super::*;
use crate::api::testing::check;

fn key(spec: &Value) -> CustomerMasterKey {
    CustomerMasterKey::new("orders", serde_json::from_value(spec.clone()).unwrap())
}

/// Limits are tried with ASCII: the API server counts characters, kube's evaluation counts bytes.
#[test]
fn spec_is_validated() {
    let tags = |key: &str, value: &str| json!({"tags": {key: value}});
    let (key_limit, value_limit) = ("a tag key must be 1 to 128", "a tag value must be at most 256");
    let table = [
        (json!({}), ""),
        (json!({"description": "d".repeat(8192)}), ""),
        (json!({"description": "d".repeat(8193)}), "spec.description must be at most 8192 characters"),
        (json!({"pendingDeletionDays": 6}), "spec.pendingDeletionDays must be 7 to 366 days"),
        (json!({"pendingDeletionDays": 7}), ""),
        (json!({"pendingDeletionDays": 366}), ""),
        (json!({"pendingDeletionDays": 367}), "spec.pendingDeletionDays must be 7 to 366 days"),
        (tags(&"k".repeat(128), &"v".repeat(256)), ""),
        (tags(&"k".repeat(129), ""), key_limit),
        (tags("", "v"), key_limit),
        (tags("k", &"v".repeat(257)), value_limit),
        (tags("aliyunteam", "v"), "must not begin with aliyun, acs: or aws:"),
        (tags("acs:team", "v"), "must not begin with aliyun, acs: or aws:"),
        (tags("aws:team", "v"), "must not begin with aliyun, acs: or aws:"),
        (tags("acs-team", "v"), ""),
    ];
    for (spec, expected) in table {
        let case: String = spec.to_string().chars().take(60).collect();
        check(key(&spec).validate_cel(), expected, &case);
    }
}

#[test]
fn origin_and_usage_are_immutable_and_absent_is_the_default() {
    let (absent, ali, aws) = (json!({}), json!({"origin": "Aliyun_KMS"}), json!({"origin": "AWS_KMS"}));
    let usage = json!({"keyUsage": "ENCRYPT/DECRYPT"});
    let refused = "spec.origin is immutable";
    let table = [
        (&absent, &ali, ""),
        (&ali, &absent, ""),
        (&absent, &aws, refused),
        (&aws, &absent, refused),
        (&ali, &aws, refused),
        (&aws, &aws, ""),
        (&absent, &usage, ""),
        (&usage, &absent, ""),
    ];
    for (old, new, expected) in table {
        check(key(new).validate_cel_update(&key(old)), expected, &format!("{old} -> {new}"));
    }
}

#[test]
fn rule_10_aliases_are_validated() {
    let form = "spec.alias must be letters, digits, '/', '_' and '-' only";
    let (acs, aws) = ("spec.alias must not be acs or begin with acs/", "spec.alias must not be aws or begin with aws/");
    for (alias, expected) in [
        ("alias/orders", ""),
        ("orders", ""),
        ("alias/Team_1/orders-2", ""),
        ("acs-orders", ""),
        ("acsorders", ""),
        ("aws-orders", ""),
        ("orders/acs/x", ""),
        ("", form),
        ("alias/", form),
        ("two words", form),
        ("alias/ümlaut", form),
        ("alias/a:b", form),
        ("acs", acs),
        ("acs/DataKey", acs),
        ("alias/acs", acs),
        ("alias/acs/DataKey", acs),
        ("alias/acs/other", acs),
        ("aws", aws),
        ("aws/s3", aws),
        ("alias/aws", aws),
        ("alias/aws/s3", aws),
    ] {
        check(key(&json!({"alias": alias})).validate_cel(), expected, alias);
    }
}

#[test]
fn rule_7_the_service_key_has_its_name_and_its_alias() {
    let service = |spec: Value| CustomerMasterKey::new("acs-datakey", serde_json::from_value(spec).unwrap());
    let (needed, reserved) = ("spec.alias must be alias/acs/DataKey", "spec.alias must not be acs or begin with acs/");
    check(service(json!({"alias": "alias/acs/DataKey"})).validate_cel(), "", "the service key");
    check(service(json!({})).validate_cel(), needed, "without its alias");
    check(service(json!({"alias": "orders"})).validate_cel(), needed, "with another alias");
    // Both rules speak here.
    assert!(service(json!({"alias": "acs/DataKey"})).validate_cel().is_err());
    check(key(&json!({"alias": "alias/acs/DataKey"})).validate_cel(), reserved, "with another name");
}

#[test]
fn rule_7_a_service_key_is_not_disabled_scheduled_or_brought() {
    let service = |fields: Value| {
        let mut spec = json!({"alias": "alias/acs/DataKey"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        CustomerMasterKey::new("acs-datakey", serde_json::from_value(spec).unwrap())
    };
    let brought = "spec.keyId and spec.origin EXTERNAL must be absent";
    for (fields, expected) in [
        (json!({"enabled": true, "scheduleDeletion": false, "description": "d", "rotationIntervalDays": 365}), ""),
        (json!({"enabled": false}), "spec.enabled must not be false: a service-managed key"),
        (
            json!({"scheduleDeletion": true}),
            "spec.scheduleDeletion must not be true: the deletion of a service-managed",
        ),
        (json!({"origin": "EXTERNAL"}), brought),
        (json!({"keyId": KEY_ID}), brought),
    ] {
        let case = fields.to_string();
        check(service(fields).validate_cel(), expected, &case);
    }
    let mut renamed = service(json!({}));
    renamed.spec.alias = Some("acs/DataKey".into());
    assert!(renamed.validate_cel_update(&service(json!({}))).is_err());
}

const KEY_ID: &str = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";

#[test]
fn rule_11_adoption_and_stores_are_validated() {
    let (id, store) =
        ("spec.keyId must be the id of a key", "spec.keyStoreRef.name must be the name of a ClusterKeyStore");
    let in_store = |name: &str| json!({"keyStoreRef": {"kind": "ClusterKeyStore", "name": name}});
    for (spec, expected) in [
        (json!({"keyId": KEY_ID}), ""),
        (json!({"keyId": KEY_ID.to_uppercase()}), id),
        (json!({"keyId": "orders"}), id),
        (json!({"keyId": ""}), id),
        (json!({"keyId": format!("{KEY_ID}0")}), id),
        (in_store("eu.west-1"), ""),
        (in_store("EU"), store),
        (in_store(""), store),
    ] {
        check(key(&spec).validate_cel(), expected, &spec.to_string());
    }
    let (none, eu, default) = (json!({}), in_store("eu"), in_store("default"));
    let (adopted, other) = (json!({"keyId": KEY_ID}), json!({"keyId": KEY_ID.replace('0', "1")}));
    let (moved, changed) = ("spec.keyStoreRef is immutable", "spec.keyId is immutable, and can't be added or removed");
    for (old, new, expected) in [
        (&none, &default, ""),
        (&default, &none, ""),
        (&none, &eu, moved),
        (&eu, &none, moved),
        (&eu, &default, moved),
        (&eu, &eu, ""),
        (&none, &adopted, changed),
        (&adopted, &none, changed),
        (&adopted, &other, changed),
        (&adopted, &adopted, ""),
    ] {
        check(key(new).validate_cel_update(&key(old)), expected, &format!("{old} -> {new}"));
    }
}

fn imported(fields: &Value) -> Value {
    let mut material = json!({"secretRef": {"name": "orders-material", "key": "material"}});
    material.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"origin": "EXTERNAL", "importedKeyMaterial": material})
}

#[test]
fn rule_9_imported_material_is_validated() {
    let wrapping = |token: &str| json!({"wrapping": {"algorithm": "RSAES_OAEP_SHA_256", "importToken": token}});
    let secret = |name: &str, key: &str| json!({"secretRef": {"name": name, "key": key}});
    let external = "spec.importedKeyMaterial needs spec.origin EXTERNAL";
    let mut generated = imported(&json!({}));
    generated["origin"] = json!("AWS_KMS");
    let mut unsaid = generated.clone();
    unsaid.as_object_mut().unwrap().remove("origin");
    for (spec, expected) in [
        (json!({"origin": "EXTERNAL"}), ""),
        (imported(&json!({})), ""),
        (imported(&json!({"expireTime": "2030-01-01T00:00:00Z"})), ""),
        (imported(&wrapping("Y2sB")), ""),
        (imported(&wrapping("")), "importToken must be base64"),
        (imported(&wrapping("Y2sB\n")), "importToken must be base64"),
        (imported(&secret("A", "material")), "secretRef.name must be the name of a Secret"),
        (imported(&secret("", "material")), "secretRef.name must be the name of a Secret"),
        (imported(&secret("a", "")), "secretRef.key must be the name of an entry"),
        (imported(&secret("a", "a/b")), "secretRef.key must be the name of an entry"),
        (generated, external),
        (unsaid, external),
    ] {
        check(key(&spec).validate_cel(), expected, &spec.to_string());
    }
}

#[test]
fn rule_8_rotation_is_validated() {
    let limits = "spec.rotationIntervalDays must be 7 to 2560 days";
    for (spec, expected) in [
        (json!({"rotationIntervalDays": 7}), ""),
        (json!({"rotationIntervalDays": 2560}), ""),
        (json!({"rotationIntervalDays": 6}), limits),
        (json!({"rotationIntervalDays": 2561}), limits),
        (json!({"rotationIntervalDays": -7}), limits),
        (json!({"rotationIntervalDays": 365, "origin": "AWS_KMS"}), ""),
        (json!({"rotationIntervalDays": 365, "origin": "EXTERNAL"}), "spec.rotationIntervalDays must be absent"),
    ] {
        check(key(&spec).validate_cel(), expected, &spec.to_string());
    }
}

#[test]
fn rule_7_protection_is_lifted_in_a_change_of_its_own() {
    let spec =
        |protected: Value, scheduled: Value| json!({"deletionProtection": protected, "scheduleDeletion": scheduled});
    let (yes, no, absent) = (json!(true), json!(false), Value::Null);
    let together = "spec.scheduleDeletion must not be true while spec.deletionProtection is";
    let at_once = "spec.scheduleDeletion must not be true in the same change";
    check(key(&spec(yes.clone(), no.clone())).validate_cel(), "", "protected");
    check(key(&spec(no.clone(), yes.clone())).validate_cel(), "", "scheduled");
    check(key(&spec(yes.clone(), yes.clone())).validate_cel(), together, "both");
    for (old, new, expected) in [
        (spec(yes.clone(), no.clone()), spec(no.clone(), no.clone()), ""),
        (spec(yes.clone(), no.clone()), spec(absent.clone(), absent.clone()), ""),
        (spec(yes.clone(), no.clone()), spec(yes.clone(), yes.clone()), together),
        (spec(yes.clone(), no.clone()), spec(no.clone(), yes.clone()), at_once),
        (spec(yes.clone(), no.clone()), spec(absent.clone(), yes.clone()), at_once),
        (spec(no.clone(), no.clone()), spec(no.clone(), yes.clone()), ""),
        (spec(absent.clone(), yes.clone()), spec(yes.clone(), yes.clone()), together),
        (spec(absent, yes.clone()), spec(yes, no), ""),
    ] {
        check(key(&new).validate_cel_update(&key(&old)), expected, &format!("{old} -> {new}"));
    }
}

#[test]
fn rule_7_protected_material_is_not_removed() {
    let with = |material: bool, protected: bool| {
        let mut spec = if material { imported(&json!({})) } else { json!({"origin": "EXTERNAL"}) };
        spec["deletionProtection"] = json!(protected);
        spec
    };
    let refused = "spec.importedKeyMaterial must not be removed while spec.deletionProtection is true";
    for (old, new, expected) in [
        (with(true, false), with(false, false), ""),
        (with(true, true), with(false, true), refused),
        (with(true, true), with(false, false), refused),
        (with(true, true), with(true, false), ""),
        (with(false, true), with(true, true), ""),
        (with(true, false), with(false, true), ""),
    ] {
        check(key(&new).validate_cel_update(&key(&old)), expected, &format!("{old} -> {new}"));
    }
}

#[test]
fn rule_15_allowed_namespaces_are_validated() {
    let selector = "spec.allowedNamespaces.selector must be given with from: Selector, and only with that";
    let values = "In and NotIn need values";
    let expression = |operator: &str, values: Value| {
        let mut expression = json!({"key": "team", "operator": operator});
        if !values.is_null() {
            expression["values"] = values;
        }
        json!({"from": "Selector", "selector": {"matchExpressions": [expression]}})
    };
    for (allowed, expected) in [
        (json!({}), ""),
        (json!({"from": "Same"}), ""),
        (json!({"from": "All"}), ""),
        (json!({"from": "Selector", "selector": {}}), ""),
        (json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}), ""),
        (json!({"from": "Selector"}), selector),
        (json!({"from": "All", "selector": {}}), selector),
        (json!({"selector": {}}), selector),
        (expression("In", json!(["a"])), ""),
        (expression("Exists", Value::Null), ""),
        (expression("In", Value::Null), values),
        (expression("NotIn", json!([])), values),
        (expression("DoesNotExist", json!(["a"])), values),
    ] {
        check(key(&json!({"allowedNamespaces": allowed})).validate_cel(), expected, &allowed.to_string());
    }
}
