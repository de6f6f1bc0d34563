//! Rule 1, the hard way: the operator is killed (SIGKILL) at random moments while 200 keys and 200 data keys are
//! created, changed and deleted. Then it is counted: one record an object, every data key's Secret decrypts to
//! what was delivered first, nothing is left over.
//!
//! `CMK_KILL_SEED=… cargo test --test kill` repeats the decisions of a run, if not the API server's timing.

#![allow(clippy::unwrap_used, reason = "a test that fails stops, saying why")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::{
    api::{DataKey, conditions, metadata},
    kms::EncryptionContext,
    store::{Freshness, KeyStore},
};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
    runtime::{WatchStreamExt, watcher},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use support::{
    component::Component,
    eventually,
    world::{World, entry, key_id, record_json},
};

const OBJECTS: usize = 200;
/// Objects worked on at a time: about as many as the API server takes on two cores.
const AT_A_TIME: usize = 8;
/// How long the survivors may take to be as declared once nobody kills the operator any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_survives_being_killed_at_any_moment() {
    let seed = std::env::var("CMK_KILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("CMK_KILL_SEED={seed}");
    let world = World::new("kill").await;
    let seen = Arc::new(Deliveries::default());
    let watching = tokio::spawn(watch_deliveries(world.secrets(), seen.clone()));

    let calm = Arc::new(AtomicBool::new(false));
    let kills = Arc::new(AtomicUsize::new(0));
    let process = Process::of(&world);
    println!("the operator logs to {}", process.logs.display());
    let chaos = tokio::spawn(kill_again_and_again(process, seed, calm.clone(), kills.clone()));
    let expected: BTreeMap<usize, Fate> = stream::iter(0..OBJECTS)
        .map(|i| {
            let world = &world;
            async move { (i, live(world, i, StdRng::seed_from_u64(seed ^ (i as u64) << 32)).await) }
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    calm.store(true, Ordering::Release);
    let operator = chaos.await.unwrap();
    let kills = kills.load(Ordering::Acquire);
    println!("killed {kills} times");
    assert!(kills >= 20, "the test has to interrupt something");

    settle(&world, &expected).await;
    count(&world, &expected, &seen).await;
    watching.abort();
    drop(operator);
}

/// What became of the objects number `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    key: bool,
    data_key: bool,
}

/// One life: created, changed, deleted, applied again, as the dice fall.
async fn live(world: &World, i: usize, mut dice: StdRng) -> Fate {
    let (key, data_key) = (format!("key-{i}"), format!("dek-{i}"));
    let mut fate = Fate { key: true, data_key: true };
    // Who deletes both a DataKey and its Secret has given the data key up: the next one is another, and rightly.
    let mut secret_deleted = false;
    let policy = if i.is_multiple_of(4) { "Delete" } else { "Retain" };
    let spec = json!({"keyRef": {"name": key}, "secret": {"deletionPolicy": policy}});
    if dice.random_bool(0.5) {
        world.apply_key(&key, json!({})).await;
        world.apply_data_key(&data_key, spec.clone()).await;
    } else {
        world.apply_data_key(&data_key, spec.clone()).await;
        world.apply_key(&key, json!({})).await;
    }
    for turn in 0..dice.random_range(1..5) {
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..900))).await;
        match dice.random_range(0..6) {
            0 if fate.key => {
                // It waits for its data key (rule 6), which goes after it.
                world.keys().delete(&key, &DeleteParams::default()).await.unwrap();
                if fate.data_key {
                    world.data_keys().delete(&data_key, &DeleteParams::default()).await.unwrap();
                }
                fate = Fate { key: false, data_key: false };
            }
            1 if fate.data_key && !secret_deleted => {
                world.data_keys().delete(&data_key, &DeleteParams::default()).await.unwrap();
                fate.data_key = false;
            }
            2 if !fate.key => fate.key = apply_again(world, &key, json!({"description": "again"})).await,
            3 if fate.key && !fate.data_key && !secret_deleted && policy == "Retain" => {
                world.apply_data_key(&data_key, spec.clone()).await;
                fate.data_key = true;
            }
            4 if fate.key => {
                world.apply_key(&key, json!({"enabled": false, "description": format!("turn {turn}")})).await;
            }
            // Not before the data key is stored, or taken over from that very Secret.
            5 if fate.data_key && is_stored(world, &data_key).await => {
                secret_deleted = true;
                // It may not be there yet.
                let _ = world.secrets().delete(&data_key, &DeleteParams::default()).await;
            }
            _ => {}
        }
    }
    // All that survive are enabled in the end, so that their data keys can be delivered.
    if fate.key {
        world.apply_key(&key, json!({"enabled": true})).await;
    }
    fate
}

/// Whether a data key's ciphertext is in its status.
async fn is_stored(world: &World, name: &str) -> bool {
    let data_key = world.data_keys().get(name).await.unwrap();
    data_key.status.is_some_and(|status| status.ciphertext_blob.is_some())
}

/// An object that is still being deleted takes an apply and goes all the same: then it is tried again.
async fn apply_again(world: &World, name: &str, spec: Value) -> bool {
    eventually("the deleted object to be gone", SETTLED_WITHIN, async || {
        match world.keys().get_opt(name).await.map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(_) => Err(format!("{name} is still there")),
        }
    })
    .await;
    world.apply_key(name, spec).await;
    true
}

/// How the operator's process is started.
struct Process {
    namespace: String,
    watched: String,
    kubeconfig: PathBuf,
    /// Holds a directory with a log for each of its lives. Kept, to find out what happened.
    logs: PathBuf,
}

impl Process {
    fn of(world: &World) -> Self {
        Self {
            namespace: world.operator_namespace.clone(),
            watched: world.namespace.clone(),
            kubeconfig: world.operator_kubeconfig().to_owned(),
            logs: Path::new(env!("CARGO_TARGET_TMPDIR")).join(&world.namespace),
        }
    }

    /// Starts it. Dropped, it is killed with SIGKILL.
    fn start(&self, life: usize) -> Component {
        let directory = self.logs.join(life.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_cmk-operator"));
        let arguments = ["run", "--namespace", &self.namespace, "--watch-namespaces", &self.watched];
        Component::start_with("cmk-operator", binary, &directory, arguments, |command| {
            command
                .env("KUBECONFIG", &self.kubeconfig)
                .env("CMK_LOG_LEVEL", "info,cmk_operator=debug")
                .env_remove("https_proxy")
                .env_remove("HTTPS_PROXY");
        })
    }
}

/// Kills and restarts the operator until it is calm, and hands over the last one, which lives on.
async fn kill_again_and_again(
    process: Process,
    seed: u64,
    calm: Arc<AtomicBool>,
    kills: Arc<AtomicUsize>,
) -> Component {
    let mut dice = StdRng::seed_from_u64(seed);
    loop {
        let running = process.start(kills.load(Ordering::Acquire));
        // Starting takes some 300 ms in a debug build; some lives end before any work is done. They get longer, or on a slow
        // machine all would.
        let longest = 1200 + 20 * kills.load(Ordering::Acquire) as u64;
        tokio::time::sleep(Duration::from_millis(dice.random_range(100..longest))).await;
        if calm.load(Ordering::Acquire) {
            return running;
        }
        drop(running);
        kills.fetch_add(1, Ordering::AcqRel);
    }
}

/// Every plaintext that was ever seen in a Secret, by the Secret's name.
#[derive(Default)]
struct Deliveries(Mutex<BTreeMap<String, BTreeSet<Vec<u8>>>>);

async fn watch_deliveries(secrets: kube::Api<Secret>, seen: Arc<Deliveries>) {
    let config =
        watcher::Config::default().labels(&format!("{}={}", metadata::COMPONENT_LABEL, metadata::COMPONENT_DATA_KEY));
    let mut events = std::pin::pin!(watcher(secrets, config).default_backoff().applied_objects());
    while let Some(event) = events.next().await {
        // A watch that fails goes on by itself.
        let Ok(secret) = event else { continue };
        seen.0.lock().unwrap().entry(secret.name_any()).or_default().insert(entry(&secret, "plaintext"));
    }
}

/// Waits until every survivor is as declared.
async fn settle(world: &World, expected: &BTreeMap<usize, Fate>) {
    eventually("everything to settle", SETTLED_WITHIN, async || {
        let keys = world.keys().list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        let data_keys = world.data_keys().list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        let mut open = Vec::new();
        for (i, fate) in expected {
            let key = keys.iter().find(|k| k.name_any() == format!("key-{i}"));
            if key.is_some() != fate.key {
                open.push(format!("key-{i} exists: {}", key.is_some()));
            }
            let ready = |c: Option<&Vec<_>>| c.and_then(|c| conditions::find(c, conditions::READY)).cloned();
            if let Some(key) = key {
                let condition = ready(key.status.as_ref().map(|s| &s.conditions));
                let current = condition
                    .as_ref()
                    .is_some_and(|c| c.status == "True" && c.observed_generation == key.metadata.generation);
                if !current {
                    open.push(format!("key-{i}: {condition:?}"));
                }
            }
            let data_key = data_keys.iter().find(|k| k.name_any() == format!("dek-{i}"));
            if data_key.is_some() != fate.data_key {
                open.push(format!("dek-{i} exists: {}", data_key.is_some()));
            }
            if let Some(data_key) = data_key.filter(|_| fate.key) {
                let condition = ready(data_key.status.as_ref().map(|s| &s.conditions));
                if condition.as_ref().is_none_or(|c| c.status != "True") {
                    open.push(format!("dek-{i}: {condition:?}"));
                }
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("{} open: {:#?}", open.len(), &open[..open.len().min(10)])) }
    })
    .await;
}

/// Counts.
async fn count(world: &World, expected: &BTreeMap<usize, Fate>, seen: &Deliveries) {
    let store = world.store().await;

    // Records: exactly one for each object, and none that belongs to nobody and was not let go.
    let left_over = eventually("records without an object to be forgotten", SETTLED_WITHIN, async || {
        let mut by_owner: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for secret in world.records().await {
            store.verify(&secret).map_err(|e| e.to_string())?;
            let record = record_json(&secret);
            by_owner.entry(record["owner"]["name"].as_str().unwrap().to_owned()).or_default().push(record);
        }
        for (i, fate) in expected {
            let records = by_owner.remove(&format!("key-{i}")).unwrap_or_default();
            assert!(records.len() <= 1, "key-{i} has {} records", records.len());
            match (fate.key, records.first()) {
                (true, None) => panic!("key-{i} has no record"),
                (true, Some(record)) => {
                    let key = world.keys().get(&format!("key-{i}")).await.unwrap();
                    assert_eq!(record["keyId"], key_id(&key), "key-{i}");
                    assert_eq!(record["owner"]["released"], false, "key-{i}");
                    assert_eq!(record["deletion"], Value::Null, "key-{i}");
                }
                (false, None) => {}
                (false, Some(record)) if record["owner"]["released"] == true => {
                    assert!(record["deletion"].is_object(), "key-{i} was deleted, so its key is scheduled");
                }
                (false, Some(record)) => return Err(format!("key-{i} left {record}")),
            }
        }
        Ok(by_owner)
    })
    .await;
    assert!(left_over.is_empty(), "{left_over:?}");

    // Data keys: one plaintext ever, and the ciphertext in status decrypts to it.
    let deliveries = seen.0.lock().unwrap().clone();
    for (name, plaintexts) in &deliveries {
        assert_eq!(plaintexts.len(), 1, "{name} was delivered with different plaintexts");
    }
    let mut checked = 0;
    for (i, fate) in expected.iter().filter(|(_, fate)| fate.key && fate.data_key) {
        let name = format!("dek-{i}");
        let data_key: DataKey = world.data_keys().get(&name).await.unwrap();
        let secret = world.secrets().get(&name).await.unwrap();
        let first = deliveries[&name].first().unwrap();
        assert_eq!(&entry(&secret, "plaintext"), first, "{name}");
        let slot = world.slot(&format!("key-{i}"));
        let key = store.find(&slot, Freshness::Live).await.unwrap().current.unwrap();
        let blob = BASE64_STANDARD.decode(data_key.status.unwrap().ciphertext_blob.unwrap()).unwrap();
        let context = EncryptionContext::new().with_entry(metadata::DATA_KEY, format!("{}/{name}", world.namespace));
        let opened = store.decrypt(&key, &context.unwrap(), &blob).await.unwrap();
        assert!(opened.ct_eq(first), "{name} decrypts to something else");
        assert!(fate.key);
        checked += 1;
    }
    println!("{checked} data keys decrypt to what was delivered first");

    // Secrets: those that were to go with their DataKeys are gone.
    eventually("deleted data keys' Secrets to be collected", SETTLED_WITHIN, async || {
        for (i, fate) in expected.iter().filter(|(i, fate)| i.is_multiple_of(4) && !fate.data_key) {
            let left = world.secrets().get_opt(&format!("dek-{i}")).await.map_err(|e| e.to_string())?;
            if left.is_some() {
                return Err(format!("dek-{i} ({fate:?}) left its Secret"));
            }
        }
        Ok(())
    })
    .await;
}
