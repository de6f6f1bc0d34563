//! The record of a key, put together from what its object says: for who may not read the record itself.
//!
//! Approximated, as status does not have it:
//!
//! * the owner: the object itself, in this namespace, having claimed the key;
//! * tags, whether the key is enabled while it is PendingDeletion or PendingImport, the window of a scheduled
//!   deletion, and where imported material came from: as the object's spec says before the change. It is wrong where
//!   the operator has not answered that spec yet, or could not do what it says;
//! * versions: those that status shows, the newest ten;
//! * keys given up before this one: none.

use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use crate::{
    api::{
        CustomerMasterKey, CustomerMasterKeyStatus,
        conditions::{self, STALLED, reason},
        customer_master_key::KeyMetadata,
    },
    kms::{
        KeyRecord, KeyState, Origin, Owner,
        key_record::{
            Deletion, ImportedMaterial, MaterialCheck, MaterialSource, RECORD_FORMAT, RecordVersion, to_seconds,
        },
        limits::PendingDeletionDays,
    },
};

/// Seconds in a day of a rotation interval.
const DAY: i64 = 86_400;

/// Stands for wrapped material that is there and was not read.
const WRAPPED: &[u8] = &[0];

/// The record behind an object that has a key. None: status names none.
pub fn record(live: &CustomerMasterKey, namespace_uid: &str, windows: PendingDeletionDays) -> Option<KeyRecord> {
    let status = live.status.as_ref()?;
    let metadata = status.key_metadata.as_ref()?;
    let is_erased = conditions::find(&status.conditions, STALLED)
        .is_some_and(|stalled| stalled.status == "True" && stalled.reason == reason::KEY_DELETED);
    let spec = &live.spec;
    let (region, account_id) = place(metadata);
    Some(KeyRecord {
        format: RECORD_FORMAT,
        store: live.key_store_ref().to_string(),
        key_id: metadata.key_id.parse().ok()?,
        revision: 1,
        generation: 0,
        owner: Owner {
            namespace: live.namespace().unwrap_or_default(),
            namespace_uid: namespace_uid.to_owned(),
            name: live.name_any(),
            uid: live.uid().unwrap_or_default(),
            resource_version: String::new(),
            released: false,
        },
        region,
        account_id,
        creation_date: metadata.creation_date.0,
        origin: metadata.origin,
        key_usage: metadata.key_usage,
        description: metadata.description.clone(),
        alias: status.alias.clone(),
        tags: spec.tags.clone().unwrap_or_default(),
        enabled: match metadata.key_state {
            KeyState::Enabled => true,
            KeyState::Disabled => false,
            KeyState::PendingDeletion | KeyState::PendingImport => spec.enabled.unwrap_or(true),
        },
        deletion_protection: metadata.deletion_protection,
        rotation_interval_days: metadata.rotation_interval.as_deref().and_then(days),
        last_handled_rotation: status.last_handled_rotation.clone(),
        imported: imported(live, metadata),
        deletion: metadata.delete_date.as_ref().map(|date| Deletion {
            pending_days: spec.pending_deletion_days.unwrap_or(windows.default),
            delete_date: date.0,
        }),
        erased_at: is_erased.then(|| metadata.delete_date.as_ref().map_or(metadata.creation_date.0, |date| date.0)),
        abandoned: false,
        home: None,
        versions: if is_erased { Vec::new() } else { versions(status) },
    })
}

/// Region and account in a resource name: `acs:kms:REGION:ACCOUNT:key/…` or `arn:aws:kms:REGION:ACCOUNT:key/…`.
fn place(metadata: &KeyMetadata) -> (String, String) {
    let parts: Vec<_> = metadata.arn.split(':').collect();
    let region = parts.len().checked_sub(3).and_then(|index| parts.get(index)).copied().unwrap_or_default();
    (region.to_owned(), metadata.creator.clone())
}

/// Days in an interval such as `31536000s`.
fn days(interval: &str) -> Option<i32> {
    let seconds: i64 = interval.strip_suffix('s')?.parse().ok()?;
    i32::try_from(seconds / DAY).ok()
}

fn versions(status: &CustomerMasterKeyStatus) -> Vec<RecordVersion> {
    let version = |id: &str, creation_date: Timestamp| RecordVersion {
        id: id.parse().unwrap_or_default(),
        creation_date,
        root_key_id: Uuid::nil(),
        wrapped: WRAPPED.to_vec(),
        on_demand: false,
    };
    status.key_versions.iter().map(|v| version(&v.id, v.creation_date.0)).collect()
}

/// What was imported, if something is: as the spec declares it.
fn imported(live: &CustomerMasterKey, metadata: &KeyMetadata) -> Option<ImportedMaterial> {
    let declared = live.spec.imported_key_material.as_ref()?;
    if metadata.origin != Origin::External {
        return None;
    }
    let newest = live.status.as_ref().and_then(|status| status.key_versions.last());
    Some(ImportedMaterial {
        version_id: newest.and_then(|version| version.id.parse().ok()).unwrap_or_default(),
        creation_date: newest.map_or(metadata.creation_date.0, |version| version.creation_date.0),
        source: MaterialSource { secret: declared.secret_ref.name.clone(), key: declared.secret_ref.key.clone() },
        expire_time: declared.expire_time.as_ref().map(|time| to_seconds(time.0)),
        check: MaterialCheck { id: Uuid::nil(), root_key_id: Uuid::nil(), wrapped_key: Vec::new(), value: Vec::new() },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn live(state: &str, more: &Value, spec: &Value) -> CustomerMasterKey {
        let mut metadata = json!({
            "keyId": "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73",
            "arn": "acs:kms:cn-hangzhou:123456:key/08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73", "keyState": state,
            "creationDate": "2026-01-01T00:00:00Z", "description": "d", "keyUsage": "ENCRYPT/DECRYPT",
            "keySpec": "Aliyun_AES_256", "origin": "Aliyun_KMS", "creator": "123456", "keyManager": "CUSTOMER",
            "protectionLevel": "SOFTWARE",
        });
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u"}, "spec": spec,
            "status": {"alias": "alias/orders", "keyMetadata": metadata, "keyVersions": [
                {"id": "11111111-1111-4111-8111-111111111111", "creationDate": "2026-01-01T00:00:00Z"},
            ]},
        }))
        .unwrap()
    }

    fn reconstructed(state: &str, more: &Value, spec: &Value) -> KeyRecord {
        record(&live(state, more, spec), "ns", PendingDeletionDays::EMBEDDED).unwrap()
    }

    #[test]
    fn the_states_are_those_of_status() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        for state in [KeyState::Enabled, KeyState::Disabled] {
            let record = reconstructed(state.as_str(), &json!({}), &json!({}));
            assert_eq!(record.state(now), state);
            assert_eq!((record.region.as_str(), record.account_id.as_str()), ("cn-hangzhou", "123456"));
            assert_eq!(record.alias.as_deref(), Some("alias/orders"));
        }
        let pending = reconstructed("PendingDeletion", &json!({"deleteDate": "2026-02-01T00:00:00Z"}), &json!({}));
        assert_eq!((pending.state(now), pending.deletion.unwrap().pending_days), (KeyState::PendingDeletion, 366));
        let rotating = reconstructed("Enabled", &json!({"rotationInterval": "31536000s"}), &json!({}));
        assert_eq!(rotating.rotation_interval_days, Some(365));
    }

    #[test]
    fn an_object_without_a_key_has_no_record() {
        assert!(record(&CustomerMasterKey::default(), "ns", PendingDeletionDays::EMBEDDED).is_none());
    }
}
