//! Which namespaces may use something: a key, or a key store.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    KubeSchema,
    core::{Selector, SelectorExt},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The namespaces that may use an object of another namespace, or of the cluster. As in the Gateway API.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.selector) == (has(self.from) && self.from == 'Selector')")
        .message("spec.allowedNamespaces.selector must be given with from: Selector, and only with that")
        .field_path(".selector")
)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Which namespaces.
    #[schemars(with = "FromNamespaces")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromNamespaces>,
    /// The labels of the namespaces, with from: Selector.
    #[schemars(schema_with = "label_selector")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A label selector, of which the API server checks nothing by itself. The limits bound what the rules may cost.
fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that a namespace has to have, at most 32.",
                "maxProperties": 32,
                "additionalProperties": {"type": "string"},
            },
            "matchExpressions": {
                "type": "array",
                "description": "What must be true of the labels of a namespace, at most 32.",
                "maxItems": 32,
                "items": label_selector_requirement(),
            },
        },
    })
}

fn label_selector_requirement() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "description": "What must be true of a label.",
        "required": ["key", "operator"],
        "properties": {
            "key": {"type": "string", "description": "The key of the label."},
            "operator": {
                "type": "string",
                "description": "How the label relates to the values.",
                "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
            },
            "values": {
                "type": "array",
                "description": "The values of In and NotIn, at most 32.",
                "maxItems": 32,
                "items": {"type": "string", "description": "A value of the label."},
            },
        },
        "x-kubernetes-validations": [{
            "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "message": "spec.allowedNamespaces.selector: the operators In and NotIn need values, and Exists and \
                        DoesNotExist take none",
        }],
    })
}

/// How namespaces are chosen.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromNamespaces {
    /// The namespace of the object itself.
    Same,
    /// Every namespace.
    All,
    /// Those with the labels in selector.
    Selector,
}

impl AllowedNamespaces {
    /// Whether a namespace with these labels may. `same`: it is the object's own, which always may. Where nothing
    /// is said, `default` decides.
    #[must_use]
    pub fn allow(
        declared: Option<&Self>,
        default: FromNamespaces,
        same: bool,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        match declared.and_then(|d| d.from).unwrap_or(default) {
            _ if same => true,
            FromNamespaces::Same => false,
            FromNamespaces::All => true,
            // A selector that can't be understood selects nothing.
            FromNamespaces::Selector => declared
                .and_then(|d| d.selector.clone())
                .and_then(|selector| Selector::try_from(selector).ok())
                .is_some_and(|selector| selector.matches(labels)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rule_15_who_is_allowed() {
        let team = json!({"from": "Selector", "selector": {"matchLabels": {"team": "orders"}}});
        let expression = json!({"from": "Selector", "selector": {"matchExpressions": [
            {"key": "team", "operator": "In", "values": ["orders", "billing"]},
            {"key": "frozen", "operator": "DoesNotExist"},
        ]}});
        let broken = json!({"from": "Selector", "selector": {"matchExpressions": [
            {"key": "team", "operator": "Near", "values": ["orders"]},
        ]}});
        let empty = json!({"from": "Selector", "selector": {}});
        let none = json!({"from": "Selector"});
        type Case<'a> = (&'a str, Option<Value>, &'a [(&'a str, &'a str)], bool);
        let cases: [Case<'_>; 12] = [
            ("nothing declared", None, &[], false),
            ("nothing declared in it", Some(json!({})), &[], false),
            ("Same", Some(json!({"from": "Same"})), &[], false),
            ("All", Some(json!({"from": "All"})), &[], true),
            ("labelled", Some(team.clone()), &[("team", "orders")], true),
            ("labelled otherwise", Some(team.clone()), &[("team", "billing")], false),
            ("not labelled", Some(team), &[], false),
            ("expressions hold", Some(expression.clone()), &[("team", "billing")], true),
            ("an expression does not", Some(expression), &[("team", "billing"), ("frozen", "")], false),
            ("unknown operator", Some(broken), &[("team", "orders")], false),
            ("the empty selector selects all, as everywhere in Kubernetes", Some(empty), &[], true),
            ("no selector", Some(none), &[], false),
        ];
        for (name, declared, labels, expected) in cases {
            let declared: Option<AllowedNamespaces> = declared.map(|d| serde_json::from_value(d).unwrap());
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let allow = |same| AllowedNamespaces::allow(declared.as_ref(), FromNamespaces::Same, same, &labels);
            assert_eq!(allow(false), expected, "{name}");
            assert!(allow(true), "{name}, in the same namespace");
        }
        assert!(AllowedNamespaces::allow(None, FromNamespaces::All, false, &BTreeMap::new()));
    }
}
