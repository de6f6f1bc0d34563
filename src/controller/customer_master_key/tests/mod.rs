//! `plan` as tables: what is observed on the left, the next step on the right.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use uuid::Uuid;

mod aliases;
mod deletion;

use super::alias::AliasFacts;
use super::plan::{Circumstances, FreshIds, Observed, Plan, Step, plan};
use crate::{
    api::{
        ClusterKeyStoreSpec, CustomerMasterKey, CustomerMasterKeySpec, CustomerMasterKeyStatus,
        cluster_key_store::{Embedded, OnNamespaceRecreated},
        conditions::{PURGE_HELD, READY, RECONCILING, STALLED, find, reason},
        customer_master_key::DeletionPolicy,
        metadata,
    },
    cluster::{KeyStoreView, NamespaceView},
    controller::purge::{Held, Hold},
    kms::{
        KeyRecord, KeyStep, Origin, Owner,
        key_record::tests::{at, record},
        limits::PendingDeletionDays,
    },
    store::{Capabilities, Freshness, Revision, SlotView, StoreError, StoredKey},
};

const NOW: i64 = 10_000;

pub(super) fn circumstances() -> Circumstances {
    Circumstances {
        capabilities: Capabilities {
            pending_deletion_days: PendingDeletionDays::EMBEDDED,
            rotation_interval_days: Some((7, 2560)),
            import: true,
        },
        no_new_keys: false,
        fresh: FreshIds { key: Uuid::from_u128(77), version: Uuid::from_u128(78), check: Uuid::from_u128(79) },
        now: at(NOW),
    }
}

pub(super) fn stored(record: KeyRecord) -> StoredKey {
    StoredKey { record: Arc::new(record), revision: Revision { uid: "r".into(), version: "1".into() } }
}

pub(super) fn view(current: Option<KeyRecord>) -> SlotView {
    SlotView { current: current.map(stored), ..SlotView::default() }
}

/// An object that was just created: nothing is known of it.
pub(super) fn fresh() -> Observed {
    let mut object = CustomerMasterKey::new("orders", CustomerMasterKeySpec::default());
    object.metadata.namespace = Some("shop".into());
    object.metadata.uid = Some("uid".into());
    object.metadata.generation = Some(1);
    object.metadata.resource_version = Some("7".into());
    Observed {
        object,
        namespace: Some(namespace("ns-uid")),
        store: Some(KeyStoreView::from(&ClusterKeyStoreSpec::default())),
        key: Ok(view(None)),
        freshness: Freshness::Watched,
        held: Held::No,
        alias: AliasFacts::default(),
        owner_is_gone: false,
        data_keys: vec![],
        import_problem: None,
    }
}

pub(super) fn namespace(uid: &str) -> NamespaceView {
    NamespaceView { uid: uid.into(), terminating: false, adopt_keys: false, labels: BTreeMap::new() }
}

/// An object whose key is there and that was taken on.
pub(super) fn taken_on(record: KeyRecord) -> Observed {
    let mut observed = fresh();
    let id = record.key_id.to_string();
    observed.object.metadata.annotations = Some(BTreeMap::from([(metadata::KEY_ID.into(), id)]));
    observed.object.metadata.finalizers = Some(vec![metadata::FINALIZER.into()]);
    observed.key = Ok(view(Some(record)));
    observed
}

pub(super) fn with(mut observed: Observed, change: impl FnOnce(&mut Observed)) -> Observed {
    change(&mut observed);
    observed
}

pub(super) fn annotate(observed: &mut Observed, key: &str, value: impl ToString) {
    let annotations = observed.object.metadata.annotations.get_or_insert_default();
    annotations.insert(key.into(), value.to_string());
}

pub(super) fn pending(days: i32) -> KeyRecord {
    record().apply_all(&[KeyStep::ScheduleDeletion { days }], at(NOW)).unwrap()
}

pub(super) fn tombstone() -> KeyRecord {
    record()
        .apply_all(&[KeyStep::ScheduleDeletion { days: 7 }], at(0))
        .and_then(|r| r.apply_all(&[KeyStep::Erase], at(7 * 86_400)))
        .unwrap()
}

pub(super) fn step(observed: &Observed) -> Step {
    plan(observed, &circumstances()).step
}

/// The steps on the key that are planned.
pub(super) fn steps(observed: &Observed) -> Vec<KeyStep> {
    match step(observed) {
        Step::UpdateKey { steps, .. } => steps,
        other => panic!("{other:?}"),
    }
}

/// The reason and the conditions that are set, as (Ready, Reconciling, Stalled).
pub(super) fn said(observed: &Observed, circumstances: &Circumstances) -> (String, [bool; 3]) {
    let Plan { step: Step::WriteStatus(status), .. } = plan(observed, circumstances) else {
        panic!("{:?}", plan(observed, circumstances));
    };
    let is = |type_| find(&status.conditions, type_).unwrap().status == "True";
    (find(&status.conditions, READY).unwrap().reason.clone(), [is(READY), is(RECONCILING), is(STALLED)])
}

fn claim() -> KeyStep {
    claim_by("ns-uid", "uid")
}

fn claim_by(namespace_uid: &str, uid: &str) -> KeyStep {
    KeyStep::Claim(Owner {
        namespace: "shop".into(),
        namespace_uid: namespace_uid.into(),
        name: "orders".into(),
        uid: uid.into(),
        resource_version: "7".into(),
        released: false,
    })
}

#[test]
fn rule_1_a_new_object_takes_three_writes() {
    let mut observed = fresh();
    let Step::CreateKey(new) = step(&observed) else { panic!() };
    assert_eq!((new.key_id, new.version_id, new.generation), (Uuid::from_u128(77), Uuid::from_u128(78), 0));
    assert_eq!((new.owner.namespace_uid.as_str(), new.owner.uid.as_str()), ("ns-uid", "uid"));

    observed.key = Ok(view(Some(KeyRecord { key_id: new.key_id, ..record() })));
    assert_eq!(step(&observed), Step::TakeOn { key_id: new.key_id });

    annotate(&mut observed, metadata::KEY_ID, new.key_id);
    observed.object.metadata.finalizers = Some(vec![metadata::FINALIZER.into()]);
    let Step::WriteStatus(status) = step(&observed) else { panic!() };

    observed.object.status = Some(*status);
    assert_eq!(plan(&observed, &circumstances()), Plan { step: Step::Rest, events: vec![] });
}

#[test]
fn rule_16_a_pass_over_what_is_as_declared_does_nothing() {
    for (name, record, spec) in [
        ("enabled", record(), CustomerMasterKeySpec::default()),
        (
            "disabled",
            record().apply_all(&[KeyStep::Disable], at(0)).unwrap(),
            CustomerMasterKeySpec { enabled: Some(false), ..Default::default() },
        ),
        ("pending", pending(366), CustomerMasterKeySpec { schedule_deletion: Some(true), ..Default::default() }),
    ] {
        let mut observed = with(taken_on(record), |o| o.object.spec = spec);
        let Step::WriteStatus(status) = step(&observed) else { panic!("{name}") };
        observed.object.status = Some(*status);
        let later = Circumstances { now: at(NOW + 1_000), ..circumstances() };
        assert_eq!(plan(&observed, &later).step, Step::Rest, "{name}");
    }
}

#[test]
fn rule_1_nothing_is_called_missing_before_it_was_looked_for() {
    let another = KeyRecord { key_id: Uuid::from_u128(5), ..record() };
    let rows = [
        ("no record", with(taken_on(record()), |o| o.key = Ok(view(None)))),
        ("the record of another key", with(taken_on(record()), |o| o.key = Ok(view(Some(another))))),
        ("an id that is none", with(fresh(), |o| annotate(o, metadata::KEY_ID, "x"))),
    ];
    for (name, mut observed) in rows {
        assert_eq!(step(&observed), Step::LookAgain, "{name}");
        observed.freshness = Freshness::Live;
        let expected = (reason::KEY_RECORD_MISSING.to_owned(), [false, false, true]);
        assert_eq!(said(&observed, &circumstances()), expected, "{name}");
    }
}

#[test]
fn rule_1_the_id_in_status_counts_where_the_annotation_is_lost() {
    let mut observed = taken_on(record());
    let Step::WriteStatus(status) = step(&observed) else { panic!() };
    observed.object.status = Some(*status);
    observed.object.metadata.annotations = None;
    observed.key = Ok(view(None));
    observed.freshness = Freshness::Live;
    assert_eq!(said(&observed, &circumstances()).0, reason::KEY_RECORD_MISSING);
}

#[test]
fn everything_that_stalls_or_waits() {
    let stalled = [false, false, true];
    let waiting = [false, true, false];
    let error = |error| with(taken_on(record()), |o| o.key = Err(error));
    let other_namespace = |o: &mut Observed| {
        o.namespace.as_mut().unwrap().uid = "other".into();
        o.object.metadata.uid = Some("new".into());
        o.freshness = Freshness::Live;
    };
    let rows = [
        (reason::RECORD_TAMPERED, stalled, error(StoreError::Tampered { secret: "s".into() })),
        (
            reason::RECORD_FORMAT_UNKNOWN,
            stalled,
            error(StoreError::Unreadable { secret: "s".into(), problem: "p".into() }),
        ),
        (reason::ROOT_KEY_MISSING, stalled, error(StoreError::RootKeyMissing { root_key_id: Uuid::nil() })),
        (reason::KEY_STORE_ERROR, waiting, error(StoreError::Crypto("x".into()))),
        (reason::KEY_DELETED, stalled, taken_on(tombstone())),
        (reason::NAMESPACE_RECREATED, stalled, with(taken_on(record()), other_namespace)),
        (reason::NAMESPACE_TERMINATING, waiting, with(fresh(), |o| o.namespace.as_mut().unwrap().terminating = true)),
        (reason::NAMESPACE_TERMINATING, waiting, with(fresh(), |o| o.namespace = None)),
        (
            reason::UNSUPPORTED_BY_KEY_STORE,
            stalled,
            with(taken_on(record()), |o| o.object.spec.pending_deletion_days = Some(400)),
        ),
        (
            reason::IMMUTABLE_FIELD_CHANGED,
            stalled,
            with(taken_on(record()), |o| o.object.spec.origin = Some(Origin::AwsKms)),
        ),
        (
            reason::REJECTED_PENDING_DELETION,
            stalled,
            with(taken_on(pending(366)), |o| {
                o.object.spec.schedule_deletion = Some(true);
                o.object.spec.description = Some("too late".into());
            }),
        ),
    ];
    for (expected, conditions, observed) in rows {
        assert_eq!(said(&observed, &circumstances()), (expected.to_owned(), conditions));
    }
}

#[test]
fn rule_20_no_new_keys() {
    let paused = Circumstances { no_new_keys: true, ..circumstances() };
    assert_eq!(said(&fresh(), &paused).0, reason::CREATION_PAUSED);
    // Nor by the detour of abandoning one.
    let abandoning = with(taken_on(record()), |o| annotate(o, metadata::ABANDON_KEY, record().key_id));
    assert_eq!(said(&abandoning, &paused).0, reason::CREATION_PAUSED);
    // Existing keys go on.
    assert_eq!(said(&taken_on(record()), &paused).0, reason::AS_DECLARED);
}

#[test]
fn rule_5_a_re_applied_object_takes_its_key_back() {
    let released = |r: KeyRecord| r.apply_all(&[KeyStep::Release], at(0)).unwrap();
    let rows = [
        ("retained", with(fresh(), |o| o.key = Ok(view(Some(released(record()))))), vec![claim()]),
        (
            "scheduled",
            with(fresh(), |o| o.key = Ok(view(Some(released(pending(30)))))),
            vec![claim(), KeyStep::CancelDeletion],
        ),
        (
            "scheduled, and still declared so",
            with(fresh(), |o| {
                o.key = Ok(view(Some(released(pending(366)))));
                o.object.spec.schedule_deletion = Some(true);
            }),
            vec![claim()],
        ),
        (
            "restored, with another UID",
            with(taken_on(record()), |o| o.object.metadata.uid = Some("new".into())),
            vec![claim_by("ns-uid", "new")],
        ),
        (
            "in a namespace made anew that may adopt",
            with(taken_on(released(record())), |o| {
                o.namespace = Some(NamespaceView { adopt_keys: true, ..namespace("other") });
            }),
            vec![claim_by("other", "uid")],
        ),
    ];
    for (name, mut observed, expected) in rows {
        assert_eq!(step(&observed), Step::LookAgain, "{name}: the watch of namespaces may lag behind");
        observed.freshness = Freshness::Live;
        assert_eq!(steps(&observed), expected, "{name}");
    }
}

/// The watch of namespaces showed the earlier one when the key was made: found by the model (tests/model).
#[test]
fn rule_5_a_key_made_for_an_object_is_its_own_in_whatever_namespace() {
    let observed = with(fresh(), |o| {
        o.key = Ok(view(Some(record())));
        o.namespace = Some(namespace("other"));
        o.freshness = Freshness::Live;
    });
    assert_eq!(steps(&observed), [claim_by("other", "uid")]);
    let another = with(observed, |o| o.object.metadata.uid = Some("new".into()));
    assert_eq!(said(&another, &circumstances()).0, reason::NAMESPACE_RECREATED);
}

/// A pass that failed leaves a status without a key: found by the model (tests/model).
#[test]
fn rule_5_a_new_object_is_new_also_after_a_pass_that_failed() {
    let embedded = Embedded { on_namespace_recreated: Some(OnNamespaceRecreated::NewKey), ..Embedded::default() };
    let spec = ClusterKeyStoreSpec { embedded: Some(embedded), ..ClusterKeyStoreSpec::default() };
    let mut observed = with(fresh(), |o| {
        o.store = Some(KeyStoreView::from(&spec));
        o.key = Ok(view(Some(record().apply_all(&[KeyStep::Release], at(0)).unwrap())));
        o.namespace = Some(namespace("other"));
        o.object.metadata.uid = Some("new".into());
        o.object.status = Some(CustomerMasterKeyStatus { observed_generation: Some(1), ..Default::default() });
        o.freshness = Freshness::Live;
    });
    assert_eq!(steps(&observed), [KeyStep::Abandon]);
    annotate(&mut observed, metadata::KEY_ID, record().key_id);
    assert_eq!(said(&observed, &circumstances()).0, reason::NAMESPACE_RECREATED, "it was restored, and keeps its key");
}

#[test]
fn rule_5_abandon_key_acts_only_on_the_key_it_names() {
    let other = with(taken_on(tombstone()), |o| annotate(o, metadata::ABANDON_KEY, Uuid::from_u128(9)));
    assert_eq!(said(&other, &circumstances()).0, reason::KEY_DELETED);
    let named = with(taken_on(tombstone()), |o| annotate(o, metadata::ABANDON_KEY, record().key_id));
    assert_eq!(steps(&named), [KeyStep::Abandon]);

    // Abandoned, the old id in the annotation counts no more, and the next generation is made.
    let after = with(named, |o| o.key = Ok(SlotView { abandoned: vec![record().key_id], ..SlotView::default() }));
    let Step::CreateKey(new) = step(&after) else { panic!() };
    assert_eq!(new.generation, 1);
}

#[test]
fn rule_2_what_nobody_declared_is_drift() {
    let mut observed = taken_on(record());
    let Step::WriteStatus(status) = step(&observed) else { panic!() };
    observed.object.status = Some(*status);
    observed.key = Ok(view(Some(record().apply_all(&[KeyStep::Disable], at(0)).unwrap())));
    let drifted = plan(&observed, &circumstances());
    assert!(matches!(&drifted.step, Step::UpdateKey { steps, .. } if *steps == [KeyStep::Enable]));
    assert_eq!(drifted.events[0].reason, reason::DRIFT_CORRECTED);

    // The same, declared by a new generation of the spec, is not.
    observed.object.metadata.generation = Some(2);
    assert_eq!(plan(&observed, &circumstances()).events[0].reason, reason::KEY_ENABLED);
}

#[test]
fn rule_4_why_an_erasure_waits_is_a_condition() {
    let declared = |held| {
        with(taken_on(pending(366)), |o| {
            o.object.spec.schedule_deletion = Some(true);
            o.held = held;
        })
    };
    for (held, expected) in [
        (Held::No, ("False", reason::NOT_DUE)),
        (Held::Unknown, ("False", reason::NOT_DUE)),
        (Held::For(Hold::ClockSkew), ("True", reason::CLOCK_SKEW)),
        (Held::For(Hold::RateLimited), ("True", reason::PURGE_RATE_LIMITED)),
    ] {
        let Step::WriteStatus(status) = step(&declared(held)) else { panic!() };
        let condition = find(&status.conditions, PURGE_HELD).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected);
        assert_eq!(find(&status.conditions, READY).unwrap().status, "True", "it is as declared all the same");
    }
}

#[test]
fn rule_4_why_an_erasure_waits_is_not_taken_back_by_a_new_leader_before_it_has_looked() {
    let with_date = |date, held, said: Option<CustomerMasterKeyStatus>| {
        let mut record = pending(366);
        record.deletion.as_mut().unwrap().delete_date = at(date);
        with(taken_on(record), |o| {
            o.object.spec.schedule_deletion = Some(true);
            o.held = held;
            o.object.status = said.or(o.object.status.take());
        })
    };
    for hold in Hold::ALL {
        let Step::WriteStatus(said) = step(&with_date(NOW, Held::For(hold), None)) else { panic!() };
        let next = |date, held| plan(&with_date(date, held, Some((*said).clone())), &circumstances());
        for held in [Held::Unknown, Held::For(hold)] {
            let plan = next(NOW, held);
            assert!(matches!(plan.step, Step::Rest) && plan.events.is_empty(), "{hold:?}, {held:?}");
        }
        // Looked at, it does not wait; or its deletion was scheduled anew, so that nothing is due.
        for (date, held) in [(NOW, Held::No), (NOW + 1, Held::Unknown)] {
            let Step::WriteStatus(status) = next(date, held).step else { panic!("{date}, {held:?}") };
            assert_eq!(find(&status.conditions, PURGE_HELD).unwrap().reason, reason::NOT_DUE);
        }
    }
}

#[test]
fn rule_16_a_failure_is_an_event_once() {
    let mut observed = taken_on(tombstone());
    let first = plan(&observed, &circumstances());
    assert_eq!(first.events.len(), 1);
    let Step::WriteStatus(status) = first.step else { panic!() };
    observed.object.status = Some(*status);
    observed.object.metadata.generation = Some(2);
    let again = plan(&observed, &circumstances());
    assert!(matches!(again.step, Step::WriteStatus(_)) && again.events.is_empty(), "the reason is the same");
}
