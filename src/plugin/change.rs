//! Changes of an object's declared fields, made as the design says for every lifecycle call (section 5): what is there
//! already is success, what a manifest declares is left to the manifest, and the write names the version that it was
//! decided on.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};

use super::{arguments::ChangeOptions, failure::Failure, output::note, session::FIELD_MANAGER, session::Session};
pub use crate::api::edit::Edit;
use crate::api::{
    CustomerMasterKey,
    edit::{self, Sorted},
};

/// How often a change is decided anew because the object changed meanwhile.
const ATTEMPTS: usize = 5;

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
    let Sorted { mut allowed, owned } = edit::sort(key, edits, FIELD_MANAGER, &how.gitops_managers);
    for (edit, owner) in owned {
        let (field, manager, how_owned) = (edit.field(), owner.manager.clone(), owner.how());
        if !how.force {
            return Err(Failure::Owned { object: described(key), field, manager, how: how_owned });
        }
        note(&format!(
            "warning: {field} is declared by {manager}{how_owned}, which sets it back unless its manifest is changed \
             as well"
        ));
        allowed.push(edit);
    }
    Ok(allowed)
}

async fn write(
    api: &Api<CustomerMasterKey>,
    key: &CustomerMasterKey,
    edits: &[Edit],
) -> Result<CustomerMasterKey, kube::Error> {
    let operations = edit::patch(key, edits).and_then(serde_json::from_value).map_err(kube::Error::SerdeError)?;
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    api.patch(&key.name_any(), &params, &Patch::<()>::Json(operations)).await
}

fn may_be_a_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 409 | 422))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

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
}
