//! What to do next for a `CustomerMasterKey` that is being deleted (design, rules 4 and 5): its key is
//! scheduled for deletion, or retained, and the object is let go at once.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    describe,
    plan::{Circumstances, Observed, Plan, Step},
};
use crate::{
    api::{
        CustomerMasterKeySpec,
        conditions::{Standing, reason},
        customer_master_key::DeletionPolicy,
        metadata,
    },
    cluster::EventNote,
    kms::{KeyRecord, KeyStep},
    store::{Capabilities, Freshness, StoredKey},
};

/// Decides the next step for an object with a deletion timestamp.
pub fn plan(o: &Observed, c: &Circumstances) -> Plan {
    if !o.has_finalizer() {
        return Plan::just(Step::Rest);
    }
    // Somebody else still works on the object, and may count on the key: ours is the last finalizer to act.
    let others: Vec<_> = o.object.finalizers().iter().filter(|f| *f != metadata::FINALIZER).cloned().collect();
    if !others.is_empty() {
        let message = format!("The key is dealt with when the finalizers {} are gone.", others.join(", "));
        let standing = Standing::waiting(reason::WAITING_FOR_FINALIZERS, message);
        let key = o.key.as_ref().ok().and_then(|view| view.current.as_ref());
        return describe::status(o, key, &standing, c.now);
    }

    let view = match &o.key {
        Ok(view) => view,
        Err(error) => {
            let message = format!("The key is left as it is: {error}.");
            return Plan { step: Step::Release, events: vec![retained(message)] };
        }
    };
    let claimed = o.claimed_id(view);
    let mine = view.current.as_ref().filter(|key| {
        claimed == Some(key.record.key_id)
            && o.namespace.as_ref().is_some_and(|n| n.uid == key.record.owner.namespace_uid)
    });
    match (mine, o.freshness) {
        (None, Freshness::Watched) => Plan::just(Step::LookAgain),
        (None, Freshness::Live) => Plan::just(Step::Release),
        (Some(key), _) if key.record.owner.released => Plan::just(Step::Release),
        (Some(key), _) => let_go(o, c, key),
    }
}

fn let_go(o: &Observed, c: &Circumstances, key: &StoredKey) -> Plan {
    let (steps, event) = letting_go(&o.object.spec, &key.record, c.capabilities, c.now);
    Plan { step: Step::UpdateKey { key: key.clone(), steps }, events: vec![event] }
}

/// What the deletion of an object with this spec does to its key, and what to tell people.
pub fn letting_go(
    spec: &CustomerMasterKeySpec,
    record: &KeyRecord,
    capabilities: Capabilities,
    now: Timestamp,
) -> (Vec<KeyStep>, EventNote) {
    let keep = |why| (vec![KeyStep::Release], retained(why));
    let window = capabilities.pending_deletion_days;
    let days = spec.pending_deletion_days.unwrap_or(window.default);
    if record.is_tombstone() {
        return keep("The key was deleted before; its tombstone stays.".into());
    }
    if spec.deletion_policy.unwrap_or_default() == DeletionPolicy::Retain {
        return keep(describe::retained_by_policy(record));
    }
    if !window.allows(days) {
        return keep(format!("The key stays as it is. {}", describe::window_unsupported(days, window)));
    }
    let mut steps = match &record.deletion {
        Some(deletion) if deletion.pending_days == days => vec![],
        Some(_) => vec![KeyStep::CancelDeletion, KeyStep::ScheduleDeletion { days }],
        None => vec![KeyStep::ScheduleDeletion { days }],
    };
    steps.push(KeyStep::Release);
    let event = match record.apply_all(&steps, now) {
        Ok(after) => describe::deletion_scheduled(&after, true),
        // The write will be refused for the same reason, and says so.
        Err(error) => retained(format!("The deletion of the key can't be scheduled: {error}.")),
    };
    (steps, event)
}

fn retained(message: String) -> EventNote {
    EventNote::warning(reason::KEY_RETAINED, "Release", message)
}
