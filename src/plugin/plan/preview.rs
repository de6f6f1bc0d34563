//! What an object would be if its manifest were applied: asked of the API server by a dry run, so that defaults, CEL
//! and the admission policies have their say.

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Map, Value, json};

use super::manifests::Manifest;
use crate::plugin::failure::Failure;

/// Where `kubectl apply` keeps the last manifest, without `--server-side`.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The field manager of `kubectl apply --server-side`.
const KUBECTL: &str = "kubectl";
/// And of `kubectl apply`.
const CLIENT_SIDE: &str = "kubectl-client-side-apply";

/// How manifests are applied.
#[derive(Clone, Debug, Default)]
pub struct Applying {
    /// The field manager. None: the one that applied the object before, else kubectl's.
    pub field_manager: Option<String>,
    /// Take fields over from other managers.
    pub force_conflicts: bool,
}

/// An object before and after.
#[derive(Clone, Debug)]
pub struct Preview {
    /// As it is. None: there is none.
    pub live: Option<Value>,
    /// As it would be.
    pub after: Value,
    /// Whether the API server was asked. It can't be about an object in a namespace that is not there yet.
    pub asked: bool,
}

impl Preview {
    /// The fields that applying changes, at the top of the spec, and labels and annotations as a whole.
    pub fn changed_fields(&self) -> Vec<String> {
        let empty = Value::Null;
        let live = self.live.as_ref().unwrap_or(&empty);
        let mut changed = Vec::new();
        for (parent, field) in [("metadata", "labels"), ("metadata", "annotations")] {
            if without_last_applied(&live[parent][field]) != without_last_applied(&self.after[parent][field]) {
                changed.push(format!("{parent}.{field}"));
            }
        }
        let (before, after) = (fields(&live["spec"]), fields(&self.after["spec"]));
        let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
        names.sort();
        names.dedup();
        changed
            .extend(names.into_iter().filter(|n| before.get(*n) != after.get(*n)).map(|name| format!("spec.{name}")));
        changed
    }
}

fn fields(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn without_last_applied(annotations: &Value) -> Map<String, Value> {
    let mut kept = fields(annotations);
    kept.remove(LAST_APPLIED);
    kept
}

/// How an object would be written.
#[derive(Debug, PartialEq)]
enum Way {
    /// `kubectl apply`: this merge patch.
    ClientSide(Value),
    /// `kubectl apply --server-side`, or a controller that does the same, under this name.
    ServerSide(String),
}

/// Asks the API server.
pub async fn preview(api: &Api<DynamicObject>, manifest: &Manifest, how: &Applying) -> Result<Preview, Failure> {
    let Some(name) = manifest.metadata("name") else {
        return Err(manifest.problem("metadata.name is needed"));
    };
    let live = api.get_opt(name).await?.map(|object| json_of(&object)).transpose()?;
    let way = way(live.as_ref(), &manifest.object, how.field_manager.as_deref());
    let params = |manager: &str| PatchParams {
        dry_run: true,
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    let answer = match &way {
        Way::ClientSide(patch) => api.patch(name, &params(CLIENT_SIDE), &Patch::Merge(patch)).await,
        Way::ServerSide(manager) => {
            let params = PatchParams { force: how.force_conflicts, ..params(manager) };
            api.patch(name, &params, &Patch::Apply(&manifest.object)).await
        }
    };
    let after = answer.map_err(|error| conflict(manifest, error))?;
    Ok(Preview { live, after: json_of(&after)?, asked: true })
}

fn json_of(object: &DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(|error| Failure::Output(error.to_string()))
}

fn conflict(manifest: &Manifest, error: kube::Error) -> Failure {
    match &error {
        kube::Error::Api(status) if status.code == 409 => manifest.problem(format!(
            "{} If you apply it with --force-conflicts, plan it with --force-conflicts; --field-manager says who \
             applies it.",
            status.message.trim()
        )),
        _ => error.into(),
    }
}

/// An object that `kubectl apply` made is applied in the same way, and one that was applied server-side by whoever
/// did that: only so are fields found that the manifest does not have any more.
fn way(live: Option<&Value>, manifest: &Value, manager: Option<&str>) -> Way {
    if let Some(manager) = manager {
        return Way::ServerSide(manager.to_owned());
    }
    let last_applied = live.and_then(|live| live["metadata"]["annotations"][LAST_APPLIED].as_str());
    if let (Some(live), Some(Ok(last))) = (live, last_applied.map(serde_json::from_str::<Value>)) {
        let mut manifest = manifest.clone();
        // kubectl's own annotation is always among those that are applied: so not all of them go when the manifest
        // has none.
        if manifest["metadata"]["annotations"].is_null() {
            manifest["metadata"]["annotations"] = json!({});
        }
        return Way::ClientSide(three_way(&last, &manifest, live));
    }
    let applied =
        |entry: &&Value| entry["operation"] == "Apply" && entry["subresource"].as_str().unwrap_or("").is_empty();
    let managed = live.and_then(|live| live["metadata"]["managedFields"].as_array()).cloned().unwrap_or_default();
    let mut appliers = managed.iter().filter(applied).filter_map(|entry| entry["manager"].as_str());
    match (appliers.next(), appliers.next()) {
        (Some(only), None) => Way::ServerSide(only.to_owned()),
        _ => Way::ServerSide(KUBECTL.to_owned()),
    }
}

/// The merge patch (RFC 7386) of `kubectl apply`: what the manifest has, and null for what the last one had and it has
/// not. What neither has is left alone.
fn three_way(last: &Value, manifest: &Value, live: &Value) -> Value {
    let (Value::Object(manifest_fields), Value::Object(live_fields)) = (manifest, live) else {
        return manifest.clone();
    };
    let nothing = Map::new();
    let last_fields = last.as_object().unwrap_or(&nothing);
    let removed =
        last_fields.keys().filter(|name| !manifest_fields.contains_key(*name) && live_fields.contains_key(*name));
    let mut patch: Map<_, _> = removed.map(|name| (name.clone(), Value::Null)).collect();
    for (name, wanted) in manifest_fields {
        let wanted = match live_fields.get(name) {
            Some(live) => three_way(last_fields.get(name).unwrap_or(&Value::Null), wanted, live),
            None => wanted.clone(),
        };
        patch.insert(name.clone(), wanted);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_fields_are_those_of_the_last_manifest() {
        let last = json!({"spec": {"a": 1, "b": 2, "tags": {"x": "1", "y": "2"}}});
        let manifest = json!({"spec": {"a": 3, "tags": {"x": "1"}, "new": {"deep": true}}});
        let live = json!({"spec": {"a": 1, "b": 2, "theirs": 9, "tags": {"x": "1", "y": "2", "z": "3"}}, "status": {}});
        assert_eq!(
            three_way(&last, &manifest, &live),
            json!({"spec": {"a": 3, "b": null, "tags": {"x": "1", "y": null}, "new": {"deep": true}}})
        );
        assert_eq!(
            three_way(&json!({"spec": {"gone": 1}}), &json!({"spec": {}}), &json!({"spec": {}})),
            json!({"spec": {}})
        );
    }

    #[test]
    fn an_object_is_applied_as_it_was_before() {
        let manifest = json!({"spec": {}});
        let applied = |managers: &[&str]| {
            let entries: Vec<_> =
                managers.iter().map(|manager| json!({"operation": "Apply", "manager": manager})).collect();
            json!({"metadata": {"managedFields": entries}})
        };
        let server_side = |name: &str| Way::ServerSide(name.into());
        let last = json!({"metadata": {"annotations": {LAST_APPLIED: "{\"spec\":{\"a\":1}}"}}, "spec": {"a": 1}});
        assert_eq!(way(None, &manifest, None), server_side("kubectl"));
        assert_eq!(way(Some(&applied(&["flux"])), &manifest, None), server_side("flux"));
        assert_eq!(way(Some(&applied(&["flux", "kubectl"])), &manifest, None), server_side("kubectl"));
        assert_eq!(way(Some(&applied(&[])), &manifest, None), server_side("kubectl"));
        assert_eq!(
            way(Some(&last), &manifest, None),
            Way::ClientSide(json!({"metadata": {"annotations": {}}, "spec": {"a": null}}))
        );
        assert_eq!(way(Some(&last), &manifest, Some("ci")), server_side("ci"));
    }

    #[test]
    fn changed_fields_are_named() {
        let live = json!({
            "metadata": {"annotations": {LAST_APPLIED: "x", "a": "1"}},
            "spec": {"enabled": true, "description": "same"},
        });
        let after = json!({
            "metadata": {"annotations": {"a": "1"}, "labels": {"l": "1"}},
            "spec": {"enabled": false, "description": "same", "alias": "x"},
        });
        let preview = Preview { live: Some(live), after, asked: true };
        assert_eq!(preview.changed_fields(), ["metadata.labels", "spec.alias", "spec.enabled"]);
    }
}
