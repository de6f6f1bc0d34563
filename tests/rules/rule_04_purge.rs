//! Rule 4: the delete date is set once; when it has passed on two clocks the material is erased, a few keys an
//! hour, and a tombstone stays.

use cmk_operator::api::conditions::{PURGE_HELD, STALLED, reason};
use jiff::SignedDuration;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{SOON, World, key_id, record_json},
};

fn delete_date(record: &Value) -> String {
    record["deletion"]["deleteDate"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn rule_4_the_date_does_not_move_and_a_changed_window_counts_from_now() {
    let (world, operator) = World::with_operator("r4-date").await;
    world.apply_key("orders", json!({"scheduleDeletion": true, "pendingDeletionDays": 30})).await;
    let status = world.key_ready("orders").await.status.unwrap().key_metadata.unwrap();
    let first = delete_date(&world.only_record().await);
    assert_eq!(status.delete_date.unwrap().0.to_string(), first);

    world.clock.advance_days(1);
    world
        .apply_key("orders", json!({"scheduleDeletion": true, "pendingDeletionDays": 30, "deletionPolicy": "Retain"}))
        .await;
    world.key_ready("orders").await;
    assert_eq!(delete_date(&world.only_record().await), first, "a later pass does not move it");

    world.apply_key("orders", json!({"scheduleDeletion": true, "pendingDeletionDays": 7})).await;
    world.key_ready("orders").await;
    let moved: jiff::Timestamp = delete_date(&world.only_record().await).parse().unwrap();
    let first: jiff::Timestamp = first.parse().unwrap();
    let hours = first.duration_since(moved).as_hours();
    assert!(
        (22 * 24 - 1..=22 * 24).contains(&hours),
        "{hours}: {}",
        "7 days from the second day, instead of 30 from the first"
    );
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_4_a_key_is_erased_when_its_date_has_passed_and_not_before() {
    let (world, operator) = World::with_operator("r4-erase").await;
    world.apply_key("orders", json!({"scheduleDeletion": true, "pendingDeletionDays": 7})).await;
    let id = key_id(&world.key_ready("orders").await);
    let before = world.records().await.remove(0);

    world.clock.advance(SignedDuration::from_hours(7 * 24 - 1));
    // A definite later event: this key is made after the clock was looked at.
    world.apply_key("other", json!({})).await;
    world.key_ready("other").await;
    assert!(world.records().await.iter().all(|r| record_json(r)["erasedAt"].is_null()), "not a moment too early");

    world.clock.advance(SignedDuration::from_hours(2));
    let stalled = world.key_says("orders", STALLED, "True", reason::KEY_DELETED).await;
    assert_eq!(key_id(&stalled), id);
    let records = world.records().await;
    let tombstone = records.iter().map(record_json).find(|r| r["keyId"] == id).unwrap();
    assert_eq!(tombstone["versions"], json!([]), "no material is left");
    assert!(tombstone["erasedAt"].is_string());
    assert!(operator.metrics.render().contains("cmk_keys_erased_total 1"));

    // An old backup does not come back beside the tombstone: the name is taken.
    let mut backup = before.clone();
    backup.metadata.resource_version = None;
    backup.metadata.uid = None;
    let refused = world.operator_secrets().create(&PostParams::default(), &backup).await.unwrap_err();
    assert!(refused.to_string().contains("already exists"), "{refused}");

    // And the object never makes another key by itself, nor does cancelling help.
    world.apply_key("orders", json!({})).await;
    world.key_says("orders", STALLED, "True", reason::KEY_DELETED).await;
    assert_eq!(world.records().await.len(), 2);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_4_nothing_is_erased_while_the_clocks_disagree() {
    let (world, operator) = World::with_operator("r4-skew").await;
    world.apply_key("orders", json!({"scheduleDeletion": true, "pendingDeletionDays": 7})).await;
    world.key_ready("orders").await;
    // A key whose object is gone has no condition.
    world.apply_key("gone", json!({"pendingDeletionDays": 7})).await;
    world.key_ready("gone").await;
    world.delete_key("gone").await;
    world.clock.skew(SignedDuration::from_mins(-6));
    world.clock.advance_days(8);
    world.key_says("orders", PURGE_HELD, "True", reason::CLOCK_SKEW).await;
    eventually("both keys to wait", SOON, async || {
        let text = operator.metrics.render();
        let waiting: Vec<_> = text.lines().filter(|line| line.starts_with("cmk_purge_waiting")).collect();
        if waiting.contains(&"cmk_purge_waiting{reason=\"ClockSkew\"} 2") {
            Ok(())
        } else {
            Err(format!("{waiting:?}"))
        }
    })
    .await;
    for record in world.records().await {
        assert!(record_json(&record)["erasedAt"].is_null());
    }

    world.clock.skew(SignedDuration::from_mins(-4));
    world.key_says("orders", STALLED, "True", reason::KEY_DELETED).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_4_at_most_ten_keys_an_hour_are_erased() {
    let (world, operator) = World::with_operator("r4-limit").await;
    let names: Vec<_> = (0..12).map(|i| format!("key-{i}")).collect();
    for name in &names {
        world.apply_key(name, json!({"scheduleDeletion": true, "pendingDeletionDays": 7})).await;
    }
    for name in &names {
        world.key_ready(name).await;
    }
    let erased = async || {
        let records = world.records().await;
        records.iter().filter(|r| !record_json(r)["erasedAt"].is_null()).count()
    };
    world.clock.advance_days(8);
    eventually("two keys to be held", SOON, async || {
        let keys = world.keys().list(&Default::default()).await.map_err(|e| e.to_string())?;
        let held = keys.iter().filter(|k| {
            let conditions = &k.status.as_ref().unwrap().conditions;
            conditions.iter().any(|c| c.type_ == PURGE_HELD && c.reason == reason::PURGE_RATE_LIMITED)
        });
        let held = held.count();
        if held == 2 { Ok(()) } else { Err(format!("{held} are")) }
    })
    .await;
    assert_eq!(erased().await, 10);
    assert!(operator.metrics.render().contains("cmk_purge_waiting{reason=\"PurgeRateLimited\"} 2"));
    // A restart does not reset the limit: it is counted from the tombstones.
    operator.stop().await.unwrap();
    let operator = world.start().await;
    world.apply_key("after", json!({})).await;
    world.key_ready("after").await;
    assert_eq!(erased().await, 10);

    world.clock.advance(SignedDuration::from_mins(61));
    eventually("the rest to be erased", SOON, async || {
        let count = erased().await;
        if count == 12 { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
    operator.stop().await.unwrap();
}
