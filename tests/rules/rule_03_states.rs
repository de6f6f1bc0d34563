//! Rule 3: keyState follows from what is declared; Ready says that the key is as declared.

use cmk_operator::api::conditions::{STALLED, reason};
use serde_json::json;

use crate::support::world::{World, key_state};

#[tokio::test]
async fn rule_3_every_declared_state_is_ready() {
    let (world, operator) = World::with_operator("r3-states").await;
    let rows = [
        ("enabled", json!({}), "Enabled"),
        ("enabled-said", json!({"enabled": true, "scheduleDeletion": false}), "Enabled"),
        ("disabled", json!({"enabled": false}), "Disabled"),
        ("pending", json!({"scheduleDeletion": true}), "PendingDeletion"),
        ("pending-disabled", json!({"scheduleDeletion": true, "enabled": false}), "PendingDeletion"),
        ("aws", json!({"origin": "AWS_KMS"}), "Enabled"),
    ];
    for (name, spec, _) in &rows {
        world.apply_key(name, spec.clone()).await;
    }
    for (name, _, state) in &rows {
        let key = world.key_ready(name).await;
        assert_eq!(key_state(&key), *state, "{name}");
        let has_date = key.status.unwrap().key_metadata.unwrap().delete_date.is_some();
        assert_eq!(has_date, *state == "PendingDeletion", "{name}: deleteDate only while PendingDeletion");
    }
    let aws = world.key_ready("aws").await.status.unwrap().key_metadata.unwrap();
    assert_eq!(aws.arn, format!("arn:aws:kms:cn-hangzhou:000000123456:key/{}", aws.key_id));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_3_states_follow_declarations_in_any_order() {
    let (world, operator) = World::with_operator("r3-sequence").await;
    let declarations = [
        (json!({}), "Enabled"),
        (json!({"enabled": false}), "Disabled"),
        (json!({"enabled": false, "scheduleDeletion": true}), "PendingDeletion"),
        (json!({"enabled": false}), "Disabled"),
        (json!({"scheduleDeletion": true}), "PendingDeletion"),
        (json!({"description": "back", "tags": {"a": "b"}}), "Enabled"),
    ];
    for (spec, state) in declarations {
        world.apply_key("orders", spec.clone()).await;
        assert_eq!(key_state(&world.key_ready("orders").await), state, "{spec}");
    }
    let record = world.only_record().await;
    assert_eq!((&record["description"], &record["tags"]), (&json!("back"), &json!({"a": "b"})));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_3_a_refused_change_is_not_ready() {
    let (world, operator) = World::with_operator("r3-refused").await;
    world.apply_key("orders", json!({"scheduleDeletion": true})).await;
    world.key_ready("orders").await;
    world.apply_key("orders", json!({"scheduleDeletion": true, "description": "too late"})).await;
    let stalled = world.key_says("orders", STALLED, "True", reason::REJECTED_PENDING_DELETION).await;
    assert_eq!(key_state(&stalled), "PendingDeletion");
    assert_eq!(world.only_record().await["description"], "");
    world.apply_key("orders", json!({"description": "too late"})).await;
    world.key_ready("orders").await;
    assert_eq!(world.only_record().await["description"], "too late");
    operator.stop().await.unwrap();
}
