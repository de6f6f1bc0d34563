use cmk_operator::kms::KeyRecord;
use jiff::Timestamp;

/// What is known about one key, as JSON.
pub fn run(data: &[u8]) {
    let Ok(record) = KeyRecord::decode(data) else { return };
    let written = record.encode().expect("a record can be written");
    let again = KeyRecord::decode(&written).expect("what was written is well-formed");
    assert!(again.encode().expect("a record can be written") == written);
    for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let _ = (record.state(now), record.has_expired(now), record.automatic_rotation(now), record.is_due(now));
        let _ = record.next_rotation(now);
    }
    let _ = (record.is_tombstone(), record.is_service_managed(), record.primary_version());
}
