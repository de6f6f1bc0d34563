//! Looking at what the embedded store holds without its root key, and so without knowing that it is authentic: for
//! tools of people who may read the Secrets. Nothing is ever done on the strength of it.

use k8s_openapi::api::core::v1::Secret;

use super::{access_key, alias, name, record_secret};
use crate::store::{AliasClaim, AliasSlot, Capabilities, KeySlot, StoreError, StoredKey};

/// What every embedded store can do.
pub const CAPABILITIES: Capabilities = super::CAPABILITIES;

/// The name of the Secret that holds the record of an object's key.
#[must_use]
pub fn record_name(slot: &KeySlot, generation: u32) -> String {
    name::record_name(slot, generation)
}

/// The name of the Secret that claims an alias.
#[must_use]
pub fn alias_name(slot: &AliasSlot) -> String {
    name::alias_name(slot)
}

/// The record in a Secret, not authenticated.
///
/// # Errors
/// It is no record, or one of a newer version.
pub fn record(secret: &Secret) -> Result<StoredKey, StoreError> {
    record_secret::decode_unverified(secret)
}

/// The namespace and name of the `AccessKey` that the record of an access key says it is for, not authenticated.
#[must_use]
pub fn access_key_owner(secret: &Secret) -> Option<(String, String)> {
    access_key::said_owner(secret)
}

/// The claim of an alias in a Secret, not authenticated.
///
/// # Errors
/// It is no claim, or one of a newer version.
pub fn claim(secret: &Secret) -> Result<AliasClaim, StoreError> {
    alias::decode_unverified(secret)
}
