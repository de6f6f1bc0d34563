//! Access keys (design, section 1): delivered as a Secret, rotated with an overlap, and revoked at once on every replica.

use std::sync::Arc;

use cmk_operator::{
    access_keys::{AccessKeyView, Credential, Credentials},
    api::{
        AccessKey,
        conditions::{READY, STALLED, reason},
        metadata,
    },
    runtime::{
        credentials::{Credentialed, follow},
        triggers::Triggers,
    },
    server::freshness::WatchFreshness,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    helpers::{deleted_and_restored, foreign_secret, merge, recreate_namespace, secret_when, store},
    support::{
        eventually,
        world::{OPERATOR_NAMESPACE, Operator, SOON, World, apply, entry, gone},
    },
    users::{WRITE, allowed, refused, rule, user},
};

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

fn accounts(world: &World) -> Api<ServiceAccount> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

async fn make_account(world: &World, name: &str) -> ServiceAccount {
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    accounts(world).create(&PostParams::default(), &account).await.unwrap()
}

async fn delete_account(world: &World, name: &str) {
    accounts(world).delete(name, &DeleteParams::default()).await.unwrap();
    gone(&accounts(world), name).await;
}

/// A ServiceAccount, and an AccessKey of it.
async fn orders(name: &str, spec: Value) -> (World, Operator) {
    let (world, operator) = World::with_operator(name).await;
    make_account(&world, "orders-api").await;
    let mut complete = json!({"serviceAccountName": "orders-api"});
    complete.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    world.apply_access_key("orders", complete).await;
    world.access_key_ready("orders").await;
    (world, operator)
}

async fn records(world: &World) -> Vec<Secret> {
    let params = ListParams::default().fields(&format!("type={}", metadata::ACCESS_KEY_TYPE));
    world.operator_secrets().list(&params).await.unwrap().items
}

fn text(secret: &Secret, name: &str) -> String {
    String::from_utf8(entry(secret, name)).unwrap()
}

/// What a replica answers from, fed as the operator feeds its own.
struct Replica {
    view: Arc<AccessKeyView>,
    task: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Replica {
    async fn start(world: &World) -> Self {
        let view = Arc::new(AccessKeyView::new(world.clock.clone()));
        let fed = Credentialed {
            store: Arc::new(store(world).await),
            view: view.clone(),
            triggers: Triggers::default(),
            gone: Arc::new(Notify::new()),
        };
        let (ready, mut listed) = watch::channel(false);
        let scopes = vec![Some(world.namespace.clone())];
        let client = world.operator_client().await;
        let task =
            tokio::spawn(follow(client, world.operator_namespace.clone(), scopes, fed, ready, WatchFreshness::unasked));
        tokio::time::timeout(SOON, listed.wait_for(|listed| *listed)).await.expect("the replica lists").unwrap();
        Self { view, task }
    }

    fn answers(&self, id: &str) -> Option<Arc<Credential>> {
        self.view.credential(id)
    }

    /// Waits until an access key is valid, and answers its secret.
    async fn valid(&self, id: &str) -> Arc<Credential> {
        eventually(&format!("{id} to be valid"), SOON, async || self.answers(id).ok_or_else(|| "it is not".to_owned()))
            .await
    }

    async fn invalid(&self, id: &str) {
        eventually(&format!("{id} to be revoked"), SOON, async || {
            self.answers(id).map_or(Ok(()), |_| Err("it is still valid".to_owned()))
        })
        .await;
    }
}

/// Every replica takes it, and with the secret in the Secret.
async fn valid_everywhere(replicas: &[Replica], secret: &Secret) {
    for replica in replicas {
        let credential = replica.valid(&text(secret, ID)).await;
        assert_eq!(credential.secret.expose(), text(secret, SECRET));
    }
}

async fn invalid_everywhere(replicas: &[Replica], id: &str) {
    for replica in replicas {
        replica.invalid(id).await;
    }
}

#[tokio::test]
async fn section_1_an_access_key_is_delivered_and_is_its_service_account() {
    let spec = json!({"secret": {"name": "orders-kms", "labels": {"team": "orders"}, "annotations": {"note": "n"}}});
    let (world, operator) = orders("ak-delivered", spec).await;
    let object = world.access_key_ready("orders").await;
    let secret = world.secrets().get("orders-kms").await.unwrap();
    let names: Vec<_> = secret.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            ID,
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL_KMS",
            "AWS_REGION",
            SECRET
        ]
    );
    let id = text(&secret, ID);
    assert!(id.len() == 20 && id.starts_with("CMKA"), "{id}");
    assert_eq!(text(&secret, SECRET).len(), 40);
    assert_eq!(text(&secret, "ALIBABA_CLOUD_ACCESS_KEY_ID"), id);
    assert_eq!(text(&secret, "ALIBABA_CLOUD_ACCESS_KEY_SECRET"), text(&secret, SECRET));
    assert_eq!(text(&secret, "AWS_ENDPOINT_URL_KMS"), "https://cmk-operator-kms.cmk-system.svc");
    assert_eq!(text(&secret, "AWS_REGION"), "cn-hangzhou");
    assert_eq!(text(&secret, "AWS_DEFAULT_REGION"), "cn-hangzhou");
    assert_eq!((secret.labels()["team"].as_str(), secret.annotations()["note"].as_str()), ("orders", "n"));
    assert_eq!(secret.owner_references()[0].uid, object.uid().unwrap());
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.access_key_id.as_ref(), Some(&id));
    assert!(status.created_at.is_some() && status.next_rotation.is_none());
    world.event("orders", reason::ACCESS_KEY_CREATED).await;

    let account = accounts(&world).get("orders-api").await.unwrap();
    let replica = Replica::start(&world).await;
    let credential = replica.valid(&id).await;
    assert_eq!(credential.user.username, format!("system:serviceaccount:{}:orders-api", world.namespace));
    assert_eq!(credential.user.uid, account.uid().unwrap());
    assert_eq!(credential.secret.expose(), text(&secret, SECRET));

    // The secret half is in the delivered Secret alone.
    let secret_half = text(&secret, SECRET);
    for record in records(&world).await {
        let bytes: Vec<u8> = record.data.unwrap().into_values().flat_map(|value| value.0).collect();
        assert!(!String::from_utf8_lossy(&bytes).contains(&secret_half));
    }
    assert!(!serde_json::to_string(&object).unwrap().contains(&secret_half));

    let columns = crate::support::world::succeed(&mut world.kubectl(&["get", "accesskeys"]));
    for column in ["SERVICE ACCOUNT", "ACCESS KEY ID", "SECRET", "READY", &id, "orders-api", "orders-kms", "True"] {
        assert!(columns.contains(column), "{column}: {columns}");
    }
    let metrics = operator.metrics.render();
    assert!(!metrics.contains("result=\"forbidden\"") && !metrics.contains("result=\"refused\""), "{metrics}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn section_1_a_deleted_or_changed_secret_has_the_same_access_key_again() {
    let (world, operator) = orders("ak-restored", json!({})).await;
    let first = world.secrets().get("orders").await.unwrap();
    let restored = deleted_and_restored(&world, "orders").await;
    assert_eq!(restored.data, first.data);
    world.event("orders", reason::SECRET_RESTORED).await;

    let elsewhere =
        json!({"stringData": {"AWS_ENDPOINT_URL_KMS": "https://attacker.example", SECRET: "x", "MORE": "y"}});
    merge(&world.secrets(), "orders", elsewhere).await;
    secret_when(&world, "orders", "to be as delivered", |secret| secret.data == first.data).await;
    // A restart finds nothing to do.
    operator.stop().await.unwrap();
    let before = (world.access_keys().get("orders").await.unwrap(), records(&world).await);
    let operator = world.start().await;
    world.apply_access_key("later", json!({"serviceAccountName": "orders-api"})).await;
    world.access_key_ready("later").await;
    assert_eq!(world.access_keys().get("orders").await.unwrap(), before.0);
    let uid = before.1[0].uid();
    let record = records(&world).await.into_iter().find(|record| record.uid() == uid).unwrap();
    assert_eq!(record.resource_version(), before.1[0].resource_version());
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_14_a_secret_of_somebody_else_is_never_overwritten_by_an_access_key() {
    let (world, operator) = World::with_operator("ak-foreign").await;
    make_account(&world, "orders-api").await;
    let foreign = foreign_secret(&world, "orders").await;
    world.apply_access_key("orders", json!({"serviceAccountName": "orders-api"})).await;
    world.access_key_says("orders", STALLED, "True", reason::SECRET_CONFLICT).await;
    assert_eq!(world.secrets().get("orders").await.unwrap(), foreign);
    assert!(records(&world).await.is_empty(), "none is made that can't be delivered");
    world.secrets().delete("orders", &DeleteParams::default()).await.unwrap();
    world.access_key_ready("orders").await;

    // Renamed, it moves.
    let spec = json!({"serviceAccountName": "orders-api", "secret": {"name": "orders-kms"}});
    let before = world.secrets().get("orders").await.unwrap();
    world.apply_access_key("orders", spec).await;
    world.access_key_ready("orders").await;
    gone(&world.secrets(), "orders").await;
    assert_eq!(world.secrets().get("orders-kms").await.unwrap().data, before.data);
    operator.stop().await.unwrap();
}

async fn id_when(world: &World, what: &str, wanted: impl Fn(&AccessKey) -> bool) -> AccessKey {
    eventually(&format!("the access key {what}"), SOON, async || {
        let object = world.access_keys().get("orders").await.map_err(|e| e.to_string())?;
        if wanted(&object) { Ok(object) } else { Err(format!("{:?}", object.status)) }
    })
    .await
}

#[tokio::test]
async fn section_1_both_access_keys_work_for_half_an_interval_after_a_rotation() {
    let (world, operator) = orders("ak-rotation", json!({"rotationIntervalDays": 10})).await;
    let replicas = [Replica::start(&world).await, Replica::start(&world).await];
    let first = world.secrets().get("orders").await.unwrap();
    valid_everywhere(&replicas, &first).await;
    let old = text(&first, ID);

    world.clock.advance_days(10);
    world.clock.advance(SignedDuration::from_mins(1));
    let second = secret_when(&world, "orders", "to have another access key", |secret| text(secret, ID) != old).await;
    valid_everywhere(&replicas, &first).await;
    valid_everywhere(&replicas, &second).await;
    let object = id_when(&world, "to say so", |object| {
        object.status.as_ref().is_some_and(|status| status.previous_access_key_id.as_ref() == Some(&old))
    })
    .await;
    assert!(object.status.unwrap().previous_expires_at.is_some());
    world.event("orders", reason::ACCESS_KEY_ROTATED).await;

    world.clock.advance_days(5);
    world.clock.advance(SignedDuration::from_mins(1));
    for replica in &replicas {
        assert!(replica.answers(&old).is_none(), "from this second on, whoever writes it down");
    }
    id_when(&world, "to have none before", |object| {
        object.status.as_ref().is_some_and(|status| status.previous_access_key_id.is_none())
    })
    .await;
    valid_everywhere(&replicas, &second).await;
    assert!(!String::from_utf8_lossy(&entry(&records(&world).await[0], "record")).contains(&old));

    // By request, once.
    let ask = json!({"metadata": {"annotations": {metadata::ROTATE_REQUESTED_AT: "now"}}});
    merge(&world.access_keys(), "orders", ask).await;
    let third = secret_when(&world, "orders", "to rotate", |secret| text(secret, ID) != text(&second, ID)).await;
    let object = id_when(&world, "to say that it was asked", |object| {
        object.status.as_ref().is_some_and(|status| status.last_handled_rotation.as_deref() == Some("now"))
    })
    .await;
    assert_eq!(object.status.unwrap().access_key_id, Some(text(&third, ID)));
    valid_everywhere(&replicas, &second).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn section_1_deleting_the_access_key_revokes_it_everywhere() {
    let (world, operator) = orders("ak-deleted", json!({})).await;
    let replicas = [Replica::start(&world).await, Replica::start(&world).await];
    let first = world.secrets().get("orders").await.unwrap();
    valid_everywhere(&replicas, &first).await;
    // Revoked without the operator, which tidies up later.
    operator.stop().await.unwrap();
    world.access_keys().delete("orders", &DeleteParams::default()).await.unwrap();
    gone(&world.access_keys(), "orders").await;
    invalid_everywhere(&replicas, &text(&first, ID)).await;
    assert_eq!(records(&world).await.len(), 1);

    let operator = world.start().await;
    eventually("the record to be deleted", SOON, async || match records(&world).await.len() {
        0 => Ok(()),
        count => Err(format!("{count} are there")),
    })
    .await;
    gone(&world.secrets(), "orders").await;
    // Made anew, it is another one.
    world.apply_access_key("orders", json!({"serviceAccountName": "orders-api"})).await;
    world.access_key_ready("orders").await;
    let second = secret_when(&world, "orders", "to be there", |_| true).await;
    assert_ne!(text(&second, ID), text(&first, ID));
    valid_everywhere(&replicas, &second).await;
    assert!(replicas.iter().all(|replica| replica.answers(&text(&first, ID)).is_none()));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn section_1_deleting_the_service_account_revokes_its_access_keys() {
    let (world, operator) = orders("ak-account", json!({})).await;
    let replicas = [Replica::start(&world).await, Replica::start(&world).await];
    let first = world.secrets().get("orders").await.unwrap();
    valid_everywhere(&replicas, &first).await;

    delete_account(&world, "orders-api").await;
    invalid_everywhere(&replicas, &text(&first, ID)).await;
    world.access_key_says("orders", READY, "False", reason::SERVICE_ACCOUNT_NOT_FOUND).await;
    assert_eq!(world.secrets().get("orders").await.unwrap().data, first.data, "no other one is made");

    // Made anew, it is somebody else.
    make_account(&world, "orders-api").await;
    let second = secret_when(&world, "orders", "to have another", |secret| text(secret, ID) != text(&first, ID)).await;
    world.access_key_ready("orders").await;
    world.event("orders", reason::ACCESS_KEY_REPLACED).await;
    valid_everywhere(&replicas, &second).await;
    assert!(replicas.iter().all(|replica| replica.answers(&text(&first, ID)).is_none()));

    // One that never existed is waited for.
    world.apply_access_key("sales", json!({"serviceAccountName": "sales-api"})).await;
    world.access_key_says("sales", READY, "False", reason::SERVICE_ACCOUNT_NOT_FOUND).await;
    assert!(world.secrets().get_opt("sales").await.unwrap().is_none());
    make_account(&world, "sales-api").await;
    world.access_key_ready("sales").await;
    operator.stop().await.unwrap();
}

/// A namespace with access keys goes without the operator, and the keys with it.
#[tokio::test]
async fn rule_6_a_namespace_does_not_wait_for_its_access_keys() {
    let (world, operator) = orders("ak-namespace", json!({})).await;
    let replica = Replica::start(&world).await;
    let id = text(&world.secrets().get("orders").await.unwrap(), ID);
    replica.valid(&id).await;
    operator.stop().await.unwrap();
    recreate_namespace(&world).await;
    replica.invalid(&id).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    assert!(namespaces.get(&world.namespace).await.unwrap().metadata.deletion_timestamp.is_none());
}

/// Nobody gets in by writing a record: it is not authentic.
#[tokio::test]
async fn section_1_a_record_that_somebody_else_wrote_is_not_valid() {
    let (world, operator) = orders("ak-forged", json!({})).await;
    let replica = Replica::start(&world).await;
    let id = text(&world.secrets().get("orders").await.unwrap(), ID);
    replica.valid(&id).await;
    let record = records(&world).await.remove(0);
    let mut forged = record.clone();
    let bytes = entry(&record, "record");
    let other = String::from_utf8(bytes).unwrap().replace(&id, "CMKAFORGED2222222222");
    forged.data.as_mut().unwrap().get_mut("record").unwrap().0 = other.into_bytes();
    let params = PostParams::default();
    // The operator's namespace in tests is not the one that the policies protect.
    world.operator_secrets().replace(&record.name_any(), &params, &forged).await.unwrap();
    replica.invalid(&id).await;
    assert!(replica.answers("CMKAFORGED2222222222").is_none());
    world.access_key_says("orders", STALLED, "True", reason::RECORD_TAMPERED).await;

    // Gone, another one is made and delivered.
    world.operator_secrets().delete(&record.name_any(), &DeleteParams::default()).await.unwrap();
    let secret = secret_when(&world, "orders", "to have another", |secret| text(secret, ID) != id).await;
    valid_everywhere(&[replica], &secret).await;
    world.access_key_ready("orders").await;
    operator.stop().await.unwrap();
}

fn access_keys(client: &Client, namespace: &str) -> Api<AccessKey> {
    Api::namespaced(client.clone(), namespace)
}

fn token(names: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"], "resourceNames": names})
}

#[tokio::test]
async fn rule_18_an_access_key_needs_create_on_the_token_of_its_service_account() {
    let world = World::new("ak-rights").await;
    let write = || rule(&["accesskeys", "accesskeys/status"], &WRITE, &[]);
    let client = user(&world, &world.namespace, "nobody", json!([write()])).await;
    let nobody = access_keys(&client, &world.namespace);
    let client = user(&world, &world.namespace, "maker", json!([write(), token(&["orders-api"])])).await;
    let maker = access_keys(&client, &world.namespace);
    let spec = |account: &str| json!({"serviceAccountName": account});

    let said = refused("an access key", async || apply(&nobody, "orders", "AccessKey", spec("orders-api")).await).await;
    for part in
        ["nobody", "spec.serviceAccountName", &format!("{}/orders-api", world.namespace), "serviceaccounts/token"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    refused("another's", async || apply(&maker, "sales", "AccessKey", spec("sales-api")).await).await;
    allowed("an access key", async || apply(&maker, "orders", "AccessKey", spec("orders-api")).await).await;

    // What makes another one, or delivers it elsewhere, needs it, too.
    let moved = json!({"serviceAccountName": "orders-api", "secret": {"name": "mine"}});
    refused("another Secret", async || apply(&nobody, "orders", "AccessKey", moved.clone()).await).await;
    let merge = |metadata: Value| Patch::Merge(json!({ "metadata": metadata }));
    let params = PatchParams::default();
    let rotate = merge(json!({"annotations": {metadata::ROTATE_REQUESTED_AT: "now"}}));
    refused("a rotation", async || nobody.patch("orders", &params, &rotate).await).await;
    allowed("a rotation", async || maker.patch("orders", &params, &rotate).await).await;
    let label = merge(json!({"labels": {"a": "b"}}));
    allowed("a label", async || nobody.patch("orders", &params, &label).await).await;

    let status = Patch::Merge(json!({"status": {"accessKeyId": "CMKAAAAABBBBCCCCDDDD"}}));
    let said = refused("status", async || maker.patch_status("orders", &params, &status).await).await;
    assert!(said.contains("only the operator") && said.contains("writes status"), "{said}");
    allowed("a deletion", async || nobody.delete("orders", &DeleteParams::default()).await).await;
}

#[tokio::test]
async fn rule_18_no_access_keys_beside_the_operator() {
    let world = World::new("ak-own").await;
    let api = access_keys(&world.client, OPERATOR_NAMESPACE);
    let spec = json!({"serviceAccountName": "cmk-operator"});
    let name = format!("own-{:08x}", rand::random::<u32>());
    let said = refused("an access key", async || apply(&api, &name, "AccessKey", spec.clone()).await).await;
    assert!(said.contains("refused in cmk-system"), "{said}");
}

/// Who may edit a namespace may make tokens of its ServiceAccounts, and so access keys; who may only look sees no secret.
#[tokio::test]
async fn rule_18_the_built_in_roles_have_access_keys() {
    let world = World::new("ak-roles").await;
    let bound = async |role: &str| {
        let name = format!("{role}-{}", world.namespace);
        let binding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        }))
        .unwrap();
        let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
            Api::namespaced(world.client.clone(), &world.namespace);
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        let client = world.bed.control_plane.client_as(&name, &["system:authenticated"]).await;
        access_keys(&client, &world.namespace)
    };
    let (viewer, editor) = (bound("view").await, bound("edit").await);
    let spec = json!({"serviceAccountName": "orders-api"});
    // The controller manager aggregates the roles, which takes a moment.
    allowed("an access key", async || apply(&editor, "orders", "AccessKey", spec.clone()).await).await;
    allowed("a look", async || viewer.get("orders").await).await;
    let refused = viewer.delete("orders", &DeleteParams::default()).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
}
