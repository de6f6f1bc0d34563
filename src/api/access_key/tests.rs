use serde_json::{Value, json};

use super::*;
use crate::api::testing::check;

fn access_key(fields: &Value) -> AccessKey {
    let mut spec = json!({"serviceAccountName": "orders-api"});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    AccessKey::new("orders", serde_json::from_value(spec).unwrap())
}

#[test]
fn spec_is_validated() {
    let table = [
        (json!({}), ""),
        (json!({"serviceAccountName": "a.b-c"}), ""),
        (json!({"serviceAccountName": ""}), "spec.serviceAccountName must be the name of a ServiceAccount"),
        (json!({"serviceAccountName": "Orders"}), "spec.serviceAccountName must be the name of a ServiceAccount"),
        (json!({"serviceAccountName": "other/orders"}), "spec.serviceAccountName must be the name of a ServiceAccount"),
        (json!({"rotationIntervalDays": 1}), ""),
        (json!({"rotationIntervalDays": 365}), ""),
        (json!({"rotationIntervalDays": 0}), "spec.rotationIntervalDays must be 1 to 365 days"),
        (json!({"rotationIntervalDays": 366}), "spec.rotationIntervalDays must be 1 to 365 days"),
        (json!({"secret": {"name": "orders-kms"}}), ""),
        (json!({"secret": {"name": "-"}}), "spec.secret.name must be the name of a Secret"),
        (json!({"secret": {"labels": {"team": "orders"}}}), ""),
        (json!({"secret": {"labels": {"cmk-operator.dev/component": "x"}}}), "reserved for the operator"),
        (json!({"secret": {"annotations": {"cmk-operator.dev/access-key": "x"}}}), "reserved for the operator"),
        (json!({"secret": {"annotations": {"a": "v".repeat(32768)}}}), "at most 32768 characters"),
    ];
    for (fields, expected) in table {
        let case: String = fields.to_string().chars().take(60).collect();
        check(access_key(&fields).validate_cel(), expected, &case);
    }
}

/// Another ServiceAccount would be another identity under the same name; what else is declared may change.
#[test]
fn only_the_service_account_is_immutable() {
    let old = access_key(&json!({"rotationIntervalDays": 90, "secret": {"name": "a"}}));
    for (fields, expected) in [
        (json!({"serviceAccountName": "sales-api"}), "spec.serviceAccountName is immutable"),
        (json!({"secret": {"name": "b"}}), ""),
        (json!({"rotationIntervalDays": 30}), ""),
        (json!({}), ""),
    ] {
        check(access_key(&fields).validate_cel_update(&old), expected, &fields.to_string());
    }
}

#[test]
fn the_secret_has_the_name_of_the_access_key_unless_it_says_otherwise() {
    assert_eq!(access_key(&json!({})).spec.secret_name("orders"), "orders");
    assert_eq!(access_key(&json!({"secret": {"name": "orders-kms"}})).spec.secret_name("orders"), "orders-kms");
}
