//! What the key store holds: the status of a `CustomerMasterKey`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::cluster_key_store::KeyStoreRef,
    kms::{AutomaticRotation, KeyState, KeyUsage, Origin},
};

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
    /// The alias that the key has, with its prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The key's metadata, in the vocabulary of the cloud services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_metadata: Option<KeyMetadata>,
    /// The value of the annotation cmk-operator.dev/rotate-requested-at that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotation: Option<String>,
    /// The newest versions of the key material, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_versions: Vec<KeyVersion>,
    /// Ready, Reconciling and Stalled, as kstatus reads them, and PurgeHeld while an erasure that is due waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
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
    /// When the imported material expires (UTC). Present only where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub material_expire_time: Option<Time>,
    /// Whether the key rotates by itself: Suspended while it is not Enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AutomaticRotation")]
    pub automatic_rotation: Option<AutomaticRotation>,
    /// The interval of automatic rotation, in seconds, such as 31536000s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval: Option<String>,
    /// When the newest version was made by a rotation (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation_date: Option<Time>,
    /// When the key rotates next (UTC). Absent while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_date: Option<Time>,
    /// Whether the key is protected from deletion.
    #[serde(default)]
    pub deletion_protection: bool,
}

/// Who manages a key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyManager {
    /// The user, through this object.
    Customer,
    /// The operator: the key of alias/acs/DataKey.
    Service,
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
