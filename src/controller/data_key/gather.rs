//! Reads, and decrypts, everything that `plan` decides from.

use kube::ResourceExt;

use super::{
    ciphertext::{Ciphertext, encryption_context},
    delivery::SecretObject,
    plan::Observed,
};
use crate::{
    api::DataKey,
    cluster::Cluster,
    controller::{Context, PassError},
    crypto::Plaintext,
    kms::EncryptionContext,
    store::{Freshness, KeySlot, KeyStore, StoreError, StoredKey},
};

/// Everything about `object`.
pub async fn gather<C: Cluster, S: KeyStore>(context: &Context<C, S>, object: DataKey) -> Result<Observed, PassError> {
    let namespace_name = object.namespace().unwrap_or_default();
    let namespace = context.cluster.namespace(&namespace_name).await?;
    let master = context.cluster.watched_key(&namespace_name, &object.spec.key_ref.name);
    let slot = KeySlot { namespace: namespace_name.clone(), name: object.spec.key_ref.name.clone() };
    let key = match context.store.find(&slot, Freshness::Watched).await {
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => return Err(error.into()),
        found => found.map(|view| view.current),
    };
    let secret_name = object.spec.secret_name(&object.name_any()).to_owned();
    let secret = context.cluster.get_secret(&namespace_name, &secret_name).await?.map(SecretObject::from);
    let encryption_context = encryption_context(&object).map_err(|e| StoreError::Crypto(e.to_string()))?;
    let ciphertext = Ciphertext::find(&object, secret.as_ref());
    let opened = match (&ciphertext, &key) {
        (Some(ciphertext), Ok(Some(key))) => open(context, key, &encryption_context, ciphertext).await,
        _ => None,
    };
    Ok(Observed { object, namespace, master, key, secret, context: encryption_context, ciphertext, opened })
}

async fn open<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    key: &StoredKey,
    encryption_context: &EncryptionContext,
    ciphertext: &Ciphertext,
) -> Option<Result<Plaintext, StoreError>> {
    let bytes = ciphertext.bytes()?;
    Some(context.store.decrypt(key, encryption_context, &bytes).await)
}
