//! A key's metadata as status shows it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::customer_master_key::{KeyManager, KeyMetadata, KeyVersion, ProtectionLevel},
    kms::{Dialect, KeyRecord, Origin, ResourceName},
};

/// How many versions status shows: the newest.
const VERSIONS_SHOWN: usize = 10;

/// The metadata of a key in the vocabulary of the clouds.
pub fn key_metadata(record: &KeyRecord, now: Timestamp) -> KeyMetadata {
    KeyMetadata {
        key_id: record.key_id.to_string(),
        arn: resource_name(record),
        key_state: record.state(now),
        creation_date: Time(record.creation_date),
        delete_date: record.deletion.as_ref().map(|d| Time(d.delete_date)),
        description: record.description.clone(),
        key_usage: record.key_usage,
        key_spec: match record.origin {
            Origin::AliyunKms | Origin::External => "Aliyun_AES_256".into(),
            Origin::AwsKms => "SYMMETRIC_DEFAULT".into(),
        },
        origin: record.origin,
        creator: record.account_id.clone(),
        key_manager: if record.is_service_managed() { KeyManager::Service } else { KeyManager::Customer },
        protection_level: ProtectionLevel::Software,
        primary_key_version: record.primary_version().map(|v| v.id.to_string()),
        material_expire_time: record.material_expire_time().map(Time),
        automatic_rotation: Some(record.automatic_rotation(now)),
        rotation_interval: record.rotation_interval_days.map(|days| format!("{}s", i64::from(days) * 86_400)),
        last_rotation_date: record.last_rotation().map(Time),
        next_rotation_date: record.next_rotation(now).map(Time),
        deletion_protection: record.deletion_protection,
    }
}

/// The resource name in the form of the key's origin.
fn resource_name(record: &KeyRecord) -> String {
    let dialect = match record.origin {
        Origin::AliyunKms | Origin::External => Dialect::Alibaba,
        Origin::AwsKms => Dialect::Aws,
    };
    ResourceName::of(record).arn(dialect)
}

/// The newest versions.
pub fn key_versions(record: &KeyRecord) -> Vec<KeyVersion> {
    let newest = record.versions.len().saturating_sub(VERSIONS_SHOWN);
    record.versions[newest..]
        .iter()
        .map(|v| KeyVersion { id: v.id.to_string(), creation_date: Time(v.creation_date) })
        .collect()
}
