//! Which changes of an object a call may make: pure.

use kube::ResourceExt;

use crate::{
    api::{
        CustomerMasterKey,
        edit::{self, Edit, Sorted},
        metadata,
    },
    cluster::ENDPOINT_MANAGER,
    server::Failure,
};

/// An object, for a sentence.
pub fn described(object: &CustomerMasterKey) -> String {
    format!("CustomerMasterKey {}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// The edits that are left to make on the object as it is now, with the note of who asked for them. None: all is there
/// already, and nothing is to be written.
///
/// # Errors
/// [`Failure::Owned`]: somebody else declares one of the fields. Nothing of the change is made then.
pub fn decide(
    object: &CustomerMasterKey,
    edits: Vec<Edit>,
    gitops: &[String],
    username: &str,
) -> Result<Option<Vec<Edit>>, Failure> {
    let Sorted { mut allowed, owned } = edit::sort(object, edits, ENDPOINT_MANAGER, gitops);
    if let Some((edit, owner)) = owned.first() {
        return Err(Failure::Owned(format!(
            "{} of {} is declared by {}{}: change it in the manifest that {} applies",
            edit.field(),
            described(object),
            owner.manager,
            owner.how(),
            owner.manager
        )));
    }
    if allowed.is_empty() {
        return Ok(None);
    }
    let requested_by = Edit::annotation(object, metadata::REQUESTED_BY, username);
    if requested_by.is != requested_by.wanted {
        allowed.push(requested_by);
    }
    Ok(Some(allowed))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const USER: &str = "system:serviceaccount:shop:api";

    fn key(spec: &Value, managed: &Value) -> CustomerMasterKey {
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "managedFields": managed},
            "spec": spec,
        }))
        .unwrap()
    }

    fn managed(manager: &str, operation: &str, fields: &Value) -> Value {
        json!([{"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}])
    }

    fn schedule(is: bool) -> Vec<Edit> {
        vec![
            Edit::spec("scheduleDeletion", Some(json!(is)), json!(true)),
            Edit::spec("pendingDeletionDays", Some(json!(366)), json!(30)),
        ]
    }

    fn decided(object: &CustomerMasterKey, edits: Vec<Edit>) -> Result<Option<Vec<String>>, String> {
        let gitops = crate::server::operations::OperationSettings::default().gitops_managers;
        let edits = decide(object, edits, &gitops, USER).map_err(|failure| failure.to_string())?;
        Ok(edits.map(|edits| edits.iter().map(Edit::field).collect()))
    }

    #[test]
    fn what_may_be_changed() {
        let both =
            || vec!["spec.scheduleDeletion", "spec.pendingDeletionDays", "annotation cmk-operator.dev/requested-by"];
        let window = json!({"f:spec": {"f:pendingDeletionDays": {}}});
        let other = json!({"f:spec": {"f:description": {}}});
        let owned = |by: &str| {
            Err(format!(
                "spec.pendingDeletionDays of CustomerMasterKey shop/orders is declared by {by}: change it in the manifest \
                 that {} applies",
                by.split(' ').next().unwrap()
            ))
        };
        let cases = [
            ("nobody's", json!([]), Ok(Some(both()))),
            ("patched by hand", managed("kubectl-patch", "Update", &window), Ok(Some(both()))),
            ("edited by hand", managed("kubectl-edit", "Update", &window), Ok(Some(both()))),
            ("our own", managed("kms-endpoint", "Update", &window), Ok(Some(both()))),
            ("another field", managed("kubectl", "Apply", &other), Ok(Some(both()))),
            (
                "client-side apply",
                managed("kubectl-client-side-apply", "Update", &window),
                owned("kubectl-client-side-apply"),
            ),
            ("server-side apply", managed("kubectl", "Apply", &window), owned("kubectl (server-side apply)")),
            ("a configured manager", managed("helm", "Update", &window), owned("helm")),
        ];
        for (case, managed, expected) in cases {
            let expected = expected.map(|edits| edits.map(|edits| edits.into_iter().map(str::to_owned).collect()));
            assert_eq!(decided(&key(&json!({}), &managed), schedule(false)), expected, "{case}");
        }
    }

    #[test]
    fn the_value_that_is_there_writes_nothing() {
        let theirs =
            managed("kubectl", "Apply", &json!({"f:spec": {"f:scheduleDeletion": {}, "f:pendingDeletionDays": {}}}));
        let edits = vec![
            Edit::spec("scheduleDeletion", Some(json!(true)), json!(true)),
            Edit::spec("pendingDeletionDays", Some(json!(30)), json!(30)),
            Edit::removal("alias", None),
        ];
        assert_eq!(decided(&key(&json!({"scheduleDeletion": true}), &theirs), edits), Ok(None));
        // One that is there does not hide one that is not.
        let one = decided(&key(&json!({}), &json!([])), schedule(true)).unwrap().unwrap();
        assert_eq!(one, ["spec.pendingDeletionDays", "annotation cmk-operator.dev/requested-by"]);
    }

    #[test]
    fn who_asked_is_noted_once() {
        let mut object = key(&json!({}), &json!([]));
        object.annotations_mut().insert(metadata::REQUESTED_BY.into(), USER.into());
        let again = decided(&object, schedule(true)).unwrap().unwrap();
        assert_eq!(again, ["spec.pendingDeletionDays"]);
    }
}
