//! Rule 13: what the state of a master key means for its data keys.

use cmk_operator::api::conditions::{READY, RECONCILING, STALLED, reason};
use serde_json::json;

use crate::{
    helpers::{blob, condition, conditions_of, later_event},
    rule_12_rotation::{history, rotated},
    support::world::{World, entry},
};

#[tokio::test]
async fn rule_13_a_key_that_is_not_enabled_generates_nothing() {
    let (world, operator) = World::with_operator("r13-states").await;
    world.apply_key("fine", json!({})).await;
    world.key_ready("fine").await;
    for (key, stopped, expected, remedy) in [
        ("disabled", json!({"enabled": false}), reason::KEY_DISABLED, "enable it"),
        ("pending", json!({"scheduleDeletion": true}), reason::KEY_PENDING_DELETION, "cancel its deletion"),
    ] {
        let (before, during) = (format!("{key}-before"), format!("{key}-during"));
        let spec = json!({"keyRef": {"name": key}});
        world.apply_key(key, json!({})).await;
        world.apply_data_key(&before, spec.clone()).await;
        let delivered = world.data_key_ready(&before).await;
        let secret = world.secrets().get(&before).await.unwrap();

        world.apply_key(key, stopped).await;
        world.key_ready(key).await;
        world.apply_data_key(&during, spec).await;
        let waiting = world.data_key_says(&during, READY, "False", expected).await;
        let ready = condition(conditions_of(&waiting), READY);
        let names = format!("CustomerMasterKey {}/{key}", world.namespace);
        assert!(ready.message.contains(&names) && ready.message.contains(remedy), "{}", ready.message);
        assert_eq!(condition(conditions_of(&waiting), RECONCILING).status, "True");
        assert_eq!(condition(conditions_of(&waiting), STALLED).status, "False", "it goes on by itself");
        assert!(world.event(&during, expected).await.contains(remedy));

        // Delivered before: not Ready either, with the same reason; its Secret stays.
        let not_ready = world.data_key_says(&before, READY, "False", expected).await;
        let message = &condition(conditions_of(&not_ready), READY).message;
        assert!(message.contains(&format!("Secret {before} stays as delivered")), "{message}");
        assert_eq!(not_ready.status.as_ref().unwrap().secret_ref, delivered.status.as_ref().unwrap().secret_ref);
        later_event(&world, "fine").await;
        assert!(world.secrets().get_opt(&during).await.unwrap().is_none(), "nothing is delivered");
        assert!(world.data_keys().get(&during).await.unwrap().status.unwrap().ciphertext_blob.is_none());
        let kept = world.secrets().get(&before).await.unwrap();
        assert!(kept.metadata == secret.metadata && kept.data == secret.data, "the Secret stays as it is");

        // And by itself, when the key is enabled again.
        world.apply_key(key, json!({"enabled": true})).await;
        assert_eq!(blob(&world.data_key_ready(&before).await), blob(&delivered));
        world.data_key_ready(&during).await;
        assert_eq!(entry(&world.secrets().get(&during).await.unwrap(), "plaintext").len(), 32);
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_13_a_key_made_disabled_generates_nothing() {
    let (world, operator) = World::with_operator("r13-born").await;
    world.apply_key("orders", json!({"enabled": false})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_says("dek", READY, "False", reason::KEY_DISABLED).await;
    assert!(world.secrets().get_opt("dek").await.unwrap().is_none());
    world.apply_key("orders", json!({"enabled": true})).await;
    world.data_key_ready("dek").await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_13_a_key_that_does_not_exist_is_waited_for() {
    let (world, operator) = World::with_operator("r13-missing").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let waiting = world.data_key_says("dek", READY, "False", reason::KEY_NOT_FOUND).await;
    let message = &condition(conditions_of(&waiting), READY).message;
    assert!(message.contains(&format!("{}/orders", world.namespace)), "{message}");
    assert_eq!(condition(conditions_of(&waiting), RECONCILING).status, "True");
    world.event("dek", reason::KEY_NOT_FOUND).await;

    world.apply_key("orders", json!({})).await;
    let ready = world.data_key_ready("dek").await;
    assert_eq!(condition(conditions_of(&ready), RECONCILING).status, "False");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_13_the_secret_of_a_disabled_key_is_not_restored_until_it_is_enabled() {
    let (world, operator) = World::with_operator("r13-restore").await;
    for key in ["orders", "fine"] {
        world.apply_key(key, json!({})).await;
    }
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    let data = world.secrets().get("dek").await.unwrap().data;
    world.apply_key("orders", json!({"enabled": false})).await;
    world.data_key_says("dek", READY, "False", reason::KEY_DISABLED).await;
    world.secrets().delete("dek", &Default::default()).await.unwrap();
    later_event(&world, "fine").await;
    assert!(world.secrets().get_opt("dek").await.unwrap().is_none());

    world.apply_key("orders", json!({"enabled": true})).await;
    world.data_key_ready("dek").await;
    assert!(world.secrets().get("dek").await.unwrap().data == data, "the same bytes");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_13_a_disabled_key_rotates_no_data_key_until_it_is_enabled() {
    let (world, operator) = World::with_operator("r13-rotate").await;
    for key in ["orders", "fine"] {
        world.apply_key(key, json!({})).await;
    }
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}, "rotationIntervalDays": 30})).await;
    let before = world.data_key_ready("dek").await;
    world.apply_key("orders", json!({"enabled": false})).await;
    world.data_key_says("dek", READY, "False", reason::KEY_DISABLED).await;

    world.clock.advance_days(31);
    later_event(&world, "fine").await;
    let overdue = world.data_key_says("dek", READY, "False", reason::KEY_DISABLED).await;
    assert_eq!((blob(&overdue), history(&overdue).len()), (blob(&before), 0));
    assert_eq!(overdue.status.unwrap().next_rotation, before.status.as_ref().unwrap().next_rotation);
    world.apply_key("orders", json!({"enabled": true})).await;
    assert_eq!(history(&rotated(&world, "dek", 1).await), [blob(&before)], "at once");
    operator.stop().await.unwrap();
}
