//! What to do next for a `CustomerMasterKey`: a pure function of what was observed.

use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use super::{describe, gather, removal};
use crate::{
    api::{
        CustomerMasterKey, CustomerMasterKeyStatus,
        conditions::{Standing, reason},
        metadata,
    },
    cluster::{EventNote, NamespaceView},
    controller::purge::Hold,
    kms::{DesiredKey, KeyStep, Owner, desired_key::Course},
    store::{Capabilities, Freshness, NewKey, SlotView, StoreError, StoredKey},
};

/// Everything that decides.
#[derive(Debug)]
pub struct Observed {
    /// The object.
    pub object: CustomerMasterKey,
    /// Its namespace; None if it is gone.
    pub namespace: Option<NamespaceView>,
    /// What the key store holds for it, or why that can't be used.
    pub key: Result<SlotView, StoreError>,
    /// How fresh that is.
    pub freshness: Freshness,
    /// Why the erasure of its key, which is due, waits.
    pub held: Option<Hold>,
}

/// What does not come from observation.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// What the key store can do.
    pub capabilities: Capabilities,
    /// No new keys are to be made (design, rule 20).
    pub no_new_keys: bool,
    /// The identifiers that a new key would get.
    pub fresh: FreshIds,
    /// The time.
    pub now: Timestamp,
}

/// Random identifiers for a new key.
#[derive(Clone, Copy, Debug)]
pub struct FreshIds {
    /// Of the key.
    pub key: Uuid,
    /// Of its first version.
    pub version: Uuid,
}

/// The next step.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Read the key store past its cache, and plan again: something is about to be called missing.
    LookAgain,
    /// Make the key.
    CreateKey(Box<NewKey>),
    /// Change the key, in one write.
    UpdateKey {
        /// The key as observed.
        key: StoredKey,
        /// The changes.
        steps: Vec<KeyStep>,
    },
    /// Add the finalizer and the annotation with the key's id, in one patch (rule 1).
    TakeOn {
        /// The key's id.
        key_id: Uuid,
    },
    /// Remove the finalizer.
    Release,
    /// Write the status.
    WriteStatus(Box<CustomerMasterKeyStatus>),
    /// Nothing.
    Rest,
}

/// The next step, and what to tell people when it is done.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// What to do.
    pub step: Step,
    /// Events to write after that.
    pub events: Vec<EventNote>,
}

impl Plan {
    pub(super) fn just(step: Step) -> Self {
        Self { step, events: Vec::new() }
    }
}

/// Decides the next step.
#[must_use]
pub fn plan(observed: &Observed, circumstances: &Circumstances) -> Plan {
    if observed.object.metadata.deletion_timestamp.is_some() {
        return removal::plan(observed, circumstances);
    }
    match next(observed, circumstances) {
        Next::Act(plan) => plan,
        Next::Say { key, standing } => describe::status(observed, key, &standing, circumstances.now),
    }
}

/// Either something is to be done, or only to be said.
enum Next<'a> {
    Act(Plan),
    Say { key: Option<&'a StoredKey>, standing: Standing },
}

fn next<'a>(o: &'a Observed, c: &Circumstances) -> Next<'a> {
    let view = match &o.key {
        Ok(view) => view,
        Err(error) => return Next::Say { key: None, standing: describe::store_error(error) },
    };
    let say = |key, standing| Next::Say { key, standing };
    let claimed = o.claimed_id(view);

    // A record that does not go with what the object says: it is looked for once more before that is said.
    let found = view.current.as_ref().map(|key| key.record.key_id);
    if let Some(claimed) = claimed
        && found != Some(claimed)
    {
        return match o.freshness {
            Freshness::Watched => Next::Act(Plan::just(Step::LookAgain)),
            Freshness::Live => say(None, describe::record_missing(claimed, found)),
        };
    }

    let desired = o.desired(c);
    let window = c.capabilities.pending_deletion_days;
    if !window.allows(desired.pending_deletion_days) {
        let message = describe::window_unsupported(desired.pending_deletion_days, window);
        return say(view.current.as_ref(), Standing::stalled(reason::UNSUPPORTED_BY_KEY_STORE, message));
    }
    match &view.current {
        None => match o.creation_forbidden(c) {
            Some(standing) => say(None, standing),
            None => {
                let events = describe::created(&desired);
                Next::Act(Plan { step: Step::CreateKey(Box::new(o.new_key(view, desired, c))), events })
            }
        },
        Some(key) => next_for_key(o, c, key, &desired),
    }
}

fn next_for_key<'a>(o: &'a Observed, c: &Circumstances, key: &'a StoredKey, desired: &DesiredKey) -> Next<'a> {
    let record = &key.record;
    let stalled = |reason, message: String| Next::Say { key: Some(key), standing: Standing::stalled(reason, message) };
    let update = |steps, events| Next::Act(Plan { step: Step::UpdateKey { key: key.clone(), steps }, events });

    if o.abandoned_id() == Some(record.key_id) {
        if let Some(standing) = o.creation_forbidden(c) {
            return Next::Say { key: Some(key), standing };
        }
        return update(vec![KeyStep::Abandon], vec![describe::abandoned(record)]);
    }
    if record.is_tombstone() {
        return stalled(reason::KEY_DELETED, describe::key_deleted(record));
    }
    if let Some(difference) = describe::immutable_difference(&o.object.spec, record) {
        return stalled(reason::IMMUTABLE_FIELD_CHANGED, difference);
    }
    let same_namespace = o.namespace.as_ref().is_some_and(|n| n.uid == record.owner.namespace_uid);
    let may_adopt = o.namespace.as_ref().is_some_and(|n| n.adopt_keys);
    if !same_namespace && !may_adopt {
        return stalled(reason::NAMESPACE_RECREATED, describe::namespace_recreated(record));
    }

    let claim =
        (!same_namespace || record.owner.released || Some(&record.owner.uid) != o.object.uid().as_ref()).then(|| {
            KeyStep::Claim {
                namespace_uid: o.namespace_uid(),
                uid: o.object.uid().unwrap_or_default(),
                resource_version: o.object.resource_version().unwrap_or_default(),
            }
        });
    let Course { steps, blocked } = desired.course_from(record);
    let steps: Vec<_> = claim.into_iter().chain(steps).collect();
    if !steps.is_empty() {
        let events = describe::changes(o, record, &steps, c.now);
        return update(steps, events);
    }
    if !o.is_taken_on(record.key_id) {
        return Next::Act(Plan::just(Step::TakeOn { key_id: record.key_id }));
    }
    match blocked {
        Some(blocked) => stalled(reason::REJECTED_PENDING_DELETION, describe::blocked(&blocked)),
        None => Next::Say { key: Some(key), standing: Standing::Ready { message: describe::ready(record) } },
    }
}

impl Observed {
    /// The key that the object says it has: by annotation, else by status. Abandoned keys don't count.
    pub(super) fn claimed_id(&self, view: &SlotView) -> Option<Uuid> {
        let annotated = self.object.annotations().get(metadata::KEY_ID).cloned();
        let in_status = || self.object.status.as_ref()?.key_metadata.as_ref().map(|m| m.key_id.clone());
        let id = annotated.or_else(in_status)?;
        // An id that is no UUID is the id of no key: nil, which is never generated, stands for it.
        let id = id.parse().unwrap_or(Uuid::nil());
        (!view.abandoned.contains(&id)).then_some(id)
    }

    fn abandoned_id(&self) -> Option<Uuid> {
        self.object.annotations().get(metadata::ABANDON_KEY)?.parse().ok()
    }

    fn namespace_uid(&self) -> String {
        self.namespace.as_ref().map(|n| n.uid.clone()).unwrap_or_default()
    }

    fn is_taken_on(&self, key_id: Uuid) -> bool {
        let annotated = self.object.annotations().get(metadata::KEY_ID);
        self.has_finalizer() && annotated.is_some_and(|id| *id == key_id.to_string())
    }

    /// Whether the object has our finalizer.
    pub(super) fn has_finalizer(&self) -> bool {
        self.object.finalizers().iter().any(|f| f == metadata::FINALIZER)
    }

    fn creation_forbidden(&self, c: &Circumstances) -> Option<Standing> {
        if self.namespace.as_ref().is_none_or(|n| n.terminating) {
            return Some(Standing::waiting(
                reason::NAMESPACE_TERMINATING,
                "The namespace is being deleted: no key is made in it.",
            ));
        }
        c.no_new_keys.then(|| {
            Standing::stalled(
                reason::CREATION_PAUSED,
                "No key is made while the operator runs with --no-new-keys. Restore the key records first; then \
                 run it without.",
            )
        })
    }

    /// What the spec declares, with the store's defaults.
    pub(super) fn desired(&self, c: &Circumstances) -> DesiredKey {
        let spec = &self.object.spec;
        DesiredKey {
            description: spec.description.clone().unwrap_or_default(),
            tags: spec.tags.clone().unwrap_or_default(),
            enabled: spec.enabled.unwrap_or(true),
            schedule_deletion: spec.schedule_deletion.unwrap_or(false),
            pending_deletion_days: spec.pending_deletion_days.unwrap_or(c.capabilities.pending_deletion_days.default),
        }
    }

    fn new_key(&self, view: &SlotView, desired: DesiredKey, c: &Circumstances) -> NewKey {
        let slot = gather::slot(&self.object);
        NewKey {
            key_id: c.fresh.key,
            version_id: c.fresh.version,
            generation: u32::try_from(view.abandoned.len()).unwrap_or(u32::MAX),
            owner: Owner {
                namespace: slot.namespace,
                namespace_uid: self.namespace_uid(),
                name: slot.name,
                uid: self.object.uid().unwrap_or_default(),
                resource_version: self.object.resource_version().unwrap_or_default(),
                released: false,
            },
            origin: self.object.spec.origin.unwrap_or_default(),
            key_usage: self.object.spec.key_usage.unwrap_or_default(),
            desired,
        }
    }
}
