//! What becomes of a key whose object is deleted, as tables (rules 5 to 7).

use super::*;

fn deleting(record: KeyRecord) -> Observed {
    with(taken_on(record), |o| o.object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)))
}

#[test]
fn rule_5_a_deleted_object_schedules_or_retains_and_goes() {
    let schedule = |days| KeyStep::ScheduleDeletion { days };
    let days = |days| move |o: &mut Observed| o.object.spec.pending_deletion_days = Some(days);
    let rows = [
        ("default window", deleting(record()), vec![schedule(366), KeyStep::Release]),
        ("its window", with(deleting(record()), days(7)), vec![schedule(7), KeyStep::Release]),
        ("scheduled before", with(deleting(pending(7)), days(7)), vec![KeyStep::Release]),
        (
            "scheduled with another window",
            with(deleting(pending(7)), days(8)),
            vec![KeyStep::CancelDeletion, schedule(8), KeyStep::Release],
        ),
        (
            "retained",
            with(deleting(record()), |o| o.object.spec.deletion_policy = Some(DeletionPolicy::Retain)),
            vec![KeyStep::Release],
        ),
        ("a window the store does not take", with(deleting(record()), days(400)), vec![KeyStep::Release]),
        ("erased before", deleting(tombstone()), vec![KeyStep::Release]),
    ];
    for (name, observed, expected) in rows {
        assert_eq!(steps(&observed), expected, "{name}");
        // Applied, the object is let go at the next step.
        let after = observed.key.as_ref().unwrap().current.clone().unwrap();
        let after = after.record.apply_all(&expected, at(NOW)).unwrap();
        assert_eq!(step(&with(observed, |o| o.key = Ok(view(Some(after))))), Step::Release, "{name}");
    }
}

#[test]
fn rule_5_a_deleted_object_whose_key_is_not_its_own_touches_nothing() {
    let live = |o: &mut Observed| o.freshness = Freshness::Live;
    let rows = [
        ("no record", with(deleting(record()), |o| o.key = Ok(view(None)))),
        ("a namespace made anew", with(deleting(record()), |o| o.namespace.as_mut().unwrap().uid = "x".into())),
        ("another key's annotation", with(deleting(record()), |o| annotate(o, metadata::KEY_ID, Uuid::from_u128(9)))),
    ];
    for (name, observed) in rows {
        assert_eq!(step(&observed), Step::LookAgain, "{name}");
        assert_eq!(step(&with(observed, live)), Step::Release, "{name}");
    }
    let damaged = with(deleting(record()), |o| o.key = Err(StoreError::Tampered { secret: "s".into() }));
    assert_eq!(step(&damaged), Step::Release, "nobody is held up by a damaged record");
}

/// A pass that was interrupted between making another key and saying so: found by the model (tests/model).
#[test]
fn rule_5_a_deleted_object_that_names_no_key_lets_the_one_made_for_it_go() {
    let silent = with(deleting(record()), |o| o.object.metadata.annotations = None);
    assert_eq!(steps(&silent), [KeyStep::ScheduleDeletion { days: 366 }, KeyStep::Release]);
    let of_another = with(silent, |o| {
        o.object.metadata.uid = Some("another".into());
        o.freshness = Freshness::Live;
    });
    assert_eq!(step(&of_another), Step::Release);
}

#[test]
fn rule_5_other_finalizers_come_first() {
    let mut observed = with(deleting(record()), |o| o.object.metadata.finalizers.as_mut().unwrap().push("x/y".into()));
    assert_eq!(said(&observed, &circumstances()).0, reason::WAITING_FOR_FINALIZERS);
    observed.object.metadata.finalizers = Some(vec!["x/y".into()]);
    assert_eq!(step(&observed), Step::Rest, "ours is gone: nothing is ours to do");
}

#[test]
fn rule_6_a_key_in_use_waits_but_not_for_its_namespace() {
    let used =
        |namespace: &str| with(deleting(record()), |o| o.data_keys = vec![(namespace.to_owned(), "dek".to_owned())]);
    let terminating = |o: &mut Observed| o.namespace.as_mut().unwrap().terminating = true;
    assert_eq!(said(&used("shop"), &circumstances()), (reason::KEY_IN_USE.to_owned(), [false, true, false]));
    assert_eq!(said(&used("elsewhere"), &circumstances()).0, reason::KEY_IN_USE);

    let schedule = KeyStep::ScheduleDeletion { days: 366 };
    assert_eq!(steps(&with(used("shop"), terminating)), [schedule, KeyStep::Release]);
    let retained = plan(&with(used("elsewhere"), terminating), &circumstances());
    assert!(matches!(&retained.step, Step::UpdateKey { steps, .. } if *steps == [KeyStep::Release]));
    assert_eq!(retained.events[0].reason, reason::KEY_RETAINED);
    let without_store = with(deleting(record()), |o| o.store = None);
    assert_eq!(steps(&without_store), [KeyStep::Release], "retained");
}

#[test]
fn rule_7_a_protected_key_whose_object_goes_is_retained() {
    let protected = KeyRecord { deletion_protection: true, ..record() };
    let service = KeyRecord { alias: Some("alias/acs/DataKey".into()), ..record() };
    for (name, observed) in [
        ("by its record", deleting(protected)),
        ("by its spec", with(deleting(record()), |o| o.object.spec.deletion_protection = Some(true))),
        ("service-managed", deleting(service)),
    ] {
        let decided = plan(&observed, &circumstances());
        assert!(matches!(&decided.step, Step::UpdateKey { steps, .. } if *steps == [KeyStep::Release]), "{name}");
        assert_eq!(decided.events[0].reason, reason::KEY_RETAINED, "{name}");
    }
}
