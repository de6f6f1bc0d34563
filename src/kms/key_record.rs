//! The record of a key: all that its store knows about it, as a value, and the steps that change it.
//!
//! The JSON form of [`KeyRecord`] is stored (design, section 4; `docs/formats.md`), so its fields can only be
//! added to. A record with a field, or a format number, that this version does not know was written by a newer
//! one; it is refused as a whole and never rewritten, because rewriting would lose what is not understood.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::key_state::{Dialect, KeyFacts, KeyState, KeyUsage, Operation, Origin, Rejected};

/// The format number written into every record.
pub const RECORD_FORMAT: u32 = 1;

/// Seconds in a day of a deletion window; both clouds count in days of 24 hours.
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

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
    /// The tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// False: disabled.
    pub enabled: bool,
    /// The deletion that is scheduled, or was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// When the material was erased. The record is then a tombstone, with no versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// Given up for a new key (rule 5). The owner's current key is in the next generation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandoned: bool,
    /// The wrapped material of every version, the newest last.
    pub versions: Vec<RecordVersion>,
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

/// One change to a key. A plan is a list of them, which a store applies in one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// The object with this UID, in the namespace with this UID, takes the key over.
    Claim {
        /// UID of the namespace.
        namespace_uid: String,
        /// UID of the object.
        uid: String,
        /// The object's version.
        resource_version: String,
    },
    /// The object is gone; the key stays in whatever state it is in.
    Release,
    /// The key is given up for a new one.
    Abandon,
    /// UpdateKeyDescription.
    SetDescription(String),
    /// TagResource and UntagResource: these are all the tags.
    SetTags(BTreeMap<String, String>),
    /// EnableKey.
    Enable,
    /// DisableKey.
    Disable,
    /// ScheduleKeyDeletion, this many days from now.
    ScheduleDeletion {
        /// The window in days.
        days: i32,
    },
    /// CancelKeyDeletion. The key is Enabled afterwards.
    CancelDeletion,
    /// Erase the material, now that the delete date has passed.
    Erase,
}

/// Why a step is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StepError {
    /// The key's state does not allow it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The delete date is not set, or has not passed.
    #[error("the key is not due for deletion")]
    NotDue,
    /// The material was erased: nothing brings the key back.
    #[error("the key was deleted and its material erased")]
    Erased,
    /// The window leads to a date that can't be written.
    #[error("a window of {0} days gives no valid date")]
    InvalidWindow(i32),
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

    /// The state that the record's facts give.
    #[must_use]
    pub fn state(&self) -> KeyState {
        KeyState::of(KeyFacts {
            enabled: self.enabled,
            deletion_scheduled: self.deletion.is_some(),
            has_material: !self.versions.is_empty(),
        })
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

    /// Applies one step.
    ///
    /// # Errors
    /// [`StepError`] when the state machine refuses it; the record is unchanged then.
    pub fn apply(&mut self, step: &KeyStep, now: Timestamp) -> Result<(), StepError> {
        if self.is_tombstone() && !matches!(step, KeyStep::Release | KeyStep::Abandon) {
            return Err(StepError::Erased);
        }
        let allowed = |operation: Operation| operation.check(self.state(), Dialect::Alibaba);
        match step {
            KeyStep::Claim { namespace_uid, uid, resource_version } => {
                self.owner.namespace_uid.clone_from(namespace_uid);
                self.owner.uid.clone_from(uid);
                self.owner.resource_version.clone_from(resource_version);
                self.owner.released = false;
            }
            KeyStep::Release => self.owner.released = true,
            KeyStep::Abandon => {
                self.owner.released = true;
                self.abandoned = true;
            }
            KeyStep::SetDescription(description) => {
                allowed(Operation::UpdateKeyDescription)?;
                self.description.clone_from(description);
            }
            KeyStep::SetTags(tags) => {
                allowed(Operation::TagResource)?;
                self.tags.clone_from(tags);
            }
            KeyStep::Enable => {
                allowed(Operation::EnableKey)?;
                self.enabled = true;
            }
            KeyStep::Disable => {
                allowed(Operation::DisableKey)?;
                self.enabled = false;
            }
            KeyStep::ScheduleDeletion { days } => {
                allowed(Operation::ScheduleKeyDeletion)?;
                let delete_date = add_days(now, *days)?;
                self.deletion = Some(Deletion { pending_days: *days, delete_date });
            }
            KeyStep::CancelDeletion => {
                allowed(Operation::CancelKeyDeletion)?;
                self.deletion = None;
                self.enabled = true;
            }
            KeyStep::Erase => {
                if !self.is_due(now) {
                    return Err(StepError::NotDue);
                }
                self.versions.clear();
                self.erased_at = Some(to_seconds(now));
            }
        }
        Ok(())
    }

    /// The record after all steps.
    ///
    /// # Errors
    /// The first refusal.
    pub fn apply_all(&self, steps: &[KeyStep], now: Timestamp) -> Result<Self, StepError> {
        let mut changed = self.clone();
        steps.iter().try_for_each(|step| changed.apply(step, now))?;
        if !steps.is_empty() {
            changed.revision = changed.revision.saturating_add(1);
        }
        Ok(changed)
    }
}

/// Whole seconds: what Kubernetes times and both APIs hold, so that a time survives a round trip.
#[must_use]
pub fn to_seconds(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

fn add_days(now: Timestamp, days: i32) -> Result<Timestamp, StepError> {
    to_seconds(now)
        .checked_add(SignedDuration::from_secs(i64::from(days) * SECONDS_PER_DAY))
        .map_err(|_| StepError::InvalidWindow(days))
}

mod base64_bytes {
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
            tags: BTreeMap::new(),
            enabled: true,
            deletion: None,
            erased_at: None,
            abandoned: false,
            versions: vec![RecordVersion {
                id: Uuid::from_u128(2),
                creation_date: at(1000),
                root_key_id: Uuid::from_u128(3),
                wrapped: vec![1, 2, 3],
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

    #[test]
    fn rule_4_delete_date_is_set_once_and_erasing_waits_for_it() {
        let scheduled = record().apply_all(&[KeyStep::ScheduleDeletion { days: 7 }], at(1000)).unwrap();
        let date = at(1000 + 7 * 86_400);
        assert_eq!(scheduled.deletion, Some(Deletion { pending_days: 7, delete_date: date }));
        assert_eq!(scheduled.state(), KeyState::PendingDeletion);

        let again = scheduled.apply_all(&[KeyStep::ScheduleDeletion { days: 8 }], at(2000));
        assert_eq!(again, Err(StepError::Rejected(Rejected::StateModifiedFailed)), "it can't be moved silently");

        let early = scheduled.apply_all(&[KeyStep::Erase], at(1000 + 7 * 86_400 - 1));
        assert_eq!(early, Err(StepError::NotDue));
        assert_eq!(record().apply_all(&[KeyStep::Erase], at(i64::from(i32::MAX))), Err(StepError::NotDue));

        let tombstone = scheduled.apply_all(&[KeyStep::Erase], date).unwrap();
        assert!(tombstone.is_tombstone() && tombstone.versions.is_empty());
        assert_eq!(tombstone.key_id, record().key_id);
        for step in [KeyStep::CancelDeletion, KeyStep::Enable, KeyStep::Erase, KeyStep::SetDescription("x".into())] {
            assert_eq!(tombstone.apply_all(&[step], date), Err(StepError::Erased));
        }
        assert!(tombstone.apply_all(&[KeyStep::Abandon], date).unwrap().abandoned);
    }

    #[test]
    fn a_refused_step_changes_nothing() {
        let steps = [KeyStep::Disable, KeyStep::CancelDeletion];
        assert_eq!(record().apply_all(&steps, at(0)), Err(StepError::Rejected(Rejected::StateModifiedFailed)));
    }

    #[test]
    fn cancelling_enables() {
        let steps = [KeyStep::Disable, KeyStep::ScheduleDeletion { days: 7 }, KeyStep::CancelDeletion];
        assert_eq!(record().apply_all(&steps, at(0)).unwrap().state(), KeyState::Enabled);
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
