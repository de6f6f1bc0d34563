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

use cmk_operator::api::cluster_key_store::OnNamespaceRecreated;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use crate::{acts::step, player::Player};

/// Sequences in a normal run.
const CASES: u32 = 300;
/// Steps in the longest sequence.
const STEPS: usize = 25;

/// What they are made from.
const SEED: u64 = 5;

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

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_reconciler_does_what_the_reference_says(
        seed in any::<u64>(),
        new_keys in proptest::bool::weighted(0.25),
        steps in proptest::collection::vec(step(), 1..STEPS),
    ) {
        let policy = if new_keys { OnNamespaceRecreated::NewKey } else { OnNamespaceRecreated::Stall };
        let mut player = Player::new(seed, policy);
        for (index, step) in steps.iter().enumerate() {
            if let Err(problem) = player.play(step) {
                return Err(TestCaseError::fail(format!("step {index}, {step:?}:\n{problem}")));
            }
        }
    }
}
