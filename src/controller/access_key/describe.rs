//! What is said about an access key: status, conditions, Events. Never its secret half.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    plan::{Observed, Plan, Step, service_account},
    rotation,
};
use crate::{
    access_keys::AccessKeyRecord,
    api::{
        AccessKeyStatus,
        conditions::{self, Standing, reason},
        data_key::SecretRef,
    },
    cluster::EventNote,
    controller::events::news,
    store::StoreError,
};

/// The plan that writes what there is to say, if it differs from what was said.
pub fn status(o: &Observed, standing: &Standing, now: Timestamp) -> Plan {
    let before = o.object.status.clone().unwrap_or_default();
    let generation = o.object.metadata.generation;
    let conditions = conditions::conditions(&standing.findings(), &before.conditions, generation, now);
    let events = news(standing, &before.conditions);
    let mut after = AccessKeyStatus { observed_generation: generation, conditions, ..before };
    if let Some(record) = o.stored_record() {
        say_record(o, record, &mut after);
    }
    if matches!(standing, Standing::Ready { .. }) {
        after.secret_ref = Some(SecretRef { name: o.secret_name().to_owned() });
    }
    if o.object.status.as_ref() == Some(&after) {
        // A Secret that is in the way has no label of ours, so nothing tells when it goes.
        let retry = standing.failure().is_some_and(|(r, _)| r == reason::SECRET_CONFLICT);
        return Plan { step: Step::Rest { retry }, events: Vec::new() };
    }
    Plan { step: Step::WriteStatus(Box::new(after)), events }
}

fn say_record(o: &Observed, record: &AccessKeyRecord, status: &mut AccessKeyStatus) {
    let (current, previous) = (&record.current, record.previous.as_ref());
    status.access_key_id = Some(current.access_key_id.clone());
    status.created_at = Some(Time(current.created_at));
    status.previous_access_key_id = previous.map(|former| former.key.access_key_id.clone());
    status.previous_expires_at = previous.map(|former| Time(former.expires));
    status.next_rotation = rotation::next_rotation(&o.object.spec, current.created_at).map(Time);
    status.last_handled_rotation = record.last_handled_rotation.clone();
}

/// The Secret is as it should be.
pub fn delivered(o: &Observed) -> Standing {
    Standing::Ready {
        message: format!(
            "An access key of ServiceAccount {}, delivered as Secret {}.",
            o.object.spec.service_account_name,
            o.secret_name()
        ),
    }
}

/// The ServiceAccount does not exist: it is waited for. An access key that was made before works no more.
pub fn no_service_account(o: &Observed) -> Standing {
    let had = match o.stored_record() {
        Some(_) => " The access key in the Secret works no more.",
        None => "",
    };
    Standing::waiting(
        reason::SERVICE_ACCOUNT_NOT_FOUND,
        format!("ServiceAccount {} does not exist. It is waited for.{had}", service_account(&o.object)),
    )
}

/// The region is that of the key store `default`.
pub fn no_region() -> Standing {
    Standing::waiting(
        reason::KEY_STORE_NOT_FOUND,
        "ClusterKeyStore default, whose region goes into the Secret, can't be used; see its conditions.",
    )
}

/// A Secret that is not ours is in the way.
pub fn secret_conflict(name: &str) -> Standing {
    Standing::stalled(
        reason::SECRET_CONFLICT,
        format!(
            "Secret {name} exists and is not this AccessKey's: it is never overwritten. Delete it, or choose another \
             spec.secret.name."
        ),
    )
}

/// The record can't be used.
pub fn record_error(error: &StoreError) -> Standing {
    let anew = "Restore it, or delete this AccessKey and apply it again for a new access key.";
    match error {
        StoreError::Tampered { .. } => Standing::stalled(
            reason::RECORD_TAMPERED,
            format!("The record of this access key is not what the operator wrote: it is not valid. {anew}"),
        ),
        StoreError::RootKeyMissing { root_key_id } => Standing::stalled(
            reason::ROOT_KEY_MISSING,
            format!(
                "This access key is sealed under root key {root_key_id}, which this operator does not have: give it \
                 with --root-key-file, or delete this AccessKey and apply it again for a new access key."
            ),
        ),
        error => Standing::stalled(reason::RECORD_FORMAT_UNKNOWN, format!("{error}. {anew}")),
    }
}

/// The Event about a first access key, or about one in the place of a lost record's.
pub fn created(o: &Observed) -> EventNote {
    let account = &o.object.spec.service_account_name;
    match o.object.status.as_ref().and_then(|status| status.access_key_id.as_ref()) {
        None => EventNote::normal(
            reason::ACCESS_KEY_CREATED,
            "Create",
            format!("An access key of ServiceAccount {account} was made."),
        ),
        Some(lost) => EventNote::warning(
            reason::ACCESS_KEY_REPLACED,
            "Create",
            format!(
                "Access key {lost} works no more, as its record is gone; a new one of ServiceAccount {account} was made. \
                 Restart the pods that use Secret {}.",
                o.secret_name()
            ),
        ),
    }
}

/// The Event about an access key of a ServiceAccount that was made anew.
pub fn replaced(o: &Observed) -> EventNote {
    let message = format!(
        "ServiceAccount {} was made anew: its access key works no more, and a new one was made. Restart the pods that use \
         Secret {}.",
        o.object.spec.service_account_name,
        o.secret_name()
    );
    EventNote::warning(reason::ACCESS_KEY_REPLACED, "Create", message)
}

/// The Event about a rotation.
pub fn rotated(o: &Observed, record: &AccessKeyRecord, expires: Timestamp) -> EventNote {
    let why = match rotation::is_requested(&o.object, record) {
        true => "as requested",
        false => "as its rotationIntervalDays have passed",
    };
    let message = format!(
        "A new access key was made, {why}. {} works until {expires}: restart the pods that use Secret {} before.",
        record.current.access_key_id,
        o.secret_name()
    );
    EventNote::normal(reason::ACCESS_KEY_ROTATED, "Rotate", message)
}

/// The Event about a Secret that was missing, or held something else.
pub fn restored(name: &str, was_missing: bool) -> EventNote {
    let message = match was_missing {
        true => format!("Secret {name} was missing, and was made again with the same access key."),
        false => format!(
            "Secret {name} was changed, or the address, region or certificate of the KMS endpoint was: it holds the same \
             access key, with what is right now."
        ),
    };
    EventNote::warning(reason::SECRET_RESTORED, "Deliver", message)
}
