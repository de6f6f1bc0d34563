//! Moving to another root key: everything that another one than the first protects is wrapped and authenticated
//! again under the first (design, section 4).

use super::{EmbeddedStore, crypto, record_secret};
use crate::{
    cluster::Secrets,
    crypto::{CryptoError, Wrapped},
    kms::KeyRecord,
    store::{StoreError, StoredKey},
};

/// What is still under another root key than the first.
pub struct Stale {
    /// Keys, tombstones among them.
    pub keys: Vec<StoredKey>,
}

impl<S: Secrets> EmbeddedStore<S> {
    /// What is still under another root key, as the watch has shown it.
    #[must_use]
    pub fn stale(&self) -> Stale {
        Stale { keys: self.view.under_other_root_keys() }
    }

    /// Puts a record under the first root key, in one write. What it says does not change, so its revision does not
    /// either.
    ///
    /// # Errors
    /// `Conflict` when it was changed meanwhile; `RootKeyMissing` and `Damaged` when something in it does not unwrap,
    /// and then nothing was written.
    pub async fn rewrap(&self, key: &StoredKey) -> Result<StoredKey, StoreError> {
        let mut record = KeyRecord::clone(&key.record);
        for index in 0..record.versions.len() {
            let version = &record.versions[index];
            if let Some(Wrapped { root_key_id, bytes }) =
                self.rewrapped(&record, version.id, version.root_key_id, &version.wrapped)?
            {
                record.versions[index].root_key_id = root_key_id.into();
                record.versions[index].wrapped = bytes;
            }
        }
        if let Some(imported) = &record.imported
            && let Some(Wrapped { root_key_id, bytes }) =
                self.rewrapped(&record, imported.check.id, imported.check.root_key_id, &imported.check.wrapped_key)?
        {
            let mut imported = imported.clone();
            imported.check.root_key_id = root_key_id.into();
            imported.check.wrapped_key = bytes;
            record.imported = Some(imported);
        }
        self.replace(key, &record).await
    }

    fn rewrapped(
        &self,
        record: &KeyRecord,
        id: uuid::Uuid,
        root_key_id: uuid::Uuid,
        wrapped: &[u8],
    ) -> Result<Option<Wrapped>, StoreError> {
        let context = Self::wrap_context(record, id);
        self.ring.rewrap(&*self.random, &context, root_key_id.into(), wrapped).map_err(|e| match e {
            CryptoError::UnknownRootKey(id) => StoreError::RootKeyMissing { root_key_id: id.into() },
            CryptoError::Refused => StoreError::Damaged,
            other => crypto(other),
        })
    }

    /// The name of the Secret that holds a key, for a log line.
    #[must_use]
    pub fn secret_name(key: &StoredKey) -> String {
        record_secret::name_of(&key.record)
    }
}
