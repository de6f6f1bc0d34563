//! `ClusterKeyStore`: where keys are held (design, section 1).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::allowed_namespaces::AllowedNamespaces;

/// The name of the store that is there without any object, and that keys without keyStoreRef are in.
pub const DEFAULT_STORE: &str = "default";

/// The key store as it should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "kms.cmk-operator.dev",
    version = "v1alpha1",
    kind = "ClusterKeyStore",
    doc = "A place where customer master keys are held, for the whole cluster.",
    status = "ClusterKeyStoreStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "cks",
    category = "kms",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "In Use", type_ = "string", json_path = ".status.conditions[?(@.type=='InUse')].status"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.embedded.region"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.embedded.accountId"),
    printcolumn(name = "Orphaned", type_ = "integer", json_path = ".status.orphanedKeys.count"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    cel
)]
#[allow(clippy::duplicated_attributes, reason = "columns have a type each")]
#[x_kube(
    validation = Rule::new("has(self.embedded)")
        .message("exactly one provider must be given: spec.embedded")
        .field_path(".embedded"),
    validation = Rule::new("has(self.embedded) == has(oldSelf.embedded)")
        .message("the provider of a key store (spec.embedded) never changes: make another ClusterKeyStore")
        .reason(Reason::FieldValueForbidden)
        .field_path(".embedded"),
    // It is in no namespace.
    validation = Rule::new(
        "!has(self.allowedNamespaces) || !has(self.allowedNamespaces.from) || self.allowedNamespaces.from != 'Same'"
    )
    .message("spec.allowedNamespaces.from must be All or Selector, as a ClusterKeyStore is in no namespace")
    .field_path(".allowedNamespaces.from")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterKeyStoreSpec {
    /// The namespaces whose CustomerMasterKeys may be in this store. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// Keys in Secrets of the operator's namespace, wrapped under the root key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<Embedded>,
}

/// The embedded key store.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    // They are part of every key's resource name, which policies and ciphertexts out there refer to.
    validation = Rule::new(
        "(has(self.region) ? self.region : 'cn-hangzhou') == (has(oldSelf.region) ? oldSelf.region : 'cn-hangzhou')"
    )
    .message("spec.embedded.region is immutable (absent means cn-hangzhou): it is part of the names of keys")
    .reason(Reason::FieldValueForbidden)
    .field_path(".region"),
    validation = Rule::new(
        "(has(self.accountId) ? self.accountId : '123456') == (has(oldSelf.accountId) ? oldSelf.accountId : '123456')"
    )
    .message("spec.embedded.accountId is immutable (absent means 123456): it is part of the names of keys")
    .reason(Reason::FieldValueForbidden)
    .field_path(".accountId")
)]
#[serde(rename_all = "camelCase")]
pub struct Embedded {
    /// The region in the resource names of keys. Immutable. Absent: cn-hangzhou.
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
            .message("spec.embedded.region must be lower-case letters, digits and '-', such as cn-hangzhou")
    )]
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The account in the resource names of keys, and their creator: digits. AWS names show it with 12 digits.
    /// Immutable. Absent: "123456".
    #[x_kube(
        validation = Rule::new("self.matches('^[0-9]{1,16}$')")
            .message("spec.embedded.accountId must be 1 to 16 digits, in quotes")
    )]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// What becomes of a key whose object is applied again in a namespace that was made anew. Absent: Stall.
    #[schemars(with = "OnNamespaceRecreated")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_namespace_recreated: Option<OnNamespaceRecreated>,
}

/// What becomes of a key in a namespace that was deleted and made anew (design, rule 5).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNamespaceRecreated {
    /// Nothing, until an administrator says so.
    #[default]
    Stall,
    /// It is given up for a new key: for preview namespaces.
    NewKey,
}

/// Names a key store.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct KeyStoreRef {
    /// The kind of the key store.
    pub kind: KeyStoreKind,
    /// The name of the key store.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds of key store.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyStoreKind {
    /// A key store for the whole cluster.
    ClusterKeyStore,
}

impl Default for KeyStoreRef {
    fn default() -> Self {
        Self { kind: KeyStoreKind::ClusterKeyStore, name: DEFAULT_STORE.to_owned() }
    }
}

impl std::fmt::Display for KeyStoreRef {
    /// `KIND/NAME`, as records have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KeyStoreKind::ClusterKeyStore = self.kind;
        write!(f, "ClusterKeyStore/{}", self.name)
    }
}

/// What the key store can do, and what is in it that nobody has.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterKeyStoreStatus {
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the store can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<StoreCapabilities>,
    /// Keys whose CustomerMasterKey is missing. They are kept, and can be adopted with spec.keyId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned_keys: Option<OrphanedKeys>,
    /// Ready, Reconciling and Stalled, as kstatus reads them, and InUse while there are keys in the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What a key store can do.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StoreCapabilities {
    /// The windows of a deletion that it takes, in days.
    pub pending_deletion_days: DayRange,
    /// The intervals of automatic rotation that it takes, in days. Absent: it does not rotate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval_days: Option<DayRange>,
    /// Whether material can be imported.
    pub import: bool,
}

/// A range of days.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DayRange {
    /// The shortest.
    pub min: i32,
    /// The longest.
    pub max: i32,
    /// When nothing is said. Absent: there is no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<i32>,
}

/// Keys without an object.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OrphanedKeys {
    /// How many there are.
    pub count: i64,
    /// The newest of them, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<OrphanedKey>,
}

/// A key without an object.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OrphanedKey {
    /// The identifier of the key.
    pub key_id: String,
    /// The namespace of the object that it belonged to.
    pub namespace: String,
    /// The name of that object.
    pub name: String,
    /// When the key was created (UTC).
    pub creation_date: Time,
}

#[cfg(test)]
mod tests;
