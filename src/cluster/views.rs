//! What the operator wants to know about objects that it only looks at.

use k8s_openapi::api::core::v1::Namespace;
use kube::{ResourceExt, api::ObjectMeta, core::PartialObjectMeta};

use crate::api::metadata;

/// A namespace, as far as keys care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceView {
    /// Tells it from an earlier namespace of the same name.
    pub uid: String,
    /// It is being deleted: nothing waits in it (design, rule 6), nothing is created in it.
    pub terminating: bool,
    /// An administrator lets keys of an earlier namespace of the same name be taken over (rule 5).
    pub adopt_keys: bool,
}

impl From<&PartialObjectMeta<Namespace>> for NamespaceView {
    fn from(namespace: &PartialObjectMeta<Namespace>) -> Self {
        Self {
            uid: namespace.uid().unwrap_or_default(),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
            adopt_keys: namespace.annotations().get(metadata::ADOPT_KEYS).is_some_and(|v| v == "true"),
        }
    }
}

/// A `CustomerMasterKey`, as far as those who use its key care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyObjectView {
    /// The id of its key, once the operator has finished taking the object on. A key without it might still be
    /// forgotten (design, rule 1), so nobody may use it.
    pub key_id: Option<String>,
    /// The object is being deleted.
    pub deleting: bool,
}

impl From<&ObjectMeta> for KeyObjectView {
    fn from(meta: &ObjectMeta) -> Self {
        Self {
            key_id: meta.annotations.as_ref().and_then(|a| a.get(metadata::KEY_ID)).cloned(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }
}
