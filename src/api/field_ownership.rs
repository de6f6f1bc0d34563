//! Whether a field of an object may be changed by a command or a call, or belongs to somebody who would change it
//! back (design, section 5): a pure function of the object's `managedFields`.
//!
//! Server-side apply can't be asked to decide this: it does nothing when a field is removed that the applier does not
//! own, and it creates objects that were deleted meanwhile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

/// Who writes objects from manifests that are kept elsewhere, and not by server-side apply: by their field manager.
/// What these own is changed in the manifest.
pub const GITOPS_MANAGERS: [&str; 12] = [
    "kubectl-client-side-apply",
    "argocd-controller",
    "argocd-application-controller",
    "helm",
    "helm-controller",
    "kustomize-controller",
    "fleetagent",
    "kapp",
    "kapp-controller",
    "configsync",
    "pulumi-kubernetes",
    "Terraform",
];

/// What is to be done to one field.
#[derive(Clone, Copy, Debug)]
pub struct FieldChange<'a> {
    /// Where the field is, from the root: `["spec", "enabled"]`. Not inside a list or an atomic map, which have one
    /// owner as a whole: name those.
    pub path: &'a [&'a str],
    /// Its value now. None: absent. The caller may give the value that absence stands for instead.
    pub is: Option<&'a Value>,
    /// Its value afterwards. None: to be removed.
    pub wanted: Option<&'a Value>,
}

/// Whether a change may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The value is there already: success, and nothing is written.
    NothingToDo,
    /// Nobody declares the field elsewhere.
    Allowed,
    /// This field manager declares the field, and would change it back.
    OwnedBy {
        /// Its name.
        manager: String,
        /// It owns the field by server-side apply, not as one of the managers that were named.
        applied: bool,
    },
}

/// Decides about a change of an object with these `managedFields`.
///
/// Owners that count are those by server-side apply, all but `ours`, and those whose name is in `gitops`. A field
/// that another one wrote, such as `kubectl edit`, may be changed. Writes to a subresource declare nothing.
#[must_use]
pub fn decide(managed: &[ManagedFieldsEntry], change: FieldChange<'_>, ours: &str, gitops: &[&str]) -> Decision {
    if change.is == change.wanted {
        return Decision::NothingToDo;
    }
    let declares = |entry: &ManagedFieldsEntry, applied: bool| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let by_apply = entry.operation.as_deref() == Some("Apply");
        let counts = if applied { by_apply } else { !by_apply && gitops.contains(&manager) };
        counts
            && manager != ours
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
            && owns(entry, change.path)
    };
    let owner = |applied: bool| {
        let entry = managed.iter().find(|entry| declares(entry, applied))?;
        Some(Decision::OwnedBy { manager: entry.manager.clone().unwrap_or_default(), applied })
    };
    owner(true).or_else(|| owner(false)).unwrap_or(Decision::Allowed)
}

/// Whether an entry names the field, or anything in it.
fn owns(entry: &ManagedFieldsEntry, path: &[&str]) -> bool {
    let Some(fields) = entry.fields_v1.as_ref() else { return false };
    path.iter().try_fold(&fields.0, |fields, step| fields.get(format!("f:{step}"))).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries(managed: &Value) -> Vec<ManagedFieldsEntry> {
        serde_json::from_value(managed.clone()).unwrap()
    }

    /// An entry as the API server writes it.
    fn entry(manager: &str, operation: &str, subresource: &str, fields: &Value) -> Value {
        json!({
            "manager": manager, "operation": operation, "subresource": subresource, "fieldsType": "FieldsV1",
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields,
        })
    }

    fn owned(manager: &str, applied: bool) -> Decision {
        Decision::OwnedBy { manager: manager.into(), applied }
    }

    /// Changes `spec.enabled` from true to false.
    fn disable(managed: &Value) -> Decision {
        let (is, wanted) = (json!(true), json!(false));
        let change = FieldChange { path: &["spec", "enabled"], is: Some(&is), wanted: Some(&wanted) };
        decide(&entries(managed), change, "cmk-plugin", &GITOPS_MANAGERS)
    }

    #[test]
    fn what_somebody_declares_elsewhere_is_theirs() {
        let enabled = json!({"f:spec": {"f:enabled": {}}});
        let other = json!({"f:spec": {"f:description": {}, "f:tags": {"f:enabled": {}}}});
        let table = [
            ("nobody", json!([]), Decision::Allowed),
            ("server-side apply", json!([entry("kubectl", "Apply", "", &enabled)]), owned("kubectl", true)),
            ("any applier", json!([entry("my-tool", "Apply", "", &enabled)]), owned("my-tool", true)),
            ("it applies another field", json!([entry("kubectl", "Apply", "", &other)]), Decision::Allowed),
            (
                "it applies an empty spec",
                json!([entry("kubectl", "Apply", "", &json!({"f:spec": {}}))]),
                Decision::Allowed,
            ),
            (
                "client-side apply",
                json!([entry("kubectl-client-side-apply", "Update", "", &enabled)]),
                owned("kubectl-client-side-apply", false),
            ),
            (
                "a GitOps controller that updates",
                json!([entry("argocd-controller", "Update", "", &enabled)]),
                owned("argocd-controller", false),
            ),
            ("kubectl edit", json!([entry("kubectl-edit", "Update", "", &enabled)]), Decision::Allowed),
            ("kubectl patch", json!([entry("kubectl-patch", "Update", "", &enabled)]), Decision::Allowed),
            ("we ourselves", json!([entry("cmk-plugin", "Update", "", &enabled)]), Decision::Allowed),
            ("we ourselves, by apply", json!([entry("cmk-plugin", "Apply", "", &enabled)]), Decision::Allowed),
            (
                "edited after it was applied: the applier lost it",
                json!([entry("kubectl", "Apply", "", &other), entry("kubectl-edit", "Update", "", &enabled)]),
                Decision::Allowed,
            ),
            (
                "an editor that set the same value owns it together with the applier",
                json!([entry("kubectl-edit", "Update", "", &enabled), entry("flux", "Apply", "", &enabled)]),
                owned("flux", true),
            ),
            (
                "the applier is named before the one that is only listed",
                json!([entry("helm", "Update", "", &enabled), entry("flux", "Apply", "", &enabled)]),
                owned("flux", true),
            ),
            (
                "through a subresource",
                json!([entry("argocd-controller", "Update", "status", &enabled)]),
                Decision::Allowed,
            ),
            ("applied to a subresource", json!([entry("kubectl", "Apply", "status", &enabled)]), Decision::Allowed),
            (
                "the operator",
                json!([entry("cmk-operator", "Update", "status", &json!({"f:status": {}}))]),
                Decision::Allowed,
            ),
            ("an entry without fields", json!([{"manager": "kubectl", "operation": "Apply"}]), Decision::Allowed),
        ];
        for (case, managed, expected) in table {
            assert_eq!(disable(&managed), expected, "{case}");
        }
    }

    #[test]
    fn the_value_that_is_there_is_success_whoever_owns_it() {
        let managed = entries(&json!([entry("kubectl", "Apply", "", &json!({"f:spec": {"f:enabled": {}}}))]));
        let value = json!(false);
        for same in [Some(&value), None] {
            let change = FieldChange { path: &["spec", "enabled"], is: same, wanted: same };
            assert_eq!(decide(&managed, change, "cmk-plugin", &GITOPS_MANAGERS), Decision::NothingToDo);
        }
    }

    #[test]
    fn fields_that_are_removed_or_hold_others() {
        let material = json!({"f:spec": {"f:importedKeyMaterial": {".": {}, "f:secretRef": {"f:name": {}}}}});
        let annotation = json!({"f:metadata": {"f:annotations": {"f:cmk-operator.dev/rotate-requested-at": {}}}});
        let parent = json!({"f:metadata": {"f:annotations": {".": {}, "f:team": {}}}});
        let value = json!("x");
        let rotation: &[&str] = &["metadata", "annotations", "cmk-operator.dev/rotate-requested-at"];
        type Row<'a> = (&'a str, &'a Value, &'a [&'a str], Option<&'a Value>, Decision);
        let rows: [Row<'_>; 5] = [
            ("removed, and theirs", &material, &["spec", "importedKeyMaterial"], None, owned("flux", true)),
            ("removed, and nobody's", &annotation, &["spec", "importedKeyMaterial"], None, Decision::Allowed),
            (
                "set, and a part of it is theirs",
                &material,
                &["spec", "importedKeyMaterial"],
                Some(&value),
                owned("flux", true),
            ),
            ("an annotation, whose name has a slash", &annotation, rotation, None, owned("flux", true)),
            ("another annotation", &parent, rotation, None, Decision::Allowed),
        ];
        let is = json!({"secretRef": {"name": "a", "key": "b"}});
        for (case, fields, path, wanted, expected) in rows {
            let managed = entries(&json!([entry("flux", "Apply", "", fields)]));
            let change = FieldChange { path, is: Some(&is), wanted };
            assert_eq!(decide(&managed, change, "cmk-plugin", &GITOPS_MANAGERS), expected, "{case}");
        }
    }

    #[test]
    fn the_list_of_managers_is_the_callers() {
        let managed = entries(&json!([entry("our-deployer", "Update", "", &json!({"f:spec": {"f:enabled": {}}}))]));
        let wanted = json!(false);
        let change = FieldChange { path: &["spec", "enabled"], is: None, wanted: Some(&wanted) };
        assert_eq!(decide(&managed, change, "cmk-plugin", &[]), Decision::Allowed);
        assert_eq!(decide(&managed, change, "cmk-plugin", &["our-deployer"]), owned("our-deployer", false));
    }
}
