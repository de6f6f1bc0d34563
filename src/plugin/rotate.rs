//! `kubectl cmk rotate`

use std::process::ExitCode;

use super::{
    arguments::ChangeArguments,
    change::{Changed, Edit, change, described},
    failure::Failure,
    lifecycle::refuse_deleted,
    output::print,
    session::Session,
    wait::{self, Answer},
};
use crate::{
    api::{
        CustomerMasterKey,
        conditions::{self, READY, reason},
        metadata,
    },
    kms::{KeyState, Origin},
};
use jiff::Timestamp;
use kube::ResourceExt;

/// Asks for one rotation, and waits until it is made.
pub async fn rotate(session: &Session, arguments: &ChangeArguments) -> Result<ExitCode, Failure> {
    let ChangeArguments { name, how } = arguments;
    // A value that was never there before: to the nanosecond.
    let request = Timestamp::now().to_string();
    let edits = |key: &CustomerMasterKey| {
        refuse_deleted(key)?;
        may_rotate(key)?;
        Ok(vec![Edit::annotation(key, metadata::ROTATE_REQUESTED_AT, &request)])
    };
    let (Changed::Nothing(written) | Changed::Written(written)) = change(session, name, how, edits).await?;
    if how.no_wait {
        return print(&format!("{} is to be rotated: requested at {request}.\n", described(&written)));
    }
    let key = wait::until(session, name, how.timeout, |key| answered(key, &request)).await?;
    let status = key.status.clone().unwrap_or_default();
    let primary = status.key_metadata.and_then(|metadata| metadata.primary_key_version).unwrap_or_default();
    print(&format!(
        "{} is rotated: version {primary} encrypts from now on, and every older one still decrypts.\n",
        described(&key)
    ))
}

/// What no rotation will come of is not requested: the request would wait, and be made some day.
fn may_rotate(key: &CustomerMasterKey) -> Result<(), Failure> {
    let (object, name) = (described(key), key.name_any());
    if key.spec.origin == Some(Origin::External) {
        return Err(Failure::Impossible(format!(
            "{object} has origin EXTERNAL, and imported material never rotates: make a new key, and encrypt anew."
        )));
    }
    let state = key.status.as_ref().and_then(|status| status.key_metadata.as_ref()).map(|metadata| metadata.key_state);
    let remedy = match state {
        Some(KeyState::Disabled) => format!("kubectl cmk enable {name}"),
        Some(KeyState::PendingDeletion) => format!("kubectl cmk cancel-deletion {name}"),
        _ => return Ok(()),
    };
    let state = state.map(KeyState::as_str).unwrap_or_default();
    Err(Failure::Impossible(format!("{object} is {state}, and a key rotates only while it is Enabled: {remedy}")))
}

fn answered(key: &CustomerMasterKey, request: &str) -> Answer {
    let Some(status) = &key.status else { return Answer::NotYet(String::new()) };
    if status.last_handled_rotation.as_deref() == Some(request) {
        return Answer::Done;
    }
    match conditions::find(&status.conditions, READY).filter(|ready| ready.status == "False") {
        Some(ready) if [reason::ROTATION_REFUSED, reason::ROTATION_SUSPENDED].contains(&ready.reason.as_str()) => {
            Answer::Refused(ready.message.clone())
        }
        ready => Answer::NotYet(ready.map(|ready| ready.message.clone()).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(spec: &Value, status: &Value) -> CustomerMasterKey {
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_answer_is_to_this_request() {
        let refused = json!([{"type": "Ready", "status": "False", "reason": "RotationRefused", "message": "no",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let table = [
            (json!({"lastHandledRotation": "now"}), Answer::Done),
            (json!({"lastHandledRotation": "before"}), Answer::NotYet(String::new())),
            (json!({}), Answer::NotYet(String::new())),
            (json!({"conditions": refused}), Answer::Refused("no".into())),
        ];
        for (status, expected) in table {
            assert_eq!(answered(&key(&json!({}), &status), "now"), expected, "{status}");
        }
    }

    #[test]
    fn a_key_that_can_not_rotate_is_not_asked_to() {
        let refused = |spec, status| may_rotate(&key(&spec, &status)).unwrap_err().to_string();
        assert!(may_rotate(&key(&json!({}), &json!({}))).is_ok());
        assert!(refused(json!({"origin": "EXTERNAL"}), json!({})).contains("never rotates"));
    }
}
