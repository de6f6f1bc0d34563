//! What the operator may do: as little as it uses, wherever it works.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::helm::{Helm, objects, values_file};

/// The rules of a role.
fn rules(objects: &[Value], kind: &str, name: &str, namespace: Option<&str>) -> Vec<Value> {
    let namespace = namespace.map_or(Value::Null, Value::from);
    let mut found = objects.iter().filter(|object| {
        object["kind"] == kind && object["metadata"]["name"] == name && object["metadata"]["namespace"] == namespace
    });
    found.next().unwrap_or_else(|| panic!("no {kind} {name}"))["rules"].as_array().unwrap().clone()
}

/// What rules allow, by resource.
fn verbs(rules: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let mut verbs = BTreeMap::<_, BTreeSet<_>>::new();
    for rule in rules {
        for resource in rule["resources"].as_array().unwrap() {
            let allowed = rule["verbs"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap().to_owned());
            verbs.entry(resource.as_str().unwrap().to_owned()).or_default().extend(allowed);
        }
    }
    verbs
}

/// Each verb is one that the operator sends, or that a policy asks for what it sends: `watched.rs` has it use them all.
#[test]
fn rule_18_the_operator_may_do_what_it_does_and_no_more() {
    let rendered = objects(&Helm::Four.template(&[]));
    let expected = |rows: &[(&str, &str)]| -> BTreeMap<String, BTreeSet<String>> {
        let verbs = |verbs: &str| verbs.split(' ').map(str::to_owned).collect();
        rows.iter().map(|(resource, allowed)| ((*resource).to_owned(), verbs(allowed))).collect()
    };
    let of_the_cluster = [
        ("accesskeys", "get list watch"),
        ("accesskeys/status", "patch update"),
        ("clusterkeystores", "get list watch"),
        ("clusterkeystores/status", "patch update"),
        ("customermasterkeys", "get list watch create patch decrypt"),
        ("customermasterkeys/status", "patch update"),
        ("datakeys", "get list watch patch"),
        ("datakeys/status", "patch update"),
        ("events", "create patch"),
        ("namespaces", "get list watch"),
        ("secrets", "get list watch create update delete"),
        ("serviceaccounts", "get list watch"),
        ("subjectaccessreviews", "create"),
        ("tokenreviews", "create"),
    ];
    assert_eq!(verbs(&rules(&rendered, "ClusterRole", "cmk-operator", None)), expected(&of_the_cluster));
    let own = [
        ("events", "create patch"),
        ("leases", "get create update"),
        ("secrets", "get list watch create update delete"),
    ];
    assert_eq!(verbs(&rules(&rendered, "Role", "cmk-operator", Some("cmk-system"))), expected(&own));
}

/// With given namespaces no right over their Secrets is the cluster's, and the same rules are in each of them.
#[test]
fn given_namespaces_have_roles_in_place_of_the_cluster_role() {
    let default = objects(&Helm::Four.template(&[]));
    let limited = objects(&Helm::Four.template(&["--values", &values_file("watch-namespaces")]));
    let of_the_cluster = rules(&limited, "ClusterRole", "cmk-operator", None);
    let resources: Vec<_> = of_the_cluster.iter().map(|rule| rule["resources"][0].as_str().unwrap()).collect();
    let expected = [
        "clusterkeystores",
        "clusterkeystores/status",
        "customermasterkeys",
        "customermasterkeys/status",
        "namespaces",
        "subjectaccessreviews",
        "tokenreviews",
    ];
    assert_eq!(resources, expected);
    let shop = rules(&limited, "Role", "cmk-operator-watched", Some("shop"));
    assert_eq!(shop, rules(&limited, "Role", "cmk-operator-watched", Some("bank")));
    let all = rules(&default, "ClusterRole", "cmk-operator", None);
    assert_eq!(all, [of_the_cluster, shop].concat());
    let events = rules(&limited, "Role", "cmk-operator-events", Some("default"));
    assert_eq!(
        events,
        [json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]})]
    );
}
