//! Rule 14: Secrets of others are never overwritten, and nothing about a plaintext shows anywhere else.

use std::{
    io::Write,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use cmk_operator::api::conditions::{READY, STALLED, reason};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing_subscriber::{filter::Targets, prelude::*};

use crate::{
    helpers::{PLAINTEXT, blob, condition, conditions_of, deleted_and_restored, foreign_secret, later_event, merge},
    support::{
        eventually,
        world::{World, entry},
    },
};

/// What the operators of this process log, once somebody has asked for it.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static STARTED: OnceLock<()> = OnceLock::new();
    struct Writer;
    impl Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    STARTED.get_or_init(|| {
        let levels: Targets =
            "warn,cmk_operator=trace,kube=debug,kube_client=trace,kube_runtime=trace".parse().unwrap();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Writer);
        tracing_subscriber::registry().with(levels).with(lines).init();
    });
    &LOG
}

#[tokio::test]
async fn rule_14_a_secret_of_somebody_else_is_never_overwritten() {
    let (world, operator) = World::with_operator("r14-conflict").await;
    world.apply_key("orders", json!({})).await;
    let foreign = foreign_secret(&world, "dek").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let blocked = world.data_key_says("dek", STALLED, "True", reason::SECRET_CONFLICT).await;
    let message = &condition(conditions_of(&blocked), READY).message;
    assert!(message.contains("Secret dek exists") && message.contains("spec.secret.name"), "{message}");
    world.event("dek", reason::SECRET_CONFLICT).await;

    // Neither by another spec, nor where it would be deleted with the DataKey, nor by a change of its own.
    for secret in [json!({"encoding": "Hex"}), json!({"deletionPolicy": "Delete"}), json!({"immutable": true})] {
        world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}, "secret": secret})).await;
        world.data_key_says("dek", STALLED, "True", reason::SECRET_CONFLICT).await;
    }
    later_event(&world, "orders").await;
    let now = world.secrets().get("dek").await.unwrap();
    assert!(now.metadata == foreign.metadata && now.data == foreign.data, "not touched");

    // Delivered when it goes away, though nothing tells: the operator looks again after growing intervals.
    world.secrets().delete("dek", &DeleteParams::default()).await.unwrap();
    eventually("the data key to be delivered", Duration::from_secs(60), async || {
        let secret = world.secrets().get_opt("dek").await.map_err(|e| e.to_string())?;
        secret.map(drop).ok_or_else(|| "no Secret".to_owned())
    })
    .await;
    assert_eq!(blob(&world.data_key_ready("dek").await), blob(&blocked), "the one that was stored");
    operator.stop().await.unwrap();
}

/// One whose label was removed is nobody's, so it is not ours.
#[tokio::test]
async fn rule_14_a_secret_without_our_label_is_somebody_elses() {
    let (world, operator) = World::with_operator("r14-label").await;
    world.apply_key("orders", json!({})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    let taken = json!({
        "metadata": {"labels": {"cmk-operator.dev/component": null}}, "stringData": {"plaintext": "theirs"},
    });
    let taken = merge(&world.secrets(), "dek", taken).await;
    world.data_key_says("dek", STALLED, "True", reason::SECRET_CONFLICT).await;
    later_event(&world, "orders").await;
    let now = world.secrets().get("dek").await.unwrap();
    assert!(now.metadata == taken.metadata && now.data == taken.data, "not touched");
    operator.stop().await.unwrap();
}

/// Everything that could give a plaintext away, as it would be written.
fn traces_of(plaintext: &[u8]) -> Vec<Vec<u8>> {
    let hash = Sha256::digest(plaintext).to_vec();
    let mut traces = vec![plaintext.to_vec(), format!("{plaintext:?}").into_bytes(), hash.clone()];
    for bytes in [plaintext, &hash] {
        let hex = |upper: bool| bytes.iter().map(move |b| if upper { format!("{b:02X}") } else { format!("{b:02x}") });
        traces.push(hex(false).collect::<String>().into_bytes());
        traces.push(hex(true).collect::<String>().into_bytes());
        for engine in [BASE64_STANDARD, BASE64_URL_SAFE] {
            traces.push(engine.encode(bytes).into_bytes());
        }
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            traces.push(engine.encode(bytes).into_bytes());
        }
    }
    traces
}

#[tokio::test]
async fn rule_14_nothing_derived_from_a_plaintext_is_seen_outside_its_secret() {
    log();
    let (world, operator) = World::with_operator("r14-silent").await;
    world.apply_key("orders", json!({})).await;
    let mut plaintexts = Vec::new();
    for (name, encoding) in [("raw", "Raw"), ("base64", "Base64"), ("hex", "Hex")] {
        let spec = json!({"keyRef": {"name": "orders"}, "secret": {"encoding": encoding, "name": name}});
        world.apply_data_key(name, spec).await;
        world.data_key_ready(name).await;
        // All that is ever said about it: restored, changed, in the way, refused, failed, taken over.
        deleted_and_restored(&world, name).await;
        merge(&world.secrets(), name, json!({"stringData": {"plaintext": "x", "extra": "y"}})).await;
        let renamed = json!({"keyRef": {"name": "orders"}, "secret": {"name": format!("{name}-2")}});
        foreign_secret(&world, &format!("{name}-2")).await;
        world.apply_data_key(name, renamed).await;
        world.data_key_says(name, STALLED, "True", reason::SECRET_CONFLICT).await;
        world.event(name, reason::SECRET_CONFLICT).await;
        world.secrets().delete(&format!("{name}-2"), &DeleteParams::default()).await.unwrap();
        world.data_keys().delete(name, &DeleteParams::default()).await.unwrap();
        world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
        world.apply_data_key(name, json!({"keyRef": {"name": "orders"}})).await;
        world.data_key_ready(name).await;
        plaintexts.push(entry(&world.secrets().get(name).await.unwrap(), PLAINTEXT));
    }
    world.apply_key("orders", json!({"enabled": false})).await;
    world.event("raw", reason::KEY_DISABLED).await;
    world.data_key_says("hex", READY, "False", reason::KEY_DISABLED).await;

    let list = ListParams::default();
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let events = serde_json::to_vec(&events.list(&list).await.unwrap()).unwrap();
    let data_keys = serde_json::to_vec(&world.data_keys().list(&list).await.unwrap()).unwrap();
    let keys = serde_json::to_vec(&world.keys().list(&list).await.unwrap()).unwrap();
    let records = serde_json::to_vec(&world.records().await).unwrap();
    let metadata: Vec<_> =
        world.secrets().list(&list).await.unwrap().into_iter().map(|secret| secret.metadata).collect();
    let metadata = serde_json::to_vec(&metadata).unwrap();
    let metrics = operator.metrics.render().into_bytes();
    let log = log().lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(String::from_utf8_lossy(&log).contains(&world.namespace), "the log is captured");
    assert!(metrics.starts_with(b"# HELP"));
    let places = [
        ("Events", events),
        ("DataKeys", data_keys),
        ("CustomerMasterKeys", keys),
        ("records", records),
        ("metadata of Secrets", metadata),
        ("metrics", metrics),
        ("log", log),
    ];
    for (plaintext, trace) in plaintexts.iter().flat_map(|p| traces_of(p).into_iter().map(move |t| (p, t))) {
        for (place, content) in &places {
            let found = content.windows(trace.len()).any(|window| window == trace);
            assert!(!found, "{place}: a plaintext of {} bytes, as {}", plaintext.len(), trace.escape_ascii());
        }
    }
    operator.stop().await.unwrap();
}
