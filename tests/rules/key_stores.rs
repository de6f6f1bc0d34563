//! Key stores as objects. Each test has a control plane of its own: a store is everybody's on a cluster.

use cmk_operator::{
    api::{
        ClusterKeyStore, CustomerMasterKey,
        conditions::{IN_USE, READY, STALLED, find, reason},
        metadata,
    },
    controller::cluster_key_store::KIND,
};
use jiff::SignedDuration;
use k8s_openapi::api::{admissionregistration::v1::ValidatingAdmissionPolicyBinding, core::v1::Namespace};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{
        another_pass, condition, deleted_and_restored, lose_key_object, merge, passes, record_of, record_when,
        recreate_namespace, watching,
    },
    support::{
        eventually,
        world::{Operator, SOON, World, apply, gone, key_id, key_state, private_bed, succeed},
    },
};

fn stores(world: &World) -> Api<ClusterKeyStore> {
    Api::all(world.client.clone())
}

async fn apply_store(world: &World, name: &str, spec: Value) {
    apply(&stores(world), name, "ClusterKeyStore", spec).await.unwrap();
}

/// Waits until a condition of the store says this of its current spec.
async fn store_says(world: &World, name: &str, type_: &str, status: &str, reason: &str) -> ClusterKeyStore {
    eventually(&format!("ClusterKeyStore {name} to be {type_}={status} ({reason})"), SOON, async || {
        let store = stores(world).get(name).await.map_err(|e| e.to_string())?;
        let conditions = store.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        let said = find(&conditions, type_).is_some_and(|c| {
            c.status == status && c.reason == reason && c.observed_generation == store.metadata.generation
        });
        if said { Ok(store) } else { Err(format!("{conditions:?}")) }
    })
    .await
}

/// Waits until a sweep has found so many orphaned keys in a store.
async fn orphaned_keys(world: &World, name: &str, count: i64) -> ClusterKeyStore {
    eventually(&format!("{count} orphaned keys in {name}"), SOON, async || {
        // The next sweep comes when time has passed.
        world.clock.advance(SignedDuration::from_secs(1));
        let store = stores(world).get(name).await.map_err(|e| e.to_string())?;
        let found = store.status.as_ref().and_then(|status| status.orphaned_keys.clone());
        if found.as_ref().is_some_and(|keys| keys.count == count) { Ok(store) } else { Err(format!("{found:?}")) }
    })
    .await
}

/// Waits until a sweep more than before was answered by a pass over the stores.
async fn another_sweep(world: &World, operator: &Operator) {
    let before = passes(&operator.metrics, KIND);
    world.clock.advance(SignedDuration::from_secs(1));
    another_pass(&operator.metrics, KIND, before).await;
}

/// A key's spec in a store.
fn in_store(name: &str, mut spec: Value) -> Value {
    spec["keyStoreRef"] = json!({"kind": "ClusterKeyStore", "name": name});
    spec
}

fn arn(key: &CustomerMasterKey) -> String {
    key.status.as_ref().unwrap().key_metadata.as_ref().unwrap().arn.clone()
}

/// Deletes a store although there are keys in it, as somebody does who has taken the policies away.
async fn delete_store(world: &World, name: &str) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=cmk-operator");
    bindings.delete_collection(&DeleteParams::default(), &ours).await.unwrap();
    eventually("the key store to be deleted", SOON, async || {
        stores(world).delete(name, &DeleteParams::default()).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    gone(&stores(world), name).await;
}

#[tokio::test]
async fn rule_16_a_key_store_says_what_it_can_do_and_what_is_in_it() {
    let world = World::on(private_bed().await, "stores-status").await;
    apply_store(&world, "default", json!({"embedded": {}})).await;
    let operator = world.start().await;
    let store = store_says(&world, "default", READY, "True", reason::AS_DECLARED).await;
    let status = serde_json::to_value(store.status.unwrap()).unwrap();
    let capabilities = json!({
        "pendingDeletionDays": {"min": 7, "max": 366, "default": 366},
        "rotationIntervalDays": {"min": 7, "max": 2560},
        "import": true,
    });
    assert_eq!(status["capabilities"], capabilities);
    store_says(&world, "default", IN_USE, "False", reason::EMPTY).await;
    orphaned_keys(&world, "default", 0).await;

    // The first key brings it into use, and the others write nothing.
    world.apply_key("first", json!({"pendingDeletionDays": 7})).await;
    let first = key_id(&world.key_ready("first").await);
    let in_use = store_says(&world, "default", IN_USE, "True", reason::HOLDS_KEYS).await;
    world.apply_key("second", json!({"pendingDeletionDays": 7})).await;
    let second = key_id(&world.key_ready("second").await);
    another_sweep(&world, &operator).await;
    assert_eq!(stores(&world).get("default").await.unwrap().resource_version(), in_use.resource_version());

    // A key whose object is lost is said to be orphaned, and is no more when it is applied again.
    lose_key_object(&world, "first").await;
    let store = orphaned_keys(&world, "default", 1).await;
    let named = serde_json::to_value(store.status.unwrap().orphaned_keys.unwrap().newest).unwrap();
    assert_eq!((&named[0]["keyId"], &named[0]["name"]), (&json!(first), &json!("first")));
    assert_eq!(named[0]["namespace"], world.namespace.as_str());
    world.apply_key("first", json!({"pendingDeletionDays": 7})).await;
    assert_eq!(key_id(&world.key_ready("first").await), first);
    orphaned_keys(&world, "default", 0).await;

    // Closed to the namespace, it goes on with the keys that it has.
    let closed = json!({"from": "Selector", "selector": {"matchLabels": {"team": "nobody"}}});
    apply_store(&world, "default", json!({"embedded": {}, "allowedNamespaces": closed})).await;
    store_says(&world, "default", READY, "True", reason::AS_DECLARED).await;
    world.apply_key("third", json!({})).await;
    world.key_says("third", STALLED, "True", reason::KEY_STORE_NOT_ALLOWED).await;
    world.apply_key("second", json!({"pendingDeletionDays": 7, "description": "still driven"})).await;
    world.key_ready("second").await;
    apply_store(&world, "default", json!({"embedded": {}})).await;
    store_says(&world, "default", READY, "True", reason::AS_DECLARED).await;
    let third = key_id(&world.key_ready("third").await);

    // The last one leaves when it is erased: a tombstone is no key. A restart knows all of this again.
    world.apply_key("third", json!({"pendingDeletionDays": 7})).await;
    for name in ["first", "second", "third"] {
        world.delete_key(name).await;
    }
    store_says(&world, "default", IN_USE, "True", reason::HOLDS_KEYS).await;
    operator.stop().await.unwrap();
    let before = stores(&world).get("default").await.unwrap();
    let operator = world.start().await;
    another_sweep(&world, &operator).await;
    assert_eq!(stores(&world).get("default").await.unwrap().status, before.status);
    world.clock.advance_days(8);
    for id in [first, second, third] {
        record_when(&world, &id, "to be erased", |record| record["erasedAt"].is_string()).await;
    }
    let empty = store_says(&world, "default", IN_USE, "False", reason::EMPTY).await;
    assert_eq!(condition(&empty.status.unwrap().conditions, READY).status, "True");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_several_key_stores_at_once_and_one_that_goes_and_comes_back() {
    let world = World::on(private_bed().await, "stores-several").await;
    let other = world.another_namespace("other").await;
    let operator = world.start_with(watching(&[&world, &other])).await;

    // A key waits for its store; and each store has its own region and account.
    world.apply_key("frankfurt", in_store("eu", json!({"origin": "AWS_KMS", "alias": "orders"}))).await;
    world.key_says("frankfurt", READY, "False", reason::KEY_STORE_NOT_FOUND).await;
    apply_store(&world, "eu", json!({"embedded": {"region": "eu-central-1", "accountId": "42"}})).await;
    let frankfurt = world.key_ready("frankfurt").await;
    let eu = key_id(&frankfurt);
    assert_eq!(arn(&frankfurt), format!("arn:aws:kms:eu-central-1:000000000042:key/{eu}"));
    assert_eq!(frankfurt.status.unwrap().key_metadata.unwrap().creator, "42");
    world.apply_key("hangzhou", json!({"alias": "orders"})).await;
    let hangzhou = world.key_ready("hangzhou").await;
    assert_eq!(arn(&hangzhou), format!("acs:kms:cn-hangzhou:123456:key/{}", key_id(&hangzhou)));
    // An alias is unique in a store and a namespace, so all four of these have it.
    other.apply_key("frankfurt", in_store("eu", json!({"alias": "orders"}))).await;
    other.apply_key("hangzhou", json!({"alias": "orders"})).await;
    for key in [other.key_ready("frankfurt").await, other.key_ready("hangzhou").await] {
        assert_eq!(key.status.unwrap().alias.as_deref(), Some("alias/orders"));
    }
    assert!(arn(&other.key_ready("frankfurt").await).starts_with("acs:kms:eu-central-1:42:"));
    world.apply_key("third", in_store("eu", json!({"alias": "orders"}))).await;
    world.key_says("third", READY, "False", reason::ALIAS_CONFLICT).await;
    // A key of another store can't be adopted.
    world.apply_key("foreign", json!({"keyId": eu, "origin": "AWS_KMS"})).await;
    world.key_says("foreign", STALLED, "True", reason::KEY_RECORD_MISSING).await;

    // A store closed to a namespace refuses it new keys and adoptions, and goes on with those it has.
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "orders"}}});
    let declared = json!({"region": "eu-central-1", "accountId": "42"});
    apply_store(&world, "eu", json!({"embedded": declared.clone(), "allowedNamespaces": selector})).await;
    store_says(&world, "eu", READY, "True", reason::AS_DECLARED).await;
    world.apply_key("late", in_store("eu", json!({}))).await;
    world.key_says("late", STALLED, "True", reason::KEY_STORE_NOT_ALLOWED).await;
    other.apply_key("frankfurt", in_store("eu", json!({"alias": "orders", "enabled": false}))).await;
    assert_eq!(key_state(&other.key_ready("frankfurt").await), "Disabled");
    merge(&namespaces, &world.namespace, json!({"metadata": {"labels": {"team": "orders"}}})).await;
    world.key_ready("late").await;

    // Deleted although it is in use, it takes nothing with it.
    world.apply_data_key("dek", json!({"keyRef": {"name": "frankfurt"}})).await;
    world.data_key_ready("dek").await;
    delete_store(&world, "eu").await;
    for name in ["frankfurt", "late"] {
        world.key_says(name, READY, "False", reason::KEY_STORE_NOT_FOUND).await;
    }
    let waiting = world.keys().get("frankfurt").await.unwrap();
    assert_eq!((key_id(&waiting), key_state(&waiting)), (eu.clone(), "Enabled".into()));
    assert_eq!(waiting.annotations()[metadata::KEY_ID], eu);
    deleted_and_restored(&world, "dek").await;
    assert_eq!(key_state(&world.key_ready("hangzhou").await), "Enabled");
    // An object can go, and its key stays.
    let gone = key_id(&other.keys().get("frankfurt").await.unwrap());
    other.delete_key("frankfurt").await;
    other.event("frankfurt", reason::KEY_RETAINED).await;
    let retained = record_of(&world, &gone).await;
    assert_eq!((&retained["owner"]["released"], &retained["deletion"]), (&json!(true), &Value::Null));

    // And when the store is back, all is as before.
    apply_store(&world, "eu", json!({"embedded": declared})).await;
    assert_eq!(key_id(&world.key_ready("frankfurt").await), eu);
    store_says(&world, "eu", IN_USE, "True", reason::HOLDS_KEYS).await;
    other.apply_key("frankfurt", in_store("eu", json!({}))).await;
    assert_eq!(key_id(&other.key_ready("frankfurt").await), gone);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_the_examples_of_key_stores_work() {
    let mut world = World::on(private_bed().await, "stores-examples").await;
    world.namespace = "shop".to_owned();
    world.create_namespace("shop").await;
    let operator = world.start().await;
    for example in ["30-key-store", "31-key-in-that-store", "32-preview-key-store"] {
        let file = format!("examples/{example}.yaml");
        succeed(&mut world.bed.control_plane.kubectl(["apply", "-f", &file]));
    }
    let key = world.key_ready("invoices").await;
    assert_eq!(arn(&key), format!("arn:aws:kms:eu-central-1:111122223333:key/{}", key_id(&key)));
    store_says(&world, "frankfurt", IN_USE, "True", reason::HOLDS_KEYS).await;
    store_says(&world, "preview", READY, "True", reason::AS_DECLARED).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_5_a_store_for_preview_namespaces_gives_new_keys_in_a_namespace_made_anew() {
    let world = World::on(private_bed().await, "stores-preview").await;
    apply_store(&world, "preview", json!({"embedded": {"onNamespaceRecreated": "NewKey"}})).await;
    let operator = world.start().await;
    let ids = async |names: &[&str]| {
        let mut ids = Vec::new();
        for name in names {
            ids.push(key_id(&world.key_ready(name).await));
        }
        ids
    };
    for name in ["orders", "restored"] {
        world.apply_key(name, in_store("preview", json!({"deletionPolicy": "Retain"}))).await;
    }
    let first = ids(&["orders", "restored"]).await;
    let keys = world.keys();
    let annotations = keys.get("restored").await.unwrap().annotations().clone();
    recreate_namespace(&world).await;

    world.apply_key("orders", in_store("preview", json!({}))).await;
    let anew = world.key_ready("orders").await;
    assert_ne!(key_id(&anew), first[0]);
    world.event("orders", reason::KEY_ABANDONED).await;
    let old = record_of(&world, &first[0]).await;
    assert_eq!(old["abandoned"], true);
    assert_ne!(old["versions"], json!([]), "the record stays, material and all");
    assert_eq!(record_of(&world, &key_id(&anew)).await["generation"], 1);

    // One that was restored says which key it has, and does not lose it.
    let restored: CustomerMasterKey = serde_json::from_value(json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
        "metadata": {"name": "restored", "annotations": annotations}, "spec": in_store("preview", json!({})),
    }))
    .unwrap();
    keys.create(&Default::default(), &restored).await.unwrap();
    world.key_says("restored", STALLED, "True", reason::NAMESPACE_RECREATED).await;
    assert_eq!(record_of(&world, &first[1]).await["abandoned"], Value::Null);

    // The key that was given up can be adopted.
    world.apply_key("former", in_store("preview", json!({"keyId": first[0]}))).await;
    assert_eq!(key_id(&world.key_ready("former").await), first[0]);
    assert_eq!(record_of(&world, &first[0]).await["abandoned"], Value::Null);
    assert_eq!(key_id(&world.key_ready("orders").await), key_id(&anew), "and the new one goes on");
    operator.stop().await.unwrap();
}
