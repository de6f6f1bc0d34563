//! What to do next for a `CustomerMasterKey` that is being deleted (design, rules 4 and 5): its key is
//! scheduled for deletion, or retained, and the object is let go at once.

use kube::ResourceExt;

use super::{
    describe,
    plan::{Circumstances, Observed, Plan, Step},
};
use crate::{
    api::{
        conditions::{Standing, reason},
        customer_master_key::DeletionPolicy,
        metadata,
    },
    cluster::EventNote,
    kms::KeyStep,
    store::{Freshness, StoredKey},
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
    let record = &key.record;
    let days = o.desired(c).pending_deletion_days;
    let update = |mut steps: Vec<KeyStep>, event| {
        steps.push(KeyStep::Release);
        Plan { step: Step::UpdateKey { key: key.clone(), steps }, events: vec![event] }
    };
    if record.is_tombstone() {
        return update(vec![], retained("The key was deleted before; its tombstone stays.".into()));
    }
    if o.object.spec.deletion_policy.unwrap_or_default() == DeletionPolicy::Retain {
        return update(vec![], retained(describe::retained_by_policy(record)));
    }
    if !c.capabilities.pending_deletion_days.allows(days) {
        let message = describe::window_unsupported(&o.desired(c), c.capabilities);
        let why = message.failure().map(|(_, why)| why.to_owned()).unwrap_or_default();
        return update(vec![], retained(format!("The key stays as it is. {why}")));
    }
    let steps = match &record.deletion {
        Some(deletion) if deletion.pending_days == days => vec![],
        Some(_) => vec![KeyStep::CancelDeletion, KeyStep::ScheduleDeletion { days }],
        None => vec![KeyStep::ScheduleDeletion { days }],
    };
    let event = match record.apply_all(&steps, c.now) {
        Ok(after) => describe::deletion_scheduled(&after, true),
        // The write will be refused for the same reason, and says so.
        Err(error) => retained(format!("The deletion of the key can't be scheduled: {error}.")),
    };
    update(steps, event)
}

fn retained(message: String) -> EventNote {
    EventNote::warning(reason::KEY_RETAINED, "Release", message)
}
