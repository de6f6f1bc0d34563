//! Rule 17: every write carries a precondition, so two operators at once lose no data.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::{
    api::{CustomerMasterKey, DataKey, metadata},
    cluster::{ApiError, Objects, Secrets},
    kms::{DesiredKey, KeyStep},
    store::{KeyStore, NewKey, StoreError},
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;
use uuid::Uuid;

use crate::{
    helpers::{PLAINTEXT, blob, complete_context, foreign_secret, merge, operator_cluster, store, stored_key},
    support::world::{World, entry, key_id, record_json},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_two_operators_at_once_lose_nothing() {
    const COUNT: usize = 40;
    let (world, one) = World::with_operator("r17-two").await;
    let two = world.start().await;
    let names: Vec<_> = (0..COUNT).map(|i| format!("k{i}")).collect();
    for name in &names {
        world.apply_data_key(name, json!({"keyRef": {"name": name}})).await;
        world.apply_key(name, json!({"description": name})).await;
    }
    for name in &names {
        world.key_ready(name).await;
        world.data_key_ready(name).await;
    }

    let records: Vec<_> = world.records().await.iter().map(record_json).collect();
    assert_eq!(records.len(), COUNT, "one record each");
    let owners: BTreeSet<_> = records.iter().map(|r| r["owner"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(owners, names.iter().cloned().collect());
    let ids: BTreeSet<_> = records.iter().map(|r| r["keyId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), COUNT);
    let store = store(&world).await;
    for name in &names {
        let key = world.key_ready(name).await;
        assert!(ids.contains(&key_id(&key)) && key.annotations()[metadata::KEY_ID] == key_id(&key));
        let data_key = world.data_key_ready(name).await;
        assert_eq!(data_key.annotations()[metadata::CIPHERTEXT_BLOB], blob(&data_key));
        let stored = stored_key(&world, &store, name).await;
        let context = complete_context(&world.namespace, name, &[]);
        let opened = store.decrypt(&stored, &context, &BASE64_STANDARD.decode(blob(&data_key)).unwrap()).await;
        let delivered = entry(&world.secrets().get(name).await.unwrap(), PLAINTEXT);
        assert!(opened.unwrap().ct_eq(&delivered), "{name}");
    }
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

/// Both change, one crashes in between, and each other's Secrets are deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_two_operators_restore_the_same_bytes() {
    let (world, one) = World::with_operator("r17-restore").await;
    let two = world.start().await;
    world.apply_key("orders", json!({})).await;
    let names: Vec<_> = (0..8).map(|i| format!("d{i}")).collect();
    let mut first = Vec::new();
    for name in &names {
        world.apply_data_key(name, json!({"keyRef": {"name": "orders"}})).await;
    }
    for name in &names {
        world.data_key_ready(name).await;
        first.push(world.secrets().get(name).await.unwrap());
    }
    for name in &names {
        world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    }
    one.crash().await;
    for (name, before) in names.iter().zip(&first) {
        let after = crate::helpers::secret_when(&world, name, "to be made anew", |s| s.uid() != before.uid()).await;
        assert!(after.data == before.data, "{name}");
    }
    two.stop().await.unwrap();
}

#[tokio::test]
async fn rule_17_a_store_write_on_an_old_revision_is_a_conflict() {
    let (world, operator) = World::with_operator("r17-store").await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    // Nobody brings back what is changed here.
    operator.stop().await.unwrap();
    let store = store(&world).await;
    let old = stored_key(&world, &store, "orders").await;
    let newer = store.update(&old, &[KeyStep::SetDescription("first".into())]).await.unwrap();
    assert_ne!(newer.revision, old.revision);

    let step = [KeyStep::SetDescription("second".into())];
    assert!(matches!(store.update(&old, &step).await, Err(StoreError::Conflict)));
    assert!(matches!(store.forget_unfinished(&old).await, Err(StoreError::Conflict)));
    assert_eq!(world.only_record().await["description"], "first");

    // A key that exists is not made again, whatever the new one would be.
    let new = NewKey {
        key_id: Uuid::from_u128(1),
        version_id: Uuid::from_u128(2),
        store: newer.record.store.clone(),
        region: newer.record.region.clone(),
        account_id: newer.record.account_id.clone(),
        generation: 0,
        owner: newer.record.owner.clone(),
        origin: newer.record.origin,
        key_usage: newer.record.key_usage,
        desired: DesiredKey {
            description: "third".into(),
            tags: Default::default(),
            enabled: true,
            deletion_protection: false,
            rotation_interval_days: None,
            rotation_request: None,
            schedule_deletion: false,
            pending_deletion_days: 7,
        },
    };
    assert!(matches!(store.create(&new).await, Err(StoreError::Conflict)));
    let found = stored_key(&world, &store, "orders").await;
    assert_eq!(found, newer);

    // A record that was deleted and made anew is another one, though nothing else differs.
    let mut secret = world.records().await.remove(0);
    world.operator_secrets().delete(&secret.name_any(), &DeleteParams::default()).await.unwrap();
    secret.metadata.uid = None;
    secret.metadata.resource_version = None;
    operator_cluster(&world).await.create_secret(&secret).await.unwrap();
    assert!(matches!(store.update(&newer, &step).await, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn rule_17_writes_on_an_old_version_or_without_one_are_refused() {
    let (world, operator) = World::with_operator("r17-objects").await;
    world.apply_key("orders", json!({})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let old_key = world.key_ready("orders").await;
    let old_data_key = world.data_key_ready("dek").await;
    operator.stop().await.unwrap();
    let touch = json!({"metadata": {"annotations": {"touched": "1"}}});
    let key = merge(&world.keys(), "orders", touch.clone()).await;
    let data_key = merge(&world.data_keys(), "dek", touch.clone()).await;
    let cluster = operator_cluster(&world).await;
    let patch = json!({"annotations": {"by": "test"}});
    let conflict = |result: Result<(), ApiError>, what: &str| match result {
        Err(ApiError::Conflict(message)) => message,
        other => panic!("{what}: {other:?}"),
    };

    let forget = |r: Result<CustomerMasterKey, ApiError>| r.map(drop);
    conflict(forget(cluster.replace_status(&old_key).await), "status of an old key");
    conflict(forget(cluster.patch_metadata(&old_key, patch.clone()).await), "metadata of an old key");
    let forget = |r: Result<DataKey, ApiError>| r.map(drop);
    conflict(forget(cluster.replace_status(&old_data_key).await), "status of an old data key");
    conflict(forget(cluster.patch_metadata(&old_data_key, patch.clone()).await), "metadata of an old data key");

    // The same version, but another object of that name: the API server calls that invalid in a patch.
    let mut other = key.clone();
    other.metadata.uid = Some("00000000-0000-4000-8000-000000000000".into());
    let results: [Result<CustomerMasterKey, _>; 2] =
        [cluster.patch_metadata(&other, patch.clone()).await, cluster.replace_status(&other).await];
    for result in results {
        assert!(matches!(result, Err(ApiError::Conflict(_) | ApiError::Refused(_))), "{result:?}");
    }

    // Not even sent.
    let unsent = "no UID or resourceVersion";
    for strip in [|k: &mut DataKey| k.metadata.uid = None, |k: &mut DataKey| k.metadata.resource_version = None] {
        let mut bare = data_key.clone();
        strip(&mut bare);
        assert!(conflict(forget(cluster.replace_status(&bare).await), "bare status").contains(unsent));
        assert!(conflict(forget(cluster.patch_metadata(&bare, patch.clone()).await), "bare patch").contains(unsent));
    }
    assert_eq!(world.keys().get("orders").await.unwrap(), key, "nothing was written");
    assert_eq!(world.data_keys().get("dek").await.unwrap(), data_key, "nothing was written");

    // What an object of the same name that was made anew is: another one.
    world.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    let gone = [cluster.patch_metadata(&data_key, patch.clone()).await, cluster.replace_status(&data_key).await];
    assert!(gone.iter().all(|result| matches!(result, Err::<DataKey, _>(ApiError::NotFound))), "{gone:?}");
    let anew = world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let results = [cluster.patch_metadata(&data_key, patch.clone()).await, cluster.replace_status(&data_key).await];
    for result in results {
        conflict(forget(result), "an object made anew");
    }
    assert_eq!(world.data_keys().get("dek").await.unwrap(), anew, "nothing was written");
}

#[tokio::test]
async fn rule_17_secrets_are_created_replaced_and_deleted_on_preconditions_only() {
    let world = World::new("r17-secrets").await;
    let cluster = operator_cluster(&world).await;
    let mine = foreign_secret(&world, "a").await;

    let mut again = mine.clone();
    (again.metadata.uid, again.metadata.resource_version) = (None, None);
    again.immutable = Some(true);
    assert_eq!(cluster.create_secret(&again).await, Err(ApiError::AlreadyExists));
    for result in [cluster.replace_secret(&again).await.map(drop), cluster.delete_secret(&again).await] {
        assert!(matches!(result, Err(ApiError::Conflict(m)) if m.contains("no UID or resourceVersion")));
    }

    let newer = merge(&world.secrets(), "a", json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert!(matches!(cluster.replace_secret(&mine).await, Err(ApiError::Conflict(_))), "an old version");
    assert!(matches!(cluster.delete_secret(&mine).await, Err(ApiError::Conflict(_))), "an old version");
    let mut other = newer.clone();
    other.metadata.uid = Some("00000000-0000-4000-8000-000000000000".into());
    assert!(matches!(cluster.replace_secret(&other).await, Err(ApiError::Conflict(_))), "another UID");
    assert!(matches!(cluster.delete_secret(&other).await, Err(ApiError::Conflict(_))), "another UID");
    assert_eq!(world.secrets().get("a").await.unwrap(), newer, "nothing was written");

    cluster.delete_secret(&newer).await.unwrap();
    assert_eq!(cluster.delete_secret(&newer).await, Err(ApiError::NotFound));
    assert!(matches!(cluster.replace_secret(&newer).await, Err(ApiError::NotFound | ApiError::Conflict(_))));
    assert!(world.secrets().get_opt("a").await.unwrap().is_none(), "a replace makes nothing");
}
