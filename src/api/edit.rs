//! Changes of an object's declared fields, as `kubectl cmk` and the KMS endpoint make them (design, section 5): what is
//! there already is left alone, what a manifest declares is named with its manager, and the patch names the version of
//! the object that it was decided on.

use std::borrow::Cow;

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::field_ownership::{Decision, FieldChange, decide};

/// A field, as it is and as it shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Where it is.
    pub path: Vec<Cow<'static, str>>,
    /// Its value, or what its absence means.
    pub is: Option<Value>,
    /// Its value afterwards. None: removed.
    pub wanted: Option<Value>,
}

impl Edit {
    /// Sets a field of the spec.
    #[must_use]
    pub fn spec(field: &'static str, is: Option<Value>, wanted: Value) -> Self {
        Self { path: vec!["spec".into(), field.into()], is, wanted: Some(wanted) }
    }

    /// Removes a field of the spec, if it is there.
    #[must_use]
    pub fn removal(field: &'static str, is: Option<Value>) -> Self {
        Self { path: vec!["spec".into(), field.into()], is, wanted: None }
    }

    /// Sets an annotation of an object.
    #[must_use]
    pub fn annotation<K: ResourceExt>(object: &K, name: &'static str, wanted: &str) -> Self {
        let is = object.annotations().get(name).map(|value| json!(value));
        Self { path: vec!["metadata".into(), "annotations".into(), name.into()], is, wanted: Some(json!(wanted)) }
    }

    /// The field, for a sentence.
    #[must_use]
    pub fn field(&self) -> String {
        match self.path.as_slice() {
            [metadata, annotations, name] if metadata == "metadata" && annotations == "annotations" => {
                format!("annotation {name}")
            }
            path => path.join("."),
        }
    }
}

/// Who declares a field, and would change it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The field manager.
    pub manager: String,
    /// It owns the field by server-side apply, not as one of the managers that were named.
    pub applied: bool,
}

impl Owner {
    /// How it declares the field, for a sentence: empty, or in brackets.
    #[must_use]
    pub fn how(&self) -> &'static str {
        if self.applied { " (server-side apply)" } else { "" }
    }
}

/// Edits, sorted by what is to be done about them. Those whose value is there already are in neither list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sorted {
    /// Nobody declares the field elsewhere.
    pub allowed: Vec<Edit>,
    /// Somebody does.
    pub owned: Vec<(Edit, Owner)>,
}

/// Sorts the edits that `ours`, a field manager, wants to make on an object. `gitops`: as [`decide`] has it.
#[must_use]
pub fn sort<K: ResourceExt>(object: &K, edits: Vec<Edit>, ours: &str, gitops: &[String]) -> Sorted {
    let managed = object.managed_fields();
    let gitops: Vec<_> = gitops.iter().map(String::as_str).collect();
    let mut sorted = Sorted::default();
    for edit in edits {
        let path: Vec<_> = edit.path.iter().map(AsRef::as_ref).collect();
        let change = FieldChange { path: &path, is: edit.is.as_ref(), wanted: edit.wanted.as_ref() };
        match decide(managed, change, ours, &gitops) {
            Decision::NothingToDo => {}
            Decision::Allowed => sorted.allowed.push(edit),
            Decision::OwnedBy { manager, applied } => sorted.owned.push((edit, Owner { manager, applied })),
        }
    }
    sorted
}

/// The JSON patch that makes the edits on exactly this version of the object. Maps that they are in are made where they
/// are missing.
///
/// # Errors
/// The object can't be written as JSON. Ours can.
pub fn patch<K: Resource + Serialize>(object: &K, edits: &[Edit]) -> Result<Value, serde_json::Error> {
    let meta = object.meta();
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": meta.uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}),
    ];
    let object = serde_json::to_value(object)?;
    let mut made = Vec::new();
    for edit in edits {
        let steps: Vec<_> = edit.path.iter().map(|step| format!("/{}", escaped(step))).collect();
        let path = steps.concat();
        let Some(value) = &edit.wanted else {
            operations.push(json!({"op": "remove", "path": path}));
            continue;
        };
        for depth in 1..steps.len() {
            let parent = steps[..depth].concat();
            if object.pointer(&parent).is_none() && !made.contains(&parent) {
                operations.push(json!({"op": "add", "path": parent, "value": {}}));
                made.push(parent);
            }
        }
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
    Ok(Value::Array(operations))
}

/// A step of a JSON pointer (RFC 6901).
fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CustomerMasterKey;

    fn key(spec: &Value) -> CustomerMasterKey {
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7", "managedFields": [{
                "manager": "flux", "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:enabled": {}, "f:tags": {"f:team": {}}}},
            }]},
            "spec": spec,
        }))
        .unwrap()
    }

    fn tag(name: &'static str, is: Option<&str>, wanted: Option<&str>) -> Edit {
        let path = vec!["spec".into(), "tags".into(), name.into()];
        Edit { path, is: is.map(|v| json!(v)), wanted: wanted.map(|v| json!(v)) }
    }

    #[test]
    fn every_write_has_its_precondition_and_its_parents() {
        let path = vec!["metadata".into(), "annotations".into(), "a/b~c".into()];
        let annotation = Edit { path, is: None, wanted: Some(json!("x")) };
        let edits = [
            annotation,
            tag("a", None, Some("1")),
            tag("b", None, Some("2")),
            Edit::removal("enabled", Some(json!(true))),
        ];
        let tests = [
            json!({"op": "test", "path": "/metadata/uid", "value": "u"}),
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}),
        ];
        let expected = [
            json!({"op": "add", "path": "/metadata/annotations", "value": {}}),
            json!({"op": "add", "path": "/metadata/annotations/a~1b~0c", "value": "x"}),
            json!({"op": "add", "path": "/spec/tags", "value": {}}),
            json!({"op": "add", "path": "/spec/tags/a", "value": "1"}),
            json!({"op": "add", "path": "/spec/tags/b", "value": "2"}),
            json!({"op": "remove", "path": "/spec/enabled"}),
        ];
        let all = [&tests[..], &expected[..]].concat();
        assert_eq!(patch(&key(&json!({"enabled": true})), &edits).unwrap(), json!(all));
        let there = patch(&key(&json!({"tags": {"c": "3"}})), &edits[1..2]).unwrap();
        assert_eq!(there, json!([&tests[..], &expected[3..4]].concat()), "what is there is not made again");
    }

    #[test]
    fn edits_are_sorted_by_whose_the_field_is() {
        let edits = vec![
            Edit::spec("enabled", Some(json!(true)), json!(false)),
            Edit::spec("description", Some(json!("")), json!("")),
            Edit::removal("alias", None),
            tag("team", Some("a"), Some("b")),
            tag("cost", None, Some("1")),
        ];
        let sorted = sort(&key(&json!({"enabled": true})), edits.clone(), "ours", &[]);
        let flux = || Owner { manager: "flux".into(), applied: true };
        assert_eq!(sorted.allowed, edits[4..]);
        assert_eq!(sorted.owned, [(edits[0].clone(), flux()), (edits[3].clone(), flux())]);
        assert_eq!(edits[3].field(), "spec.tags.team");
        assert_eq!(Edit::annotation(&key(&json!({})), "a/b", "x").field(), "annotation a/b");
    }
}
