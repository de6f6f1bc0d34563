//! Rule 10: an alias is unique per store and namespace, never taken over, and moves.

use cmk_operator::api::{
    conditions::{READY, reason},
    metadata,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{SOON, World, key_id},
};

/// The claims of aliases: alias and key, in order.
async fn claims(world: &World) -> Vec<(String, String)> {
    let params = ListParams::default().fields(&format!("type={}", metadata::ALIAS_TYPE));
    let secrets: Vec<Secret> = world.operator_secrets().list(&params).await.unwrap().items;
    let claim =
        |secret: &Secret| -> Value { serde_json::from_slice(&secret.data.as_ref().unwrap()["claim"].0).unwrap() };
    let text = |claim: &Value, field: &str| claim[field].as_str().unwrap().to_owned();
    let mut claims: Vec<_> =
        secrets.iter().map(claim).map(|claim| (text(&claim, "alias"), text(&claim, "keyId"))).collect();
    claims.sort();
    claims
}

async fn claims_are(world: &World, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(a, k)| ((*a).to_owned(), (*k).to_owned())).collect();
    eventually("the claims to be as expected", SOON, async || {
        let claims = claims(world).await;
        if claims == expected { Ok(()) } else { Err(format!("{claims:?}, not {expected:?}")) }
    })
    .await;
}

async fn alias(world: &World, name: &str) -> Option<String> {
    world.keys().get(name).await.unwrap().status.unwrap().alias
}

#[tokio::test]
async fn rule_10_an_alias_is_held_with_its_prefix_and_moves_when_it_is_changed() {
    let (world, operator) = World::with_operator("r10-moves").await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    let key = world.key_ready("orders").await;
    let id = key_id(&key);
    assert_eq!(key.status.unwrap().alias.as_deref(), Some("alias/orders"));
    claims_are(&world, &[("alias/orders", &id)]).await;

    // The prefix makes no difference.
    world.apply_key("orders", json!({"alias": "alias/orders"})).await;
    world.key_ready("orders").await;
    claims_are(&world, &[("alias/orders", &id)]).await;

    world.apply_key("orders", json!({"alias": "sales/orders"})).await;
    world.key_ready("orders").await;
    assert_eq!(alias(&world, "orders").await.as_deref(), Some("alias/sales/orders"));
    claims_are(&world, &[("alias/sales/orders", &id)]).await;

    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    assert_eq!(alias(&world, "orders").await, None);
    claims_are(&world, &[]).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_10_a_taken_alias_is_waited_for_and_never_taken_over() {
    let (world, operator) = World::with_operator("r10-conflict").await;
    world.apply_key("first", json!({"alias": "orders"})).await;
    let first = key_id(&world.key_ready("first").await);
    world.apply_key("second", json!({"alias": "orders", "description": "applied all the same"})).await;
    let second = world.key_says("second", READY, "False", reason::ALIAS_CONFLICT).await;
    let second_id = key_id(&second);
    assert_eq!(second.status.unwrap().key_metadata.unwrap().description, "applied all the same");
    world.event("second", reason::ALIAS_CONFLICT).await;
    claims_are(&world, &[("alias/orders", &first)]).await;

    // Freed by deletion, it goes to the one that waits.
    world.delete_key("first").await;
    world.key_ready("second").await;
    claims_are(&world, &[("alias/orders", &second_id)]).await;

    // Applied again, the first one gets its key back, and waits for the alias.
    world.apply_key("first", json!({"alias": "orders"})).await;
    let again = world.key_says("first", READY, "False", reason::ALIAS_CONFLICT).await;
    assert_eq!(key_id(&again), first);
    // Freed by a change of the other's.
    world.apply_key("second", json!({"alias": "others"})).await;
    world.key_ready("first").await;
    claims_are(&world, &[("alias/orders", &first), ("alias/others", &second_id)]).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_10_an_alias_that_is_wanted_and_not_had_leaves_the_old_one() {
    let (world, operator) = World::with_operator("r10-old").await;
    world.apply_key("first", json!({"alias": "orders"})).await;
    let first = key_id(&world.key_ready("first").await);
    world.apply_key("second", json!({"alias": "sales"})).await;
    let second = key_id(&world.key_ready("second").await);
    world.apply_key("second", json!({"alias": "orders"})).await;
    let conflict = world.key_says("second", READY, "False", reason::ALIAS_CONFLICT).await;
    assert_eq!(
        conflict.status.unwrap().alias.as_deref(),
        Some("alias/sales"),
        "new claimed, old released: in this order"
    );
    claims_are(&world, &[("alias/orders", &first), ("alias/sales", &second)]).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_10_a_deleted_or_left_over_claim_is_mended() {
    let (world, operator) = World::with_operator("r10-mended").await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    let id = key_id(&world.key_ready("orders").await);
    let params = ListParams::default().fields(&format!("type={}", metadata::ALIAS_TYPE));
    let secret = world.operator_secrets().list(&params).await.unwrap().items.remove(0);
    world.operator_secrets().delete(&secret.name_any(), &DeleteParams::default()).await.unwrap();
    claims_are(&world, &[("alias/orders", &id)]).await;

    // The object is taken away by force: the key that its claim is for has no object that wants it. It is kept, as
    // the object may come back.
    operator.stop().await.unwrap();
    let patch = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.keys().patch("orders", &Default::default(), &patch).await.unwrap();
    world.delete_key("orders").await;
    let operator = world.start().await;
    world.apply_key("second", json!({"alias": "orders"})).await;
    world.key_says("second", READY, "False", reason::ALIAS_CONFLICT).await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    assert_eq!(key_id(&world.key_ready("orders").await), id);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_10_the_alias_of_an_erased_or_abandoned_key_is_free() {
    let (world, operator) = World::with_operator("r10-erased").await;
    world.apply_key("orders", json!({"alias": "orders", "pendingDeletionDays": 7})).await;
    world.key_ready("orders").await;
    world.apply_key("orders", json!({"alias": "orders", "pendingDeletionDays": 7, "scheduleDeletion": true})).await;
    world.key_ready("orders").await;
    assert_eq!(alias(&world, "orders").await.as_deref(), Some("alias/orders"), "it stays while the key can come back");
    world.clock.advance_days(8);
    let erased = world.key_says("orders", READY, "False", reason::KEY_DELETED).await;
    assert_eq!(erased.status.as_ref().unwrap().alias, None);
    claims_are(&world, &[]).await;

    world.annotate_key("orders", json!({metadata::ABANDON_KEY: key_id(&erased)})).await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    let anew = world.key_ready("orders").await;
    claims_are(&world, &[("alias/orders", &key_id(&anew))]).await;
    world.annotate_key("orders", json!({metadata::ABANDON_KEY: key_id(&anew)})).await;
    let newest = eventually("another key", SOON, async || {
        let key = world.keys().get("orders").await.map_err(|e| e.to_string())?;
        if key_id(&key) == key_id(&anew) { Err("the same".to_owned()) } else { Ok(key) }
    })
    .await;
    claims_are(&world, &[("alias/orders", &key_id(&newest))]).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_10_an_alias_of_a_key_to_be_deleted_can_not_be_changed() {
    let (world, operator) = World::with_operator("r10-pending").await;
    world.apply_key("orders", json!({"scheduleDeletion": true})).await;
    world.key_ready("orders").await;
    world.apply_key("orders", json!({"scheduleDeletion": true, "alias": "orders"})).await;
    world.key_says("orders", READY, "False", reason::REJECTED_PENDING_DELETION).await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    world.key_ready("orders").await;
    assert_eq!(alias(&world, "orders").await.as_deref(), Some("alias/orders"));
    operator.stop().await.unwrap();
}
