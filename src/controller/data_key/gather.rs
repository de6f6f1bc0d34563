//! Reads, and decrypts, everything that `plan` decides from.

use kube::ResourceExt;

use super::{
    ciphertext::{Ciphertext, encryption_context},
    delivery::SecretObject,
    plan::Observed,
};
use crate::{
    api::DataKey,
    cluster::{Cluster, KeyObjectView},
    controller::{Context, PassError},
    crypto::Plaintext,
    kms::EncryptionContext,
    store::{Freshness, KeySlot, KeyStore, StoreError, StoredKey},
};

/// Everything about `object`.
pub async fn gather<C: Cluster, S: KeyStore>(context: &Context<C, S>, object: DataKey) -> Result<Observed, PassError> {
    let namespace_name = object.namespace().unwrap_or_default();
    let namespace = context.cluster.namespace(&namespace_name).await?;
    let (master_namespace, master_name) = object.spec.master(&namespace_name);
    let master = context.cluster.watched_key(master_namespace, master_name);
    let key = match find(context, master.as_ref(), master_namespace, master_name).await {
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => return Err(error.into()),
        found => found,
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

/// The key of the `CustomerMasterKey` of that namespace and name.
async fn find<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    master: Option<&KeyObjectView>,
    namespace: &str,
    name: &str,
) -> Result<Option<StoredKey>, StoreError> {
    let Some(master) = master else { return Ok(None) };
    let store = master.key_store_ref.to_string();
    match master.adopts.as_deref().map(|id| id.parse().unwrap_or_default()) {
        Some(id) => context.store.find_by_id(&store, id, Freshness::Watched).await,
        None => {
            let slot = KeySlot { store, namespace: namespace.to_owned(), name: name.to_owned() };
            context.store.find(&slot, Freshness::Watched).await.map(|view| view.current)
        }
    }
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
