//! Finding the key that a request names, for a caller who may use it.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    EndpointCluster, Kms,
    key_reference::{ArnResource, KeyReference},
};
use crate::{
    api::KeyStoreRef,
    crypto::ImportTokenError,
    kms::{KeyRecord, KeyState, Operation, ResourceName},
    server::{Call, Caller, Failure, permission::Verb},
    store::{AliasClaim, AliasSlot, Freshness, ImportRefusal, KeyStore, StoreError, StoredKey},
};

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// The key that is named, for a caller with a verb on it whose operation its state allows.
    ///
    /// # Errors
    /// Whether there is no such key, or the caller lacks the verb on it: the same answer (design, section 5). A state that
    /// refuses the operation.
    pub(super) async fn key_for(
        &self,
        call: &mut Call,
        reference: &KeyReference<'_>,
        verb: Verb,
        operation: Operation,
    ) -> Result<StoredKey, Failure> {
        let key = self.permitted_key(call, reference, verb).await?;
        self.check_state(call, &key, operation)?;
        Ok(key)
    }

    /// The key that is named, for a caller with a verb on it, in whatever state.
    pub(super) async fn permitted_key(
        &self,
        call: &mut Call,
        reference: &KeyReference<'_>,
        verb: Verb,
    ) -> Result<StoredKey, Failure> {
        self.contact.check().await?;
        let found = self.resolve(&call.caller, reference).await?;
        let Some(key) = found else {
            call.deleted_key_id = self.deleted_key(&call.caller, reference);
            return Err(self.permissions.hidden(&call.caller, verb, not_found(reference)).await);
        };
        call.key_id = Some(key.record.key_id);
        let owner = &key.record.owner;
        if self.permissions.has(&call.caller, verb, &owner.namespace, Some(&owner.name)).await? {
            return Ok(key);
        }
        Err(self.permissions.hidden(&call.caller, verb, not_found(reference)).await)
    }

    /// A key that the caller's namespace had: it is to be deleted, and its object is gone already.
    fn deleted_key(&self, caller: &Caller, reference: &KeyReference<'_>) -> Option<Uuid> {
        let id = match *reference {
            KeyReference::Id(id) | KeyReference::Arn { resource: ArnResource::Key(id), .. } => id,
            KeyReference::Alias(alias) | KeyReference::Arn { resource: ArnResource::Alias(alias), .. } => {
                let claims = self.store.aliases_in(&caller.namespace);
                claims.into_iter().find(|claim| claim.slot.alias == alias)?.key_id
            }
            KeyReference::Unknown(_) => return None,
        };
        let KeyRecord { owner, deletion, key_id, .. } = &*self.store.key(id)?.record;
        (owner.released && deletion.is_some() && *owner.namespace == *caller.namespace).then_some(*key_id)
    }

    /// Whether the key's state allows an operation in the dialect of the call.
    pub(super) fn check_state(&self, call: &Call, key: &StoredKey, operation: Operation) -> Result<(), Failure> {
        operation.check(self.state_of(key), call.dialect).map_err(|rejected| Failure::Rejected {
            key: ResourceName::of(&key.record),
            operation,
            rejected,
        })
    }

    pub(super) fn state_of(&self, key: &StoredKey) -> KeyState {
        key.record.state(self.now())
    }

    pub(in crate::server) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn resolve(&self, caller: &Caller, reference: &KeyReference<'_>) -> Result<Option<StoredKey>, Failure> {
        let found = match *reference {
            KeyReference::Id(id) => self.key_by_id(id),
            KeyReference::Alias(alias) => self.key_by_alias(caller, alias).await?,
            KeyReference::Arn { region, account_id, resource } => {
                let found = match resource {
                    ArnResource::Key(id) => self.key_by_id(id),
                    ArnResource::Alias(alias) => self.key_by_alias(caller, alias).await?,
                };
                found.filter(|key| {
                    key.record.region == region && key.record.account_id.trim_start_matches('0') == account_id
                })
            }
            KeyReference::Unknown(_) => None,
        };
        Ok(found)
    }

    /// The key with an id, if an object shows it.
    pub(super) fn key_by_id(&self, key_id: Uuid) -> Option<StoredKey> {
        self.store.key(key_id).filter(|key| self.is_shown(key))
    }

    /// Whether the object that a key belongs to is there and says so. One whose object is not finished yet may still be
    /// forgotten, and one whose object is gone is nobody's to use until the object is applied again. Anybody can make
    /// an object of the same name with the same annotation in a namespace that was made anew, and that one has another
    /// UID (design, rule 5).
    pub(super) fn is_shown(&self, key: &StoredKey) -> bool {
        let KeyRecord { owner, key_id, .. } = &*key.record;
        if key.record.is_tombstone() || owner.released {
            return false;
        }
        self.cluster.shows_key(&owner.namespace, &owner.name, &owner.uid, *key_id)
    }

    /// The key that a call was about, once an operation has found it for the caller.
    pub(in crate::server) fn key_of(&self, call: &Call) -> Option<StoredKey> {
        self.store.key(call.key_id?)
    }

    pub(super) async fn key_by_alias(&self, caller: &Caller, alias: &str) -> Result<Option<StoredKey>, Failure> {
        let default = AliasSlot {
            store: KeyStoreRef::default().to_string(),
            namespace: caller.namespace.to_string(),
            alias: alias.to_owned(),
        };
        let claim = self.store.alias(&default, Freshness::Watched).await.map_err(|error| from_store(&error))?;
        let claim = match claim {
            Some(claim) => Some(claim),
            None => {
                let mut others = self.store.aliases_in(&caller.namespace);
                others.retain(|claim| claim.slot.alias == alias);
                preferred(others).pop()
            }
        };
        Ok(claim.and_then(|claim| self.key_by_id(claim.key_id)))
    }
}

/// Of the claims of each alias in a namespace the one that counts: in the store `default`, else in the first by name.
pub(super) fn preferred(mut claims: Vec<AliasClaim>) -> Vec<AliasClaim> {
    let default = KeyStoreRef::default().to_string();
    claims.sort_by(|a, b| {
        let rank = |claim: &AliasClaim| (claim.slot.store != default, claim.slot.store.clone());
        a.slot.alias.cmp(&b.slot.alias).then_with(|| rank(a).cmp(&rank(b)))
    });
    claims.dedup_by(|later, first| later.slot.alias == first.slot.alias);
    claims
}

/// There is no such key, in the words in which it was asked for.
pub(super) fn not_found(reference: &KeyReference<'_>) -> Failure {
    match reference {
        KeyReference::Id(id) => Failure::KeyNotFound(id.to_string()),
        KeyReference::Alias(alias) => Failure::AliasNotFound((*alias).to_owned()),
        KeyReference::Arn { resource: ArnResource::Key(id), .. } => Failure::KeyNotFound(id.to_string()),
        KeyReference::Arn { resource: ArnResource::Alias(alias), .. } => Failure::AliasNotFound((*alias).to_owned()),
        KeyReference::Unknown(text) => Failure::KeyNotFound((*text).to_owned()),
    }
}

/// What a failure of the store means to a caller, where nothing more is known about it.
pub(super) fn from_store(error: &StoreError) -> Failure {
    match error {
        StoreError::InvalidCiphertext => Failure::InvalidCiphertext,
        StoreError::IncorrectKey { .. } => Failure::IncorrectKey,
        StoreError::Conflict => Failure::Conflict,
        StoreError::Unavailable(problem) => Failure::Unavailable(problem.clone()),
        StoreError::Import(ImportRefusal::Token(ImportTokenError::Invalid)) => Failure::InvalidImportToken,
        StoreError::Import(ImportRefusal::Token(ImportTokenError::Expired)) => Failure::ExpiredImportToken,
        StoreError::Import(ImportRefusal::Invalid) => Failure::InvalidKeyMaterial,
        StoreError::Import(ImportRefusal::Different) => Failure::IncorrectKeyMaterial,
        other => Failure::Internal(other.to_string()),
    }
}
