//! Reads everything that `plan` decides from.

use kube::ResourceExt;

use super::plan::Observed;
use crate::{
    api::CustomerMasterKey,
    cluster::Cluster,
    controller::{Context, PassError},
    store::{Freshness, KeySlot, KeyStore, StoreError},
};

/// The slot of an object in the key store.
pub fn slot(object: &CustomerMasterKey) -> KeySlot {
    KeySlot { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// Everything about `object`. A store that can't be reached is an error, to be tried again; a record that
/// can't be used is a fact.
pub async fn gather<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    object: CustomerMasterKey,
    freshness: Freshness,
) -> Result<Observed, PassError> {
    let slot = slot(&object);
    let namespace = context.cluster.namespace(&slot.namespace).await?;
    let key = match context.store.find(&slot, freshness).await {
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => return Err(error.into()),
        found => found,
    };
    let held = match &key {
        Ok(view) => view.current.as_ref().and_then(|key| context.purge_holds.get(key.record.key_id)),
        Err(_) => None,
    };
    Ok(Observed { object, namespace, key, freshness, held })
}
