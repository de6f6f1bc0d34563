//! What time alone brings: deletions, expiries and rotations whose date comes without anybody writing anything.

use jiff::{SignedDuration, Timestamp};

use crate::{kms::KeyRecord, store::StoredKey};

/// Whose time has come: namespaces and names of the objects. Erasing is not among it, see [`super::purge`].
#[must_use]
pub fn due(keys: &[StoredKey], now: Timestamp) -> Vec<(String, String)> {
    let is_due = |record: &KeyRecord| {
        let dates = [record.material_expire_time(), record.next_rotation(now)];
        !record.owner.released && dates.into_iter().flatten().any(|date| date <= now)
    };
    let owner = |record: &KeyRecord| (record.owner.namespace.clone(), record.owner.name.clone());
    keys.iter().filter(|key| is_due(&key.record)).map(|key| owner(&key.record)).collect()
}

/// How long until the next date, after `now`. What is overdue already does not count: it waits for something else.
#[must_use]
pub fn next(keys: &[StoredKey], now: Timestamp) -> Option<SignedDuration> {
    let living = keys.iter().map(|key| &key.record).filter(|record| !record.is_tombstone());
    let dates = living.flat_map(|record| {
        let deletion = record.deletion.as_ref().map(|deletion| deletion.delete_date);
        [deletion, record.material_expire_time(), record.next_rotation(now)]
    });
    dates.flatten().map(|date| date.duration_since(now)).filter(|wait| wait.is_positive()).min()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        kms::{
            KeyStep,
            key_record::tests::{at, record},
        },
        store::Revision,
    };

    const DAY: i64 = 86_400;

    fn key(steps: &[KeyStep]) -> StoredKey {
        let record = record().apply_all(steps, at(1000)).unwrap();
        StoredKey { record: Arc::new(record), revision: Revision { uid: "r".into(), version: "1".into() } }
    }

    #[test]
    fn rule_8_a_rotation_is_due_an_interval_after_the_newest_version() {
        let rotating = key(&[KeyStep::SetRotationInterval(Some(7))]);
        let disabled = key(&[KeyStep::SetRotationInterval(Some(7)), KeyStep::Disable]);
        let released = key(&[KeyStep::SetRotationInterval(Some(7)), KeyStep::Release]);
        let keys = [rotating, disabled, released];
        assert_eq!(due(&keys, at(1000 + 7 * DAY - 1)), []);
        assert_eq!(next(&keys, at(1000 + 7 * DAY - 1)), Some(SignedDuration::from_secs(1)));
        assert_eq!(due(&keys, at(1000 + 7 * DAY)), [("shop".to_owned(), "orders".to_owned())], "the first one");
        assert_eq!(next(&keys, at(1000 + 7 * DAY)), None);
    }

    #[test]
    fn rule_4_the_next_deletion_counts_and_a_tombstone_does_not() {
        let pending = key(&[KeyStep::ScheduleDeletion { days: 7 }]);
        let erased = pending.record.apply_all(&[KeyStep::Erase], at(1000 + 7 * DAY)).unwrap();
        let tombstone = StoredKey { record: Arc::new(erased), ..pending.clone() };
        assert_eq!(next(&[tombstone, pending.clone()], at(1000)), Some(SignedDuration::from_secs(7 * DAY)));
        assert_eq!(due(&[pending], at(1000 + 8 * DAY)), [], "purge is told by nobody");
    }
}
