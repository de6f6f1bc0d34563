//! The embedded key store: keys as Secrets in the operator's own namespace, wrapped under a root key. The API
//! server is its database (design, section 4; formats in `docs/formats.md`).

mod name;
mod record_secret;
pub mod root_key;
#[cfg(test)]
mod tests;
mod view;

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use uuid::Uuid;

use super::{Capabilities, Freshness, GeneratedDataKey, KeySlot, KeyStore, NewKey, SlotView, StoreError, StoredKey};
use crate::{
    clock::Clock,
    cluster::{ApiError, Secrets},
    crypto::{
        BlobError, BlobHeader, BlobKeys, CryptoError, KeyMaterial, Plaintext, Random, RootKeyRing, WrapContext,
        parse_header,
    },
    kms::{
        Dialect, EncryptionContext, KeyRecord, KeyStep, Operation,
        key_record::{RECORD_FORMAT, RecordVersion, to_seconds},
        limits::PendingDeletionDays,
    },
};
use name::record_name;
use view::RecordView;

/// How an embedded store is set up.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// `KIND/NAME` of the store; part of every record's name and of every wrapping.
    pub store: String,
    /// The region in resource names.
    pub region: String,
    /// The account in resource names.
    pub account_id: String,
    /// The operator's namespace, where the records are.
    pub namespace: String,
}

impl EmbeddedConfig {
    /// The store that is there without any store object: `ClusterKeyStore/default` (design, section 1).
    #[must_use]
    pub fn default_store(namespace: &str) -> Self {
        Self {
            store: "ClusterKeyStore/default".into(),
            region: "cn-hangzhou".into(),
            account_id: "123456".into(),
            namespace: namespace.to_owned(),
        }
    }
}

/// The embedded key store.
pub struct EmbeddedStore<S> {
    config: EmbeddedConfig,
    secrets: S,
    ring: Arc<RootKeyRing>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    view: RecordView,
}

impl<S: Secrets> EmbeddedStore<S> {
    /// A store over `secrets`. It has seen no record yet: see [`Self::note`].
    #[must_use]
    pub fn new(
        config: EmbeddedConfig,
        secrets: S,
        ring: Arc<RootKeyRing>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { config, secrets, ring, clock, random, view: RecordView::default() }
    }

    /// Takes note of a record that the watch shows, and answers whose key it is. Of a record that can't be read
    /// its annotation says so: good enough to look at that key again, and used for nothing else.
    pub fn note(&self, secret: &Secret) -> Option<KeySlot> {
        match self.view.note(secret, &self.ring) {
            Ok(key) => Some(KeySlot::from(&key.record.owner)),
            Err(_) => record_secret::said_owner(secret),
        }
    }

    /// Takes note that the watch shows a record deleted.
    pub fn note_deleted(&self, name: &str) {
        self.view.remove(name);
    }

    /// Takes note that the watch, begun anew, shows exactly these records. Answers whose are there no more.
    pub fn note_all(&self, names: &HashSet<String>) -> Vec<KeySlot> {
        self.view.retain(names).iter().map(|key| KeySlot::from(&key.record.owner)).collect()
    }

    /// Checks a record read from a backup or from the cluster: its MAC, its form, and that all its material
    /// unwraps.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, secret: &Secret) -> Result<StoredKey, StoreError> {
        let key = record_secret::decode(secret, &self.ring)?;
        for version in &key.record.versions {
            self.unwrap(&key.record, version)?;
        }
        Ok(key)
    }

    async fn record(&self, name: &str, freshness: Freshness) -> Result<Option<StoredKey>, StoreError> {
        match freshness {
            Freshness::Watched => self.view.get(name).transpose(),
            Freshness::Live => self.refresh(name).await,
        }
    }

    async fn refresh(&self, name: &str) -> Result<Option<StoredKey>, StoreError> {
        match self.secrets.get_secret(&self.config.namespace, name).await.map_err(unavailable)? {
            Some(secret) => self.view.note(&secret, &self.ring).map(Some),
            None => {
                self.view.remove(name);
                Ok(None)
            }
        }
    }

    /// What a failed write means. Where somebody else was faster, what they wrote is read, so that the next
    /// decision is made on it.
    async fn failed(&self, error: ApiError, name: &str) -> StoreError {
        match error {
            ApiError::Conflict(_) | ApiError::AlreadyExists | ApiError::NotFound => match self.refresh(name).await {
                Ok(_) => StoreError::Conflict,
                Err(error) => error,
            },
            other => unavailable(other),
        }
    }

    /// The record of a new key, but for its wrapped material.
    fn draft(&self, new: &NewKey) -> Result<KeyRecord, StoreError> {
        let now = self.clock.now();
        let blank = KeyRecord {
            format: RECORD_FORMAT,
            store: self.config.store.clone(),
            key_id: new.key_id,
            revision: 0,
            generation: new.generation,
            owner: new.owner.clone(),
            region: self.config.region.clone(),
            account_id: self.config.account_id.clone(),
            creation_date: to_seconds(now),
            origin: new.origin,
            key_usage: new.key_usage,
            description: String::new(),
            tags: std::collections::BTreeMap::new(),
            enabled: true,
            deletion: None,
            erased_at: None,
            abandoned: false,
            versions: vec![RecordVersion {
                id: new.version_id,
                creation_date: to_seconds(now),
                root_key_id: self.ring.primary_id().into(),
                wrapped: Vec::new(),
            }],
        };
        let steps = new.desired.course_from(&blank).steps;
        let declared = blank.apply_all(&steps, now)?;
        Ok(KeyRecord { revision: 0, ..declared })
    }

    fn wrap_context<'a>(record: &'a KeyRecord, version_id: Uuid) -> WrapContext<'a> {
        WrapContext { store: &record.store, key_id: record.key_id, version_id }
    }

    fn unwrap(&self, record: &KeyRecord, version: &RecordVersion) -> Result<KeyMaterial, StoreError> {
        let context = Self::wrap_context(record, version.id);
        self.ring.unwrap_material(&context, version.root_key_id.into(), &version.wrapped).map_err(|e| match e {
            CryptoError::UnknownRootKey(id) => StoreError::RootKeyMissing { root_key_id: id.into() },
            _ => StoreError::Damaged,
        })
    }
}

fn unavailable(error: ApiError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn crypto(error: impl std::fmt::Display) -> StoreError {
    StoreError::Crypto(error.to_string())
}

impl<S: Secrets> KeyStore for EmbeddedStore<S> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { pending_deletion_days: PendingDeletionDays::EMBEDDED }
    }

    async fn find(&self, slot: &KeySlot, freshness: Freshness) -> Result<SlotView, StoreError> {
        let mut found = SlotView::default();
        for generation in 0.. {
            let name = record_name(&self.config.store, slot, generation);
            match self.record(&name, freshness).await? {
                Some(key) if key.record.abandoned => found.abandoned.push(key.record.key_id),
                current => {
                    found.current = current;
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn create(&self, new: &NewKey) -> Result<StoredKey, StoreError> {
        let mut record = self.draft(new)?;
        let material = KeyMaterial::generate(&*self.random).map_err(crypto)?;
        let context = Self::wrap_context(&record, new.version_id);
        let wrapped = self.ring.wrap(&*self.random, &context, &material).map_err(crypto)?;
        for version in &mut record.versions {
            version.root_key_id = wrapped.root_key_id.into();
            version.wrapped.clone_from(&wrapped.bytes);
        }
        let secret = record_secret::encode(&record, &self.config.namespace, None, &self.ring)?;
        let name = secret.metadata.name.clone().unwrap_or_default();
        match self.secrets.create_secret(&secret).await {
            Ok(created) => self.view.note(&created, &self.ring),
            Err(error) => Err(self.failed(error, &name).await),
        }
    }

    async fn update(&self, key: &StoredKey, steps: &[KeyStep]) -> Result<StoredKey, StoreError> {
        let record = key.record.apply_all(steps, self.clock.now())?;
        let secret = record_secret::encode(&record, &self.config.namespace, Some(&key.revision), &self.ring)?;
        let name = secret.metadata.name.clone().unwrap_or_default();
        match self.secrets.replace_secret(&secret).await {
            Ok(written) => self.view.note(&written, &self.ring),
            Err(error) => Err(self.failed(error, &name).await),
        }
    }

    async fn forget_unfinished(&self, key: &StoredKey) -> Result<(), StoreError> {
        if key.record.revision != 0 {
            return Err(StoreError::Conflict);
        }
        let secret = record_secret::encode(&key.record, &self.config.namespace, Some(&key.revision), &self.ring)?;
        let name = secret.metadata.name.clone().unwrap_or_default();
        match self.secrets.delete_secret(&secret).await {
            Ok(()) | Err(ApiError::NotFound) => {
                self.view.remove(&name);
                Ok(())
            }
            Err(error) => Err(self.failed(error, &name).await),
        }
    }

    fn keys(&self) -> Vec<StoredKey> {
        self.view.keys()
    }

    async fn generate_data_key(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        length: usize,
    ) -> Result<GeneratedDataKey, StoreError> {
        let record = &key.record;
        Operation::GenerateDataKey.check(record.state(), Dialect::Alibaba)?;
        let version = record.primary_version().ok_or(StoreError::Damaged)?;
        let keys = BlobKeys::derive(&self.unwrap(record, version)?);
        let plaintext = Plaintext::generate(&*self.random, length).map_err(crypto)?;
        let header = BlobHeader { key_id: record.key_id, key_version_id: version.id };
        let ciphertext_blob =
            keys.seal(header, &context.encode(), plaintext.expose(), &*self.random).map_err(crypto)?;
        Ok(GeneratedDataKey { key_version_id: version.id, ciphertext_blob })
    }

    async fn decrypt(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        ciphertext_blob: &[u8],
    ) -> Result<Plaintext, StoreError> {
        let record = &key.record;
        Operation::Decrypt.check(record.state(), Dialect::Alibaba)?;
        let header = parse_header(ciphertext_blob).map_err(|_: BlobError| StoreError::InvalidCiphertext)?;
        if header.key_id != record.key_id {
            return Err(StoreError::IncorrectKey { key_id: header.key_id });
        }
        let version = record.versions.iter().find(|v| v.id == header.key_version_id);
        let version = version.ok_or(StoreError::InvalidCiphertext)?;
        let keys = BlobKeys::derive(&self.unwrap(record, version)?);
        keys.open(ciphertext_blob, &context.encode()).map_err(|_| StoreError::InvalidCiphertext)
    }
}
