//! What the operator is made of: what the passes, the watches and the endpoint share.

use std::sync::Arc;

use kube::Client;

use super::{OperatorError, Settings, Surroundings};
use crate::{
    access_keys::AccessKeyView,
    cluster::{Cluster, KubeCluster, Views},
    controller::{Attempts, Context, Expectations, purge},
    crypto::{Random, RootKeyRing},
    runtime::{metrics::Sources, triggers::Triggers},
    server::freshness::{Freshness, WatchFreshness},
    store::{
        embedded::{EmbeddedStore, root_key, root_key::RootKeyError},
        metered::Metered,
    },
};

/// The key store of this operator.
pub type Store = EmbeddedStore<KubeCluster>;

/// The parts.
pub struct Parts {
    /// What it was told.
    pub settings: Settings,
    /// The API server.
    pub client: Client,
    /// The same, as the core sees it.
    pub cluster: KubeCluster,
    /// The root keys.
    pub ring: Arc<RootKeyRing>,
    /// The key store.
    pub store: Arc<Store>,
    /// How the watches stand that the endpoint answers from.
    pub freshness: Freshness,
    /// Which access keys are valid.
    pub access_keys: Arc<AccessKeyView>,
    /// What every pass needs.
    pub context: Arc<Context<KubeCluster, Metered<Store>>>,
    /// What the watches have shown.
    views: Views,
    /// The way to all controllers.
    pub triggers: Triggers,
}

impl Parts {
    /// Puts them together. Reads the root key, or makes it.
    ///
    /// # Errors
    /// There is no root key.
    pub async fn assemble(
        settings: Settings,
        surroundings: &Surroundings,
        views: Views,
        triggers: Triggers,
        freshness: Freshness,
    ) -> Result<Self, OperatorError> {
        let Surroundings { client, clock, random, metrics, .. } = surroundings;
        let cluster = KubeCluster::new(client.clone(), views.clone()).counting(metrics.events.clone());
        let ring = Arc::new(root_keys(&settings, &cluster, &**random).await?);
        tracing::info!(root_key_id = %ring.primary_id(), namespace = settings.namespace, "the root key is there");
        let store =
            EmbeddedStore::new(&settings.namespace, cluster.clone(), ring.clone(), clock.clone(), random.clone());
        let store = Arc::new(store);
        let context = Arc::new(Context {
            cluster: cluster.clone(),
            store: Arc::new(Metered::new(store.clone(), metrics.store.clone())),
            clock: clock.clone(),
            random: random.clone(),
            no_new_keys: settings.no_new_keys,
            purge_holds: purge::Holds::default(),
            attempts: Attempts::default(),
            expectations: Expectations::default(),
            metrics: metrics.clone(),
        });
        let access_keys = Arc::new(AccessKeyView::new(clock.clone()));
        Ok(Self {
            settings,
            client: client.clone(),
            cluster,
            ring,
            store,
            freshness,
            access_keys,
            context,
            views,
            triggers,
        })
    }

    /// For one more watch that the endpoint answers from.
    pub fn watch_freshness(&self) -> WatchFreshness {
        self.freshness.watch(self.context.clock.clone())
    }

    /// Where metrics about keys and objects come from.
    pub fn sources(&self) -> Sources<KubeCluster> {
        Sources {
            store: self.store.clone(),
            views: self.views.clone(),
            access_keys: self.triggers.access_keys.iter().map(|watched| watched.store.clone()).collect(),
            endpoint: self.context.metrics.endpoint.clone(),
            clock: self.context.clock.clone(),
            each_key: self.settings.key_metrics,
        }
    }
}

async fn root_keys(
    settings: &Settings,
    cluster: &KubeCluster,
    random: &dyn Random,
) -> Result<RootKeyRing, RootKeyError> {
    if let Some(ring) = root_key::from_files(&settings.root_key_files)? {
        return Ok(ring);
    }
    let count = || cluster.count_keys_with_status();
    root_key::from_secret(cluster, &settings.namespace, settings.no_new_keys, random, count).await
}
