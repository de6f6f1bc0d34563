//! What is said about a key: its status, its conditions, its Events. Every sentence says what is, and where
//! something is wrong, what to do.

mod events;
mod metadata;
mod sentences;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use events::{abandoned, changes, created, deletion_scheduled, imported, replaced_in_new_namespace};
pub use sentences::{
    adopted_by_another, alias, blocked, immutable_difference, in_use, key_deleted, key_has_owner,
    key_store_not_allowed, material, material_not_declared, namespace_recreated, no_key_store, nothing_to_adopt, ready,
    record_missing, retained_by_policy, retained_by_protection, rotation, store_error, unsupported, window_unsupported,
};

use super::plan::{Observed, Plan, Step};
use crate::{
    api::{
        CustomerMasterKeyStatus,
        conditions::{self, Finding, PURGE_HELD, Standing, reason},
    },
    cluster::EventNote,
    controller::{
        events::news,
        purge::{Held, Hold},
    },
    kms::{KeyRecord, KeyState},
    store::StoredKey,
};

/// The plan that writes what there is to say, if it differs from what was said. A failure that is new, or has
/// a new reason, is an Event too.
pub fn status(o: &Observed, key: Option<&StoredKey>, standing: &Standing, now: Timestamp) -> Plan {
    let before = o.object.status.clone().unwrap_or_default();
    let mut findings = standing.findings();
    if let Some(key) = key
        && key.record.state(now) == KeyState::PendingDeletion
        && !key.record.is_tombstone()
    {
        findings.push(purge_held(o.held, &key.record, &before.conditions, now));
    }
    let generation = o.object.metadata.generation;
    let after = CustomerMasterKeyStatus {
        observed_generation: generation,
        key_store_ref: Some(o.object.key_store_ref()),
        alias: match key {
            Some(key) if key.record.is_tombstone() => None,
            Some(key) => key.record.alias.clone(),
            None => before.alias.clone(),
        },
        last_handled_rotation: match key {
            Some(key) => key.record.last_handled_rotation.clone(),
            None => before.last_handled_rotation.clone(),
        },
        // A key whose record can't be found or read keeps the metadata last seen: its id is what one looks for.
        key_metadata: key.map(|k| metadata::key_metadata(&k.record, now)).or(before.key_metadata.clone()),
        key_versions: key.map_or(before.key_versions.clone(), |k| metadata::key_versions(&k.record)),
        conditions: conditions::conditions(&findings, &before.conditions, generation, now),
    };
    let mut events = news(standing, &before.conditions);
    events.extend(held(&findings, &before.conditions));
    if o.object.status.as_ref() == Some(&after) {
        return Plan::just(Step::Rest);
    }
    Plan { step: Step::WriteStatus(Box::new(after)), events }
}

/// The Event about an erasure that is due and waits, once for each reason.
fn held(findings: &[Finding], before: &[Condition]) -> Option<EventNote> {
    let held = findings.iter().find(|finding| finding.type_ == PURGE_HELD && finding.status)?;
    let is_known = conditions::find(before, PURGE_HELD).is_some_and(|known| known.reason == held.reason);
    (!is_known).then(|| EventNote::warning(held.reason, "DeleteKey", held.message.clone()))
}

/// What is not known yet is as it was said before: of a key that is due, as no other waits.
fn purge_held(held: Held, record: &KeyRecord, before: &[Condition], now: Timestamp) -> Finding {
    let hold = match held {
        Held::For(hold) => Some(hold),
        Held::Unknown if record.is_due(now) => said_hold(before),
        Held::Unknown | Held::No => None,
    };
    match hold {
        None => Finding::new(PURGE_HELD, false, reason::NOT_DUE, ""),
        Some(Hold::ClockSkew) => Finding::new(
            PURGE_HELD,
            true,
            Hold::ClockSkew.reason(),
            "The key is due, but the operator's clock and the API server's differ by more than \
             --clock-skew-tolerance: nothing is erased until they agree.",
        ),
        Some(Hold::RateLimited) => Finding::new(
            PURGE_HELD,
            true,
            Hold::RateLimited.reason(),
            "The key is due, but as many keys as may be erased in an hour were. If this is not meant, cancel the \
             deletion: set scheduleDeletion to false.",
        ),
    }
}

/// Why the key waits, as it was said.
fn said_hold(before: &[Condition]) -> Option<Hold> {
    let said = conditions::find(before, PURGE_HELD).filter(|said| said.status == "True")?;
    Hold::ALL.into_iter().find(|hold| hold.reason() == said.reason)
}
