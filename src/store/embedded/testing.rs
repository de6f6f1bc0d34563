//! Secrets in memory, with the preconditions of a real API server, and a store over them: for tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;

use super::EmbeddedStore;
use crate::{
    clock::Clock,
    cluster::{ApiError, Secrets},
    crypto::{RootKey, RootKeyRing, SystemRandom},
    kms::{DesiredKey, KeyUsage, Origin, Owner},
    store::{Freshness, KeySlot, KeyStore, NewKey, StoreError, StoredKey},
};

pub const NAMESPACE: &str = "cmk-system";
pub const STORE: &str = "ClusterKeyStore/default";

/// All Secrets, and the last version given.
pub type Shelf = (BTreeMap<(String, String), Secret>, u64);

/// Secrets, by namespace and name, each with a UID and a version that grows with every write.
#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<Shelf>>);

fn place(secret: &Secret) -> (String, String) {
    (secret.namespace().unwrap(), secret.name_any())
}

impl Memory {
    fn stamp(next: &mut u64, secret: &mut Secret, uid: Option<String>) {
        *next += 1;
        secret.metadata.resource_version = Some(next.to_string());
        secret.metadata.uid = Some(uid.unwrap_or_else(|| format!("uid-{next}")));
    }

    /// What the API server checks before it changes or deletes what is there.
    fn expect(found: Option<&Secret>, wanted: &Secret) -> Result<(), ApiError> {
        let found = found.ok_or(ApiError::NotFound)?;
        let meta = |secret: &Secret| (secret.uid(), secret.resource_version());
        match meta(wanted) {
            (Some(_), Some(_)) if meta(wanted) == meta(found) => Ok(()),
            _ => Err(ApiError::Conflict("another version".into())),
        }
    }

    /// Changes a Secret behind the store's back.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut BTreeMap<String, ByteString>)) -> Secret {
        let (all, next) = &mut *self.0.lock().unwrap();
        let secret = all.get_mut(&(NAMESPACE.to_owned(), name.to_owned())).unwrap();
        change(secret.data.get_or_insert_default());
        let uid = secret.uid();
        Self::stamp(next, secret, uid);
        secret.clone()
    }

    pub fn only(&self) -> Secret {
        let (all, _) = &*self.0.lock().unwrap();
        assert_eq!(all.len(), 1);
        all.values().next().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().0.len()
    }
}

impl Secrets for Memory {
    async fn get_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        Ok(self.0.lock().unwrap().0.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    async fn list_secrets(&self, namespace: &str, type_: &str) -> Result<Vec<Secret>, ApiError> {
        let (all, _) = &*self.0.lock().unwrap();
        let wanted = |s: &&Secret| s.namespace().as_deref() == Some(namespace) && s.type_.as_deref() == Some(type_);
        Ok(all.values().filter(wanted).cloned().collect())
    }

    async fn create_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        let (all, next) = &mut *self.0.lock().unwrap();
        if all.contains_key(&place(secret)) {
            return Err(ApiError::AlreadyExists);
        }
        let mut created = secret.clone();
        Self::stamp(next, &mut created, None);
        all.insert(place(secret), created.clone());
        Ok(created)
    }

    async fn replace_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        let (all, next) = &mut *self.0.lock().unwrap();
        Self::expect(all.get(&place(secret)), secret)?;
        let mut replaced = secret.clone();
        Self::stamp(next, &mut replaced, secret.uid());
        all.insert(place(secret), replaced.clone());
        Ok(replaced)
    }

    async fn delete_secret(&self, secret: &Secret) -> Result<(), ApiError> {
        let (all, _) = &mut *self.0.lock().unwrap();
        Self::expect(all.get(&place(secret)), secret)?;
        all.remove(&place(secret));
        Ok(())
    }
}

/// A clock that a test sets: the time, and the uptime, in seconds.
#[derive(Default)]
pub struct Settable(pub Mutex<i64>, pub Mutex<u64>);

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(*self.0.lock().unwrap()).unwrap()
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(*self.1.lock().unwrap())
    }
}

pub struct Bench {
    pub memory: Memory,
    pub clock: Arc<Settable>,
    pub store: EmbeddedStore<Memory>,
}

pub fn root(byte: u8) -> RootKey {
    RootKey::from_bytes(&[byte; 32]).unwrap()
}

impl Bench {
    pub fn new() -> Self {
        let (memory, clock) = (Memory::default(), Arc::new(Settable::default()));
        let store = Self::store_on(&memory, &clock, RootKeyRing::new(root(1), []));
        Self { memory, clock, store }
    }

    fn store_on(memory: &Memory, clock: &Arc<Settable>, ring: RootKeyRing) -> EmbeddedStore<Memory> {
        EmbeddedStore::new(NAMESPACE, memory.clone(), Arc::new(ring), clock.clone(), Arc::new(SystemRandom))
    }

    /// A second store on the same Secrets, which has seen nothing yet.
    pub fn another(&self, ring: RootKeyRing) -> EmbeddedStore<Memory> {
        Self::store_on(&self.memory, &self.clock, ring)
    }

    pub async fn create(&self, name: &str) -> StoredKey {
        self.store.create(&new_key(name, 0)).await.unwrap()
    }

    pub async fn live(&self, name: &str) -> Result<crate::store::SlotView, StoreError> {
        self.store.find(&slot(name), Freshness::Live).await
    }
}

pub fn slot(name: &str) -> KeySlot {
    KeySlot { store: STORE.into(), namespace: "shop".into(), name: name.into() }
}

pub fn new_key(name: &str, generation: u32) -> NewKey {
    NewKey {
        key_id: crate::crypto::random_uuid(&SystemRandom).unwrap(),
        version_id: crate::crypto::random_uuid(&SystemRandom).unwrap(),
        store: STORE.into(),
        region: "cn-hangzhou".into(),
        account_id: "123456".into(),
        generation,
        owner: Owner {
            namespace: "shop".into(),
            namespace_uid: "ns".into(),
            name: name.into(),
            uid: "uid".into(),
            resource_version: "7".into(),
            released: false,
        },
        origin: Origin::AliyunKms,
        key_usage: KeyUsage::EncryptDecrypt,
        desired: DesiredKey {
            description: "d".into(),
            tags: BTreeMap::new(),
            enabled: true,
            deletion_protection: false,
            rotation_interval_days: None,
            rotation_request: None,
            schedule_deletion: false,
            pending_deletion_days: 7,
        },
    }
}

pub fn field(secret: &Secret, key: &str) -> Vec<u8> {
    secret.data.as_ref().unwrap()[key].0.clone()
}
