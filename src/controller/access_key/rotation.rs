//! When an access key rotates, and how long the one before works (pure).

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    access_keys::AccessKeyRecord,
    api::{
        AccessKey, AccessKeySpec,
        conditions::{self, READY},
        metadata,
    },
    kms::key_record::{add_days, to_seconds},
};

/// How long the access key before works after a rotation on request of one that has no interval.
const OVERLAP_WITHOUT_INTERVAL: SignedDuration = SignedDuration::from_hours(24);

/// What the annotation that asks for a rotation says.
pub fn request(object: &AccessKey) -> Option<&String> {
    object.annotations().get(metadata::ROTATE_REQUESTED_AT)
}

/// Whether the object asks for a rotation that has not been made.
pub fn is_requested(object: &AccessKey, record: &AccessKeyRecord) -> bool {
    request(object).is_some_and(|request| Some(request) != record.last_handled_rotation.as_ref())
}

/// When an access key of this age is replaced. In the past: at once. None: not by itself.
pub fn next_rotation(spec: &AccessKeySpec, created_at: Timestamp) -> Option<Timestamp> {
    add_days(created_at, spec.rotation_interval_days?)
}

/// Whether the access key is to be replaced now.
pub fn is_due(object: &AccessKey, record: &AccessKeyRecord, now: Timestamp) -> bool {
    let by_age = next_rotation(&object.spec, record.current.created_at).is_some_and(|next| next <= now);
    by_age || is_requested(object, record)
}

/// When the access key that is replaced now stops to work: after half an interval, for those who have it to get the new
/// one.
pub fn expires(spec: &AccessKeySpec, now: Timestamp) -> Timestamp {
    let half = |days: i32| SignedDuration::from_hours(12 * i64::from(days));
    let overlap = spec.rotation_interval_days.map_or(OVERLAP_WITHOUT_INTERVAL, half);
    // Fails in the year 9999 only.
    to_seconds(now.checked_add(overlap).unwrap_or(now))
}

/// When `object` next needs a pass by time alone: its rotation is due, or the access key before has expired. In the past:
/// now. None while it is not Ready, as what it waits for leads to a pass by itself.
#[must_use]
pub fn next_event(object: &AccessKey) -> Option<Timestamp> {
    let status = object.status.as_ref()?;
    let is_ready = conditions::find(&status.conditions, READY).is_some_and(|ready| ready.status == "True");
    let dates = [&status.next_rotation, &status.previous_expires_at];
    dates.into_iter().flatten().map(|time| time.0).min().filter(|_| is_ready)
}
