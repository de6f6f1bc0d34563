//! `DataKey`: a data key under a customer master key, delivered as a Secret (design, section 1).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    metadata,
    names::{DNS_LABEL, DNS_SUBDOMAIN, QUALIFIED_NAMES},
};

/// The data key and its Secret as they should be.
// `schemars(with)` on an optional enum: without it the schema has the enum's description, not the field's.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "kms.cmk-operator.dev",
    version = "v1alpha1",
    kind = "DataKey",
    doc = "A data key under a customer master key, generated once and delivered as a Secret.",
    namespaced,
    status = "DataKeyStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "dk",
    category = "kms",
    printcolumn(name = "Key", type_ = "string", json_path = ".spec.keyRef.name"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Key ID", type_ = "string", json_path = ".status.keyId", priority = 1),
    printcolumn(name = "Generated", type_ = "date", json_path = ".status.generatedAt", priority = 1),
    // A string: kubectl prints a date as an age, and one in the future as <invalid>.
    printcolumn(name = "Next Rotation", type_ = "string", json_path = ".status.nextRotation", priority = 1),
    cel
)]
#[allow(clippy::duplicated_attributes, reason = "columns have a type and a priority each")]
// On the parent, because a rule on an optional field is not evaluated when the field comes or goes.
#[x_kube(
    validation = Rule::new("!(has(self.keySpec) && has(self.numberOfBytes))")
        .message("spec.keySpec and spec.numberOfBytes must not both be given: keep one of them")
        .field_path(".numberOfBytes"),
    validation = Rule::new(
        "(has(self.keySpec) ? (self.keySpec == 'AES_128' ? 16 : 32) : \
          has(self.numberOfBytes) ? self.numberOfBytes : 32) == \
         (has(oldSelf.keySpec) ? (oldSelf.keySpec == 'AES_128' ? 16 : 32) : \
          has(oldSelf.numberOfBytes) ? oldSelf.numberOfBytes : 32)"
    )
    .message(
        "the length of a data key (spec.keySpec or spec.numberOfBytes, 32 bytes when both are absent) is immutable: \
         make a new DataKey"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".numberOfBytes"),
    validation = Rule::new(
        "(has(self.encryptionContext) ? self.encryptionContext : {}) == \
         (has(oldSelf.encryptionContext) ? oldSelf.encryptionContext : {})"
    )
    .message("spec.encryptionContext is immutable, as the ciphertext is bound to it: make a new DataKey")
    .reason(Reason::FieldValueForbidden)
    .field_path(".encryptionContext"),
    validation = Rule::new(
        "(has(self.ciphertextBlob) ? self.ciphertextBlob : '') == \
         (has(oldSelf.ciphertextBlob) ? oldSelf.ciphertextBlob : '')"
    )
    .message("spec.ciphertextBlob is immutable, and can't be added or removed: make a new DataKey")
    .reason(Reason::FieldValueForbidden)
    .field_path(".ciphertextBlob"),
    // On the parent, as a rule on the field would print the whole text.
    validation = Rule::new(
        "!has(self.ciphertextBlob) || \
         (self.ciphertextBlob.size() % 4 == 0 && self.ciphertextBlob.matches('^[A-Za-z0-9+/]+={0,2}$'))"
    )
    .message("spec.ciphertextBlob must be base64: the standard alphabet with padding, without line breaks")
    .field_path(".ciphertextBlob"),
    // A generated data key has such an entry, and whoever brings its ciphertext has to give it.
    validation = Rule::new(
        "has(self.ciphertextBlob) || !has(self.encryptionContext) || \
         self.encryptionContext.all(k, !k.startsWith('cmk-operator.dev/'))"
    )
    .message(
        "spec.encryptionContext: names that begin with cmk-operator.dev/ are reserved for the operator, and can be \
         given with spec.ciphertextBlob only"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".encryptionContext"),
    validation = Rule::new(
        "has(self.keyRef) == has(oldSelf.keyRef) && (!has(self.keyRef) || self.keyRef == oldSelf.keyRef)"
    )
    .message(
        "spec.keyRef is immutable, and can't be added or removed, as the ciphertext is bound to its key: make a new \
         DataKey"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".keyRef"),
    validation = Rule::new(
        "!has(self.rotationIntervalDays) || !(has(self.secret) && has(self.secret.immutable) && self.secret.immutable)"
    )
    .message("spec.rotationIntervalDays must be absent with spec.secret.immutable: an immutable Secret can't rotate")
    .field_path(".rotationIntervalDays"),
    validation = Rule::new("!has(self.rotationIntervalDays) || !has(self.ciphertextBlob)")
        .message("spec.rotationIntervalDays must be absent with spec.ciphertextBlob: a given data key does not rotate")
        .field_path(".rotationIntervalDays")
)]
#[serde(rename_all = "camelCase")]
pub struct DataKeySpec {
    /// The customer master key. Immutable. Absent: the namespace's service key, alias/acs/DataKey, which is made when
    /// it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<KeyRef>,
    /// The length of the data key by name. Not together with numberOfBytes. Absent, and numberOfBytes too:
    /// 32 bytes. The length is immutable.
    #[schemars(with = "DataKeySpecName")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_spec: Option<DataKeySpecName>,
    /// The length of the data key in bytes, 1 to 1024. Not together with keySpec.
    #[x_kube(
        validation = Rule::new("self >= 1 && self <= 1024").message("spec.numberOfBytes must be 1 to 1024 bytes")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_bytes: Option<i32>,
    /// Names and values that must be given again to decrypt the ciphertext, at most 64. Immutable. A name has 1
    /// to 1024 characters, a value at most 2048, all of them together at most 7168. Names that begin
    /// with cmk-operator.dev/ can be given with ciphertextBlob only.
    // Both clouds take 8192 characters of JSON. The rest is for the punctuation and for the operator's own entry,
    // cmk-operator.dev/data-key, which is never longer than 348 characters.
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new("self.all(k, k.size() >= 1 && k.size() <= 1024)")
            .message("spec.encryptionContext: a name must be 1 to 1024 characters"),
        validation = Rule::new("self.all(k, self[k].size() <= 2048)")
            .message("spec.encryptionContext: a value must be at most 2048 characters"),
        validation = Rule::new("self.map(k, k.size() + self[k].size()).sum() <= 7168")
            .message("spec.encryptionContext: names and values together must be at most 7168 characters")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_context: Option<BTreeMap<String, String>>,
    /// True: the Secret holds the ciphertext only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_plaintext: Option<bool>,
    /// Deliver this existing data key (base64, at most 16384 characters) instead of generating one. Immutable.
    #[schemars(length(max = 16384))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext_blob: Option<String>,
    /// Days after which a new data key is generated, 1 to 2560. The one before stays in the Secret beside it, and
    /// every earlier ciphertext in status. Absent: never.
    #[x_kube(
        validation = Rule::new("self >= 1 && self <= 2560").message("spec.rotationIntervalDays must be 1 to 2560 days")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval_days: Option<i32>,
    /// The Secret to deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTemplate>,
}

/// Refers to a `CustomerMasterKey`.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRef {
    /// The name of the `CustomerMasterKey`.
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new(DNS_SUBDOMAIN).message(
            "spec.keyRef.name must be the name of a CustomerMasterKey: \
             lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
        )
    )]
    pub name: String,
    /// Its namespace, where its allowedNamespaces permit that. Absent: the same.
    #[schemars(length(max = 63))]
    #[x_kube(
        validation = Rule::new(DNS_LABEL).message(
            "spec.keyRef.namespace must be the name of a namespace: \
             lower-case letters, digits and '-', with a letter or digit at both ends"
        )
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The named lengths of a data key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKeySpecName {
    /// 32 bytes.
    #[serde(rename = "AES_256")]
    Aes256,
    /// 16 bytes.
    #[serde(rename = "AES_128")]
    Aes128,
}

/// How the Secret is delivered.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// The name of the Secret. Absent: the name of the DataKey.
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new(DNS_SUBDOMAIN).message(
            "spec.secret.name must be the name of a Secret: \
             lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
        )
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of the Secret, at most 64. Those of the operator, cmk-operator.dev/ and
    /// app.kubernetes.io/managed-by, can't be set.
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = label_value()))]
    #[x_kube(
        validation = Rule::new(QUALIFIED_NAMES)
            .message("spec.secret.labels: a key must be a label name such as team or example.com/team"),
        validation = Rule::new(
            "self.all(k, !k.startsWith('cmk-operator.dev/') && k != 'app.kubernetes.io/managed-by')"
        )
        .message("spec.secret.labels: cmk-operator.dev/ and app.kubernetes.io/managed-by are reserved for the operator")
        .reason(Reason::FieldValueForbidden)
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Secret, at most 64 and 32768 characters together. Those of the operator,
    /// cmk-operator.dev/, can't be set.
    // Kubernetes allows 256 KiB of annotations on an object, and a character has at most 4 bytes.
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new(QUALIFIED_NAMES)
            .message("spec.secret.annotations: a key must be an annotation name such as note or example.com/note"),
        validation = Rule::new("self.map(k, k.size() + self[k].size()).sum() <= 32768")
            .message("spec.secret.annotations: keys and values together must be at most 32768 characters"),
        validation = Rule::new("self.all(k, !k.startsWith('cmk-operator.dev/'))")
            .message("spec.secret.annotations: cmk-operator.dev/ is reserved for the operator")
            .reason(Reason::FieldValueForbidden)
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// How the plaintext is written. Absent: Raw.
    #[schemars(with = "SecretEncoding")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<SecretEncoding>,
    /// True makes the Secret immutable. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// What deleting the DataKey does to the Secret. Absent: Retain.
    #[schemars(with = "SecretDeletionPolicy")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<SecretDeletionPolicy>,
}

/// The schema of a label's value. The rule is on the value, so that the API server names the label it refuses.
pub(super) fn label_value() -> serde_json::Value {
    serde_json::json!({
        "type": "string",
        "maxLength": 63,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
            "message": "a value in spec.secret.labels must be at most 63 letters, digits, '-', '_' or '.', \
                        with a letter or digit at both ends",
        }],
    })
}

/// How the plaintext of a data key is written into its Secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretEncoding {
    /// The bytes themselves: for volumes.
    #[default]
    Raw,
    /// Base64 text: for environment variables, which end at a NUL byte.
    Base64,
    /// Hexadecimal text, lower case.
    Hex,
}

/// What deleting a `DataKey` does to its Secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretDeletionPolicy {
    /// The Secret stays.
    #[default]
    Retain,
    /// The Secret is deleted.
    Delete,
}

/// What was delivered.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DataKeyStatus {
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The key that encrypts the data key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The version of that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version_id: Option<String>,
    /// The data key's ciphertext (base64). The Secret can always be made again from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext_blob: Option<String>,
    /// The data keys before this one, the newest last, 64 at most. Full, the data key does not rotate any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<FormerDataKey>,
    /// When the data key was generated, or first seen here if it was not generated here (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<Time>,
    /// When a new data key will be generated (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,
    /// The value of the annotation cmk-operator.dev/rotate-requested-at that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotation: Option<String>,
    /// The Secret that holds the data key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Ready, Reconciling and Stalled, as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A data key that was rotated out. It still decrypts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FormerDataKey {
    /// Its ciphertext (base64).
    pub ciphertext_blob: String,
    /// When it was generated, or found again if status was lost (UTC).
    pub generated_at: Time,
}

/// Names a Secret in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretRef {
    /// The name of the Secret.
    pub name: String,
}

/// Length of a data key when neither keySpec nor numberOfBytes says: 32 bytes.
pub const DEFAULT_DATA_KEY_BYTES: usize = 32;

impl DataKeySpec {
    /// The length of the data key, in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        match (self.key_spec, self.number_of_bytes) {
            (Some(DataKeySpecName::Aes256), _) => 32,
            (Some(DataKeySpecName::Aes128), _) => 16,
            (None, Some(n)) => usize::try_from(n).unwrap_or(DEFAULT_DATA_KEY_BYTES),
            (None, None) => DEFAULT_DATA_KEY_BYTES,
        }
    }

    /// The `CustomerMasterKey` that a DataKey in `namespace` is under: namespace and name.
    #[must_use]
    pub fn master<'a>(&'a self, namespace: &'a str) -> (&'a str, &'a str) {
        match &self.key_ref {
            Some(key_ref) => (key_ref.namespace.as_deref().unwrap_or(namespace), &key_ref.name),
            None => (namespace, metadata::SERVICE_KEY),
        }
    }

    /// The name of the Secret to deliver for the DataKey called `data_key`.
    #[must_use]
    pub fn secret_name<'a>(&'a self, data_key: &'a str) -> &'a str {
        self.secret.as_ref().and_then(|s| s.name.as_deref()).unwrap_or(data_key)
    }
}

#[cfg(test)]
mod tests;
