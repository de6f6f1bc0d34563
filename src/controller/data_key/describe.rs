//! What is said about a data key: status, conditions, Events. Never anything that depends on the plaintext.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    annotations::{self, Malformed},
    ciphertext::{Ciphertext, Source},
    plan::{Observed, Plan, Step},
    rotation::{self, MAX_HISTORY, Refusal},
};
use crate::{
    api::{
        DataKeyStatus,
        conditions::{self, Standing, reason},
        data_key::{FormerDataKey, SecretRef},
        metadata,
    },
    cluster::EventNote,
    controller::events::news,
    crypto::parse_header,
    kms::{KeyRecord, KeyState, key_record::to_seconds},
    store::{StoreError, StoredKey},
};

/// The plan that writes what there is to say, if it differs from what was said.
pub fn status(o: &Observed, standing: &Standing, now: Timestamp) -> Plan {
    let before = o.object.status.clone().unwrap_or_default();
    let mut after = with_conditions(o, before.clone(), standing, now);
    if matches!(standing, Standing::Ready { .. }) {
        after.secret_ref = Some(SecretRef { name: o.object.spec.secret_name(&o.object.name_any()).to_owned() });
    }
    after.next_rotation = rotation::next_rotation(&o.object.spec, after.generated_at.as_ref());
    let events = news(standing, &before.conditions);
    if o.object.status.as_ref() == Some(&after) {
        // A Secret that is in the way has no label of ours, so nothing tells when it goes.
        let retry = standing.failure().is_some_and(|(r, _)| r == reason::SECRET_CONFLICT);
        return Plan { step: Step::Rest { retry }, events: Vec::new() };
    }
    Plan { step: Step::WriteStatus(Box::new(after)), events }
}

fn with_conditions(o: &Observed, status: DataKeyStatus, standing: &Standing, now: Timestamp) -> DataKeyStatus {
    let generation = o.object.metadata.generation;
    let conditions = conditions::conditions(&standing.findings(), &status.conditions, generation, now);
    DataKeyStatus { observed_generation: generation, conditions, ..status }
}

/// The status that stores a ciphertext.
fn stored(o: &Observed, text: &str, now: Timestamp) -> DataKeyStatus {
    let header = BASE64_STANDARD.decode(text).ok().and_then(|blob| parse_header(&blob).ok());
    let before = o.object.status.clone().unwrap_or_default();
    let known = annotations::generated_at(&o.object, text, now);
    let generated_at = known.or_else(|| Some(Time(to_seconds(now))));
    let answered = rotation::request(&o.object).filter(|_| o.object.spec.ciphertext_blob.is_none());
    let status = DataKeyStatus {
        key_id: header.map(|h| h.key_id.to_string()),
        key_version_id: header.map(|h| h.key_version_id.to_string()),
        ciphertext_blob: Some(text.to_owned()),
        next_rotation: rotation::next_rotation(&o.object.spec, generated_at.as_ref()),
        generated_at,
        last_handled_rotation: answered.cloned().or_else(|| before.last_handled_rotation.clone()),
        ..before
    };
    with_conditions(o, status, &delivering(), now)
}

fn delivering() -> Standing {
    Standing::waiting(reason::DELIVERING, "The data key is stored; its Secret comes next.")
}

/// The status that stores a generated ciphertext. One that is there goes into the history in the same write, and the
/// request for the rotation is answered in it, so that it happens once. Where status was lost, and the current data key
/// everywhere, the history of the annotation is taken over.
pub fn generated(o: &Observed, text: &str, now: Timestamp) -> DataKeyStatus {
    let mut status = stored(o, text, now);
    let before = o.object.status.as_ref();
    if let Some(ciphertext_blob) = before.and_then(|status| status.ciphertext_blob.clone()) {
        let generated_at = before.and_then(|status| status.generated_at.clone()).unwrap_or(Time(to_seconds(now)));
        status.history.push(FormerDataKey { ciphertext_blob, generated_at });
    }
    status.history.extend(o.annotated.iter().flatten().map(|found| found.former.clone()));
    status
}

/// A data key that was found; when it was generated is not known.
pub fn former(text: &str, now: Timestamp) -> FormerDataKey {
    FormerDataKey { ciphertext_blob: text.to_owned(), generated_at: Time(to_seconds(now)) }
}

/// The plan that takes data keys into the history that were found in the Secret only.
pub fn take_in(o: &Observed, strays: Vec<FormerDataKey>, now: Timestamp) -> Plan {
    let message = format!(
        "Secret {} had {} that status did not know, as after a restore: kept in status.history.",
        secret_name(o),
        if strays.len() == 1 { "an earlier data key" } else { "earlier data keys" }
    );
    let mut status = o.object.status.clone().unwrap_or_default();
    status.history.extend(strays);
    let status = with_conditions(o, status, &delivering(), now);
    Plan {
        step: Step::WriteStatus(Box::new(status)),
        events: vec![EventNote::normal(reason::DATA_KEY_ADOPTED, "Adopt", message)],
    }
}

/// The Event about a rotation.
pub fn rotated(o: &Observed) -> EventNote {
    let why = match rotation::is_requested(&o.object) {
        true => "as requested",
        false => "as its rotationIntervalDays have passed",
    };
    let without_plaintext = o.object.spec.without_plaintext.unwrap_or(false);
    let entry = if without_plaintext { "previous-ciphertextBlob" } else { "previous-plaintext" };
    let message = format!(
        "A new data key was generated, {why}. The one before stays in Secret {} as {entry}, and in status.history.",
        secret_name(o)
    );
    EventNote::normal(reason::DATA_KEY_ROTATED, "Rotate", message)
}

/// The Event about the service key.
pub fn service_key_made() -> EventNote {
    let message = format!(
        "CustomerMasterKey {} ({}) was made for the DataKeys of this namespace that have no keyRef.",
        metadata::SERVICE_KEY,
        metadata::SERVICE_KEY_ALIAS
    );
    EventNote::normal(reason::SERVICE_KEY_CREATED, "Create", message)
}

/// The Event about earlier data keys, so many, that were taken over without a current one.
pub fn history_found(earlier: usize) -> Vec<EventNote> {
    if earlier == 0 {
        return Vec::new();
    }
    let message = format!(
        "Status was lost, and with it the current data key, as the annotation {} is gone and no Secret has it: a new one \
         was generated. Of the earlier ones {earlier} were taken over into status.history, from the annotation {}.",
        metadata::CIPHERTEXT_BLOB,
        metadata::CIPHERTEXT_HISTORY
    );
    vec![EventNote::warning(reason::DATA_KEY_ADOPTED, "Adopt", message)]
}

/// The plan that stores a ciphertext that was found elsewhere than in status, and in the same write what was found of the
/// history.
pub fn take_over(o: &Observed, ciphertext: &Ciphertext, history: Vec<FormerDataKey>, now: Timestamp) -> Plan {
    let from = match ciphertext.source {
        Source::Spec | Source::Status => None,
        Source::Annotation => Some("its annotation"),
        Source::Secret => Some("its Secret"),
    };
    let events = from
        .map(|from| {
            let earlier = match history.len() {
                0 => String::new(),
                count => format!(" Earlier ones in status.history: {count}."),
            };
            let message = format!("Status was lost; the data key was taken over from {from}.{earlier}");
            EventNote::normal(reason::DATA_KEY_ADOPTED, "Adopt", message)
        })
        .into_iter()
        .collect();
    let mut status = stored(o, &ciphertext.text, now);
    status.history.extend(history);
    Plan { step: Step::WriteStatus(Box::new(status)), events }
}

fn secret_name(o: &Observed) -> String {
    o.object.spec.secret_name(&o.object.name_any()).to_owned()
}

fn master(o: &Observed) -> String {
    let own = o.object.namespace().unwrap_or_default();
    let (namespace, name) = o.object.spec.master(&own);
    format!("CustomerMasterKey {namespace}/{name}")
}

/// The Secret is as it should be.
pub fn delivered(o: &Observed) -> Standing {
    Standing::Ready { message: format!("Delivered as Secret {}.", secret_name(o)) }
}

/// The key does not exist, as far as the operator can see: it is waited for.
pub fn no_master(o: &Observed) -> Standing {
    let message = match o.master_is_watched {
        true => format!("{} does not exist. It is waited for.", master(o)),
        false => format!(
            "{} can't be seen: its namespace is not one that this operator watches (--watch-namespaces).",
            master(o)
        ),
    };
    Standing::waiting(reason::KEY_NOT_FOUND, message)
}

/// The service key does not exist, and is not to be made (rule 20).
pub fn creation_paused(o: &Observed) -> Standing {
    Standing::stalled(
        reason::CREATION_PAUSED,
        format!(
            "{} does not exist, and no key is made while the operator runs with --no-new-keys. Restore the keys \
             first; then run it without.",
            master(o)
        ),
    )
}

/// The key's namespace does not let this one use it (rule 15).
pub fn key_not_shared(o: &Observed) -> Standing {
    let own = o.object.namespace().unwrap_or_default();
    Standing::waiting(
        reason::KEY_NOT_SHARED,
        format!(
            "{}: its spec.allowedNamespaces does not select the namespace {own}. No data key is generated, restored or \
             rotated; have it shared with this namespace.{}",
            master(o),
            stays(o)
        ),
    )
}

/// What a Secret that was delivered has to do with it.
fn stays(o: &Observed) -> String {
    match o.object.status.as_ref().and_then(|s| s.secret_ref.as_ref()) {
        Some(secret) => format!(" Secret {} stays as delivered.", secret.name),
        None => String::new(),
    }
}

/// The key is not there yet, or its object is in trouble.
pub fn key_not_ready(o: &Observed) -> Standing {
    Standing::waiting(reason::KEY_NOT_READY, format!("{} has no key yet; see its conditions.", master(o)))
}

/// The key was erased.
pub fn key_deleted(o: &Observed, record: &KeyRecord) -> Standing {
    Standing::stalled(
        reason::KEY_DELETED,
        format!("The key {} of {} was deleted: its data keys can't be decrypted.", record.key_id, master(o)),
    )
}

/// The key can't be used.
pub fn key_error(o: &Observed, error: &StoreError) -> Standing {
    Standing::waiting(reason::KEY_NOT_READY, format!("{} can't be used: {error}.", master(o)))
}

/// The key's state forbids it (rule 13).
pub fn key_state(o: &Observed, record: &KeyRecord, now: Timestamp) -> Standing {
    let state = record.state(now);
    let (reason, remedy) = match state {
        KeyState::Enabled | KeyState::Disabled => (reason::KEY_DISABLED, "enable it"),
        KeyState::PendingDeletion => (reason::KEY_PENDING_DELETION, "cancel its deletion"),
        KeyState::PendingImport => (reason::KEY_PENDING_IMPORT, "import its material"),
    };
    let stays = stays(o);
    Standing::waiting(
        reason,
        format!("{} is {state}: no data key is generated, restored or rotated; {remedy}.{stays}", master(o)),
    )
}

/// A ciphertext of the DataKey was not decrypted, for a reason that is not in the ciphertext.
pub fn can_not_open(o: &Observed, key: &StoredKey, error: &StoreError, now: Timestamp) -> Standing {
    match error {
        StoreError::Refused(_) => key_state(o, &key.record, now),
        error => key_error(o, error),
    }
}

/// A rotation is declared or requested that is never possible.
pub fn rotation_refused(refusal: Refusal) -> Standing {
    let why = match refusal {
        Refusal::Given => "a data key that was given in spec.ciphertextBlob does not rotate",
        Refusal::ImmutableSecret => "the Secret is immutable (spec.secret.immutable), and can't get another data key",
    };
    Standing::stalled(
        reason::ROTATION_REFUSED,
        format!(
            "A rotation is asked for, and {why}. The data key stays delivered; remove the annotation {} and \
             spec.rotationIntervalDays.",
            metadata::ROTATE_REQUESTED_AT
        ),
    )
}

/// A rotation is due, and there is no room for the data key that it would replace.
pub fn history_full(o: &Observed) -> Standing {
    Standing::stalled(
        reason::HISTORY_FULL,
        format!(
            "A rotation is due, and status.history holds {MAX_HISTORY} data keys, of which none is ever dropped. Secret \
             {} stays delivered. Make a new DataKey and encrypt with that one; to keep this one as it is, remove \
             spec.rotationIntervalDays and the annotation {}.",
            secret_name(o),
            metadata::ROTATE_REQUESTED_AT
        ),
    )
}

/// A rotation is due, and the annotations have no room for the data key that it would replace.
pub fn annotations_full(o: &Observed) -> Standing {
    Standing::stalled(
        reason::HISTORY_FULL,
        format!(
            "A rotation is due, and the annotations of this DataKey, which may have 256 KiB, have no room for one more data \
             key in {}. Secret {} stays delivered. Remove annotations that are not the operator's.",
            metadata::CIPHERTEXT_HISTORY,
            secret_name(o)
        ),
    )
}

/// The Secret holds data keys that status has no room for.
pub fn no_room_for_strays(o: &Observed) -> Standing {
    let name = secret_name(o);
    Standing::stalled(
        reason::HISTORY_FULL,
        format!(
            "Secret {name} holds a data key of this DataKey that status does not know, and status.history is full \
             ({MAX_HISTORY}). The Secret is left as it is. Copy it if its data key is needed, and delete it."
        ),
    )
}

/// A data key in the history is not this DataKey's.
pub fn foreign_history(o: &Observed) -> Standing {
    Standing::stalled(
        reason::FOREIGN_CIPHERTEXT,
        format!(
            "The newest entry of status.history was not made for this DataKey by the key that {} has now: the Secret is \
             left as it is. Restore status from a backup.",
            master(o)
        ),
    )
}

/// An entry of the annotation with the data keys before, counted from 0, is not this DataKey's.
pub fn foreign_annotated(o: &Observed, index: usize) -> Standing {
    Standing::stalled(
        reason::FOREIGN_CIPHERTEXT,
        format!(
            "Entry {} of the annotation {} was not made for this DataKey by the key that {} has now: nothing is delivered. \
             Restore the annotation from a backup, or take this entry out of it; it can be given in \
             spec.ciphertextBlob of a new DataKey.",
            index + 1,
            metadata::CIPHERTEXT_HISTORY,
            master(o)
        ),
    )
}

/// The annotation with the data keys before can't be read.
pub fn malformed_history(malformed: Malformed) -> Standing {
    let name = metadata::CIPHERTEXT_HISTORY;
    Standing::stalled(
        reason::FOREIGN_CIPHERTEXT,
        format!(
            "Status was lost, and the annotation {name} is {malformed}: nothing is delivered. Restore the annotation from \
             a backup. If there is none, copy what is in it and remove it: the earlier data keys that only it has can then \
             be given in spec.ciphertextBlob of new DataKeys."
        ),
    )
}

/// The ciphertext is not this DataKey's, or not this key's.
pub fn foreign(o: &Observed, ciphertext: &Ciphertext) -> Standing {
    match ciphertext.source {
        Source::Spec => Standing::stalled(
            reason::INVALID_CIPHERTEXT,
            format!(
                "spec.ciphertextBlob does not decrypt under {} with spec.encryptionContext, or not to the declared \
                 length. It can't be changed: delete this DataKey and apply a corrected one.",
                master(o)
            ),
        ),
        Source::Status => Standing::stalled(
            reason::FOREIGN_CIPHERTEXT,
            format!(
                "status.ciphertextBlob was not made for this DataKey by the key that {} has now. If that key was \
                 abandoned, delete this DataKey and its Secret for a new data key; else restore status.",
                master(o)
            ),
        ),
        Source::Annotation => Standing::stalled(
            reason::FOREIGN_CIPHERTEXT,
            format!(
                "The annotation {} was not made for this DataKey: it is never delivered. Remove the annotation, or \
                 give the ciphertext in spec.ciphertextBlob of a new DataKey.",
                metadata::CIPHERTEXT_BLOB
            ),
        ),
        Source::Secret => Standing::stalled(
            reason::FOREIGN_CIPHERTEXT,
            format!(
                "Secret {} holds a data key of another key, encryption context or length. Delete the Secret, if its \
                 data key is not needed, to have a new one generated.",
                o.object.spec.secret_name(&o.object.name_any())
            ),
        ),
    }
}

/// The data key is in the Secret alone, as a ciphertext whose plaintext is not beside it (rule 18).
pub fn withheld(o: &Observed) -> Standing {
    Standing::stalled(
        reason::PLAINTEXT_WITHHELD,
        format!(
            "Secret {} has the data key as a ciphertext only, which nothing else has: it is neither decrypted nor dropped. \
             To have it delivered, put its ciphertextBlob into the annotation {} of this DataKey, which needs the verb \
             decrypt on the key; or set spec.withoutPlaintext: true; or delete the Secret to have a new data key \
             generated.",
            secret_name(o),
            metadata::CIPHERTEXT_BLOB
        ),
    )
}

/// The same of a data key beside the current one.
pub fn former_withheld(o: &Observed) -> Standing {
    let name = secret_name(o);
    Standing::stalled(
        reason::PLAINTEXT_WITHHELD,
        format!(
            "Secret {name} has another data key of this DataKey, as a ciphertext only, which nothing else has: it is \
             neither decrypted nor dropped, and the Secret left as it is. Take it out of the Secret. To have it \
             delivered, give it in spec.ciphertextBlob of a new DataKey, which needs the verb decrypt on the key."
        ),
    )
}

/// A Secret that is not ours is in the way (rule 14).
pub fn secret_conflict(name: &str) -> Standing {
    Standing::stalled(
        reason::SECRET_CONFLICT,
        format!(
            "Secret {name} exists and is not this DataKey's: it is never overwritten. Delete it, or choose another \
             spec.secret.name."
        ),
    )
}
