//! Puts a snapshot together from the watches and the store.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kube::{ResourceExt, runtime::reflector::Store};

use super::objects::{Snapshot, Use};
use crate::{
    api::{AccessKey, DataKey},
    clock::Clock,
    cluster::{Guarded, Secrets, Views},
    controller::{access_key, cluster_key_store, customer_master_key, data_key},
    server::metrics::EndpointMetrics,
    store::{KeyStore, embedded::EmbeddedStore},
};

/// Where a snapshot comes from.
pub struct Sources<S> {
    /// The keys, and when they were used.
    pub store: Arc<EmbeddedStore<S>>,
    /// The objects.
    pub views: Views,
    /// Every `AccessKey` watched; one store a scope.
    pub access_keys: Vec<Store<Guarded<AccessKey>>>,
    /// What the endpoint refused.
    pub endpoint: EndpointMetrics,
    /// Tells which states keys are in.
    pub clock: Arc<dyn Clock>,
    /// Whether single keys are described: `--key-metrics`.
    pub each_key: bool,
}

impl<S: Secrets> Sources<S> {
    /// What there is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let under_other_root_keys = self.store.root_key_use().under_others();
        let mut snapshot = Snapshot { under_other_root_keys, ..Snapshot::default() };
        let keys = self.store.keys();
        let used = if self.each_key { self.used(&keys) } else { Use::default() };
        snapshot.add_keys(&keys, &used, self.clock.now(), self.each_key);
        self.views.keys.iter().for_each(|store| snapshot.add_objects(customer_master_key::KIND, store));
        for store in &self.views.data_keys {
            snapshot.add_objects(data_key::KIND, store);
            snapshot.add_histories(store);
        }
        self.access_keys.iter().for_each(|store| snapshot.add_objects(access_key::KIND, store));
        snapshot.add_objects(cluster_key_store::KIND, &self.views.key_stores);
        snapshot
    }

    fn used(&self, keys: &[crate::store::StoredKey]) -> Use {
        let pending: HashSet<_> =
            keys.iter().filter(|key| key.record.deletion.is_some()).map(|key| key.record.key_id).collect();
        let mut data_keys = HashMap::new();
        for store in &self.views.data_keys {
            store.state().iter().for_each(|object| count_under(object, &mut data_keys));
        }
        Use { last: self.store.last_used(), refused: self.endpoint.refused_uses(|id| pending.contains(&id)), data_keys }
    }
}

/// Counts a DataKey under its key.
fn count_under(object: &Guarded<DataKey>, counts: &mut HashMap<(String, String), usize>) {
    let Ok(data_key) = &object.0 else { return };
    let own = object.namespace().unwrap_or_default();
    let (namespace, name) = data_key.spec.master(&own);
    *counts.entry((namespace.to_owned(), name.to_owned())).or_default() += 1;
}
