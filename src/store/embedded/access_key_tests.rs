//! The records of access keys, over Secrets in memory.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    EmbeddedStore, Stale,
    testing::{Bench, Memory, NAMESPACE, field, root},
};
use crate::{
    access_keys::{AccessKeyOwner, AccessKeyRecord, ServiceAccountIdentity},
    api::metadata,
    cluster::Secrets,
    crypto::RootKeyRing,
    store::{AccessKeyStore, StoreError, StoredAccessKey},
};

fn owner(uid: &str) -> AccessKeyOwner {
    AccessKeyOwner { namespace: "shop".into(), name: "orders".into(), uid: uid.into() }
}

fn account() -> ServiceAccountIdentity {
    ServiceAccountIdentity { name: "orders-api".into(), uid: "sa".into() }
}

fn record(store: &EmbeddedStore<Memory>, uid: &str) -> AccessKeyRecord {
    AccessKeyRecord::new(owner(uid), account(), store.new_access_key(&owner(uid)).unwrap(), None)
}

async fn stored(bench: &Bench, uid: &str) -> StoredAccessKey {
    bench.store.create_access_key(&record(&bench.store, uid)).await.unwrap()
}

fn secret_of(store: &EmbeddedStore<Memory>, stored: &StoredAccessKey) -> String {
    store.open_access_key(&stored.record, &stored.record.current).unwrap().expose().to_owned()
}

#[tokio::test]
async fn a_record_is_made_once_and_holds_no_secret_in_the_clear() {
    let bench = Bench::new();
    let first = stored(&bench, "a").await;
    assert!(matches!(bench.store.create_access_key(&record(&bench.store, "a")).await, Err(StoreError::Conflict)));
    assert_eq!(bench.store.access_key(&owner("a")).await.unwrap().unwrap(), first);
    assert_eq!(bench.store.access_key(&owner("b")).await.unwrap(), None, "made anew, it has no record");

    let secret = bench.memory.only();
    assert_eq!(secret.type_.as_deref(), Some(metadata::ACCESS_KEY_TYPE));
    let text = String::from_utf8(field(&secret, "record")).unwrap();
    assert!(text.contains(&first.record.current.access_key_id));
    assert!(!text.contains(&secret_of(&bench.store, &first)));
}

/// The names can't change: this is the one of the first version, computed with Python's hashlib.
#[tokio::test]
async fn the_name_of_a_record_is_stable() {
    let bench = Bench::new();
    stored(&bench, "0dcf8c61-0a9f-4951-9c1c-97b5eb18237a").await;
    assert_eq!(
        bench.memory.only().name_any(),
        "cmk-access-key-1870d22a7315bcb05f87904ea7f6af37b1bbd0b00bef9a02354823d2b3d9a589"
    );
}

#[tokio::test]
async fn a_write_on_an_old_revision_is_a_conflict() {
    let bench = Bench::new();
    let first = stored(&bench, "a").await;
    let second = bench.store.replace_access_key(&first, &record(&bench.store, "a")).await.unwrap();
    let again = bench.store.replace_access_key(&first, &first.record).await;
    assert!(matches!(again, Err(StoreError::Conflict)));
    assert!(matches!(bench.store.delete_access_key(&first).await, Err(StoreError::Conflict)));
    bench.store.delete_access_key(&second).await.unwrap();
    assert_eq!(bench.memory.len(), 0);
    bench.store.delete_access_key(&second).await.unwrap();
}

#[tokio::test]
async fn a_changed_record_is_not_used() {
    let bench = Bench::new();
    let first = stored(&bench, "a").await;
    let name = bench.memory.only().name_any();
    let changed = bench.memory.tamper(&name, |data| data.get_mut("record").unwrap().0[20] ^= 1);
    assert!(matches!(bench.store.note_access_key(&changed), Err(StoreError::Tampered { .. })));
    assert!(matches!(bench.store.access_key(&owner("a")).await, Err(StoreError::Tampered { .. })));
    assert_eq!(bench.store.access_keys(), []);

    // Nor one that was moved to another's place, or whose secret was.
    bench.memory.0.lock().unwrap().0.clear();
    let one = stored(&bench, "a").await;
    let mut moved = (*one.record).clone();
    moved.current.access_key_id = first.record.current.access_key_id.clone();
    assert!(matches!(bench.store.open_access_key(&moved, &moved.current), Err(StoreError::Damaged)));
    let mut other = (*one.record).clone();
    other.owner = owner("b");
    assert!(matches!(bench.store.open_access_key(&other, &other.current), Err(StoreError::Damaged)));
    let renamed = Secret {
        metadata: kube::api::ObjectMeta { name: Some("cmk-access-key-x".into()), ..bench.memory.only().metadata },
        ..bench.memory.only()
    };
    assert!(matches!(bench.store.note_access_key(&renamed), Err(StoreError::Tampered { .. })));
}

#[tokio::test]
async fn what_the_watch_shows_is_known_until_it_is_gone() {
    let bench = Bench::new();
    let first = stored(&bench, "a").await;
    let secret = bench.memory.only();
    let opened = bench.store.note_access_key(&secret).unwrap();
    assert_eq!(opened.current.expose(), secret_of(&bench.store, &first));
    assert_eq!(bench.store.access_keys(), [first]);
    assert_eq!(bench.store.note_all_access_keys(&HashSet::from([secret.name_any()])), []);
    assert_eq!(bench.store.note_all_access_keys(&HashSet::new()), [("shop".to_owned(), "orders".to_owned())]);
    assert_eq!(bench.store.access_keys(), []);
}

#[tokio::test]
async fn another_first_root_key_takes_the_access_keys_over() {
    let bench = Bench::new();
    let first = stored(&bench, "a").await;
    let next = bench.store.new_access_key(&owner("a")).unwrap();
    let rotated = first.record.rotated(next, jiff::Timestamp::UNIX_EPOCH, None);
    let rotated = bench.store.replace_access_key(&first, &rotated).await.unwrap();
    let secrets = |store: &EmbeddedStore<Memory>, stored: &StoredAccessKey| {
        let open = |key| store.open_access_key(&stored.record, key).unwrap().expose().to_owned();
        stored.record.keys().map(open).collect::<Vec<_>>()
    };
    let before = secrets(&bench.store, &rotated);

    let store = bench.another(RootKeyRing::new(root(2), [root(1)]));
    store.note_access_key(&bench.memory.only()).unwrap();
    let used = store.root_key_use();
    assert_eq!((used.access_keys, used.stale, used.unknown), (1, 1, 0));
    let stale = store.stale();
    assert!(matches!(&stale[..], [Stale::AccessKey(stored)] if *stored == rotated));
    store.rewrap(&stale[0]).await.unwrap();
    store.note_access_key(&bench.memory.only()).unwrap();
    assert!(store.stale().is_empty());

    let alone = bench.another(RootKeyRing::new(root(2), []));
    let again = alone.access_key(&owner("a")).await.unwrap().unwrap();
    assert_eq!(secrets(&alone, &again), before, "the same access keys");
    assert_eq!(alone.verify_access_key(&bench.memory.only()).unwrap(), [root(2).id().into()].into());
    let old = bench.store.note_access_key(&bench.memory.only());
    assert!(matches!(old, Err(StoreError::RootKeyMissing { .. })));
    assert_eq!(bench.store.root_key_use().unknown, 1);
}

/// Losing the root key while there are access keys is a reason not to make another one.
#[tokio::test]
async fn an_access_key_is_a_sign_that_there_was_a_root_key() {
    use super::root_key::{RootKeyError, from_secret};
    let bench = Bench::new();
    stored(&bench, "a").await;
    assert_eq!(bench.memory.list_secrets(NAMESPACE, metadata::ACCESS_KEY_TYPE).await.unwrap().len(), 1);
    let made = from_secret(&bench.memory, NAMESPACE, false, &crate::crypto::SystemRandom, async || Ok(0)).await;
    assert!(matches!(made, Err(RootKeyError::Missing { evidence, .. }) if evidence.contains("access keys")));
}
