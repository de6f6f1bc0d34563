//! `CustomerMasterKey`: a customer master key as it should be, and as it is (design, section 1).

mod status;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    allowed_namespaces::AllowedNamespaces,
    cluster_key_store::KeyStoreRef,
    names::{DNS_SUBDOMAIN, SECRET_ENTRY},
};
use crate::kms::{KeyUsage, Origin, WrappingAlgorithm};

pub use status::{CustomerMasterKeyStatus, KeyManager, KeyMetadata, KeyVersion, ProtectionLevel};

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
    selectable = ".spec.alias",
    selectable = ".status.keyMetadata.keyState",
    printcolumn(name = "Key ID", type_ = "string", json_path = ".status.keyMetadata.keyId"),
    printcolumn(name = "Alias", type_ = "string", json_path = ".status.alias"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.keyMetadata.keyState"),
    printcolumn(name = "Store", type_ = "string", json_path = ".status.keyStoreRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Origin", type_ = "string", json_path = ".status.keyMetadata.origin", priority = 1),
    // A string: kubectl prints a date as an age, and one in the future as <invalid>.
    printcolumn(name = "Deletes", type_ = "string", json_path = ".status.keyMetadata.deleteDate", priority = 1),
    printcolumn(
        name = "Next Rotation",
        type_ = "string",
        json_path = ".status.keyMetadata.nextRotationDate",
        priority = 1
    ),
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
    // Here and not in spec, as it needs the name of the object.
    validation = Rule::new(
        "!has(self.spec.alias) || !self.spec.alias.matches('^(alias/)?acs(/|$)') || \
         (self.metadata.name == 'acs-datakey' && self.spec.alias == 'alias/acs/DataKey')"
    )
    .message(
        "spec.alias must not be acs or begin with acs/, which is reserved for service-managed keys (the one there is: \
         alias/acs/DataKey, of the CustomerMasterKey called acs-datakey)"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".spec.alias"),
    // Else somebody could put a key of his own, or one without protection, under everybody's DataKeys.
    validation = Rule::new(
        "self.metadata.name != 'acs-datakey' || (has(self.spec.alias) && self.spec.alias == 'alias/acs/DataKey')"
    )
    .message(
        "spec.alias must be alias/acs/DataKey in a CustomerMasterKey called acs-datakey, which is the namespace's \
         service-managed key: give another key another name"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".spec.alias"),
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
        .field_path(".description"),
    validation = Rule::new(
        "(has(self.keyStoreRef) ? self.keyStoreRef.name : 'default') == \
         (has(oldSelf.keyStoreRef) ? oldSelf.keyStoreRef.name : 'default')"
    )
    .message("spec.keyStoreRef is immutable (absent means ClusterKeyStore default): keys do not move between stores")
    .reason(Reason::FieldValueForbidden)
    .field_path(".keyStoreRef"),
    validation = Rule::new(
        "(has(self.keyId) ? self.keyId : '') == (has(oldSelf.keyId) ? oldSelf.keyId : '')"
    )
    .message("spec.keyId is immutable, and can't be added or removed: make a new CustomerMasterKey to adopt a key")
    .reason(Reason::FieldValueForbidden)
    .field_path(".keyId"),
    validation = Rule::new(
        "!(has(self.deletionProtection) && self.deletionProtection && \
         has(self.scheduleDeletion) && self.scheduleDeletion)"
    )
    .message("spec.scheduleDeletion must not be true while spec.deletionProtection is: remove the protection first")
    .reason(Reason::FieldValueForbidden)
    .field_path(".scheduleDeletion"),
    // In an update of its own, so that one careless manifest can't do both.
    validation = Rule::new(
        "!(has(oldSelf.deletionProtection) && oldSelf.deletionProtection && \
         !(has(self.deletionProtection) && self.deletionProtection) && \
         has(self.scheduleDeletion) && self.scheduleDeletion)"
    )
    .message(
        "spec.scheduleDeletion must not be true in the same change that removes spec.deletionProtection: remove the \
         protection first, and schedule the deletion in another change"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".scheduleDeletion"),
    validation = Rule::new(
        "!(has(oldSelf.deletionProtection) && oldSelf.deletionProtection && \
         has(oldSelf.importedKeyMaterial) && !has(self.importedKeyMaterial))"
    )
    .message(
        "spec.importedKeyMaterial must not be removed while spec.deletionProtection is true, nor in the change that \
         removes the protection: remove the protection first"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".importedKeyMaterial"),
    validation = Rule::new(
        "!has(self.importedKeyMaterial) || (has(self.origin) && self.origin == 'EXTERNAL')"
    )
    .message("spec.importedKeyMaterial needs spec.origin EXTERNAL: other keys get their material from the key store")
    .reason(Reason::FieldValueForbidden)
    .field_path(".importedKeyMaterial"),
    validation = Rule::new(
        "!has(self.rotationIntervalDays) || !(has(self.origin) && self.origin == 'EXTERNAL')"
    )
    .message("spec.rotationIntervalDays must be absent with spec.origin EXTERNAL: imported material never rotates")
    .reason(Reason::FieldValueForbidden)
    .field_path(".rotationIntervalDays"),
    validation = Rule::new(
        "!has(self.keyStoreRef) || \
         self.keyStoreRef.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')"
    )
    .message(
        "spec.keyStoreRef.name must be the name of a ClusterKeyStore: \
         lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
    )
    .field_path(".keyStoreRef"),
    // The keys of alias/acs/… are the operator's own (rule 7).
    validation = Rule::new(
        "!(has(self.alias) && self.alias.matches('^(alias/)?acs/')) || !(has(self.enabled) && !self.enabled)"
    )
    .message("spec.enabled must not be false: a service-managed key (alias/acs/…) can't be disabled")
    .reason(Reason::FieldValueForbidden)
    .field_path(".enabled"),
    validation = Rule::new(
        "!(has(self.alias) && self.alias.matches('^(alias/)?acs/')) || \
         !(has(self.scheduleDeletion) && self.scheduleDeletion)"
    )
    .message(
        "spec.scheduleDeletion must not be true: the deletion of a service-managed key (alias/acs/…) can't be scheduled"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".scheduleDeletion"),
    validation = Rule::new(
        "!(has(self.alias) && self.alias.matches('^(alias/)?acs/')) || \
         !(has(self.keyId) || (has(self.origin) && self.origin == 'EXTERNAL'))"
    )
    .message(
        "spec.keyId and spec.origin EXTERNAL must be absent: a service-managed key (alias/acs/…) is generated by its key \
         store"
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".origin"),
    validation = Rule::new(
        "!(has(oldSelf.alias) && oldSelf.alias.matches('^(alias/)?acs/')) || \
         (has(self.alias) && self.alias == oldSelf.alias)"
    )
    .message("spec.alias of a service-managed key (alias/acs/…) is immutable")
    .reason(Reason::FieldValueForbidden)
    .field_path(".alias")
)]
#[serde(rename_all = "camelCase")]
pub struct CustomerMasterKeySpec {
    /// The key store that holds the key. Immutable. Absent: the ClusterKeyStore called default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_store_ref: Option<KeyStoreRef>,
    /// Adopt the existing key of the store that has this id, instead of making one. Needs the verb adopt on the key
    /// store. Immutable.
    #[x_kube(
        validation = Rule::new("self.matches('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')").message(
            "spec.keyId must be the id of a key: 32 lower-case hexadecimal digits in groups of 8, 4, 4, 4 and 12"
        )
    )]
    #[schemars(length(max = 36))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// A name for the key, unique in its store and namespace: letters, digits, '/', '_' and '-' after the prefix alias/,
    /// which may be left out; at most 256 in all. Names that begin with acs/ or aws/ are reserved. It moves when
    /// it is changed, and is given up when this object is deleted.
    #[x_kube(
        validation = Rule::new("self.matches('^(alias/)?[a-zA-Z0-9/_-]+$') && self != 'alias/'").message(
            "spec.alias must be letters, digits, '/', '_' and '-' only, such as alias/orders or orders"
        ),
        validation = Rule::new("!self.matches('^(alias/)?aws(/|$)')")
            .message("spec.alias must not be aws or begin with aws/, which AWS reserves")
            .reason(Reason::FieldValueForbidden)
    )]
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
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
    /// True: the deletion of the key can't be scheduled, this object can't be deleted, and imported material can't be
    /// removed. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    /// What deleting this object does to the key. Absent: ScheduleDeletion, or Retain with keyId.
    #[schemars(with = "DeletionPolicy")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Days after which the key gets a new version, 7 to 2560. Every older version still decrypts. Absent: no
    /// automatic rotation. Suspended while the key is not Enabled.
    #[x_kube(
        validation = Rule::new("self >= 7 && self <= 2560").message("spec.rotationIntervalDays must be 7 to 2560 days")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval_days: Option<i32>,
    /// The material of a key with origin EXTERNAL. Removed: the material is deleted, and can only be imported again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_key_material: Option<ImportedKeyMaterial>,
    /// The namespaces whose DataKeys may refer to this key. Absent: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
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

/// Key material that the user brings.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImportedKeyMaterial {
    /// The Secret, in the same namespace, that holds the material: exactly 32 bytes, or with wrapping those bytes
    /// encrypted. It is only read.
    pub secret_ref: SecretKeyRef,
    /// When the material expires and is deleted. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Time>,
    /// How the material in the Secret is encrypted. Absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapping: Option<Wrapping>,
}

/// Names an entry of a Secret.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new(DNS_SUBDOMAIN).message(
            "spec.importedKeyMaterial.secretRef.name must be the name of a Secret: \
             lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
        )
    )]
    pub name: String,
    /// The entry in it.
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new(SECRET_ENTRY).message(
            "spec.importedKeyMaterial.secretRef.key must be the name of an entry of the Secret: \
             letters, digits, '-', '_' and '.'"
        )
    )]
    pub key: String,
}

/// How imported material is encrypted on its way.
// On the parent, as a rule on the field would print the whole token.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("self.importToken.matches('^[A-Za-z0-9+/]+={0,2}$')")
        .message(
            "spec.importedKeyMaterial.wrapping.importToken must be base64, as GetParametersForImport gave it, without \
             line breaks"
        )
        .field_path(".importToken")
)]
#[serde(rename_all = "camelCase")]
pub struct Wrapping {
    /// The algorithm that GetParametersForImport was asked for.
    pub algorithm: WrappingAlgorithm,
    /// The import token that came with the public key, base64. It is not secret, and is good for 24 hours.
    #[schemars(length(max = 16384))]
    pub import_token: String,
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

impl CustomerMasterKey {
    /// The store that holds its key: the declared one, else the one resolved before, else the default.
    #[must_use]
    pub fn key_store_ref(&self) -> KeyStoreRef {
        let resolved = || self.status.as_ref().and_then(|status| status.key_store_ref.clone());
        self.spec.key_store_ref.clone().or_else(resolved).unwrap_or_default()
    }
}

impl CustomerMasterKeySpec {
    /// The declared alias, with its prefix.
    #[must_use]
    pub fn full_alias(&self) -> Option<String> {
        self.alias.as_deref().map(full_alias)
    }

    /// What deleting the object does to the key.
    #[must_use]
    pub fn effective_deletion_policy(&self) -> DeletionPolicy {
        let adopted = || if self.key_id.is_some() { DeletionPolicy::Retain } else { DeletionPolicy::default() };
        self.deletion_policy.unwrap_or_else(adopted)
    }
}

/// An alias with its prefix, `alias/`, given with it or without.
#[must_use]
pub fn full_alias(alias: &str) -> String {
    format!("alias/{}", alias.strip_prefix("alias/").unwrap_or(alias))
}

#[cfg(test)]
mod tests;
