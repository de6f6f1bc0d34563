//! What the operations of both APIs do: permission, state, and then cryptography or a change of the object.
//!
//! Each takes the [`Call`](super::Call) and the key as it was named, and notes in the call which key it was. The order is that of the
//! design: parameters are checked by the dialect before, then permission, then state, then cryptography.

mod alias;
mod answer;
mod change;
mod create;
mod cryptography;
mod describe;
mod find;
mod import;
mod key_reference;
mod lifecycle;
mod live;
mod rotate;
mod tags;

use std::{sync::Arc, time::Duration};

pub use create::NewKeyDeclaration;
pub use cryptography::{DataKeyLength, Decrypted, Encrypted, GeneratedKey, ReEncrypted};
pub use describe::{AliasDescription, KeyDescription, KeyVersionDescription};
pub use import::{ImportParameters, MaterialToImport};
pub use key_reference::KeyReference;
pub use lifecycle::RotationPolicy;

use super::{
    permission::Permissions,
    staleness::{self, Contact},
};
use crate::{
    clock::Clock,
    cluster::{Cluster, KeyObjects, Reviews},
    crypto::Random,
    store::KeyStore,
};

/// All that the operations ask of the API server.
pub trait EndpointCluster: Cluster + KeyObjects + Reviews + Clone {}

impl<C: Cluster + KeyObjects + Reviews + Clone> EndpointCluster for C {}

/// What whoever starts the endpoint decides.
#[derive(Clone, Debug)]
pub struct OperationSettings {
    /// Field managers whose fields are not changed, beside those by server-side apply: `--gitops-managers`.
    pub gitops_managers: Vec<String>,
    /// How long to wait until the operator has carried out a change.
    pub wait: Duration,
    /// The Alibaba dialect may import with RSAES_PKCS1_V1_5.
    pub allow_pkcs1_import: bool,
    /// No key is made (design, rule 20).
    pub no_new_keys: bool,
    /// How long to go on without the API server: `--max-staleness`.
    pub max_staleness: Duration,
}

impl Default for OperationSettings {
    fn default() -> Self {
        Self {
            gitops_managers: crate::api::field_ownership::GITOPS_MANAGERS.map(str::to_owned).to_vec(),
            wait: Duration::from_secs(10),
            allow_pkcs1_import: false,
            no_new_keys: false,
            max_staleness: staleness::DEFAULT,
        }
    }
}

/// The operations.
pub struct Kms<C, S> {
    cluster: C,
    store: Arc<S>,
    permissions: Permissions<C>,
    contact: Arc<Contact>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: OperationSettings,
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// The operations on the keys of a store.
    #[must_use]
    pub fn new(
        cluster: C,
        store: Arc<S>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: OperationSettings,
    ) -> Self {
        let permissions = Permissions::new(cluster.clone(), clock.clone(), settings.max_staleness);
        let contact = Arc::new(Contact::new(clock.clone(), settings.max_staleness));
        Self { cluster, store, permissions, contact, clock, random, settings }
    }

    /// Whether this replica is in contact with the API server: [`staleness::keep`] has to be run on it.
    #[must_use]
    pub fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }
}
