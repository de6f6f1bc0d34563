//! Rule 15: another namespace's key is usable only where its allowedNamespaces says so, checked continuously.

use cmk_operator::{
    api::{
        DataKey,
        conditions::{READY, STALLED, reason},
    },
    runtime::operator::Settings,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    helpers::{blob, complete_context, condition, conditions_of, decrypted, later_event, merge},
    rule_12_rotation::{history, request, rotated},
    support::world::{Operator, World, entry, key_id},
};

/// A world, another namespace of it, which has the key `orders`, and an operator that watches both.
async fn with_vault(name: &str) -> (World, World, Operator) {
    let world = World::new(name).await;
    let vault = world.another_namespace("vault").await;
    let watch_namespaces = vec![world.namespace.clone(), vault.namespace.clone()];
    let operator = world.start_with(Settings { watch_namespaces, ..world.settings() }).await;
    vault.apply_key("orders", json!({})).await;
    vault.key_ready("orders").await;
    (world, vault, operator)
}

/// A data key under the key `orders` of the vault.
fn under(vault: &World) -> Value {
    json!({"keyRef": {"name": "orders", "namespace": vault.namespace}})
}

fn selector() -> Value {
    json!({"from": "Selector", "selector": {"matchLabels": {"team": "orders"}}})
}

async fn allow(vault: &World, allowed: Value) {
    let spec = if allowed.is_null() { json!({}) } else { json!({"allowedNamespaces": allowed}) };
    vault.apply_key("orders", spec).await;
}

/// Labels the world's namespace, or takes the label off.
async fn label(world: &World, team: Value) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    merge(&namespaces, &world.namespace, json!({"metadata": {"labels": {"team": team}}})).await;
}

async fn refused(world: &World, vault: &World, name: &str) -> DataKey {
    let data_key = world.data_key_says(name, READY, "False", reason::KEY_NOT_SHARED).await;
    let message = &condition(conditions_of(&data_key), READY).message;
    let names = [format!("{}/orders", vault.namespace), "allowedNamespaces".into(), world.namespace.clone()];
    assert!(names.iter().all(|name| message.contains(name)), "{message}");
    assert_eq!(condition(conditions_of(&data_key), STALLED).status, "False", "it goes on by itself");
    data_key
}

/// Everything that has to do with a change before this was done.
async fn settled(world: &World) {
    if world.keys().get_opt("own").await.unwrap().is_none() {
        world.apply_key("own", json!({})).await;
    }
    later_event(world, "own").await;
}

#[tokio::test]
async fn rule_15_a_key_is_used_from_where_it_is_shared_only() {
    let (world, vault, operator) = with_vault("r15-shared").await;
    for (name, allowed, shared) in [
        ("default", Value::Null, false),
        ("same", json!({"from": "Same"}), false),
        ("selector", selector(), false),
        ("all", json!({"from": "All"}), true),
    ] {
        allow(&vault, allowed).await;
        vault.key_ready("orders").await;
        world.apply_data_key(name, under(&vault)).await;
        vault.apply_data_key(name, json!({"keyRef": {"name": "orders"}})).await;
        vault.data_key_ready(name).await;
        if shared {
            world.data_key_ready(name).await;
            continue;
        }
        let data_key = refused(&world, &vault, name).await;
        assert!(data_key.status.unwrap().ciphertext_blob.is_none(), "{name}: nothing is generated");
        assert!(world.secrets().get_opt(name).await.unwrap().is_none(), "{name}: nothing is delivered");
        world.event(name, reason::KEY_NOT_SHARED).await;
    }
    // Those that waited go on by themselves; the data keys are bound to their own namespace.
    for name in ["default", "same", "selector", "all"] {
        let data_key = world.data_key_ready(name).await;
        assert_eq!(data_key.status.as_ref().unwrap().key_id, Some(key_id(&vault.key_ready("orders").await)));
        let context = complete_context(&world.namespace, name, &[]);
        let plaintext = decrypted(&vault, "orders", &context, &blob(&data_key)).await;
        assert_eq!(entry(&world.secrets().get(name).await.unwrap(), "plaintext"), plaintext);
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_15_withdrawn_permission_shows_and_what_was_delivered_stays() {
    let (world, vault, operator) = with_vault("r15-withdrawn").await;
    allow(&vault, json!({"from": "All"})).await;
    for name in ["dek", "lost"] {
        world.apply_data_key(name, under(&vault)).await;
        world.data_key_ready(name).await;
    }
    let (secret, lost) = (world.secrets().get("dek").await.unwrap(), world.secrets().get("lost").await.unwrap());

    allow(&vault, json!({"from": "Same"})).await;
    let said = refused(&world, &vault, "dek").await;
    assert!(condition(conditions_of(&said), READY).message.contains("Secret dek stays as delivered"));
    refused(&world, &vault, "lost").await;
    world.secrets().delete("lost", &DeleteParams::default()).await.unwrap();
    request(&world, "dek", "now").await;
    settled(&world).await;
    let kept = world.secrets().get("dek").await.unwrap();
    assert!(kept.metadata == secret.metadata && kept.data == secret.data, "the Secret stays as it is");
    assert!(world.secrets().get_opt("lost").await.unwrap().is_none(), "nothing is restored");
    assert!(history(&refused(&world, &vault, "dek").await).is_empty(), "nothing is rotated");

    // Granted again, all that is made up for.
    allow(&vault, json!({"from": "All"})).await;
    world.data_key_ready("lost").await;
    assert!(world.secrets().get("lost").await.unwrap().data == lost.data, "the same bytes");
    let after = rotated(&world, "dek", 1).await;
    assert_eq!(history(&after), [blob(&said)]);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_15_the_labels_of_the_namespace_decide_at_every_moment() {
    let (world, vault, operator) = with_vault("r15-labels").await;
    allow(&vault, selector()).await;
    world.apply_data_key("dek", under(&vault)).await;
    refused(&world, &vault, "dek").await;
    label(&world, json!("orders")).await;
    let delivered = world.data_key_ready("dek").await;
    for value in [Value::Null, json!("billing")] {
        label(&world, value).await;
        let refused = refused(&world, &vault, "dek").await;
        assert_eq!(blob(&refused), blob(&delivered));
        label(&world, json!("orders")).await;
        world.data_key_ready("dek").await;
    }

    // Changed while no operator runs.
    operator.stop().await.unwrap();
    label(&world, Value::Null).await;
    let watch_namespaces = vec![world.namespace.clone(), vault.namespace.clone()];
    let operator = world.start_with(Settings { watch_namespaces, ..world.settings() }).await;
    refused(&world, &vault, "dek").await;
    operator.stop().await.unwrap();
}

/// An operator that does not watch a namespace knows nothing of its keys, and says that.
#[tokio::test]
async fn rule_15_a_key_in_a_namespace_that_is_not_watched() {
    let (world, operator) = World::with_operator("r15-unseen").await;
    let spec = json!({"keyRef": {"name": "orders", "namespace": "somewhere"}});
    world.apply_data_key("dek", spec).await;
    let waiting = world.data_key_says("dek", READY, "False", reason::KEY_NOT_FOUND).await;
    let message = &condition(conditions_of(&waiting), READY).message;
    assert!(message.contains("somewhere/orders") && message.contains("--watch-namespaces"), "{message}");
    operator.stop().await.unwrap();
}
