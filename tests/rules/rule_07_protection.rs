//! Rule 7: what is protected can't be deleted: the object, its namespace, its kind, the records and the root key. And
//! where it is deleted anyway, the key stays.

use cmk_operator::api::{
    ClusterKeyStore, CustomerMasterKey,
    conditions::reason,
    metadata,
    policies::{PolicyOptions, policies},
};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        core::v1::{ConfigMap, Namespace, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::merge,
    support::{
        eventually,
        world::{OPERATOR_NAMESPACE, SOON, World, apply, gone, key_id, key_state, private_bed, record_json},
    },
    users::{GROUP, refused},
};

/// Deletes nothing, and says whether it would have been allowed.
fn dry_run() -> DeleteParams {
    DeleteParams { dry_run: true, ..DeleteParams::default() }
}

fn namespaces(world: &World) -> Api<Namespace> {
    Api::all(world.client.clone())
}

/// Waits until a policy refuses to delete an object. (The API server takes a moment to hear of a change.)
async fn soon_refused<K>(api: &Api<K>, name: &str) -> String
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    eventually(&format!("the deletion of {name} to be refused"), SOON, async || {
        match api.delete(name, &dry_run()).await {
            Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(status.message),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    refused(name, async || api.delete(name, &DeleteParams::default()).await).await
}

/// Waits until deleting an object is allowed, and does it.
async fn soon_deleted<K>(api: &Api<K>, name: &str)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    eventually(&format!("the deletion of {name} to be allowed"), SOON, async || {
        api.delete(name, &DeleteParams::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn config_map(world: &World) -> ConfigMap {
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "bystander"}})).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    maps.create(&PostParams::default(), &map).await.unwrap()
}

#[tokio::test]
async fn rule_7_a_protected_key_is_not_deleted() {
    let (world, operator) = World::with_operator("r7-key").await;
    world.apply_key("orders", json!({"deletionProtection": true})).await;
    world.apply_key("other", json!({})).await;
    let before = world.key_ready("orders").await;
    world.key_ready("other").await;

    let said = soon_refused(&world.keys(), "orders").await;
    for part in [&format!("{}/orders", world.namespace), "spec.deletionProtection: true", "set it to false first"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Nor with all others at once.
    let all = ListParams::default();
    refused("all keys", async || world.keys().delete_collection(&DeleteParams::default(), &all).await).await;
    assert_eq!(world.keys().get("orders").await.unwrap(), before, "nothing was done to it");
    assert!(before.metadata.deletion_timestamp.is_none());

    // The protection goes first, then the key.
    for both in [
        json!({"deletionProtection": true, "scheduleDeletion": true}),
        json!({"deletionProtection": false, "scheduleDeletion": true}),
        json!({"scheduleDeletion": true}),
    ] {
        let said = apply(&world.keys(), "orders", "CustomerMasterKey", both).await.unwrap_err().to_string();
        assert!(said.contains("spec.scheduleDeletion") && said.contains("remove the protection first"), "{said}");
    }
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    world.delete_key("orders").await;
    world.event("orders", reason::DELETION_SCHEDULED).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_7_a_namespace_with_a_protected_key_stays_whole() {
    let (world, operator) = World::with_operator("r7-namespace").await;
    world.apply_key("orders", json!({"deletionProtection": true})).await;
    world.apply_key("plain", json!({})).await;
    world.key_ready("orders").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let data_key = world.data_key_ready("dek").await;
    let (key, plain) = (world.key_ready("orders").await, world.key_ready("plain").await);
    let (secret, map) = (world.secrets().get("dek").await.unwrap(), config_map(&world).await);
    soon_refused(&namespaces(&world), &world.namespace).await;

    let output = world.kubectl(&["delete", "namespace", &world.namespace]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    for part in [&format!("{}/orders", world.namespace), "spec.deletionProtection: true", "set it to false first"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    assert_eq!(namespaces(&world).get(&world.namespace).await.unwrap().metadata.deletion_timestamp, None);
    assert_eq!(world.keys().get("orders").await.unwrap(), key);
    assert_eq!(world.keys().get("plain").await.unwrap(), plain);
    assert_eq!(world.data_keys().get("dek").await.unwrap(), data_key);
    assert_eq!(world.secrets().get("dek").await.unwrap(), secret);
    assert_eq!(maps.get("bystander").await.unwrap(), map);

    // The protection goes first, then the namespace, and nothing in it waits.
    world.apply_key("orders", json!({})).await;
    soon_deleted(&namespaces(&world), &world.namespace).await;
    gone(&namespaces(&world), &world.namespace).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_7_a_service_key_is_not_deleted_and_never_blocks_its_namespace() {
    let (world, operator) = World::with_operator("r7-service").await;
    let alias = metadata::SERVICE_KEY_ALIAS;
    // Not even if somebody protects it.
    world.apply_key(metadata::SERVICE_KEY, json!({"alias": alias, "deletionProtection": true})).await;
    world.apply_key("orders", json!({})).await;
    let key = world.key_ready(metadata::SERVICE_KEY).await;
    world.key_ready("orders").await;
    world.apply_key(metadata::SERVICE_KEY, json!({"alias": alias})).await;
    let said = soon_refused(&world.keys(), metadata::SERVICE_KEY).await;
    assert!(said.contains("service-managed") && said.contains("goes with its namespace"), "{said}");
    for (spec, refusal) in [
        (json!({"alias": alias, "enabled": false}), "spec.enabled must not be false"),
        (json!({"alias": alias, "scheduleDeletion": true}), "spec.scheduleDeletion must not be true"),
        (json!({"alias": "alias/acs/other"}), "spec.alias"),
        (json!({}), "spec.alias"),
    ] {
        let keys = world.keys();
        let said = apply(&keys, metadata::SERVICE_KEY, "CustomerMasterKey", spec).await.unwrap_err().to_string();
        assert!(said.contains(refusal), "{said}");
    }

    world.apply_key(metadata::SERVICE_KEY, json!({"alias": alias, "deletionProtection": true})).await;
    world.key_ready(metadata::SERVICE_KEY).await;
    soon_deleted(&namespaces(&world), &world.namespace).await;
    gone(&namespaces(&world), &world.namespace).await;
    let records = world.records().await;
    let records: Vec<_> = records.iter().map(record_json).collect();
    let record = records.iter().find(|r| r["keyId"] == key_id(&key)).expect("its record");
    assert!(record["deletion"].is_null(), "retained: {record}");
    operator.stop().await.unwrap();
}

/// The policies are not all that stands between a key and its deletion.
#[tokio::test]
async fn rule_7_a_protected_key_whose_object_is_deleted_anyway_is_retained() {
    let world = World::on(private_bed().await, "r7-anyway").await;
    let operator = world.start().await;
    let spec = json!({"deletionProtection": true, "deletionPolicy": "ScheduleDeletion", "pendingDeletionDays": 7});
    for name in ["orders", "payroll"] {
        world.apply_key(name, spec.clone()).await;
    }
    let orders = world.key_ready("orders").await;
    world.key_ready("payroll").await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    for purpose in ["protect-key", "protect-namespace"] {
        bindings.delete(&format!("cmk-operator-{purpose}.cmk-operator.dev"), &DeleteParams::default()).await.unwrap();
    }

    soon_deleted(&world.keys(), "orders").await;
    gone(&world.keys(), "orders").await;
    let said = world.event("orders", reason::KEY_RETAINED).await;
    assert!(said.contains("deletionProtection") && said.contains(&key_id(&orders)), "{said}");
    let retained = async |name: &str| {
        let records: Vec<Value> = world.records().await.iter().map(record_json).collect();
        let record = records.iter().find(|r| r["owner"]["name"] == name).expect("its record").clone();
        assert_eq!((&record["deletion"], &record["enabled"]), (&Value::Null, &json!(true)), "{record}");
        assert_eq!(record["owner"]["released"], true, "{record}");
    };
    retained("orders").await;
    // Applied again it is the same key.
    world.apply_key("orders", spec).await;
    let again = world.key_ready("orders").await;
    assert_eq!((key_id(&again), key_state(&again).as_str()), (key_id(&orders), "Enabled"));

    // With its whole namespace.
    soon_deleted(&namespaces(&world), &world.namespace).await;
    gone(&namespaces(&world), &world.namespace).await;
    for name in ["orders", "payroll"] {
        retained(name).await;
    }
    operator.stop().await.unwrap();
}

/// In the operator's namespace, as an administrator of the cluster.
#[tokio::test]
async fn rule_7_records_and_root_key_are_changed_by_the_operator_alone() {
    let world = World::new("r7-records").await;
    let secrets = |client: &Client| -> Api<Secret> { Api::namespaced(client.clone(), OPERATOR_NAMESPACE) };
    let (admin, own) = (secrets(&world.client), secrets(&world.operator_client().await));
    let label = world.namespace.as_str();
    let secret = async |name: &str, type_: &str| {
        let secret = json!({
            "metadata": {"name": name, "labels": {"test": label}}, "type": type_, "stringData": {"record": "{}"},
        });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        // A backup may be restored: what is there can't be overwritten by creating.
        admin.create(&PostParams::default(), &secret).await.unwrap()
    };
    let named = |kind: &str| format!("{kind}-{label}");
    secret(&named("stray"), "Opaque").await;
    let records = [
        secret(&named("key"), metadata::KEY_RECORD_TYPE).await,
        secret(&named("alias"), metadata::ALIAS_TYPE).await,
        secret(metadata::ROOT_KEY_SECRET, metadata::ROOT_KEY_TYPE).await,
        // Root keys that the operator is given as files, under a name of the administrator's choice.
        secret(&named("root-keys"), metadata::ROOT_KEY_TYPE).await,
    ];
    let params = PatchParams::default();
    for record in &records {
        let name = record.name_any();
        for patch in [
            json!({"stringData": {"record": "{\"enabled\":true}"}}),
            json!({"data": Value::Null}),
            json!({"immutable": true}),
            json!({"metadata": {"labels": {"test": Value::Null}}}),
            json!({"metadata": {"finalizers": ["example.com/stays"]}}),
            json!({"metadata": {"ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "1"},
            ]}}),
        ] {
            let said = refused(&name, async || admin.patch(&name, &params, &Patch::Merge(&patch)).await).await;
            for part in [&name, "holds keys", "only the operator", PolicyOptions::DEFAULT_USER] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        refused(&name, async || admin.delete(&name, &DeleteParams::default()).await).await;
        // As is done to encrypt everything in etcd anew.
        admin.replace(&name, &PostParams::default(), record).await.unwrap();
        assert_eq!(admin.get(&name).await.unwrap().resource_version(), record.resource_version(), "nothing changed");
    }
    let all = ListParams::default().labels(&format!("test={label}"));
    refused("all at once", async || admin.delete_collection(&DeleteParams::default(), &all).await).await;
    for record in &records {
        assert_eq!(&admin.get(&record.name_any()).await.unwrap(), record);
    }
    // The operator may, and everybody with other Secrets.
    for record in &records {
        let mut changed = record.clone();
        changed.string_data = Some([("record".to_owned(), "{ }".to_owned())].into());
        own.replace(&record.name_any(), &PostParams::default(), &changed).await.unwrap();
        own.delete(&record.name_any(), &DeleteParams::default()).await.unwrap();
    }
    let stray = secret(&named("another"), "Opaque").await.name_any();
    merge(&admin, &stray, json!({"stringData": {"record": "{ }"}})).await;
    admin.delete(&stray, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn rule_7_kinds_and_the_operators_namespace_are_not_deleted_by_accident() {
    let world = World::new("r7-kinds").await;
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let kinds = cmk_operator::api::crds::crds();
    assert_eq!(kinds.len(), 4);
    for crd in kinds {
        let name = crd.name_any();
        let said = refused(&name, async || crds.delete(&name, &dry_run()).await).await;
        for part in [&name, &crd.spec.names.kind, "cmk-operator.dev/allow-crd-deletion"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let namespaces = namespaces(&world);
    let said = refused("the namespace", async || namespaces.delete(OPERATOR_NAMESPACE, &dry_run()).await).await;
    assert!(said.contains(OPERATOR_NAMESPACE) && said.contains("cmk-operator.dev/allow-namespace-deletion"), "{said}");
}

/// The operator says in status whether there are keys in it.
#[tokio::test]
async fn rule_7_a_key_store_in_use_is_not_deleted() {
    // Of its own: the operators of other tests would say how the store stands, too.
    let world = World::on(private_bed().await, "r7-store").await;
    let stores: Api<ClusterKeyStore> = Api::all(world.client.clone());
    let own: Api<ClusterKeyStore> = Api::all(world.operator_client().await);
    apply(&stores, "eu", "ClusterKeyStore", json!({"embedded": {}})).await.unwrap();
    in_use(&own, true).await;
    let said = refused("a store in use", async || stores.delete("eu", &DeleteParams::default()).await).await;
    for part in ["ClusterKeyStore eu", "in use", "delete or move its keys first"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let all = ListParams::default();
    refused("all stores", async || stores.delete_collection(&DeleteParams::default(), &all).await).await;
    assert_eq!(stores.get("eu").await.unwrap().metadata.deletion_timestamp, None);
    in_use(&own, false).await;
    stores.delete("eu", &DeleteParams::default()).await.unwrap();
    gone(&stores, "eu").await;
}

/// Who means it gets rid of everything, as docs/security.md says, and nothing hangs: not the kinds with their protected
/// keys and a store in use, not the operator's namespace with its records, not the namespaces of a cluster from which
/// our kinds are gone.
#[tokio::test]
async fn rule_7_an_uninstall_that_is_meant_goes_through() {
    let world = World::on(private_bed().await, "r7-uninstall").await;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let record =
        json!({"metadata": {"name": "cmk-key"}, "type": metadata::KEY_RECORD_TYPE, "stringData": {"record": "{}"}});
    let record: Secret = serde_json::from_value(record).unwrap();
    secrets.create(&PostParams::default(), &record).await.unwrap();
    let stores: Api<ClusterKeyStore> = Api::all(world.client.clone());
    apply(&stores, "eu", "ClusterKeyStore", json!({"embedded": {}})).await.unwrap();
    let operator = world.start().await;
    world.apply_key("orders", json!({"deletionProtection": true})).await;
    world.key_ready("orders").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    let namespaces = namespaces(&world);
    soon_refused(&namespaces, &world.namespace).await;

    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let allow = json!({"metadata": {"annotations": {metadata::ALLOW_CRD_DELETION: ""}}});
    let kinds =
        ["accesskeys", "datakeys", "customermasterkeys", "clusterkeystores"].map(|kind| format!("{kind}.{GROUP}"));
    for kind in &kinds {
        merge(&crds, kind, allow.clone()).await;
    }
    for kind in &kinds {
        crds.delete(kind, &DeleteParams::default()).await.unwrap();
    }
    for kind in &kinds {
        gone(&crds, kind).await;
    }
    let record = world.only_record().await;
    assert_eq!((&record["deletion"], &record["owner"]["released"]), (&Value::Null, &json!(true)), "retained: {record}");
    operator.stop().await.unwrap();
    soon_deleted(&namespaces, &world.namespace).await;
    gone(&namespaces, &world.namespace).await;

    let allow = json!({"metadata": {"annotations": {metadata::ALLOW_NAMESPACE_DELETION: ""}}});
    merge(&namespaces, OPERATOR_NAMESPACE, allow).await;
    namespaces.delete(OPERATOR_NAMESPACE, &DeleteParams::default()).await.unwrap();
    gone(&namespaces, OPERATOR_NAMESPACE).await;
}

/// Says in status whether the store `eu` is in use, as the operator does.
async fn in_use(stores: &Api<ClusterKeyStore>, in_use: bool) {
    let status = if in_use { "True" } else { "False" };
    let condition = json!({
        "type": "InUse", "status": status, "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    stores.patch_status("eu", &PatchParams::default(), &patch).await.unwrap();
}

/// Its type checker knows the kinds that the policies are about.
#[tokio::test]
async fn rule_7_the_api_server_finds_no_fault_in_the_policies() {
    let world = World::new("r7-types").await;
    let api: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    for policy in policies(&PolicyOptions::default()) {
        let name = policy.policy.name_any();
        let checked = eventually(&format!("{name} to be checked"), SOON, async || {
            let policy = api.get(&name).await.map_err(|error| error.to_string())?;
            policy.status.and_then(|status| status.type_checking).ok_or_else(|| "not checked".to_owned())
        })
        .await;
        assert_eq!(checked.expression_warnings, None, "{name}");
    }
}

/// What a protected key is asked is asked of the key in its store as well.
#[tokio::test]
async fn rule_7_protection_reaches_the_record_before_it_counts() {
    let (world, operator) = World::with_operator("r7-record").await;
    world.apply_key("orders", json!({"deletionProtection": true})).await;
    let key: CustomerMasterKey = world.key_ready("orders").await;
    assert!(key.status.unwrap().key_metadata.unwrap().deletion_protection);
    assert_eq!(world.only_record().await["deletionProtection"], true);
    world.apply_key("orders", json!({})).await;
    let key = world.key_ready("orders").await;
    assert!(!key.status.unwrap().key_metadata.unwrap().deletion_protection);
    operator.stop().await.unwrap();
}
