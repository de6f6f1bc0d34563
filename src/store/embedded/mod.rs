//! The embedded key store: keys as Secrets in the operator's own namespace, wrapped under a root key. The API
//! server is its database (design, section 4; formats in `docs/formats.md`).

mod access_key;
#[cfg(test)]
mod access_key_tests;
mod alias;
pub mod inspect;
mod key_cache;
mod material;
mod name;
mod record_secret;
mod rewrap;
#[cfg(test)]
mod rewrap_tests;
pub mod root_key;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;
mod view;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{
    AliasClaim, AliasSlot, Capabilities, Freshness, KeySlot, KeyStore, MaterialImport, NewKey, Sealed, SlotView,
    StoreError, StoredKey,
};
use crate::{
    clock::Clock,
    cluster::{ApiError, Secrets},
    crypto::{
        BlobError, BlobHeader, BlobKeys, CryptoError, ImportParameters, KeyMaterial, Plaintext, Random, RootKeyId,
        RootKeyRing, WrapContext, parse_header,
    },
    kms::{
        Dialect, EncryptionContext, KeyRecord, KeyStep, Operation, Owner, WrappingAlgorithm, WrappingKeySpec,
        key_record::RecordVersion,
        limits::{PendingDeletionDays, ROTATION_INTERVAL_DAYS},
    },
};
use access_key::AccessKeyRecords;
use alias::AliasView;
use key_cache::Moment;
use name::{alias_name, record_name};
pub use rewrap::{RootKeyUse, Stale};
pub use verify::Verified;
use view::RecordView;

/// What it can do.
const CAPABILITIES: Capabilities = Capabilities {
    pending_deletion_days: PendingDeletionDays::EMBEDDED,
    rotation_interval_days: Some((*ROTATION_INTERVAL_DAYS.start(), *ROTATION_INTERVAL_DAYS.end())),
    import: true,
};

/// The embedded key store.
///
/// One serves every store object with the provider `embedded`: they differ in what is written into a new record.
pub struct EmbeddedStore<S> {
    namespace: String,
    secrets: S,
    ring: Arc<RootKeyRing>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    view: RecordView,
    aliases: AliasView,
    access_keys: AccessKeyRecords,
    /// Rung when the watch shows something under another root key than the first.
    stale_shown: Notify,
}

impl<S: Secrets> EmbeddedStore<S> {
    /// A store over the Secrets in `namespace`, the operator's. It has seen no record yet: see [`Self::note`].
    #[must_use]
    pub fn new(
        namespace: &str,
        secrets: S,
        ring: Arc<RootKeyRing>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            secrets,
            ring,
            clock,
            random,
            view: RecordView::default(),
            aliases: AliasView::default(),
            access_keys: AccessKeyRecords::default(),
            stale_shown: Notify::new(),
        }
    }

    /// Takes note of a record that the watch shows, and answers whose key it is: namespace and name. Of a record that
    /// can't be read its annotation says so: good enough to look at that key again, and used for nothing else.
    pub fn note(&self, secret: &Secret) -> Option<(String, String)> {
        let noted = self.view.note(secret, &self.ring);
        if self.view.is_under_other_root_key(&secret.name_any()) {
            self.stale_shown.notify_one();
        }
        match noted {
            Ok(key) => Some(owner_of(&key)),
            Err(_) => record_secret::said_owner(secret),
        }
    }

    /// Tells when the first key comes into a store, and when the last one leaves it.
    #[must_use]
    pub fn usage(&self) -> watch::Receiver<()> {
        self.view.usage()
    }

    /// The record in a Secret of this name, as it was seen last, if it can be read.
    #[must_use]
    pub fn seen(&self, name: &str) -> Option<Arc<KeyRecord>> {
        self.view.get(name)?.ok().map(|key| key.record)
    }

    /// Takes note that the watch shows a record deleted.
    pub fn note_deleted(&self, name: &str) {
        self.view.remove(name);
    }

    /// Takes note that the watch, begun anew, shows exactly these records. Answers whose are there no more.
    pub fn note_all(&self, names: &HashSet<String>) -> Vec<(String, String)> {
        self.view.retain(names).iter().map(owner_of).collect()
    }

    /// Takes note of the claim of an alias that the watch shows. One that can't be read is logged: nobody can claim
    /// its alias until it is mended or deleted.
    pub fn note_alias(&self, secret: &Secret) {
        match self.see_alias(secret) {
            Ok((_, root_key)) if root_key != self.ring.primary_id() => self.stale_shown.notify_one(),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the claim of an alias can't be used"),
        }
    }

    /// Takes note of a claim, and answers it with the root key that authenticates it.
    fn see_alias(&self, secret: &Secret) -> Result<(AliasClaim, RootKeyId), StoreError> {
        let (claim, root_key) = alias::decode(secret, &self.ring)?;
        self.aliases.note(&claim, root_key);
        Ok((claim, root_key))
    }

    /// Takes note that the watch shows a claim deleted, and answers it.
    pub fn note_alias_deleted(&self, name: &str) -> Option<AliasClaim> {
        self.aliases.remove(name)
    }

    /// Takes note that the watch, begun anew, shows exactly these claims. Answers those that are there no more.
    pub fn note_all_aliases(&self, names: &HashSet<String>) -> Vec<AliasClaim> {
        self.aliases.retain(names)
    }

    async fn record(&self, name: &str, freshness: Freshness) -> Result<Option<StoredKey>, StoreError> {
        match freshness {
            Freshness::Watched => self.view.get(name).transpose(),
            Freshness::Live => self.refresh(name).await,
        }
    }

    async fn refresh(&self, name: &str) -> Result<Option<StoredKey>, StoreError> {
        match self.secrets.get_secret(&self.namespace, name).await.map_err(unavailable)? {
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

    /// Makes the material of the versions that have none yet.
    fn make_material(&self, record: &mut KeyRecord) -> Result<(), StoreError> {
        let (store, key_id) = (record.store.clone(), record.key_id);
        for version in record.versions.iter_mut().filter(|version| version.is_unmade()) {
            let material = KeyMaterial::generate(&*self.random).map_err(crypto)?;
            let context = WrapContext { store: &store, key_id, version_id: version.id };
            let wrapped = self.ring.wrap(&*self.random, &context, &material).map_err(crypto)?;
            version.root_key_id = wrapped.root_key_id.into();
            version.wrapped = wrapped.bytes;
        }
        Ok(())
    }

    /// Replaces exactly the record at `key`'s revision.
    async fn replace(&self, key: &StoredKey, record: &KeyRecord) -> Result<StoredKey, StoreError> {
        let secret = record_secret::encode(record, &self.namespace, Some(&key.revision), &self.ring)?;
        let name = secret.metadata.name.clone().unwrap_or_default();
        match self.secrets.replace_secret(&secret).await {
            Ok(written) => self.view.note(&written, &self.ring),
            Err(error) => Err(self.failed(error, &name).await),
        }
    }

    fn wrap_context<'a>(record: &'a KeyRecord, version_id: Uuid) -> WrapContext<'a> {
        WrapContext { store: &record.store, key_id: record.key_id, version_id }
    }

    /// Drops unwrapped keys that nobody has used for a while, or may use. Somebody has to call it, every minute or so.
    pub fn drop_idle_keys(&self) {
        self.view.drop_idle_keys(Moment { now: self.clock.now(), uptime: self.clock.uptime() });
    }

    /// When each key was used last, of those that were since the process began.
    #[must_use]
    pub fn last_used(&self) -> HashMap<Uuid, Timestamp> {
        self.view.last_used()
    }

    /// Encrypts under the newest version, whatever the key's state.
    fn seal(
        &self,
        key: &StoredKey,
        now: Timestamp,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Sealed, StoreError> {
        let record = &*key.record;
        let version = record.primary_version().ok_or(StoreError::Damaged)?;
        let keys = self.blob_keys(key, version, now)?;
        let header = BlobHeader { key_id: record.key_id, key_version_id: version.id };
        let ciphertext_blob = keys.seal(header, &context.encode(), plaintext, &*self.random).map_err(crypto)?;
        Ok(Sealed { key_version_id: version.id, ciphertext_blob })
    }

    /// The keys of a version: those that were unwrapped before, if the record is still what it was then.
    fn blob_keys(&self, key: &StoredKey, version: &RecordVersion, now: Timestamp) -> Result<Arc<BlobKeys>, StoreError> {
        let unwrap = || self.unwrap(&key.record, version).map(|material| BlobKeys::derive(&material));
        match self.view.unwrapped(key) {
            Some(unwrapped) => unwrapped.get(version.id, Moment { now, uptime: self.clock.uptime() }, unwrap),
            None => unwrap().map(Arc::new),
        }
    }

    fn unwrap(&self, record: &KeyRecord, version: &RecordVersion) -> Result<KeyMaterial, StoreError> {
        let context = Self::wrap_context(record, version.id);
        self.ring.unwrap_material(&context, version.root_key_id.into(), &version.wrapped).map_err(not_unwrapped)
    }
}

fn owner_of(key: &StoredKey) -> (String, String) {
    let Owner { namespace, name, .. } = key.record.owner.clone();
    (namespace, name)
}

fn unavailable(error: ApiError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Why something wrapped in a record did not unwrap.
fn not_unwrapped(error: CryptoError) -> StoreError {
    match error {
        CryptoError::UnknownRootKey(id) => StoreError::RootKeyMissing { root_key_id: id.into() },
        CryptoError::Refused => StoreError::Damaged,
        other => crypto(other),
    }
}

fn crypto(error: impl std::fmt::Display) -> StoreError {
    StoreError::Crypto(error.to_string())
}

impl<S: Secrets> KeyStore for EmbeddedStore<S> {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn find(&self, slot: &KeySlot, freshness: Freshness) -> Result<SlotView, StoreError> {
        let mut found = SlotView::default();
        for generation in 0.. {
            let Some(key) = self.record(&record_name(slot, generation), freshness).await? else { break };
            if found.take_in(slot, key) {
                break;
            }
        }
        Ok(found)
    }

    async fn find_by_id(
        &self,
        store: &str,
        key_id: Uuid,
        freshness: Freshness,
    ) -> Result<Option<StoredKey>, StoreError> {
        let seen = self.view.by_id(key_id).filter(|key| key.record.store == store);
        match (seen, freshness) {
            (Some(key), Freshness::Live) => self.refresh(&record_secret::name_of(&key.record)).await,
            (seen, _) => Ok(seen),
        }
    }

    async fn create(&self, new: &NewKey) -> Result<StoredKey, StoreError> {
        let mut record = new.draft(self.clock.now())?;
        self.make_material(&mut record)?;
        let secret = record_secret::encode(&record, &self.namespace, None, &self.ring)?;
        let name = secret.metadata.name.clone().unwrap_or_default();
        match self.secrets.create_secret(&secret).await {
            Ok(created) => self.view.note(&created, &self.ring),
            Err(error) => Err(self.failed(error, &name).await),
        }
    }

    async fn update(&self, key: &StoredKey, steps: &[KeyStep]) -> Result<StoredKey, StoreError> {
        let mut record = key.record.apply_all(steps, self.clock.now())?;
        self.make_material(&mut record)?;
        self.replace(key, &record).await
    }

    async fn import(&self, key: &StoredKey, import: &MaterialImport, material: &[u8]) -> Result<StoredKey, StoreError> {
        let mut steps = vec![self.import_step(&key.record, import, material)?];
        if !import.enabled {
            steps.push(KeyStep::Disable);
        }
        let record = key.record.apply_all(&steps, self.clock.now())?;
        self.replace(key, &record).await
    }

    fn import_parameters(
        &self,
        key_id: Uuid,
        algorithm: WrappingAlgorithm,
        key_spec: WrappingKeySpec,
    ) -> Result<ImportParameters, StoreError> {
        let made = self.ring.issue_import_token(&*self.random, key_id, algorithm, key_spec, self.clock.now());
        made.map_err(|error| StoreError::Crypto(error.to_string()))
    }

    fn check_material(&self, key: &StoredKey, token: &str, encrypted: &[u8]) -> Result<WrappingAlgorithm, StoreError> {
        self.checked(&key.record, token, encrypted)
    }

    async fn alias(&self, slot: &AliasSlot, freshness: Freshness) -> Result<Option<AliasClaim>, StoreError> {
        if freshness == Freshness::Watched {
            return Ok(self.aliases.get(slot));
        }
        let name = alias_name(slot);
        match self.secrets.get_secret(&self.namespace, &name).await.map_err(unavailable)? {
            Some(secret) => self.see_alias(&secret).map(|(claim, _)| Some(claim)),
            None => {
                self.aliases.remove(&name);
                Ok(None)
            }
        }
    }

    fn aliases_of(&self, key_id: Uuid) -> Vec<AliasClaim> {
        self.aliases.of(key_id)
    }

    async fn claim_alias(&self, slot: &AliasSlot, key_id: Uuid) -> Result<AliasClaim, StoreError> {
        let secret = alias::encode(slot, key_id, &self.namespace, None, &self.ring)?;
        match self.secrets.create_secret(&secret).await {
            Ok(created) => self.see_alias(&created).map(|(claim, _)| claim),
            Err(ApiError::AlreadyExists) => {
                self.alias(slot, Freshness::Live).await?;
                Err(StoreError::Conflict)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn release_alias(&self, claim: &AliasClaim) -> Result<(), StoreError> {
        let secret = alias::encode(&claim.slot, claim.key_id, &self.namespace, Some(claim), &self.ring)?;
        match self.secrets.delete_secret(&secret).await {
            Ok(()) | Err(ApiError::NotFound) => {
                self.aliases.remove(&alias_name(&claim.slot));
                Ok(())
            }
            Err(ApiError::Conflict(_)) => {
                self.alias(&claim.slot, Freshness::Live).await?;
                Err(StoreError::Conflict)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn forget_unfinished(&self, key: &StoredKey) -> Result<(), StoreError> {
        if key.record.revision != 0 {
            return Err(StoreError::Conflict);
        }
        let secret = record_secret::encode(&key.record, &self.namespace, Some(&key.revision), &self.ring)?;
        let name = secret.metadata.name.clone().unwrap_or_default();
        match self.secrets.delete_secret(&secret).await {
            Ok(()) | Err(ApiError::NotFound) => {
                self.view.remove(&name);
                Ok(())
            }
            Err(error) => Err(self.failed(error, &name).await),
        }
    }

    fn key(&self, key_id: Uuid) -> Option<StoredKey> {
        self.view.by_id(key_id)
    }

    fn aliases_in(&self, namespace: &str) -> Vec<AliasClaim> {
        self.aliases.in_namespace(namespace)
    }

    fn keys(&self) -> Vec<StoredKey> {
        self.view.keys()
    }

    fn is_in_use(&self, store: &str) -> bool {
        self.view.is_in_use(store)
    }

    async fn generate_data_key(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        length: usize,
    ) -> Result<Sealed, StoreError> {
        let now = self.clock.now();
        Operation::GenerateDataKey.check(key.record.state(now), Dialect::Alibaba)?;
        let plaintext = Plaintext::generate(&*self.random, length).map_err(crypto)?;
        self.seal(key, now, context, plaintext.expose())
    }

    async fn encrypt(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Sealed, StoreError> {
        let now = self.clock.now();
        Operation::Encrypt.check(key.record.state(now), Dialect::Alibaba)?;
        self.seal(key, now, context, plaintext)
    }

    async fn decrypt(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        ciphertext_blob: &[u8],
    ) -> Result<Plaintext, StoreError> {
        let (record, now) = (&key.record, self.clock.now());
        Operation::Decrypt.check(record.state(now), Dialect::Alibaba)?;
        let header = parse_header(ciphertext_blob).map_err(|_: BlobError| StoreError::InvalidCiphertext)?;
        if header.key_id != record.key_id {
            return Err(StoreError::IncorrectKey { key_id: header.key_id });
        }
        let version = record.versions.iter().find(|v| v.id == header.key_version_id);
        let version = version.ok_or(StoreError::InvalidCiphertext)?;
        let keys = self.blob_keys(key, version, now)?;
        keys.open(ciphertext_blob, &context.encode()).map_err(|_| StoreError::InvalidCiphertext)
    }
}
