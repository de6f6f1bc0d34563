//! What is said about a key: its status, its conditions, its Events. Every sentence says what is, and where
//! something is wrong, what to do.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use uuid::Uuid;

use super::plan::{Observed, Plan, Step};
use crate::{
    api::{
        CustomerMasterKeySpec, CustomerMasterKeyStatus,
        conditions::{self, Finding, PURGE_HELD, READY, Standing, reason},
        customer_master_key::{KeyManager, KeyMetadata, KeyStoreKind, KeyStoreRef, KeyVersion, ProtectionLevel},
        metadata,
    },
    cluster::EventNote,
    controller::{events::news, purge::Hold},
    kms::{DesiredKey, KeyRecord, KeyState, KeyStep, Origin, desired_key::Blocked, limits::PendingDeletionDays},
    store::{StoreError, StoredKey},
};

/// How many versions status shows: the newest.
const VERSIONS_SHOWN: usize = 10;

/// The plan that writes what there is to say, if it differs from what was said. A failure that is new, or has
/// a new reason, is an Event too.
pub fn status(o: &Observed, key: Option<&StoredKey>, standing: &Standing, now: Timestamp) -> Plan {
    let before = o.object.status.clone().unwrap_or_default();
    let mut findings = standing.findings();
    if let Some(key) = key
        && key.record.state() == KeyState::PendingDeletion
        && !key.record.is_tombstone()
    {
        findings.push(purge_held(o.held));
    }
    let generation = o.object.metadata.generation;
    let after = CustomerMasterKeyStatus {
        observed_generation: generation,
        key_store_ref: Some(KeyStoreRef { kind: KeyStoreKind::ClusterKeyStore, name: "default".into() }),
        // A key whose record can't be found or read keeps the metadata last seen: its id is what one looks for.
        key_metadata: key.map(|k| key_metadata(&k.record)).or(before.key_metadata.clone()),
        key_versions: key.map_or(before.key_versions.clone(), |k| key_versions(&k.record)),
        conditions: conditions::conditions(&findings, &before.conditions, generation, now),
    };
    let events = news(standing, &before.conditions);
    if o.object.status.as_ref() == Some(&after) {
        return Plan::just(Step::Rest);
    }
    Plan { step: Step::WriteStatus(Box::new(after)), events }
}

fn purge_held(held: Option<Hold>) -> Finding {
    match held {
        None => Finding::new(PURGE_HELD, false, reason::NOT_DUE, ""),
        Some(Hold::ClockSkew) => Finding::new(
            PURGE_HELD,
            true,
            reason::CLOCK_SKEW,
            "The key is due, but the operator's clock and the API server's differ by more than \
             --clock-skew-tolerance: nothing is erased until they agree.",
        ),
        Some(Hold::RateLimited) => Finding::new(
            PURGE_HELD,
            true,
            reason::PURGE_RATE_LIMITED,
            "The key is due, but as many keys as may be erased in an hour were. If this is not meant, cancel the \
             deletion: set scheduleDeletion to false.",
        ),
    }
}

/// The metadata of a key in the vocabulary of the clouds.
fn key_metadata(record: &KeyRecord) -> KeyMetadata {
    KeyMetadata {
        key_id: record.key_id.to_string(),
        arn: resource_name(record),
        key_state: record.state(),
        creation_date: Time(record.creation_date),
        delete_date: record.deletion.as_ref().map(|d| Time(d.delete_date)),
        description: record.description.clone(),
        key_usage: record.key_usage,
        key_spec: match record.origin {
            Origin::AliyunKms => "Aliyun_AES_256".into(),
            Origin::AwsKms => "SYMMETRIC_DEFAULT".into(),
        },
        origin: record.origin,
        creator: record.account_id.clone(),
        key_manager: KeyManager::Customer,
        protection_level: ProtectionLevel::Software,
        primary_key_version: record.primary_version().map(|v| v.id.to_string()),
    }
}

/// The resource name in the form of the key's origin; AWS accounts have 12 digits.
fn resource_name(record: &KeyRecord) -> String {
    let KeyRecord { region, account_id, key_id, .. } = record;
    match record.origin {
        Origin::AliyunKms => format!("acs:kms:{region}:{account_id}:key/{key_id}"),
        Origin::AwsKms => format!("arn:aws:kms:{region}:{account_id:0>12}:key/{key_id}"),
    }
}

fn key_versions(record: &KeyRecord) -> Vec<KeyVersion> {
    let newest = record.versions.len().saturating_sub(VERSIONS_SHOWN);
    record.versions[newest..]
        .iter()
        .map(|v| KeyVersion { id: v.id.to_string(), creation_date: Time(v.creation_date) })
        .collect()
}

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

/// The store does not take the declared window.
pub fn window_unsupported(days: i32, limits: PendingDeletionDays) -> String {
    format!("spec.pendingDeletionDays is {days}, and the key store takes {} to {}.", limits.min, limits.max)
}

/// The key was erased.
pub fn key_deleted(record: &KeyRecord) -> String {
    let when = record.erased_at.map(|t| t.to_string()).unwrap_or_default();
    format!(
        "Key {id} was deleted at {when}; its material is erased and nothing decrypts under it any more. For a new \
         key, annotate this object with {annotation}={id}.",
        id = record.key_id,
        annotation = metadata::ABANDON_KEY
    )
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
    (declared != is).then(|| {
        format!(
            "spec.origin is {}, but key {} was made with origin {}. Declare that one, or annotate this object with \
             {}={} for a new key.",
            name(declared),
            record.key_id,
            name(is),
            metadata::ABANDON_KEY,
            record.key_id
        )
    })
}

fn name(origin: Origin) -> &'static str {
    match origin {
        Origin::AliyunKms => "Aliyun_KMS",
        Origin::AwsKms => "AWS_KMS",
    }
}

/// What the key's state keeps from being changed.
pub fn blocked(blocked: &Blocked) -> String {
    format!(
        "spec.{} can't be changed while the key is PendingDeletion: set scheduleDeletion to false, or take the \
         change back.",
        blocked.fields.join(" and spec.")
    )
}

/// What a key is that is as declared.
pub fn ready(record: &KeyRecord) -> String {
    match (record.state(), &record.deletion) {
        (KeyState::PendingDeletion, Some(d)) => format!("PendingDeletion, as declared; deleted at {}.", d.delete_date),
        (KeyState::Enabled, _) => "Enabled.".into(),
        (state, _) => format!("{state}, as declared."),
    }
}

/// The key was given up.
pub fn abandoned(record: &KeyRecord) -> EventNote {
    EventNote::warning(
        reason::KEY_ABANDONED,
        "Abandon",
        format!("Key {} was given up for a new one, as annotated. Its record stays.", record.key_id),
    )
}

/// The key stays because the object says so.
pub fn retained_by_policy(record: &KeyRecord) -> String {
    format!(
        "deletionPolicy is Retain: key {} stays {}. Apply the object again to take it back.",
        record.key_id,
        record.state()
    )
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

/// The Events about a new key: none, as its status says it all, unless its end is near.
pub fn created(desired: &DesiredKey) -> Vec<EventNote> {
    let days = desired.pending_deletion_days;
    let message = format!("The key is made, and scheduled for deletion in {days} days, as declared.");
    let event = EventNote::warning(reason::DELETION_SCHEDULED, "ScheduleKeyDeletion", message);
    desired.schedule_deletion.then_some(event).into_iter().collect()
}

/// The Events about changes to a key. Changes that nobody declared since the last pass are drift (rule 2).
pub fn changes(o: &Observed, record: &KeyRecord, steps: &[KeyStep], now: Timestamp) -> Vec<EventNote> {
    let id = record.key_id;
    let claimed = steps.iter().any(|s| matches!(s, KeyStep::Claim { .. }));
    if !claimed && o.was_as_declared() {
        let what: Vec<_> = steps.iter().map(step_name).collect();
        let message = format!("Key {id} was not as declared and was brought back: {}.", what.join(", "));
        return vec![EventNote::warning(reason::DRIFT_CORRECTED, "Reconcile", message)];
    }
    let after = record.apply_all(steps, now).unwrap_or_else(|_| record.clone());
    let mut events = Vec::new();
    if claimed {
        let message = format!("Existing key {id} was taken over: ciphertext made with it decrypts.");
        events.push(EventNote::normal(reason::KEY_ADOPTED, "Adopt", message));
    }
    for step in steps {
        match step {
            KeyStep::ScheduleDeletion { .. } => events.push(deletion_scheduled(&after, false)),
            KeyStep::CancelDeletion if after.deletion.is_none() => events.push(EventNote::normal(
                reason::DELETION_CANCELLED,
                "CancelKeyDeletion",
                format!("The deletion of key {id} was cancelled."),
            )),
            KeyStep::Enable => {
                events.push(EventNote::normal(reason::KEY_ENABLED, "EnableKey", format!("Key {id} was enabled.")));
            }
            KeyStep::Disable => {
                let message = format!("Key {id} was disabled: nothing encrypts or decrypts with it.");
                events.push(EventNote::normal(reason::KEY_DISABLED, "DisableKey", message));
            }
            _ => {}
        }
    }
    events
}

/// The API operation that a step amounts to.
fn step_name(step: &KeyStep) -> &'static str {
    match step {
        KeyStep::Claim { .. } => "Claim",
        KeyStep::Release => "Release",
        KeyStep::Abandon => "Abandon",
        KeyStep::SetDescription(_) => "UpdateKeyDescription",
        KeyStep::SetTags(_) => "TagResource",
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
