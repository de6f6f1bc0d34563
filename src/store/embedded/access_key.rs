//! Access keys: the record of each in a Secret whose name follows from its `AccessKey`, with the secrets in it sealed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::ObjectMeta};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{EmbeddedStore, crypto, name::access_key_name, not_unwrapped, record_secret::revision, unavailable};
use crate::{
    access_keys::{
        AccessKeyOwner, AccessKeyRecord, AccessKeySecret, NewAccessKey, OpenedAccessKeys, SealedAccessKey, generate,
    },
    api::metadata,
    cluster::{ApiError, Secrets},
    crypto::{AccessKeyContext, RootKeyRing, Wrapped},
    kms::key_record::to_seconds,
    store::{AccessKeyStore, Revision, StoreError, StoredAccessKey},
};

const RECORD: &str = "record";
const MAC: &str = "mac";

/// The Secret for a record: without `revision` one to be created, with it one to replace exactly that.
fn encode(
    record: &AccessKeyRecord,
    namespace: &str,
    revision: Option<&Revision>,
    ring: &RootKeyRing,
) -> Result<Secret, StoreError> {
    let name = access_key_name(&record.owner);
    let bytes = record.encode().map_err(crypto)?;
    let mac = ring.record_mac(&name, &bytes);
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            uid: revision.map(|r| r.uid.clone()),
            resource_version: revision.map(|r| r.version.clone()),
            labels: Some(BTreeMap::from([
                (metadata::MANAGED_BY_LABEL.into(), metadata::MANAGER.into()),
                (metadata::COMPONENT_LABEL.into(), metadata::COMPONENT_ACCESS_KEY_RECORD.into()),
            ])),
            // For a person who looks at the Secrets.
            annotations: Some(BTreeMap::from([(metadata::ACCESS_KEY.into(), identity(&record.owner))])),
            ..ObjectMeta::default()
        },
        type_: Some(metadata::ACCESS_KEY_TYPE.into()),
        data: Some(BTreeMap::from([(RECORD.into(), ByteString(bytes)), (MAC.into(), ByteString(mac.to_vec()))])),
        ..Secret::default()
    })
}

fn identity(owner: &AccessKeyOwner) -> String {
    format!("{}/{}", owner.namespace, owner.name)
}

/// A record that was read, and the root key that authenticates it.
struct Decoded {
    stored: StoredAccessKey,
    authenticated_by: Uuid,
}

impl Decoded {
    /// Every root key that it takes to read the record and to open its secrets.
    fn root_keys(&self) -> impl Iterator<Item = Uuid> {
        self.stored.record.keys().map(|key| key.root_key_id).chain([self.authenticated_by])
    }
}

/// The record in a Secret, with its integrity checked before anything in it is used.
///
/// # Errors
/// `Tampered`, `RootKeyMissing`, `Unreadable`
fn decode(secret: &Secret, ring: &RootKeyRing) -> Result<Decoded, StoreError> {
    let name = secret.name_any();
    let tampered = || StoreError::Tampered { secret: name.clone() };
    let unreadable = |problem: String| StoreError::Unreadable { secret: name.clone(), problem };
    let field = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let (Some(bytes), Some(mac)) = (field(RECORD), field(MAC)) else { return Err(tampered()) };
    let authenticated_by = ring
        .verify_record_mac(&name, bytes, mac)
        .map_err(|_| missing_root_key(bytes, ring).unwrap_or_else(tampered))?;
    let record = AccessKeyRecord::decode(bytes).map_err(|e| unreadable(e.to_string()))?;
    if access_key_name(&record.owner) != name {
        return Err(unreadable("it is the record of another access key".into()));
    }
    let stored = StoredAccessKey { record: Arc::new(record), revision: revision(secret) };
    Ok(Decoded { stored, authenticated_by: authenticated_by.into() })
}

/// Why a MAC may fail though nobody changed the record. The record's own word for it is good enough for an error message.
fn missing_root_key(unverified: &[u8], ring: &RootKeyRing) -> Option<StoreError> {
    let record = AccessKeyRecord::decode(unverified).ok()?;
    let root_key_id = record.keys().map(|key| key.root_key_id).find(|id| !ring.contains((*id).into()))?;
    Some(StoreError::RootKeyMissing { root_key_id })
}

/// A record that was seen, and the namespace and name of the `AccessKey` that it says it is for, without any proof: good
/// enough to look at that one again, and used for nothing else.
#[derive(Debug)]
struct Shown {
    said_owner: Option<(String, String)>,
    seen: Seen,
}

/// The namespace and name in the annotation of a record.
pub fn said_owner(secret: &Secret) -> Option<(String, String)> {
    let (namespace, name) = secret.annotations().get(metadata::ACCESS_KEY)?.split_once('/')?;
    Some((namespace.to_owned(), name.to_owned()))
}

/// What a Secret holds.
#[derive(Debug)]
enum Seen {
    Readable {
        stored: StoredAccessKey,
        /// Its MAC and the secrets in it are under the first root key.
        is_under_first_root_key: bool,
    },
    /// It can't be read, but may be by a newer version, or with a root key that is not at hand.
    Sealed,
    Tampered,
}

/// The records that the watch has shown, by the name of their Secret.
#[derive(Debug, Default)]
pub struct AccessKeyRecords {
    seen: Mutex<HashMap<String, Shown>>,
}

impl AccessKeyRecords {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Shown>> {
        // A panic elsewhere leaves the map whole: every change to it is one insert or remove.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readable(&self, wanted: impl Fn(bool) -> bool) -> Vec<StoredAccessKey> {
        let of = |shown: &Shown| match &shown.seen {
            Seen::Readable { stored, is_under_first_root_key } if wanted(*is_under_first_root_key) => {
                Some(stored.clone())
            }
            _ => None,
        };
        self.lock().values().filter_map(of).collect()
    }

    /// Those that another root key than the first protects, wholly or in part.
    pub fn under_other_root_keys(&self) -> Vec<StoredAccessKey> {
        self.readable(|is_under_first| !is_under_first)
    }

    /// How many can be read.
    pub fn count(&self) -> usize {
        self.readable(|_| true).len()
    }

    /// How many there are of which nobody knows whether they need another root key than the first.
    pub fn sealed_unknown(&self) -> usize {
        self.lock().values().filter(|shown| matches!(shown.seen, Seen::Sealed)).count()
    }
}

impl<S: Secrets> EmbeddedStore<S> {
    /// Takes note of the record of an access key that the watch shows, and opens it.
    ///
    /// # Errors
    /// What is wrong with it: its access keys are not valid.
    pub fn note_access_key(&self, secret: &Secret) -> Result<OpenedAccessKeys, StoreError> {
        let decoded = decode(secret, &self.ring);
        let seen = match &decoded {
            Ok(decoded) => {
                let first = Uuid::from(self.ring.primary_id());
                let is_under_first_root_key = decoded.root_keys().all(|id| id == first);
                Seen::Readable { stored: decoded.stored.clone(), is_under_first_root_key }
            }
            Err(StoreError::Tampered { .. }) => Seen::Tampered,
            Err(_) => Seen::Sealed,
        };
        if matches!(seen, Seen::Readable { is_under_first_root_key: false, .. }) {
            self.stale_shown.notify_one();
        }
        self.access_keys.lock().insert(secret.name_any(), Shown { said_owner: said_owner(secret), seen });
        self.open_all(decoded?.stored)
    }

    /// Takes note that the watch shows a record deleted. Answers the namespace and name of the `AccessKey` to look at again.
    pub fn note_access_key_deleted(&self, name: &str) -> Option<(String, String)> {
        self.access_keys.lock().remove(name)?.said_owner
    }

    /// Takes note that the watch, begun anew, shows exactly these records. Answers which `AccessKey`s to look at again.
    pub fn note_all_access_keys(&self, names: &HashSet<String>) -> Vec<(String, String)> {
        let missing: Vec<_> = self.access_keys.lock().keys().filter(|name| !names.contains(*name)).cloned().collect();
        missing.iter().filter_map(|name| self.note_access_key_deleted(name)).collect()
    }

    /// Checks the record of an access key: its MAC, its form, and that the secrets in it open. Answers the root keys that
    /// this takes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify_access_key(&self, secret: &Secret) -> Result<std::collections::BTreeSet<Uuid>, StoreError> {
        let decoded = decode(secret, &self.ring)?;
        let root_keys = decoded.root_keys().collect();
        self.open_all(decoded.stored)?;
        Ok(root_keys)
    }

    fn open_all(&self, stored: StoredAccessKey) -> Result<OpenedAccessKeys, StoreError> {
        let StoredAccessKey { record, revision } = stored;
        let current = self.open_access_key(&record, &record.current)?;
        let previous = record.previous.as_ref().map(|former| self.open_access_key(&record, &former.key));
        let previous = previous.transpose()?;
        Ok(OpenedAccessKeys { version: revision.version, current, previous, record })
    }

    /// Puts a record under the first root key.
    pub(super) async fn seal_access_keys_again(&self, stored: &StoredAccessKey) -> Result<(), StoreError> {
        let mut record = (*stored.record).clone();
        for key in record.keys_mut() {
            let secret = self.open_access_key(&stored.record, key)?;
            let Wrapped { root_key_id, bytes } = self.seal_secret(&stored.record.owner, &key.access_key_id, &secret)?;
            (key.root_key_id, key.sealed) = (root_key_id.into(), bytes);
        }
        self.replace_access_key(stored, &record).await.map(drop)
    }

    fn seal_secret(&self, owner: &AccessKeyOwner, id: &str, secret: &AccessKeySecret) -> Result<Wrapped, StoreError> {
        let record_name = access_key_name(owner);
        let context = AccessKeyContext { record_name: &record_name, access_key_id: id };
        self.ring.seal_access_key_secret(&*self.random, &context, secret.expose().as_bytes()).map_err(crypto)
    }

    async fn look_again_at_access_key(&self, name: &str) -> StoreError {
        match self.secrets.get_secret(&self.namespace, name).await {
            // What is wrong with it is found by the next look.
            Ok(Some(secret)) => drop(self.note_access_key(&secret)),
            Ok(None) => drop(self.note_access_key_deleted(name)),
            Err(error) => return unavailable(error),
        }
        StoreError::Conflict
    }
}

impl<S: Secrets> AccessKeyStore for EmbeddedStore<S> {
    fn new_access_key(&self, owner: &AccessKeyOwner) -> Result<SealedAccessKey, StoreError> {
        let NewAccessKey { id, secret } = generate(&*self.random).map_err(crypto)?;
        let Wrapped { root_key_id, bytes } = self.seal_secret(owner, &id, &secret)?;
        let created_at = to_seconds(self.clock.now());
        Ok(SealedAccessKey { access_key_id: id, created_at, root_key_id: root_key_id.into(), sealed: bytes })
    }

    async fn access_key(&self, owner: &AccessKeyOwner) -> Result<Option<StoredAccessKey>, StoreError> {
        let found = self.secrets.get_secret(&self.namespace, &access_key_name(owner)).await.map_err(unavailable)?;
        Ok(found.map(|secret| decode(&secret, &self.ring)).transpose()?.map(|decoded| decoded.stored))
    }

    async fn create_access_key(&self, record: &AccessKeyRecord) -> Result<StoredAccessKey, StoreError> {
        let secret = encode(record, &self.namespace, None, &self.ring)?;
        match self.secrets.create_secret(&secret).await {
            Ok(created) => Ok(decode(&created, &self.ring)?.stored),
            Err(ApiError::AlreadyExists) => Err(StoreError::Conflict),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn replace_access_key(
        &self,
        stored: &StoredAccessKey,
        record: &AccessKeyRecord,
    ) -> Result<StoredAccessKey, StoreError> {
        let secret = encode(record, &self.namespace, Some(&stored.revision), &self.ring)?;
        match self.secrets.replace_secret(&secret).await {
            Ok(written) => Ok(decode(&written, &self.ring)?.stored),
            Err(ApiError::Conflict(_) | ApiError::NotFound) => {
                Err(self.look_again_at_access_key(&secret.name_any()).await)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn delete_access_key(&self, stored: &StoredAccessKey) -> Result<(), StoreError> {
        let secret = encode(&stored.record, &self.namespace, Some(&stored.revision), &self.ring)?;
        match self.secrets.delete_secret(&secret).await {
            Ok(()) | Err(ApiError::NotFound) => {
                self.note_access_key_deleted(&secret.name_any());
                Ok(())
            }
            Err(ApiError::Conflict(_)) => Err(self.look_again_at_access_key(&secret.name_any()).await),
            Err(error) => Err(unavailable(error)),
        }
    }

    fn open_access_key(&self, record: &AccessKeyRecord, key: &SealedAccessKey) -> Result<AccessKeySecret, StoreError> {
        let record_name = access_key_name(&record.owner);
        let context = AccessKeyContext { record_name: &record_name, access_key_id: &key.access_key_id };
        let opened = self.ring.open_access_key_secret(&context, key.root_key_id.into(), &key.sealed);
        let opened = opened.map_err(not_unwrapped)?;
        let text = std::str::from_utf8(opened.expose()).map_err(|_| StoreError::Damaged)?;
        Ok(AccessKeySecret::new(Zeroizing::new(text.to_owned())))
    }

    fn access_keys(&self) -> Vec<StoredAccessKey> {
        self.access_keys.readable(|_| true)
    }
}
