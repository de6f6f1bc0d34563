//! The record of an access key, as a value (stored form: `docs/formats.md`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::kms::key_record::base64_bytes;

/// The number of the stored form.
const FORMAT: u32 = 1;

/// The `AccessKey` that an access key is for. Its UID counts: one that is made anew gets another access key.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct AccessKeyOwner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The ServiceAccount, in the namespace of the `AccessKey`, whose identity an access key is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountIdentity {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// An access key whose secret is sealed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedAccessKey {
    /// Its public half.
    pub access_key_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The root key that seals it.
    pub root_key_id: Uuid,
    /// Its secret half.
    #[serde(with = "base64_bytes")]
    pub sealed: Vec<u8>,
}

/// An access key that was replaced, and still works for a while.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FormerAccessKey {
    /// The access key.
    pub key: SealedAccessKey,
    /// From when on it does not work any more.
    pub expires: Timestamp,
}

/// All that is known about the access key of one `AccessKey`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessKeyRecord {
    format: u32,
    /// The `AccessKey`.
    pub owner: AccessKeyOwner,
    /// The ServiceAccount.
    pub service_account: ServiceAccountIdentity,
    /// The access key that is delivered.
    pub current: SealedAccessKey,
    /// The one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<FormerAccessKey>,
    /// The request for a rotation that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotation: Option<String>,
}

/// Why a record can't be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// A newer version wrote it.
    #[error("it has format {0}, and this version knows format {FORMAT} only")]
    UnknownFormat(u32),
    /// It is no record.
    #[error("it is no record of an access key: {0}")]
    Malformed(String),
}

impl AccessKeyRecord {
    /// The record of a first access key, or of one that replaces all before. A request for a rotation is answered by it.
    #[must_use]
    pub fn new(
        owner: AccessKeyOwner,
        service_account: ServiceAccountIdentity,
        current: SealedAccessKey,
        request: Option<String>,
    ) -> Self {
        Self { format: FORMAT, owner, service_account, current, previous: None, last_handled_rotation: request }
    }

    /// The record after a rotation: the access key before works until `expires`, and the one before that no more.
    #[must_use]
    pub fn rotated(&self, current: SealedAccessKey, expires: Timestamp, request: Option<String>) -> Self {
        let previous = FormerAccessKey { key: self.current.clone(), expires };
        let last_handled_rotation = request.or_else(|| self.last_handled_rotation.clone());
        Self { current, previous: Some(previous), last_handled_rotation, ..self.clone() }
    }

    /// The record without the access key before.
    #[must_use]
    pub fn without_previous(&self) -> Self {
        Self { previous: None, ..self.clone() }
    }

    /// Its access keys, the current one first.
    pub fn keys(&self) -> impl Iterator<Item = &SealedAccessKey> {
        std::iter::once(&self.current).chain(self.previous.iter().map(|former| &former.key))
    }

    /// The same, to be sealed again.
    pub fn keys_mut(&mut self) -> impl Iterator<Item = &mut SealedAccessKey> {
        std::iter::once(&mut self.current).chain(self.previous.iter_mut().map(|former| &mut former.key))
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// None for a record made by this program; the serializer's type has one.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads a record. One with a field that is not known was written by a newer version, and is refused.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(|e| RecordError::Malformed(e.to_string()))?;
        if probe.format != FORMAT {
            return Err(RecordError::UnknownFormat(probe.format));
        }
        serde_json::from_slice(bytes).map_err(|e| RecordError::Malformed(e.to_string()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(crate) fn key(id: &str, created_at: i64) -> SealedAccessKey {
        SealedAccessKey {
            access_key_id: id.into(),
            created_at: at(created_at),
            root_key_id: Uuid::from_u128(1),
            sealed: vec![7; 80],
        }
    }

    pub(crate) fn record() -> AccessKeyRecord {
        AccessKeyRecord::new(
            AccessKeyOwner { namespace: "shop".into(), name: "orders".into(), uid: "ak-uid".into() },
            ServiceAccountIdentity { name: "orders-api".into(), uid: "sa-uid".into() },
            key("CMKA1", 1000),
            None,
        )
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let rotated = record().rotated(key("CMKA2", 2000), at(3000), Some("now".into()));
        for record in [record(), rotated.clone(), rotated.without_previous()] {
            assert_eq!(AccessKeyRecord::decode(&record.encode().unwrap()).unwrap(), record);
        }
        let text = String::from_utf8(rotated.encode().unwrap()).unwrap();
        assert!(
            text.starts_with(r#"{"format":1,"owner":{"namespace":"shop","name":"orders","uid":"ak-uid"}"#),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let text = String::from_utf8(record().encode().unwrap()).unwrap();
        let decoded = |text: String| AccessKeyRecord::decode(text.as_bytes());
        assert_eq!(decoded(text.replacen("\"format\":1", "\"format\":2", 1)), Err(RecordError::UnknownFormat(2)));
        let more = decoded(text.replacen("\"format\":1", "\"format\":1,\"scope\":\"x\"", 1));
        assert!(matches!(more, Err(RecordError::Malformed(_))));
        assert!(matches!(decoded(String::new()), Err(RecordError::Malformed(_))));
    }

    #[test]
    fn a_rotation_keeps_the_one_before_and_answers_the_request() {
        let once = record().rotated(key("CMKA2", 2000), at(3000), Some("first".into()));
        assert_eq!(once.keys().map(|key| &*key.access_key_id).collect::<Vec<_>>(), ["CMKA2", "CMKA1"]);
        let twice = once.rotated(key("CMKA3", 2500), at(3500), None);
        assert_eq!(twice.keys().map(|key| &*key.access_key_id).collect::<Vec<_>>(), ["CMKA3", "CMKA2"]);
        assert_eq!(twice.previous.as_ref().map(|former| former.expires), Some(at(3500)));
        assert_eq!(twice.last_handled_rotation.as_deref(), Some("first"), "not asked again");
    }
}
