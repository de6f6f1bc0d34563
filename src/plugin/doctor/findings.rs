//! What can be wrong with an object, and what to do: pure functions of objects and the time.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    api::{
        ClusterKeyStore, CustomerMasterKey, DataKey,
        conditions::{self, PURGE_HELD, READY, reason},
    },
    kms::KeyState,
    plugin::{refers_to, times::when},
};

/// From so many earlier data keys on, the end of a DataKey's rotations is near (status holds 64).
const HISTORY_NEARLY_FULL: usize = 60;

/// How many of many are named.
const NAMED: usize = 5;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Severity {
    /// Something is wrong.
    Wrong,
    /// Good to know.
    Note,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The object, or the part of the cluster.
    pub about: String,
    /// A word for it: a condition's reason, where there is one.
    pub reason: String,
    /// What is.
    pub message: String,
    /// What to do, if the message does not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// Something wrong.
    pub fn wrong(about: impl Into<String>, reason: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Wrong,
            about: about.into(),
            reason: reason.to_owned(),
            message: message.into(),
            remedy: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedied(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Good to know, no more.
    #[must_use]
    pub fn into_note(self) -> Self {
        Self { severity: Severity::Note, ..self }
    }
}

/// When to look, and how far ahead.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// The time.
    pub now: Timestamp,
    /// Material that expires within this time is worth saying.
    pub expiring_within: SignedDuration,
}

/// What is to be said about a key, given all DataKeys that can be seen.
pub fn about_key(key: &CustomerMasterKey, data_keys: &[DataKey], horizon: Horizon) -> Vec<Finding> {
    let (namespace, name) = (key.namespace().unwrap_or_default(), key.name_any());
    let about = format!("CustomerMasterKey {namespace}/{name}");
    let command = |verb: &str| format!("kubectl cmk {verb} {name} -n {namespace}");
    let status = key.status.clone().unwrap_or_default();
    let mut found: Vec<_> = not_ready(&about, &status.conditions).into_iter().collect();
    if let Some(held) = is_true(&status.conditions, PURGE_HELD) {
        found.push(Finding::wrong(&about, &held.reason, &held.message));
    }
    let Some(metadata) = &status.key_metadata else { return found };
    let users: Vec<_> = data_keys.iter().filter(|data_key| refers_to(data_key, &namespace, &name)).collect();
    if metadata.key_state == KeyState::PendingDeletion
        && let Some(date) = &metadata.delete_date
    {
        let when = when(date.0, horizon.now);
        let finding = if users.is_empty() {
            Finding::wrong(&about, reason::KEY_PENDING_DELETION, format!("The key is deleted at {when}.")).into_note()
        } else {
            let message = format!(
                "The key is deleted at {when}, and {} to it: {}. After that nothing decrypts what they encrypted.",
                if users.len() == 1 { "1 DataKey refers".into() } else { format!("{} DataKeys refer", users.len()) },
                named(&users)
            );
            Finding::wrong(&about, reason::KEY_PENDING_DELETION, message)
        };
        found.push(finding.remedied(format!("To keep it: {}", command("cancel-deletion"))));
    }
    if let Some(expires) = &metadata.material_expire_time
        && expires.0 <= horizon.now.saturating_add(horizon.expiring_within).unwrap_or(Timestamp::MAX)
    {
        let message = format!("The imported material expires at {}.", when(expires.0, horizon.now));
        let remedy = "Declare a later spec.importedKeyMaterial.expireTime, with the same material in its Secret; or let \
                      users move to another key before.";
        found.push(Finding::wrong(&about, "MaterialExpiresSoon", message).remedied(remedy));
    }
    found
}

fn named(users: &[&DataKey]) -> String {
    let names = users.iter().take(NAMED).map(|d| format!("{}/{}", d.namespace().unwrap_or_default(), d.name_any()));
    let more = users.len().saturating_sub(NAMED);
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.collect::<Vec<_>>().join(", ") + &others
}

/// What is to be said about a data key.
pub fn about_data_key(data_key: &DataKey) -> Vec<Finding> {
    let (namespace, name) = (data_key.namespace().unwrap_or_default(), data_key.name_any());
    let about = format!("DataKey {namespace}/{name}");
    let status = data_key.status.clone().unwrap_or_default();
    let (key_namespace, key) = data_key.spec.master(&namespace);
    let remedy = |reason: &str| match reason {
        reason::KEY_DISABLED => Some(format!("kubectl cmk enable {key} -n {key_namespace}")),
        reason::KEY_PENDING_DELETION => Some(format!("kubectl cmk cancel-deletion {key} -n {key_namespace}")),
        reason::KEY_PENDING_IMPORT => Some(format!("kubectl cmk import {key} -n {key_namespace} --from-file FILE")),
        reason::KEY_NOT_READY => Some(format!("kubectl cmk describe {key} -n {key_namespace}")),
        _ => None,
    };
    let found = not_ready(&about, &status.conditions).map(|finding| {
        let remedy = remedy(&finding.reason);
        Finding { remedy, ..finding }
    });
    let full =
        (status.history.len() >= HISTORY_NEARLY_FULL && data_key.spec.rotation_interval_days.is_some()).then(|| {
            let message = format!("Status holds {} earlier data keys; at 64 it rotates no more.", status.history.len());
            Finding::wrong(&about, "HistoryNearlyFull", message)
                .remedied("Make a new DataKey, and encrypt anew what is under the oldest ones.")
        });
    found.into_iter().chain(full).collect()
}

/// What is to be said about a key store.
pub fn about_key_store(store: &ClusterKeyStore) -> Vec<Finding> {
    let about = format!("ClusterKeyStore {}", store.name_any());
    let status = store.status.clone().unwrap_or_default();
    let mut found: Vec<_> = not_ready(&about, &status.conditions).into_iter().collect();
    if let Some(orphans) = status.orphaned_keys {
        let newest = orphans.newest.into_iter().map(|key| (key.key_id, key.namespace, key.name)).collect::<Vec<_>>();
        found.extend(orphaned(&about, usize::try_from(orphans.count).unwrap_or_default(), &newest));
    }
    found
}

/// What is to be said about keys without an object: how many, and ids, namespaces and names of some.
pub fn orphaned(about: &str, count: usize, some: &[(String, String, String)]) -> Option<Finding> {
    if count == 0 {
        return None;
    }
    let named: Vec<_> =
        some.iter().take(NAMED).map(|(id, namespace, name)| format!("{id} ({namespace}/{name})")).collect();
    let more = count.saturating_sub(named.len());
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!(
        "{} in the store without a CustomerMasterKey, and kept: {}{others}.",
        if count == 1 { "1 key is".into() } else { format!("{count} keys are") },
        named.join(", ")
    );
    let remedy =
        "Apply the CustomerMasterKey again, from the backup or the repository, or adopt the key with spec.keyId.";
    Some(Finding::wrong(about, "OrphanedKeys", message).remedied(remedy))
}

/// An object that can't be read as what it is.
pub fn unreadable(about: String, problem: &str) -> Finding {
    Finding::wrong(about, reason::UNREADABLE, format!("It can't be read, as after a change of the kind: {problem}."))
        .remedied("Correct it, or use a kubectl-cmk of the operator's version.")
}

/// What Ready says, if it is not True. An object without a Ready is the operator's business, not its own.
fn not_ready(about: &str, conditions: &[Condition]) -> Option<Finding> {
    let ready = conditions::find(conditions, READY).filter(|ready| ready.status != "True")?;
    Some(Finding::wrong(about, &ready.reason, &ready.message))
}

fn is_true<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions::find(conditions, type_).filter(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DAY: i64 = 86_400;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": format!("{reason} it is."),
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn key(state: &str, more: &Value, conditions: &[Value]) -> CustomerMasterKey {
        let mut metadata = json!({
            "keyId": "k", "arn": "", "keyState": state, "creationDate": "2026-01-01T00:00:00Z", "description": "",
            "keyUsage": "ENCRYPT/DECRYPT", "keySpec": "Aliyun_AES_256", "origin": "Aliyun_KMS", "creator": "1",
            "keyManager": "CUSTOMER", "protectionLevel": "SOFTWARE",
        });
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "namespace": "shop"}, "spec": {},
            "status": {"keyMetadata": metadata, "conditions": conditions},
        }))
        .unwrap()
    }

    fn data_key(name: &str, conditions: &[Value]) -> DataKey {
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "DataKey",
            "metadata": {"name": name, "namespace": "web"},
            "spec": {"keyRef": {"name": "orders", "namespace": "shop"}}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    /// Severity and reason of each.
    fn said(findings: &[Finding]) -> Vec<(Severity, &str)> {
        findings.iter().map(|finding| (finding.severity, finding.reason.as_str())).collect()
    }

    #[test]
    fn what_is_wrong_with_a_key() {
        let horizon = Horizon { now: at(0), expiring_within: SignedDuration::from_hours(24 * 14) };
        let ready = condition("Ready", "True", "AsDeclared");
        let users = [data_key("a", &[])];
        let (soon, late) = (at(13 * DAY).to_string(), at(15 * DAY).to_string());
        type Row<'a> = (&'a str, CustomerMasterKey, &'a [DataKey], Vec<(Severity, &'a str)>);
        let rows: [Row<'_>; 8] = [
            ("all is well", key("Enabled", &json!({}), std::slice::from_ref(&ready)), &users, vec![]),
            ("disabled on purpose", key("Disabled", &json!({}), std::slice::from_ref(&ready)), &users, vec![]),
            (
                "not ready",
                key("Enabled", &json!({}), &[condition("Ready", "False", "AliasConflict")]),
                &[],
                vec![(Severity::Wrong, "AliasConflict")],
            ),
            (
                "to be deleted, and nobody minds",
                key("PendingDeletion", &json!({"deleteDate": soon}), std::slice::from_ref(&ready)),
                &[],
                vec![(Severity::Note, "KeyPendingDeletion")],
            ),
            (
                "to be deleted while it is used",
                key("PendingDeletion", &json!({"deleteDate": soon}), std::slice::from_ref(&ready)),
                &users,
                vec![(Severity::Wrong, "KeyPendingDeletion")],
            ),
            (
                "held",
                key("Enabled", &json!({}), &[ready.clone(), condition("PurgeHeld", "True", "ClockSkew")]),
                &[],
                vec![(Severity::Wrong, "ClockSkew")],
            ),
            (
                "expires soon",
                key("Enabled", &json!({"materialExpireTime": soon}), std::slice::from_ref(&ready)),
                &[],
                vec![(Severity::Wrong, "MaterialExpiresSoon")],
            ),
            ("expires later", key("Enabled", &json!({"materialExpireTime": late}), &[ready]), &[], vec![]),
        ];
        for (case, key, data_keys, expected) in rows {
            assert_eq!(said(&about_key(&key, data_keys, horizon)), expected, "{case}");
        }
    }

    #[test]
    fn a_data_key_says_what_helps_its_key() {
        let found = about_data_key(&data_key("a", &[condition("Ready", "False", "KeyDisabled")]));
        assert_eq!(found[0].remedy.as_deref(), Some("kubectl cmk enable orders -n shop"));
        assert!(about_data_key(&data_key("a", &[condition("Ready", "True", "AsDeclared")])).is_empty());
    }

    #[test]
    fn orphans_are_named() {
        let store: ClusterKeyStore = serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "ClusterKeyStore",
            "metadata": {"name": "default"}, "spec": {"embedded": {}},
            "status": {"orphanedKeys": {"count": 7, "newest": [
                {"keyId": "k", "namespace": "shop", "name": "orders", "creationDate": "2026-01-01T00:00:00Z"},
            ]}},
        }))
        .unwrap();
        let found = about_key_store(&store);
        assert!(found[0].message.contains("7 keys are") && found[0].message.contains("k (shop/orders) and 6 more"));
    }
}
