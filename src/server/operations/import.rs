//! GetParametersForImport, ImportKeyMaterial and DeleteKeyMaterial (design, section 5 and rule 9).
//!
//! What is imported stays encrypted on its way: a Secret in the key's namespace holds it as it came, the object names that
//! Secret and has the token, and the operator opens both, as for material that is declared by hand.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    EndpointCluster, KeyDescription, KeyReference, Kms, change,
    find::{from_store, not_found},
    lifecycle::enabled,
    live::{Change, Live},
    material_secret::{self, Prepared},
};
use crate::{
    api::edit::Edit,
    kms::{
        Dialect, KeyRecord, Operation, Origin, ResourceName, WrappingAlgorithm, WrappingKeySpec, key_record::to_seconds,
    },
    server::{Call, Failure, permission::Verb},
    store::{KeyStore, StoreError, StoredKey},
};

/// What GetParametersForImport answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportParameters {
    /// The key that material may be imported for.
    pub key: ResourceName,
    /// The public key, as DER of a SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// The token: base64 of bytes that only this operator reads.
    pub import_token: String,
    /// When the token expires.
    pub valid_to: Timestamp,
}

/// What ImportKeyMaterial is given.
#[derive(Clone, Copy, Debug)]
pub struct MaterialToImport<'a> {
    /// The material, encrypted with the public key.
    pub encrypted_key_material: &'a [u8],
    /// The token, base64.
    pub import_token: &'a str,
    /// When the material expires. None: never.
    pub expire_time: Option<Timestamp>,
}

/// RSA key pairs are made one at a time, and few wait: one takes from a tenth of a second to four.
#[derive(Clone)]
pub(super) struct KeyPairs {
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// How many calls may wait for a key pair, the one whose turn it is included.
const PLACES: usize = 5;

impl Default for KeyPairs {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl KeyPairs {
    /// Does something slow off the async threads, when it is its turn. It keeps its turn until it is done, also when
    /// nobody waits for it any more.
    async fn in_turn<T: Send + 'static>(&self, slow: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(Failure::Throttled(format!("{PLACES} calls wait for a key pair already")));
        };
        let gone = |problem: String| Failure::Internal(problem);
        let turn = self.turn.clone().acquire_owned().await.map_err(|error| gone(error.to_string()))?;
        let work = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            slow()
        });
        work.await.map_err(|error| gone(error.to_string()))
    }
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// GetParametersForImport: another key pair at every call.
    ///
    /// # Errors
    /// [`Failure`]: no such key or permission, its state, [`Failure::UnsupportedOrigin`] unless it is EXTERNAL, and
    /// [`Failure::Throttled`].
    pub async fn get_parameters_for_import(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        algorithm: WrappingAlgorithm,
        key_spec: WrappingKeySpec,
    ) -> Result<ImportParameters, Failure> {
        let key = self.permitted_key(call, key, Verb::ImportKeyMaterial).await?;
        refuse_generated(&key)?;
        self.check_state(call, &key, Operation::GetParametersForImport)?;
        let (store, key_id) = (self.store.clone(), key.record.key_id);
        let made = self.key_pairs.in_turn(move || store.import_parameters(key_id, algorithm, key_spec)).await?;
        let made = made.map_err(|error| from_store(&error))?;
        let name = ResourceName::of(&key.record);
        Ok(ImportParameters {
            key: name,
            public_key: made.public_key,
            import_token: made.token,
            valid_to: made.expires_at,
        })
    }

    /// ImportKeyMaterial. Answers the key with its material, which is Enabled then.
    ///
    /// # Errors
    /// As every change, [`Failure::UnsupportedOrigin`], and in this order: [`Failure::InvalidImportToken`] and
    /// [`Failure::ExpiredImportToken`], [`Failure::InvalidKeyMaterial`], [`Failure::IncorrectKeyMaterial`]. Nothing is
    /// written then.
    pub async fn import_key_material(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        material: MaterialToImport<'_>,
    ) -> Result<KeyDescription, Failure> {
        let expire_time = material.expire_time.map(to_seconds);
        self.check_expire_time(call.dialect, expire_time)?;
        let key_not_found = not_found(key);
        let found = self.permitted_key(call, key, Verb::ImportKeyMaterial).await?;
        let live = self.live(&found, &key_not_found).await?;
        refuse_generated(&live.key)?;
        self.check_state(call, &live.key, Operation::ImportKeyMaterial)?;
        let algorithm = self.check_material(&live.key, &material).await?;
        let prepared = Prepared::new(&live, algorithm, &material, expire_time);

        // Before there is a Secret for nothing.
        let username = &call.caller.user.username;
        let edits = importing(&live, &prepared);
        change::decide(&live.object, edits, &self.settings.gitops_managers, username)?;
        let made = material_secret::deliver(&self.cluster, &prepared).await?;
        let change = Change {
            verb: Verb::ImportKeyMaterial,
            operation: Operation::ImportKeyMaterial,
            parameter: "EncryptedKeyMaterial",
            wanted: |live: &Live| Ok(importing(live, &prepared)),
            shows: |record: &KeyRecord| record.enabled && prepared.is_imported(record),
        };
        match self.change_key(call, &live.key, &key_not_found, &change).await {
            Ok(key) => {
                material_secret::remove_former(&self.cluster, &live.object, Some(&prepared)).await;
                Ok(self.described(key))
            }
            // It is declared, and may be carried out yet.
            Err(failure @ Failure::NotCarriedOut(_)) => Err(failure),
            Err(failure) => {
                material_secret::take_back(&self.cluster, made).await;
                Err(failure)
            }
        }
    }

    /// DeleteKeyMaterial; AWS: DeleteImportedKeyMaterial. The key is PendingImport then, or stays PendingDeletion.
    ///
    /// # Errors
    /// As every change, [`Failure::UnsupportedOrigin`] and [`Failure::DeletionProtected`].
    pub async fn delete_key_material(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<(), Failure> {
        let key_not_found = not_found(key);
        let found = self.permitted_key(call, key, Verb::Delete).await?;
        let before = self.live(&found, &key_not_found).await?;
        let change = Change {
            verb: Verb::Delete,
            operation: Operation::DeleteKeyMaterial,
            parameter: "KeyId",
            wanted: |live: &Live| {
                refuse_generated(&live.key)?;
                live.refuse_protected()?;
                let is = live.object.spec.imported_key_material.as_ref().map(|declared| json!(declared));
                Ok(vec![Edit::removal("importedKeyMaterial", is)])
            },
            shows: |record: &KeyRecord| record.versions.is_empty(),
        };
        self.change_key(call, &found, &key_not_found, &change).await?;
        material_secret::remove_former(&self.cluster, &before.object, None).await;
        Ok(())
    }

    fn check_expire_time(&self, dialect: Dialect, expire_time: Option<Timestamp>) -> Result<(), Failure> {
        let name = match dialect {
            Dialect::Alibaba => "KeyMaterialExpireUnix",
            Dialect::Aws => "ValidTo",
        };
        match expire_time {
            Some(time) if time <= self.now() => {
                Err(Failure::InvalidParameter { name, problem: format!("{time} has passed") })
            }
            _ => Ok(()),
        }
    }

    /// Checks token and material, off the async threads, and answers which algorithm the token is for.
    async fn check_material(
        &self,
        key: &StoredKey,
        material: &MaterialToImport<'_>,
    ) -> Result<WrappingAlgorithm, Failure> {
        let (store, key) = (self.store.clone(), key.clone());
        let (token, encrypted) = (material.import_token.to_owned(), material.encrypted_key_material.to_vec());
        let checked = tokio::task::spawn_blocking(move || store.check_material(&key, &token, &encrypted)).await;
        let checked: Result<_, StoreError> = checked.map_err(|error| Failure::Internal(error.to_string()))?;
        checked.map_err(|error| from_store(&error))
    }
}

/// Material is imported into keys that were made for it.
fn refuse_generated(key: &StoredKey) -> Result<(), Failure> {
    match key.record.origin {
        Origin::External => Ok(()),
        origin @ (Origin::AliyunKms | Origin::AwsKms) => Err(Failure::UnsupportedOrigin(format!(
            "a key with origin {} gets its material from the key store: material is imported into keys with origin \
             EXTERNAL",
            origin.as_str()
        ))),
    }
}

/// An import enables the key, as in both clouds.
fn importing(live: &Live, prepared: &Prepared) -> Vec<Edit> {
    let is = live.object.spec.imported_key_material.as_ref().map(|declared| json!(declared));
    vec![Edit::spec("importedKeyMaterial", is, json!(prepared.declared)), enabled(live, true)]
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn key_pairs_are_made_one_at_a_time_and_few_wait() {
        let pairs = KeyPairs::default();
        let (done, wait) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pairs = pairs.clone();
            async move { pairs.in_turn(move || wait.recv().is_ok()).await }
        });
        while pairs.turn.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut others: Vec<_> = (1..PLACES)
            .map(|i| {
                let pairs = pairs.clone();
                tokio::spawn(async move { pairs.in_turn(move || i).await })
            })
            .collect();
        while pairs.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(pairs.in_turn(|| ()).await, Err(Failure::Throttled(_))));
        // One that nobody waits for any more gives its place away.
        others.pop().unwrap().abort();
        while pairs.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        // And keeps its turn, once it has it.
        first.abort();
        assert_eq!(pairs.turn.available_permits(), 0);
        done.send(()).unwrap();
        for (i, other) in others.into_iter().enumerate() {
            assert_eq!(other.await.unwrap(), Ok(i + 1));
        }
        assert_eq!(pairs.in_turn(|| 7).await, Ok(7));
    }
}
