use serde_json::{Value, json};

use super::*;
use crate::api::testing::check;

fn store(spec: &Value) -> ClusterKeyStore {
    ClusterKeyStore::new("eu", serde_json::from_value(spec.clone()).unwrap())
}

fn embedded(fields: &Value) -> Value {
    json!({"embedded": fields})
}

#[test]
fn spec_is_validated() {
    let (region, account) =
        ("spec.embedded.region must be lower-case", "spec.embedded.accountId must be 1 to 16 digits");
    let from = "spec.allowedNamespaces.from must be All or Selector";
    let allowing = |from: Value| json!({"embedded": {}, "allowedNamespaces": from});
    for (spec, expected) in [
        (json!({}), "exactly one provider must be given: spec.embedded"),
        (embedded(&json!({})), ""),
        (embedded(&json!({"region": "eu-central-1", "accountId": "123456789012"})), ""),
        (embedded(&json!({"region": "EU"})), region),
        (embedded(&json!({"region": "eu:west"})), region),
        (embedded(&json!({"region": "-eu"})), region),
        (embedded(&json!({"region": ""})), region),
        (embedded(&json!({"accountId": "1".repeat(16)})), ""),
        (embedded(&json!({"accountId": "1".repeat(17)})), account),
        (embedded(&json!({"accountId": "12a"})), account),
        (embedded(&json!({"accountId": ""})), account),
        (allowing(json!({})), ""),
        (allowing(json!({"from": "All"})), ""),
        (allowing(json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}})), ""),
        (allowing(json!({"from": "Same"})), from),
        (allowing(json!({"from": "Selector"})), "spec.allowedNamespaces.selector must be given"),
    ] {
        check(store(&spec).validate_cel(), expected, &spec.to_string());
    }
}

/// Absent is the same as the default.
#[test]
fn what_names_of_keys_are_made_of_is_immutable() {
    let (none, defaults) = (json!({}), json!({"region": "cn-hangzhou", "accountId": "123456"}));
    let (eu, other) = (json!({"region": "eu-west-1"}), json!({"accountId": "1"}));
    let (region, account) = ("spec.embedded.region is immutable", "spec.embedded.accountId is immutable");
    for (old, new, expected) in [
        (&none, &defaults, ""),
        (&defaults, &none, ""),
        (&none, &eu, region),
        (&eu, &none, region),
        (&none, &other, account),
        (&other, &none, account),
        (&none, &json!({"onNamespaceRecreated": "NewKey"}), ""),
    ] {
        let result = store(&embedded(new)).validate_cel_update(&store(&embedded(old)));
        check(result, expected, &format!("{old} -> {new}"));
    }
}

/// As a stored object of a later version with another provider would be.
#[test]
fn the_provider_never_changes() {
    let result = store(&embedded(&json!({}))).validate_cel_update(&store(&json!({})));
    check(result, "the provider of a key store (spec.embedded) never changes", "to embedded");
}
