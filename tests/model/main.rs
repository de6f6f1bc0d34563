//! The whole life of keys, against a reference: random sequences of declarations, times, crashes and mishaps drive the
//! real reconciler, store and erasing on an API server in memory, and a small model written from the state tables and
//! the rules; what the two show is compared (design, rules 1 to 11).
//!
//! A few hundred sequences in a normal run; more with `PROPTEST_CASES`. A failure is shrunk to the shortest sequence.

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
use proptest::{prelude::*, test_runner::Config};

use crate::{acts::step, player::Player};

/// Sequences in a normal run.
const CASES: u32 = 300;
/// Steps in the longest sequence.
const STEPS: usize = 25;

fn config() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    Config { cases, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() }
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
