//! The traits through which the operator sees an API server, over the one in memory; with a view that may lag behind,
//! and calls that fail when a test says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use cmk_operator::{
    api::{
        ClusterKeyStoreSpec, CustomerMasterKey, DataKey, KeyStoreRef,
        cluster_key_store::{Embedded, OnNamespaceRecreated},
        metadata,
    },
    cluster::{
        ApiError, Cluster, EventNote, Events, Guarded, History, KeyObjectView, KeyStoreView, NamespaceView, Objects,
        Secrets,
    },
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::server::{Etcd, Kept, Name, merge, name_of};

/// How the next calls to the API server fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// They are answered.
    #[default]
    None,
    /// The call after so many more gets no answer.
    In {
        /// Calls until then.
        calls: u32,
        /// It takes effect nevertheless.
        takes_effect: bool,
        /// The operator dies with it: none after it is sent.
        kills: bool,
    },
    /// The operator is dead.
    Dead,
}

/// What the watches have shown.
#[derive(Clone, Default)]
pub struct Seen {
    pub namespaces: BTreeMap<String, NamespaceView>,
    pub keys: BTreeMap<Name, CustomerMasterKey>,
    pub data_keys: BTreeMap<Name, DataKey>,
}

struct Inner {
    etcd: Etcd,
    seen: Seen,
    fault: Fault,
    on_namespace_recreated: OnNamespaceRecreated,
}

/// An API server in memory. Clones are handles to the same.
#[derive(Clone)]
pub struct MemoryCluster(Arc<Mutex<Inner>>);

impl MemoryCluster {
    pub fn new(now: Timestamp, on_namespace_recreated: OnNamespaceRecreated) -> Self {
        let inner = Inner { etcd: Etcd::new(now), seen: Seen::default(), fault: Fault::None, on_namespace_recreated };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// What only the test does: past every fault.
    pub fn etcd<T>(&self, act: impl FnOnce(&mut Etcd) -> T) -> T {
        act(&mut self.lock().etcd)
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.lock().seen)
    }

    /// Brings what the watches have shown up to date: of namespaces, or of objects, or of both.
    pub fn catch_up(&self, namespaces: bool, objects: bool) {
        let Inner { etcd, seen, .. } = &mut *self.lock();
        if namespaces {
            seen.namespaces.clone_from(&etcd.namespaces);
        }
        if objects {
            seen.keys.clone_from(&etcd.keys);
            seen.data_keys.clone_from(&etcd.data_keys);
        }
    }

    pub fn set_fault(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    pub fn is_dead(&self) -> bool {
        self.lock().fault == Fault::Dead
    }

    /// One call to the API server.
    fn call<T>(&self, call: impl FnOnce(&mut Etcd) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let Inner { etcd, fault, .. } = &mut *self.lock();
        match *fault {
            Fault::None => return call(etcd),
            Fault::Dead => {}
            Fault::In { calls: 0, takes_effect, kills } => {
                *fault = if kills { Fault::Dead } else { Fault::None };
                if takes_effect {
                    // Nobody hears the answer.
                    let _ = call(etcd);
                }
            }
            Fault::In { calls, takes_effect, kills } => {
                *fault = Fault::In { calls: calls - 1, takes_effect, kills };
                return call(etcd);
            }
        }
        Err(ApiError::Unavailable("the test lets this call fail".into()))
    }
}

impl Secrets for MemoryCluster {
    async fn get_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        self.call(|etcd| Ok(etcd.get(namespace, name)))
    }

    async fn list_secrets(&self, namespace: &str, type_: &str) -> Result<Vec<Secret>, ApiError> {
        self.call(|etcd| Ok(secrets_of(etcd, namespace, type_)))
    }

    async fn create_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        self.call(|etcd| etcd.create(secret))
    }

    async fn replace_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        self.call(|etcd| {
            etcd.update(&secret.metadata, |current: &mut Secret| {
                let kept = current.metadata.clone();
                *current = secret.clone();
                let ObjectMeta { uid, creation_timestamp, generation, .. } = kept;
                current.metadata = ObjectMeta { uid, creation_timestamp, generation, ..current.metadata.clone() };
            })
        })
    }

    async fn delete_secret(&self, secret: &Secret) -> Result<(), ApiError> {
        self.call(|etcd| etcd.delete_exactly::<Secret>(&secret.metadata))
    }
}

/// The Secrets of a type.
pub fn secrets_of(etcd: &Etcd, namespace: &str, type_: &str) -> Vec<Secret> {
    let of = |s: &&Secret| s.namespace().as_deref() == Some(namespace) && s.type_.as_deref() == Some(type_);
    etcd.secrets.values().filter(of).cloned().collect()
}

impl<K: Kept + Send + Sync> Objects<K> for MemoryCluster {
    async fn get_object(&self, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
        self.call(|etcd| Ok(etcd.get(namespace, name)))
    }

    async fn patch_metadata(&self, object: &K, patch: Value) -> Result<K, ApiError> {
        self.call(|etcd| {
            etcd.update(object.meta(), |current: &mut K| {
                let mut value = serde_json::to_value(&*current).unwrap();
                merge(&mut value["metadata"], &patch);
                *current = serde_json::from_value(value).unwrap();
            })
        })
    }

    async fn replace_status(&self, object: &K) -> Result<K, ApiError> {
        self.call(|etcd| etcd.update(object.meta(), |current: &mut K| current.take_status(object)))
    }

    async fn get_raw(&self, metadata: &ObjectMeta) -> Result<Option<Value>, ApiError> {
        let (namespace, name) = (metadata.namespace.clone().unwrap(), metadata.name.clone().unwrap());
        self.call(|etcd| Ok(etcd.get::<K>(&namespace, &name).map(|object| serde_json::to_value(object).unwrap())))
    }

    async fn patch_raw_status(&self, metadata: &ObjectMeta, status: Value) -> Result<(), ApiError> {
        let change = |current: &mut K| {
            let mut value = serde_json::to_value(&*current).unwrap();
            merge(&mut value, &json!({ "status": status }));
            *current = serde_json::from_value(value).unwrap();
        };
        self.call(|etcd| etcd.update(metadata, change).map(drop))
    }
}

impl Cluster for MemoryCluster {
    async fn namespace(&self, name: &str) -> Result<Option<NamespaceView>, ApiError> {
        let seen = self.lock().seen.namespaces.get(name).cloned();
        match seen {
            Some(seen) => Ok(Some(seen)),
            None => self.namespace_now(name).await,
        }
    }

    async fn namespace_now(&self, name: &str) -> Result<Option<NamespaceView>, ApiError> {
        self.call(|etcd| Ok(etcd.namespaces.get(name).cloned()))
    }

    fn is_watched(&self, _: &str) -> bool {
        true
    }

    fn watched_key(&self, namespace: &str, name: &str) -> Option<KeyObjectView> {
        let seen = self.lock().seen.keys.get(&(namespace.to_owned(), name.to_owned())).cloned()?;
        Some(KeyObjectView::from(&Guarded(Ok(seen))))
    }

    fn key_store(&self, store: &KeyStoreRef) -> Option<KeyStoreView> {
        let on_namespace_recreated = Some(self.lock().on_namespace_recreated);
        let embedded = Some(Embedded { on_namespace_recreated, ..Embedded::default() });
        let spec = ClusterKeyStoreSpec { embedded, ..ClusterKeyStoreSpec::default() };
        (*store == KeyStoreRef::default()).then(|| KeyStoreView::from(&spec))
    }

    fn data_keys_under(&self, namespace: &str, name: &str) -> Vec<(String, String)> {
        let refers = |object: &&DataKey| {
            let own = object.namespace().unwrap_or_default();
            object.spec.master(&own) == (namespace, name)
        };
        self.lock().seen.data_keys.values().filter(refers).map(name_of).collect()
    }

    async fn create_key_object(&self, object: &CustomerMasterKey) -> Result<(), ApiError> {
        self.call(|etcd| etcd.create(object).map(drop))
    }

    async fn history(&self, namespace: &str, name: &str, uid: &str, since: &str) -> Result<History, ApiError> {
        self.call(|etcd| Ok(etcd.history(namespace, name, uid, since)))
    }

    async fn count_keys_with_status(&self) -> Result<usize, ApiError> {
        self.call(|etcd| {
            let has_key = |key: &&CustomerMasterKey| key.status.as_ref().is_some_and(|s| s.key_metadata.is_some());
            Ok(etcd.keys.values().filter(has_key).count())
        })
    }

    async fn server_time(&self, _: &str) -> Result<Timestamp, ApiError> {
        self.call(|etcd| Ok(etcd.now))
    }
}

impl Events for MemoryCluster {
    async fn publish<K>(&self, _: &K, note: &EventNote)
    where
        K: Resource<DynamicType = ()> + Sync,
    {
        // An Event is news, never the only record: that it is lost changes nothing.
        assert!(!note.message.is_empty());
    }
}

/// The type of the Secrets that hold records.
pub const RECORDS: &str = metadata::KEY_RECORD_TYPE;
/// The type of those that claim aliases.
pub const ALIASES: &str = metadata::ALIAS_TYPE;
