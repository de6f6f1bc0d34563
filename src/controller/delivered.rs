//! Secrets that are delivered for an object: how they should be, and whether they are (pure).

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::{api::metadata, cluster::WipedSecret};

/// The type of every delivered Secret.
pub const OPAQUE: &str = "Opaque";

/// A Secret that may hold a plaintext.
pub struct SecretObject(WipedSecret);

impl From<Secret> for SecretObject {
    fn from(secret: Secret) -> Self {
        Self(secret.into())
    }
}

impl SecretObject {
    /// The Secret itself, to be sent to the API server.
    pub fn expose(&self) -> &Secret {
        &self.0
    }

    /// An entry of it, if that is text.
    pub fn text(&self, entry: &str) -> Option<String> {
        let bytes = self.0.data.as_ref()?.get(entry)?;
        String::from_utf8(bytes.0.clone()).ok()
    }

    fn is_immutable(&self) -> bool {
        self.0.immutable == Some(true)
    }
}

/// What says for which object a Secret was delivered: a label and an annotation, so that it is known again after a
/// restore, when UIDs are others.
pub struct Mark {
    /// The value of [`metadata::COMPONENT_LABEL`].
    pub component: &'static str,
    /// The annotation,
    pub annotation: &'static str,
    /// and its value: `NAMESPACE/NAME` of the object.
    pub identity: String,
}

impl Mark {
    /// Whether it is on a Secret.
    pub fn is_on(&self, secret: &SecretObject) -> bool {
        secret.0.labels().get(metadata::COMPONENT_LABEL).is_some_and(|v| v == self.component)
            && secret.0.annotations().get(self.annotation).is_some_and(|v| *v == self.identity)
    }
}

/// What a spec says about a Secret's metadata.
pub struct Declared {
    /// Its name.
    pub name: String,
    /// The namespace of the object that it is for.
    pub namespace: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whose it is, for the garbage collector.
    pub owner_references: Option<Vec<OwnerReference>>,
}

impl Declared {
    /// The metadata as it should be. Labels and annotations of others in `existing` stay; those that we put there
    /// and that are no longer declared go.
    pub fn metadata(self, mark: &Mark, existing: &ObjectMeta) -> ObjectMeta {
        let Self { name, namespace, labels, annotations, owner_references } = self;
        let applied = json!({
            "labels": labels.keys().collect::<Vec<_>>(),
            "annotations": annotations.keys().collect::<Vec<_>>(),
        });
        let before = existing.annotations.as_ref().and_then(|a| a.get(metadata::APPLIED_METADATA));
        let mut all_labels = without_applied(existing.labels.as_ref(), before, "labels");
        all_labels.extend(labels);
        all_labels.extend([
            (metadata::MANAGED_BY_LABEL.into(), metadata::MANAGER.into()),
            (metadata::COMPONENT_LABEL.into(), mark.component.into()),
        ]);
        let mut all_annotations = without_applied(existing.annotations.as_ref(), before, "annotations");
        all_annotations.extend(annotations);
        all_annotations.extend([
            (mark.annotation.into(), mark.identity.clone()),
            (metadata::APPLIED_METADATA.into(), applied.to_string()),
        ]);
        ObjectMeta {
            name: Some(name),
            namespace,
            labels: Some(all_labels),
            annotations: Some(all_annotations),
            owner_references,
            ..existing.clone()
        }
    }
}

/// What is there, less what an earlier spec put there.
fn without_applied(
    existing: Option<&BTreeMap<String, String>>,
    applied: Option<&String>,
    what: &str,
) -> BTreeMap<String, String> {
    let mut kept = existing.cloned().unwrap_or_default();
    let applied: serde_json::Value =
        applied.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(serde_json::Value::Null);
    for key in applied[what].as_array().into_iter().flatten().filter_map(|key| key.as_str()) {
        kept.remove(key);
    }
    kept
}

/// What has to be done to the Secret.
pub enum Difference {
    /// It is as it should be.
    None,
    /// It does not exist.
    Missing(SecretObject),
    /// It is ours and differs: replace it by this.
    Changed(SecretObject),
    /// It is ours and differs in what can't be changed: delete it, and make it anew.
    Fixed,
    /// It is somebody else's.
    NotOurs,
}

/// Compares what is there with what should be, which follows from the metadata that is there.
pub fn difference(
    existing: Option<&SecretObject>,
    mark: &Mark,
    desired: impl FnOnce(&ObjectMeta) -> SecretObject,
) -> Difference {
    let Some(existing) = existing else {
        return Difference::Missing(desired(&ObjectMeta::default()));
    };
    if !mark.is_on(existing) {
        return Difference::NotOurs;
    }
    let wanted = desired(&existing.0.metadata);
    let same_data = same_data(existing.0.data.as_ref(), wanted.0.data.as_ref());
    let same_type = existing.0.type_ == wanted.0.type_;
    let same_immutability = existing.is_immutable() == wanted.is_immutable();
    if !same_type || (existing.is_immutable() && !(same_data && same_immutability)) {
        return Difference::Fixed;
    }
    if same_data && same_immutability && existing.0.metadata == wanted.0.metadata {
        return Difference::None;
    }
    Difference::Changed(wanted)
}

type Data = BTreeMap<String, ByteString>;

/// Same entries with the same values, compared in constant time: one of them is the plaintext.
fn same_data(a: Option<&Data>, b: Option<&Data>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(a, b)| bool::from(a.0.ct_eq(&b.0)))
}
