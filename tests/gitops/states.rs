//! Each kind through its life: what kstatus and Argo CD say of it at every stage.

use cmk_operator::api::{
    AccessKey, ClusterKeyStore, CustomerMasterKey, DataKey,
    conditions::{READY, STALLED, reason},
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};

use crate::{
    support::{
        eventually,
        world::{SOON, World, apply, gone, private_bed},
    },
    tools::{argo_cd, kstatus},
};

/// What both say of one state.
const UNSEEN: [&str; 2] = ["InProgress", "Progressing"];
const DONE: [&str; 2] = ["Current", "Healthy"];
const WAITING: [&str; 2] = ["InProgress", "Progressing"];
const TURNED_OFF: [&str; 2] = ["InProgress", "Suspended"];
const FAILED: [&str; 2] = ["Failed", "Degraded"];
const GOING: [&str; 2] = ["Terminating", "Progressing"];

/// An object as any client gets it, and so as Flux and Argo CD do.
async fn read<K: Resource<DynamicType = ()>>(world: &World, name: &str) -> Value {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match resource.kind.as_str() {
        "ClusterKeyStore" => Api::all_with(world.client.clone(), &resource),
        _ => Api::namespaced_with(world.client.clone(), &world.namespace, &resource),
    };
    serde_json::to_value(api.get(name).await.unwrap()).unwrap()
}

/// Both verdicts on an object, which have to have a message that says `why`. Returns what was read.
async fn judged<K: Resource<DynamicType = ()>>(world: &World, name: &str, expected: [&str; 2], why: &str) -> Value {
    let object = read::<K>(world, name).await;
    let (flux, argo) = (kstatus(&object), argo_cd(&object));
    let said = format!("{} {name}: {flux:?}, {argo:?}", K::kind(&()));
    assert_eq!([&flux.status[..], &argo.status[..]], expected, "{said}");
    assert!(argo.message.contains(why), "no {why:?} in {said}");
    object
}

/// A new object that no operator has seen.
async fn unseen<K: Resource<DynamicType = ()>>(world: &World, name: &str) {
    let object = judged::<K>(world, name, UNSEEN, "not seen it yet").await;
    assert_eq!(object["status"], json!({"observedGeneration": -1}));
}

/// A new generation that no operator has seen: the conditions are there, of the one before.
async fn unseen_change<K: Resource<DynamicType = ()>>(world: &World, name: &str) {
    let object = judged::<K>(world, name, UNSEEN, "not seen it yet").await;
    assert!(object["status"]["conditions"].is_array(), "{object}");
}

#[tokio::test]
async fn rule_16_a_key_is_judged_as_it_stands() {
    let world = World::new("states-key").await;
    world.apply_key("orders", json!({})).await;
    unseen::<CustomerMasterKey>(&world, "orders").await;
    let operator = world.start().await;
    world.key_ready("orders").await;
    judged::<CustomerMasterKey>(&world, "orders", DONE, "Enabled").await;
    operator.stop().await.unwrap();
    world.apply_key("orders", json!({"enabled": false})).await;
    unseen_change::<CustomerMasterKey>(&world, "orders").await;
    let operator = world.start().await;

    // Off, or to be deleted, on purpose: as declared.
    world.key_ready("orders").await;
    judged::<CustomerMasterKey>(&world, "orders", DONE, "Disabled").await;
    world.apply_key("orders", json!({"scheduleDeletion": true})).await;
    world.key_ready("orders").await;
    judged::<CustomerMasterKey>(&world, "orders", DONE, "PendingDeletion").await;
    world.apply_key("empty", json!({"origin": "EXTERNAL"})).await;
    world.key_ready("empty").await;
    judged::<CustomerMasterKey>(&world, "empty", DONE, "PendingImport").await;

    // Declared, and not to be had yet.
    let material = json!({"secretRef": {"name": "material", "key": "material"}});
    world.apply_key("imported", json!({"origin": "EXTERNAL", "importedKeyMaterial": material})).await;
    world.key_says("imported", READY, "False", reason::MATERIAL_NOT_FOUND).await;
    judged::<CustomerMasterKey>(&world, "imported", WAITING, "MaterialNotFound: ").await;
    // Not to be had at all.
    world.apply_key("adopting", json!({"keyId": "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73"})).await;
    world.key_says("adopting", STALLED, "True", reason::KEY_RECORD_MISSING).await;
    judged::<CustomerMasterKey>(&world, "adopting", FAILED, "KeyRecordMissing: ").await;

    // Asked to rotate, and disabled.
    world.apply_key("off", json!({"enabled": false})).await;
    world.key_ready("off").await;
    world.annotate_key("off", json!({"cmk-operator.dev/rotate-requested-at": "now"})).await;
    world.key_says("off", READY, "False", reason::ROTATION_SUSPENDED).await;
    judged::<CustomerMasterKey>(&world, "off", TURNED_OFF, "RotationSuspended: ").await;

    // Deleted, and in use.
    world.apply_key("used", json!({})).await;
    world.key_ready("used").await;
    world.apply_data_key("user", json!({"keyRef": {"name": "used"}})).await;
    world.data_key_ready("user").await;
    world.keys().delete("used", &DeleteParams::default()).await.unwrap();
    world.key_says("used", READY, "False", reason::KEY_IN_USE).await;
    judged::<CustomerMasterKey>(&world, "used", GOING, "KeyInUse: ").await;
    world.data_keys().delete("user", &DeleteParams::default()).await.unwrap();
    gone(&world.keys(), "used").await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_16_a_data_key_is_judged_as_it_stands() {
    let world = World::new("states-data-key").await;
    let spec = || json!({"keyRef": {"name": "orders"}});
    world.apply_data_key("dek", spec()).await;
    unseen::<DataKey>(&world, "dek").await;
    let operator = world.start().await;
    world.data_key_says("dek", READY, "False", reason::KEY_NOT_FOUND).await;
    judged::<DataKey>(&world, "dek", WAITING, "KeyNotFound: ").await;
    world.apply_key("orders", json!({})).await;
    world.data_key_ready("dek").await;
    judged::<DataKey>(&world, "dek", DONE, "Delivered as Secret dek.").await;

    operator.stop().await.unwrap();
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}, "secret": {"encoding": "Hex"}})).await;
    unseen_change::<DataKey>(&world, "dek").await;
    let operator = world.start().await;
    world.data_key_ready("dek").await;

    // Its key is turned off by somebody, who would have to turn it on again.
    world.apply_key("orders", json!({"enabled": false})).await;
    world.data_key_says("dek", READY, "False", reason::KEY_DISABLED).await;
    judged::<DataKey>(&world, "dek", TURNED_OFF, "KeyDisabled: ").await;
    world.apply_key("orders", json!({"scheduleDeletion": true})).await;
    world.data_key_says("dek", READY, "False", reason::KEY_PENDING_DELETION).await;
    judged::<DataKey>(&world, "dek", TURNED_OFF, "KeyPendingDeletion: ").await;
    world.apply_key("orders", json!({})).await;
    world.data_key_ready("dek").await;
    judged::<DataKey>(&world, "dek", DONE, "").await;

    // Somebody else's Secret is in its way.
    let taken = serde_json::from_value(json!({"metadata": {"name": "taken"}})).unwrap();
    world.secrets().create(&PostParams::default(), &taken).await.unwrap();
    world.apply_data_key("taken", spec()).await;
    world.data_key_says("taken", STALLED, "True", reason::SECRET_CONFLICT).await;
    judged::<DataKey>(&world, "taken", FAILED, "SecretConflict: ").await;

    held::<DataKey>(&world, &world.data_keys(), "dek").await;
    operator.stop().await.unwrap();
}

/// Deletes an object that something else holds, and lets it go again.
async fn held<K>(world: &World, api: &Api<K>, name: &str)
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let finalizers = |names: Value| Patch::Merge(json!({"metadata": {"finalizers": names}}));
    api.patch(name, &PatchParams::default(), &finalizers(json!(["example.com/hold"]))).await.unwrap();
    api.delete(name, &DeleteParams::default()).await.unwrap();
    judged::<K>(world, name, GOING, "").await;
    api.patch(name, &PatchParams::default(), &finalizers(Value::Null)).await.unwrap();
    gone(api, name).await;
}

#[tokio::test]
async fn rule_16_an_access_key_is_judged_as_it_stands() {
    let world = World::new("states-access-key").await;
    world.apply_access_key("kms", json!({"serviceAccountName": "app"})).await;
    unseen::<AccessKey>(&world, "kms").await;
    let operator = world.start().await;
    world.access_key_says("kms", READY, "False", reason::SERVICE_ACCOUNT_NOT_FOUND).await;
    judged::<AccessKey>(&world, "kms", WAITING, "ServiceAccountNotFound: ").await;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "app"}})).unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    accounts.create(&PostParams::default(), &account).await.unwrap();
    world.access_key_ready("kms").await;
    judged::<AccessKey>(&world, "kms", DONE, "").await;

    let taken = serde_json::from_value(json!({"metadata": {"name": "taken"}})).unwrap();
    world.secrets().create(&PostParams::default(), &taken).await.unwrap();
    world.apply_access_key("taken", json!({"serviceAccountName": "app"})).await;
    world.access_key_says("taken", STALLED, "True", reason::SECRET_CONFLICT).await;
    judged::<AccessKey>(&world, "taken", FAILED, "SecretConflict: ").await;

    operator.stop().await.unwrap();
    world.apply_access_key("kms", json!({"serviceAccountName": "app", "rotationIntervalDays": 90})).await;
    unseen_change::<AccessKey>(&world, "kms").await;
    held::<AccessKey>(&world, &world.access_keys(), "kms").await;
}

/// On a control plane of its own: every operator sees every key store, and those of the other tests would be faster.
#[tokio::test]
async fn rule_16_a_key_store_is_judged_as_it_stands() {
    let world = World::on(private_bed().await, "states-store").await;
    let stores: Api<ClusterKeyStore> = Api::all(world.client.clone());
    let everybody = json!({"embedded": {}});
    apply(&stores, "frankfurt", "ClusterKeyStore", everybody.clone()).await.unwrap();
    unseen::<ClusterKeyStore>(&world, "frankfurt").await;
    let operator = world.start().await;
    store_seen(&stores, "frankfurt").await;
    judged::<ClusterKeyStore>(&world, "frankfurt", DONE, "Keys can be made.").await;

    operator.stop().await.unwrap();
    let nobody =
        json!({"embedded": {}, "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}});
    apply(&stores, "frankfurt", "ClusterKeyStore", nobody).await.unwrap();
    unseen_change::<ClusterKeyStore>(&world, "frankfurt").await;
    let operator = world.start().await;
    store_seen(&stores, "frankfurt").await;
    judged::<ClusterKeyStore>(&world, "frankfurt", DONE, "").await;

    // A key that it does not take waits for a person.
    world.apply_key("orders", json!({"keyStoreRef": {"kind": "ClusterKeyStore", "name": "frankfurt"}})).await;
    world.key_says("orders", STALLED, "True", reason::KEY_STORE_NOT_ALLOWED).await;
    judged::<CustomerMasterKey>(&world, "orders", FAILED, "KeyStoreNotAllowed: ").await;
    operator.stop().await.unwrap();
    held::<ClusterKeyStore>(&world, &stores, "frankfurt").await;
}

async fn store_seen(stores: &Api<ClusterKeyStore>, name: &str) {
    eventually("the key store to be seen", SOON, async || {
        let store = stores.get(name).await.map_err(|e| e.to_string())?;
        let seen = store.status.as_ref().and_then(|status| status.observed_generation);
        if seen == store.metadata.generation { Ok(()) } else { Err(format!("{store:?}")) }
    })
    .await;
}
