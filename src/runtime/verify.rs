//! `cmk-operator verify`: whether every record in the cluster is authentic and unwraps (design, rule 20). It
//! reads, and changes nothing.

use std::{fmt, sync::Arc};

use kube::{Client, ResourceExt};
use thiserror::Error;

use super::arguments::VerifyArguments;
use crate::{
    api::metadata,
    clock::SystemClock,
    cluster::{ApiError, Cluster, KubeCluster, Secrets, Views},
    crypto::SystemRandom,
    store::embedded::{
        EmbeddedStore,
        root_key::{self, RootKeyError},
    },
};

/// Why nothing could be verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// There is no root key.
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
    /// What is wrong, by the name of the Secret.
    pub faults: Vec<(String, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (secret, fault) in &self.faults {
            writeln!(f, "{secret}: {fault}")?;
        }
        write!(
            f,
            "{} keys unwrap, {} tombstones are authentic, {} records are not usable",
            self.keys,
            self.tombstones,
            self.faults.len()
        )
    }
}

/// Verifies every record.
///
/// # Errors
/// [`VerifyError`] when there is nothing to verify with, or nothing can be read.
pub async fn verify(client: Client, arguments: &VerifyArguments) -> Result<Report, VerifyError> {
    let namespace = &arguments.namespace.namespace;
    let cluster = KubeCluster::new(client, Views::blind());
    let ring = match root_key::from_files(&arguments.root_key.root_key_files)? {
        Some(ring) => ring,
        // Never generates: as with --no-new-keys, a missing root key is an error.
        None => {
            let count = || cluster.count_keys_with_status();
            root_key::from_secret(&cluster, namespace, true, &SystemRandom, count).await?
        }
    };
    let store =
        EmbeddedStore::new(namespace, cluster.clone(), Arc::new(ring), Arc::new(SystemClock), Arc::new(SystemRandom));
    let mut report = Report::default();
    for secret in cluster.list_secrets(namespace, metadata::KEY_RECORD_TYPE).await? {
        match store.verify(&secret) {
            Ok(key) if key.record.is_tombstone() => report.tombstones += 1,
            Ok(_) => report.keys += 1,
            Err(fault) => report.faults.push((secret.name_any(), fault.to_string())),
        }
    }
    Ok(report)
}
