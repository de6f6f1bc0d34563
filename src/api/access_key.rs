//! `AccessKey`: a ServiceAccount's identity as an access key for the KMS endpoint (design, section 1).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    data_key::{SecretRef, label_value},
    names::{DNS_SUBDOMAIN, QUALIFIED_NAMES},
};

/// The access key and its Secret as they should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "kms.cmk-operator.dev",
    version = "v1alpha1",
    kind = "AccessKey",
    doc = "Credentials for the KMS endpoint: a ServiceAccount's identity as an access key, delivered as a Secret.",
    namespaced,
    status = "AccessKeyStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "ak",
    category = "kms",
    printcolumn(name = "Service Account", type_ = "string", json_path = ".spec.serviceAccountName"),
    printcolumn(name = "Access Key ID", type_ = "string", json_path = ".status.accessKeyId"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Created", type_ = "date", json_path = ".status.createdAt", priority = 1),
    // A string: kubectl prints a date as an age, and one in the future as <invalid>.
    printcolumn(name = "Next Rotation", type_ = "string", json_path = ".status.nextRotation", priority = 1),
    cel
)]
#[allow(clippy::duplicated_attributes, reason = "columns have a type and a priority each")]
#[serde(rename_all = "camelCase")]
pub struct AccessKeySpec {
    /// The ServiceAccount in the same namespace whose identity the access key is. Immutable.
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new(DNS_SUBDOMAIN).message(
            "spec.serviceAccountName must be the name of a ServiceAccount: \
             lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
        ),
        validation = Rule::new("self == oldSelf")
            .message("spec.serviceAccountName is immutable: make a new AccessKey")
            .reason(Reason::FieldValueForbidden)
    )]
    pub service_account_name: String,
    /// The Secret to deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<AccessKeySecretTemplate>,
    /// Days after which a new access key is made, 1 to 365. The one before works for half as long beside it. Absent:
    /// never.
    #[x_kube(
        validation = Rule::new("self >= 1 && self <= 365").message("spec.rotationIntervalDays must be 1 to 365 days")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval_days: Option<i32>,
}

/// How the Secret is delivered.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeySecretTemplate {
    /// The name of the Secret. Absent: the name of the AccessKey.
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
}

/// What was delivered. The secret half is in the Secret alone.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyStatus {
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The public half of the access key in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// When it was made (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// The public half of the access key before, while that one works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_access_key_id: Option<String>,
    /// When the access key before stops to work (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_expires_at: Option<Time>,
    /// When a new access key will be made (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,
    /// The value of the annotation cmk-operator.dev/rotate-requested-at that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotation: Option<String>,
    /// The Secret that holds the access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Ready, Reconciling and Stalled, as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl AccessKeySpec {
    /// The name of the Secret to deliver for the AccessKey called `access_key`.
    #[must_use]
    pub fn secret_name<'a>(&'a self, access_key: &'a str) -> &'a str {
        self.secret.as_ref().and_then(|s| s.name.as_deref()).unwrap_or(access_key)
    }
}

#[cfg(test)]
mod tests;
