//! Moving to another root key: everything that another one than the first protects is wrapped and authenticated
//! again under the first (design, section 4).

use super::{
    EmbeddedStore, alias,
    name::{access_key_name, alias_name},
    not_unwrapped, record_secret, unavailable,
};
use crate::{
    cluster::{ApiError, Secrets},
    crypto::{RootKeyId, Wrapped},
    kms::KeyRecord,
    store::{AliasClaim, Freshness, KeyStore, Revision, StoreError, StoredAccessKey, StoredKey},
};

/// Something that another root key than the first protects, wholly or in part.
#[derive(Clone, Debug)]
pub enum Stale {
    /// A key, which may be a tombstone.
    Key(StoredKey),
    /// The claim of an alias.
    Alias(AliasClaim),
    /// The record of an access key.
    AccessKey(StoredAccessKey),
}

impl Stale {
    /// Which state of it this is.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        match self {
            Self::Key(key) => &key.revision,
            Self::Alias(claim) => &claim.revision,
            Self::AccessKey(stored) => &stored.revision,
        }
    }

    /// The name of the Secret that holds it, for a log line.
    #[must_use]
    pub fn secret_name(&self) -> String {
        match self {
            Self::Key(key) => record_secret::name_of(&key.record),
            Self::Alias(claim) => alias_name(&claim.slot),
            Self::AccessKey(stored) => access_key_name(&stored.record.owner),
        }
    }
}

/// How much there is under the first root key and others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootKeyUse {
    /// The readable records, whatever root key they are under.
    pub records: usize,
    /// The claims of aliases.
    pub aliases: usize,
    /// The readable records of access keys.
    pub access_keys: usize,
    /// How many of all are under another root key than the first.
    pub stale: usize,
    /// The records that can't be read, and may need another root key.
    pub unknown: usize,
}

impl RootKeyUse {
    /// How many need another root key than the first, or may. The others can go when there are none.
    #[must_use]
    pub fn under_others(&self) -> usize {
        self.stale + self.unknown
    }
}

impl<S: Secrets> EmbeddedStore<S> {
    /// The root key that wraps.
    #[must_use]
    pub fn first_root_key(&self) -> RootKeyId {
        self.ring.primary_id()
    }

    /// Whether there are root keys that only unwrap.
    #[must_use]
    pub fn has_other_root_keys(&self) -> bool {
        self.ring.ids().count() > 1
    }

    /// What is still under another root key than the first, as the watch and our own writes have shown it.
    #[must_use]
    pub fn stale(&self) -> Vec<Stale> {
        let keys = self.view.under_other_root_keys().into_iter().map(Stale::Key);
        let aliases = self.aliases.not_under(self.ring.primary_id()).into_iter().map(Stale::Alias);
        let access_keys = self.access_keys.under_other_root_keys().into_iter().map(Stale::AccessKey);
        keys.chain(aliases).chain(access_keys).collect()
    }

    /// How much there is, as the watch and our own writes have shown it.
    #[must_use]
    pub fn root_key_use(&self) -> RootKeyUse {
        RootKeyUse {
            records: self.view.keys().len(),
            aliases: self.aliases.count(),
            access_keys: self.access_keys.count(),
            stale: self.stale().len(),
            unknown: self.view.sealed_unknown() + self.access_keys.sealed_unknown(),
        }
    }

    /// Waits until the watch shows something that is under another root key, as when a backup is restored. One that
    /// it has shown since the last call counts.
    pub async fn stale_shown(&self) {
        self.stale_shown.notified().await;
    }

    /// Puts something under the first root key, in one write. What it says does not change, so a record's revision
    /// does not either.
    ///
    /// # Errors
    /// `Conflict` when it was changed meanwhile; `RootKeyMissing` and `Damaged` when something in it does not unwrap,
    /// and then nothing was written.
    pub async fn rewrap(&self, stale: &Stale) -> Result<(), StoreError> {
        match stale {
            Stale::Key(key) => self.replace(key, &self.rewrapped_record(&key.record)?).await.map(drop),
            Stale::Alias(claim) => self.authenticate_again(claim).await,
            Stale::AccessKey(stored) => self.seal_access_keys_again(stored).await,
        }
    }

    fn rewrapped_record(&self, record: &KeyRecord) -> Result<KeyRecord, StoreError> {
        let mut rewrapped = record.clone();
        for version in &mut rewrapped.versions {
            self.put_under_first(record, version.id, &mut version.root_key_id, &mut version.wrapped)?;
        }
        if let Some(check) = rewrapped.imported.as_mut().map(|imported| &mut imported.check) {
            self.put_under_first(record, check.id, &mut check.root_key_id, &mut check.wrapped_key)?;
        }
        Ok(rewrapped)
    }

    fn put_under_first(
        &self,
        record: &KeyRecord,
        id: uuid::Uuid,
        root_key_id: &mut uuid::Uuid,
        wrapped: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let context = Self::wrap_context(record, id);
        let again = self.ring.rewrap(&*self.random, &context, (*root_key_id).into(), wrapped);
        let again = again.map_err(not_unwrapped)?;
        if let Some(Wrapped { root_key_id: first, bytes }) = again {
            (*root_key_id, *wrapped) = (first.into(), bytes);
        }
        Ok(())
    }

    async fn authenticate_again(&self, claim: &AliasClaim) -> Result<(), StoreError> {
        let secret = alias::encode(&claim.slot, claim.key_id, &self.namespace, Some(claim), &self.ring)?;
        match self.secrets.replace_secret(&secret).await {
            Ok(written) => self.see_alias(&written).map(drop),
            Err(ApiError::Conflict(_) | ApiError::NotFound) => {
                self.alias(&claim.slot, Freshness::Live).await?;
                Err(StoreError::Conflict)
            }
            Err(error) => Err(unavailable(error)),
        }
    }
}
