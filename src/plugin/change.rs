//! Changes of an object's declared fields, made as the design says for every lifecycle call (section 5): what is there
//! already is success, what a manifest declares is left to the manifest, and the write names the version that it was
//! decided on.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{arguments::ChangeOptions, failure::Failure, output::note, session::FIELD_MANAGER, session::Session};
use crate::api::{
    CustomerMasterKey,
    field_ownership::{Decision, FieldChange, decide},
};

/// How often a change is decided anew because the object changed meanwhile.
const ATTEMPTS: usize = 5;

/// A field, as it is and as it shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Where it is.
    pub path: Vec<&'static str>,
    /// Its value, or what its absence means.
    pub is: Option<Value>,
    /// Its value afterwards. None: removed.
    pub wanted: Option<Value>,
}

impl Edit {
    /// Sets a field of the spec.
    pub fn spec(field: &'static str, is: Option<Value>, wanted: Value) -> Self {
        Self { path: vec!["spec", field], is, wanted: Some(wanted) }
    }

    fn field(&self) -> String {
        match self.path.as_slice() {
            ["metadata", "annotations", name] => format!("annotation {name}"),
            path => path.join("."),
        }
    }
}

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// All was there already.
    Nothing(Box<CustomerMasterKey>),
    /// It is written: the object after that.
    Written(Box<CustomerMasterKey>),
}

/// An object, for a sentence.
pub fn described(key: &CustomerMasterKey) -> String {
    format!("CustomerMasterKey {}/{}", key.namespace().unwrap_or_default(), key.name_any())
}

/// Reads a key, and makes the changes that `edits` asks for, which may refuse.
pub async fn change(
    session: &Session,
    name: &str,
    how: &ChangeOptions,
    edits: impl Fn(&CustomerMasterKey) -> Result<Vec<Edit>, Failure>,
) -> Result<Changed, Failure> {
    for _ in 0..ATTEMPTS {
        let key = session.key(name).await?;
        let edits = edits(&key)?;
        let edits = permitted(&key, edits, how)?;
        if edits.is_empty() {
            return Ok(Changed::Nothing(Box::new(key)));
        }
        match write(&session.keys(), &key, &edits).await {
            Ok(written) => return Ok(Changed::Written(Box::new(written))),
            Err(error) if !may_be_a_conflict(&error) => return Err(error.into()),
            Err(error) => {
                // A test in the patch that fails has no error of its own: whether one did, the object tells.
                let now = session.key(name).await?;
                if (now.uid(), now.resource_version()) == (key.uid(), key.resource_version()) {
                    return Err(error.into());
                }
            }
        }
    }
    Err(Failure::Contended(format!("CustomerMasterKey {}/{name}", session.namespace)))
}

/// The edits that are left to make.
pub fn permitted(key: &CustomerMasterKey, edits: Vec<Edit>, how: &ChangeOptions) -> Result<Vec<Edit>, Failure> {
    let managed = key.metadata.managed_fields.as_deref().unwrap_or_default();
    let gitops: Vec<_> = how.gitops_managers.iter().map(String::as_str).collect();
    let mut left = Vec::new();
    for edit in edits {
        let change = FieldChange { path: &edit.path, is: edit.is.as_ref(), wanted: edit.wanted.as_ref() };
        match decide(managed, change, FIELD_MANAGER, &gitops) {
            Decision::NothingToDo => {}
            Decision::Allowed => left.push(edit),
            Decision::OwnedBy { manager, applied } => {
                let how_owned = if applied { " (server-side apply)" } else { "" };
                if !how.force {
                    let (object, field) = (described(key), edit.field());
                    return Err(Failure::Owned { object, field, manager, how: how_owned });
                }
                note(&format!(
                    "warning: {} is declared by {manager}{how_owned}, which sets it back unless its manifest is \
                     changed as well",
                    edit.field()
                ));
                left.push(edit);
            }
        }
    }
    Ok(left)
}

/// The patch that makes the edits on exactly this version of the object.
fn patch(key: &CustomerMasterKey, edits: &[Edit]) -> Value {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": key.uid()}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": key.resource_version()}),
    ];
    let annotates = edits.iter().any(|edit| edit.path.starts_with(&["metadata", "annotations"]));
    if annotates && key.metadata.annotations.is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    operations.extend(edits.iter().map(|edit| {
        let path: String = edit.path.iter().map(|step| format!("/{}", escaped(step))).collect();
        match &edit.wanted {
            Some(value) => json!({"op": "add", "path": path, "value": value}),
            None => json!({"op": "remove", "path": path}),
        }
    }));
    Value::Array(operations)
}

/// A step of a JSON pointer (RFC 6901).
fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

async fn write(
    api: &Api<CustomerMasterKey>,
    key: &CustomerMasterKey,
    edits: &[Edit],
) -> Result<CustomerMasterKey, kube::Error> {
    let operations = serde_json::from_value(patch(key, edits)).map_err(kube::Error::SerdeError)?;
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    api.patch(&key.name_any(), &params, &Patch::<()>::Json(operations)).await
}

fn may_be_a_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 409 | 422))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(force: bool) -> ChangeOptions {
        ChangeOptions { force, gitops_managers: Vec::new(), no_wait: false, timeout: Duration::ZERO }
    }

    fn applied_by(manager: &str) -> CustomerMasterKey {
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7", "managedFields": [{
                "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:enabled": {}}},
            }]},
            "spec": {"enabled": true},
        }))
        .unwrap()
    }

    fn disable() -> Vec<Edit> {
        vec![Edit::spec("enabled", Some(json!(true)), json!(false))]
    }

    #[test]
    fn what_a_manifest_declares_needs_force() {
        let refused = permitted(&applied_by("flux"), disable(), &options(false)).unwrap_err().to_string();
        assert!(refused.contains("spec.enabled of CustomerMasterKey shop/orders is declared by flux"), "{refused}");
        assert!(refused.contains("manifest") && refused.contains("--force"), "{refused}");
        assert_eq!(permitted(&applied_by("flux"), disable(), &options(true)).unwrap(), disable());
        let there = vec![Edit::spec("enabled", Some(json!(true)), json!(true))];
        assert!(permitted(&applied_by("flux"), there, &options(false)).unwrap().is_empty());
    }

    #[test]
    fn every_write_has_its_precondition() {
        let path = vec!["metadata", "annotations", "a/b~c"];
        let edits = [Edit { path, is: None, wanted: Some(json!("x")) }, Edit { wanted: None, ..disable().remove(0) }];
        assert_eq!(
            patch(&applied_by("flux"), &edits),
            json!([
                {"op": "test", "path": "/metadata/uid", "value": "u"},
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "add", "path": "/metadata/annotations", "value": {}},
                {"op": "add", "path": "/metadata/annotations/a~1b~0c", "value": "x"},
                {"op": "remove", "path": "/spec/enabled"},
            ])
        );
    }
}
