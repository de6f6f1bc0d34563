//! The record of a key that is about to be made.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::NewKey;
use crate::kms::{
    KeyRecord, Origin, StepError,
    key_record::{RECORD_FORMAT, RecordVersion, to_seconds},
};

impl NewKey {
    /// The record of the new key, but for its wrapped material. A request for a rotation that is there from the
    /// beginning is answered by it.
    ///
    /// # Errors
    /// What is declared and the state machine refuses.
    pub fn draft(&self, now: Timestamp) -> Result<KeyRecord, StepError> {
        let blank = KeyRecord {
            format: RECORD_FORMAT,
            store: self.store.clone(),
            key_id: self.key_id,
            revision: 0,
            generation: self.generation,
            owner: self.owner.clone(),
            region: self.region.clone(),
            account_id: self.account_id.clone(),
            creation_date: to_seconds(now),
            origin: self.origin,
            key_usage: self.key_usage,
            description: String::new(),
            alias: None,
            tags: BTreeMap::new(),
            enabled: true,
            deletion_protection: false,
            rotation_interval_days: None,
            last_handled_rotation: self.desired.rotation_request.clone(),
            imported: None,
            deletion: None,
            erased_at: None,
            abandoned: false,
            home: None,
            versions: match self.origin {
                Origin::External => Vec::new(),
                Origin::AliyunKms | Origin::AwsKms => vec![RecordVersion::unmade(self.version_id, now)],
            },
        };
        let steps = self.desired.course_from(&blank, self.version_id, now).steps;
        let declared = blank.apply_all(&steps, now)?;
        Ok(KeyRecord { revision: 0, ..declared })
    }
}
