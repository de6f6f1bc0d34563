//! Reads everything that `plan` decides from.

use kube::ResourceExt;

use super::{alias::AliasFacts, plan::Observed};
use crate::{
    api::CustomerMasterKey,
    cluster::{Cluster, KeyObjectView, NamespaceView, Objects},
    controller::{Context, PassError, orphans, purge::Held},
    store::{AliasClaim, AliasSlot, Freshness, KeySlot, KeyStore, SlotView, StoreError},
};

/// The slot of an object in its key store.
pub fn slot(object: &CustomerMasterKey) -> KeySlot {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    KeySlot { store: object.key_store_ref().to_string(), namespace, name }
}

/// Everything about `object`. A store that can't be reached is an error, to be tried again; a record that
/// can't be used is a fact.
pub async fn gather<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    object: CustomerMasterKey,
    freshness: Freshness,
) -> Result<Observed, PassError> {
    let slot = slot(&object);
    let namespace = match freshness {
        Freshness::Watched => context.cluster.namespace(&slot.namespace).await?,
        Freshness::Live => context.cluster.namespace_now(&slot.namespace).await?,
    };
    let key = match find(&*context.store, &slot, object.spec.key_id.as_deref(), freshness).await {
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => return Err(error.into()),
        found => found,
    };
    let current = key.as_ref().ok().and_then(|view| view.current.as_ref());
    let held = current.map_or(Held::No, |key| context.purge_holds.get(key.record.key_id));
    let owner_is_gone = match current {
        Some(key) if !key.record.owner.released && KeySlot::of_owner(&key.record) != slot => {
            let owner = &key.record.owner;
            let found =
                Objects::<CustomerMasterKey>::get_object(&context.cluster, &owner.namespace, &owner.name).await?;
            !found.is_some_and(|object| orphans::has_key(&KeyObjectView::from(&object), &key.record))
        }
        _ => false,
    };
    let data_keys = match object.metadata.deletion_timestamp {
        Some(_) => context.cluster.data_keys_under(&slot.namespace, &slot.name),
        None => Vec::new(),
    };
    let mut observed = Observed {
        store: context.cluster.key_store(&object.key_store_ref()),
        object,
        namespace,
        key,
        freshness,
        held,
        alias: AliasFacts::default(),
        owner_is_gone,
        data_keys,
        import_problem: None,
    };
    observed.alias = aliases(context, &observed).await?;
    Ok(observed)
}

/// What a store holds for the object in a slot, which may adopt the key of an id (design, rule 11).
///
/// # Errors
/// The store's.
pub async fn find<S: KeyStore>(
    store: &S,
    slot: &KeySlot,
    adopts: Option<&str>,
    freshness: Freshness,
) -> Result<SlotView, StoreError> {
    // An id that is no UUID, which admission refuses, is the id of no key.
    match adopts.map(|id| id.parse().unwrap_or_default()) {
        Some(id) => {
            let current = store.find_by_id(&slot.store, id, freshness).await?;
            Ok(SlotView { current, ..SlotView::default() })
        }
        None => store.find(slot, freshness).await,
    }
}

/// Who has the declared alias, and what the key has claimed.
pub async fn aliases<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    observed: &Observed,
) -> Result<AliasFacts, PassError> {
    let slot = slot(&observed.object);
    let declared = observed.object.spec.full_alias();
    let current = observed.key.as_ref().ok().and_then(|view| view.current.as_ref());
    let holder = match declared {
        Some(alias) => {
            let slot = AliasSlot { store: slot.store, namespace: slot.namespace, alias };
            match context.store.alias(&slot, observed.freshness).await {
                Ok(Some(claim)) => {
                    // Mostly it is the object's own key, which need not be looked for among all.
                    let is_own = current.is_some_and(|key| key.record.key_id == claim.key_id);
                    let is_void = !is_own && is_void(context, &claim).await?;
                    Some((claim, is_void))
                }
                Ok(None) => None,
                // Damaged: nobody gets the alias, as nobody knows whose it is.
                Err(StoreError::Tampered { secret } | StoreError::Unreadable { secret, .. }) => {
                    return Ok(AliasFacts { damaged: Some(secret), ..AliasFacts::default() });
                }
                Err(error) => return Err(error.into()),
            }
        }
        None => None,
    };
    let claims = current.map(|key| context.store.aliases_of(key.record.key_id)).unwrap_or_default();
    Ok(AliasFacts { holder, claims, damaged: None })
}

/// Whether the key that claimed an alias has no use for it any more: it was let go, given up or erased. A key that
/// can't be found keeps what it claimed, as its record may be restored yet.
async fn is_void<C: Cluster, S: KeyStore>(context: &Context<C, S>, claim: &AliasClaim) -> Result<bool, PassError> {
    match context.store.find_by_id(&claim.slot.store, claim.key_id, Freshness::Watched).await {
        Ok(Some(key)) => Ok(key.record.owner.released || key.record.abandoned || key.record.is_tombstone()),
        Ok(None)
        | Err(StoreError::Tampered { .. } | StoreError::Unreadable { .. } | StoreError::RootKeyMissing { .. }) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a namespace is there and stays.
pub fn stays(namespace: Option<&NamespaceView>) -> bool {
    namespace.is_some_and(|namespace| !namespace.terminating)
}
