//! What to do next for a `CustomerMasterKey` that is being deleted (design, rules 4 to 7): its key is scheduled for
//! deletion, or retained, and the object is let go at once, unless DataKeys refer to it.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    describe, gather,
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
    store::{Capabilities, Freshness, KeySlot, StoredKey},
};

/// Decides the next step for an object with a deletion timestamp.
pub fn plan(o: &Observed, c: &Circumstances) -> Plan {
    if !o.has_finalizer() {
        return Plan::just(Step::Rest);
    }
    if let Some(standing) = waits(o) {
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
    // An object that names no key is deleted with the one that was claimed for it, if the pass that did that was
    // interrupted, or somebody took its annotation and its status away.
    let is_its_own = |key: &StoredKey| match claimed {
        Some(claimed) => claimed == key.record.key_id,
        None => o.object.uid().as_ref() == Some(&key.record.owner.uid),
    };
    let mine = view.current.as_ref().filter(|key| {
        is_its_own(key)
            && KeySlot::of_owner(&key.record) == gather::slot(&o.object)
            && o.namespace.as_ref().is_some_and(|n| n.uid == key.record.owner.namespace_uid)
    });
    match (mine, o.freshness) {
        (None, Freshness::Watched) => Plan::just(Step::LookAgain),
        (None, Freshness::Live) => Plan::just(Step::Release),
        (Some(key), _) if key.record.owner.released => match o.alias.claims.first() {
            Some(claim) => Plan::just(Step::ReleaseAlias(claim.clone())),
            None => Plan::just(Step::Release),
        },
        (Some(key), _) => let_go(o, c, key),
    }
}

/// What the deletion of the object waits for. In a namespace that is being deleted it waits for nobody but those
/// who put finalizers on the object themselves.
fn waits(o: &Observed) -> Option<Standing> {
    // Somebody else still works on the object, and may count on the key: ours is the last finalizer to act.
    let others: Vec<_> = o.object.finalizers().iter().filter(|f| *f != metadata::FINALIZER).cloned().collect();
    if !others.is_empty() {
        let message = format!("The key is dealt with when the finalizers {} are gone.", others.join(", "));
        return Some(Standing::waiting(reason::WAITING_FOR_FINALIZERS, message));
    }
    if gather::stays(o.namespace.as_ref()) && !o.data_keys.is_empty() {
        return Some(Standing::waiting(reason::KEY_IN_USE, describe::in_use(&o.data_keys)));
    }
    None
}

fn let_go(o: &Observed, c: &Circumstances, key: &StoredKey) -> Plan {
    let own = o.object.namespace().unwrap_or_default();
    let elsewhere: Vec<_> = o.data_keys.iter().filter(|(namespace, _)| *namespace != own).cloned().collect();
    let keep = if o.store.is_none() {
        Some(format!("The key stays as it is: its key store {} is gone.", o.object.key_store_ref()))
    } else if !elsewhere.is_empty() {
        Some(format!("The key stays as it is, though its namespace is deleted. {}", describe::in_use(&elsewhere)))
    } else {
        None
    };
    let (steps, event) = match keep {
        Some(why) => (releasing(&key.record, Vec::new()), retained(why)),
        None => letting_go(&o.object.spec, &key.record, c.capabilities, c.now),
    };
    Plan { step: Step::UpdateKey { key: key.clone(), steps }, events: vec![event] }
}

/// What the deletion of an object with this spec does to its key, and what to tell people.
pub fn letting_go(
    spec: &CustomerMasterKeySpec,
    record: &KeyRecord,
    capabilities: Capabilities,
    now: Timestamp,
) -> (Vec<KeyStep>, EventNote) {
    let keep = |why| (releasing(record, Vec::new()), retained(why));
    let window = capabilities.pending_deletion_days;
    let days = spec.pending_deletion_days.unwrap_or(window.default);
    if record.is_tombstone() {
        return keep("The key was deleted before; its tombstone stays.".into());
    }
    if spec.deletion_protection.unwrap_or(false) || record.deletion_protection || record.is_service_managed() {
        return keep(describe::retained_by_protection(record, now));
    }
    if spec.effective_deletion_policy() == DeletionPolicy::Retain {
        return keep(describe::retained_by_policy(record, now));
    }
    if !window.allows(days) {
        return keep(format!("The key stays as it is. {}", describe::window_unsupported(days, window)));
    }
    let schedule = match &record.deletion {
        Some(deletion) if deletion.pending_days == days => vec![],
        Some(_) => vec![KeyStep::CancelDeletion, KeyStep::ScheduleDeletion { days }],
        None => vec![KeyStep::ScheduleDeletion { days }],
    };
    let steps = releasing(record, schedule);
    let event = match record.apply_all(&steps, now) {
        Ok(after) => describe::deletion_scheduled(&after, true),
        // The write will be refused for the same reason, and says so.
        Err(error) => retained(format!("The deletion of the key can't be scheduled: {error}.")),
    };
    (steps, event)
}

/// The steps, and those that let the key go: an alias goes with the object.
fn releasing(record: &KeyRecord, mut steps: Vec<KeyStep>) -> Vec<KeyStep> {
    if record.alias.is_some() && !record.is_tombstone() && !record.is_service_managed() {
        steps.push(KeyStep::SetAlias(None));
    }
    steps.push(KeyStep::Release);
    steps
}

fn retained(message: String) -> EventNote {
    EventNote::warning(reason::KEY_RETAINED, "Release", message)
}
