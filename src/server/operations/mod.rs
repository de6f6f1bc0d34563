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
mod material_secret;
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
    freshness::Freshness,
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
    /// No key is made (design, rule 20).
    pub no_new_keys: bool,
    /// How long to go on without the API server: `--max-staleness`.
    pub max_staleness: Duration,
    /// The watches that feed what it answers from.
    pub watches: Freshness,
}

impl Default for OperationSettings {
    fn default() -> Self {
        Self {
            gitops_managers: crate::api::field_ownership::GITOPS_MANAGERS.map(str::to_owned).to_vec(),
            wait: Duration::from_secs(10),
            no_new_keys: false,
            max_staleness: staleness::DEFAULT,
            watches: Freshness::default(),
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
    key_pairs: import::KeyPairs,
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
        let contact = Arc::new(Contact::new(clock.clone(), settings.max_staleness, settings.watches.clone()));
        Self { cluster, store, permissions, contact, clock, random, settings, key_pairs: import::KeyPairs::default() }
    }

    /// Whether this replica is in contact with the API server: [`staleness::keep`] has to be run on it.
    #[must_use]
    pub fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Call;

    fn is_send(_: impl Send) {}

    /// A connection is served by a task that moves between threads: this has to compile.
    #[allow(dead_code, reason = "it need not run")]
    fn calls_move_between_threads<C: EndpointCluster, S: KeyStore>(kms: &Kms<C, S>, call: &mut Call) {
        let key = KeyReference::Unknown("");
        let material = MaterialToImport { encrypted_key_material: &[], import_token: "", expire_time: None };
        let (algorithm, spec) = (crate::kms::WrappingAlgorithm::RsaesOaepSha256, crate::kms::WrappingKeySpec::Rsa2048);
        is_send(kms.create_key(call, &NewKeyDeclaration::default()));
        is_send(kms.enable_key(call, &key));
        is_send(kms.schedule_key_deletion(call, &key, None));
        is_send(kms.cancel_key_deletion(call, &key));
        is_send(kms.update_rotation_policy(call, &key, RotationPolicy::Never));
        is_send(kms.tag_resource(call, &key, &std::collections::BTreeMap::new()));
        is_send(kms.rotate(call, &key));
        is_send(kms.update_alias(call, "", &key));
        is_send(kms.get_parameters_for_import(call, &key, algorithm, spec));
        is_send(kms.import_key_material(call, &key, material));
        is_send(kms.delete_key_material(call, &key));
        is_send(kms.list_aliases(call, None));
    }
}
