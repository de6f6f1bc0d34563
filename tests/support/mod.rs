//! What the integration tests, the demo and the benchmarks share: a real control plane, and waiting
//! for something without sleeping blindly. Elsewhere than in `tests/`, include it whole:
//! `#[path = "../tests/support/mod.rs"] mod support;`.
#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test bed that fails stops the test, saying why")]

pub mod admission;
mod certificates;
pub mod clients;
pub mod clock;
pub mod component;
mod control_plane;
pub mod screen;
pub mod scripts;
pub mod wire;
pub mod world;

use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "not every test crate starts one")]
pub use control_plane::ControlPlane;

/// How long `eventually` and the start of a control plane wait between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Repeats `attempt` until it succeeds and returns what it found. Panics with the last error when
/// nothing was found `within` the given time; `what` completes "waited for …".
pub async fn eventually<T>(what: &str, within: Duration, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(error) if Instant::now() >= deadline => {
                panic!("waited {within:?} for {what}: {error}")
            }
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}
