//! `kubectl cmk tree`: which DataKeys and Secrets hang on a key, and on which of its versions.

use std::process::ExitCode;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use super::{
    arguments::TreeArguments,
    failure::Failure,
    output::{Paint, note, print, serialized},
    session::Session,
};
use crate::api::{
    CustomerMasterKey, DataKey,
    conditions::{self, READY},
};

/// A key, and what hangs on it.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    /// The namespace of the `CustomerMasterKey`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The identifier of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// What the key may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_state: Option<String>,
    /// The version that encrypts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_key_version: Option<String>,
    /// The DataKeys under it.
    pub data_keys: Vec<Leaf>,
}

/// A DataKey, and its Secret.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    /// The namespace of the `DataKey` and its Secret.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The version of the key that encrypts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_version_id: Option<String>,
    /// Whether that is the version that encrypts now. None: it can't be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_primary_version: Option<bool>,
    /// How many data keys it had before.
    pub former_data_keys: usize,
    /// The Secret that was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether it is as declared.
    pub ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Prints the tree.
pub async fn tree(session: &Session, arguments: &TreeArguments) -> Result<ExitCode, Failure> {
    let keys: Vec<CustomerMasterKey> = match (&arguments.name, arguments.all_namespaces) {
        (Some(name), _) => vec![session.key(name).await?],
        (None, true) => session.list(None).await?,
        (None, false) => session.list(Some(&session.namespace)).await?,
    };
    let (data_keys, all) = session.data_keys_everywhere().await?;
    if !all {
        note(&format!(
            "note: only the DataKeys of namespace {} are shown: you may not list those of all namespaces",
            session.namespace
        ));
    }
    let branches: Vec<_> = keys.iter().map(|key| branch(key, &data_keys)).collect();
    match arguments.output {
        Some(format) => print(&serialized(format, &branches)?),
        None if branches.is_empty() => {
            note("No CustomerMasterKeys found.");
            Ok(ExitCode::SUCCESS)
        }
        None => print(&branches.iter().map(|branch| drawn(branch, session.paint)).collect::<String>()),
    }
}

/// What hangs on a key.
pub fn branch(key: &CustomerMasterKey, data_keys: &[DataKey]) -> Branch {
    let (namespace, name) = (key.namespace().unwrap_or_default(), key.name_any());
    let metadata = key.status.as_ref().and_then(|status| status.key_metadata.as_ref());
    let primary = metadata.and_then(|metadata| metadata.primary_key_version.clone());
    let mut leaves: Vec<_> = data_keys
        .iter()
        .filter(|data_key| super::refers_to(data_key, &namespace, &name))
        .map(|data_key| leaf(data_key, primary.as_deref()))
        .collect();
    leaves.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Branch {
        key_id: metadata.map(|metadata| metadata.key_id.clone()),
        key_state: metadata.map(|metadata| metadata.key_state.to_string()),
        primary_key_version: primary,
        data_keys: leaves,
        namespace,
        name,
    }
}

fn leaf(data_key: &DataKey, primary: Option<&str>) -> Leaf {
    let status = data_key.status.clone().unwrap_or_default();
    let ready: Option<&Condition> = conditions::find(&status.conditions, READY);
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    Leaf {
        namespace: data_key.namespace().unwrap_or_default(),
        name: data_key.name_any(),
        is_primary_version: status.key_version_id.as_deref().and_then(|version| Some(version == primary?)),
        key_version_id: status.key_version_id.clone(),
        former_data_keys: status.history.len(),
        secret: status.secret_ref.as_ref().map(|secret| secret.name.clone()),
        ready: is_ready,
        reason: if is_ready {
            None
        } else {
            Some(ready.map_or_else(|| "NoStatus".to_owned(), |ready| ready.reason.clone()))
        },
    }
}

/// The lines about a key. `indent` goes before each but the first.
fn drawn(branch: &Branch, paint: Paint) -> String {
    let title = paint.strong(&format!("{}/{}", branch.namespace, branch.name));
    let state = branch.key_state.as_deref().unwrap_or("no key yet");
    let state = if state == "Enabled" { paint.good(state) } else { paint.careful(state) };
    let id = branch.key_id.as_deref().unwrap_or_default();
    format!("{title}  {state}  {}\n{}", paint.faint(id), leaves(&branch.data_keys, paint))
}

/// The lines about the DataKeys under a key.
pub fn leaves(data_keys: &[Leaf], paint: Paint) -> String {
    let last = data_keys.len().saturating_sub(1);
    let line = |(index, leaf): (usize, &Leaf)| {
        let (fork, stem) = if index == last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let version = match (&leaf.key_version_id, leaf.is_primary_version) {
            (Some(id), Some(true)) => format!("version {} (newest)", short(id)),
            (Some(id), Some(false)) => paint.careful(&format!("version {} (older)", short(id))),
            (Some(id), None) => format!("version {}", short(id)),
            (None, _) => "not generated yet".into(),
        };
        let standing = match &leaf.reason {
            None => paint.good("Ready"),
            Some(reason) => paint.bad(reason),
        };
        let former = match leaf.former_data_keys {
            0 => String::new(),
            1 => ", 1 earlier data key".into(),
            count => format!(", {count} earlier data keys"),
        };
        let secret = leaf.secret.as_ref().map(|secret| format!("{stem}└── Secret {secret}\n")).unwrap_or_default();
        format!("{fork}DataKey {}/{}  {version}  {standing}{former}\n{secret}", leaf.namespace, leaf.name)
    };
    data_keys.iter().enumerate().map(line).collect()
}

/// The beginning of an identifier, enough to tell it from others by eye.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> CustomerMasterKey {
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "namespace": "shop"}, "spec": {},
            "status": {"keyMetadata": {
                "keyId": "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73", "arn": "", "keyState": "Enabled",
                "creationDate": "2026-01-01T00:00:00Z", "description": "", "keyUsage": "ENCRYPT/DECRYPT",
                "keySpec": "Aliyun_AES_256", "origin": "Aliyun_KMS", "creator": "1", "keyManager": "CUSTOMER",
                "protectionLevel": "SOFTWARE", "primaryKeyVersion": "22222222-new",
            }},
        }))
        .unwrap()
    }

    fn data_key(namespace: &str, name: &str, key_namespace: Option<&str>, version: &str) -> DataKey {
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "DataKey",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"keyRef": {"name": "orders", "namespace": key_namespace}},
            "status": {"keyVersionId": version, "secretRef": {"name": format!("{name}-secret")}, "conditions": [
                {"type": "Ready", "status": "True", "reason": "AsDeclared", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn data_keys_of_every_namespace_hang_on_their_key() {
        let data_keys = [
            data_key("web", "session", Some("shop"), "11111111-old"),
            data_key("web", "other", None, "33333333"),
            data_key("shop", "dek", None, "22222222-new"),
        ];
        let branch = branch(&key(), &data_keys);
        assert_eq!(
            drawn(&branch, Paint::fixed(false)),
            "shop/orders  Enabled  08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73\n\
             ├── DataKey shop/dek  version 22222222 (newest)  Ready\n\
             │   └── Secret dek-secret\n\
             └── DataKey web/session  version 11111111 (older)  Ready\n    \
                 └── Secret session-secret\n"
        );
    }
}
