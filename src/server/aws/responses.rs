//! What is answered, in the shapes of AWS's API. Times are seconds since 1970, with a fraction.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    kms::{Dialect, KeyRecord, KeyState, Origin, ResourceName},
    server::operations::{AliasDescription, KeyDescription, KeyVersionDescription},
};

/// The one algorithm and spec of the keys here.
pub(super) const SYMMETRIC_DEFAULT: &str = "SYMMETRIC_DEFAULT";

/// A time on the wire.
fn epoch(time: Timestamp) -> f64 {
    // Milliseconds of every time that there is are exact in a float.
    #[allow(clippy::cast_precision_loss)]
    let milliseconds = time.as_millisecond() as f64;
    milliseconds / 1000.0
}

/// The id of a version of a key as AWS writes such ids, with 64 hexadecimal digits: the version's own 32, after zeros.
pub(super) fn key_material_id(version: Uuid) -> String {
    format!("{:064x}", version.as_u128())
}

/// Of CreateKey and DescribeKey.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedKey {
    pub key_metadata: KeyMetadata,
}

/// A key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyMetadata {
    #[serde(rename = "AWSAccountId")]
    aws_account_id: String,
    key_id: Uuid,
    arn: String,
    creation_date: f64,
    enabled: bool,
    description: String,
    key_usage: &'static str,
    key_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_date: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to: Option<f64>,
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_model: Option<&'static str>,
    key_manager: &'static str,
    customer_master_key_spec: &'static str,
    key_spec: &'static str,
    encryption_algorithms: [&'static str; 1],
    multi_region: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_key_material_id: Option<String>,
}

impl From<&KeyDescription> for KeyMetadata {
    fn from(description: &KeyDescription) -> Self {
        let KeyDescription { key, name, now } = description;
        let record = &*key.record;
        let state = record.state(*now);
        let has_material = !record.versions.is_empty() && !record.has_expired(*now);
        let valid_to = record.material_expire_time().filter(|_| has_material);
        let imported = record.origin == Origin::External && has_material;
        Self {
            aws_account_id: format!("{:0>12}", name.account_id),
            key_id: name.key_id,
            arn: name.arn(Dialect::Aws),
            creation_date: epoch(record.creation_date),
            enabled: state == KeyState::Enabled,
            description: record.description.clone(),
            key_usage: "ENCRYPT_DECRYPT",
            key_state: state.as_str(),
            deletion_date: deletion_date(record, state),
            valid_to: valid_to.map(epoch),
            origin: origin(record.origin),
            expiration_model: imported.then(|| expiration_model(valid_to)),
            key_manager: if record.is_service_managed() { "AWS" } else { "CUSTOMER" },
            customer_master_key_spec: SYMMETRIC_DEFAULT,
            key_spec: SYMMETRIC_DEFAULT,
            encryption_algorithms: [SYMMETRIC_DEFAULT],
            multi_region: false,
            current_key_material_id: record.primary_version().map(|version| key_material_id(version.id)),
        }
    }
}

fn deletion_date(record: &KeyRecord, state: KeyState) -> Option<f64> {
    let deletion = record.deletion.as_ref().filter(|_| state == KeyState::PendingDeletion)?;
    Some(epoch(deletion.delete_date))
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::AliyunKms | Origin::AwsKms => "AWS_KMS",
        Origin::External => "EXTERNAL",
    }
}

fn expiration_model(valid_to: Option<Timestamp>) -> &'static str {
    if valid_to.is_some() { "KEY_MATERIAL_EXPIRES" } else { "KEY_MATERIAL_DOES_NOT_EXPIRE" }
}

/// Of ScheduleKeyDeletion.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ScheduledDeletion {
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_date: Option<f64>,
    key_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_window_in_days: Option<i32>,
}

impl From<&KeyDescription> for ScheduledDeletion {
    fn from(description: &KeyDescription) -> Self {
        let KeyDescription { key, name, now } = description;
        let state = key.record.state(*now);
        Self {
            key_id: name.arn(Dialect::Aws),
            deletion_date: deletion_date(&key.record, state),
            key_state: state.as_str(),
            pending_window_in_days: key.record.deletion.as_ref().map(|deletion| deletion.pending_days),
        }
    }
}

/// Of CancelKeyDeletion and RotateKeyOnDemand.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NamedKey {
    key_id: String,
}

impl From<&ResourceName> for NamedKey {
    fn from(name: &ResourceName) -> Self {
        Self { key_id: name.arn(Dialect::Aws) }
    }
}

/// Of ImportKeyMaterial and DeleteImportedKeyMaterial.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyWithMaterial {
    pub key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_id: Option<String>,
}

impl From<&KeyDescription> for KeyWithMaterial {
    fn from(description: &KeyDescription) -> Self {
        let version = description.key.record.primary_version();
        Self {
            key_id: description.name.arn(Dialect::Aws),
            key_material_id: version.map(|version| key_material_id(version.id)),
        }
    }
}

impl KeyWithMaterial {
    /// A key whose imported material was deleted. Which it was is remembered.
    pub fn deleted(record: &KeyRecord) -> Self {
        Self {
            key_id: ResourceName::of(record).arn(Dialect::Aws),
            key_material_id: record.imported.as_ref().map(|imported| key_material_id(imported.version_id)),
        }
    }
}

/// Of GetParametersForImport.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImportParameters {
    pub key_id: String,
    /// Base64.
    pub import_token: String,
    /// Base64.
    pub public_key: String,
    pub parameters_valid_to: f64,
}

impl From<crate::server::operations::ImportParameters> for ImportParameters {
    fn from(parameters: crate::server::operations::ImportParameters) -> Self {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let crate::server::operations::ImportParameters { key, public_key, import_token, valid_to } = parameters;
        Self {
            key_id: key.arn(Dialect::Aws),
            import_token,
            public_key: BASE64_STANDARD.encode(public_key),
            parameters_valid_to: epoch(valid_to),
        }
    }
}

/// Of GetKeyRotationStatus.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RotationStatus {
    key_rotation_enabled: bool,
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_period_in_days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_rotation_date: Option<f64>,
}

impl From<&KeyDescription> for RotationStatus {
    /// A disabled key keeps its status, and one that is to be deleted has none ("GetKeyRotationStatus" of the API).
    fn from(description: &KeyDescription) -> Self {
        let KeyDescription { key, name, now } = description;
        let pending = key.record.state(*now) == KeyState::PendingDeletion;
        let days = key.record.rotation_interval_days.filter(|_| !pending);
        Self {
            key_rotation_enabled: days.is_some(),
            key_id: name.arn(Dialect::Aws),
            rotation_period_in_days: days,
            next_rotation_date: key.record.next_rotation(*now).map(epoch),
        }
    }
}

/// Of GetKeyPolicy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyPolicy {
    pub policy: String,
    pub policy_name: &'static str,
}

/// What every list has at its end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

impl From<Option<String>> for End {
    fn from(next_marker: Option<String>) -> Self {
        Self { truncated: next_marker.is_some(), next_marker }
    }
}

/// Of ListKeys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Keys {
    pub keys: Vec<KeyEntry>,
    #[serde(flatten)]
    pub end: End,
}

/// A key in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyEntry {
    pub key_id: Uuid,
    key_arn: String,
}

impl From<&ResourceName> for KeyEntry {
    fn from(name: &ResourceName) -> Self {
        Self { key_id: name.key_id, key_arn: name.arn(Dialect::Aws) }
    }
}

/// Of ListAliases.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Aliases {
    pub aliases: Vec<AliasEntry>,
    #[serde(flatten)]
    pub end: End,
}

/// An alias in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AliasEntry {
    pub alias_name: String,
    alias_arn: String,
    pub target_key_id: Uuid,
}

impl From<AliasDescription> for AliasEntry {
    fn from(alias: AliasDescription) -> Self {
        let AliasDescription { alias, key } = alias;
        Self { alias_arn: key.alias_arn(Dialect::Aws, &alias), alias_name: alias, target_key_id: key.key_id }
    }
}

/// Of ListResourceTags.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tags {
    pub tags: Vec<TagEntry>,
    #[serde(flatten)]
    pub end: End,
}

/// A tag.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagEntry {
    pub tag_key: String,
    pub tag_value: String,
}

/// Of ListKeyPolicies.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyNames {
    pub policy_names: Vec<&'static str>,
    #[serde(flatten)]
    pub end: End,
}

/// Of ListKeyRotations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Rotations {
    pub rotations: Vec<RotationEntry>,
    #[serde(flatten)]
    pub end: End,
}

/// A version of a key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RotationEntry {
    key_id: Uuid,
    key_material_id: String,
    key_material_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_date: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_type: Option<&'static str>,
    /// Where it stands among all versions.
    #[serde(skip)]
    pub number: usize,
}

impl RotationEntry {
    /// The versions of a key, the oldest of which was made with it.
    pub fn of(versions: &[KeyVersionDescription]) -> Vec<Self> {
        let newest = versions.len().saturating_sub(1);
        let entry = |(number, version): (usize, &KeyVersionDescription)| Self {
            key_id: version.key.key_id,
            key_material_id: key_material_id(version.id),
            key_material_state: if number == newest { "CURRENT" } else { "NON_CURRENT" },
            rotation_date: (number > 0).then(|| epoch(version.creation_date)),
            rotation_type: (number > 0).then_some(if version.on_demand { "ON_DEMAND" } else { "AUTOMATIC" }),
            number,
        };
        versions.iter().enumerate().map(entry).collect()
    }
}
