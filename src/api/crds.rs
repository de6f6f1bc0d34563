//! The CustomResourceDefinitions, and how manifests are written out as YAML.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, Resource};
use serde::Serialize;
use serde_yaml_ng::Value;

use super::{AccessKey, ClusterKeyStore, CustomerMasterKey, DataKey};

/// Label that says which application an object belongs to.
const NAME_LABEL: &str = "app.kubernetes.io/name";

/// The CustomResourceDefinitions of all our kinds, in a stable order.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let crds = [CustomerMasterKey::crd(), DataKey::crd(), ClusterKeyStore::crd(), AccessKey::crd()];
    crds.into_iter().map(finished).collect()
}

/// What the derive macro leaves to do.
fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), super::metadata::MANAGER.to_owned());
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            refuse_null(schema);
            if crd.spec.names.kind != ClusterKeyStore::kind(&()) {
                default_empty_spec(schema);
            }
            default_unobserved_status(schema);
        }
    }
    crd
}

/// Lets `spec: {}` be applied over a spec that had fields. Server-side apply leaves `spec: null` then, which is
/// no object and would be refused; a default takes its place. It is the only default in spec, and empty: the API server
/// still writes nothing into it. A spec with required fields, or of a key store, needs no help, as it is never
/// empty.
fn default_empty_spec(schema: &mut JSONSchemaProps) {
    let spec = schema.properties.as_mut().and_then(|properties| properties.get_mut("spec"));
    if let Some(spec) = spec.filter(|spec| spec.required.as_ref().is_none_or(Vec::is_empty)) {
        spec.default = Some(JSON(serde_json::json!({})));
    }
}

/// Says of an object without status that the operator has not seen it yet. kstatus takes an object that has neither
/// conditions nor `observedGeneration` for finished, so that Flux would go on in the moment between the creation and the
/// first pass. -1 is no generation, and less than all of them.
fn default_unobserved_status(schema: &mut JSONSchemaProps) {
    if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
        status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
    }
}

/// Takes `nullable` off every field: the API server then drops `field: null` as if the field were absent, which
/// is what it means here. Kept, it would be present to CEL, and compare unequal to the default. And takes `default` off
/// those that have one in Rust, for what was written before they were there: the API server would write it.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.default = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(refuse_null);
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        refuse_null(values);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => refuse_null(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(refuse_null),
        None => {}
    }
}

/// Manifests as YAML documents, in the order given, below a line that says which `cmk-operator` command made
/// them.
///
/// # Errors
/// An object that does not serialize; none of ours does that.
pub fn to_yaml(command: &str, objects: &[impl Serialize]) -> Result<String, serde_yaml_ng::Error> {
    let mut out = format!("# Made by `cmk-operator {command}`. Do not edit.\n");
    for object in objects {
        let mut value = serde_yaml_ng::to_value(object)?;
        prune(&mut value);
        out.push_str("---\n");
        out.push_str(&serde_yaml_ng::to_string(&value)?);
    }
    Ok(out)
}

/// Removes fields that are null or `[]`. Not those that are `{}`: `subresources: {status: {}}` and an empty
/// selector mean something.
fn prune(value: &mut Value) {
    match value {
        Value::Mapping(fields) => {
            fields.retain(|_, field| !field.is_null() && field.as_sequence().is_none_or(|items| !items.is_empty()));
            fields.values_mut().for_each(prune);
        }
        Value::Sequence(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every schema in a definition, with the path to it.
    fn schemas(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
        visit(path, schema);
        for (name, property) in schema.properties.iter().flatten() {
            schemas(&format!("{path}.{name}"), property, visit);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
            schemas(&format!("{path}{{}}"), values, visit);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            schemas(&format!("{path}[]"), item, visit);
        }
    }

    #[test]
    fn schemas_are_structural_and_described() {
        for crd in crds() {
            let root = crd.spec.versions[0].schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).unwrap();
            schemas(&crd.spec.names.kind, root, &mut |path, schema| {
                assert!(schema.type_.is_some(), "{path} has no type");
                assert!(path.ends_with(['}', ']']) || schema.description.is_some(), "{path} has no description");
                assert_eq!(schema.x_kubernetes_preserve_unknown_fields, None, "{path} takes anything");
                assert_eq!(schema.nullable, None, "{path} can be null");
                let default = match path {
                    "CustomerMasterKey.spec" | "DataKey.spec" => Some(serde_json::json!({})),
                    _ if path.strip_prefix(&crd.spec.names.kind) == Some(".status") => {
                        Some(serde_json::json!({"observedGeneration": -1}))
                    }
                    _ => None,
                };
                assert_eq!(schema.default, default.map(JSON), "the API server would write the default of {path}");
                assert!(!schema.format.as_deref().unwrap_or_default().starts_with("uint"), "{path} is unsigned");
                assert!(schema.any_of.is_none() && schema.one_of.is_none(), "{path} is a choice");
                for rule in schema.x_kubernetes_validations.iter().flatten() {
                    assert!(rule.message.is_some(), "{path} has a rule without a message");
                }
            });
        }
    }

    #[test]
    fn only_what_is_required_is_required() {
        let required: Vec<String> = crds()
            .iter()
            .flat_map(|crd| {
                let version = &crd.spec.versions[0];
                let root = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.clone()).unwrap();
                let mut found = Vec::new();
                schemas(&crd.spec.names.kind, &root, &mut |path, schema| {
                    if !path.contains(".status") {
                        found.extend(schema.required.iter().flatten().map(|name| format!("{path}.{name}")));
                    }
                });
                found
            })
            .collect();
        assert_eq!(
            required,
            [
                "CustomerMasterKey.spec",
                "CustomerMasterKey.spec.allowedNamespaces.selector.matchExpressions[].key",
                "CustomerMasterKey.spec.allowedNamespaces.selector.matchExpressions[].operator",
                "CustomerMasterKey.spec.importedKeyMaterial.secretRef",
                "CustomerMasterKey.spec.importedKeyMaterial.secretRef.key",
                "CustomerMasterKey.spec.importedKeyMaterial.secretRef.name",
                "CustomerMasterKey.spec.importedKeyMaterial.wrapping.algorithm",
                "CustomerMasterKey.spec.importedKeyMaterial.wrapping.importToken",
                "CustomerMasterKey.spec.keyStoreRef.kind",
                "CustomerMasterKey.spec.keyStoreRef.name",
                "DataKey.spec",
                "DataKey.spec.keyRef.name",
                "ClusterKeyStore.spec",
                "ClusterKeyStore.spec.allowedNamespaces.selector.matchExpressions[].key",
                "ClusterKeyStore.spec.allowedNamespaces.selector.matchExpressions[].operator",
                "AccessKey.spec",
                "AccessKey.spec.serviceAccountName",
            ]
        );
    }

    #[test]
    fn columns() {
        let columns = |index: usize, wide: bool| {
            let columns = crds().swap_remove(index).spec.versions.remove(0).additional_printer_columns.unwrap();
            let wanted = columns.into_iter().filter(|column| (column.priority.unwrap_or(0) > 0) == wide);
            wanted.map(|column| column.name.to_uppercase()).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(columns(0, false), "KEY ID, ALIAS, STATE, STORE, READY, AGE");
        assert_eq!(columns(0, true), "ORIGIN, DELETES, NEXT ROTATION, REASON, MESSAGE");
        assert_eq!(columns(1, false), "KEY, SECRET, READY, REASON, AGE");
        assert_eq!(columns(1, true), "KEY ID, GENERATED, NEXT ROTATION");
        assert_eq!(columns(2, false), "READY, IN USE, REGION, ACCOUNT, ORPHANED, AGE");
        assert_eq!(columns(2, true), "");
        assert_eq!(columns(3, false), "SERVICE ACCOUNT, ACCESS KEY ID, SECRET, READY, REASON, AGE");
        assert_eq!(columns(3, true), "CREATED, NEXT ROTATION");
    }

    /// What `kubectl get --field-selector` takes, and the short names.
    #[test]
    fn names_and_selectable_fields() {
        let summary: Vec<_> = crds()
            .into_iter()
            .map(|mut crd| {
                let fields = crd.spec.versions.remove(0).selectable_fields.unwrap_or_default();
                let names = crd.spec.names;
                let fields: Vec<_> = fields.into_iter().map(|field| field.json_path).collect();
                let text = |list: Option<Vec<String>>| list.unwrap_or_default().join(" ");
                (names.kind, text(names.short_names), text(names.categories), fields.join(" "), crd.spec.scope)
            })
            .collect();
        let expected = [
            ("CustomerMasterKey", "cmk", "kms", ".spec.alias .status.keyMetadata.keyState", "Namespaced"),
            ("DataKey", "dk", "kms", "", "Namespaced"),
            ("ClusterKeyStore", "cks", "kms", "", "Cluster"),
            ("AccessKey", "ak", "kms", "", "Namespaced"),
        ];
        let expected =
            expected.map(|(a, b, c, d, e)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned(), e.to_owned()));
        assert_eq!(summary, expected);
    }

    #[test]
    fn yaml_is_stable_and_pruned() {
        let yaml = to_yaml("crds", &crds()).unwrap();
        assert_eq!(yaml, to_yaml("crds", &crds()).unwrap());
        assert!(
            yaml.starts_with("# Made by `cmk-operator crds`. Do not edit.\n---\napiVersion: apiextensions.k8s.io/v1\n")
        );
        assert_eq!(yaml.matches("\n---\n").count(), crds().len());
        assert_eq!(yaml.matches("subresources:\n      status: {}\n").count(), crds().len(), "status is a subresource");
        for unwanted in ["null", "[]", "creationTimestamp:"] {
            assert!(!yaml.contains(unwanted), "{unwanted}");
        }
    }
}
