//! What an object's status answers to a change of what it declares: pure.

use kube::ResourceExt;

use super::change::described;
use crate::{
    api::{
        CustomerMasterKey,
        conditions::{self, READY, reason},
        metadata,
    },
    kms::{KeyState, Operation, Rejected, ResourceName},
    server::Failure,
};

/// What status says about a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is carried out, or something that came after it is.
    Done,
    /// It is not, and waiting does not help.
    Refused(Refusal),
    /// Nothing yet.
    NotYet,
    /// Something is waited for, which need not be the change, and what the operator says about it.
    Waiting(String),
}

/// A condition that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`reason`].
    pub reason: String,
    /// The sentence in it.
    pub message: String,
}

/// Reasons that pass by themselves, or with whatever is waited for.
const PASSING: [&str; 5] = [
    reason::KEY_STORE_ERROR,
    reason::KEY_STORE_NOT_FOUND,
    reason::RECONCILE_ERROR,
    reason::MATERIAL_NOT_FOUND,
    reason::NAMESPACE_TERMINATING,
];

/// What the object says about its own `generation`, or a later one.
pub fn about_spec(object: &CustomerMasterKey, generation: Option<i64>) -> Answer {
    let Some(status) = &object.status else { return Answer::NotYet };
    if status.observed_generation < generation {
        return Answer::NotYet;
    }
    ready_or_refused(object, |_| true)
}

/// What the object says about a request for a rotation, which changes no generation.
pub fn about_rotation(object: &CustomerMasterKey, request: &str) -> Answer {
    let handled = object.status.as_ref().and_then(|status| status.last_handled_rotation.as_deref());
    let asked = object.annotations().get(metadata::ROTATE_REQUESTED_AT).map(String::as_str);
    // One comes after another only once that was answered.
    if handled == Some(request) || asked != Some(request) {
        return Answer::Done;
    }
    match ready_or_refused(object, |reason| [reason::ROTATION_REFUSED, reason::ROTATION_SUSPENDED].contains(&reason)) {
        Answer::Done => Answer::NotYet,
        answer => answer,
    }
}

fn ready_or_refused(object: &CustomerMasterKey, refuses: impl Fn(&str) -> bool) -> Answer {
    let ready = object.status.as_ref().and_then(|status| conditions::find(&status.conditions, READY));
    match ready {
        Some(ready) if ready.status == "True" => Answer::Done,
        Some(ready) if !PASSING.contains(&ready.reason.as_str()) && refuses(&ready.reason) => {
            Answer::Refused(Refusal { reason: ready.reason.clone(), message: ready.message.clone() })
        }
        Some(ready) => Answer::Waiting(ready.message.clone()),
        None => Answer::NotYet,
    }
}

impl Refusal {
    /// What it means to who asked for `operation` on a key in `state`, and had `written` this.
    pub fn failure(
        self,
        written: &CustomerMasterKey,
        key: &ResourceName,
        operation: Operation,
        state: KeyState,
    ) -> Failure {
        let rejected = |rejected| Failure::Rejected { key: key.clone(), operation, rejected };
        match self.reason.as_str() {
            reason::REJECTED_PENDING_DELETION => rejected(Rejected::PendingDeletion),
            reason::REJECTED_PENDING_IMPORT => rejected(Rejected::PendingImport),
            reason::REJECTED_DISABLED => rejected(Rejected::Disabled),
            reason::ROTATION_SUSPENDED => rejected(match state {
                KeyState::PendingDeletion => Rejected::PendingDeletion,
                KeyState::PendingImport => Rejected::PendingImport,
                KeyState::Enabled | KeyState::Disabled => Rejected::Disabled,
            }),
            reason::ALIAS_CONFLICT if matches!(operation, Operation::CreateAlias | Operation::UpdateAlias) => {
                Failure::AliasExists(written.spec.full_alias().unwrap_or_default())
            }
            reason::DELETION_PROTECTED => Failure::DeletionProtected(key.clone()),
            reason::ROTATION_REFUSED => Failure::LimitExceeded(self.message),
            reason::UNSUPPORTED_BY_KEY_STORE | reason::KEY_STORE_NOT_ALLOWED | reason::CREATION_PAUSED => {
                Failure::Unsupported(self.message)
            }
            reason::INVALID_IMPORT_TOKEN => Failure::InvalidImportToken,
            reason::EXPIRED_IMPORT_TOKEN => Failure::ExpiredImportToken,
            reason::INVALID_KEY_MATERIAL => Failure::InvalidKeyMaterial,
            _ => Failure::NotCarriedOut(format!(
                "{} is changed, but the operator can't go on: {}",
                described(written),
                self.message
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(status: &Value) -> CustomerMasterKey {
        let annotations = json!({"cmk-operator.dev/rotate-requested-at": "now"});
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "annotations": annotations}, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    fn ready(status: &str, reason: &str) -> Value {
        let time = "2026-01-01T00:00:00Z";
        json!([{"type": "Ready", "status": status, "reason": reason, "message": "why", "lastTransitionTime": time}])
    }

    fn refused(reason: &str) -> Answer {
        Answer::Refused(Refusal { reason: reason.into(), message: "why".into() })
    }

    #[test]
    fn an_answer_is_about_this_generation() {
        let table = [
            (json!({}), Answer::NotYet),
            (json!({"observedGeneration": 1, "conditions": ready("True", "AsDeclared")}), Answer::NotYet),
            (json!({"observedGeneration": 2, "conditions": ready("True", "AsDeclared")}), Answer::Done),
            (json!({"observedGeneration": 3, "conditions": ready("True", "AsDeclared")}), Answer::Done),
            (json!({"observedGeneration": 1, "conditions": ready("False", "AliasConflict")}), Answer::NotYet),
            (json!({"observedGeneration": 2, "conditions": ready("False", "AliasConflict")}), refused("AliasConflict")),
            (
                json!({"observedGeneration": 2, "conditions": ready("False", "KeyStoreError")}),
                Answer::Waiting("why".into()),
            ),
        ];
        for (status, expected) in table {
            assert_eq!(about_spec(&key(&status), Some(2)), expected, "{status}");
        }
    }

    #[test]
    fn a_rotation_is_answered_by_its_request() {
        let table = [
            (json!({"lastHandledRotation": "now"}), "now", Answer::Done),
            (json!({"lastHandledRotation": "before"}), "now", Answer::NotYet),
            (json!({"lastHandledRotation": "before"}), "earlier", Answer::Done),
            (json!({"conditions": ready("True", "AsDeclared")}), "now", Answer::NotYet),
            (json!({"conditions": ready("False", "RotationSuspended")}), "now", refused("RotationSuspended")),
            (json!({"conditions": ready("False", "AliasConflict")}), "now", Answer::Waiting("why".into())),
        ];
        for (status, request, expected) in table {
            assert_eq!(about_rotation(&key(&status), request), expected, "{status}");
        }
    }

    #[test]
    fn a_refusal_has_its_failure() {
        let name = || ResourceName { region: "r".into(), account_id: "1".into(), key_id: uuid::Uuid::nil() };
        let failure = |reason: &str| {
            let refusal = Refusal { reason: reason.into(), message: "why".into() };
            refusal.failure(&key(&json!({})), &name(), Operation::CreateKeyVersion, KeyState::PendingDeletion)
        };
        let rejected = |rejected| Failure::Rejected { key: name(), operation: Operation::CreateKeyVersion, rejected };
        assert_eq!(failure(reason::REJECTED_DISABLED), rejected(Rejected::Disabled));
        assert_eq!(failure(reason::ROTATION_SUSPENDED), rejected(Rejected::PendingDeletion));
        assert_eq!(failure(reason::DELETION_PROTECTED), Failure::DeletionProtected(name()));
        assert_eq!(failure(reason::EXPIRED_IMPORT_TOKEN), Failure::ExpiredImportToken);
        assert_eq!(failure(reason::KEY_STORE_NOT_ALLOWED), Failure::Unsupported("why".into()));
        let alias = Refusal { reason: reason::ALIAS_CONFLICT.into(), message: "why".into() };
        let mut declares = key(&json!({}));
        declares.spec.alias = Some("orders".into());
        let taken = alias.failure(&declares, &name(), Operation::CreateAlias, KeyState::Enabled);
        assert_eq!(taken, Failure::AliasExists("alias/orders".into()));
        let Failure::NotCarriedOut(sentence) = failure(reason::RECORD_TAMPERED) else { panic!("another failure") };
        assert!(sentence.contains("/orders") && sentence.contains("why"), "{sentence}");
    }
}
