//! Aliases: each claimed by a Secret whose name follows from it, so that only one key can have it (design, rule 10).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::ObjectMeta};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{name::alias_name, record_secret::revision};
use crate::{
    api::metadata,
    cluster::is_older,
    crypto::{RootKeyId, RootKeyRing},
    store::{AliasClaim, AliasSlot, StoreError},
};

const CLAIM: &str = "claim";
const MAC: &str = "mac";
/// The number of the stored form.
const FORMAT: u32 = 1;

/// The stored form of a claim (`docs/formats.md`).
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    format: u32,
    store: String,
    namespace: String,
    alias: String,
    key_id: Uuid,
}

/// The Secret that claims an alias for a key. With the claim's revision it replaces exactly that one.
pub fn encode(
    slot: &AliasSlot,
    key_id: Uuid,
    namespace: &str,
    replaced: Option<&AliasClaim>,
    ring: &RootKeyRing,
) -> Result<Secret, StoreError> {
    let AliasSlot { store, namespace: of, alias } = slot.clone();
    let stored = Stored { format: FORMAT, store, namespace: of, alias, key_id };
    let bytes = serde_json::to_vec(&stored).map_err(|e| StoreError::Crypto(e.to_string()))?;
    let name = alias_name(slot);
    let mac = ring.record_mac(&name, &bytes);
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            uid: replaced.map(|claim| claim.revision.uid.clone()),
            resource_version: replaced.map(|claim| claim.revision.version.clone()),
            labels: Some(BTreeMap::from([
                (metadata::MANAGED_BY_LABEL.into(), metadata::MANAGER.into()),
                (metadata::COMPONENT_LABEL.into(), metadata::COMPONENT_ALIAS.into()),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some(metadata::ALIAS_TYPE.into()),
        data: Some(BTreeMap::from([(CLAIM.into(), ByteString(bytes)), (MAC.into(), ByteString(mac.to_vec()))])),
        ..Secret::default()
    })
}

/// The claim in a Secret, and the root key that authenticates it.
///
/// # Errors
/// `Tampered` when the MAC does not match, `Unreadable` when it does and the claim still can't be understood.
pub fn decode(secret: &Secret, ring: &RootKeyRing) -> Result<(AliasClaim, RootKeyId), StoreError> {
    let name = secret.name_any();
    let field = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice());
    let (Some(bytes), Some(mac)) = (field(CLAIM), field(MAC)) else {
        return Err(StoreError::Tampered { secret: name });
    };
    let Ok(root_key) = ring.verify_record_mac(&name, bytes, mac) else {
        return Err(StoreError::Tampered { secret: name });
    };
    Ok((understood(secret, bytes)?, root_key))
}

/// The claim in a Secret, whose MAC nobody checked: good for looking at, and for nothing else.
///
/// # Errors
/// `Unreadable` when it can't be understood.
pub fn decode_unverified(secret: &Secret) -> Result<AliasClaim, StoreError> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(CLAIM)).map(|bytes| bytes.0.as_slice());
    understood(secret, bytes.unwrap_or_default())
}

/// A claim from its bytes, if it is the one that belongs into this Secret.
fn understood(secret: &Secret, bytes: &[u8]) -> Result<AliasClaim, StoreError> {
    let name = secret.name_any();
    let unreadable = |problem: &str| StoreError::Unreadable { secret: name.clone(), problem: problem.to_owned() };
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| unreadable(&e.to_string()))?;
    if stored.format != FORMAT {
        return Err(unreadable("it was written by a newer version"));
    }
    let slot = AliasSlot { store: stored.store, namespace: stored.namespace, alias: stored.alias };
    if alias_name(&slot) != name {
        return Err(unreadable("it is the claim of another alias"));
    }
    Ok(AliasClaim { slot, key_id: stored.key_id, revision: revision(secret) })
}

/// A claim that was seen.
#[derive(Debug)]
struct Seen {
    claim: AliasClaim,
    root_key: RootKeyId,
}

/// The claims that the watch, and our own writes, have shown, by the name of their Secret.
#[derive(Debug, Default)]
pub struct AliasView {
    seen: Mutex<HashMap<String, Seen>>,
}

impl AliasView {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        // A panic elsewhere leaves the map whole: every change to it is one insert or remove.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a claim and the root key that authenticates it, unless a later version of it was seen already.
    pub fn note(&self, claim: &AliasClaim, root_key: RootKeyId) {
        let mut seen = self.lock();
        let name = alias_name(&claim.slot);
        if seen.get(&name).is_none_or(|known| !is_older(&claim.revision.version, &known.claim.revision.version)) {
            seen.insert(name, Seen { claim: claim.clone(), root_key });
        }
    }

    /// Who has an alias.
    pub fn get(&self, slot: &AliasSlot) -> Option<AliasClaim> {
        self.lock().get(&alias_name(slot)).map(|seen| seen.claim.clone())
    }

    /// What a key has claimed.
    pub fn of(&self, key_id: Uuid) -> Vec<AliasClaim> {
        let mut claims = self.claims(|seen| seen.claim.key_id == key_id);
        claims.sort_by(|a, b| a.slot.alias.cmp(&b.slot.alias));
        claims
    }

    /// What is claimed in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<AliasClaim> {
        self.claims(|seen| seen.claim.slot.namespace == namespace)
    }

    /// The claims that another root key than this one authenticates.
    pub fn not_under(&self, root_key: RootKeyId) -> Vec<AliasClaim> {
        self.claims(|seen| seen.root_key != root_key)
    }

    /// How many claims there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn claims(&self, wanted: impl Fn(&&Seen) -> bool) -> Vec<AliasClaim> {
        self.lock().values().filter(wanted).map(|seen| seen.claim.clone()).collect()
    }

    /// Forgets a claim, and answers it.
    pub fn remove(&self, name: &str) -> Option<AliasClaim> {
        self.lock().remove(name).map(|seen| seen.claim)
    }

    /// Forgets every claim but these, and answers those that went.
    pub fn retain(&self, names: &HashSet<String>) -> Vec<AliasClaim> {
        let mut seen = self.lock();
        let (stay, gone): (HashMap<_, _>, HashMap<_, _>) =
            std::mem::take(&mut *seen).into_iter().partition(|(name, _)| names.contains(name));
        *seen = stay;
        gone.into_values().map(|seen| seen.claim).collect()
    }
}
