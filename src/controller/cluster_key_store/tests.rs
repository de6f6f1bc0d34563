//! `plan` as tables.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::plan::{Observed, Plan, plan};
use crate::{
    api::{
        ClusterKeyStore, ClusterKeyStoreSpec,
        cluster_key_store::OrphanedKeys,
        conditions::{IN_USE, READY, RECONCILING, STALLED, find, reason},
    },
    kms::{key_record::tests::at, limits::PendingDeletionDays},
    store::Capabilities,
};

fn can() -> Capabilities {
    Capabilities {
        pending_deletion_days: PendingDeletionDays::EMBEDDED,
        rotation_interval_days: Some((7, 2560)),
        import: true,
    }
}

fn observed(spec: Value) -> Observed {
    let spec: ClusterKeyStoreSpec = serde_json::from_value(spec).unwrap();
    let mut object = ClusterKeyStore::new("default", spec);
    object.metadata.generation = Some(1);
    Observed { object, in_use: false, orphaned_keys: Some(OrphanedKeys::default()) }
}

/// The object after the pass.
fn passed(mut observed: Observed) -> Observed {
    if let Some(status) = plan(&observed, can(), at(0)).status {
        observed.object.status = Some(status);
    }
    observed
}

#[test]
fn a_store_says_what_it_can_do() {
    let status = plan(&observed(json!({"embedded": {}})), can(), at(0)).status.unwrap();
    let status = serde_json::to_value(status).unwrap();
    assert_eq!(
        status["capabilities"],
        json!({
            "pendingDeletionDays": {"min": 7, "max": 366, "default": 366},
            "rotationIntervalDays": {"min": 7, "max": 2560},
            "import": true,
        })
    );
    assert_eq!(status["orphanedKeys"], json!({"count": 0}));
    let poor = Capabilities { rotation_interval_days: None, import: false, ..can() };
    let status = plan(&observed(json!({"embedded": {}})), poor, at(0)).status.unwrap();
    let said = status.capabilities.unwrap();
    assert_eq!((said.rotation_interval_days, said.import), (None, false));
}

#[test]
fn rule_16_the_conditions_of_a_store() {
    let rows = [
        ("embedded", json!({"embedded": {}}), [true, false, false], reason::AS_DECLARED, 0),
        ("of a newer version", json!({}), [false, false, true], reason::UNKNOWN_PROVIDER, 1),
    ];
    for (name, spec, expected, why, news) in rows {
        let Plan { status: Some(status), events } = plan(&observed(spec), can(), at(0)) else { panic!("{name}") };
        let is = |type_| find(&status.conditions, type_).unwrap().status == "True";
        assert_eq!([is(READY), is(RECONCILING), is(STALLED)], expected, "{name}");
        assert_eq!(find(&status.conditions, READY).unwrap().reason, why, "{name}");
        assert_eq!(events.len(), news, "{name}");
        let types: HashSet<_> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, HashSet::from([READY, RECONCILING, STALLED, IN_USE]), "{name}");
        assert!(status.conditions.iter().all(|c| c.observed_generation == Some(1)), "{name}");
    }
}

#[test]
fn rule_16_a_pass_over_a_store_that_did_not_change_writes_nothing() {
    let spec = json!({"embedded": {"region": "eu-central-1"}});
    for in_use in [false, true] {
        let mut observed = passed(Observed { in_use, ..observed(spec.clone()) });
        assert_eq!(plan(&observed, can(), at(1000)), Plan::default());
        observed.in_use = !in_use;
        let status = plan(&observed, can(), at(1000)).status.unwrap();
        let says = find(&status.conditions, IN_USE).unwrap();
        let expected = if in_use { ("False", reason::EMPTY) } else { ("True", reason::HOLDS_KEYS) };
        assert_eq!((says.status.as_str(), says.reason.as_str()), expected);
    }
}

#[test]
fn rule_1_what_the_last_operator_found_orphaned_is_said_until_this_one_has_looked() {
    let found = OrphanedKeys { count: 2, newest: Vec::new() };
    let mut observed = passed(Observed { orphaned_keys: Some(found), ..observed(json!({"embedded": {}})) });
    observed.orphaned_keys = None;
    assert_eq!(plan(&observed, can(), at(1)), Plan::default());
    observed.orphaned_keys = Some(OrphanedKeys::default());
    assert_eq!(plan(&observed, can(), at(1)).status.unwrap().orphaned_keys.unwrap().count, 0);
}
