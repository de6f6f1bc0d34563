//! `plan` as tables, for what concerns key stores and adoption (design, rules 5 and 11).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    plan::{Circumstances, Observed, Plan, Step, plan},
    tests::{annotate, circumstances, fresh, namespace, pending, said, step, steps, taken_on, tombstone, view, with},
};
use crate::{
    api::{
        ClusterKeyStoreSpec, CustomerMasterKeySpec,
        conditions::{READY, find, reason},
        metadata,
    },
    cluster::KeyStoreView,
    kms::{
        KeyRecord, KeyStep, Origin, Owner,
        key_record::{
            Home,
            tests::{at, record},
        },
        limits::PendingDeletionDays,
    },
    store::{Capabilities, Freshness, KeySlot, SlotView},
};

const STALLED: [bool; 3] = [false, false, true];
const WAITING: [bool; 3] = [false, true, false];

/// The key of another object, which may be gone.
fn foreign(change: impl FnOnce(&mut KeyRecord)) -> KeyRecord {
    let owner =
        Owner { namespace: "old".into(), name: "before".into(), namespace_uid: "old-uid".into(), ..record().owner };
    let mut record = KeyRecord { owner, ..record() };
    change(&mut record);
    record
}

fn released(record: &mut KeyRecord) {
    record.owner.released = true;
}

/// A new object that names a key of the store.
fn adopting(found: Option<KeyRecord>) -> Observed {
    with(fresh(), |o| {
        o.object.spec.key_id = Some(record().key_id.to_string());
        o.key = Ok(view(found));
        o.freshness = Freshness::Live;
    })
}

fn spec(spec: Value) -> CustomerMasterKeySpec {
    serde_json::from_value(spec).unwrap()
}

fn store(spec: Value) -> Option<KeyStoreView> {
    let spec: ClusterKeyStoreSpec = serde_json::from_value(spec).unwrap();
    KeyStoreView::declared(&spec)
}

/// The owner that a claim of `fresh()` makes.
fn claims_for_shop(step: &KeyStep) -> bool {
    matches!(step, KeyStep::Claim(owner) if (owner.namespace.as_str(), owner.name.as_str()) == ("shop", "orders"))
}

#[test]
fn rule_11_what_may_be_adopted_is_claimed() {
    let orphaned = with(adopting(Some(foreign(|_| ()))), |o| o.owner_is_gone = true);
    let scheduled = KeyRecord { deletion: pending(30).deletion, ..foreign(released) };
    let given_up = foreign(|record| {
        released(record);
        record.abandoned = true;
    });
    let again = KeyRecord { home: Some(Home { namespace: "old".into(), name: "before".into() }), ..record() };
    let elsewhere = with(adopting(Some(again.clone())), |o| o.namespace = Some(namespace("anew")));
    let rows = [
        ("orphaned", orphaned, 1),
        ("released", adopting(Some(foreign(released))), 1),
        ("given up for another one", adopting(Some(given_up)), 1),
        ("released, and to be deleted", adopting(Some(scheduled)), 2),
        ("its own, let go and applied again", adopting(Some(with_record(again, released))), 1),
        ("its own, in a namespace made anew: it names the key", elsewhere, 1),
    ];
    for (name, observed, count) in rows {
        let steps = steps(&observed);
        assert!(claims_for_shop(&steps[0]) && steps.len() == count, "{name}: {steps:?}");
        if count == 2 {
            assert_eq!(steps[1], KeyStep::CancelDeletion, "{name}");
        }
        // The key is claimed, and the operator ends before it has added the finalizer: the next one goes on there.
        let found = observed.key.as_ref().unwrap().current.clone().unwrap();
        let after = found.record.apply_all(&steps, at(10_000)).unwrap();
        assert!(!after.abandoned && !after.owner.released, "{name}");
        assert_eq!(after.home, Some(Home { namespace: "old".into(), name: "before".into() }), "{name}");
        let namespace = observed.namespace.clone();
        let next = with(adopting(Some(after.clone())), |o| o.namespace = namespace);
        assert_eq!(step(&next), Step::TakeOn { key_id: after.key_id }, "{name}");
    }
}

fn with_record(mut record: KeyRecord, change: impl FnOnce(&mut KeyRecord)) -> KeyRecord {
    change(&mut record);
    record
}

#[test]
fn rule_11_what_may_not_be_adopted_is_refused_and_not_shown() {
    let external = |record: &mut KeyRecord| {
        released(record);
        record.origin = Origin::External;
    };
    let erased = KeyRecord { owner: foreign(released).owner, ..tombstone() };
    let none = json!({"embedded": {}, "allowedNamespaces": {"from": "Same"}});
    let rows = [
        (reason::KEY_HAS_OWNER, STALLED, adopting(Some(foreign(|_| ())))),
        (reason::KEY_RECORD_MISSING, STALLED, adopting(None)),
        (reason::KEY_DELETED, STALLED, adopting(Some(erased))),
        (
            reason::IMMUTABLE_FIELD_CHANGED,
            STALLED,
            with(adopting(Some(foreign(released))), |o| o.object.spec.origin = Some(Origin::AwsKms)),
        ),
        (
            reason::MATERIAL_NOT_DECLARED,
            STALLED,
            with(adopting(Some(foreign(external))), |o| o.object.spec.origin = Some(Origin::External)),
        ),
        (
            reason::KEY_STORE_NOT_ALLOWED,
            STALLED,
            with(adopting(Some(foreign(released))), |o| o.store = store(none.clone())),
        ),
        (reason::KEY_STORE_NOT_FOUND, WAITING, with(adopting(Some(foreign(released))), |o| o.store = None)),
    ];
    for (expected, conditions, observed) in rows {
        assert_eq!(said(&observed, &circumstances()), (expected.to_owned(), conditions));
        let Plan { step: Step::WriteStatus(status), events } = plan(&observed, &circumstances()) else { panic!() };
        assert_eq!((status.key_metadata, status.key_versions.len(), status.alias), (None, 0, None), "{expected}");
        assert_eq!(events.len(), 1, "{expected}");
    }
}

#[test]
fn rule_11_a_missing_key_is_looked_for_once_more() {
    let seen = with(adopting(None), |o| o.freshness = Freshness::Watched);
    assert_eq!(step(&seen), Step::LookAgain);
}

#[test]
fn rule_11_an_adopted_key_is_driven_like_any_other() {
    let adopted = KeyRecord { home: Some(Home { namespace: "old".into(), name: "before".into() }), ..record() };
    let mut observed = with(taken_on(adopted.clone()), |o| o.object.spec = spec(json!({"keyId": adopted.key_id})));
    let Step::WriteStatus(status) = step(&observed) else { panic!() };
    assert_eq!(find(&status.conditions, READY).unwrap().reason, reason::AS_DECLARED);
    observed.object.status = Some(*status);
    assert_eq!(step(&observed), Step::Rest);
    observed.object.spec = spec(json!({"keyId": adopted.key_id, "enabled": false}));
    assert_eq!(steps(&observed), [KeyStep::Disable]);
    // Deleting its object leaves it as it is, unless declared otherwise.
    observed.object.spec = spec(json!({"keyId": adopted.key_id}));
    observed.object.metadata.deletion_timestamp = Some(Time(at(10_000)));
    assert_eq!(steps(&observed), [KeyStep::Release]);
    observed.object.spec = spec(json!({"keyId": adopted.key_id, "deletionPolicy": "ScheduleDeletion"}));
    assert_eq!(steps(&observed), [KeyStep::ScheduleDeletion { days: 366 }, KeyStep::Release]);
    assert_eq!(KeySlot::of_home(&adopted).name, "before");
}

#[test]
fn rule_11_the_object_that_had_the_key_gets_another_one_unless_it_says_it_has_it() {
    let adopted = SlotView { adopted: vec![record().key_id], ..SlotView::default() };
    let applied = with(fresh(), |o| o.key = Ok(adopted.clone()));
    let Step::CreateKey(new) = step(&applied) else { panic!() };
    assert_eq!(new.generation, 1);

    // Restored with its annotation, it waits for a person, and does not touch the key when it goes.
    let restored = with(taken_on(record()), |o| {
        o.key = Ok(adopted.clone());
        o.freshness = Freshness::Live;
    });
    assert_eq!(said(&restored, &circumstances()), (reason::KEY_HAS_OWNER.to_owned(), STALLED));
    let deleted = with(taken_on(record()), |o| {
        o.key = Ok(adopted.clone());
        o.freshness = Freshness::Live;
        o.object.metadata.deletion_timestamp = Some(Time(at(10_000)));
    });
    assert_eq!(step(&deleted), Step::Release);
    let told = with(restored, |o| annotate(o, metadata::ABANDON_KEY, record().key_id));
    let Step::CreateKey(new) = step(&told) else { panic!() };
    assert_eq!(new.generation, 1);
}

#[test]
fn rule_5_a_store_for_preview_namespaces_gives_a_new_key() {
    let new_key = store(json!({"embedded": {"onNamespaceRecreated": "NewKey"}}));
    let anew = |o: &mut Observed| {
        o.namespace = Some(namespace("anew"));
        o.object.metadata.uid = Some("new".into());
        o.store.clone_from(&new_key);
        o.freshness = Freshness::Live;
    };
    let applied = with(with(fresh(), anew), |o| o.key = Ok(view(Some(record()))));
    let Plan { step: Step::UpdateKey { steps, .. }, events } = plan(&applied, &circumstances()) else { panic!() };
    assert_eq!(steps, [KeyStep::Abandon]);
    assert_eq!(events[0].reason, reason::KEY_ABANDONED);

    // An object that says that it has the key was restored, and shall not lose it.
    let restored = with(taken_on(record()), anew);
    assert_eq!(said(&restored, &circumstances()), (reason::NAMESPACE_RECREATED.to_owned(), STALLED));
    // And with --no-new-keys nothing is given up.
    let paused = Circumstances { no_new_keys: true, ..circumstances() };
    assert_eq!(said(&applied, &paused).0, reason::CREATION_PAUSED);
    let allowed = with(applied, |o| o.namespace.as_mut().unwrap().adopt_keys = true);
    assert!(claims_for_shop(&super::tests::steps(&allowed)[0]), "an administrator's word counts more");
}

#[test]
fn rule_11_what_the_store_cannot_do_is_named_and_nothing_is_done() {
    let poor = Capabilities {
        pending_deletion_days: PendingDeletionDays { min: 7, max: 30, default: 30 },
        rotation_interval_days: Some((90, 2560)),
        import: false,
    };
    let poorest = Capabilities { rotation_interval_days: None, ..poor };
    let rows = [
        (
            json!({"pendingDeletionDays": 300}),
            poor,
            "spec.pendingDeletionDays is 300, and the key store takes 7 to 30.",
        ),
        (
            json!({"scheduleDeletion": true, "pendingDeletionDays": 31}),
            poor,
            "spec.pendingDeletionDays is 31, and the key store takes 7 to 30.",
        ),
        (
            json!({"rotationIntervalDays": 30}),
            poor,
            "spec.rotationIntervalDays is 30, and the key store takes 90 to 2560.",
        ),
        (
            json!({"rotationIntervalDays": 365}),
            poorest,
            "spec.rotationIntervalDays is given, and the key store does not rotate keys.",
        ),
        (
            json!({"origin": "EXTERNAL"}),
            poor,
            "spec.origin is EXTERNAL, and nothing can be imported into the key store.",
        ),
    ];
    for (declared, capabilities, expected) in rows {
        let can = Circumstances { capabilities, ..circumstances() };
        // Of a new object no key is made; of one that has a key nothing else is changed either.
        let existing = with(taken_on(record()), |o| o.object.spec.enabled = Some(false));
        for mut observed in [fresh(), existing, adopting(Some(foreign(released)))] {
            let enabled = observed.object.spec.enabled;
            let key_id = observed.object.spec.key_id.take();
            observed.object.spec = CustomerMasterKeySpec { enabled, key_id, ..spec(declared.clone()) };
            let Plan { step: Step::WriteStatus(status), .. } = plan(&observed, &can) else { panic!("{declared}") };
            let ready = find(&status.conditions, READY).unwrap();
            assert_eq!((ready.reason.as_str(), ready.message.as_str()), (reason::UNSUPPORTED_BY_KEY_STORE, expected));
        }
    }
    // Without a word about it, the store's own window counts.
    let declared = with(taken_on(record()), |o| o.object.spec.schedule_deletion = Some(true));
    let Step::UpdateKey { steps, .. } = plan(&declared, &Circumstances { capabilities: poor, ..circumstances() }).step
    else {
        panic!()
    };
    assert_eq!(steps, [KeyStep::ScheduleDeletion { days: 30 }]);
}

#[test]
fn rule_11_another_namespace_is_refused_new_keys_only() {
    let closed = store(json!({"embedded": {}, "allowedNamespaces": {"from": "Selector",
        "selector": {"matchLabels": {"team": "orders"}}}}));
    let in_closed = |o: &mut Observed| o.store.clone_from(&closed);
    assert_eq!(said(&with(fresh(), in_closed), &circumstances()), (reason::KEY_STORE_NOT_ALLOWED.to_owned(), STALLED));
    assert_eq!(said(&with(taken_on(record()), in_closed), &circumstances()).0, reason::AS_DECLARED);
    let disabled = with(with(taken_on(record()), in_closed), |o| o.object.spec.enabled = Some(false));
    assert_eq!(steps(&disabled), [KeyStep::Disable]);
    let labelled = with(with(fresh(), in_closed), |o| {
        o.namespace.as_mut().unwrap().labels.insert("team".into(), "orders".into());
    });
    let Step::CreateKey(new) = step(&labelled) else { panic!() };
    assert_eq!(new.key_id, Uuid::from_u128(77));
}

#[test]
fn rule_11_a_new_key_has_its_stores_region_and_account() {
    let frankfurt = store(json!({"embedded": {"region": "eu-central-1", "accountId": "42"}}));
    let observed = with(fresh(), |o| {
        o.object.spec = spec(json!({"keyStoreRef": {"kind": "ClusterKeyStore", "name": "frankfurt"}}));
        o.store.clone_from(&frankfurt);
    });
    let Step::CreateKey(new) = step(&observed) else { panic!() };
    let named = (new.store.as_str(), new.region.as_str(), new.account_id.as_str());
    assert_eq!(named, ("ClusterKeyStore/frankfurt", "eu-central-1", "42"));
    assert_eq!(store(json!({})), None, "a provider of a newer version is not taken for this one");
}
