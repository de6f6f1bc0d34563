//! The record of a key: all that its store knows about it, as a value.
//!
//! The JSON form of [`KeyRecord`] is stored (design, section 4; `docs/formats.md`), so its fields can only be
//! added to. A record with a field, or a format number, that this version does not know was written by a newer
//! one; it is refused as a whole and never rewritten, because rewriting would lose what is not understood.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::key_state::{AutomaticRotation, KeyFacts, KeyState, KeyUsage, Origin};

/// The format number written into every record.
pub const RECORD_FORMAT: u32 = 1;

/// Seconds in a day of a deletion window; both clouds count in days of 24 hours.
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// What the aliases of keys begin with that the operator manages.
pub const SERVICE_ALIASES: &str = "alias/acs/";

/// All that the store knows about one key.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRecord {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// The key store, as `KIND/NAME`.
    pub store: String,
    /// The globally unique identifier of the key.
    pub key_id: Uuid,
    /// How often the record was changed since it was made.
    pub revision: u32,
    /// Which key of its owner's name this is: 0, then one more each time a key is abandoned (rule 5).
    pub generation: u32,
    /// The object that the key belongs to.
    pub owner: Owner,
    /// The region in the key's resource name.
    pub region: String,
    /// The account in the key's resource name, which is also the creator.
    pub account_id: String,
    /// When the key was created, to the second.
    pub creation_date: Timestamp,
    /// Where the material comes from.
    pub origin: Origin,
    /// What the key may be used for.
    pub key_usage: KeyUsage,
    /// The description.
    pub description: String,
    /// The alias, with its prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// False: disabled.
    pub enabled: bool,
    /// The deletion can't be scheduled, and imported material can't be deleted (rule 7).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_protection: bool,
    /// Days between automatic rotations. None: it does not rotate by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval_days: Option<i32>,
    /// The request for a rotation that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotation: Option<String>,
    /// What is known about imported material, also when it was deleted or has expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportedMaterial>,
    /// The deletion that is scheduled, or was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// When the material was erased. The record is then a tombstone, with no versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// Given up for a new key (rule 5). The owner's current key is in the next generation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandoned: bool,
    /// The object that the key was made for, once another one has adopted it (rule 11): it says where the record is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// The wrapped material of every version, the newest last.
    pub versions: Vec<RecordVersion>,
}

/// The object that a key was made for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Home {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Imported material, as far as it is known without having it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportedMaterial {
    /// The identifier of its version. Imported again, the material gets it again, so that old ciphertext decrypts.
    pub version_id: Uuid,
    /// When it was imported first, to the second.
    pub creation_date: Timestamp,
    /// Where it was read from.
    pub source: MaterialSource,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
    /// By what it is known again (rule 9).
    pub check: MaterialCheck,
}

/// Where imported material is declared to be.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaterialSource {
    /// The Secret in the owner's namespace.
    pub secret: String,
    /// The entry in it.
    pub key: String,
}

/// A MAC of material under a random key of its own, which is wrapped like a version: it tells the same material
/// from other material, and tells nothing to who has no root key.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaterialCheck {
    /// The identifier that the key was wrapped with, in place of a version's.
    pub id: Uuid,
    /// The root key under which that key is wrapped.
    pub root_key_id: Uuid,
    /// The wrapped key.
    #[serde(with = "base64_bytes")]
    pub wrapped_key: Vec<u8>,
    /// The MAC.
    #[serde(with = "base64_bytes")]
    pub value: Vec<u8>,
}

/// The object that a key belongs to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// The object's namespace.
    pub namespace: String,
    /// The UID of that namespace: another UID is another namespace of the same name (rule 5).
    pub namespace_uid: String,
    /// The object's name.
    pub name: String,
    /// The UID of the object that claimed the key last.
    pub uid: String,
    /// The version of that object on which the claim was decided: from there on its history tells whether the
    /// claim was ever finished (rule 1).
    pub resource_version: String,
    /// The object was deleted, and the key let go.
    pub released: bool,
}

/// A scheduled deletion.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deletion {
    /// The window that was asked for, in days.
    pub pending_days: i32,
    /// When the key may be erased: set when the deletion is scheduled, and never moved (rule 4).
    pub delete_date: Timestamp,
}

/// One version of the material, wrapped.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordVersion {
    /// The identifier of the version.
    pub id: Uuid,
    /// When the version was created, to the second.
    pub creation_date: Timestamp,
    /// The root key under which it is wrapped.
    pub root_key_id: Uuid,
    /// The wrapped material.
    #[serde(with = "base64_bytes")]
    pub wrapped: Vec<u8>,
    /// It was made by a rotation that somebody asked for, which is counted apart from those by interval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
}

impl RecordVersion {
    /// A version whose material is yet to be made.
    #[must_use]
    pub fn unmade(id: Uuid, now: Timestamp) -> Self {
        Self { id, creation_date: to_seconds(now), root_key_id: Uuid::nil(), wrapped: Vec::new(), on_demand: false }
    }

    /// Whether its material is yet to be made.
    #[must_use]
    pub fn is_unmade(&self) -> bool {
        self.wrapped.is_empty()
    }
}

/// Why bytes are not a record.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by a newer version of the operator.
    #[error(
        "the record has format {found}, and this version knows formats up to {RECORD_FORMAT}: upgrade the operator"
    )]
    UnknownFormat {
        /// The format number found.
        found: u32,
    },
    /// Not a record.
    #[error("the record is malformed: {0}")]
    Malformed(String),
}

impl KeyRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// [`DecodeError`], for a newer format or for anything that is not a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))?;
        if probe.format != RECORD_FORMAT {
            return Err(DecodeError::UnknownFormat { found: probe.format });
        }
        serde_json::from_slice(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// None for a record made by this program; the serializer's type has one.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The material was erased.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.erased_at.is_some()
    }

    /// The state that the record's facts give at `now`: imported material that has expired counts for none, also
    /// before it is erased.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> KeyState {
        KeyState::of(KeyFacts {
            enabled: self.enabled,
            deletion_scheduled: self.deletion.is_some(),
            has_material: !self.versions.is_empty() && !self.has_expired(now),
        })
    }

    /// When the imported material expires, if there is any and it does.
    #[must_use]
    pub fn material_expire_time(&self) -> Option<Timestamp> {
        let imported = self.imported.as_ref().filter(|_| !self.versions.is_empty())?;
        imported.expire_time
    }

    /// Whether there is imported material that has expired.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.material_expire_time().is_some_and(|time| time <= now)
    }

    /// Whether the operator manages the key (rule 7): its alias begins with `alias/acs/`.
    #[must_use]
    pub fn is_service_managed(&self) -> bool {
        self.alias.as_deref().is_some_and(|alias| alias.starts_with(SERVICE_ALIASES))
    }

    /// Whether the key rotates by itself.
    #[must_use]
    pub fn automatic_rotation(&self, now: Timestamp) -> AutomaticRotation {
        match (self.rotation_interval_days, self.state(now)) {
            (None, _) => AutomaticRotation::Disabled,
            (Some(_), KeyState::Enabled) => AutomaticRotation::Enabled,
            (Some(_), _) => AutomaticRotation::Suspended,
        }
    }

    /// When the key was rotated last. None: never.
    #[must_use]
    pub fn last_rotation(&self) -> Option<Timestamp> {
        self.versions.last().filter(|_| self.versions.len() > 1).map(|version| version.creation_date)
    }

    /// When the key rotates next: an interval after its newest version was made. In the past: at once. None: it does
    /// not, or not while it is in this state.
    #[must_use]
    pub fn next_rotation(&self, now: Timestamp) -> Option<Timestamp> {
        let days = self.rotation_interval_days.filter(|_| self.state(now) == KeyState::Enabled)?;
        add_days(self.primary_version()?.creation_date, days)
    }

    /// The version that encrypts: the newest. None for a tombstone.
    #[must_use]
    pub fn primary_version(&self) -> Option<&RecordVersion> {
        self.versions.last()
    }

    /// Whether the material may be erased at `now`.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        !self.is_tombstone() && self.deletion.as_ref().is_some_and(|d| d.delete_date <= now)
    }
}

/// The time so many days after another, to the second. None: it can't be written.
#[must_use]
pub fn add_days(time: Timestamp, days: i32) -> Option<Timestamp> {
    to_seconds(time).checked_add(SignedDuration::from_secs(i64::from(days) * SECONDS_PER_DAY)).ok()
}

/// Whole seconds: what Kubernetes times and both APIs hold, so that a time survives a round trip.
#[must_use]
pub fn to_seconds(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

/// Bytes as base64 in JSON, with padding.
pub(crate) mod base64_bytes {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        BASE64_STANDARD.decode(text).map_err(|_| D::Error::custom("not base64"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    pub fn record() -> KeyRecord {
        KeyRecord {
            format: RECORD_FORMAT,
            store: "ClusterKeyStore/default".into(),
            key_id: Uuid::from_u128(1),
            revision: 0,
            generation: 0,
            owner: Owner {
                namespace: "shop".into(),
                namespace_uid: "ns-uid".into(),
                name: "orders".into(),
                uid: "uid".into(),
                resource_version: "7".into(),
                released: false,
            },
            region: "cn-hangzhou".into(),
            account_id: "123456".into(),
            creation_date: at(1000),
            origin: Origin::AliyunKms,
            key_usage: KeyUsage::EncryptDecrypt,
            description: String::new(),
            alias: None,
            tags: BTreeMap::new(),
            enabled: true,
            deletion_protection: false,
            rotation_interval_days: None,
            last_handled_rotation: None,
            imported: None,
            deletion: None,
            erased_at: None,
            abandoned: false,
            home: None,
            versions: vec![RecordVersion {
                id: Uuid::from_u128(2),
                creation_date: at(1000),
                root_key_id: Uuid::from_u128(3),
                wrapped: vec![1, 2, 3],
                on_demand: false,
            }],
        }
    }

    /// The stored form can't change: this text is what version 0.1 wrote.
    #[test]
    fn stored_form_is_stable() {
        let stored = r#"{"format":1,"store":"ClusterKeyStore/default","keyId":"00000000-0000-0000-0000-000000000001","revision":0,"generation":0,"owner":{"namespace":"shop","namespaceUid":"ns-uid","name":"orders","uid":"uid","resourceVersion":"7","released":false},"region":"cn-hangzhou","accountId":"123456","creationDate":"1970-01-01T00:16:40Z","origin":"Aliyun_KMS","keyUsage":"ENCRYPT/DECRYPT","description":"","enabled":true,"versions":[{"id":"00000000-0000-0000-0000-000000000002","creationDate":"1970-01-01T00:16:40Z","rootKeyId":"00000000-0000-0000-0000-000000000003","wrapped":"AQID"}]}"#;
        assert_eq!(String::from_utf8(record().encode().unwrap()).unwrap(), stored);
        assert_eq!(KeyRecord::decode(stored.as_bytes()).unwrap(), record());
    }

    #[test]
    fn a_newer_record_is_refused() {
        let newer = String::from_utf8(record().encode().unwrap()).unwrap().replace("\"format\":1", "\"format\":2");
        assert_eq!(KeyRecord::decode(newer.as_bytes()), Err(DecodeError::UnknownFormat { found: 2 }));
        let extra =
            String::from_utf8(record().encode().unwrap()).unwrap().replace("\"format\":1", "\"format\":1,\"x\":0");
        assert!(
            matches!(KeyRecord::decode(extra.as_bytes()), Err(DecodeError::Malformed(m)) if m.contains("unknown field"))
        );
        assert!(matches!(KeyRecord::decode(b"{"), Err(DecodeError::Malformed(_))));
    }

    proptest::proptest! {
        /// Whatever bytes are stored, reading them ends in a record or an error; and a record that reads is one
        /// that writes back to the same record.
        #[test]
        fn any_bytes_are_a_record_or_an_error(
            position in 0..2000_usize,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..8),
        ) {
            let mut stored = record().encode().unwrap();
            let position = position % stored.len();
            let end = (position + bytes.len()).min(stored.len());
            stored.splice(position..end, bytes.clone());
            for input in [&stored[..], &stored[..position], &bytes[..]] {
                if let Ok(record) = KeyRecord::decode(input) {
                    let again = KeyRecord::decode(&record.encode().unwrap()).unwrap();
                    proptest::prop_assert_eq!(again, record);
                }
            }
        }
    }
}
