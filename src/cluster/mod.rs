//! The API server, as the operator needs it: narrow traits, and their implementation with kube.
//!
//! Every write that a trait offers carries a precondition, so that two operators at once lose no data (design,
//! rule 17): creation fails when the object exists, everything else names the UID and the resource version it
//! was decided on. A simulator can stand in for the traits.

mod call;
mod error;
mod events;
mod guarded;
mod key_objects;
mod kube;
mod kube_reviews;
mod resource_version;
mod reviews;
mod views;
mod wiped;

use std::{future::Future, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;
use uuid::Uuid;

pub use self::{
    error::ApiError,
    events::{EventMetrics, EventNote, Events},
    guarded::{Guarded, Unreadable},
    key_objects::{ENDPOINT_MANAGER, KeyObjects},
    kube::{KubeCluster, Views},
    resource_version::is_older,
    reviews::{AccessQuestion, Reviews, UserInfo},
    views::{KeyObjectView, KeyStoreView, NamespaceView},
    wiped::WipedSecret,
};
use crate::api::{ClusterKeyStore, CustomerMasterKey, DataKey, KeyStoreRef};

/// Secrets, one at a time.
pub trait Secrets: Send + Sync + 'static {
    /// The Secret as it is now, read past every cache.
    fn get_secret(&self, namespace: &str, name: &str) -> impl Future<Output = Result<Option<Secret>, ApiError>> + Send;

    /// All Secrets of a type in a namespace, read past every cache.
    fn list_secrets(&self, namespace: &str, type_: &str) -> impl Future<Output = Result<Vec<Secret>, ApiError>> + Send;

    /// Creates a Secret that does not exist yet. `AlreadyExists` if it does.
    fn create_secret(&self, secret: &Secret) -> impl Future<Output = Result<Secret, ApiError>> + Send;

    /// Replaces exactly the Secret whose UID and resource version `secret` has. `Conflict` if it changed.
    fn replace_secret(&self, secret: &Secret) -> impl Future<Output = Result<Secret, ApiError>> + Send;

    /// Deletes exactly the Secret whose UID and resource version `secret` has. `Conflict` if it changed.
    fn delete_secret(&self, secret: &Secret) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// Objects of one of our kinds.
pub trait Objects<K>: Send + Sync + 'static {
    /// The object as it is now, read past every cache.
    fn get_object(&self, namespace: &str, name: &str) -> impl Future<Output = Result<Option<K>, ApiError>> + Send;

    /// Merges into the metadata of exactly this version of `object`. `Conflict` if it changed.
    fn patch_metadata(&self, object: &K, metadata: Value) -> impl Future<Output = Result<K, ApiError>> + Send;

    /// Replaces the status of exactly this version of `object` with the one in it. `Conflict` if it changed.
    fn replace_status(&self, object: &K) -> impl Future<Output = Result<K, ApiError>> + Send;

    /// An object as it is now, in JSON: it need not be readable as a `K`.
    fn get_raw(&self, metadata: &ObjectMeta) -> impl Future<Output = Result<Option<Value>, ApiError>> + Send;

    /// Merges into the status of exactly this version of an object, which need not be readable as a `K`.
    fn patch_raw_status(
        &self,
        metadata: &ObjectMeta,
        status: Value,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// The objects that declare key stores. They are in no namespace.
pub trait ClusterKeyStores: Send + Sync + 'static {
    /// All of them, from the watch, also those that can't be read.
    fn key_store_objects(&self) -> Vec<Arc<Guarded<ClusterKeyStore>>>;

    /// Replaces the status of exactly this version of `object` with the one in it. `Conflict` if it changed.
    fn replace_key_store_status(
        &self,
        object: &ClusterKeyStore,
    ) -> impl Future<Output = Result<ClusterKeyStore, ApiError>> + Send;

    /// One of them as it is now, in JSON: it need not be readable.
    fn get_raw_key_store(&self, name: &str) -> impl Future<Output = Result<Option<Value>, ApiError>> + Send;

    /// Merges into the status of exactly this version of one of them, which need not be readable.
    fn patch_raw_key_store_status(
        &self,
        metadata: &ObjectMeta,
        status: Value,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// ServiceAccounts, whose identities access keys are.
pub trait ServiceAccounts: Send + Sync + 'static {
    /// The UID of a ServiceAccount as it is now, read past every cache. None: there is none, or it is being deleted.
    fn service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<String>, ApiError>> + Send;
}

/// What an object's recorded history says about whether the operator ever finished taking it on.
#[derive(Clone, Debug, PartialEq)]
pub enum History {
    /// The API server still knows everything since the asked version: the object was deleted, in this last
    /// state, and never had our finalizer or the annotation with its key's id.
    NeverFinished(Box<CustomerMasterKey>),
    /// As above, but it was deleted in the very moment in which the finalizer was added: the API server looks for
    /// finalizers first and deletes then, and what is added in between holds nothing up.
    DeletedAtOnce(Box<CustomerMasterKey>),
    /// Anything else: it was finished, or exists, or the history does not reach back far enough.
    Unknown,
}

/// All that the controllers ask of the API server.
pub trait Cluster: Secrets + Events + Objects<CustomerMasterKey> + Objects<DataKey> {
    /// A namespace, from the watch, or read if the watch has not seen it.
    fn namespace(&self, name: &str) -> impl Future<Output = Result<Option<NamespaceView>, ApiError>> + Send;

    /// A namespace as it is now, read past every cache.
    fn namespace_now(&self, name: &str) -> impl Future<Output = Result<Option<NamespaceView>, ApiError>> + Send;

    /// Whether objects in a namespace are watched at all.
    fn is_watched(&self, namespace: &str) -> bool;

    /// A `CustomerMasterKey`, from the watch.
    fn watched_key(&self, namespace: &str, name: &str) -> Option<KeyObjectView>;

    /// Whether a `CustomerMasterKey` with a UID is there, from the watch, and has been finished with this key. Asked at
    /// every use of a key: an implementation looks without copying.
    fn shows_key(&self, namespace: &str, name: &str, uid: &str, key_id: Uuid) -> bool {
        self.watched_key(namespace, name).is_some_and(|object| {
            object.uid == uid && object.key_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) == Some(key_id)
        })
    }

    /// A key store, from the watch. `default` is there also without an object.
    fn key_store(&self, store: &KeyStoreRef) -> Option<KeyStoreView>;

    /// The DataKeys that refer to the `CustomerMasterKey` of that namespace and name, from the watch: their
    /// namespaces and names.
    fn data_keys_under(&self, namespace: &str, name: &str) -> Vec<(String, String)>;

    /// Makes a `CustomerMasterKey`. `AlreadyExists` if there is one.
    fn create_key_object(&self, object: &CustomerMasterKey) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// What became of the `CustomerMasterKey` of that name and UID since a resource version.
    fn history(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        since: &str,
    ) -> impl Future<Output = Result<History, ApiError>> + Send;

    /// How many `CustomerMasterKey`s and `DataKey`s had a key, by their status, or by their annotation as after a restore:
    /// read past every cache.
    fn count_keys_with_status(&self) -> impl Future<Output = Result<usize, ApiError>> + Send;

    /// The API server's clock, by a dry-run create in `namespace`.
    fn server_time(&self, namespace: &str) -> impl Future<Output = Result<Timestamp, ApiError>> + Send;
}
