//! The Events about a key.

use jiff::Timestamp;

use super::super::plan::Observed;
use crate::{
    api::conditions::{self, READY, reason},
    cluster::EventNote,
    kms::{DesiredKey, KeyRecord, KeyStep},
};

/// The key was given up.
pub fn abandoned(record: &KeyRecord) -> EventNote {
    EventNote::warning(
        reason::KEY_ABANDONED,
        "Abandon",
        format!("Key {} was given up for a new one, as annotated. Its record stays.", record.key_id),
    )
}

/// The key was given up, as its store says of namespaces that are made anew.
pub fn replaced_in_new_namespace(record: &KeyRecord) -> EventNote {
    let message = format!(
        "Key {} was made in an earlier namespace called {}. It was given up for a new one, as the key store says \
         (onNamespaceRecreated: NewKey). Its record stays.",
        record.key_id, record.owner.namespace
    );
    EventNote::warning(reason::KEY_ABANDONED, "Abandon", message)
}

/// The deletion was scheduled: by the object, or by deleting it.
pub fn deletion_scheduled(after: &KeyRecord, object_deleted: bool) -> EventNote {
    let date = after.deletion.as_ref().map(|d| d.delete_date.to_string()).unwrap_or_default();
    let undo = if object_deleted { "Apply the object again" } else { "Set scheduleDeletion to false" };
    EventNote::warning(
        reason::DELETION_SCHEDULED,
        "ScheduleKeyDeletion",
        format!("Key {} will be deleted at {date}, and is not usable until then. {undo} to cancel.", after.key_id),
    )
}

/// Material was imported.
pub fn imported(after: &KeyRecord) -> EventNote {
    let expires = after.material_expire_time().map(|time| format!(" It expires at {time}.")).unwrap_or_default();
    let message = format!("Material was imported into key {}.{expires}", after.key_id);
    EventNote::normal(reason::MATERIAL_IMPORTED, "ImportKeyMaterial", message)
}

/// The Events about a new key: none, as its status says it all, unless its end is near.
pub fn created(desired: &DesiredKey) -> Vec<EventNote> {
    let days = desired.pending_deletion_days;
    let message = format!("The key is made, and scheduled for deletion in {days} days, as declared.");
    let event = EventNote::warning(reason::DELETION_SCHEDULED, "ScheduleKeyDeletion", message);
    desired.schedule_deletion.then_some(event).into_iter().collect()
}

/// The Events about changes to a key. Changes that nobody declared since the last pass are drift (rule 2), but for
/// those that time brings.
pub fn changes(o: &Observed, record: &KeyRecord, steps: &[KeyStep], now: Timestamp) -> Vec<EventNote> {
    let id = record.key_id;
    let mut events: Vec<_> = steps.iter().filter_map(|step| in_time(record, step)).collect();
    let declared: Vec<_> = steps.iter().filter(|step| in_time(record, step).is_none()).collect();
    let claimed = steps.iter().any(|s| matches!(s, KeyStep::Claim(_)));
    if !claimed && o.was_as_declared() && !declared.is_empty() {
        let what: Vec<_> = declared.into_iter().map(step_name).collect();
        let message = format!("Key {id} was not as declared and was brought back: {}.", what.join(", "));
        events.push(EventNote::warning(reason::DRIFT_CORRECTED, "Reconcile", message));
        return events;
    }
    let after = record.apply_all(steps, now).unwrap_or_else(|_| record.clone());
    if claimed {
        let message = format!("Existing key {id} was taken over: ciphertext made with it decrypts.");
        events.push(EventNote::normal(reason::KEY_ADOPTED, "Adopt", message));
    }
    events.extend(declared.into_iter().filter_map(|step| declared_change(&after, step)));
    events
}

/// The Event about what happens because its time has come, or was asked for.
fn in_time(record: &KeyRecord, step: &KeyStep) -> Option<EventNote> {
    let id = record.key_id;
    match step {
        KeyStep::Rotate { version_id, .. } => {
            let message = format!("Key {id} has a new version, {version_id}. Every older one still decrypts.");
            Some(EventNote::normal(reason::KEY_ROTATED, "CreateKeyVersion", message))
        }
        KeyStep::ExpireMaterial => {
            let message =
                format!("The material of key {id} has expired and was deleted. Import it again to use the key.");
            Some(EventNote::warning(reason::MATERIAL_EXPIRED, "DeleteKeyMaterial", message))
        }
        _ => None,
    }
}

/// The Event about a declared change, if it is worth one.
fn declared_change(after: &KeyRecord, step: &KeyStep) -> Option<EventNote> {
    let id = after.key_id;
    match step {
        KeyStep::ScheduleDeletion { .. } => Some(deletion_scheduled(after, false)),
        KeyStep::CancelDeletion if after.deletion.is_none() => {
            let message = format!("The deletion of key {id} was cancelled.");
            Some(EventNote::normal(reason::DELETION_CANCELLED, "CancelKeyDeletion", message))
        }
        KeyStep::Enable => Some(EventNote::normal(reason::KEY_ENABLED, "EnableKey", format!("Key {id} was enabled."))),
        KeyStep::Disable => {
            let message = format!("Key {id} was disabled: nothing encrypts or decrypts with it.");
            Some(EventNote::normal(reason::KEY_DISABLED, "DisableKey", message))
        }
        KeyStep::DeleteMaterial => {
            let message =
                format!("The material of key {id} was deleted, as declared. Only the same can be imported again.");
            Some(EventNote::warning(reason::MATERIAL_DELETED, "DeleteKeyMaterial", message))
        }
        _ => None,
    }
}

/// The API operation that a step amounts to.
fn step_name(step: &KeyStep) -> &'static str {
    match step {
        KeyStep::Claim(_) => "Claim",
        KeyStep::Release => "Release",
        KeyStep::Abandon => "Abandon",
        KeyStep::SetDescription(_) => "UpdateKeyDescription",
        KeyStep::SetTags(_) => "TagResource",
        KeyStep::SetAlias(_) => "UpdateAlias",
        KeyStep::SetDeletionProtection(_) => "SetDeletionProtection",
        KeyStep::SetRotationInterval(_) => "UpdateRotationPolicy",
        KeyStep::Rotate { .. } => "CreateKeyVersion",
        KeyStep::ImportMaterial { .. } => "ImportKeyMaterial",
        KeyStep::DeleteMaterial | KeyStep::ExpireMaterial => "DeleteKeyMaterial",
        KeyStep::Enable => "EnableKey",
        KeyStep::Disable => "DisableKey",
        KeyStep::ScheduleDeletion { .. } => "ScheduleKeyDeletion",
        KeyStep::CancelDeletion => "CancelKeyDeletion",
        KeyStep::Erase => "DeleteKey",
    }
}

impl Observed {
    /// The last pass left the key as this very spec declares it.
    fn was_as_declared(&self) -> bool {
        let Some(status) = &self.object.status else { return false };
        status.observed_generation == self.object.metadata.generation
            && conditions::find(&status.conditions, READY).is_some_and(|c| c.status == "True")
    }
}
