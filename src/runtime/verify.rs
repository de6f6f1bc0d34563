//! `cmk-operator verify`: whether every record in the cluster is authentic and unwraps (design, rule 20), and which
//! root keys that takes. It reads, and changes nothing.

use std::{fmt, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt};
use thiserror::Error;
use uuid::Uuid;

use super::arguments::VerifyArguments;
use crate::{
    api::metadata,
    clock::SystemClock,
    cluster::{ApiError, KubeCluster, Secrets, Views},
    crypto::{RootKeyRing, SystemRandom},
    store::embedded::{
        EmbeddedStore, Verified,
        root_key::{self, RootKeyError},
    },
};

/// Why nothing could be verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// There is no root key to verify with.
    #[error(
        "there is no Secret {namespace}/{}, and no --root-key-file: give the root key with --root-key-file, or restore \
         the Secret",
        metadata::ROOT_KEY_SECRET
    )]
    NoRootKey {
        /// Where it was looked for.
        namespace: String,
    },
    /// The root key can't be used.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The records can't be read.
    #[error("the key records can't be listed: {0}")]
    Api(#[from] ApiError),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Keys whose material unwraps.
    pub keys: usize,
    /// Authentic tombstones.
    pub tombstones: usize,
    /// Authentic claims of aliases.
    pub aliases: usize,
    /// What needs which root key, the one that wraps first. Something that was not rewrapped as a whole needs several.
    pub root_keys: Vec<RootKeyNeed>,
    /// What is wrong with records, by the name of the Secret.
    pub faults: Vec<(String, String)>,
    /// What is wrong with claims of aliases, by the name of the Secret.
    pub alias_faults: Vec<(String, String)>,
    /// Records of access keys that are authentic and open.
    pub access_keys: usize,
    /// What is wrong with records of access keys, by the name of the Secret.
    pub access_key_faults: Vec<(String, String)>,
}

/// What needs a root key.
#[derive(Debug, PartialEq, Eq)]
pub struct RootKeyNeed {
    /// Its id.
    pub root_key_id: Uuid,
    /// How many records.
    pub records: usize,
    /// How many claims of aliases.
    pub aliases: usize,
    /// How many records of access keys.
    pub access_keys: usize,
}

impl Report {
    /// A report on nothing, about the root keys at hand.
    fn new(ring: &RootKeyRing) -> Self {
        let need = |id| RootKeyNeed { root_key_id: Uuid::from(id), records: 0, aliases: 0, access_keys: 0 };
        Self { root_keys: ring.ids().map(need).collect(), ..Self::default() }
    }

    /// Whether everything can be used.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.alias_faults.is_empty() && self.access_key_faults.is_empty()
    }

    fn needs(&mut self, root_key_id: Uuid) -> Option<&mut RootKeyNeed> {
        self.root_keys.iter_mut().find(|need| need.root_key_id == root_key_id)
    }

    fn record<S: Secrets>(&mut self, store: &EmbeddedStore<S>, secret: &Secret) {
        match store.verify(secret) {
            Ok(Verified { key, root_keys }) => {
                if key.record.is_tombstone() {
                    self.tombstones += 1;
                } else {
                    self.keys += 1;
                }
                root_keys.into_iter().for_each(|id| self.needs(id).into_iter().for_each(|need| need.records += 1));
            }
            Err(fault) => self.faults.push((secret.name_any(), fault.to_string())),
        }
    }

    fn alias<S: Secrets>(&mut self, store: &EmbeddedStore<S>, secret: &Secret) {
        match store.verify_alias(secret) {
            Ok((_, root_key)) => {
                self.aliases += 1;
                self.needs(root_key).into_iter().for_each(|need| need.aliases += 1);
            }
            Err(fault) => self.alias_faults.push((secret.name_any(), fault.to_string())),
        }
    }

    fn access_key<S: Secrets>(&mut self, store: &EmbeddedStore<S>, secret: &Secret) {
        match store.verify_access_key(secret) {
            Ok(root_keys) => {
                self.access_keys += 1;
                root_keys.into_iter().for_each(|id| self.needs(id).into_iter().for_each(|need| need.access_keys += 1));
            }
            Err(fault) => self.access_key_faults.push((secret.name_any(), fault.to_string())),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (secret, fault) in self.faults.iter().chain(&self.alias_faults).chain(&self.access_key_faults) {
            writeln!(f, "{secret}: {fault}")?;
        }
        for (index, need) in self.root_keys.iter().enumerate() {
            let RootKeyNeed { root_key_id, records, aliases, access_keys } = need;
            let count = format!("{records} records, {aliases} aliases and {access_keys} access keys");
            let what = match (index, records + aliases + access_keys) {
                (0, _) => format!("the first: {count} are under it"),
                (_, 0) if self.is_good() => "nothing needs it: it can be removed".to_owned(),
                _ => format!("{count} still need it"),
            };
            writeln!(f, "root key {root_key_id}: {what}")?;
        }
        write!(
            f,
            "{} keys unwrap, {} tombstones are authentic, {} records are not usable; {} aliases are authentic, {} are not; {} access keys \
             open, {} do not",
            self.keys,
            self.tombstones,
            self.faults.len(),
            self.aliases,
            self.alias_faults.len(),
            self.access_keys,
            self.access_key_faults.len()
        )
    }
}

/// Verifies every record, every claim of an alias and every access key.
///
/// # Errors
/// [`VerifyError`] when there is nothing to verify with, or nothing can be read.
pub async fn verify(client: Client, arguments: &VerifyArguments) -> Result<Report, VerifyError> {
    let namespace = &arguments.namespace.namespace;
    let cluster = KubeCluster::new(client, Views::blind());
    let ring = match root_key::from_files(&arguments.root_key.root_key_files)? {
        Some(ring) => ring,
        None => {
            let stored = root_key::stored(&cluster, namespace).await?;
            stored.ok_or_else(|| VerifyError::NoRootKey { namespace: namespace.clone() })?
        }
    };
    let mut report = Report::new(&ring);
    let store =
        EmbeddedStore::new(namespace, cluster.clone(), Arc::new(ring), Arc::new(SystemClock), Arc::new(SystemRandom));
    for secret in cluster.list_secrets(namespace, metadata::KEY_RECORD_TYPE).await? {
        report.record(&store, &secret);
    }
    for secret in cluster.list_secrets(namespace, metadata::ALIAS_TYPE).await? {
        report.alias(&store, &secret);
    }
    for secret in cluster.list_secrets(namespace, metadata::ACCESS_KEY_TYPE).await? {
        report.access_key(&store, &secret);
    }
    Ok(report)
}
