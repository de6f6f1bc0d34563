//! Section 4 of the design: a new first root key rewraps everything in the background, and interrupted at any point it
//! goes on. `docs/root-key.md` is the page for users; the steps here are the ones there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::{
    api::{
        conditions::{STALLED, reason},
        metadata,
    },
    crypto::{RootKey, SystemRandom},
    runtime::operator::Settings,
    store::{
        KeyStore,
        embedded::{EmbeddedStore, root_key},
    },
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    helpers::{another_pass, blob, complete_context, external, material, operator_cluster, passes, stored_key, verify},
    support::{
        eventually,
        world::{Operator, SOON, World, entry, succeed},
    },
};

const GAUGE: &str = "cmk_records_under_old_root_key";

/// A root key in a file.
struct RootKeyFile {
    path: PathBuf,
    id: Uuid,
}

impl RootKeyFile {
    fn new(folder: &tempfile::TempDir, name: &str, line: &str) -> Self {
        let path = folder.path().join(name);
        std::fs::write(&path, line).unwrap();
        let id = RootKey::from_base64_line(line).unwrap().id().into();
        Self { path, id }
    }
}

/// The root key that was generated, as the page says to get it, and a new one, in files.
fn old_and_new(world: &World, folder: &tempfile::TempDir) -> [RootKeyFile; 2] {
    let line = succeed(&mut world.kubectl(&[
        "get",
        "secret",
        metadata::ROOT_KEY_SECRET,
        "-n",
        &world.operator_namespace,
        "-o",
        "jsonpath={.data.key}",
    ]));
    let new = BASE64_STANDARD.encode(RootKey::generate(&SystemRandom).unwrap().expose());
    [RootKeyFile::new(folder, "old", &line), RootKeyFile::new(folder, "new", &new)]
}

fn settings(world: &World, files: &[&RootKeyFile]) -> Settings {
    Settings { root_key_files: files.iter().map(|file| file.path.clone()).collect(), ..world.settings() }
}

/// The key store as it is opened with these root keys alone.
async fn store_with(world: &World, files: &[&RootKeyFile]) -> EmbeddedStore<cmk_operator::cluster::KubeCluster> {
    let ring = root_key::from_files(&settings(world, files).root_key_files).unwrap().unwrap();
    let cluster = operator_cluster(world).await;
    EmbeddedStore::new(
        &world.operator_namespace,
        cluster,
        ring.into(),
        world.clock.clone(),
        std::sync::Arc::new(SystemRandom),
    )
}

async fn claims(world: &World) -> Vec<Secret> {
    let params = ListParams::default().fields(&format!("type={}", metadata::ALIAS_TYPE));
    world.operator_secrets().list(&params).await.unwrap().items
}

/// How many records and claims need each root key. Fails where one can't be used with these.
async fn needs(world: &World, files: &[&RootKeyFile]) -> BTreeMap<Uuid, usize> {
    let store = store_with(world, files).await;
    let mut needs = BTreeMap::new();
    let mut count = |ids: BTreeSet<Uuid>| ids.into_iter().for_each(|id| *needs.entry(id).or_default() += 1);
    for record in world.records().await {
        count(store.verify(&record).unwrap().root_keys);
    }
    for claim in claims(world).await {
        count([store.verify_alias(&claim).unwrap().1].into());
    }
    needs
}

/// Starts an operator, and ends it in the middle of whatever it does once it has written so many records or aliases.
async fn crash_after(world: &World, settings: Settings, writes: usize) {
    let api = world.operator_secrets();
    let start = api.list(&ListParams::default().limit(1)).await.unwrap().metadata.resource_version.unwrap();
    let mut changes = api.watch(&WatchParams::default().timeout(60), &start).await.unwrap().boxed();
    let operator = world.launch(settings).await;
    let mut seen = 0;
    while seen < writes {
        match changes.next().await.expect("the operator to rewrap before the watch ends").unwrap() {
            WatchEvent::Modified(_) => seen += 1,
            WatchEvent::Bookmark(_) => {}
            other => panic!("only changes: {other:?}"),
        }
    }
    operator.crash().await;
}

/// Waits until nothing is left under another root key, as the metric says.
async fn nothing_left(operator: &Operator) {
    eventually("everything to be under the first root key", SOON, async || {
        let metrics = operator.metrics.render();
        metrics.contains(&format!("{GAUGE} 0\n")).then_some(()).ok_or(metrics)
    })
    .await;
}

/// Keys of every sort: with several versions, an alias, imported material, pending deletion, erased, let go.
async fn populate(world: &World) -> Vec<String> {
    let plain: Vec<_> = (0..16).map(|i| format!("plain-{i}")).collect();
    let rotated: Vec<_> = (0..4).map(|i| format!("rotated-{i}")).collect();
    let imported: Vec<_> = (0..3).map(|i| format!("imported-{i}")).collect();
    let pending: Vec<_> = (0..2).map(|i| format!("pending-{i}")).collect();
    let erased: Vec<_> = (0..3).map(|i| format!("erased-{i}")).collect();
    material(world, "material", &[7; 32]).await;
    for name in plain.iter().chain(&rotated) {
        world.apply_key(name, json!({"alias": name})).await;
    }
    for name in &imported {
        world.apply_key(name, external("material")).await;
    }
    for (names, days) in [(&pending, 300), (&erased, 7)] {
        for name in names {
            world.apply_key(name, json!({"scheduleDeletion": true, "pendingDeletionDays": days})).await;
        }
    }
    for name in ["released-0", "released-1"] {
        world.apply_key(name, json!({"alias": name})).await;
    }
    for name in plain.iter().chain(&rotated).chain(&imported).chain(&pending).chain(&erased) {
        world.key_ready(name).await;
    }
    for name in ["released-0", "released-1"] {
        world.key_ready(name).await;
        world.delete_key(name).await;
    }
    world.apply_key("imported-2", json!({"origin": "EXTERNAL"})).await;
    world.key_ready("imported-2").await;
    for name in &rotated {
        world.annotate_key(name, json!({metadata::ROTATE_REQUESTED_AT: "now"})).await;
    }
    for name in &rotated {
        eventually(&format!("{name} to have two versions"), SOON, async || {
            let key = world.keys().get(name).await.map_err(|e| e.to_string())?;
            let versions = key.status.map_or(0, |status| status.key_versions.len());
            if versions == 2 { Ok(()) } else { Err(format!("it has {versions}")) }
        })
        .await;
    }
    world.clock.advance_days(8);
    for name in &erased {
        world.key_says(name, STALLED, "True", reason::KEY_DELETED).await;
    }
    plain.into_iter().chain(rotated).chain(imported).chain(pending).collect()
}

/// The resource versions of everything in the namespace of the test.
async fn versions(world: &World) -> BTreeMap<String, String> {
    fn of<K: ResourceExt>(objects: Vec<K>, kind: &str) -> impl Iterator<Item = (String, String)> {
        objects.into_iter().map(move |o| (format!("{kind}/{}", o.name_any()), o.resource_version().unwrap()))
    }
    let all = ListParams::default();
    of(world.keys().list(&all).await.unwrap().items, "key")
        .chain(of(world.data_keys().list(&all).await.unwrap().items, "data key"))
        .chain(of(world.secrets().list(&all).await.unwrap().items, "secret"))
        .collect()
}

#[tokio::test]
async fn section_4_a_new_first_root_key_rewraps_everything_through_any_interruption() {
    let (world, operator) = World::with_operator("s4-rewrap").await;
    let names = populate(&world).await;
    for key in ["plain-0", "rotated-0", "imported-0"] {
        world.apply_data_key(key, json!({"keyRef": {"name": key}})).await;
        world.data_key_ready(key).await;
    }
    operator.stop().await.unwrap();
    let before = versions(&world).await;
    let (records, aliases) = (world.records().await.len(), claims(&world).await.len());
    assert_eq!((names.len(), records, aliases), (25, 30, 20));

    let folder = tempfile::tempdir().unwrap();
    let [old, new] = old_and_new(&world, &folder);
    let (forwards, backwards) = (settings(&world, &[&new, &old]), settings(&world, &[&old, &new]));
    let total = records + aliases;
    for (turn, writes) in [(&forwards, 1), (&forwards, 12), (&backwards, 10), (&forwards, 7)] {
        crash_after(&world, turn.clone(), writes).await;
        // Nothing is lost at any time: every record unwraps, under the one root key or the other.
        let needs = needs(&world, &[&new, &old]).await;
        assert_eq!(needs.values().sum::<usize>(), total, "each is under one root key, whole: {needs:?}");
        eprintln!("interrupted after at least {writes} writes: {needs:?}");
    }
    // Back to the old one, as if it had never been tried.
    let operator = world.start_with(backwards).await;
    nothing_left(&operator).await;
    operator.stop().await.unwrap();
    assert_eq!(needs(&world, &[&old]).await, [(old.id, total)].into());

    crash_after(&world, forwards.clone(), 20).await;
    let operator = world.start_with(forwards).await;
    nothing_left(&operator).await;
    operator.stop().await.unwrap();
    assert_eq!(needs(&world, &[&new]).await, [(new.id, total)].into());
    assert_eq!(versions(&world).await, before, "no object was written");

    // What was generated is needed no more, and the new one alone does.
    world.operator_secrets().delete(metadata::ROOT_KEY_SECRET, &DeleteParams::default()).await.unwrap();
    let operator = world.start_with(settings(&world, &[&new])).await;
    let store = store_with(&world, &[&new]).await;
    for key in ["plain-0", "rotated-0", "imported-0"] {
        let (data_key, secret) = (world.data_keys().get(key).await.unwrap(), world.secrets().get(key).await.unwrap());
        let context = complete_context(&world.namespace, key, &[]);
        let ciphertext = BASE64_STANDARD.decode(blob(&data_key)).unwrap();
        let master = stored_key(&world, &store, key).await;
        let opened = store.decrypt(&master, &context, &ciphertext).await.unwrap();
        assert_eq!(opened.expose(), entry(&secret, "plaintext"), "{key}");
    }
    world.apply_key("imported-2", external("material")).await;
    world.key_ready("imported-2").await;
    world.apply_key("plain-1", json!({"alias": "moved"})).await;
    world.key_ready("plain-1").await;
    world.apply_data_key("later", json!({"keyRef": {"name": "plain-1"}})).await;
    world.data_key_ready("later").await;
    assert!(world.operator_secrets().get_opt(metadata::ROOT_KEY_SECRET).await.unwrap().is_none());
    operator.stop().await.unwrap();

    // Started without files by mistake, it makes no root key of its own.
    let ended = world.launch(world.settings()).await.ended().await;
    assert!(ended.to_string().contains("30 key records exist"), "{ended}");
}

/// Without a restart: a backup of a record and an alias from before comes in while the operator runs.
#[tokio::test]
async fn section_4_what_is_restored_from_under_the_old_root_key_is_rewrapped_too() {
    let (world, operator) = World::with_operator("s4-restored").await;
    world.apply_key("orders", json!({"alias": "orders"})).await;
    world.key_ready("orders").await;
    operator.stop().await.unwrap();
    let (record, claim) = (world.records().await.remove(0), claims(&world).await.remove(0));
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = old_and_new(&world, &folder);
    let files = [&new, &old];
    let operator = world.start_with(settings(&world, &files)).await;
    nothing_left(&operator).await;
    assert_eq!(needs(&world, &files).await, [(new.id, 2)].into());
    let before = world.keys().get("orders").await.unwrap();

    for backup in [record, claim] {
        restore_over(&world.operator_secrets(), &backup).await;
    }
    eventually("both to be rewrapped", SOON, async || {
        let needs = needs(&world, &files).await;
        if needs == [(new.id, 2)].into() { Ok(()) } else { Err(format!("{needs:?}")) }
    })
    .await;
    nothing_left(&operator).await;
    let seen = passes(&operator.metrics, "CustomerMasterKey");
    world.annotate_key("orders", json!({"example.com/look": "again"})).await;
    another_pass(&operator.metrics, "CustomerMasterKey", seen).await;
    let after = world.key_ready("orders").await;
    assert_eq!(serde_json::to_value(&after.status).unwrap(), serde_json::to_value(&before.status).unwrap());
    operator.stop().await.unwrap();
}

/// Puts what is in a backup into the Secret of its name.
async fn restore_over(api: &Api<Secret>, backup: &Secret) {
    let mut now = api.get(&backup.name_any()).await.unwrap();
    now.data.clone_from(&backup.data);
    api.replace(&backup.name_any(), &PostParams::default(), &now).await.unwrap();
}

/// What a person sees who wants to know whether the old root key may go.
#[tokio::test]
async fn section_4_verify_says_which_root_key_is_still_needed() {
    let (world, operator) = World::with_operator("s4-verify").await;
    for name in ["a", "b", "c"] {
        world.apply_key(name, json!({"alias": name})).await;
        world.key_ready(name).await;
    }
    operator.stop().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = old_and_new(&world, &folder);
    let told = |files: &[&RootKeyFile]| {
        let files = files.iter().flat_map(|file| ["--root-key-file", file.path.to_str().unwrap()]);
        verify(&world, &files.collect::<Vec<_>>())
    };
    let good =
        "3 keys unwrap, 0 tombstones are authentic, 0 records are not usable; 3 aliases are authentic, 0 are not";
    let (code, text) = told(&[&new, &old]);
    assert!(code == Some(0) && text.contains(good), "{text}");
    assert!(
        text.contains(&format!("root key {}: 3 records, 3 aliases and 0 access keys still need it", old.id)),
        "{text}"
    );
    assert!(
        text.contains(&format!("root key {}: the first: 0 records, 0 aliases and 0 access keys", new.id)),
        "{text}"
    );

    // In the middle.
    let store = store_with(&world, &[&new, &old]).await;
    for record in world.records().await {
        store.note(&record);
    }
    store.rewrap(&store.stale()[0]).await.unwrap();
    let (code, text) = told(&[&new, &old]);
    assert!(code == Some(0) && text.contains(good), "{text}");
    assert!(
        text.contains(&format!("root key {}: 2 records, 3 aliases and 0 access keys still need it", old.id)),
        "{text}"
    );
    // Without the old one it says what would be lost.
    let (code, text) = told(&[&new]);
    assert!(code == Some(1) && text.contains("1 keys unwrap") && text.contains(&old.id.to_string()), "{text}");
    assert!(text.contains("2 records are not usable; 0 aliases are authentic, 3 are not"), "{text}");

    let operator = world.start_with(settings(&world, &[&new, &old])).await;
    nothing_left(&operator).await;
    operator.stop().await.unwrap();
    let (code, text) = told(&[&new, &old]);
    assert!(code == Some(0) && text.contains(&format!("root key {}: nothing needs it", old.id)), "{text}");
    let (code, text) = told(&[&new]);
    assert!(code == Some(0) && text.contains(good), "{text}");
}

#[tokio::test]
async fn section_4_access_keys_move_to_the_new_root_key() {
    let (world, operator) = World::with_operator("s4-access-keys").await;
    let account: k8s_openapi::api::core::v1::ServiceAccount =
        serde_json::from_value(json!({"metadata": {"name": "orders-api"}})).unwrap();
    Api::namespaced(world.client.clone(), &world.namespace).create(&PostParams::default(), &account).await.unwrap();
    world.apply_access_key("orders", json!({"serviceAccountName": "orders-api"})).await;
    world.access_key_ready("orders").await;
    let delivered = world.secrets().get("orders").await.unwrap().data;
    operator.stop().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = old_and_new(&world, &folder);
    let operator = world.start_with(settings(&world, &[&new, &old])).await;
    nothing_left(&operator).await;
    operator.stop().await.unwrap();

    let (code, text) = verify(&world, &["--root-key-file", new.path.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("1 access keys open, 0 do not"), "{text}");
    let (code, text) = verify(&world, &["--root-key-file", old.path.to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("0 access keys open, 1 do not"), "{text}");
    // The same access key as before.
    let operator = world.start_with(settings(&world, &[&new])).await;
    world.secrets().delete("orders", &DeleteParams::default()).await.unwrap();
    eventually("the Secret to be restored", SOON, async || {
        world.secrets().get_opt("orders").await.map_err(|e| e.to_string())?.ok_or_else(|| "it is not there".to_owned())
    })
    .await;
    assert_eq!(world.secrets().get("orders").await.unwrap().data, delivered);
    operator.stop().await.unwrap();
}
