//! Moving to another root key, over Secrets in memory.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use uuid::Uuid;

use super::{
    EmbeddedStore, RootKeyUse, Stale,
    testing::{Bench, Memory, NAMESPACE, STORE, field, new_key, root, slot},
};
use crate::{
    api::metadata,
    cluster::Secrets,
    crypto::{RootKeyRing, SystemRandom, random_uuid},
    kms::{EncryptionContext, KeyStep, Origin, key_record::MaterialSource},
    store::{AliasClaim, AliasSlot, Freshness, KeyStore, MaterialImport, NewKey, StoreError, StoredKey},
};

const OLD: u8 = 1;
const NEW: u8 = 2;

fn ring(first: u8, others: &[u8]) -> RootKeyRing {
    RootKeyRing::new(root(first), others.iter().map(|byte| root(*byte)))
}

fn fresh() -> Uuid {
    random_uuid(&SystemRandom).unwrap()
}

fn alias(name: &str) -> AliasSlot {
    AliasSlot { store: STORE.into(), namespace: "shop".into(), alias: format!("alias/{name}") }
}

async fn import(store: &EmbeddedStore<Memory>, key: &StoredKey) -> Result<StoredKey, StoreError> {
    let source = MaterialSource { secret: "s".into(), key: "k".into() };
    let import = MaterialImport { source, expire_time: None, wrapping: None, fresh: [fresh(), fresh()], enabled: true };
    store.import(key, &import, &[7; 32]).await
}

/// One key of every sort, and two claims.
async fn populated() -> Bench {
    let bench = Bench::new();
    let store = &bench.store;
    let orders = bench.create("orders").await;
    let rotate = |version_id| KeyStep::Rotate { version_id, request: None };
    store.update(&orders, &[rotate(fresh()), rotate(fresh())]).await.unwrap();
    for name in ["imported", "removed"] {
        let external = store.create(&NewKey { origin: Origin::External, ..new_key(name, 0) }).await.unwrap();
        let imported = import(store, &external).await.unwrap();
        if name == "removed" {
            store.update(&imported, &[KeyStep::DeleteMaterial]).await.unwrap();
        }
    }
    store.create(&NewKey { origin: Origin::External, ..new_key("pending-import", 0) }).await.unwrap();
    for name in ["pending", "erased"] {
        let key = bench.create(name).await;
        store.update(&key, &[KeyStep::ScheduleDeletion { days: 7 }]).await.unwrap();
    }
    *bench.clock.0.lock().unwrap() = 7 * 86_400;
    let due = current(store, "erased").await;
    store.update(&due, &[KeyStep::Erase]).await.unwrap();
    for name in ["orders", "sales"] {
        store.claim_alias(&alias(name), orders.record.key_id).await.unwrap();
    }
    bench
}

async fn current(store: &EmbeddedStore<Memory>, name: &str) -> StoredKey {
    store.find(&slot(name), Freshness::Live).await.unwrap().current.unwrap()
}

/// What the watch shows an operator that begins.
async fn list(memory: &Memory, store: &EmbeddedStore<Memory>) {
    for secret in memory.list_secrets(NAMESPACE, metadata::KEY_RECORD_TYPE).await.unwrap() {
        store.note(&secret);
    }
    for secret in memory.list_secrets(NAMESPACE, metadata::ALIAS_TYPE).await.unwrap() {
        store.note_alias(&secret);
    }
}

async fn opened(bench: &Bench, first: u8, others: &[u8]) -> EmbeddedStore<Memory> {
    let store = bench.another(ring(first, others));
    list(&bench.memory, &store).await;
    store
}

async fn all(memory: &Memory) -> Vec<Secret> {
    let mut all = memory.list_secrets(NAMESPACE, metadata::KEY_RECORD_TYPE).await.unwrap();
    all.extend(memory.list_secrets(NAMESPACE, metadata::ALIAS_TYPE).await.unwrap());
    all
}

/// Everything verifies with these root keys at hand.
async fn verifies(bench: &Bench, first: u8, others: &[u8]) -> bool {
    let store = bench.another(ring(first, others));
    all(&bench.memory).await.iter().all(|secret| match secret.type_.as_deref() {
        Some(metadata::ALIAS_TYPE) => store.verify_alias(secret).is_ok(),
        _ => store.verify(secret).is_ok(),
    })
}

#[tokio::test]
async fn a_new_first_root_key_takes_everything_over_and_changes_nothing_else() {
    let bench = populated().await;
    let generated =
        bench.store.generate_data_key(&current(&bench.store, "orders").await, &context(), 32).await.unwrap();
    let before = (bench.store.keys(), bench.memory.len());
    let store = opened(&bench, NEW, &[OLD]).await;
    assert_eq!(store.root_key_use(), RootKeyUse { records: 6, aliases: 2, access_keys: 0, stale: 8, unknown: 0 });
    for stale in store.stale() {
        store.rewrap(&stale).await.unwrap();
    }
    assert_eq!(store.root_key_use(), RootKeyUse { records: 6, aliases: 2, access_keys: 0, stale: 0, unknown: 0 });
    assert!(verifies(&bench, NEW, &[]).await && !verifies(&bench, OLD, &[]).await);

    let alone = opened(&bench, NEW, &[]).await;
    assert_eq!(bench.memory.len(), before.1, "no Secret more, none less");
    for key in before.0 {
        let now = alone.find_by_id(STORE, key.record.key_id, Freshness::Watched).await.unwrap().unwrap();
        assert_eq!(without_root_keys(&now), without_root_keys(&key), "nor its revision");
        assert_eq!(now.revision.uid, key.revision.uid, "it is the same Secret");
    }
    let orders = current(&alone, "orders").await;
    assert_eq!(orders.record.versions.len(), 3);
    assert_eq!(alone.decrypt(&orders, &context(), &generated.ciphertext_blob).await.unwrap().len(), 32);
    assert_eq!(alone.aliases_of(orders.record.key_id).len(), 2);
    // The check key too: the same material is known again, other material is refused.
    let removed = current(&alone, "removed").await;
    assert!(import(&alone, &removed).await.is_ok());
    assert!(current(&alone, "erased").await.record.is_tombstone());
}

fn context() -> EncryptionContext {
    EncryptionContext::new().with_entry("app", "a").unwrap()
}

fn without_root_keys(key: &StoredKey) -> crate::kms::KeyRecord {
    let mut record = crate::kms::KeyRecord::clone(&key.record);
    for version in &mut record.versions {
        (version.root_key_id, version.wrapped) = (Uuid::nil(), Vec::new());
    }
    if let Some(imported) = &mut record.imported {
        (imported.check.root_key_id, imported.check.wrapped_key) = (Uuid::nil(), Vec::new());
    }
    record
}

/// Interrupted after any number of writes: nothing is lost, and whoever comes next goes on, in either direction.
#[tokio::test]
async fn interrupted_at_any_point_it_goes_on_or_back() {
    for interrupted_after in 0..=8 {
        let bench = populated().await;
        let store = opened(&bench, NEW, &[OLD]).await;
        for stale in store.stale().iter().take(interrupted_after) {
            store.rewrap(stale).await.unwrap();
        }
        assert!(verifies(&bench, NEW, &[OLD]).await && verifies(&bench, OLD, &[NEW]).await, "{interrupted_after}");

        let (first, other) = if interrupted_after % 2 == 0 { (NEW, OLD) } else { (OLD, NEW) };
        let next = opened(&bench, first, &[other]).await;
        let left = next.stale();
        assert_eq!(left.len(), if first == NEW { 8 - interrupted_after } else { interrupted_after });
        for stale in left {
            next.rewrap(&stale).await.unwrap();
        }
        assert!(next.stale().is_empty() && verifies(&bench, first, &[]).await, "{interrupted_after}");
    }
}

/// What the reconciler writes meanwhile is under the first root key with its MAC, and still holds what is not.
#[tokio::test]
async fn a_record_that_was_changed_meanwhile_is_a_conflict_and_stays_to_be_done() {
    let bench = populated().await;
    let store = opened(&bench, NEW, &[OLD]).await;
    let stale = store.stale();
    let key = current(&store, "orders").await;
    let changed = store.update(&key, &[KeyStep::SetDescription("changed".into())]).await.unwrap();
    let of_orders = |stale: &&Stale| matches!(stale, Stale::Key(k) if k.record.key_id == key.record.key_id);
    let outdated = stale.iter().find(of_orders).unwrap();
    assert!(matches!(store.rewrap(outdated).await, Err(StoreError::Conflict)));
    let both: BTreeSet<_> = [OLD, NEW].map(|byte| root(byte).id().into()).into();
    let secret = bench.memory.get_secret(NAMESPACE, &outdated.secret_name()).await.unwrap().unwrap();
    assert_eq!(store.verify(&secret).unwrap().root_keys, both);

    let again = store.stale();
    let again = again.iter().find(of_orders).unwrap();
    assert_eq!(again.revision(), &changed.revision);
    store.rewrap(again).await.unwrap();
    let now = current(&store, "orders").await.record;
    assert_eq!((now.description.as_str(), now.revision), ("changed", changed.record.revision));
    let secret = bench.memory.get_secret(NAMESPACE, &outdated.secret_name()).await.unwrap().unwrap();
    assert_eq!(store.verify(&secret).unwrap().root_keys, [root(NEW).id().into()].into());
}

#[tokio::test]
async fn a_claim_that_was_released_or_moved_meanwhile_is_not_brought_back() {
    let bench = populated().await;
    let store = opened(&bench, NEW, &[OLD]).await;
    let claim_of = |store: &EmbeddedStore<Memory>, name: &str| -> Stale {
        let wanted = |stale: &Stale| matches!(stale, Stale::Alias(AliasClaim { slot, .. }) if *slot == alias(name));
        store.stale().into_iter().find(wanted).unwrap()
    };
    let (orders, sales) = (claim_of(&store, "orders"), claim_of(&store, "sales"));
    for name in ["orders", "sales"] {
        let claim = bench.store.alias(&alias(name), Freshness::Live).await.unwrap().unwrap();
        bench.store.release_alias(&claim).await.unwrap();
    }
    let other = fresh();
    bench.store.claim_alias(&alias("sales"), other).await.unwrap();

    assert!(matches!(store.rewrap(&orders).await, Err(StoreError::Conflict)));
    assert_eq!(store.alias(&alias("orders"), Freshness::Watched).await.unwrap(), None);
    assert!(matches!(store.rewrap(&sales).await, Err(StoreError::Conflict)));
    store.rewrap(&claim_of(&store, "sales")).await.unwrap();
    assert_eq!(store.alias(&alias("sales"), Freshness::Live).await.unwrap().unwrap().key_id, other);
}

#[tokio::test]
async fn what_does_not_unwrap_is_left_as_it_is() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    let name = bench.memory.only().name_any();
    // Changed under another root key, and its versions still under one that is not at hand any more.
    let both = opened(&bench, NEW, &[OLD]).await;
    both.update(&key, &[KeyStep::Disable]).await.unwrap();
    let store = opened(&bench, NEW, &[]).await;
    let before = bench.memory.only();
    let stale = store.stale();
    let missing = Uuid::from(root(OLD).id());
    let result = store.rewrap(&stale[0]).await;
    assert!(matches!(result, Err(StoreError::RootKeyMissing { root_key_id }) if root_key_id == missing));
    assert_eq!(bench.memory.only(), before);
    assert_eq!(store.root_key_use(), RootKeyUse { records: 1, aliases: 0, access_keys: 0, stale: 1, unknown: 0 });

    // Damaged: with a MAC, so that only unwrapping can tell.
    let text = String::from_utf8(field(&before, "record")).unwrap();
    let at = text.find("\"wrapped\":\"").unwrap() + "\"wrapped\":\"".len() + 20;
    let mut bytes = text.into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    let mac = both.ring.record_mac(&name, &bytes).to_vec();
    let bad = bench.memory.tamper(&name, |data| {
        data.insert("record".into(), ByteString(bytes));
        data.insert("mac".into(), ByteString(mac));
    });
    both.note(&bad);
    assert!(matches!(both.rewrap(&both.stale()[0]).await, Err(StoreError::Damaged)));
    assert_eq!(bench.memory.only(), bad);
    assert!(matches!(both.verify(&bad), Err(StoreError::Damaged)));
}

/// A record of an unknown sort might need any root key; one that is tampered with is helped by none.
#[tokio::test]
async fn records_that_can_not_be_read_may_need_another_root_key() {
    let bench = Bench::new();
    bench.create("orders").await;
    let stranger = opened(&bench, NEW, &[]).await;
    assert_eq!(stranger.root_key_use(), RootKeyUse { records: 0, aliases: 0, access_keys: 0, stale: 0, unknown: 1 });
    let bad = bench.memory.tamper(&bench.memory.only().name_any(), |data| data.clear());
    bench.store.note(&bad);
    assert_eq!(bench.store.root_key_use(), RootKeyUse { records: 0, aliases: 0, access_keys: 0, stale: 0, unknown: 0 });
}

/// A backup from before comes in while the operator runs.
#[tokio::test]
async fn what_the_watch_shows_under_an_old_root_key_is_told_at_once() {
    let bench = populated().await;
    let store = Arc::new(opened(&bench, NEW, &[OLD]).await);
    store.stale_shown().await;
    for stale in store.stale() {
        store.rewrap(&stale).await.unwrap();
    }
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.stale_shown().await }
    });
    let claim = bench.store.claim_alias(&alias("restored"), fresh()).await.unwrap();
    list(&bench.memory, &store).await;
    waiting.await.unwrap();
    let stale = store.stale();
    assert!(matches!(&stale[..], [Stale::Alias(found)] if *found == claim), "{stale:?}");
}
