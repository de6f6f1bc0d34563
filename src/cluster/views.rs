//! What the operator wants to know about objects that it only looks at.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Resource, ResourceExt, core::PartialObjectMeta};

use super::Guarded;
use crate::api::{
    ClusterKeyStoreSpec, CustomerMasterKey, KeyStoreRef,
    allowed_namespaces::{AllowedNamespaces, FromNamespaces},
    cluster_key_store::OnNamespaceRecreated,
    metadata,
};

/// A namespace, as far as keys care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceView {
    /// Tells it from an earlier namespace of the same name.
    pub uid: String,
    /// It is being deleted: nothing waits in it (design, rule 6), nothing is created in it.
    pub terminating: bool,
    /// An administrator lets keys of an earlier namespace of the same name be taken over (rule 5).
    pub adopt_keys: bool,
    /// Its labels, for allowedNamespaces.
    pub labels: BTreeMap<String, String>,
}

impl From<&PartialObjectMeta<Namespace>> for NamespaceView {
    fn from(namespace: &PartialObjectMeta<Namespace>) -> Self {
        Self {
            uid: namespace.uid().unwrap_or_default(),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
            adopt_keys: namespace.annotations().get(metadata::ADOPT_KEYS).is_some_and(|v| v == "true"),
            labels: namespace.labels().clone(),
        }
    }
}

/// A `CustomerMasterKey`, as far as those who use its key care.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyObjectView {
    /// Tells it from an earlier object of the same name.
    pub uid: String,
    /// The id of its key, once the operator has finished taking the object on. A key without it might still be
    /// forgotten (design, rule 1), so nobody may use it.
    pub key_id: Option<String>,
    /// The object is being deleted.
    pub deleting: bool,
    /// Where its key is.
    pub key_store_ref: KeyStoreRef,
    /// The key of the store that it adopted, or wants to.
    pub adopts: Option<String>,
    /// Who may use its key.
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

impl KeyObjectView {
    /// Whether DataKeys in a namespace with these labels may use the key. `same`: it is the key's own.
    #[must_use]
    pub fn allows(&self, same: bool, labels: &BTreeMap<String, String>) -> bool {
        AllowedNamespaces::allow(self.allowed_namespaces.as_ref(), FromNamespaces::Same, same, labels)
    }
}

impl From<&Guarded<CustomerMasterKey>> for KeyObjectView {
    /// Of an object that can't be read, only its own namespace may use the key, and that is in the default store.
    fn from(object: &Guarded<CustomerMasterKey>) -> Self {
        let meta = object.meta();
        let view = Self {
            uid: meta.uid.clone().unwrap_or_default(),
            key_id: meta.annotations.as_ref().and_then(|a| a.get(metadata::KEY_ID)).cloned(),
            deleting: meta.deletion_timestamp.is_some(),
            ..Self::default()
        };
        object.0.as_ref().map_or(view, Self::from)
    }
}

impl From<&CustomerMasterKey> for KeyObjectView {
    fn from(object: &CustomerMasterKey) -> Self {
        Self {
            uid: object.uid().unwrap_or_default(),
            key_id: object.annotations().get(metadata::KEY_ID).cloned(),
            deleting: object.metadata.deletion_timestamp.is_some(),
            key_store_ref: object.key_store_ref(),
            adopts: object.spec.key_id.clone(),
            allowed_namespaces: object.spec.allowed_namespaces.clone(),
        }
    }
}

/// A key store, as far as the keys in it care.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyStoreView {
    /// The region in the resource names of new keys.
    pub region: String,
    /// The account in them.
    pub account_id: String,
    /// What becomes of keys in a namespace that was made anew.
    pub on_namespace_recreated: OnNamespaceRecreated,
    allowed_namespaces: Option<AllowedNamespaces>,
}

impl From<&ClusterKeyStoreSpec> for KeyStoreView {
    /// What is not said is as in the store that is there without an object.
    fn from(spec: &ClusterKeyStoreSpec) -> Self {
        let embedded = spec.embedded.clone().unwrap_or_default();
        Self {
            region: embedded.region.unwrap_or_else(|| "cn-hangzhou".into()),
            account_id: embedded.account_id.unwrap_or_else(|| "123456".into()),
            on_namespace_recreated: embedded.on_namespace_recreated.unwrap_or_default(),
            allowed_namespaces: spec.allowed_namespaces.clone(),
        }
    }
}

impl KeyStoreView {
    /// The store that an object declares. None: it has a provider that this version does not know, and no key of
    /// it is touched.
    #[must_use]
    pub fn declared(spec: &ClusterKeyStoreSpec) -> Option<Self> {
        spec.embedded.is_some().then(|| Self::from(spec))
    }

    /// Whether keys of a namespace with these labels may be made in the store.
    #[must_use]
    pub fn allows(&self, labels: &BTreeMap<String, String>) -> bool {
        AllowedNamespaces::allow(self.allowed_namespaces.as_ref(), FromNamespaces::All, false, labels)
    }
}
