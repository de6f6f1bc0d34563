//! Reads, and decrypts, everything that `plan` decides from.

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::ResourceExt;

use super::{
    annotations,
    ciphertext::{Ciphertext, encryption_context, unknown},
    delivery::SecretObject,
    plan::{Found, FoundFormer, Observed},
};
use crate::{
    api::{DataKey, data_key::FormerDataKey},
    cluster::{Cluster, KeyObjectView},
    controller::{Context, PassError, customer_master_key::find},
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
    let key = match key_of(context, master.as_ref(), master_namespace, master_name).await {
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => return Err(error.into()),
        found => found,
    };
    let secret_name = object.spec.secret_name(&object.name_any()).to_owned();
    let secret = context.cluster.get_secret(&namespace_name, &secret_name).await?.map(SecretObject::from);
    let encryption_context = encryption_context(&object).map_err(|e| StoreError::Crypto(e.to_string()))?;
    let ciphertext = Ciphertext::find(&object, secret.as_ref());
    let (mut opened, mut previous, mut strays) = (None, None, Vec::new());
    let mut annotated = Ok(Vec::new());
    let opener = |key| Opener { store: &*context.store, key, context: &encryption_context };
    if let Ok(Some(key)) = &key {
        annotated = match annotations::history(&object) {
            Ok(history) => Ok(opener(key).find_all(history).await),
            Err(malformed) => Err(malformed),
        };
    }
    if let (Some(ciphertext), Ok(Some(key))) = (&ciphertext, &key) {
        let opener = opener(key);
        opened = opener.open(ciphertext.bytes()).await;
        if let Some(former) = delivered_previous(&object) {
            previous = Some(opener.find(former).await.opened);
        }
        for text in unknown(&object, secret.as_ref(), ciphertext) {
            strays.push(opener.find(text).await);
        }
    }
    Ok(Observed {
        master_is_watched: context.cluster.is_watched(master_namespace),
        object,
        namespace,
        master,
        key,
        secret,
        context: encryption_context,
        ciphertext,
        opened,
        previous,
        annotated,
        strays,
        no_new_keys: context.no_new_keys,
        service_key_made: false,
    })
}

/// The ciphertext of the data key that is in the Secret beside the current one, as plaintext.
fn delivered_previous(object: &DataKey) -> Option<String> {
    let former = object.status.as_ref()?.history.last()?;
    (!object.spec.without_plaintext.unwrap_or(false)).then(|| former.ciphertext_blob.clone())
}

/// The key of the `CustomerMasterKey` of that namespace and name.
async fn key_of<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    master: Option<&KeyObjectView>,
    namespace: &str,
    name: &str,
) -> Result<Option<StoredKey>, StoreError> {
    let Some(master) = master else { return Ok(None) };
    let store = master.key_store_ref.to_string();
    let slot = KeySlot { store, namespace: namespace.to_owned(), name: name.to_owned() };
    let view = find(&*context.store, &slot, master.adopts.as_deref(), Freshness::Watched).await?;
    Ok(view.current)
}

/// Decrypts ciphertexts of one DataKey.
struct Opener<'a, S> {
    store: &'a S,
    key: &'a StoredKey,
    context: &'a EncryptionContext,
}

impl<S: KeyStore> Opener<'_, S> {
    /// What the bytes decrypt to. None without any.
    async fn open(&self, bytes: Option<Vec<u8>>) -> Option<Result<Plaintext, StoreError>> {
        Some(self.store.decrypt(self.key, self.context, &bytes?).await)
    }

    async fn find(&self, text: String) -> Found {
        let opened = self.open(BASE64_STANDARD.decode(&text).ok()).await;
        Found { text, opened: opened.unwrap_or(Err(StoreError::InvalidCiphertext)) }
    }

    async fn find_all(&self, history: Vec<FormerDataKey>) -> Vec<FoundFormer> {
        let mut all = Vec::new();
        for former in history {
            let opened = self.find(former.ciphertext_blob.clone()).await.opened;
            all.push(FoundFormer { former, opened });
        }
        all
    }
}
