//! When a data key rotates (pure): by its interval, or because it was asked to (design, section 1).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::annotations;
use crate::{
    api::{
        DataKey, DataKeySpec,
        conditions::{self, READY},
        metadata,
    },
    kms::key_record::add_days,
};

/// The most data keys that status keeps beside the current one.
pub const MAX_HISTORY: usize = 64;

/// Why a data key can never rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was given, and nothing is generated for it.
    Given,
    /// Its Secret can't be changed.
    ImmutableSecret,
}

/// What is to become of a delivered data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Nothing now.
    NotNow,
    /// A new one is generated.
    Now,
    /// A rotation is declared or requested, and never possible.
    Refused(Refusal),
    /// A rotation is due, and status has no room for one data key more.
    HistoryFull,
    /// A rotation is due, and the annotations, with those of others, have no room for one data key more.
    AnnotationsFull,
}

impl Rotation {
    /// What is to become of the data key of `object` at `now`.
    pub fn of(object: &DataKey, now: Timestamp) -> Self {
        let (spec, status) = (&object.spec, object.status.clone().unwrap_or_default());
        let requested = is_requested(object);
        if spec.rotation_interval_days.is_none() && !requested {
            return Self::NotNow;
        }
        if let Some(refusal) = refusal(spec) {
            return Self::Refused(refusal);
        }
        let is_due = next_rotation(spec, status.generated_at.as_ref()).is_some_and(|next| next.0 <= now);
        match requested || is_due {
            false => Self::NotNow,
            true if status.history.len() >= MAX_HISTORY => Self::HistoryFull,
            true if !annotations::have_room(object) => Self::AnnotationsFull,
            true => Self::Now,
        }
    }
}

fn refusal(spec: &DataKeySpec) -> Option<Refusal> {
    let immutable = spec.secret.as_ref().and_then(|secret| secret.immutable).unwrap_or(false);
    match (&spec.ciphertext_blob, immutable) {
        (Some(_), _) => Some(Refusal::Given),
        (None, true) => Some(Refusal::ImmutableSecret),
        (None, false) => None,
    }
}

/// Whether the object asks for a rotation that has not been made.
pub fn is_requested(object: &DataKey) -> bool {
    let answered = object.status.as_ref().and_then(|status| status.last_handled_rotation.as_ref());
    request(object).is_some_and(|request| Some(request) != answered)
}

/// What the annotation that asks for a rotation says.
pub fn request(object: &DataKey) -> Option<&String> {
    object.annotations().get(metadata::ROTATE_REQUESTED_AT)
}

/// When a data key of this age rotates next. In the past: at once. None: it does not by itself.
pub fn next_rotation(spec: &DataKeySpec, generated_at: Option<&Time>) -> Option<Time> {
    let days = spec.rotation_interval_days.filter(|_| refusal(spec).is_none())?;
    add_days(generated_at?.0, days).map(Time)
}

/// When `object` next needs a pass by time alone: its rotation is due then. In the past: now. None while it is not
/// Ready, as what it waits for leads to a pass by itself; that pass rotates what is overdue.
#[must_use]
pub fn next_event(object: &DataKey) -> Option<Timestamp> {
    let status = object.status.as_ref()?;
    let is_ready = conditions::find(&status.conditions, READY).is_some_and(|ready| ready.status == "True");
    status.next_rotation.as_ref().filter(|_| is_ready).map(|next| next.0)
}
