//! Checking what is stored, from a backup or in the cluster, without changing anything (design, rule 20).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use uuid::Uuid;

use super::{EmbeddedStore, alias, record_secret};
use crate::{
    cluster::Secrets,
    kms::key_record::RecordVersion,
    store::{AliasClaim, StoreError, StoredKey},
};

/// A record that is authentic and unwraps.
#[derive(Debug)]
pub struct Verified {
    /// The key.
    pub key: StoredKey,
    /// The root keys without any of which it could not be verified: after a rotation that was interrupted, or before
    /// it, there may be several.
    pub root_keys: BTreeSet<Uuid>,
}

impl<S: Secrets> EmbeddedStore<S> {
    /// Checks a record read from a backup or from the cluster: its MAC, its form, and that all that is wrapped in it
    /// unwraps: versions, and what imported material is recognised by.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, secret: &Secret) -> Result<Verified, StoreError> {
        let key = record_secret::decode(secret, &self.ring)?.key;
        let record = &key.record;
        for version in &record.versions {
            self.unwrap(record, version)?;
        }
        if let Some(imported) = &record.imported {
            let check = &imported.check;
            // A check key is wrapped as a version is.
            let as_version = RecordVersion {
                id: check.id,
                creation_date: imported.creation_date,
                root_key_id: check.root_key_id,
                wrapped: check.wrapped_key.clone(),
                on_demand: false,
            };
            self.unwrap(record, &as_version)?;
        }
        let authenticated_by = record_secret::authenticated_by(secret, &self.ring);
        let root_keys = record_secret::root_keys(record).chain(authenticated_by).collect();
        Ok(Verified { key, root_keys })
    }

    /// Checks the claim of an alias: its MAC and its form. Answers the root key that authenticates it, too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify_alias(&self, secret: &Secret) -> Result<(AliasClaim, Uuid), StoreError> {
        let (claim, root_key) = alias::decode(secret, &self.ring)?;
        Ok((claim, root_key.into()))
    }
}
