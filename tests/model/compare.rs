//! What the real one shows, beside what the reference says: record by record, and object by object.

use std::fmt::Debug;

use cmk_operator::{
    api::{
        CustomerMasterKey, CustomerMasterKeyStatus,
        conditions::{PURGE_HELD, READY, RECONCILING, STALLED, find},
        metadata,
    },
    kms::{AutomaticRotation, KeyRecord, KeyState},
    store::StoredKey,
};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    reference::{Facts, Key, Model, NAMES, Object, Shown, Standing, State},
    world::{World, alias_name, object_name},
};

/// What is not as the reference says.
#[derive(Default)]
pub struct Differences(pub Vec<String>);

impl Differences {
    fn check<T: PartialEq + Debug>(&mut self, what: &str, real: &T, said: &T) {
        if real != said {
            self.0.push(format!("{what} is {real:?}, and the reference says {said:?}"));
        }
    }
}

/// Compares everything. Keys that were not seen before are told their ids.
pub fn compare(world: &World, model: &mut Model) -> Differences {
    let mut differences = Differences::default();
    let records = world.records();
    let there = model.keys.iter().filter(|key| !key.forgotten).count();
    differences.check("the number of records", &records.len(), &there);
    for key in 0..model.keys.len() {
        record(&mut differences, world, &records, model, key);
    }
    for name in NAMES {
        object(&mut differences, world, model, name);
    }
    differences
}

fn record(differences: &mut Differences, world: &World, records: &[StoredKey], model: &mut Model, key: Key) {
    let facts = model.keys[key].clone();
    if facts.forgotten {
        return;
    }
    let before = |other: &&Facts| other.name == facts.name && !other.forgotten;
    let generation = model.keys[..key].iter().filter(before).count();
    let name = object_name(facts.name);
    let is_it =
        |stored: &&StoredKey| stored.record.owner.name == name && stored.record.generation as usize == generation;
    let Some(StoredKey { record, .. }) = records.iter().find(is_it) else {
        differences.0.push(format!("{name} has no record of generation {generation}"));
        return;
    };
    let others = |id| model.keys.iter().any(|other| other.id == Some(id));
    match facts.id {
        None if others(record.key_id) => differences.0.push(format!("{name} has the key of another")),
        None => model.keys[key].id = Some(record.key_id),
        Some(id) => differences.check(&format!("{name}: keyId"), &record.key_id, &id),
    }
    let mut check = |what: &str, real: &dyn Debug, said: &dyn Debug| {
        differences.check(
            &format!("record of {name}, {generation}: {what}"),
            &format!("{real:?}"),
            &format!("{said:?}"),
        );
    };
    check("released", &record.owner.released, &facts.released);
    check("abandoned", &record.abandoned, &facts.abandoned);
    check("description", &record.description, &description(&facts));
    check("tag", &record.tags.get("tag").cloned().unwrap_or_default(), &description(&facts));
    check("protection", &record.deletion_protection, &facts.protection);
    check("interval", &record.rotation_interval_days, &facts.interval);
    check("request", &record.last_handled_rotation, &facts.handled.map(|r| r.to_string()));
    check("alias", &record.alias, &facts.alias.map(alias_name));
    check("deletion", &record.deletion.as_ref().map(|d| (d.pending_days, d.delete_date)), &facts.deletion);
    check("erased", &record.is_tombstone(), &facts.erased);
    check("state", &record.state(world.now()).as_str(), &state_name(facts.state(world.now())));
    let made: Vec<_> = record.versions.iter().map(|version| version.creation_date).collect();
    check("versions", &made, &facts.versions);
    let expires = record.imported.as_ref().map(|i| (i.creation_date, i.expire_time));
    check("imported", &expires, &facts.imported.map(|(_, first, expires)| (first, expires)));
}

fn description(facts: &Facts) -> String {
    if facts.description > 0 { facts.description.to_string() } else { String::new() }
}

fn state_name(state: State) -> String {
    format!("{state:?}")
}

fn object(differences: &mut Differences, world: &World, model: &Model, name: u8) {
    let (real, said) = match (world.object(name), model.objects.get(&name)) {
        (None, None) => return,
        (Some(real), Some(said)) => (real, said),
        (real, said) => {
            let (real, said) = (real.is_some(), said.is_some());
            return differences.check(&format!("object {name} being there"), &real, &said);
        }
    };
    let mut check = |what: &str, real: &dyn Debug, said: &dyn Debug| {
        differences.check(&format!("object {name}: {what}"), &format!("{real:?}"), &format!("{said:?}"));
    };
    check("deleting", &real.metadata.deletion_timestamp.is_some(), &said.deleting);
    check("finalizer", &real.finalizers().iter().any(|f| f == metadata::FINALIZER), &said.finalizer);
    let id = said.annotated.map(|key| model.keys[key].id.map(|id| id.to_string()).unwrap_or_default());
    check("annotation", &real.annotations().get(metadata::KEY_ID), &id.as_ref());
    let status = real.status.clone().unwrap_or_default();
    check("observedGeneration", &status.observed_generation, &real.metadata.generation);
    let standing = said.standing.clone().unwrap_or(Standing::Ready);
    check("standing", &standing_in(&status), &conditions_of(&standing));
    check("PurgeHeld", &is_true(&status, PURGE_HELD), &held(model, said, world.now()));
    metadata_shown(&mut check, model, &real, said.shown.as_ref());
}

fn is_true(status: &CustomerMasterKeyStatus, condition: &str) -> bool {
    find(&status.conditions, condition).is_some_and(|c| c.status == "True")
}

/// The reason, and which of Ready, Reconciling and Stalled are True. No condition is older than the spec.
fn standing_in(status: &CustomerMasterKeyStatus) -> (String, [bool; 3]) {
    let reason = find(&status.conditions, READY).map(|c| c.reason.clone()).unwrap_or_default();
    assert!(status.conditions.iter().all(|c| c.observed_generation == status.observed_generation));
    (reason, [READY, RECONCILING, STALLED].map(|type_| is_true(status, type_)))
}

fn conditions_of(standing: &Standing) -> (String, [bool; 3]) {
    match standing {
        Standing::Ready => ("AsDeclared".into(), [true, false, false]),
        Standing::Waiting(reason) => ((*reason).into(), [false, true, false]),
        Standing::Stalled(reason) => ((*reason).into(), [false, false, true]),
    }
}

fn held(model: &Model, object: &Object, now: Timestamp) -> bool {
    let said_of_key = !matches!(object.standing, Some(Standing::Stalled("RecordTampered" | "KeyRecordMissing")));
    object.shown.as_ref().is_some_and(|shown| said_of_key && model.held(shown.key, now))
}

fn metadata_shown(
    check: &mut impl FnMut(&str, &dyn Debug, &dyn Debug),
    model: &Model,
    real: &CustomerMasterKey,
    shown: Option<&Shown>,
) {
    let status = real.status.clone().unwrap_or_default();
    let Some(shown) = shown else { return check("keyMetadata", &status.key_metadata.is_some(), &false) };
    let Some(real) = status.key_metadata else { return check("keyMetadata", &false, &true) };
    let Shown { facts, .. } = shown;
    let time = |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.map(|time| time.0);
    check("keyId", &real.key_id, &model.keys[shown.key].id.map(|id| id.to_string()).unwrap_or_default());
    check("keyState", &real.key_state.as_str(), &state_name(shown.state));
    check("deleteDate", &time(real.delete_date.as_ref()), &facts.deletion.map(|(_, date)| date));
    check("description", &real.description, &description(facts));
    check("deletionProtection", &real.deletion_protection, &facts.protection);
    let expires = facts.imported.filter(|_| !facts.versions.is_empty()).and_then(|(_, _, expires)| expires);
    check("materialExpireTime", &time(real.material_expire_time.as_ref()), &expires);
    check("primaryKeyVersion", &real.primary_key_version.is_some(), &!facts.versions.is_empty());
    let automatic = match (facts.interval, shown.state) {
        (None, _) => AutomaticRotation::Disabled,
        (Some(_), State::Enabled) => AutomaticRotation::Enabled,
        (Some(_), _) => AutomaticRotation::Suspended,
    };
    check("automaticRotation", &real.automatic_rotation, &Some(automatic));
    let interval = facts.interval.map(|days| format!("{}s", i64::from(days) * 86_400));
    check("rotationInterval", &real.rotation_interval, &interval);
    check("nextRotationDate", &time(real.next_rotation_date.as_ref()), &shown.next_rotation);
    let last = facts.versions.last().filter(|_| facts.versions.len() > 1);
    check("lastRotationDate", &time(real.last_rotation_date.as_ref()), &last.copied());
    // Bounded: the newest ten.
    check("keyVersions", &status.key_versions.len(), &facts.versions.len().min(10));
    let alias = facts.alias.filter(|_| !facts.erased).map(alias_name);
    check("alias", &status.alias, &alias);
    check("lastHandledRotation", &status.last_handled_rotation, &facts.handled.map(|r| r.to_string()));
}

/// For a record in a message: what the store says of it.
pub fn summary(record: &KeyRecord, now: Timestamp) -> String {
    let state: KeyState = record.state(now);
    let KeyRecord { key_id, generation, enabled, deletion, owner, .. } = record;
    let versions = record.versions.len();
    format!(
        "{}/{generation} {key_id} {state} enabled={enabled} released={} {deletion:?} {versions} versions",
        owner.name, owner.released
    )
}
