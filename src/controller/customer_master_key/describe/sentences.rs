//! The sentences about a key that is not as declared, or is not what one might think.

use jiff::Timestamp;
use uuid::Uuid;

use super::super::{
    alias::AliasStep,
    material::{ImportProblem, MaterialStep},
    plan::Observed,
};
use crate::{
    api::{
        CustomerMasterKeySpec,
        conditions::{Standing, reason},
        metadata,
    },
    crypto::ImportTokenError,
    kms::{
        DesiredKey, KeyRecord, KeyState, Origin, Owner, StepError,
        desired_key::Blocked,
        limits::{MAX_KEY_VERSIONS, PendingDeletionDays},
    },
    store::{Capabilities, ImportRefusal, StoreError},
};

/// Why a record can't be used. It is a person's business: trying again does not help.
pub fn store_error(error: &StoreError) -> Standing {
    let reason = match error {
        StoreError::Tampered { .. } => reason::RECORD_TAMPERED,
        StoreError::Unreadable { .. } | StoreError::Damaged => reason::RECORD_FORMAT_UNKNOWN,
        StoreError::RootKeyMissing { .. } => reason::ROOT_KEY_MISSING,
        _ => return Standing::waiting(reason::KEY_STORE_ERROR, format!("{error}.")),
    };
    Standing::stalled(reason, format!("{error}."))
}

/// The object names a key that there is no record of.
pub fn record_missing(claimed: Uuid, found: Option<Uuid>) -> Standing {
    let but = match found {
        Some(found) => format!("the key store holds key {found} under this name"),
        None => "the key store has no record of it".into(),
    };
    Standing::stalled(
        reason::KEY_RECORD_MISSING,
        format!(
            "This object says that its key is {claimed}, but {but}. Restore the record from a backup. If the \
             object was copied from another one, delete it and apply it again without the annotation {}.",
            metadata::KEY_ID
        ),
    )
}

/// There is no key of the declared id to adopt.
pub fn nothing_to_adopt(o: &Observed, id: &str) -> Standing {
    let message = format!(
        "spec.keyId is {id}, and {} has no such key. Restore its record, or delete this object and apply it without \
         spec.keyId for a new key.",
        o.object.key_store_ref()
    );
    Standing::stalled(reason::KEY_RECORD_MISSING, message)
}

/// The object says that it has a key, which another object has adopted.
pub fn adopted_by_another(claimed: Uuid) -> Standing {
    let message = format!(
        "This object says that its key is {claimed}, but another CustomerMasterKey has adopted that key with \
         spec.keyId. For a new key, annotate this object with {}={claimed}, or delete it and apply it again without \
         the annotation {}.",
        metadata::ABANDON_KEY,
        metadata::KEY_ID
    );
    Standing::stalled(reason::KEY_HAS_OWNER, message)
}

/// The key that is to be adopted has imported material, and the object declares none, so that it would be deleted.
pub fn material_not_declared(spec: &CustomerMasterKeySpec, record: &KeyRecord) -> Option<Standing> {
    let has_material = record.origin == Origin::External && !record.versions.is_empty();
    (has_material && spec.imported_key_material.is_none()).then(|| {
        let message = format!(
            "Key {} has imported material, and spec.importedKeyMaterial names none: to adopt the key would delete \
             it. Declare the material, in a Secret of this namespace.",
            record.key_id
        );
        Standing::stalled(reason::MATERIAL_NOT_DECLARED, message)
    })
}

/// The key that is to be adopted has an owner.
pub fn key_has_owner(record: &KeyRecord) -> String {
    let Owner { namespace, name, .. } = &record.owner;
    format!(
        "Key {} belongs to CustomerMasterKey {namespace}/{name}, and a key has one owner. Delete that object with \
         deletionPolicy Retain first.",
        record.key_id
    )
}

/// The key store does not exist.
pub fn no_key_store(o: &Observed) -> Standing {
    let message = format!(
        "{} does not exist, or is not one that this operator can read. It is waited for; the key is left as it is.",
        o.object.key_store_ref()
    );
    Standing::waiting(reason::KEY_STORE_NOT_FOUND, message)
}

/// The key store does not take keys of this namespace.
pub fn key_store_not_allowed(o: &Observed) -> Standing {
    let message = format!(
        "{} takes no keys of this namespace: its spec.allowedNamespaces does not select it. Ask its administrator, \
         or name another store in spec.keyStoreRef of a new object.",
        o.object.key_store_ref()
    );
    Standing::stalled(reason::KEY_STORE_NOT_ALLOWED, message)
}

/// What is declared and the key store can't do (rule 11).
pub fn unsupported(spec: &CustomerMasterKeySpec, desired: &DesiredKey, can: Capabilities) -> Option<Standing> {
    let stalled = |message| Some(Standing::stalled(reason::UNSUPPORTED_BY_KEY_STORE, message));
    let (window, days) = (can.pending_deletion_days, desired.pending_deletion_days);
    if !window.allows(days) {
        return stalled(window_unsupported(days, window));
    }
    match (desired.rotation_interval_days, can.rotation_interval_days) {
        (Some(_), None) => {
            return stalled("spec.rotationIntervalDays is given, and the key store does not rotate keys.".into());
        }
        (Some(days), Some((min, max))) if !(min..=max).contains(&days) => {
            return stalled(format!("spec.rotationIntervalDays is {days}, and the key store takes {min} to {max}."));
        }
        _ => {}
    }
    if spec.origin == Some(Origin::External) && !can.import {
        return stalled("spec.origin is EXTERNAL, and nothing can be imported into the key store.".into());
    }
    None
}

/// The store does not take the declared window.
pub fn window_unsupported(days: i32, limits: PendingDeletionDays) -> String {
    format!("spec.pendingDeletionDays is {days}, and the key store takes {} to {}.", limits.min, limits.max)
}

/// The key was erased.
pub fn key_deleted(o: &Observed, record: &KeyRecord) -> String {
    let when = record.erased_at.map(|t| t.to_string()).unwrap_or_default();
    let id = record.key_id;
    let remedy = match o.object.spec.key_id {
        Some(_) => "For a new key, delete this object and apply it without spec.keyId.".to_owned(),
        None => format!("For a new key, annotate this object with {}={id}.", metadata::ABANDON_KEY),
    };
    format!("Key {id} was deleted at {when}; its material is erased and nothing decrypts under it any more. {remedy}")
}

/// The key belongs to an earlier namespace of this name.
pub fn namespace_recreated(record: &KeyRecord) -> String {
    format!(
        "Key {id} was made in an earlier namespace called {namespace}. An administrator can let this namespace take \
         its keys over: kubectl annotate namespace {namespace} {adopt}=true. For a new key instead, annotate this \
         object with {abandon}={id}.",
        id = record.key_id,
        namespace = record.owner.namespace,
        adopt = metadata::ADOPT_KEYS,
        abandon = metadata::ABANDON_KEY,
    )
}

/// How an immutable field of the spec differs from the key, if it does: possible when an object is applied
/// again over the key of an earlier one.
pub fn immutable_difference(spec: &CustomerMasterKeySpec, record: &KeyRecord) -> Option<String> {
    let (declared, is) = (spec.origin.unwrap_or_default(), record.origin);
    let remedy = match spec.key_id {
        Some(_) => "Delete this object, and apply it with that one.".to_owned(),
        None => format!(
            "Declare that one, or annotate this object with {}={} for a new key.",
            metadata::ABANDON_KEY,
            record.key_id
        ),
    };
    (declared != is).then(|| {
        format!(
            "spec.origin is {}, but key {} was made with origin {}. {remedy}",
            declared.as_str(),
            record.key_id,
            is.as_str(),
        )
    })
}

/// What the key's state keeps from being changed.
pub fn blocked(blocked: &Blocked) -> Standing {
    blocked_fields(blocked.state, &blocked.fields.join(" and spec."))
}

fn blocked_fields(state: KeyState, fields: &str) -> Standing {
    let (reason, remedy) = match state {
        KeyState::PendingDeletion => (reason::REJECTED_PENDING_DELETION, "set scheduleDeletion to false"),
        KeyState::PendingImport => (reason::REJECTED_PENDING_IMPORT, "import material"),
        KeyState::Enabled | KeyState::Disabled => (reason::REJECTED_DISABLED, "enable the key"),
    };
    let message =
        format!("spec.{fields} can't be changed while the key is {state}: {remedy}, or take the change back.");
    Standing::stalled(reason, message)
}

/// How the alias is not as declared, if it is not.
pub fn alias(step: &AliasStep, record: &KeyRecord, now: Timestamp) -> Option<Standing> {
    match step {
        AliasStep::Do(_) | AliasStep::Settled => None,
        AliasStep::Blocked => Some(blocked_fields(record.state(now), "alias")),
        AliasStep::Taken(claim) => {
            let message = format!(
                "{} belongs to key {} of this namespace. It is taken when that key gives it up; until then choose \
                 another spec.alias, or change that key's.",
                claim.slot.alias, claim.key_id
            );
            Some(Standing::waiting(reason::ALIAS_CONFLICT, message))
        }
        AliasStep::Damaged(secret) => {
            let message = format!(
                "The Secret {secret}, which says whose the alias is, fails its integrity check. Delete it, if no other \
                 key of this namespace has the alias."
            );
            Some(Standing::stalled(reason::RECORD_TAMPERED, message))
        }
    }
}

/// How the material is not as declared, if it is not.
pub fn material(o: &Observed, record: &KeyRecord, step: &MaterialStep) -> Option<Standing> {
    let declared = o.object.spec.imported_key_material.as_ref();
    let (secret, key) = declared.map(|d| (d.secret_ref.name.clone(), d.secret_ref.key.clone())).unwrap_or_default();
    match step {
        MaterialStep::Settled | MaterialStep::Delete => None,
        MaterialStep::Blocked => Some(blocked_fields(KeyState::PendingDeletion, "importedKeyMaterial")),
        MaterialStep::Protected => Some(Standing::stalled(
            reason::DELETION_PROTECTED,
            "spec.importedKeyMaterial was removed, but the key has deletionProtection: its material stays. Set \
             deletionProtection to false to delete it, or declare it again.",
        )),
        MaterialStep::Expired => {
            let message = format!(
                "The material of key {} is declared to expire at a time that has passed. To use the key, declare a \
                 later importedKeyMaterial.expireTime, with the same material in Secret {secret}.",
                record.key_id
            );
            Some(Standing::stalled(reason::MATERIAL_EXPIRED, message))
        }
        MaterialStep::Import(_) => match o.import_problem.as_ref()? {
            ImportProblem::NoSecret => Some(Standing::waiting(
                reason::MATERIAL_NOT_FOUND,
                format!("Secret {secret}, which holds the material, does not exist. It is waited for."),
            )),
            ImportProblem::NoEntry => Some(Standing::waiting(
                reason::MATERIAL_NOT_FOUND,
                format!("Secret {secret} has no entry {key} with the material. It is waited for."),
            )),
            ImportProblem::Refused(refusal) => {
                let reason = match refusal {
                    ImportRefusal::Token(ImportTokenError::Expired) => reason::EXPIRED_IMPORT_TOKEN,
                    ImportRefusal::Token(ImportTokenError::Invalid) => reason::INVALID_IMPORT_TOKEN,
                    ImportRefusal::Invalid | ImportRefusal::Different => reason::INVALID_KEY_MATERIAL,
                };
                let message = format!("The material in Secret {secret}, entry {key}, is refused: {refusal}.");
                Some(Standing::stalled(reason, message))
            }
        },
    }
}

/// A rotation that was asked for, or is due, and can't be made (rule 8).
pub fn rotation(record: &KeyRecord, desired: &DesiredKey, now: Timestamp) -> Option<Standing> {
    let requested = desired.rotation_request.as_ref().is_some_and(|request| !record.has_handled(request));
    let due = record.next_rotation(now).is_some_and(|next| next <= now);
    if !requested && !due {
        return None;
    }
    if record.origin == Origin::External {
        let message = format!(
            "A rotation was requested, and keys with origin EXTERNAL never rotate: remove the annotation {}.",
            metadata::ROTATE_REQUESTED_AT
        );
        return Some(Standing::stalled(reason::ROTATION_REFUSED, message));
    }
    if record.versions.len() >= MAX_KEY_VERSIONS {
        return Some(Standing::stalled(reason::ROTATION_REFUSED, format!("{}.", StepError::TooManyVersions)));
    }
    let message = format!(
        "A rotation was requested, and the key is {}: it is made when the key is Enabled. To withdraw it, remove the \
         annotation {}.",
        record.state(now),
        metadata::ROTATE_REQUESTED_AT
    );
    Some(Standing::waiting(reason::ROTATION_SUSPENDED, message))
}

/// What a key is that is as declared.
pub fn ready(record: &KeyRecord, now: Timestamp) -> String {
    match (record.state(now), &record.deletion) {
        (KeyState::PendingDeletion, Some(d)) => format!("PendingDeletion, as declared; deleted at {}.", d.delete_date),
        (KeyState::Enabled, _) => "Enabled.".into(),
        (KeyState::PendingImport, _) => {
            "PendingImport, as declared: spec.importedKeyMaterial names no material.".into()
        }
        (state, _) => format!("{state}, as declared."),
    }
}

/// The DataKeys that keep an object from going.
pub fn in_use(data_keys: &[(String, String)]) -> String {
    const NAMED: usize = 5;
    let named: Vec<_> = data_keys.iter().take(NAMED).map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    let more = data_keys.len().saturating_sub(NAMED);
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (count, refer) = (data_keys.len(), if data_keys.len() == 1 { "DataKey refers" } else { "DataKeys refer" });
    format!("{count} {refer} to the key: {}{others}. Delete them first.", named.join(", "))
}

/// The key stays because it is protected (rule 7).
pub fn retained_by_protection(record: &KeyRecord, now: Timestamp) -> String {
    let why =
        if record.is_service_managed() { "The operator manages this key" } else { "The key has deletionProtection" };
    let (id, state) = (record.key_id, record.state(now));
    format!("{why}: key {id} stays {state}, though its object is deleted. Apply the object again to take it back.")
}

/// The key stays because the object says so.
pub fn retained_by_policy(record: &KeyRecord, now: Timestamp) -> String {
    let (id, state) = (record.key_id, record.state(now));
    format!("deletionPolicy is Retain: key {id} stays {state}. Apply the object again to take it back.")
}
