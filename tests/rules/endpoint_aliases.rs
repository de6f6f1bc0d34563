//! Aliases through the KMS endpoint: a key has one, and one that moves leaves the other key first (design, rule 10).

use cmk_operator::{
    kms::EncryptionContext,
    server::{Failure, operations::KeyReference},
};
use serde_json::json;

use crate::endpoint::{Endpoint, Meddling, by_id};
use crate::support::world::{World, key_id};

const ORDERS: &str = "alias/orders";

#[tokio::test]
async fn rule_10_an_alias_is_made_moved_and_deleted() {
    let (world, operator) = World::with_operator("ep-alias").await;
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        world.apply_key(name, json!({})).await;
        ids.push(key_id(&world.key_ready(name).await));
    }
    let (one, two) = (by_id(&ids[0]), by_id(&ids[1]));
    let endpoint = Endpoint::new(&world).await;
    let (kms, call) = (&endpoint.kms, &mut endpoint.alibaba());
    let context = EncryptionContext::default();
    let named = KeyReference::parse(ORDERS);

    assert_eq!(kms.update_alias(call, ORDERS, &one).await, Err(Failure::AliasNotFound(ORDERS.into())));
    assert_eq!(kms.delete_alias(call, ORDERS).await, Err(Failure::AliasNotFound(ORDERS.into())));
    kms.create_alias(call, ORDERS, &one).await.unwrap();
    assert_eq!(kms.encrypt(call, &named, &context, b"x").await.unwrap().key.key_id.to_string(), ids[0]);
    assert_eq!(kms.create_alias(call, ORDERS, &two).await, Err(Failure::AliasExists(ORDERS.into())));
    assert_eq!(kms.create_alias(call, ORDERS, &one).await, Err(Failure::AliasExists(ORDERS.into())));
    let another = kms.create_alias(call, "alias/another", &one).await;
    assert!(matches!(&another, Err(Failure::LimitExceeded(text)) if text.contains(ORDERS)), "{another:?}");

    for (target, id) in [(&two, &ids[1]), (&two, &ids[1]), (&one, &ids[0])] {
        kms.update_alias(call, ORDERS, target).await.unwrap();
        assert_eq!(&kms.encrypt(call, &named, &context, b"x").await.unwrap().key.key_id.to_string(), id);
        let aliases = kms.list_aliases(call, None).await.unwrap();
        let listed: Vec<_> = aliases.iter().map(|a| (a.alias.as_str(), a.key.key_id.to_string())).collect();
        assert_eq!(listed, [(ORDERS, id.clone())]);
        assert_eq!(kms.list_aliases(call, Some(target)).await.unwrap(), aliases);
    }
    kms.delete_alias(call, ORDERS).await.unwrap();
    assert_eq!(kms.list_aliases(call, None).await.unwrap(), []);
    let gone = kms.encrypt(call, &named, &context, b"x").await.map(drop);
    assert_eq!(gone, Err(Failure::AliasNotFound(ORDERS.into())));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_10_an_alias_that_can_not_move_stays() {
    let (world, operator) = World::with_operator("ep-alias-stays").await;
    let mut ids = Vec::new();
    for (name, spec) in [("from", json!({})), ("to", json!({})), ("declared", json!({"alias": "alias/declared"}))] {
        world.apply_key(name, spec).await;
        ids.push(key_id(&world.key_ready(name).await));
    }
    let [from, to, declared] = [0, 1, 2].map(|i| by_id(&ids[i]));
    let endpoint = Endpoint::new(&world).await;
    let (kms, call) = (&endpoint.kms, &mut endpoint.aws());
    kms.create_alias(call, ORDERS, &from).await.unwrap();

    // Both are looked at before the first is changed.
    let edits = endpoint.edits();
    let owned = kms.update_alias(call, "alias/declared", &to).await;
    assert!(matches!(&owned, Err(Failure::Owned(text)) if text.contains("tester")), "{owned:?}");
    let has_one = kms.update_alias(call, ORDERS, &declared).await;
    assert!(matches!(has_one, Err(Failure::LimitExceeded(_))), "{has_one:?}");
    assert_eq!(endpoint.edits(), edits);

    // The other key gets another alias just before it gets this one.
    endpoint.meddle(Meddling::Merge(json!({"spec": {}})));
    endpoint.meddle(Meddling::Merge(json!({"spec": {"alias": "alias/quicker"}})));
    let result = kms.update_alias(call, ORDERS, &to).await;
    let Err(Failure::NotCarriedOut(sentence)) = result else { panic!("{result:?}") };
    assert!(sentence.contains("as before") && sentence.contains(&ids[1]), "{sentence}");
    let aliases = kms.list_aliases(call, Some(&from)).await.unwrap();
    assert_eq!(aliases.iter().map(|alias| alias.alias.as_str()).collect::<Vec<_>>(), [ORDERS]);
    operator.stop().await.unwrap();
}

/// Somebody claims the alias between the look at it and the change: nobody's alias is taken over, and none is left
/// waiting for it.
#[tokio::test]
async fn rule_10_who_is_too_late_leaves_nothing_behind() {
    let (world, operator) = World::with_operator("ep-alias-late").await;
    world.apply_key("late", json!({})).await;
    let late = key_id(&world.key_ready("late").await);
    let endpoint = Endpoint::new(&world).await;
    endpoint.stop_watching_aliases();
    world.apply_key("quick", json!({"alias": ORDERS})).await;
    world.key_ready("quick").await;
    let (kms, call) = (&endpoint.kms, &mut endpoint.alibaba());
    assert_eq!(kms.create_alias(call, ORDERS, &by_id(&late)).await, Err(Failure::AliasExists(ORDERS.into())));
    assert_eq!(world.key_ready("late").await.spec.alias, None);
    operator.stop().await.unwrap();
}
