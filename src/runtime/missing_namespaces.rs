//! A namespace of `--watch-namespaces` that is gone. What is in it could be listed by the right of a Role in it only, which
//! went with it, so that the API server refuses the list and does not say that there is nothing to list. Without what is here
//! the operator would wait for that list for ever, and do nothing in its other namespaces.

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use futures::stream::BoxStream;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{ListParams, WatchParams},
    core::{ObjectList, WatchEvent},
};
use serde::de::DeserializeOwned;

use super::{list_watch::Source, triggers::Scope, watches::api};
use crate::cluster::{ApiError, Cluster, KubeCluster, NamespaceView, Views};

/// Knows which watched namespaces are gone, and says so once.
pub struct MissingNamespaces {
    cluster: KubeCluster,
    said: Mutex<HashSet<String>>,
}

impl MissingNamespaces {
    /// Asks the API server behind `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { cluster: KubeCluster::new(client, Views::blind()), said: Mutex::default() }
    }

    /// Whether a scope is a namespace that is gone, or is being deleted. Read past the watch, which may be behind: a namespace
    /// that was made again has objects that must not be taken for gone.
    async fn is_missing(&self, scope: Option<&str>) -> bool {
        let Some(namespace) = scope else { return false };
        let found = self.cluster.namespace_now(namespace).await;
        if let Err(error) = &found {
            tracing::debug!(namespace, %error, "whether the namespace is there is not known");
        }
        let missing = is_missing(&found);
        if missing && self.said().insert(namespace.to_owned()) {
            tracing::error!(
                namespace,
                "a namespace of --watch-namespaces is gone or being deleted, and nothing in it can be listed: it counts as \
                 empty. Take it out of --watch-namespaces, or make it and the operator's Role in it again"
            );
        }
        missing
    }

    /// Something in a scope was listed.
    fn is_there(&self, scope: Option<&str>) {
        if let Some(namespace) = scope.filter(|namespace| self.said().remove(*namespace)) {
            tracing::info!(namespace, "a namespace of --watch-namespaces that was gone is watched again");
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in a scope: empty where its namespace is missing and the API server refuses the list or the watch for that. It is
/// tried again, and shows what is there once it is there.
pub struct Scoped<K> {
    api: Api<K>,
    scope: Scope,
    missing: Arc<MissingNamespaces>,
}

impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Scoped<K> {
    /// The objects of a kind in a scope.
    #[must_use]
    pub fn new(client: &Client, scope: Scope, missing: &Arc<MissingNamespaces>) -> Self {
        Self { api: api(client, &scope), scope, missing: missing.clone() }
    }
}

impl<K: Clone + Debug + DeserializeOwned + Send + 'static> Source<K> for Scoped<K> {
    async fn page(&self, params: &ListParams) -> kube::Result<ObjectList<K>> {
        self.api.page(params).await
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>> {
        Source::watch(&self.api, params, version).await
    }

    async fn is_missing(&self) -> bool {
        self.missing.is_missing(self.scope.as_deref()).await
    }

    fn is_there(&self) {
        self.missing.is_there(self.scope.as_deref());
    }
}

/// One that could not be looked up is not missing, as far as is known.
fn is_missing(found: &Result<Option<NamespaceView>, ApiError>) -> bool {
    found.as_ref().is_ok_and(|namespace| namespace.as_ref().is_none_or(|namespace| namespace.terminating))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_a_namespace_that_was_looked_up_is_missing() {
        let namespace =
            |terminating| NamespaceView { uid: "1".into(), terminating, adopt_keys: false, labels: BTreeMap::new() };
        let rows = [
            (Ok(None), true),
            (Ok(Some(namespace(true))), true),
            (Ok(Some(namespace(false))), false),
            (Err(ApiError::Unavailable("down".into())), false),
            (Err(ApiError::Forbidden("no".into())), false),
        ];
        for (found, expected) in rows {
            assert_eq!(is_missing(&found), expected, "{found:?}");
        }
    }
}
