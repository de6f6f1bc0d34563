//! Waits until status answers a change.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{change::described, failure::Failure, session::Session};
use crate::api::{
    CustomerMasterKey, CustomerMasterKeyStatus,
    conditions::{self, READY, STALLED},
};

/// How long to wait between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// What an object's status says about a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The change is made.
    Done,
    /// It can't be made, and why.
    Refused(String),
    /// Nothing yet; what status says meanwhile.
    NotYet(String),
}

/// Looks at a key until its status answers, and returns it then.
pub async fn until(
    session: &Session,
    name: &str,
    within: Duration,
    answered: impl Fn(&CustomerMasterKey) -> Answer,
) -> Result<CustomerMasterKey, Failure> {
    let deadline = Instant::now() + within;
    loop {
        let key = session.key(name).await?;
        let object = described(&key);
        match answered(&key) {
            Answer::Done => return Ok(key),
            Answer::Refused(answer) => return Err(Failure::Refused { object, answer }),
            Answer::NotYet(last) if Instant::now() >= deadline => {
                let last = if last.is_empty() { last } else { format!(" ({})", last.trim_end_matches('.')) };
                return Err(Failure::NotAnswered { object, within, last });
            }
            Answer::NotYet(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
}

/// What status says about a change of spec: it counts once it is about `generation`, and the change is made when
/// `achieved` holds of it, or when the key is as declared. Only a person helps one that is Stalled.
pub fn about_spec(
    key: &CustomerMasterKey,
    generation: Option<i64>,
    achieved: impl Fn(&CustomerMasterKeyStatus) -> bool,
) -> Answer {
    let Some(status) = &key.status else { return Answer::NotYet(String::new()) };
    if status.observed_generation < generation || key.uid().is_none() {
        return Answer::NotYet(String::new());
    }
    let is = |type_: &str| conditions::find(&status.conditions, type_).filter(|c| c.status == "True");
    if achieved(status) || is(READY).is_some() {
        return Answer::Done;
    }
    match is(STALLED) {
        Some(stalled) => Answer::Refused(stalled.message.clone()),
        None => Answer::NotYet(conditions::find(&status.conditions, READY).map(message).unwrap_or_default()),
    }
}

fn message(condition: &Condition) -> String {
    condition.message.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(observed: i64, conditions: &[(&str, &str, &str)]) -> CustomerMasterKey {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(type_, status, message)| {
                json!({"type": type_, "status": status, "message": message, "reason": "R",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "uid": "u"}, "spec": {},
            "status": {"observedGeneration": observed, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn an_answer_is_about_this_generation() {
        let ready = [("Ready", "True", "Enabled.")];
        let stalled = [("Ready", "False", "no"), ("Stalled", "True", "no")];
        let waiting = [("Ready", "False", "soon"), ("Stalled", "False", "")];
        let table = [
            (key(1, &ready), false, Answer::NotYet(String::new())),
            (key(2, &ready), false, Answer::Done),
            (key(3, &ready), false, Answer::Done),
            (key(2, &stalled), false, Answer::Refused("no".into())),
            (key(2, &stalled), true, Answer::Done),
            (key(2, &waiting), false, Answer::NotYet("soon".into())),
        ];
        for (key, achieved, expected) in table {
            assert_eq!(about_spec(&key, Some(2), |_| achieved), expected);
        }
    }
}
