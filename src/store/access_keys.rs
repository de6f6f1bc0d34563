//! Where the records of access keys are: beside the keys, in the embedded store, whatever key stores there are.

use std::{future::Future, sync::Arc};

use super::{Revision, StoreError};
use crate::access_keys::{AccessKeyOwner, AccessKeyRecord, AccessKeySecret, SealedAccessKey};

/// An access key as it is stored, at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccessKey {
    /// All that is known.
    pub record: Arc<AccessKeyRecord>,
    /// Which state of the store this is.
    pub revision: Revision,
}

/// Holds the records of access keys.
pub trait AccessKeyStore: Send + Sync + 'static {
    /// Makes an access key for an `AccessKey`, to be put into its record. Nobody has it before that is stored.
    ///
    /// # Errors
    /// `Crypto`: no randomness.
    fn new_access_key(&self, owner: &AccessKeyOwner) -> Result<SealedAccessKey, StoreError>;

    /// The record for an `AccessKey`, read past every cache.
    fn access_key(
        &self,
        owner: &AccessKeyOwner,
    ) -> impl Future<Output = Result<Option<StoredAccessKey>, StoreError>> + Send;

    /// Stores a record, once: `Conflict` when there is one.
    fn create_access_key(
        &self,
        record: &AccessKeyRecord,
    ) -> impl Future<Output = Result<StoredAccessKey, StoreError>> + Send;

    /// Replaces exactly the record at this revision: `Conflict` when it changed.
    fn replace_access_key(
        &self,
        stored: &StoredAccessKey,
        record: &AccessKeyRecord,
    ) -> impl Future<Output = Result<StoredAccessKey, StoreError>> + Send;

    /// Deletes exactly the record at this revision: `Conflict` when it changed.
    fn delete_access_key(&self, stored: &StoredAccessKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The secret of an access key in a record.
    ///
    /// # Errors
    /// `RootKeyMissing`, `Damaged`
    fn open_access_key(&self, record: &AccessKeyRecord, key: &SealedAccessKey) -> Result<AccessKeySecret, StoreError>;

    /// Every record that the watch has seen and that can be read.
    fn access_keys(&self) -> Vec<StoredAccessKey>;
}
