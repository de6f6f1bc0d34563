//! Reads everything that `plan` decides from.

use kube::ResourceExt;

use super::{
    apply::Delivery,
    delivery::{Endpoint, SecretObject},
    plan::Observed,
};
use crate::{
    access_keys::AccessKeyOwner,
    api::{AccessKey, KeyStoreRef},
    cluster::{Cluster, ServiceAccounts},
    controller::{Context, PassError},
    store::{AccessKeyStore, StoreError},
};

/// What a record names this AccessKey.
pub fn owner(object: &AccessKey) -> AccessKeyOwner {
    AccessKeyOwner {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

/// Everything about `object`.
pub async fn gather<C, S>(
    context: &Context<C, S>,
    delivery: &Delivery,
    object: AccessKey,
) -> Result<Observed, PassError>
where
    C: Cluster + ServiceAccounts,
    S: AccessKeyStore,
{
    let namespace_name = object.namespace().unwrap_or_default();
    let namespace = context.cluster.namespace(&namespace_name).await?;
    let account = &object.spec.service_account_name;
    let service_account = context.cluster.service_account(&namespace_name, account).await?;
    let record = match context.store.access_key(&owner(&object)).await {
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => return Err(error.into()),
        found => found,
    };
    let stored = record.as_ref().ok().and_then(Option::as_ref).map(|stored| &stored.record);
    let secret_half = stored.map(|record| context.store.open_access_key(record, &record.current));
    let secret_name = object.spec.secret_name(&object.name_any()).to_owned();
    let secret = context.cluster.get_secret(&namespace_name, &secret_name).await?.map(SecretObject::from);
    let region = context.cluster.key_store(&KeyStoreRef::default()).map(|store| store.region);
    let endpoint = |region| Endpoint { url: delivery.url.clone(), region, ca: delivery.ca.borrow().clone() };
    Ok(Observed { object, namespace, service_account, record, secret_half, secret, endpoint: region.map(endpoint) })
}
