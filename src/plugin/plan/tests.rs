//! Simulated courses, from what is observed to what is said about it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    report::{Action, Effect, Entry, Report, action, effects, not_ready},
    simulate::{Course, World, simulate},
};
use crate::{
    api::{ClusterKeyStoreSpec, CustomerMasterKey, metadata},
    cluster::{KeyStoreView, NamespaceView},
    controller::{
        customer_master_key::{AliasFacts, plan::Observed},
        purge::Held,
    },
    kms::{
        KeyRecord, KeyStep, Origin,
        key_record::tests::{at, record},
    },
    plugin::output::Paint,
    store::{AliasClaim, AliasSlot, Freshness, Revision, SlotView, StoredKey, embedded::inspect::CAPABILITIES},
};

/// The object of `record()`, taken on, with this spec.
fn object(spec: &Value) -> CustomerMasterKey {
    serde_json::from_value(json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
        "metadata": {
            "name": "orders", "namespace": "shop", "uid": "uid", "resourceVersion": "7", "generation": 2,
            "finalizers": [metadata::FINALIZER], "annotations": {metadata::KEY_ID: record().key_id.to_string()},
        },
        "spec": spec,
    }))
    .unwrap()
}

fn revision() -> Revision {
    Revision { uid: "r".into(), version: "1".into() }
}

fn observed(object: CustomerMasterKey, record: Option<KeyRecord>) -> Observed {
    let current = record.map(|record| StoredKey { record: Arc::new(record), revision: revision() });
    Observed {
        object,
        namespace: Some(NamespaceView {
            uid: "ns-uid".into(),
            terminating: false,
            adopt_keys: false,
            labels: BTreeMap::new(),
        }),
        store: Some(KeyStoreView::from(&ClusterKeyStoreSpec::default())),
        key: Ok(SlotView { current, ..SlotView::default() }),
        freshness: Freshness::Live,
        held: Held::Unknown,
        alias: AliasFacts::default(),
        owner_is_gone: false,
        data_keys: Vec::new(),
        import_problem: None,
    }
}

const NOW: i64 = 2000;

fn course_with(observed: Observed, material_is_there: bool) -> Course {
    simulate(observed, World { capabilities: CAPABILITIES, now: at(NOW), material_is_there }).unwrap()
}

fn course(observed: Observed) -> Course {
    course_with(observed, true)
}

fn said(course: &Course) -> Vec<(String, bool)> {
    effects(course, at(NOW)).into_iter().map(|effect| (effect.what, effect.destructive)).collect()
}

fn after_steps(steps: &[KeyStep]) -> KeyRecord {
    record().apply_all(steps, at(1500)).unwrap()
}

#[test]
fn a_new_object_makes_a_key() {
    let mut new = object(&json!({"enabled": false, "alias": "orders"}));
    new.metadata.finalizers = None;
    new.metadata.annotations = None;
    let course = course(observed(new, None));
    let what: Vec<_> = said(&course).into_iter().map(|(what, _)| what).collect();
    assert_eq!(what[..2], ["create key", "disabled"]);
    assert_eq!(action(true, &effects(&course, at(NOW)), &[]), Action::Create, "nobody can have used it");
}

#[test]
fn changes_are_told_with_what_is_lost_by_them() {
    let date = at(NOW + 30 * 86_400).to_string();
    let scheduled = || after_steps(&[KeyStep::ScheduleDeletion { days: 7 }]);
    type Row = (&'static str, Value, KeyRecord, Vec<(String, bool)>);
    let rows: [Row; 8] = [
        ("nothing", json!({}), record(), vec![]),
        ("a description", json!({"description": "x"}), record(), vec![("set description".into(), false)]),
        ("disabling", json!({"enabled": false}), record(), vec![("disable".into(), true)]),
        ("enabling", json!({}), after_steps(&[KeyStep::Disable]), vec![("enable".into(), false)]),
        (
            "a deletion",
            json!({"scheduleDeletion": true, "pendingDeletionDays": 30}),
            record(),
            vec![(format!("schedule deletion at {date}"), true)],
        ),
        (
            "another window",
            json!({"scheduleDeletion": true, "pendingDeletionDays": 30}),
            scheduled(),
            vec![(format!("move the deletion to {date}"), true)],
        ),
        ("no deletion after all", json!({}), scheduled(), vec![("cancel deletion".into(), false)]),
        ("rotation", json!({"rotationIntervalDays": 90}), record(), vec![("rotate every 90 days".into(), false)]),
    ];
    for (case, spec, record, expected) in rows {
        let course = course(observed(object(&spec), Some(record)));
        assert_eq!(said(&course), expected, "{case}");
        assert_eq!(not_ready(&course), None, "{case}");
    }
}

#[test]
fn giving_a_key_up_is_a_loss_and_makes_another_one() {
    let mut abandoning = object(&json!({}));
    let id = record().key_id;
    abandoning.metadata.annotations.get_or_insert_default().insert(metadata::ABANDON_KEY.into(), id.to_string());
    let course = course(observed(abandoning, Some(record())));
    assert_eq!(said(&course), [(format!("abandon key {id}"), true), ("create key".into(), false)]);
}

#[test]
fn an_alias_is_claimed_moved_and_may_be_taken() {
    let slot = |alias: &str| AliasSlot {
        store: "ClusterKeyStore/default".into(),
        namespace: "shop".into(),
        alias: alias.into(),
    };
    let claim = |alias, key_id| AliasClaim { slot: slot(alias), key_id, revision: revision() };
    let own = record().key_id;
    let held = after_steps(&[KeyStep::SetAlias(Some("alias/a".into()))]);

    let new = course(observed(object(&json!({"alias": "b"})), Some(record())));
    assert_eq!(said(&new), [("set alias/b".into(), false)]);

    let mut moves = observed(object(&json!({"alias": "b"})), Some(held));
    moves.alias.claims = vec![claim("alias/a", own)];
    let moves = course(moves);
    assert_eq!(said(&moves), [("set alias/b".into(), false)]);
    assert_eq!(moves.end.alias.claims.len(), 1, "the old one is given up");

    let mut taken = observed(object(&json!({"alias": "b"})), Some(record()));
    taken.alias.holder = Some((claim("alias/b", uuid::Uuid::from_u128(99)), false));
    let taken = course(taken);
    assert_eq!(not_ready(&taken).unwrap().0, "AliasConflict");
}

#[test]
fn rule_9_material_is_imported_if_its_secret_is_there_and_deleted_with_a_loss() {
    let external = KeyRecord { origin: Origin::External, versions: Vec::new(), ..record() };
    let declared = json!({
        "origin": "EXTERNAL", "importedKeyMaterial": {"secretRef": {"name": "m", "key": "material"}},
    });
    let there = course(observed(object(&declared), Some(external.clone())));
    assert_eq!(said(&there), [("import the material in Secret m".into(), false)]);
    assert_eq!(not_ready(&there), None);

    let missing = course_with(observed(object(&declared), Some(external)), false);
    assert_eq!(not_ready(&missing).unwrap().0, "MaterialNotFound");
    assert_eq!(said(&missing), []);

    let Ok(SlotView { current: Some(imported), .. }) = there.end.key else { panic!("no key") };
    let removed = course(observed(object(&json!({"origin": "EXTERNAL"})), Some((*imported.record).clone())));
    assert_eq!(said(&removed), [("delete material".into(), true)]);
}

#[test]
fn what_stalls_is_said() {
    let mut elsewhere = observed(object(&json!({})), Some(record()));
    elsewhere.namespace.as_mut().unwrap().uid = "another".into();
    elsewhere.object.metadata.uid = Some("another object".into());
    let course = course(elsewhere);
    assert_eq!(said(&course), []);
    assert_eq!(not_ready(&course).unwrap().0, "NamespaceRecreated");
}

fn entry(action: Action, what: &str) -> Entry {
    let effects = if what.is_empty() { vec![] } else { vec![Effect { what: what.into(), destructive: false }] };
    Entry {
        kind: "CustomerMasterKey".into(),
        namespace: "shop".into(),
        name: "orders".into(),
        source: "f".into(),
        action,
        effects,
        changed_fields: vec![],
        used_by: vec![],
        not_ready: None,
        unknown: None,
        assumptions: vec![],
        error: None,
    }
}

#[test]
fn the_exit_status_is_that_of_the_worst() {
    use Action::{Change, Create, Destroy, Error, Unchanged};
    let table: [(&[Action], u8); 7] = [
        (&[], 0),
        (&[Unchanged, Unchanged], 0),
        (&[Unchanged, Create], 2),
        (&[Change, Unchanged], 2),
        (&[Change, Destroy], 3),
        (&[Create, Destroy], 3),
        (&[Destroy, Error], 1),
    ];
    for (actions, expected) in table {
        let plan = actions.iter().map(|action| entry(*action, "")).collect();
        assert_eq!(Report { plan, skipped: 0 }.exit_status(), expected, "{actions:?}");
    }
}

#[test]
fn lines_are_for_people() {
    let mut lost = entry(Action::Destroy, "disable");
    lost.used_by = vec!["DataKey shop/dek".into()];
    let mut stalled = entry(Action::Unchanged, "");
    stalled.not_ready = Some(("AliasConflict".into(), "Taken.".into()));
    stalled.assumptions = vec!["all is well".into()];
    let report = Report { plan: vec![entry(Action::Create, "create key"), lost, stalled], skipped: 2 };
    assert_eq!(
        report.text(Paint::fixed(false)),
        "+ shop/orders  create key\n\
         ! shop/orders  disable\n    used by DataKey shop/dek\n\
         = shop/orders  unchanged\n    then not Ready, AliasConflict: Taken.\n\n\
         Taken for granted:\n  all is well (shop/orders)\n\n\
         Plan: 1 to create, 1 with loss, 1 unchanged, 2 of other kinds passed over.\n"
    );
}
