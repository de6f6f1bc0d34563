//! `CustomerMasterKey`: a customer master key as it should be, and as it is (design, section 1).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kms::{KeyState, KeyUsage, Origin};

/// The key as it should be.
// `schemars(with)` on an optional enum: without it the schema has the enum's description, not the field's.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "kms.cmk-operator.dev",
    version = "v1alpha1",
    kind = "CustomerMasterKey",
    doc = "A customer master key, held by a key store and driven to what is declared here.",
    namespaced,
    status = "CustomerMasterKeyStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "cmk",
    category = "kms",
    selectable = ".status.keyMetadata.keyState",
    printcolumn(name = "Key ID", type_ = "string", json_path = ".status.keyMetadata.keyId"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.keyMetadata.keyState"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Origin", type_ = "string", json_path = ".status.keyMetadata.origin", priority = 1),
    // A string: kubectl prints a date as an age, and one in the future as <invalid>.
    printcolumn(name = "Deletes", type_ = "string", json_path = ".status.keyMetadata.deleteDate", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    cel
)]
#[allow(clippy::duplicated_attributes, reason = "columns have a type and a priority each")]
// On the parent, because a rule on an optional field is not evaluated when the field comes or goes. Absent is
// the same as the default.
#[x_kube(
    validation = Rule::new(
        "(has(self.origin) ? self.origin : 'Aliyun_KMS') == (has(oldSelf.origin) ? oldSelf.origin : 'Aliyun_KMS')"
    )
    .message("spec.origin is immutable (absent means Aliyun_KMS): make a new CustomerMasterKey for another origin")
    .reason(Reason::FieldValueForbidden)
    .field_path(".origin"),
    validation = Rule::new(
        "(has(self.keyUsage) ? self.keyUsage : 'ENCRYPT/DECRYPT') == \
         (has(oldSelf.keyUsage) ? oldSelf.keyUsage : 'ENCRYPT/DECRYPT')"
    )
    .message("spec.keyUsage is immutable (absent means ENCRYPT/DECRYPT): make a new CustomerMasterKey for another use")
    .reason(Reason::FieldValueForbidden)
    .field_path(".keyUsage"),
    // On the parent, as a rule on the field would print the whole text. Not maxLength, whose message counts in
    // bytes what it checks in characters.
    validation = Rule::new("!has(self.description) || self.description.size() <= 8192")
        .message("spec.description must be at most 8192 characters")
        .field_path(".description")
)]
#[serde(rename_all = "camelCase")]
pub struct CustomerMasterKeySpec {
    /// What the key is for, 0 to 8192 characters. Absent: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where the key material comes from. Case-sensitive and immutable. Absent: Aliyun_KMS.
    #[schemars(with = "Origin")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What the key may be used for. Immutable. Absent: ENCRYPT/DECRYPT.
    #[schemars(with = "KeyUsage")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_usage: Option<KeyUsage>,
    /// Whether the key may be used. Absent: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// True schedules the deletion of the key; false again, or absent, cancels it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_deletion: Option<bool>,
    /// Days between scheduling a deletion and the deletion, 7 to 366, for scheduleDeletion and for deleting
    /// this object. It never triggers anything by itself. Absent: the key store's default (embedded: 366).
    #[x_kube(
        validation = Rule::new("self >= 7 && self <= 366").message("spec.pendingDeletionDays must be 7 to 366 days")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_deletion_days: Option<i32>,
    /// What deleting this object does to the key. Absent: ScheduleDeletion.
    #[schemars(with = "DeletionPolicy")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Tags of the key, at most 20; a tag key has 1 to 128 characters, a value at most 256. Keys that begin
    /// with aliyun, acs: or aws: are reserved by the clouds.
    // Alibaba Cloud KMS, TagResources: "the key cannot start with aliyun or acs:"; AWS::KMS::Key Tag: "can't be
    // prefixed with aws:". maxProperties bounds what the rules may cost.
    #[schemars(extend("maxProperties" = 20))]
    #[x_kube(
        validation = Rule::new("self.all(k, k.size() >= 1 && k.size() <= 128)")
            .message("spec.tags: a tag key must be 1 to 128 characters"),
        validation = Rule::new("self.all(k, self[k].size() <= 256)")
            .message("spec.tags: a tag value must be at most 256 characters"),
        validation = Rule::new("self.all(k, !k.startsWith('aliyun') && !k.startsWith('acs:') && !k.startsWith('aws:'))")
            .message("spec.tags: a tag key must not begin with aliyun, acs: or aws:, which the clouds reserve")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// What deleting a `CustomerMasterKey` does to its key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The key is scheduled for deletion, pendingDeletionDays from then.
    #[default]
    ScheduleDeletion,
    /// The key stays as it is.
    Retain,
}

/// What the key store holds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CustomerMasterKeyStatus {
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The key store that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_store_ref: Option<KeyStoreRef>,
    /// The key's metadata, in the vocabulary of the cloud services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_metadata: Option<KeyMetadata>,
    /// The versions of the key material, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_versions: Vec<KeyVersion>,
    /// Ready, Reconciling and Stalled, as kstatus reads them, and PurgeHeld while an erasure that is due waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Names a key store.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyStoreRef {
    /// The kind of the key store.
    pub kind: KeyStoreKind,
    /// The name of the key store.
    pub name: String,
}

/// The kinds of key store.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStoreKind {
    /// A key store for the whole cluster.
    ClusterKeyStore,
}

/// A key's metadata, in the vocabulary of the Alibaba Cloud and AWS KMS APIs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyMetadata {
    /// The globally unique identifier of the key.
    pub key_id: String,
    /// The resource name of the key.
    pub arn: String,
    /// What the key may do now.
    pub key_state: KeyState,
    /// When the key was created (UTC).
    pub creation_date: Time,
    /// When the key will be deleted (UTC). Present only while PendingDeletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_date: Option<Time>,
    /// The description of the key.
    pub description: String,
    /// What the key may be used for.
    pub key_usage: KeyUsage,
    /// The kind of key material.
    pub key_spec: String,
    /// Where the key material comes from.
    pub origin: Origin,
    /// The account that created the key.
    pub creator: String,
    /// Who manages the key.
    pub key_manager: KeyManager,
    /// How the key material is protected.
    pub protection_level: ProtectionLevel,
    /// The key version that encrypts. Absent once the material is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key_version: Option<String>,
}

/// Who manages a key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyManager {
    /// The user, through this object.
    Customer,
}

/// How key material is protected.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProtectionLevel {
    /// By software.
    Software,
}

/// A version of a key's material.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyVersion {
    /// The identifier of the version.
    pub id: String,
    /// When the version was created (UTC).
    pub creation_date: Time,
}

#[cfg(test)]
mod tests {
    use kube::core::cel::ValidationErrors;
    use serde_json::{Value, json};

    use super::*;

    fn key(spec: &Value) -> CustomerMasterKey {
        CustomerMasterKey::new("orders", serde_json::from_value(spec.clone()).unwrap())
    }

    /// `expected` is part of the one message; empty: accepted.
    fn check(result: Result<(), ValidationErrors>, expected: &str, case: &str) {
        let messages: Vec<_> =
            result.err().into_iter().flat_map(ValidationErrors::into_vec).map(|e| e.message).collect();
        match messages.as_slice() {
            [] => assert_eq!("", expected, "{case} was accepted"),
            [one] => assert!(!expected.is_empty() && one.contains(expected), "{case}: {one}"),
            more => panic!("{case}: {more:?}"),
        }
    }

    /// Limits are tried with ASCII: the API server counts characters, kube's evaluation counts bytes.
    #[test]
    fn spec_is_validated() {
        let tags = |key: &str, value: &str| json!({"tags": {key: value}});
        let (key_limit, value_limit) = ("a tag key must be 1 to 128", "a tag value must be at most 256");
        let table = [
            (json!({}), ""),
            (json!({"description": "d".repeat(8192)}), ""),
            (json!({"description": "d".repeat(8193)}), "spec.description must be at most 8192 characters"),
            (json!({"pendingDeletionDays": 6}), "spec.pendingDeletionDays must be 7 to 366 days"),
            (json!({"pendingDeletionDays": 7}), ""),
            (json!({"pendingDeletionDays": 366}), ""),
            (json!({"pendingDeletionDays": 367}), "spec.pendingDeletionDays must be 7 to 366 days"),
            (tags(&"k".repeat(128), &"v".repeat(256)), ""),
            (tags(&"k".repeat(129), ""), key_limit),
            (tags("", "v"), key_limit),
            (tags("k", &"v".repeat(257)), value_limit),
            (tags("aliyunteam", "v"), "must not begin with aliyun, acs: or aws:"),
            (tags("acs:team", "v"), "must not begin with aliyun, acs: or aws:"),
            (tags("aws:team", "v"), "must not begin with aliyun, acs: or aws:"),
            (tags("acs-team", "v"), ""),
        ];
        for (spec, expected) in table {
            let case: String = spec.to_string().chars().take(60).collect();
            check(key(&spec).validate_cel(), expected, &case);
        }
    }

    #[test]
    fn origin_and_usage_are_immutable_and_absent_is_the_default() {
        let (absent, ali, aws) = (json!({}), json!({"origin": "Aliyun_KMS"}), json!({"origin": "AWS_KMS"}));
        let usage = json!({"keyUsage": "ENCRYPT/DECRYPT"});
        let refused = "spec.origin is immutable";
        let table = [
            (&absent, &ali, ""),
            (&ali, &absent, ""),
            (&absent, &aws, refused),
            (&aws, &absent, refused),
            (&ali, &aws, refused),
            (&aws, &aws, ""),
            (&absent, &usage, ""),
            (&usage, &absent, ""),
        ];
        for (old, new, expected) in table {
            check(key(new).validate_cel_update(&key(old)), expected, &format!("{old} -> {new}"));
        }
    }
}
