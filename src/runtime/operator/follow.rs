//! What every replica follows, whether it leads or not: so that it can serve the endpoint, and take over at once.

use std::{future::pending, sync::Arc};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::PartialObjectMeta,
    runtime::reflector::{Store as Reflected, store::Writer},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};

use super::{Parts, sweep::SWEEP};
use crate::{
    api::ClusterKeyStore,
    cluster::Guarded,
    runtime::{
        credentials::{self, Credentialed},
        switches::on,
        watches,
    },
};

/// What has been seen.
pub struct Followed {
    /// Each becomes true when something has been listed: records, aliases, and what access keys depend on.
    listed: [watch::Receiver<bool>; 3],
    namespaces: Reflected<PartialObjectMeta<Namespace>>,
    key_stores: Reflected<Guarded<ClusterKeyStore>>,
    /// Is rung when an `AccessKey` is gone.
    pub access_key_gone: Arc<Notify>,
    /// Tells when a key store came, changed or went.
    pub stores_changed: watch::Receiver<()>,
}

/// Begins to follow.
pub fn follow(
    services: &mut JoinSet<()>,
    parts: &Arc<Parts>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    key_stores: Writer<Guarded<ClusterKeyStore>>,
) -> Followed {
    let Parts { client, store, triggers, settings, access_keys, .. } = &**parts;
    let namespace = || settings.namespace.clone();
    let [records, aliases, credentials] = [(); 3].map(|()| watch::channel(false));
    let (stores_changed, stores) = watch::channel(());
    let access_key_gone = Arc::new(Notify::new());
    let followed = Followed {
        listed: [records.1, aliases.1, credentials.1],
        namespaces: namespaces.as_reader(),
        key_stores: key_stores.as_reader(),
        access_key_gone: access_key_gone.clone(),
        stores_changed: stores,
    };
    let fresh = || parts.watch_freshness();
    let listed = (fresh(), records.0);
    services.spawn(watches::records(client.clone(), namespace(), store.clone(), triggers.clone(), listed));
    let listed = (fresh(), aliases.0);
    services.spawn(watches::aliases(client.clone(), namespace(), store.clone(), triggers.clone(), listed));
    let fed = Credentialed {
        store: store.clone(),
        view: access_keys.clone(),
        triggers: triggers.clone(),
        gone: access_key_gone,
    };
    let (scopes, watches) = (settings.scopes(), parts.clone());
    let fresh_each = move || watches.watch_freshness();
    services.spawn(credentials::follow(client.clone(), namespace(), scopes, fed, credentials.0, fresh_each));
    services.spawn(watches::namespaces(client.clone(), namespaces, triggers.clone(), fresh()));
    services.spawn(watches::key_stores(client.clone(), key_stores, triggers.clone(), stores_changed, fresh()));
    for scope in settings.scopes() {
        services.spawn(watches::deliveries(client.clone(), scope, triggers.clone()));
    }
    services.spawn(drop_idle_keys(store.clone()));
    followed
}

impl Followed {
    /// Waits until all of it has been listed.
    pub async fn all(&self) {
        for listed in &self.listed {
            on(listed.clone()).await;
        }
        watches::filled(self.namespaces.clone()).await;
        watches::filled(self.key_stores.clone()).await;
    }
}

/// Has the store keep no unwrapped key for longer than it is used.
async fn drop_idle_keys(store: Arc<super::Store>) {
    loop {
        sleep(SWEEP).await;
        store.drop_idle_keys();
    }
}

/// Says that the operator is ready when everything that a pass looks at has been listed: one over a key that is deleted
/// looks at the data keys under it. The metrics describe keys and objects from then on.
pub async fn become_ready(
    parts: Arc<Parts>,
    followed: Arc<Followed>,
    listed: Vec<watch::Receiver<u64>>,
    ready: impl FnOnce() + Send,
) {
    followed.all().await;
    for mut listed in listed {
        if listed.wait_for(|term| *term > 0).await.is_err() {
            // Its drive has ended, and so will all.
            pending::<()>().await;
        }
    }
    let described = parts.clone();
    parts.context.metrics.objects.look_at(move || described.sources().snapshot());
    ready();
    tracing::info!(watching = ?parts.settings.watch_namespaces, "the operator is ready");
    // As everything that follows, it never ends.
    pending().await
}
