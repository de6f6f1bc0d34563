//! A key's record as a Secret, and back, with its integrity checked before anything in it is used.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::ObjectMeta};
use serde::Deserialize;
use uuid::Uuid;

use super::name::record_name;
use crate::{
    api::metadata,
    crypto::RootKeyRing,
    kms::KeyRecord,
    store::{KeySlot, Revision, StoreError, StoredKey},
};

const RECORD: &str = "record";
const MAC: &str = "mac";
/// Annotation: `NAMESPACE/NAME` of the object that the key belongs to. Not authenticated.
const OWNER: &str = "cmk-operator.dev/owner";

/// The Secret for a record: without `revision` one to be created, with it one to replace exactly that.
pub fn encode(
    record: &KeyRecord,
    namespace: &str,
    revision: Option<&Revision>,
    ring: &RootKeyRing,
) -> Result<Secret, StoreError> {
    let slot = KeySlot::of_owner(record);
    let name = name_of(record);
    let bytes = record.encode().map_err(|e| StoreError::Crypto(e.to_string()))?;
    let mac = ring.record_mac(&name, &bytes);
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            uid: revision.map(|r| r.uid.clone()),
            resource_version: revision.map(|r| r.version.clone()),
            labels: Some(BTreeMap::from([
                (metadata::MANAGED_BY_LABEL.into(), metadata::MANAGER.into()),
                (metadata::COMPONENT_LABEL.into(), metadata::COMPONENT_RECORD.into()),
            ])),
            // For a person who looks at the Secrets, and for `said_owner`.
            annotations: Some(BTreeMap::from([(OWNER.into(), format!("{}/{}", slot.namespace, slot.name))])),
            ..ObjectMeta::default()
        },
        type_: Some(metadata::KEY_RECORD_TYPE.into()),
        data: Some(BTreeMap::from([(RECORD.into(), ByteString(bytes)), (MAC.into(), ByteString(mac.to_vec()))])),
        ..Secret::default()
    })
}

/// The name of the Secret that holds a record.
pub fn name_of(record: &KeyRecord) -> String {
    record_name(&KeySlot::of_home(record), record.generation)
}

/// A record that was read, and whether the root key that is the first now protects all of it.
pub struct Decoded {
    /// The key.
    pub key: StoredKey,
    /// Its MAC and everything wrapped in it are under the first root key.
    pub is_under_first_root_key: bool,
}

/// The record in a Secret.
///
/// # Errors
/// `Tampered` when the MAC does not match the Secret's name and the record's bytes; `Unreadable` when it does
/// and the record still can't be understood.
pub fn decode(secret: &Secret, ring: &RootKeyRing) -> Result<Decoded, StoreError> {
    let name = secret.name_any();
    let tampered = || StoreError::Tampered { secret: name.clone() };
    let (bytes, mac) = sealed(secret).ok_or_else(tampered)?;
    let root_key = ring
        .verify_record_mac(&name, bytes, mac)
        .map_err(|_| missing_root_key(bytes, ring).unwrap_or_else(tampered))?;
    let key = understood(secret, bytes)?;
    let first = Uuid::from(ring.primary_id());
    let is_under_first_root_key = Uuid::from(root_key) == first && root_keys(&key.record).all(|id| id == first);
    Ok(Decoded { key, is_under_first_root_key })
}

/// The record in a Secret, whose MAC nobody checked: good for looking at, and for nothing else.
///
/// # Errors
/// `Unreadable` when it can't be understood.
pub fn decode_unverified(secret: &Secret) -> Result<StoredKey, StoreError> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(RECORD)).map(|bytes| bytes.0.as_slice());
    understood(secret, bytes.unwrap_or_default())
}

/// A record from its bytes, if it is the one that belongs into this Secret.
fn understood(secret: &Secret, bytes: &[u8]) -> Result<StoredKey, StoreError> {
    let name = secret.name_any();
    let unreadable = |problem: String| StoreError::Unreadable { secret: name.clone(), problem };
    let record = KeyRecord::decode(bytes).map_err(|e| unreadable(e.to_string()))?;
    if name_of(&record) != name {
        return Err(unreadable("it is the record of another key".into()));
    }
    Ok(StoredKey { record: Arc::new(record), revision: revision(secret) })
}

/// The record's bytes and their MAC, as stored.
fn sealed(secret: &Secret) -> Option<(&[u8], &[u8])> {
    let data = secret.data.as_ref()?;
    Some((&data.get(RECORD)?.0, &data.get(MAC)?.0))
}

/// The root key that the MAC of a record is by, if it is at hand and the MAC matches.
pub fn authenticated_by(secret: &Secret, ring: &RootKeyRing) -> Option<Uuid> {
    let (bytes, mac) = sealed(secret)?;
    ring.verify_record_mac(&secret.name_any(), bytes, mac).ok().map(Uuid::from)
}

/// The root keys that a record's wrapped contents are under.
pub fn root_keys(record: &KeyRecord) -> impl Iterator<Item = Uuid> {
    let checks = record.imported.iter().map(|imported| imported.check.root_key_id);
    record.versions.iter().map(|version| version.root_key_id).chain(checks)
}

/// Why a MAC may fail though nobody changed the record: it was made under a root key that is not at hand. The
/// record's own word for it is good enough for an error message, and for nothing else.
fn missing_root_key(unverified: &[u8], ring: &RootKeyRing) -> Option<StoreError> {
    let record = KeyRecord::decode(unverified).ok()?;
    let root_key_id = root_keys(&record).find(|id| !ring.contains((*id).into()))?;
    Some(StoreError::RootKeyMissing { root_key_id })
}

/// The object that a record says it belongs to, without any proof.
pub fn said_owner(secret: &Secret) -> Option<(String, String)> {
    let (namespace, name) = secret.annotations().get(OWNER)?.split_once('/')?;
    Some((namespace.to_owned(), name.to_owned()))
}

/// The key store that a record says it is in, without any proof.
pub fn said_store(secret: &Secret) -> Option<String> {
    #[derive(Deserialize)]
    struct Probe {
        store: String,
    }
    let bytes = &secret.data.as_ref()?.get(RECORD)?.0;
    serde_json::from_slice::<Probe>(bytes).ok().map(|probe| probe.store)
}

/// Which state of a Secret this is.
pub fn revision(secret: &Secret) -> Revision {
    Revision { uid: secret.uid().unwrap_or_default(), version: secret.resource_version().unwrap_or_default() }
}
