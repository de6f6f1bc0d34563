//! What to do next for a `CustomerMasterKey`: a pure function of what was observed.

use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use super::{
    alias::{self, AliasFacts, AliasStep},
    describe, gather,
    material::{self, ImportProblem, MaterialStep},
    removal,
};
use crate::{
    api::{
        CustomerMasterKey, CustomerMasterKeyStatus,
        cluster_key_store::OnNamespaceRecreated,
        conditions::{Standing, reason},
        metadata,
    },
    cluster::{EventNote, KeyStoreView, NamespaceView},
    controller::purge::Held,
    kms::{DesiredKey, KeyStep, Owner, desired_key::Course},
    store::{
        AliasClaim, AliasSlot, Capabilities, Freshness, KeySlot, MaterialImport, NewKey, SlotView, StoreError,
        StoredKey,
    },
};

/// Everything that decides.
#[derive(Debug)]
pub struct Observed {
    /// The object.
    pub object: CustomerMasterKey,
    /// Its namespace; None if it is gone.
    pub namespace: Option<NamespaceView>,
    /// Its key store; None if there is none of that name.
    pub store: Option<KeyStoreView>,
    /// What the key store holds for it, or why that can't be used.
    pub key: Result<SlotView, StoreError>,
    /// How fresh that is.
    pub freshness: Freshness,
    /// Whether the erasure of its key, which is due, waits, and why.
    pub held: Held,
    /// What is known about aliases.
    pub alias: AliasFacts,
    /// The key, which the object wants to adopt, belongs to another object that does not exist.
    pub owner_is_gone: bool,
    /// The DataKeys that refer to the object, if it is being deleted: their namespaces and names.
    pub data_keys: Vec<(String, String)>,
    /// Why the declared material could not be imported in this pass.
    pub import_problem: Option<ImportProblem>,
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
    /// Of its first version, or of the next one.
    pub version: Uuid,
    /// Of what its imported material is recognised by.
    pub check: Uuid,
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
    /// Read the declared material, and import it.
    ImportMaterial {
        /// The key as observed.
        key: StoredKey,
        /// How it is declared.
        import: MaterialImport,
    },
    /// Claim an alias that nobody has.
    ClaimAlias {
        /// The alias.
        slot: AliasSlot,
        /// The key.
        key_id: Uuid,
    },
    /// Give up an alias that is not used any more.
    ReleaseAlias(AliasClaim),
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
    let found = view.current.as_ref().map(|key| key.record.key_id);
    // What is said of a key that is another object's is no business of this one's readers.
    let own = view.current.as_ref().filter(|key| o.is_owner(key));

    // A record that does not go with what the object says: it is looked for once more before that is said.
    let missing = match o.claimed_id(view) {
        Some(claimed) if view.adopted.contains(&claimed) => Some(describe::adopted_by_another(claimed)),
        Some(claimed) if found != Some(claimed) => Some(describe::record_missing(claimed, found)),
        None if found.is_none() => o.object.spec.key_id.as_deref().map(|id| describe::nothing_to_adopt(o, id)),
        _ => None,
    };
    if let Some(standing) = missing {
        return match o.freshness {
            Freshness::Watched => Next::Act(Plan::just(Step::LookAgain)),
            Freshness::Live => say(None, standing),
        };
    }
    let Some(store) = &o.store else { return say(own, describe::no_key_store(o)) };
    let desired = o.desired(c);
    if let Some(standing) = describe::unsupported(&o.object.spec, &desired, c.capabilities) {
        return say(own, standing);
    }
    match &view.current {
        None => match o.creation_forbidden(c, store) {
            Some(standing) => say(None, standing),
            None => {
                let events = describe::created(&desired);
                Next::Act(Plan { step: Step::CreateKey(Box::new(o.new_key(view, store, desired, c))), events })
            }
        },
        Some(key) => next_for_key(o, c, store, key, &desired),
    }
}

fn next_for_key<'a>(
    o: &'a Observed,
    c: &Circumstances,
    store: &KeyStoreView,
    key: &'a StoredKey,
    desired: &DesiredKey,
) -> Next<'a> {
    let record = &key.record;
    let is_owner = o.is_owner(key);
    let say = |standing| Next::Say { key: is_owner.then_some(key), standing };
    let stalled = |reason, message: String| say(Standing::stalled(reason, message));

    let may_replace = o.object.spec.key_id.is_none();
    if may_replace && o.abandoned_id() == Some(record.key_id) {
        return abandon(o, c, store, key, describe::abandoned(record));
    }
    if record.is_tombstone() {
        return match o.alias.claims.first() {
            Some(claim) if is_owner => Next::Act(Plan::just(Step::ReleaseAlias(claim.clone()))),
            _ => stalled(reason::KEY_DELETED, describe::key_deleted(o, record)),
        };
    }
    if let Some(difference) = describe::immutable_difference(&o.object.spec, record) {
        return stalled(reason::IMMUTABLE_FIELD_CHANGED, difference);
    }
    let is_same_object = o.object.uid().as_ref() == Some(&record.owner.uid);
    let same_namespace = o.namespace.as_ref().is_some_and(|n| n.uid == record.owner.namespace_uid);
    let is_claimed = is_owner && !record.owner.released && is_same_object && same_namespace;
    // Whose key it is hangs on which namespace this is, and the watch of namespaces may lag behind that of objects.
    if !is_claimed && o.freshness == Freshness::Watched {
        return Next::Act(Plan::just(Step::LookAgain));
    }
    // An object never moves: its key was made while the watch still showed the earlier namespace.
    let is_its_own = is_owner && !record.owner.released && is_same_object;
    // An object that names the key in its spec needed the right to adopt, in whatever namespace it is.
    let adopts = o.object.spec.key_id.is_some() && !(is_owner && same_namespace);
    if !is_owner && !record.owner.released && !o.owner_is_gone {
        return stalled(reason::KEY_HAS_OWNER, describe::key_has_owner(record));
    }
    if adopts {
        let refused = o.store_not_allowed(store).or_else(|| describe::material_not_declared(&o.object.spec, record));
        if let Some(standing) = refused {
            return say(standing);
        }
    } else if !same_namespace && !is_its_own && !o.namespace.as_ref().is_some_and(|n| n.adopt_keys) {
        // An object that says it has this key was restored, and shall not lose it. A status that names no key is
        // that of a pass which failed.
        let names_key = o.object.status.as_ref().is_some_and(|status| status.key_metadata.is_some());
        let is_new = !o.object.annotations().contains_key(metadata::KEY_ID) && !names_key;
        if store.on_namespace_recreated == OnNamespaceRecreated::NewKey && is_new {
            return abandon(o, c, store, key, describe::replaced_in_new_namespace(record));
        }
        return stalled(reason::NAMESPACE_RECREATED, describe::namespace_recreated(record));
    }
    drive(o, c, key, desired, is_claimed)
}

/// Gives the key up; the next pass makes another one.
fn abandon<'a>(
    o: &Observed,
    c: &Circumstances,
    store: &KeyStoreView,
    key: &'a StoredKey,
    event: EventNote,
) -> Next<'a> {
    if let Some(standing) = o.creation_forbidden(c, store) {
        return Next::Say { key: Some(key), standing };
    }
    Next::Act(Plan { step: Step::UpdateKey { key: key.clone(), steps: vec![KeyStep::Abandon] }, events: vec![event] })
}

/// The next step for a key that is the object's, or that it may take.
fn drive<'a>(
    o: &'a Observed,
    c: &Circumstances,
    key: &'a StoredKey,
    desired: &DesiredKey,
    is_claimed: bool,
) -> Next<'a> {
    let record = &key.record;
    let claim = (!is_claimed).then(|| KeyStep::Claim(o.owner()));
    let Course { steps, blocked } = desired.course_from(record, c.fresh.version, c.now);
    let material = material::next(&o.object.spec, record, [c.fresh.version, c.fresh.check], c.now);
    let delete_material = (material == MaterialStep::Delete).then_some(KeyStep::DeleteMaterial);
    let steps: Vec<_> = claim.into_iter().chain(steps).chain(delete_material).collect();
    if !steps.is_empty() {
        let events = describe::changes(o, record, &steps, c.now);
        return Next::Act(Plan { step: Step::UpdateKey { key: key.clone(), steps }, events });
    }
    if !o.is_taken_on(record.key_id) {
        return Next::Act(Plan::just(Step::TakeOn { key_id: record.key_id }));
    }
    let alias = match alias::next(o, key, c.now) {
        AliasStep::Do(step) => return Next::Act(Plan::just(step)),
        settled => settled,
    };
    if let (MaterialStep::Import(import), None) = (&material, &o.import_problem) {
        return Next::Act(Plan::just(Step::ImportMaterial { key: key.clone(), import: import.clone() }));
    }
    let not_as_declared = describe::material(o, record, &material)
        .or_else(|| describe::alias(&alias, record, c.now))
        .or_else(|| blocked.map(|blocked| describe::blocked(&blocked)))
        .or_else(|| describe::rotation(record, desired, c.now));
    let standing = not_as_declared.unwrap_or_else(|| Standing::Ready { message: describe::ready(record, c.now) });
    Next::Say { key: Some(key), standing }
}

impl Observed {
    /// The key that the object says it has: by annotation, else by status. Abandoned keys don't count.
    pub(super) fn claimed_id(&self, view: &SlotView) -> Option<Uuid> {
        let annotated = self.object.annotations().get(metadata::KEY_ID).cloned();
        let in_status = || self.object.status.as_ref()?.key_metadata.as_ref().map(|m| m.key_id.clone());
        let id = annotated.or_else(in_status)?;
        // An id that is no UUID is the id of no key: nil, which is never generated, stands for it.
        let id = id.parse().unwrap_or(Uuid::nil());
        let given_up = view.abandoned.contains(&id) || (view.adopted.contains(&id) && self.abandoned_id() == Some(id));
        (!given_up).then_some(id)
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

    /// Whether the key is the one of this object's name, or one that it adopted before.
    fn is_owner(&self, key: &StoredKey) -> bool {
        KeySlot::of_owner(&key.record) == gather::slot(&self.object)
    }

    fn store_not_allowed(&self, store: &KeyStoreView) -> Option<Standing> {
        let allowed = self.namespace.as_ref().is_some_and(|namespace| store.allows(&namespace.labels));
        (!allowed).then(|| describe::key_store_not_allowed(self))
    }

    fn creation_forbidden(&self, c: &Circumstances, store: &KeyStoreView) -> Option<Standing> {
        if self.namespace.as_ref().is_none_or(|n| n.terminating) {
            return Some(Standing::waiting(
                reason::NAMESPACE_TERMINATING,
                "The namespace is being deleted: no key is made in it.",
            ));
        }
        let paused = c.no_new_keys.then(|| {
            Standing::stalled(
                reason::CREATION_PAUSED,
                "No key is made while the operator runs with --no-new-keys. Restore the key records first; then \
                 run it without.",
            )
        });
        paused.or_else(|| self.store_not_allowed(store))
    }

    /// What the spec declares, with the store's defaults.
    pub(super) fn desired(&self, c: &Circumstances) -> DesiredKey {
        let spec = &self.object.spec;
        DesiredKey {
            description: spec.description.clone().unwrap_or_default(),
            tags: spec.tags.clone().unwrap_or_default(),
            enabled: spec.enabled.unwrap_or(true),
            deletion_protection: spec.deletion_protection.unwrap_or(false),
            rotation_interval_days: spec.rotation_interval_days,
            rotation_request: self.object.annotations().get(metadata::ROTATE_REQUESTED_AT).cloned(),
            schedule_deletion: spec.schedule_deletion.unwrap_or(false),
            pending_deletion_days: spec.pending_deletion_days.unwrap_or(c.capabilities.pending_deletion_days.default),
        }
    }

    /// The object as an owner of keys.
    fn owner(&self) -> Owner {
        let slot = gather::slot(&self.object);
        Owner {
            namespace: slot.namespace,
            namespace_uid: self.namespace_uid(),
            name: slot.name,
            uid: self.object.uid().unwrap_or_default(),
            resource_version: self.object.resource_version().unwrap_or_default(),
            released: false,
        }
    }

    fn new_key(&self, view: &SlotView, store: &KeyStoreView, desired: DesiredKey, c: &Circumstances) -> NewKey {
        NewKey {
            key_id: c.fresh.key,
            version_id: c.fresh.version,
            store: self.object.key_store_ref().to_string(),
            region: store.region.clone(),
            account_id: store.account_id.clone(),
            generation: view.next_generation(),
            owner: self.owner(),
            origin: self.object.spec.origin.unwrap_or_default(),
            key_usage: self.object.spec.key_usage.unwrap_or_default(),
            desired,
        }
    }
}
