//! `kubectl cmk enable`, `disable`, `schedule-deletion`, `cancel-deletion`

use std::process::ExitCode;

use serde_json::json;

use super::{
    arguments::{ChangeArguments, ChangeOptions, ScheduleDeletionArguments},
    change::{Changed, Edit, change, described},
    failure::Failure,
    output::{note, print},
    session::Session,
    wait,
};
use crate::{
    api::{
        CustomerMasterKey, CustomerMasterKeyStatus,
        conditions::{self, READY},
    },
    kms::KeyState,
};

/// `enable`
pub async fn enable(session: &Session, arguments: &ChangeArguments) -> Result<ExitCode, Failure> {
    let goal = Goal { done: "enabled", achieved: |status| state(status) == Some(KeyState::Enabled) };
    drive(session, arguments, &goal, |key| Ok(vec![enabled(key, true)])).await
}

/// `disable`
pub async fn disable(session: &Session, arguments: &ChangeArguments) -> Result<ExitCode, Failure> {
    let goal = Goal { done: "disabled", achieved: |status| state(status) == Some(KeyState::Disabled) };
    drive(session, arguments, &goal, |key| Ok(vec![enabled(key, false)])).await
}

/// `schedule-deletion`
pub async fn schedule_deletion(session: &Session, arguments: &ScheduleDeletionArguments) -> Result<ExitCode, Failure> {
    let goal =
        Goal { done: "scheduled for deletion", achieved: |status| state(status) == Some(KeyState::PendingDeletion) };
    let name = &arguments.change.name;
    warn_of_users(session, name).await;
    drive(session, &arguments.change, &goal, |key| Ok(scheduling(key, arguments.days))).await
}

/// `cancel-deletion`
pub async fn cancel_deletion(session: &Session, arguments: &ChangeArguments) -> Result<ExitCode, Failure> {
    let goal = Goal {
        done: "not scheduled for deletion",
        achieved: |status| state(status).is_some_and(|state| state != KeyState::PendingDeletion),
    };
    drive(session, arguments, &goal, |key| {
        let is = json!(key.spec.schedule_deletion.unwrap_or(false));
        Ok(vec![Edit::spec("scheduleDeletion", Some(is), json!(false))])
    })
    .await
}

fn enabled(key: &CustomerMasterKey, wanted: bool) -> Edit {
    Edit::spec("enabled", Some(json!(key.spec.enabled.unwrap_or(true))), json!(wanted))
}

fn scheduling(key: &CustomerMasterKey, days: Option<i32>) -> Vec<Edit> {
    let is = json!(key.spec.schedule_deletion.unwrap_or(false));
    let window = days.map(|days| {
        Edit::spec("pendingDeletionDays", key.spec.pending_deletion_days.map(|days| json!(days)), json!(days))
    });
    std::iter::once(Edit::spec("scheduleDeletion", Some(is), json!(true))).chain(window).collect()
}

fn state(status: &CustomerMasterKeyStatus) -> Option<KeyState> {
    status.key_metadata.as_ref().map(|metadata| metadata.key_state)
}

/// What a command is for.
struct Goal {
    /// What the key is afterwards.
    done: &'static str,
    /// Whether status says so.
    achieved: fn(&CustomerMasterKeyStatus) -> bool,
}

async fn drive(
    session: &Session,
    arguments: &ChangeArguments,
    goal: &Goal,
    edits: impl Fn(&CustomerMasterKey) -> Result<Vec<Edit>, Failure>,
) -> Result<ExitCode, Failure> {
    let ChangeArguments { name, how } = arguments;
    let key = match change(session, name, how, |key| refuse_deleted(key).and_then(|()| edits(key))).await? {
        Changed::Nothing(key) => return print(&said(&key, &format!("is declared {} already", goal.done))),
        Changed::Written(key) => key,
    };
    match answered(session, how, &key, goal.achieved).await? {
        None => print(&format!("{} is declared {}.\n", described(&key), goal.done)),
        Some(key) => print(&said(&key, &format!("is {}", outcome(&key, goal)))),
    }
}

/// Waits until status answers a change of spec, unless that is not wanted.
pub async fn answered(
    session: &Session,
    how: &ChangeOptions,
    written: &CustomerMasterKey,
    achieved: impl Fn(&CustomerMasterKeyStatus) -> bool,
) -> Result<Option<CustomerMasterKey>, Failure> {
    if how.no_wait {
        return Ok(None);
    }
    let generation = written.metadata.generation;
    let name = written.metadata.name.clone().unwrap_or_default();
    let about = |key: &CustomerMasterKey| wait::about_spec(key, generation, &achieved);
    wait::until(session, &name, how.timeout, about).await.map(Some)
}

/// An object that is being deleted changes no more.
pub fn refuse_deleted(key: &CustomerMasterKey) -> Result<(), Failure> {
    match &key.metadata.deletion_timestamp {
        None => Ok(()),
        Some(_) => Err(Failure::Impossible(format!(
            "{} is being deleted. `kubectl cmk describe` says what that waits for; when it is gone, apply its manifest \
             again to get its key back.",
            described(key)
        ))),
    }
}

/// The key may be as declared without being what was asked for: one that is to be deleted can't be enabled.
fn outcome(key: &CustomerMasterKey, goal: &Goal) -> String {
    match &key.status {
        Some(status) if !(goal.achieved)(status) => format!("declared {}", goal.done),
        _ => goal.done.to_owned(),
    }
}

/// A sentence, and what status says.
fn said(key: &CustomerMasterKey, sentence: &str) -> String {
    let ready = key.status.as_ref().and_then(|status| conditions::find(&status.conditions, READY));
    let metadata = key.status.as_ref().and_then(|status| status.key_metadata.as_ref());
    let state = metadata.map(|m| match &m.delete_date {
        Some(date) => format!(" Its key is {}, and is deleted at {}.", m.key_state, date.0),
        None => format!(" Its key is {}.", m.key_state),
    });
    let trouble = ready.filter(|c| c.status != "True").map(|c| format!(" {}: {}", c.reason, c.message));
    format!("{} {sentence}.{}{}\n", described(key), state.unwrap_or_default(), trouble.unwrap_or_default())
}

/// Says who counts on the key, as far as can be seen.
async fn warn_of_users(session: &Session, name: &str) {
    let Ok((data_keys, all)) = session.data_keys_everywhere().await else { return };
    let count = data_keys.iter().filter(|data_key| super::refers_to(data_key, &session.namespace, name)).count();
    if count > 0 {
        let at_least = if all { "" } else { "at least " };
        let (refer, verb) = if count == 1 { ("DataKey", "refers") } else { ("DataKeys", "refer") };
        note(&format!(
            "warning: {at_least}{count} {refer} {verb} to {}/{name}: see `kubectl cmk tree {name}`",
            session.namespace
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_changed_only_if_it_is_given() {
        let mut key = CustomerMasterKey::default();
        assert_eq!(scheduling(&key, None), [Edit::spec("scheduleDeletion", Some(json!(false)), json!(true))]);
        key.spec.pending_deletion_days = Some(30);
        let edits = scheduling(&key, Some(7));
        assert_eq!(edits[1], Edit::spec("pendingDeletionDays", Some(json!(30)), json!(7)));
    }
}
