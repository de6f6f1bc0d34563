//! Key stores: where keys are held. The controllers see only the trait; a file or folder a backend.

mod access_keys;
mod draft;
pub mod embedded;
pub mod metered;

use std::{future::Future, sync::Arc};

use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

pub use access_keys::{AccessKeyStore, StoredAccessKey};

use crate::{
    crypto::{ImportParameters, ImportTokenError, Plaintext},
    kms::{
        DesiredKey, EncryptionContext, KeyRecord, KeyStep, KeyUsage, Origin, Owner, StepError, WrappingAlgorithm,
        WrappingKeySpec, key_record::MaterialSource, limits::PendingDeletionDays,
    },
};

/// What a key store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The windows of a deletion that it takes.
    pub pending_deletion_days: PendingDeletionDays,
    /// The shortest and the longest interval of automatic rotation that it takes, in days. None: it has none.
    pub rotation_interval_days: Option<(i32, i32)>,
    /// Whether material can be imported.
    pub import: bool,
}

/// Names the key of an object: its store knows at most one current key under it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySlot {
    /// The key store, as `KIND/NAME`.
    pub store: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl KeySlot {
    /// The slot of the object that has a key.
    #[must_use]
    pub fn of_owner(record: &KeyRecord) -> Self {
        let Owner { namespace, name, .. } = record.owner.clone();
        Self { store: record.store.clone(), namespace, name }
    }

    /// The slot of the object that a key was made for: where its record is.
    #[must_use]
    pub fn of_home(record: &KeyRecord) -> Self {
        match record.home.clone() {
            Some(home) => Self { store: record.store.clone(), namespace: home.namespace, name: home.name },
            None => Self::of_owner(record),
        }
    }
}

/// Names an alias: a store has it once in a namespace (design, rule 10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AliasSlot {
    /// The key store, as `KIND/NAME`.
    pub store: String,
    /// The namespace.
    pub namespace: String,
    /// The alias, with its prefix.
    pub alias: String,
}

/// An alias that a key has claimed, at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasClaim {
    /// The alias.
    pub slot: AliasSlot,
    /// The key.
    pub key_id: Uuid,
    /// Which state of the store this is.
    pub revision: Revision,
}

/// A key as its store holds it, at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// All that the store knows.
    pub record: Arc<KeyRecord>,
    /// Which state of the store this is. A write names it, and fails when it is not the latest.
    pub revision: Revision,
}

/// A state of a key in its store: opaque to everybody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The object that holds the record.
    pub uid: String,
    /// Its version.
    pub version: String,
}

/// What the store holds for an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotView {
    /// The key that the object has, or had, and was not abandoned.
    pub current: Option<StoredKey>,
    /// The keys that the object had before and gave up, the oldest first.
    pub abandoned: Vec<Uuid>,
    /// The keys that the object had before and that another object has adopted (design, rule 11).
    pub adopted: Vec<Uuid>,
}

impl SlotView {
    /// Which generation of the object's keys the next one is.
    #[must_use]
    pub fn next_generation(&self) -> u32 {
        u32::try_from(self.abandoned.len() + self.adopted.len()).unwrap_or(u32::MAX)
    }

    /// Puts the key of the next generation in the slot in its place, and answers whether it is the current one, after
    /// which there is no other.
    pub fn take_in(&mut self, slot: &KeySlot, key: StoredKey) -> bool {
        if key.record.abandoned {
            self.abandoned.push(key.record.key_id);
        } else if KeySlot::of_owner(&key.record) != *slot {
            self.adopted.push(key.record.key_id);
        } else {
            self.current = Some(key);
        }
        self.current.is_some()
    }
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// From the watch: a write on it fails if it is old.
    Watched,
    /// Read past every cache: for what can't be undone, and before something is said to be missing.
    Live,
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The identifier that it will have.
    pub key_id: Uuid,
    /// The identifier of its first version.
    pub version_id: Uuid,
    /// The key store, as `KIND/NAME`.
    pub store: String,
    /// The region in its resource name.
    pub region: String,
    /// The account in its resource name.
    pub account_id: String,
    /// How many keys the object gave up before.
    pub generation: u32,
    /// The object that it is for.
    pub owner: Owner,
    /// Where the material comes from.
    pub origin: Origin,
    /// What it may be used for.
    pub key_usage: KeyUsage,
    /// Everything that may change later.
    pub desired: DesiredKey,
}

/// How material that is to be imported is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaterialImport {
    /// Where it was read from.
    pub source: MaterialSource,
    /// When it expires. None: never.
    pub expire_time: Option<Timestamp>,
    /// How it is encrypted. None: it is not.
    pub wrapping: Option<(WrappingAlgorithm, String)>,
    /// The identifiers that its version and what it is recognised by get, if it is the key's first material.
    pub fresh: [Uuid; 2],
    /// Whether the key may be used then: importing enables it, and one declared disabled shall not be usable in between.
    pub enabled: bool,
}

/// Why material was not imported. It is the user's business.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ImportRefusal {
    /// It is not the material that the key had before.
    #[error("it is not the material that was imported before, and a key never gets other material")]
    Different,
    /// It does not have 32 bytes, or does not decrypt to that many.
    #[error("it is not exactly 32 bytes, or does not decrypt to 32 bytes under the import token")]
    Invalid,
    /// The import token can't be used.
    #[error(transparent)]
    Token(#[from] ImportTokenError),
}

/// What was just encrypted: a plaintext, or a data key that was generated.
pub struct Sealed {
    /// The version of the master key that encrypts it.
    pub key_version_id: Uuid,
    /// The ciphertext.
    pub ciphertext_blob: Vec<u8>,
}

/// Why a key store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The key is not at the revision that the write was decided on. Look again and decide again.
    #[error("the key changed meanwhile")]
    Conflict,
    /// The record is not what was written: its integrity check fails.
    #[error("the record Secret {secret} fails its integrity check: restore it from a backup")]
    Tampered {
        /// The Secret that holds the record.
        secret: String,
    },
    /// The record was written by a newer version, or is no record.
    #[error("the record Secret {secret} can't be read: {problem}")]
    Unreadable {
        /// The Secret that holds the record.
        secret: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The material is wrapped under a root key that is not at hand.
    #[error("the key's material is wrapped under root key {root_key_id}, which this operator does not have")]
    RootKeyMissing {
        /// The root key's identifier.
        root_key_id: Uuid,
    },
    /// The wrapped material does not unwrap.
    #[error("the key's material does not unwrap: the record is damaged")]
    Damaged,
    /// The state machine refuses the step or the operation.
    #[error(transparent)]
    Refused(#[from] StepError),
    /// The material is refused.
    #[error("the material is refused: {0}")]
    Import(#[from] ImportRefusal),
    /// The ciphertext was not made by this key, or not with this encryption context, or was altered.
    #[error("the ciphertext does not decrypt under this key and encryption context")]
    InvalidCiphertext,
    /// The ciphertext names another key.
    #[error("the ciphertext was made by key {key_id}")]
    IncorrectKey {
        /// The key that it names.
        key_id: Uuid,
    },
    /// No randomness could be had, or a primitive failed.
    #[error("cryptography failed: {0}")]
    Crypto(String),
    /// The store can't be reached. Worth trying again.
    #[error("the key store can't be reached: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// A name for metrics, of a bounded set.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Tampered { .. } => "tampered",
            Self::Unreadable { .. } => "unreadable",
            Self::RootKeyMissing { .. } => "root_key_missing",
            Self::Damaged => "damaged",
            Self::Refused(_) => "refused",
            Self::Import(_) => "import_refused",
            Self::InvalidCiphertext => "invalid_ciphertext",
            Self::IncorrectKey { .. } => "incorrect_key",
            Self::Crypto(_) => "crypto",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<crate::kms::Rejected> for StoreError {
    fn from(rejected: crate::kms::Rejected) -> Self {
        Self::Refused(StepError::Rejected(rejected))
    }
}

/// Holds keys, and does cryptography with them.
pub trait KeyStore: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The key with an id, if this store has it: to be adopted (design, rule 11). Keys that were given up count.
    fn find_by_id(
        &self,
        store: &str,
        key_id: Uuid,
        freshness: Freshness,
    ) -> impl Future<Output = Result<Option<StoredKey>, StoreError>> + Send;

    /// What it holds for an object.
    fn find(&self, slot: &KeySlot, freshness: Freshness) -> impl Future<Output = Result<SlotView, StoreError>> + Send;

    /// Makes a key, once: `Conflict` when the object has one already.
    fn create(&self, new: &NewKey) -> impl Future<Output = Result<StoredKey, StoreError>> + Send;

    /// Applies all steps in one write, or none.
    fn update(&self, key: &StoredKey, steps: &[KeyStep]) -> impl Future<Output = Result<StoredKey, StoreError>> + Send;

    /// Imports material: in one write, or not at all.
    fn import(
        &self,
        key: &StoredKey,
        import: &MaterialImport,
        material: &[u8],
    ) -> impl Future<Output = Result<StoredKey, StoreError>> + Send;

    /// A key pair to import the material of a key with, and the token that keeps its private half. It takes up to
    /// seconds of computing: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::Crypto`].
    fn import_parameters(
        &self,
        key_id: Uuid,
        algorithm: WrappingAlgorithm,
        key_spec: WrappingKeySpec,
    ) -> Result<ImportParameters, StoreError>;

    /// Whether encrypted material could be imported under a token, and which algorithm the token is for. It takes
    /// milliseconds of computing.
    ///
    /// # Errors
    /// [`StoreError::Import`]: the token, then the material, then that it differs from what the key had before.
    fn check_material(&self, key: &StoredKey, token: &str, encrypted: &[u8]) -> Result<WrappingAlgorithm, StoreError>;

    /// Who has an alias.
    fn alias(
        &self,
        slot: &AliasSlot,
        freshness: Freshness,
    ) -> impl Future<Output = Result<Option<AliasClaim>, StoreError>> + Send;

    /// The aliases that a key has claimed, as the watch has shown them.
    fn aliases_of(&self, key_id: Uuid) -> Vec<AliasClaim>;

    /// Claims an alias for a key, if nobody has it: `Conflict` otherwise.
    fn claim_alias(
        &self,
        slot: &AliasSlot,
        key_id: Uuid,
    ) -> impl Future<Output = Result<AliasClaim, StoreError>> + Send;

    /// Gives an alias up.
    fn release_alias(&self, claim: &AliasClaim) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets a key as it was made, which never belonged to a finished object (design, rule 1), if it is still
    /// at its revision. `Conflict` for one that was ever changed.
    fn forget_unfinished(&self, key: &StoredKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The key with an id, if the watch has seen it and it can be read.
    fn key(&self, key_id: Uuid) -> Option<StoredKey>;

    /// The aliases that are claimed in a namespace, as the watch has shown them, of every store.
    fn aliases_in(&self, namespace: &str) -> Vec<AliasClaim>;

    /// Every key that the watch has seen and that can be read.
    fn keys(&self) -> Vec<StoredKey>;

    /// Whether the watch has seen a key in a store, `KIND/NAME`, that is not a tombstone. One whose record can't be
    /// read counts.
    fn is_in_use(&self, store: &str) -> bool {
        self.keys().iter().any(|key| key.record.store == store && !key.record.is_tombstone())
    }

    /// Generates a data key of `length` bytes. Its plaintext is not answered: whoever needs it decrypts.
    fn generate_data_key(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        length: usize,
    ) -> impl Future<Output = Result<Sealed, StoreError>> + Send;

    /// Encrypts under the newest version.
    fn encrypt(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> impl Future<Output = Result<Sealed, StoreError>> + Send;

    /// Decrypts a ciphertext.
    fn decrypt(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        ciphertext_blob: &[u8],
    ) -> impl Future<Output = Result<Plaintext, StoreError>> + Send;
}
