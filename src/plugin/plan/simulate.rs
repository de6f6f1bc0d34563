//! Carries out a reconciler's steps on values: what the store and the API server would make of each, without either.
//! The real one is `controller::customer_master_key::apply`.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    api::metadata,
    controller::customer_master_key::{
        ImportProblem,
        plan::{Circumstances, FreshIds, Observed, Step, plan},
    },
    kms::{
        KeyRecord, KeyStep, StepError,
        key_record::{ImportedMaterial, MaterialCheck, RecordVersion, to_seconds},
    },
    store::{AliasClaim, Capabilities, Freshness, MaterialImport, Revision, SlotView, StoredKey},
};

/// More steps than any object needs. The reconciler gives up at the same point.
const MAX_STEPS: usize = 20;

/// Why a simulation did not come to an end.
#[derive(Debug, Error)]
pub enum SimulationError {
    /// The state machine refuses what was planned.
    #[error("the plan is refused by the state machine ({0}): please report this as a bug")]
    Refused(#[from] StepError),
    /// It goes on for ever.
    #[error("the plan does not come to an end: please report this as a bug")]
    Endless,
}

/// Everything that a simulation does not find in what was observed.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// What the key store can do.
    pub capabilities: Capabilities,
    /// The time, which stands still.
    pub now: Timestamp,
    /// Whether the Secret with the declared material is there, as far as it was looked for.
    pub material_is_there: bool,
}

/// The steps to the end, and what there is then.
#[derive(Debug)]
pub struct Course {
    /// The steps.
    pub steps: Vec<Step>,
    /// What is observed afterwards.
    pub end: Observed,
}

/// Plans and carries out step by step, until there is nothing left to do.
pub fn simulate(mut observed: Observed, world: World) -> Result<Course, SimulationError> {
    let mut steps = Vec::new();
    for _ in 0..MAX_STEPS {
        let circumstances = Circumstances {
            capabilities: world.capabilities,
            no_new_keys: false,
            fresh: fresh(steps.len()),
            now: world.now,
        };
        let step = plan(&observed, &circumstances).step;
        if step == Step::Rest {
            return Ok(Course { steps, end: observed });
        }
        observed = after(observed, &step, world)?;
        steps.push(step);
    }
    Err(SimulationError::Endless)
}

/// Identifiers that no other step gets. They are nobody's, and never shown.
fn fresh(step: usize) -> FreshIds {
    let id = |which: u128| Uuid::from_u128((u128::try_from(step).unwrap_or_default() << 8) + which);
    FreshIds { key: id(1), version: id(2), check: id(3) }
}

/// What is observed after a step.
fn after(mut o: Observed, step: &Step, world: World) -> Result<Observed, StepError> {
    match step {
        Step::Rest => {}
        Step::LookAgain => o.freshness = Freshness::Live,
        Step::CreateKey(new) => see(&mut o, new.draft(world.now)?),
        Step::UpdateKey { key, steps } => {
            let record = key.record.apply_all(steps, world.now)?;
            if steps.contains(&KeyStep::Abandon) {
                give_up(&mut o, record.key_id);
            } else {
                see(&mut o, record);
            }
        }
        Step::ImportMaterial { key, import } => {
            if world.material_is_there {
                let step = imported(&key.record, import, world.now);
                see(&mut o, key.record.apply_all(&[step], world.now)?);
            } else {
                o.import_problem = Some(ImportProblem::NoSecret);
            }
        }
        Step::ClaimAlias { slot, key_id } => {
            let claim = AliasClaim { slot: slot.clone(), key_id: *key_id, revision: revision() };
            o.alias.claims.push(claim.clone());
            o.alias.holder = Some((claim, false));
        }
        Step::ReleaseAlias(claim) => {
            o.alias.claims.retain(|held| held.slot != claim.slot);
            if o.alias.holder.as_ref().is_some_and(|(held, _)| held.slot == claim.slot) {
                o.alias.holder = None;
            }
        }
        Step::TakeOn { key_id } => {
            let finalizers = o.object.metadata.finalizers.get_or_insert_default();
            if !finalizers.iter().any(|finalizer| finalizer == metadata::FINALIZER) {
                finalizers.push(metadata::FINALIZER.to_owned());
            }
            o.object.annotations_mut().insert(metadata::KEY_ID.to_owned(), key_id.to_string());
        }
        Step::Release => {
            o.object.metadata.finalizers.iter_mut().for_each(|all| all.retain(|f| f != metadata::FINALIZER));
        }
        Step::WriteStatus(status) => o.object.status = Some((**status).clone()),
    }
    Ok(o)
}

fn revision() -> Revision {
    Revision { uid: String::new(), version: String::new() }
}

fn see(o: &mut Observed, record: KeyRecord) {
    let before = o.key.as_ref().ok().cloned().unwrap_or_default();
    let current = Some(StoredKey { record: Arc::new(record), revision: revision() });
    o.key = Ok(SlotView { current, ..before });
}

fn give_up(o: &mut Observed, key_id: Uuid) {
    let mut view = o.key.as_ref().ok().cloned().unwrap_or_default();
    view.abandoned.push(key_id);
    o.key = Ok(SlotView { current: None, ..view });
}

/// The step that imports material, which is taken to be acceptable: nobody read it.
fn imported(record: &KeyRecord, import: &MaterialImport, now: Timestamp) -> KeyStep {
    let [version_id, check_id] = import.fresh;
    let before = record.imported.as_ref();
    let version_id = before.map_or(version_id, |before| before.version_id);
    let creation_date = before.map_or(to_seconds(now), |before| before.creation_date);
    let check = before.map(|before| before.check.clone());
    let unread = || MaterialCheck { id: check_id, root_key_id: Uuid::nil(), wrapped_key: vec![0], value: vec![0] };
    KeyStep::ImportMaterial {
        imported: ImportedMaterial {
            version_id,
            creation_date,
            source: import.source.clone(),
            expire_time: import.expire_time,
            check: check.unwrap_or_else(unread),
        },
        version: RecordVersion {
            id: version_id,
            creation_date,
            root_key_id: Uuid::nil(),
            wrapped: vec![0],
            on_demand: false,
        },
    }
}
