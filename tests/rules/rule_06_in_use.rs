//! Rule 6: while DataKeys refer to a key, its object's deletion waits; in a terminating namespace nothing waits.

use cmk_operator::api::conditions::{READY, reason};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::support::{
    eventually,
    world::{SOON, World, gone, record_json},
};

#[tokio::test]
async fn rule_6_a_key_in_use_waits_until_its_data_keys_are_gone() {
    let (world, operator) = World::with_operator("r6-use").await;
    world.apply_key("orders", json!({"pendingDeletionDays": 7})).await;
    world.key_ready("orders").await;
    for name in ["one", "two"] {
        world.apply_data_key(name, json!({"keyRef": {"name": "orders"}})).await;
        world.data_key_ready(name).await;
    }

    world.keys().delete("orders", &DeleteParams::default()).await.unwrap();
    let waiting = world.key_says("orders", READY, "False", reason::KEY_IN_USE).await;
    let conditions = waiting.status.unwrap().conditions;
    let message = &conditions.iter().find(|c| c.type_ == READY).unwrap().message;
    let (one, two) = (format!("{}/one", world.namespace), format!("{}/two", world.namespace));
    assert!(message.contains("2 DataKeys refer") && message.contains(&one) && message.contains(&two), "{message}");
    let record = world.only_record().await;
    assert!(record["deletion"].is_null() && record["owner"]["released"] == false, "nothing is done yet: {record}");

    world.data_keys().delete("one", &DeleteParams::default()).await.unwrap();
    eventually("the message to name the one that is left", SOON, async || {
        let key = world.keys().get("orders").await.map_err(|e| e.to_string())?;
        let said = format!("{:?}", key.status.map(|s| s.conditions));
        if said.contains("1 DataKey refers") { Ok(()) } else { Err(said) }
    })
    .await;
    world.data_keys().delete("two", &DeleteParams::default()).await.unwrap();
    gone(&world.keys(), "orders").await;
    assert_eq!(world.only_record().await["deletion"]["pendingDays"], 7);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_6_a_restart_forgets_nobody_who_waits() {
    let (world, operator) = World::with_operator("r6-restart").await;
    world.apply_key("orders", json!({})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    world.keys().delete("orders", &DeleteParams::default()).await.unwrap();
    world.key_says("orders", READY, "False", reason::KEY_IN_USE).await;
    operator.stop().await.unwrap();

    // It goes while nobody looks.
    world.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    let operator = world.start().await;
    gone(&world.keys(), "orders").await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_6_in_a_terminating_namespace_nothing_waits() {
    let (world, operator) = World::with_operator("r6-namespace").await;
    world.apply_key("orders", json!({})).await;
    // One that would wait for its user for ever.
    let data_key = json!({"keyRef": {"name": "orders"}});
    world.apply_data_key("dek", data_key).await;
    world.data_key_ready("dek").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    // Gone: nobody but the namespace controller has to do anything for it. (It asks every 5 to 15 seconds.)
    gone(&world.keys(), "orders").await;
    let record = world.only_record().await;
    assert_eq!((&record["owner"]["released"], record["deletion"].is_object()), (&json!(true), true), "{record}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_6_a_key_used_from_elsewhere_is_retained_when_its_namespace_goes() {
    let world = World::new("r6-elsewhere").await;
    let elsewhere = format!("{}-app", world.namespace);
    world.create_namespace(&elsewhere).await;
    let mut settings = world.settings();
    settings.watch_namespaces.push(elsewhere.clone());
    let operator = world.start_with(settings).await;

    world.apply_key("orders", json!({"allowedNamespaces": {"from": "All"}})).await;
    world.key_ready("orders").await;
    let data_keys = Api::namespaced(world.client.clone(), &elsewhere);
    let spec = json!({"keyRef": {"name": "orders", "namespace": world.namespace}});
    let _: cmk_operator::api::DataKey = crate::support::world::apply(&data_keys, "dek", "DataKey", spec).await.unwrap();

    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    gone(&world.keys(), "orders").await;
    let records = world.records().await;
    let record = record_json(&records[0]);
    assert_eq!(record["owner"]["released"], true);
    assert!(record["deletion"].is_null(), "it is retained: {record}");
    let metrics = operator.metrics.render();
    assert!(metrics.contains("cmk_keys_retained_total 1"), "{metrics}");
    operator.stop().await.unwrap();
}
