//! Watches the Secret with the generated root key, and writes it back if it is deleted (design, rule 20): the
//! operator still has it, and without it nothing could be decrypted after the next restart.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, core::PartialObjectMeta, runtime::watcher::Event};

use super::{list_watch::list_and_watch, watches::selection};
use crate::{
    api::{conditions::reason, metadata},
    cluster::{Cluster, EventNote, WipedSecret},
    crypto::RootKeyRing,
    server::freshness::WatchFreshness,
    store::embedded::root_key,
};

/// Guards the root key for ever.
pub async fn guard<C: Cluster>(client: Client, namespace: String, cluster: C, ring: Arc<RootKeyRing>) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, &namespace);
    let selected = selection().fields(&format!("metadata.name={}", metadata::ROOT_KEY_SECRET));
    let mut events = std::pin::pin!(list_and_watch("the root key", api, selected, WatchFreshness::unasked()));
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Event::Init => listed = false,
            Event::InitApply(_) => listed = true,
            Event::InitDone if listed => check(&cluster, &namespace, &ring).await,
            Event::Apply(_) => check(&cluster, &namespace, &ring).await,
            Event::InitDone | Event::Delete(_) => write_back(&cluster, &namespace, &ring).await,
        }
    }
}

async fn write_back<C: Cluster>(cluster: &C, namespace: &str, ring: &RootKeyRing) {
    match root_key::restore(cluster, namespace, ring).await {
        Ok(true) => {
            let message = "The root key was deleted while the operator runs, and was written back. Keep a copy of it \
                           outside the cluster.";
            tracing::error!(namespace, "{message}");
            if let Ok(Some(secret)) = cluster.get_secret(namespace, metadata::ROOT_KEY_SECRET).await {
                let note = EventNote::warning(reason::ROOT_KEY_RESTORED, "Restore", message);
                cluster.publish(&*WipedSecret::from(secret), &note).await;
            }
        }
        Ok(false) => check(cluster, namespace, ring).await,
        Err(error) => tracing::error!(
            %error, namespace,
            "the root key was deleted and can't be written back: do not stop the operator before it is restored"
        ),
    }
}

/// A root key that was put in place of ours would be found out only at the next restart.
async fn check<C: Cluster>(cluster: &C, namespace: &str, ring: &RootKeyRing) {
    let stored = match cluster.get_secret(namespace, metadata::ROOT_KEY_SECRET).await {
        Ok(Some(secret)) => WipedSecret::from(secret),
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, namespace, "the root key can't be looked at");
            return;
        }
    };
    if root_key::decode(&stored, namespace).ok().is_none_or(|stored| stored.primary_id() != ring.primary_id()) {
        tracing::error!(
            namespace,
            secret = stored.name_any(),
            "the root key in the cluster is not the one in use: do not stop the operator, delete that Secret, and the \
             one in use is written back"
        );
    }
}
