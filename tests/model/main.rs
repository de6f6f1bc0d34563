//! The whole life of keys, against a reference: random sequences of declarations, times, crashes and mishaps drive the
//! real reconciler, store and erasing on an API server in memory, and a small model written from the state tables and
//! the rules; what the two show is compared (design, rules 1 to 11).
//!
//! A few hundred sequences in a normal run, always the same: more with `PROPTEST_CASES`, others with
//! `PROPTEST_RNG_SEED`. A failure is shrunk to a short sequence.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

mod acts;
mod audit;
mod cluster;
mod compare;
mod player;
mod reference;
mod server;
mod tables;
mod world;

use std::{cell::RefCell, collections::BTreeMap};

use cmk_operator::api::cluster_key_store::OnNamespaceRecreated;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};

use crate::{
    acts::{Step, step},
    player::Player,
};

/// Sequences in a normal run.
const CASES: u32 = 500;
/// Steps in the longest sequence.
const STEPS: usize = 25;

/// What they are made from.
const SEED: u64 = 5;

/// What the sequences of a normal run come to.
const MET: [&str; 21] = [
    "Ready Enabled",
    "Ready Disabled",
    "Ready PendingDeletion",
    "Ready PendingImport",
    "AliasConflict",
    "DeletionProtected",
    "ImmutableFieldChanged",
    "InvalidKeyMaterial",
    "KeyDeleted",
    "KeyInUse",
    "MaterialExpired",
    "MaterialNotFound",
    "NamespaceRecreated",
    "RecordTampered",
    "RejectedDisabled",
    "RejectedPendingDeletion",
    "RotationRefused",
    "RotationSuspended",
    "abandoned",
    "erased",
    "rotated",
];

fn config() -> Config {
    let set = |variable| std::env::var(variable).ok().and_then(|number| number.parse::<u64>().ok());
    Config {
        cases: set("PROPTEST_CASES").and_then(|cases| cases.try_into().ok()).unwrap_or(CASES),
        rng_seed: RngSeed::Fixed(set("PROPTEST_RNG_SEED").unwrap_or(SEED)),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    }
}

/// One sequence, on both sides.
fn play(seed: u64, new_keys: bool, steps: &[Step], met: &mut BTreeMap<String, usize>) -> Result<(), TestCaseError> {
    let policy = if new_keys { OnNamespaceRecreated::NewKey } else { OnNamespaceRecreated::Stall };
    let mut player = Player::new(seed, policy);
    for (index, step) in steps.iter().enumerate() {
        player.play(step).map_err(|problem| TestCaseError::fail(format!("step {index}, {step:?}:\n{problem}")))?;
        player.met().into_iter().for_each(|what| *met.entry(what).or_default() += 1);
    }
    Ok(())
}

#[test]
fn the_reconciler_does_what_the_reference_says() {
    let steps = proptest::collection::vec(step(), 1..STEPS);
    let sequences = (any::<u64>(), proptest::bool::weighted(0.25), steps);
    let met = RefCell::new(BTreeMap::new());
    let run = TestRunner::new(config())
        .run(&sequences, |(seed, new_keys, steps)| play(seed, new_keys, &steps, &mut met.borrow_mut()));
    if let Err(failure) = run {
        panic!("{failure}");
    }
    // A test that never gets somewhere says nothing about it.
    let met = met.into_inner();
    let missed: Vec<_> = MET.iter().filter(|what| !met.contains_key(**what)).collect();
    assert!(missed.is_empty(), "no sequence came to {missed:?}, but to {met:#?}");
}
