//! Several stores over the same Secrets, and keys that changed hands.

use super::{Bench, STORE, context, new_key, slot};
use crate::{
    kms::{KeyStep, Owner},
    store::{Freshness, KeySlot, KeyStore, NewKey, StoreError},
};

const OTHER: &str = "ClusterKeyStore/other";

fn in_other(name: &str) -> NewKey {
    NewKey { store: OTHER.into(), ..new_key(name, 0) }
}

fn owner(name: &str) -> Owner {
    Owner { namespace: "elsewhere".into(), name: name.into(), ..new_key(name, 0).owner }
}

#[tokio::test]
async fn the_same_name_in_two_stores_is_two_keys() {
    let bench = Bench::new();
    let here = bench.create("orders").await;
    let there = bench.store.create(&in_other("orders")).await.unwrap();
    assert_ne!(here.record.key_id, there.record.key_id);
    let slot_there = KeySlot { store: OTHER.into(), ..slot("orders") };
    for freshness in [Freshness::Watched, Freshness::Live] {
        let find = async |slot| bench.store.find(&slot, freshness).await.unwrap().current.unwrap();
        assert_eq!(find(slot("orders")).await, here);
        assert_eq!(find(slot_there.clone()).await, there);
        let by_id = async |store| bench.store.find_by_id(store, there.record.key_id, freshness).await.unwrap();
        assert_eq!(by_id(OTHER).await, Some(there.clone()));
        assert_eq!(by_id(STORE).await, None, "a key of another store is none of this one");
    }
}

#[tokio::test]
async fn rule_11_an_adopted_key_stays_where_it_is_and_its_former_name_gets_the_next_generation() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    let blob = bench.store.generate_data_key(&key, &context("a"), 32).await.unwrap().ciphertext_blob;
    let adopted = bench.store.update(&key, &[KeyStep::Claim(owner("after"))]).await.unwrap();
    assert_eq!((bench.memory.len(), &adopted.revision.uid), (1, &key.revision.uid), "the same Secret");
    for freshness in [Freshness::Watched, Freshness::Live] {
        let former = bench.store.find(&slot("orders"), freshness).await.unwrap();
        assert_eq!((former.current.clone(), &former.adopted), (None, &vec![key.record.key_id]));
        assert_eq!(former.next_generation(), 1);
        let found = bench.store.find_by_id(STORE, key.record.key_id, freshness).await.unwrap();
        assert_eq!(found, Some(adopted.clone()));
    }
    let next = bench.store.create(&new_key("orders", 1)).await.unwrap();
    assert_eq!(bench.live("orders").await.unwrap().current, Some(next));
    assert!(bench.store.decrypt(&adopted, &context("a"), &blob).await.is_ok());
    let stale = bench.store.update(&key, &[KeyStep::Claim(owner("late"))]).await;
    assert!(matches!(stale, Err(StoreError::Conflict)), "of two who adopt it one wins");

    // Adopted back by its first name, and by a third one: it never moves.
    let back = bench.store.update(&adopted, &[KeyStep::Claim(key.record.owner.clone())]).await.unwrap();
    assert_eq!(bench.live("orders").await.unwrap().current, Some(back.clone()));
    let third = bench.store.update(&back, &[KeyStep::Claim(owner("third"))]).await.unwrap();
    assert_eq!(third.record.home, adopted.record.home);
}

#[tokio::test]
async fn a_store_is_in_use_while_it_has_a_key_that_is_no_tombstone() {
    let bench = Bench::new();
    let usage = bench.store.usage();
    // Whether something changed since the last look, and which stores are in use.
    let look = |usage: &mut tokio::sync::watch::Receiver<()>| {
        let told = usage.has_changed().unwrap();
        usage.mark_unchanged();
        (told, [STORE, OTHER].map(|store| bench.store.is_in_use(store)))
    };
    let mut usage = usage;
    assert_eq!(look(&mut usage), (false, [false, false]));
    let key = bench.create("one").await;
    assert_eq!(look(&mut usage), (true, [true, false]));
    let two = bench.create("two").await;
    bench.store.update(&two, &[KeyStep::Release]).await.unwrap();
    assert_eq!(look(&mut usage), (false, [true, false]), "more keys are no news");
    bench.store.create(&in_other("three")).await.unwrap();
    assert_eq!(look(&mut usage), (true, [true, true]));

    // A record that can't be used counts for the store that it names.
    let three = super::super::name::record_name(&KeySlot { store: OTHER.into(), ..slot("three") }, 0);
    let bad = bench.memory.tamper(&three, |data| data.get_mut("mac").unwrap().0[0] ^= 1);
    bench.store.note(&bad);
    assert_eq!(look(&mut usage), (false, [true, true]));

    // The last ones leave: erased, or with their records.
    let gone = std::collections::HashSet::from([super::super::name::record_name(&slot("one"), 0)]);
    bench.store.note_all(&gone);
    assert_eq!(look(&mut usage), (true, [true, false]));
    let pending = bench.store.update(&key, &[KeyStep::ScheduleDeletion { days: 7 }]).await.unwrap();
    assert_eq!(look(&mut usage), (false, [true, false]));
    *bench.clock.0.lock().unwrap() = 7 * 86_400;
    bench.store.update(&pending, &[KeyStep::Erase]).await.unwrap();
    assert_eq!(look(&mut usage), (true, [false, false]));
}
