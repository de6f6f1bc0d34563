//! What is next for an alias, as a table (rule 10).

use super::*;
use crate::{
    controller::customer_master_key::alias::{self, AliasStep},
    store::{AliasClaim, AliasSlot},
};

fn slot(alias: &str) -> AliasSlot {
    let store = "ClusterKeyStore/default".into();
    AliasSlot { store, namespace: "shop".into(), alias: alias.into() }
}

fn claim(alias: &str, key_id: Uuid) -> AliasClaim {
    AliasClaim { slot: slot(alias), key_id, revision: Revision { uid: "a".into(), version: "1".into() } }
}

/// What is next for a key that declares `declared`, has `held`, and has claimed `claims`, while `holder` has the
/// declared one.
fn next(declared: &str, held: &str, claims: &[&str], holder: Option<(AliasClaim, bool)>) -> AliasStep {
    let given = |alias: &str| (!alias.is_empty()).then(|| alias.to_owned());
    let record = KeyRecord { alias: given(held), ..record() };
    let observed = with(taken_on(record.clone()), |o| {
        o.object.spec.alias = given(declared);
        o.freshness = Freshness::Live;
        let claims = claims.iter().map(|alias| claim(alias, record.key_id)).collect();
        o.alias = AliasFacts { holder, claims, damaged: None };
    });
    alias::next(&observed, &stored(record), at(NOW))
}

fn set(held: &str, alias: Option<&str>) -> AliasStep {
    let record = KeyRecord { alias: (!held.is_empty()).then(|| held.to_owned()), ..record() };
    let steps = vec![KeyStep::SetAlias(alias.map(str::to_owned))];
    AliasStep::Do(Step::UpdateKey { key: stored(record), steps })
}

#[test]
fn rule_10_claim_then_write_then_release() {
    let (ours, other) = (record().key_id, Uuid::from_u128(9));
    let (a, b) = ("alias/a", "alias/b");
    let held_by = |key, is_void| Some((claim(a, key), is_void));
    let claiming = AliasStep::Do(Step::ClaimAlias { slot: slot(a), key_id: ours });
    let releasing = |alias, key| AliasStep::Do(Step::ReleaseAlias(claim(alias, key)));
    let cases = [
        ("none declared", next("", "", &[], None), AliasStep::Settled),
        ("a new one", next("a", "", &[], None), claiming),
        ("claimed", next("a", "", &[a], held_by(ours, false)), set("", Some(a))),
        ("written", next("a", a, &[a], held_by(ours, false)), AliasStep::Settled),
        ("changed, and claimed", next("a", b, &[a, b], held_by(ours, false)), set(b, Some(a))),
        ("the old one is left", next("a", a, &[a, b], held_by(ours, false)), releasing(b, ours)),
        ("taken out", next("", a, &[a], None), set(a, None)),
        ("and released", next("", "", &[a], None), releasing(a, ours)),
        ("taken", next("a", "", &[], held_by(other, false)), AliasStep::Taken(claim(a, other))),
        ("taken, with an old one", next("a", b, &[b], held_by(other, false)), AliasStep::Taken(claim(a, other))),
        ("taken by one that is gone", next("a", "", &[], held_by(other, true)), releasing(a, other)),
        ("ours by the record, another's by claim", next("a", a, &[], held_by(other, false)), set(a, None)),
    ];
    for (name, got, expected) in cases {
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn rule_10_what_waits_and_what_is_looked_at_again() {
    let other = claim("alias/a", Uuid::from_u128(9));
    let watched = with(taken_on(record()), |o| {
        o.object.spec.alias = Some("a".into());
        o.alias.holder = Some((other, false));
    });
    assert_eq!(step(&watched), Step::LookAgain, "nothing is called taken before it was looked for");
    let live = with(watched, |o| o.freshness = Freshness::Live);
    assert_eq!(said(&live, &circumstances()), (reason::ALIAS_CONFLICT.to_owned(), [false, true, false]));

    let damaged = with(taken_on(record()), |o| {
        o.object.spec.alias = Some("a".into());
        o.alias.damaged = Some("s".into());
    });
    assert_eq!(said(&damaged, &circumstances()).0, reason::RECORD_TAMPERED);
    let pending = with(taken_on(pending(366)), |o| {
        o.object.spec.alias = Some("a".into());
        o.object.spec.schedule_deletion = Some(true);
    });
    assert_eq!(said(&pending, &circumstances()).0, reason::REJECTED_PENDING_DELETION);
}
