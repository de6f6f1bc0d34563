//! The steps that change a key, and which of them its state allows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

use super::{
    key_record::{Deletion, Home, ImportedMaterial, KeyRecord, Owner, RecordVersion, add_days, to_seconds},
    key_state::{Dialect, Operation, Origin, Rejected},
    limits::MAX_KEY_VERSIONS,
};

/// One change to a key. A plan is a list of them, which a store applies in one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// This object takes the key over.
    Claim(Owner),
    /// The object is gone; the key stays in whatever state it is in.
    Release,
    /// The key is given up for a new one.
    Abandon,
    /// UpdateKeyDescription.
    SetDescription(String),
    /// TagResource and UntagResource: these are all the tags.
    SetTags(BTreeMap<String, String>),
    /// CreateAlias, UpdateAlias or, with None, DeleteAlias. The alias has been claimed before.
    SetAlias(Option<String>),
    /// SetDeletionProtection.
    SetDeletionProtection(bool),
    /// UpdateRotationPolicy, in days.
    SetRotationInterval(Option<i32>),
    /// CreateKeyVersion. The store makes the material.
    Rotate {
        /// The identifier of the new version.
        version_id: Uuid,
        /// The request that this answers, if it was requested.
        request: Option<String>,
    },
    /// ImportKeyMaterial. The key is Enabled afterwards.
    ImportMaterial {
        /// What is to be known about it.
        imported: ImportedMaterial,
        /// The material, wrapped.
        version: RecordVersion,
    },
    /// DeleteKeyMaterial.
    DeleteMaterial,
    /// Erase imported material whose time has come.
    ExpireMaterial,
    /// EnableKey.
    Enable,
    /// DisableKey.
    Disable,
    /// ScheduleKeyDeletion, this many days from now.
    ScheduleDeletion {
        /// The window in days.
        days: i32,
    },
    /// CancelKeyDeletion. The key is Enabled afterwards.
    CancelDeletion,
    /// Erase the material, now that the delete date has passed.
    Erase,
}

/// Why a step is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StepError {
    /// The key's state does not allow it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The delete date is not set, or has not passed.
    #[error("the key is not due for deletion")]
    NotDue,
    /// The material was erased: nothing brings the key back.
    #[error("the key was deleted and its material erased")]
    Erased,
    /// The key is protected, or the operator's own.
    #[error("the key is protected: {0}")]
    Protected(&'static str),
    /// Only origin EXTERNAL is imported, and never rotates.
    #[error("not possible with origin {}", .0.as_str())]
    UnsupportedOrigin(Origin),
    /// No version is ever dropped, so there is a last one.
    #[error("the key has {MAX_KEY_VERSIONS} versions, and none is ever dropped: make a new key")]
    TooManyVersions,
    /// The window leads to a date that can't be written.
    #[error("a window of {0} days gives no valid date")]
    InvalidWindow(i32),
}

impl KeyRecord {
    /// Applies one step.
    ///
    /// # Errors
    /// [`StepError`] when the state machine refuses it; the record is unchanged then.
    pub fn apply(&mut self, step: &KeyStep, now: Timestamp) -> Result<(), StepError> {
        if self.is_tombstone() && !matches!(step, KeyStep::Release | KeyStep::Abandon) {
            return Err(StepError::Erased);
        }
        let allowed = |operation: Operation| operation.check(self.state(now), Dialect::Alibaba);
        match step {
            KeyStep::Claim(owner) => self.claim(owner),
            KeyStep::Release => self.owner.released = true,
            KeyStep::Abandon => {
                self.owner.released = true;
                self.abandoned = true;
            }
            KeyStep::SetDescription(description) => {
                allowed(Operation::UpdateKeyDescription)?;
                self.description.clone_from(description);
            }
            KeyStep::SetTags(tags) => {
                allowed(Operation::TagResource)?;
                self.tags.clone_from(tags);
            }
            KeyStep::SetAlias(None) => self.alias = None,
            KeyStep::SetAlias(alias) => {
                allowed(Operation::CreateAlias)?;
                self.alias.clone_from(alias);
            }
            KeyStep::SetDeletionProtection(protected) => {
                allowed(Operation::SetDeletionProtection)?;
                self.deletion_protection = *protected;
            }
            KeyStep::SetRotationInterval(_) | KeyStep::Rotate { .. } if self.origin == Origin::External => {
                return Err(StepError::UnsupportedOrigin(self.origin));
            }
            KeyStep::SetRotationInterval(days) => {
                allowed(Operation::UpdateRotationPolicy)?;
                self.rotation_interval_days = *days;
            }
            KeyStep::Rotate { version_id, request } => {
                allowed(Operation::CreateKeyVersion)?;
                self.rotate(*version_id, request.as_ref(), now)?;
            }
            KeyStep::ImportMaterial { .. } | KeyStep::DeleteMaterial if self.origin != Origin::External => {
                return Err(StepError::UnsupportedOrigin(self.origin));
            }
            KeyStep::ImportMaterial { imported, version } => {
                allowed(Operation::ImportKeyMaterial)?;
                self.imported = Some(imported.clone());
                self.versions = vec![version.clone()];
                self.enabled = true;
            }
            KeyStep::DeleteMaterial => {
                allowed(Operation::DeleteKeyMaterial)?;
                self.refuse_protected()?;
                self.versions.clear();
            }
            KeyStep::ExpireMaterial => {
                if !self.has_expired(now) {
                    return Err(StepError::NotDue);
                }
                self.versions.clear();
            }
            KeyStep::Enable => {
                allowed(Operation::EnableKey)?;
                self.enabled = true;
            }
            KeyStep::Disable => {
                allowed(Operation::DisableKey)?;
                self.refuse_service_managed()?;
                self.enabled = false;
            }
            KeyStep::ScheduleDeletion { days } => {
                allowed(Operation::ScheduleKeyDeletion)?;
                self.refuse_protected()?;
                self.refuse_service_managed()?;
                let delete_date = add_days(now, *days).ok_or(StepError::InvalidWindow(*days))?;
                self.deletion = Some(Deletion { pending_days: *days, delete_date });
            }
            KeyStep::CancelDeletion => {
                allowed(Operation::CancelKeyDeletion)?;
                self.deletion = None;
                self.enabled = true;
            }
            KeyStep::Erase => {
                if !self.is_due(now) {
                    return Err(StepError::NotDue);
                }
                self.versions.clear();
                self.erased_at = Some(to_seconds(now));
            }
        }
        Ok(())
    }

    fn claim(&mut self, owner: &Owner) {
        if self.owner.namespace != owner.namespace || self.owner.name != owner.name {
            let Owner { namespace, name, .. } = self.owner.clone();
            self.home.get_or_insert(Home { namespace, name });
        }
        self.owner = Owner { released: false, ..owner.clone() };
        // Only a key that another object gave up is claimed while it says so: it has a use again.
        self.abandoned = false;
    }

    fn rotate(&mut self, version_id: Uuid, request: Option<&String>, now: Timestamp) -> Result<(), StepError> {
        if self.versions.len() >= MAX_KEY_VERSIONS {
            return Err(StepError::TooManyVersions);
        }
        self.versions.push(RecordVersion { on_demand: request.is_some(), ..RecordVersion::unmade(version_id, now) });
        if request.is_some() {
            self.last_handled_rotation = request.cloned();
        }
        Ok(())
    }

    fn refuse_protected(&self) -> Result<(), StepError> {
        if self.deletion_protection { Err(StepError::Protected("it has deletionProtection")) } else { Ok(()) }
    }

    fn refuse_service_managed(&self) -> Result<(), StepError> {
        if self.is_service_managed() { Err(StepError::Protected("the operator manages it")) } else { Ok(()) }
    }

    /// The record after all steps.
    ///
    /// # Errors
    /// The first refusal.
    pub fn apply_all(&self, steps: &[KeyStep], now: Timestamp) -> Result<Self, StepError> {
        let mut changed = self.clone();
        steps.iter().try_for_each(|step| changed.apply(step, now))?;
        if !steps.is_empty() {
            changed.revision = changed.revision.saturating_add(1);
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::{
        KeyState,
        key_record::{
            MaterialCheck, MaterialSource,
            tests::{at, record},
        },
    };

    #[test]
    fn rule_4_delete_date_is_set_once_and_erasing_waits_for_it() {
        let scheduled = record().apply_all(&[KeyStep::ScheduleDeletion { days: 7 }], at(1000)).unwrap();
        let date = at(1000 + 7 * 86_400);
        assert_eq!(scheduled.deletion, Some(Deletion { pending_days: 7, delete_date: date }));
        assert_eq!(scheduled.state(at(1000)), KeyState::PendingDeletion);

        let again = scheduled.apply_all(&[KeyStep::ScheduleDeletion { days: 8 }], at(2000));
        assert_eq!(again, Err(StepError::Rejected(Rejected::StateModifiedFailed)), "it can't be moved silently");

        let early = scheduled.apply_all(&[KeyStep::Erase], at(1000 + 7 * 86_400 - 1));
        assert_eq!(early, Err(StepError::NotDue));
        assert_eq!(record().apply_all(&[KeyStep::Erase], at(i64::from(i32::MAX))), Err(StepError::NotDue));

        let tombstone = scheduled.apply_all(&[KeyStep::Erase], date).unwrap();
        assert!(tombstone.is_tombstone() && tombstone.versions.is_empty());
        assert_eq!(tombstone.key_id, record().key_id);
        for step in [KeyStep::CancelDeletion, KeyStep::Enable, KeyStep::Erase, KeyStep::SetDescription("x".into())] {
            assert_eq!(tombstone.apply_all(&[step], date), Err(StepError::Erased));
        }
        assert!(tombstone.apply_all(&[KeyStep::Abandon], date).unwrap().abandoned);
    }

    #[test]
    fn a_refused_step_changes_nothing() {
        let steps = [KeyStep::Disable, KeyStep::CancelDeletion];
        assert_eq!(record().apply_all(&steps, at(0)), Err(StepError::Rejected(Rejected::StateModifiedFailed)));
    }

    #[test]
    fn cancelling_enables() {
        let steps = [KeyStep::Disable, KeyStep::ScheduleDeletion { days: 7 }, KeyStep::CancelDeletion];
        assert_eq!(record().apply_all(&steps, at(0)).unwrap().state(at(0)), KeyState::Enabled);
    }

    fn rotate(id: u128) -> KeyStep {
        KeyStep::Rotate { version_id: Uuid::from_u128(id), request: Some("please".into()) }
    }

    #[test]
    fn rule_8_a_rotation_adds_a_version_and_drops_none() {
        let rotated = record().apply_all(&[rotate(9)], at(5000)).unwrap();
        assert_eq!(rotated.versions[..1], record().versions[..]);
        let new = RecordVersion { on_demand: true, ..RecordVersion::unmade(Uuid::from_u128(9), at(5000)) };
        assert_eq!(rotated.versions[1], new, "it was asked for");
        assert_eq!(rotated.primary_version().map(|v| v.id), Some(Uuid::from_u128(9)));
        assert_eq!(
            (rotated.last_handled_rotation.as_deref(), rotated.last_rotation()),
            (Some("please"), Some(at(5000)))
        );

        for (step, rejected) in
            [(KeyStep::Disable, Rejected::Disabled), (KeyStep::ScheduleDeletion { days: 7 }, Rejected::PendingDeletion)]
        {
            let refused = record().apply_all(&[step, rotate(9)], at(0));
            assert_eq!(refused, Err(StepError::Rejected(rejected)));
        }
        let external = KeyRecord { origin: Origin::External, ..record() };
        for step in [rotate(9), KeyStep::SetRotationInterval(Some(30))] {
            assert_eq!(external.apply_all(&[step], at(0)), Err(StepError::UnsupportedOrigin(Origin::External)));
        }
        let mut full = record();
        full.versions = vec![full.versions[0].clone(); MAX_KEY_VERSIONS];
        assert_eq!(full.apply_all(&[rotate(9)], at(0)), Err(StepError::TooManyVersions));
    }

    /// What Kubernetes takes as a Secret is 1 MiB, and the API server a little more as a request.
    #[test]
    fn rule_8_a_full_record_fits_into_a_secret() {
        let mut full = record();
        full.description = "\u{10348}".repeat(8192);
        full.tags = (0..20).map(|i| (format!("{i:\u{10348}>128}"), "\u{10348}".repeat(256))).collect();
        full.versions[0].wrapped = vec![0; crate::crypto::WRAPPED_LEN];
        full.versions = vec![full.versions[0].clone(); MAX_KEY_VERSIONS];
        let bytes = full.encode().unwrap().len();
        assert!(bytes < 1024 * 1024 - 4096, "{bytes}");
    }

    #[test]
    fn rule_7_a_protected_key_is_not_scheduled_and_keeps_its_material() {
        let protected = record().apply_all(&[KeyStep::SetDeletionProtection(true)], at(0)).unwrap();
        let schedule = KeyStep::ScheduleDeletion { days: 7 };
        let is_protected = |result| matches!(result, Err(StepError::Protected(_)));
        assert!(is_protected(protected.apply_all(std::slice::from_ref(&schedule), at(0))));
        assert!(protected.apply_all(&[KeyStep::Disable], at(0)).is_ok(), "disabling takes nothing away");
        let external = KeyRecord { origin: Origin::External, ..protected.clone() };
        assert!(is_protected(external.apply_all(&[KeyStep::DeleteMaterial], at(0))));
        let freed = protected.apply_all(&[KeyStep::SetDeletionProtection(false), schedule.clone()], at(0)).unwrap();
        assert_eq!(freed.state(at(0)), KeyState::PendingDeletion);

        let service = KeyRecord { alias: Some("alias/acs/DataKey".into()), ..record() };
        for step in [schedule, KeyStep::Disable] {
            assert!(is_protected(service.apply_all(&[step], at(0))));
        }
    }

    fn imported(expire_time: Option<Timestamp>) -> KeyStep {
        let source = MaterialSource { secret: "s".into(), key: "k".into() };
        let check =
            MaterialCheck { id: Uuid::from_u128(8), root_key_id: Uuid::nil(), wrapped_key: vec![1], value: vec![2] };
        let (version_id, creation_date) = (Uuid::from_u128(2), at(0));
        KeyStep::ImportMaterial {
            imported: ImportedMaterial { version_id, creation_date, source, expire_time, check },
            version: record().versions[0].clone(),
        }
    }

    #[test]
    fn rule_9_material_comes_expires_and_goes() {
        let empty = KeyRecord { origin: Origin::External, versions: vec![], ..record() };
        assert_eq!(empty.state(at(0)), KeyState::PendingImport);
        assert_eq!(record().apply_all(&[imported(None)], at(0)), Err(StepError::UnsupportedOrigin(Origin::AliyunKms)));

        let filled = empty.apply_all(&[imported(Some(at(100)))], at(0)).unwrap();
        assert_eq!((filled.state(at(99)), filled.state(at(100))), (KeyState::Enabled, KeyState::PendingImport));
        assert_eq!(filled.apply_all(&[KeyStep::ExpireMaterial], at(99)), Err(StepError::NotDue));
        let expired = filled.apply_all(&[KeyStep::ExpireMaterial], at(100)).unwrap();
        assert!(expired.versions.is_empty() && expired.imported.is_some(), "what it was is remembered");

        // While the key is to be deleted, nothing is imported, and removing leaves state and date.
        let pending = filled.apply_all(&[KeyStep::ScheduleDeletion { days: 7 }], at(0)).unwrap();
        let refused = pending.apply_all(&[imported(None)], at(0));
        assert_eq!(refused, Err(StepError::Rejected(Rejected::StateModifiedFailed)));
        let emptied = pending.apply_all(&[KeyStep::DeleteMaterial], at(0)).unwrap();
        assert_eq!((emptied.state(at(0)), &emptied.deletion), (KeyState::PendingDeletion, &pending.deletion));
        let cancelled = emptied.apply_all(&[KeyStep::CancelDeletion], at(0)).unwrap();
        assert_eq!(cancelled.state(at(0)), KeyState::PendingImport);
    }

    #[test]
    fn rule_11_an_adopted_key_stays_where_it_was_made() {
        let owner = Owner { namespace: "other".into(), name: "new".into(), released: true, ..record().owner };
        let adopted = record().apply_all(&[KeyStep::Claim(owner.clone())], at(0)).unwrap();
        let home = Home { namespace: "shop".into(), name: "orders".into() };
        assert_eq!((adopted.home.as_ref(), adopted.owner.released), (Some(&home), false));
        let third = Owner { name: "third".into(), ..owner };
        let again = adopted.apply_all(&[KeyStep::Claim(third)], at(0)).unwrap();
        assert_eq!(again.home, Some(home), "wherever it goes from there");
        // Its own object's claim makes no home.
        let own = record().apply_all(&[KeyStep::Claim(record().owner)], at(0)).unwrap();
        assert_eq!(own.home, None);
    }
}
