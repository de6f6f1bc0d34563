//! `DataKey`: a data key under a customer master key, delivered as a Secret (design, section 1).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metadata;

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

/// A DNS-1123 subdomain, which is what names of objects are. Its length is limited by the schema.
const DNS_SUBDOMAIN: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";

/// The keys of a map are label or annotation keys: a name of at most 63 characters, alone or after a DNS-1123
/// subdomain and `/`.
const QUALIFIED_NAMES: &str = "self.all(k, k.find('^[^/]*/').size() <= 254 && k.matches('\
    ^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
    [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";

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
    #[schemars(length(min = 1, max = 63))]
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
fn label_value() -> serde_json::Value {
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
mod tests {
    use kube::core::cel::ValidationErrors;
    use serde_json::{Value, json};

    use super::*;

    /// A DataKey under the key `orders`, with these fields besides.
    fn data_key(fields: &Value) -> DataKey {
        let mut spec = json!({"keyRef": {"name": "orders"}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        DataKey::new("orders-dek", serde_json::from_value(spec).unwrap())
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

    fn check_all(table: impl IntoIterator<Item = (Value, &'static str)>) {
        for (fields, expected) in table {
            let case: String = fields.to_string().chars().take(60).collect();
            check(data_key(&fields).validate_cel(), expected, &case);
        }
    }

    /// Limits are tried with ASCII: the API server counts characters, kube's evaluation counts bytes.
    #[test]
    fn spec_is_validated() {
        let base64 = "spec.ciphertextBlob must be base64";
        check_all([
            (json!({}), ""),
            (json!({"keyRef": {"name": "a.b-c"}}), ""),
            (json!({"keyRef": {"name": "Bad_Name"}}), "spec.keyRef.name must be the name of a CustomerMasterKey"),
            (json!({"keyRef": {"name": ""}}), "spec.keyRef.name must be the name of a CustomerMasterKey"),
            (json!({"keySpec": "AES_128"}), ""),
            (json!({"keySpec": "AES_256", "numberOfBytes": 32}), "must not both be given"),
            (json!({"numberOfBytes": 0}), "spec.numberOfBytes must be 1 to 1024 bytes"),
            (json!({"numberOfBytes": 1}), ""),
            (json!({"numberOfBytes": 1024}), ""),
            (json!({"numberOfBytes": 1025}), "spec.numberOfBytes must be 1 to 1024 bytes"),
            (json!({"ciphertextBlob": "Y2sB", "numberOfBytes": 3}), ""),
            (json!({"ciphertextBlob": "Y2s="}), ""),
            (json!({"ciphertextBlob": "Y2s"}), base64),
            (json!({"ciphertextBlob": "Y2-_"}), base64),
            (json!({"ciphertextBlob": ""}), base64),
        ]);
    }

    #[test]
    fn encryption_context_is_validated() {
        let context = |entries: &[(&str, usize)]| {
            let entries = entries.iter().map(|&(name, length)| (name.to_owned(), json!("v".repeat(length))));
            json!({"encryptionContext": Value::Object(entries.collect())})
        };
        let name_limit = "a name must be 1 to 1024 characters";
        check_all([
            (context(&[]), ""),
            (context(&[(&"k".repeat(1024), 2048)]), ""),
            (context(&[(&"k".repeat(1025), 1)]), name_limit),
            (context(&[("", 1)]), name_limit),
            (context(&[("k", 2049)]), "a value must be at most 2048 characters"),
            (context(&[("a", 1791), ("b", 1791), ("c", 1791), ("d", 1791)]), ""),
            (context(&[("a", 1791), ("b", 1791), ("c", 1791), ("d", 1792)]), "together must be at most 7168"),
            (context(&[("cmk-operator.dev/data-key", 1)]), "reserved for the operator"),
            (context(&[("app", 1), ("cmk-operator.dev/", 1)]), "reserved for the operator"),
            (json!({"encryptionContext": {"cmk-operator.dev/data-key": "a/b"}, "ciphertextBlob": "Y2sB"}), ""),
        ]);
    }

    #[test]
    fn secret_is_validated() {
        let labels = |key: &str, value: &str| json!({"secret": {"labels": {key: value}}});
        let annotations = |key: &str, value: &str| json!({"secret": {"annotations": {key: value}}});
        let label_key = "a key must be a label name";
        check_all([
            (json!({"secret": {}}), ""),
            (json!({"secret": {"name": "A b"}}), "spec.secret.name must be the name of a Secret"),
            (labels("team", "a.b-c_D"), ""),
            (labels("example.com/team", ""), ""),
            (labels("team", "two words"), "a value in spec.secret.labels must be at most 63"),
            (labels(&"k".repeat(63), ""), ""),
            (labels(&"k".repeat(64), ""), label_key),
            (labels(&format!("{}/k", "p".repeat(253)), ""), ""),
            (labels(&format!("{}/k", "p".repeat(254)), ""), label_key),
            (labels("a..b/k", ""), label_key),
            (labels("two words", ""), label_key),
            (labels("cmk-operator.dev/component", "x"), "reserved for the operator"),
            (labels("app.kubernetes.io/managed-by", "x"), "reserved for the operator"),
            (labels("app.kubernetes.io/name", "x"), ""),
            (annotations("note", "any text, €"), ""),
            (annotations("two words", ""), "a key must be an annotation name"),
            (annotations("k", &"x".repeat(32767)), ""),
            (annotations("k", &"x".repeat(32768)), "together must be at most 32768 characters"),
            (annotations("cmk-operator.dev/data-key", "x"), "reserved for the operator"),
        ]);
    }

    #[test]
    fn what_the_ciphertext_depends_on_is_immutable() {
        let none = || json!({});
        let bytes = |n: i32| json!({"numberOfBytes": n});
        let named = |name: &str| json!({"keySpec": name});
        let context = |value: &str| json!({"encryptionContext": {"app": value}});
        let empty = || json!({"encryptionContext": {}});
        let blob = |value: &str| json!({"ciphertextBlob": value});
        let (length, context_refused) = ("the length of a data key", "spec.encryptionContext is immutable");
        let table = [
            (none(), json!({"keyRef": {"name": "other"}}), "spec.keyRef is immutable"),
            (named("AES_256"), bytes(32), ""),
            (bytes(32), none(), ""),
            (none(), named("AES_256"), ""),
            (named("AES_128"), bytes(16), ""),
            (none(), named("AES_128"), length),
            (bytes(16), none(), length),
            (bytes(16), bytes(17), length),
            (none(), empty(), ""),
            (empty(), none(), ""),
            (none(), context("shop"), context_refused),
            (context("shop"), none(), context_refused),
            (context("shop"), context("other"), context_refused),
            (context("shop"), context("shop"), ""),
            (none(), blob("AAAA"), "spec.ciphertextBlob is immutable"),
            (blob("AAAA"), none(), "spec.ciphertextBlob is immutable"),
            (blob("AAAA"), blob("BBBB"), "spec.ciphertextBlob is immutable"),
            (none(), json!({"secret": {"name": "renamed"}, "withoutPlaintext": true}), ""),
        ];
        for (old, new, expected) in table {
            let result = data_key(&new).validate_cel_update(&data_key(&old));
            check(result, expected, &format!("{old} -> {new}"));
        }
    }
}
