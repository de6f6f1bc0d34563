//! The store over Secrets in memory, with the preconditions of a real API server.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use uuid::Uuid;

use super::{
    record_secret,
    testing::{Bench, NAMESPACE, STORE, field, new_key, root, slot},
};
use crate::{
    clock::Clock,
    cluster::Secrets,
    crypto::RootKeyRing,
    kms::{EncryptionContext, KeyRecord, KeyState, KeyStep, Origin, StepError, key_record::MaterialSource},
    store::{Freshness, ImportRefusal, KeyStore, MaterialImport, NewKey, StoreError, StoredKey},
};

mod key_cache;
mod stores;

fn context(value: &str) -> EncryptionContext {
    EncryptionContext::new().with_entry("app", value).unwrap()
}

#[tokio::test]
async fn a_key_is_made_once_and_found_again() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    assert_eq!(bench.store.find(&slot("orders"), Freshness::Watched).await.unwrap().current, Some(key.clone()));
    assert_eq!(bench.live("orders").await.unwrap().current, Some(key.clone()));
    assert!(matches!(bench.store.create(&new_key("orders", 0)).await, Err(StoreError::Conflict)));
    assert_eq!(bench.live("orders").await.unwrap().current, Some(key.clone()), "and not changed");
    assert_eq!(bench.live("other").await.unwrap(), crate::store::SlotView::default());

    // One that was never told of it finds out by its own failure, and from then on knows.
    let second = bench.another(RootKeyRing::new(root(1), []));
    assert_eq!(second.find(&slot("orders"), Freshness::Watched).await.unwrap().current, None);
    assert!(matches!(second.create(&new_key("orders", 0)).await, Err(StoreError::Conflict)));
    assert_eq!(second.find(&slot("orders"), Freshness::Watched).await.unwrap().current, Some(key));
}

#[tokio::test]
async fn the_material_is_not_in_the_record_and_no_two_are_the_same() {
    let bench = Bench::new();
    let (one, two) = (bench.create("one").await, bench.create("two").await);
    let unwrapped = |key: &StoredKey| *bench.store.unwrap(&key.record, &key.record.versions[0]).unwrap().expose();
    assert_ne!(unwrapped(&one), unwrapped(&two));
    for secret in bench.memory.0.lock().unwrap().0.values() {
        let text = field(secret, "record");
        for material in [unwrapped(&one), unwrapped(&two)] {
            assert!(!text.windows(32).any(|w| w == material));
        }
        assert!(bench.store.verify(secret).is_ok());
    }
}

#[tokio::test]
async fn rule_17_a_write_on_an_old_revision_is_a_conflict() {
    let bench = Bench::new();
    let first = bench.create("orders").await;
    let second = bench.store.update(&first, &[KeyStep::Disable]).await.unwrap();
    assert_eq!(second.record.state(bench.clock.now()), KeyState::Disabled);
    assert!(matches!(
        bench.store.update(&first, &[KeyStep::SetDescription("x".into())]).await,
        Err(StoreError::Conflict)
    ));
    assert!(matches!(bench.store.forget_unfinished(&first).await, Err(StoreError::Conflict)));
    assert_eq!(bench.live("orders").await.unwrap().current, Some(second.clone()));

    // All steps or none.
    let steps = [KeyStep::SetDescription("x".into()), KeyStep::Erase];
    assert!(matches!(bench.store.update(&second, &steps).await, Err(StoreError::Refused(StepError::NotDue))));
    assert_eq!(bench.live("orders").await.unwrap().current, Some(second.clone()));

    // A key that was ever changed may have been used: it is not forgotten at any revision.
    assert!(matches!(bench.store.forget_unfinished(&second).await, Err(StoreError::Conflict)));
    assert_eq!(bench.live("orders").await.unwrap().current, Some(second));
}

#[tokio::test]
async fn rule_17_a_forgotten_key_is_not_brought_back_by_a_late_write() {
    let bench = Bench::new();
    let first = bench.create("orders").await;
    bench.store.forget_unfinished(&first).await.unwrap();
    bench.store.forget_unfinished(&first).await.unwrap();
    assert_eq!(bench.live("orders").await.unwrap().current, None);
    assert!(matches!(bench.store.update(&first, &[KeyStep::Disable]).await, Err(StoreError::Conflict)));
    assert_eq!(bench.memory.len(), 0, "an update makes nothing");

    // Made anew: another Secret, though it has the same name.
    let anew = bench.create("orders").await;
    assert!(matches!(bench.store.update(&first, &[KeyStep::Disable]).await, Err(StoreError::Conflict)));
    assert_eq!(bench.live("orders").await.unwrap().current, Some(anew));
}

#[tokio::test]
async fn rule_5_abandoned_keys_are_a_chain_of_generations() {
    let bench = Bench::new();
    let mut abandoned = Vec::new();
    for generation in 0..4 {
        let view = bench.live("orders").await.unwrap();
        assert_eq!((view.current, &view.abandoned), (None, &abandoned));
        let key = bench.store.create(&new_key("orders", generation)).await.unwrap();
        abandoned.push(key.record.key_id);
        bench.store.update(&key, &[KeyStep::Abandon]).await.unwrap();
    }
    let last = bench.store.create(&new_key("orders", 4)).await.unwrap();
    for freshness in [Freshness::Live, Freshness::Watched] {
        let view = bench.store.find(&slot("orders"), freshness).await.unwrap();
        assert_eq!((view.current.as_ref(), &view.abandoned), (Some(&last), &abandoned));
    }
    assert_eq!(bench.memory.len(), 5, "every record stays");
}

#[tokio::test]
async fn rule_4_an_erased_key_leaves_a_tombstone() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    let generated = bench.store.generate_data_key(&key, &context("a"), 32).await.unwrap();
    let pending = bench.store.update(&key, &[KeyStep::ScheduleDeletion { days: 7 }]).await.unwrap();
    *bench.clock.0.lock().unwrap() = 7 * 86_400 - 1;
    assert!(matches!(bench.store.update(&pending, &[KeyStep::Erase]).await, Err(StoreError::Refused(_))));
    *bench.clock.0.lock().unwrap() = 7 * 86_400;
    let tombstone = bench.store.update(&pending, &[KeyStep::Erase]).await.unwrap();
    assert!(tombstone.record.is_tombstone() && tombstone.record.versions.is_empty());
    assert!(!String::from_utf8(field(&bench.memory.only(), "record")).unwrap().contains("wrapped"));
    assert!(
        matches!(bench.store.create(&new_key("orders", 0)).await, Err(StoreError::Conflict)),
        "nothing is resurrected"
    );
    let opened = bench.store.decrypt(&tombstone, &context("a"), &generated.ciphertext_blob).await;
    assert!(matches!(opened, Err(StoreError::Refused(_))));
    assert!(bench.store.generate_data_key(&tombstone, &context("a"), 32).await.is_err());
}

/// What `find` answers for the record as it is now, from both sources.
async fn fault(bench: &Bench, secret: &Secret) -> StoreError {
    bench.store.note(secret);
    let watched = bench.store.find(&slot("orders"), Freshness::Watched).await.unwrap_err();
    let live = bench.live("orders").await.unwrap_err();
    assert_eq!(watched.to_string(), live.to_string());
    assert_eq!(live.to_string(), bench.store.verify(secret).unwrap_err().to_string());
    live
}

#[tokio::test]
async fn a_record_that_was_changed_in_any_bit_is_tampered() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    let name = bench.memory.only().name_any();
    let good = bench.memory.only().data.unwrap();
    let flips = (0..good["mac"].0.len()).map(|at| ("mac", at));
    let flips = flips.chain((0..good["record"].0.len()).step_by(7).map(|at| ("record", at)));
    for (entry, at) in flips {
        for bit in [0x01, 0x80] {
            let bad = bench.memory.tamper(&name, |data| data.get_mut(entry).unwrap().0[at] ^= bit);
            let error = record_secret::decode(&bad, &bench.store.ring).err().unwrap();
            // A bit of the root key's id makes it the id of one that is not at hand, which is said instead.
            let expected = matches!(error, StoreError::Tampered { .. } | StoreError::RootKeyMissing { .. });
            assert!(expected, "{entry}[{at}] ^ {bit}: {error}");
            bench.memory.tamper(&name, |data| data.clone_from(&good));
        }
    }

    type Change = Box<dyn Fn(&mut BTreeMap<String, ByteString>)>;
    let replace = |from: &'static str, to: &'static str| -> Change {
        Box::new(move |data| {
            let text = String::from_utf8(data["record"].0.clone()).unwrap();
            assert!(text.contains(from));
            data.get_mut("record").unwrap().0 = text.replace(from, to).into_bytes();
        })
    };
    let cut = |entry: &'static str, to: usize| -> Change {
        Box::new(move |data| data.get_mut(entry).unwrap().0.truncate(to))
    };
    let without = |entry: &'static str| -> Change { Box::new(move |data| drop(data.remove(entry))) };
    let append: Change = Box::new(|data| data.get_mut("record").unwrap().0.push(b' '));
    for (what, change) in [
        ("enabled edited", replace("\"enabled\":true", "\"enabled\":false")),
        ("owner edited", replace("\"namespaceUid\":\"ns\"", "\"namespaceUid\":\"xx\"")),
        ("newer under an old MAC", replace("\"format\":1", "\"format\":2")),
        ("one byte less", cut("record", good["record"].0.len() - 1)),
        ("half of it", cut("record", good["record"].0.len() / 2)),
        ("nothing", cut("record", 0)),
        ("half a MAC", cut("mac", 16)),
        ("an empty MAC", cut("mac", 0)),
        ("no record", without("record")),
        ("no MAC", without("mac")),
        ("a space more", append),
    ] {
        let bad = bench.memory.tamper(&name, |data| change(data));
        let error = fault(&bench, &bad).await;
        assert!(matches!(&error, StoreError::Tampered { secret } if *secret == name), "{what}: {error}");
        assert!(bench.store.keys().is_empty(), "{what}");
        // A write that was decided on before does not get through either.
        assert!(bench.store.update(&key, &[KeyStep::Disable]).await.is_err(), "{what}");

        let restored = bench.memory.tamper(&name, |data| data.clone_from(&good));
        assert_eq!(bench.store.note(&restored), Some(("shop".into(), "orders".into())), "{what}");
        assert_eq!(bench.live("orders").await.unwrap().current.unwrap().record, key.record, "{what}");
    }
}

#[tokio::test]
async fn a_damaged_record_tells_whose_key_to_look_at() {
    let bench = Bench::new();
    bench.create("orders").await;
    let bad = bench.memory.tamper(&bench.memory.only().name_any(), |data| data.clear());
    assert_eq!(bench.store.note(&bad), Some(("shop".into(), "orders".into())));
}

#[tokio::test]
async fn a_record_swapped_with_another_is_tampered() {
    let bench = Bench::new();
    bench.create("orders").await;
    let name = bench.memory.only().name_any();
    bench.create("other").await;
    let other: Vec<_> = bench.memory.list_secrets(NAMESPACE, crate::api::metadata::KEY_RECORD_TYPE).await.unwrap();
    let other = other.into_iter().find(|s| s.name_any() != name).unwrap();
    let bad = bench.memory.tamper(&name, |data| data.clone_from(other.data.as_ref().unwrap()));
    assert!(matches!(fault(&bench, &bad).await, StoreError::Tampered { .. }));
    assert_eq!(bench.store.keys().len(), 1, "the other one goes on");

    // With a MAC for its new place, it is still the record of another key.
    let record = field(&other, "record");
    let mac = bench.store.ring.record_mac(&name, &record).to_vec();
    let bad = bench.memory.tamper(&name, |data| drop(data.insert("mac".into(), ByteString(mac))));
    let error = fault(&bench, &bad).await;
    assert!(matches!(&error, StoreError::Unreadable { problem, .. } if problem.contains("another key")), "{error}");
}

#[tokio::test]
async fn a_newer_record_is_refused_and_not_rewritten() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    let name = bench.memory.only().name_any();
    let text = String::from_utf8(field(&bench.memory.only(), "record")).unwrap();
    for newer in ["\"format\":2", "\"format\":1,\"new\":0"] {
        let record = text.replace("\"format\":1", newer).into_bytes();
        let mac = bench.store.ring.record_mac(&name, &record).to_vec();
        let bad = bench.memory.tamper(&name, |data| {
            data.insert("record".into(), ByteString(record.clone()));
            data.insert("mac".into(), ByteString(mac));
        });
        assert!(matches!(fault(&bench, &bad).await, StoreError::Unreadable { .. }));
        assert!(bench.store.update(&key, &[KeyStep::Disable]).await.is_err());
        assert!(bench.store.create(&new_key("orders", 0)).await.is_err());
        assert_eq!(bench.memory.only(), bad);
    }
}

#[tokio::test]
async fn a_root_key_that_is_not_at_hand_is_named() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    let missing = Uuid::from(root(1).id());
    let stranger = bench.another(RootKeyRing::new(root(2), []));
    for freshness in [Freshness::Live, Freshness::Watched] {
        let error = stranger.find(&slot("orders"), freshness).await.unwrap_err();
        assert!(matches!(error, StoreError::RootKeyMissing { root_key_id } if root_key_id == missing), "{error}");
    }
    let heir = bench.another(RootKeyRing::new(root(2), [root(1)]));
    let found = heir.find(&slot("orders"), Freshness::Live).await.unwrap().current.unwrap();
    assert_eq!(found.record, key.record);
    let generated = bench.store.generate_data_key(&key, &context("a"), 16).await.unwrap();
    assert_eq!(heir.decrypt(&found, &context("a"), &generated.ciphertext_blob).await.unwrap().len(), 16);
}

#[tokio::test]
async fn wrapped_material_that_is_damaged_is_said_to_be() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    let mut record = KeyRecord::clone(&key.record);
    record.versions[0].wrapped[20] ^= 1;
    let damaged = StoredKey { record: Arc::new(record.clone()), revision: key.revision.clone() };
    assert!(matches!(bench.store.generate_data_key(&damaged, &context("a"), 32).await, Err(StoreError::Damaged)));
    // Also where it was given a valid MAC: `verify` unwraps everything.
    let secret = record_secret::encode(&record, NAMESPACE, None, &bench.store.ring).unwrap();
    assert!(record_secret::decode(&secret, &bench.store.ring).is_ok());
    assert!(matches!(bench.store.verify(&secret), Err(StoreError::Damaged)));
    // A wrapping belongs to its key and version.
    for change in
        [|r: &mut KeyRecord| r.key_id = Uuid::from_u128(9), |r: &mut KeyRecord| r.versions[0].id = Uuid::from_u128(9)]
    {
        let mut moved = KeyRecord::clone(&key.record);
        change(&mut moved);
        assert!(matches!(bench.store.unwrap(&moved, &moved.versions[0]), Err(StoreError::Damaged)));
    }
}

#[tokio::test]
async fn a_ciphertext_opens_under_its_key_version_and_context_only() {
    let bench = Bench::new();
    let (key, other) = (bench.create("orders").await, bench.create("other").await);
    for length in [1, 16, 32, 1024] {
        let generated = bench.store.generate_data_key(&key, &context("a"), length).await.unwrap();
        assert_eq!(generated.key_version_id, key.record.versions[0].id);
        let blob = generated.ciphertext_blob;
        let first = bench.store.decrypt(&key, &context("a"), &blob).await.unwrap();
        assert!(
            first.len() == length
                && bench.store.decrypt(&key, &context("a"), &blob).await.unwrap().ct_eq(first.expose())
        );

        let invalid = async |key: &StoredKey, context: &EncryptionContext, blob: &[u8]| {
            matches!(bench.store.decrypt(key, context, blob).await, Err(StoreError::InvalidCiphertext))
        };
        for wrong in [context("b"), EncryptionContext::new(), context("a").with_entry("b", "").unwrap()] {
            assert!(invalid(&key, &wrong, &blob).await);
        }
        for to in [0, 3, 59, blob.len() - 1] {
            assert!(invalid(&key, &context("a"), &blob[..to]).await, "cut at {to}");
        }
        let error = bench.store.decrypt(&other, &context("a"), &blob).await.err().unwrap();
        assert!(matches!(error, StoreError::IncorrectKey { key_id } if key_id == key.record.key_id));
        // Said to be of the other key, or of another version.
        let mut renamed = blob.clone();
        renamed[4..20].copy_from_slice(other.record.key_id.as_bytes());
        renamed[20..36].copy_from_slice(other.record.versions[0].id.as_bytes());
        assert!(invalid(&other, &context("a"), &renamed).await);
        let mut version = blob.clone();
        version[20] ^= 1;
        assert!(invalid(&key, &context("a"), &version).await);
        for at in [0, 3, 36, 60, 91, 92, blob.len() - 1] {
            let mut flipped = blob.clone();
            flipped[at] ^= 1;
            assert!(invalid(&key, &context("a"), &flipped).await, "flipped at {at}");
        }
    }
}

/// Design, rule 13 and the state table: an Enabled key works, any other refuses.
#[tokio::test]
async fn rule_13_only_an_enabled_key_generates_and_decrypts() {
    let pending = KeyStep::ScheduleDeletion { days: 7 };
    for (steps, state) in [
        (vec![], KeyState::Enabled),
        (vec![KeyStep::Disable], KeyState::Disabled),
        (vec![pending.clone()], KeyState::PendingDeletion),
        (vec![KeyStep::Disable, pending.clone()], KeyState::PendingDeletion),
        (vec![KeyStep::Disable, KeyStep::Enable], KeyState::Enabled),
        (vec![pending, KeyStep::CancelDeletion], KeyState::Enabled),
    ] {
        let bench = Bench::new();
        let key = bench.create("orders").await;
        let blob = bench.store.generate_data_key(&key, &context("a"), 32).await.unwrap().ciphertext_blob;
        let key = if steps.is_empty() { key } else { bench.store.update(&key, &steps).await.unwrap() };
        assert_eq!(key.record.state(bench.clock.now()), state, "{steps:?}");
        let works = state == KeyState::Enabled;
        let generated = bench.store.generate_data_key(&key, &context("a"), 32).await;
        let opened = bench.store.decrypt(&key, &context("a"), &blob).await;
        assert_eq!((generated.is_ok(), opened.is_ok()), (works, works), "{steps:?}");
        if !works {
            assert!(matches!(generated, Err(StoreError::Refused(_))) && matches!(opened, Err(StoreError::Refused(_))));
        }
    }
}

#[tokio::test]
async fn the_view_never_goes_back_in_time() {
    let bench = Bench::new();
    let first = bench.create("orders").await;
    let old = bench.memory.only();
    let second = bench.store.update(&first, &[KeyStep::Disable]).await.unwrap();
    // The watch tells of our own writes late.
    bench.store.note(&old);
    assert_eq!(bench.store.find(&slot("orders"), Freshness::Watched).await.unwrap().current, Some(second));
    bench.store.note_all(&std::collections::HashSet::new());
    assert_eq!(bench.store.find(&slot("orders"), Freshness::Watched).await.unwrap().current, None);
}

#[tokio::test]
async fn rule_9_a_key_declared_disabled_is_never_enabled_by_an_import() {
    let bench = Bench::new();
    let external = NewKey { origin: Origin::External, ..new_key("orders", 0) };
    let key = bench.store.create(&external).await.unwrap();
    let import = MaterialImport {
        source: MaterialSource { secret: "s".into(), key: "k".into() },
        expire_time: None,
        wrapping: None,
        fresh: [Uuid::from_u128(5), Uuid::from_u128(6)],
        enabled: false,
    };
    let writes = || bench.memory.0.lock().unwrap().1;
    let before = writes();
    let imported = bench.store.import(&key, &import, &[7; 32]).await.unwrap();
    assert_eq!((imported.record.state(bench.clock.now()), writes()), (KeyState::Disabled, before + 1));
    let other = bench.store.import(&imported, &import, &[8; 32]).await;
    assert!(matches!(other, Err(StoreError::Import(ImportRefusal::Different))));
}
