//! Rule 2: the reconciler acts on what it observes in the store, not on what it remembers.

use cmk_operator::{
    api::conditions::reason,
    kms::KeyStep,
    store::{Freshness, KeyStore},
};
use serde_json::json;

use crate::support::{
    eventually,
    world::{SOON, World},
};

#[tokio::test]
async fn rule_2_a_key_changed_behind_its_back_is_brought_back() {
    let (world, operator) = World::with_operator("r2-drift").await;
    world.apply_key("orders", json!({"description": "declared"})).await;
    let before = world.key_ready("orders").await;

    // Somebody with the root key and the right to write records, so an operator: a second one, misled.
    let store = world.store().await;
    let slot = world.slot("orders");
    let key = store.find(&slot, Freshness::Live).await.unwrap().current.unwrap();
    let steps = [KeyStep::SetDescription("drifted".into()), KeyStep::Disable];
    store.update(&key, &steps).await.unwrap();

    eventually("the key to be brought back", SOON, async || {
        let record = world.only_record().await;
        let back = record["description"] == "declared" && record["enabled"] == true;
        if back { Ok(()) } else { Err(record.to_string()) }
    })
    .await;
    let event = world.event("orders", reason::DRIFT_CORRECTED).await;
    assert!(event.contains("UpdateKeyDescription") && event.contains("EnableKey"), "{event}");
    let after = world.key_ready("orders").await;
    assert_eq!(after.status.unwrap().key_metadata, before.status.unwrap().key_metadata);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_2_a_declared_change_is_no_drift() {
    let (world, operator) = World::with_operator("r2-declared").await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    world.apply_key("orders", json!({"enabled": false})).await;
    world.key_ready("orders").await;
    world.event("orders", reason::KEY_DISABLED).await;
    let events = crate::support::world::succeed(&mut world.kubectl(&["get", "events", "-o", "wide"]));
    assert!(!events.contains(reason::DRIFT_CORRECTED), "{events}");
    operator.stop().await.unwrap();
}
