//! `make bench` in its short form: the same code with 200 keys and the debug binary, to prove that it works, and
//! to assert what does not depend on the machine: how many requests everything takes.

mod support;

#[path = "../benches/reconciler/measure/mod.rs"]
mod measure;

use std::{collections::BTreeMap, path::PathBuf};

use measure::{Options, counters::Requests, limit};

const KEYS: usize = 200;

fn requests<const N: usize>(expected: [(&str, u64); N]) -> Requests {
    Requests(expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect::<BTreeMap<_, _>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_every_object_takes_exactly_these_requests() {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_cmk-operator"));
    let options = Options { binary, keys: KEYS, concurrency: 8, idle: None, changes: true };
    let each = KEYS as u64;
    let run = measure::run(&options).await;
    let new_key = [("PATCH customermasterkeys", each), ("POST secrets", each), ("PUT customermasterkeys/status", each)];
    assert_eq!(run.created.requests, requests(new_key), "new keys: the record, the finalizer, the status");

    let changes = run.changes.unwrap();
    assert_eq!(changes.touched, requests([]), "a pass that finds nothing to do asks and writes nothing");
    let transition = [("POST events", each), ("PUT customermasterkeys/status", each), ("PUT secrets", each)];
    assert_eq!(changes.disabled, requests(transition), "disabled keys: the record, the status, the Event");
    assert_eq!(changes.restarted.writes(), 0, "a restart writes nothing: {}", changes.restarted);

    // The bare client writes the same, or it would be no limit.
    let bare = limit::run(run.pattern, KEYS, options.concurrency, options.within()).await;
    let bare = bare.requests.without("POST customermasterkeys", each).without_watches();
    assert_eq!(bare, requests(new_key), "the bare client's writes");
}
