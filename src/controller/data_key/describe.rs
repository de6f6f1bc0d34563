//! What is said about a data key: status, conditions, Events. Never anything that depends on the plaintext.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    ciphertext::{Ciphertext, Source},
    plan::{Observed, Plan, Step},
};
use crate::{
    api::{
        DataKeyStatus,
        conditions::{self, Standing, reason},
        data_key::SecretRef,
        metadata,
    },
    cluster::EventNote,
    controller::events::news,
    crypto::parse_header,
    kms::{KeyRecord, KeyState, key_record::to_seconds},
    store::StoreError,
};

/// The plan that writes what there is to say, if it differs from what was said.
pub fn status(o: &Observed, standing: &Standing, now: Timestamp) -> Plan {
    let before = o.object.status.clone().unwrap_or_default();
    let mut after = with_conditions(o, before.clone(), standing, now);
    if matches!(standing, Standing::Ready { .. }) {
        after.secret_ref = Some(SecretRef { name: o.object.spec.secret_name(&o.object.name_any()).to_owned() });
    }
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
pub fn stored(o: &Observed, text: &str, now: Timestamp) -> DataKeyStatus {
    let header = BASE64_STANDARD.decode(text).ok().and_then(|blob| parse_header(&blob).ok());
    let standing = Standing::waiting(reason::DELIVERING, "The data key is stored; its Secret comes next.");
    let before = o.object.status.clone().unwrap_or_default();
    let status = DataKeyStatus {
        key_id: header.map(|h| h.key_id.to_string()),
        key_version_id: header.map(|h| h.key_version_id.to_string()),
        ciphertext_blob: Some(text.to_owned()),
        generated_at: Some(Time(to_seconds(now))),
        ..before
    };
    with_conditions(o, status, &standing, now)
}

/// The plan that stores a ciphertext that was found elsewhere than in status.
pub fn take_over(o: &Observed, ciphertext: &Ciphertext, now: Timestamp) -> Plan {
    let from = match ciphertext.source {
        Source::Spec | Source::Status => None,
        Source::Annotation => Some("its annotation"),
        Source::Secret => Some("its Secret"),
    };
    let events = from
        .map(|from| {
            let message = format!("Status was lost; the data key was taken over from {from}.");
            EventNote::normal(reason::DATA_KEY_ADOPTED, "Adopt", message)
        })
        .into_iter()
        .collect();
    Plan { step: Step::WriteStatus(Box::new(stored(o, &ciphertext.text, now))), events }
}

fn master(o: &Observed) -> String {
    let own = o.object.namespace().unwrap_or_default();
    let (namespace, name) = o.object.spec.master(&own);
    format!("CustomerMasterKey {namespace}/{name}")
}

/// The key does not exist: it is waited for.
pub fn no_master(o: &Observed) -> Standing {
    Standing::waiting(reason::KEY_NOT_FOUND, format!("{} does not exist. It is waited for.", master(o)))
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
    let delivered = match o.object.status.as_ref().and_then(|s| s.secret_ref.as_ref()) {
        Some(secret) => format!(" Secret {} stays as delivered.", secret.name),
        None => String::new(),
    };
    Standing::waiting(
        reason,
        format!("{} is {state}: no data key is generated or restored; {remedy}.{delivered}", master(o)),
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
