//! Rules 1, 5 and 12: identity survives a restore in whatever order the objects come back: without status, owner
//! references and UIDs; records before or after objects; Secrets left out; of one namespace or of a whole cluster.
//! `docs/backup-and-restore.md` is the page for users.

use cmk_operator::{
    api::{
        conditions::{STALLED, reason},
        metadata,
    },
    runtime::operator::{OperatorError, Settings},
    store::embedded::root_key::RootKeyError,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::{
    backup::{Backup, Facts, Part, as_before, facts, lose_namespace, lose_objects, lose_secrets},
    helpers::{external, material, merge, verify},
    rule_12_rotation::{request, rotated},
    support::{
        eventually,
        world::{Operator, SOON, World, gone, key_id, private_bed, record_json},
    },
};

/// Keys of every sort, and data keys under them. Everything about them.
async fn populate(world: &World) {
    material(world, "material", &[7; 32]).await;
    let rotating =
        json!({"alias": "orders", "description": "Orders", "tags": {"team": "a"}, "rotationIntervalDays": 400});
    for (name, spec) in [
        ("orders", rotating),
        ("disabled", json!({"enabled": false, "alias": "off"})),
        ("pending", json!({"scheduleDeletion": true, "pendingDeletionDays": 30})),
        ("erased", json!({"scheduleDeletion": true, "pendingDeletionDays": 7})),
        ("imported", external("material")),
        ("waiting", json!({"origin": "EXTERNAL"})),
    ] {
        world.apply_key(name, spec).await;
    }
    for name in ["orders", "disabled", "pending", "erased", "imported", "waiting"] {
        world.key_ready(name).await;
    }
    for (name, spec) in [
        ("reports", json!({"keyRef": {"name": "orders"}, "encryptionContext": {"app": "shop"}})),
        ("cache", json!({"keyRef": {"name": "orders"}, "secret": {"deletionPolicy": "Delete"}})),
        ("sealed", json!({"keyRef": {"name": "orders"}, "withoutPlaintext": true})),
        ("fixed", json!({"keyRef": {"name": "orders"}, "secret": {"immutable": true, "encoding": "Hex"}})),
        ("under-imported", json!({"keyRef": {"name": "imported"}, "numberOfBytes": 7})),
    ] {
        world.apply_data_key(name, spec).await;
        world.data_key_ready(name).await;
    }
    // Two versions, and a data key with three before it, of which its Secret has one.
    world.annotate_key("orders", json!({metadata::ROTATE_REQUESTED_AT: "1"})).await;
    eventually("orders to be rotated", SOON, async || {
        let status = world.keys().get("orders").await.map_err(|e| e.to_string())?.status.unwrap();
        if status.key_versions.len() == 2 { Ok(()) } else { Err("one version".to_owned()) }
    })
    .await;
    for times in 1..=3 {
        world.clock.advance_days(1);
        request(world, "reports", &times.to_string()).await;
        rotated(world, "reports", times).await;
    }
    world.clock.advance_days(8);
    world.key_says("erased", STALLED, "True", reason::KEY_DELETED).await;
}

/// A world with all of that, its backup, and what there is to be found again. The operator is gone.
async fn backed_up(world: &World, operator: Operator) -> (Backup, Facts) {
    populate(world).await;
    operator.stop().await.unwrap();
    (Backup::take(world).await, facts(world).await.unwrap())
}

/// What happens in a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Restore(Part),
    Start,
    StartPaused,
    Stop,
    /// The administrator lets the namespace adopt the keys of its predecessor.
    AllowAdoption,
    /// The key `orders` is Stalled for this reason.
    Stalled(&'static str),
    /// `cmk-operator verify` finds everything in order.
    Verified,
    /// The operator refuses to start, and makes no root key.
    Refused,
}
use Act::{AllowAdoption, Refused, Restore, Stalled, Start, StartPaused, Stop, Verified};
use Part::{Aliases, DataKeys, Delivered, Keys, OperatorNamespace, OtherSecrets, Records, RootKey};

/// Goes through a restore, at the end of which an operator runs, and everything has to be as it was.
async fn restore(world: &World, name: &str, course: &[Act], backup: &Backup, before: &Facts) {
    let mut operator = None;
    for act in course {
        eprintln!("{name}: {act:?}");
        match *act {
            Restore(part) => backup.restore(&world.client, part).await,
            Start => operator = Some(world.start().await),
            StartPaused => {
                operator = Some(world.start_with(Settings { no_new_keys: true, ..world.settings() }).await);
            }
            Stop => operator.take().unwrap().stop().await.unwrap(),
            AllowAdoption => {
                let namespaces: Api<Namespace> = Api::all(world.client.clone());
                let annotation = json!({"metadata": {"annotations": {metadata::ADOPT_KEYS: "true"}}});
                merge(&namespaces, &world.namespace, annotation).await;
            }
            Verified => {
                let (code, text) = verify(world, &[]);
                assert_eq!(code, Some(0), "{text}");
            }
            Refused => {
                let ended = world.launch(world.settings()).await.ended().await;
                assert!(matches!(ended, OperatorError::RootKey(RootKeyError::Missing { .. })), "{ended}");
            }
            Stalled(reason) => drop(world.key_says("orders", STALLED, "True", reason).await),
        }
    }
    as_before(world, name, before).await;
    operator.unwrap().stop().await.unwrap();
}

/// The namespace stays, its objects come back: in any order, with the operator at work meanwhile, or only then.
#[tokio::test]
async fn rule_1_restored_objects_have_the_same_keys_in_any_order() {
    let (world, operator) = World::with_operator("restore-objects").await;
    let (backup, before) = backed_up(&world, operator).await;
    for (name, course) in [
        ("keys first", &[Start, Restore(Keys), Restore(DataKeys), Restore(Delivered), Restore(OtherSecrets)][..]),
        (
            "Velero's order: Secrets first, and the operator runs",
            &[Start, Restore(OtherSecrets), Restore(Delivered), Restore(Keys), Restore(DataKeys)],
        ),
        (
            "data keys before keys",
            &[Start, Restore(Delivered), Restore(DataKeys), Restore(OtherSecrets), Restore(Keys)],
        ),
        (
            "all before the operator",
            &[Restore(DataKeys), Restore(Keys), Restore(Delivered), Restore(OtherSecrets), Start],
        ),
        ("Secrets left out", &[Start, Restore(DataKeys), Restore(Keys)]),
    ] {
        lose_objects(&world).await;
        restore(&world, name, course, &backup, &before).await;
    }
}

/// Records and aliases were lost as well, but not the root key.
#[tokio::test]
async fn rule_1_records_come_back_before_or_after_the_objects() {
    let (world, operator) = World::with_operator("restore-records").await;
    let (backup, before) = backed_up(&world, operator).await;
    let missing = Stalled(reason::KEY_RECORD_MISSING);
    for (name, course) in [
        (
            "objects first, and the operator runs",
            &[
                Start,
                Restore(Keys),
                Restore(DataKeys),
                Restore(Delivered),
                missing,
                Restore(OtherSecrets),
                Restore(Records),
                Restore(Aliases),
            ][..],
        ),
        (
            "records first, aliases left out: claimed again",
            &[Restore(Records), Start, Restore(Keys), Restore(Delivered), Restore(DataKeys), Restore(OtherSecrets)],
        ),
        (
            "aliases before records",
            &[Start, Restore(Aliases), Restore(Keys), missing, Restore(Records), Restore(Delivered), Restore(DataKeys)],
        ),
        (
            "objects first, aliases and Secrets left out, and the operator restarts",
            &[Restore(DataKeys), Restore(Keys), Start, missing, Stop, Restore(Records), Start],
        ),
    ] {
        lose_objects(&world).await;
        let is_stored = |type_: Option<&str>| matches!(type_, Some(metadata::KEY_RECORD_TYPE | metadata::ALIAS_TYPE));
        lose_secrets(&world.operator_secrets(), |secret| is_stored(secret.type_.as_deref())).await;
        restore(&world, name, course, &backup, &before).await;
    }
}

/// One namespace is made anew, with another UID, and gets its keys back once an administrator says so.
#[tokio::test]
async fn rule_5_a_restored_namespace_has_the_same_keys_once_it_may_adopt_them() {
    let (world, operator) = World::with_operator("restore-namespace").await;
    with_service_key(&world).await;
    let (backup, before) = backed_up(&world, operator).await;
    let namespace = Restore(Part::Namespace);
    let recreated = Stalled(reason::NAMESPACE_RECREATED);
    for (name, course) in [
        (
            "objects, then the permission",
            &[
                Start,
                namespace,
                Restore(OtherSecrets),
                Restore(Delivered),
                Restore(Keys),
                Restore(DataKeys),
                recreated,
                AllowAdoption,
            ][..],
        ),
        (
            "the permission, then objects, data keys first",
            &[namespace, AllowAdoption, Start, Restore(DataKeys), Restore(Delivered), Restore(Keys)],
        ),
        ("Secrets left out", &[namespace, Start, Restore(DataKeys), Restore(Keys), recreated, AllowAdoption]),
    ] {
        lose_namespace(&world).await;
        restore(&world, name, course, &backup, &before).await;
    }
}

/// The namespace was deleted in an orderly way, with the operator at work, which let its keys go and had them scheduled for
/// deletion. Restored in the window, they are as they were.
#[tokio::test]
async fn rule_5_keys_that_were_let_go_with_their_namespace_come_back_with_it() {
    let (world, operator) = World::with_operator("restore-let-go").await;
    with_service_key(&world).await;
    let (backup, before) = backed_up(&world, operator).await;
    let operator = world.start().await;
    delete_namespace(&world, &world.namespace).await;
    let records = world.records().await;
    assert!(records.iter().all(|record| record_json(record)["owner"]["released"] == true));
    operator.stop().await.unwrap();
    let course = [Start, Restore(Part::Namespace), Restore(OtherSecrets), Restore(Delivered), Restore(Keys)];
    let course = course.into_iter().chain([Restore(DataKeys), Stalled(reason::NAMESPACE_RECREATED), AllowAdoption]);
    restore(&world, "let go", &course.collect::<Vec<_>>(), &backup, &before).await;
}

async fn delete_namespace(world: &World, name: &str) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    gone(&namespaces, name).await;
}

/// A DataKey without keyRef, under the service key of the namespace.
async fn with_service_key(world: &World) {
    world.apply_data_key("own", json!({})).await;
    world.data_key_ready("own").await;
}

/// Everything is lost, and restored in another cluster.
#[tokio::test]
async fn rule_1_a_cluster_is_rebuilt_with_the_same_keys() {
    let (world, operator) = World::with_operator("restore-cluster").await;
    with_service_key(&world).await;
    let (backup, before) = backed_up(&world, operator).await;
    let bed = private_bed().await;
    let other = World { bed, client: bed.control_plane.admin_client().await, ..world.clone() };
    let namespace = Restore(Part::Namespace);
    let recreated = Stalled(reason::NAMESPACE_RECREATED);
    for (name, course) in [
        (
            "as the page says: root key, records, objects",
            &[
                Restore(OperatorNamespace),
                Restore(RootKey),
                Restore(Records),
                Restore(Aliases),
                Verified,
                StartPaused,
                namespace,
                Restore(OtherSecrets),
                Restore(Delivered),
                Restore(Keys),
                Restore(DataKeys),
                recreated,
                AllowAdoption,
                Stop,
                Start,
            ][..],
        ),
        (
            "the other way round, aliases left out",
            &[
                namespace,
                AllowAdoption,
                Restore(DataKeys),
                Restore(Keys),
                Restore(OperatorNamespace),
                Refused,
                Restore(RootKey),
                Start,
                Stalled(reason::KEY_RECORD_MISSING),
                Restore(Records),
                Restore(Delivered),
                Restore(OtherSecrets),
            ],
        ),
    ] {
        restore(&other, name, course, &backup, &before).await;
        lose_namespace(&other).await;
        delete_namespace(&other, &other.operator_namespace).await;
    }
}

/// With `--no-new-keys` an object that comes back before its record, and has lost its annotation too, as where only
/// manifests are kept (GitOps), gets no new key meanwhile.
#[tokio::test]
async fn rule_20_manifests_alone_find_their_keys_when_the_records_are_there() {
    let (world, operator) = World::with_operator("restore-gitops").await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    let id = key_id(&world.key_ready("orders").await);
    operator.stop().await.unwrap();
    let backup = Backup::take(&world).await;
    lose_objects(&world).await;
    lose_secrets(&world.operator_secrets(), |secret| secret.type_.as_deref() != Some(metadata::ROOT_KEY_TYPE)).await;

    let operator = world.start_with(Settings { no_new_keys: true, ..world.settings() }).await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    world.key_says("orders", STALLED, "True", reason::CREATION_PAUSED).await;
    backup.restore(&world.client, Records).await;
    let key = world.key_ready("orders").await;
    assert_eq!((key_id(&key), key.status.unwrap().alias.as_deref()), (id, Some("alias/orders")));
    operator.stop().await.unwrap();
}
