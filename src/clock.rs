//! Time, as an argument.

use std::{
    future::Future,
    pin::Pin,
    sync::LazyLock,
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// When the process began to look at [`Clock::uptime`].
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Tells the time, the operator's and the API server's.
///
/// Both are read through it, so that a test can let months pass: the one place where the operator decides by
/// time, the erasure of a deleted key, compares the two (design, rule 4).
pub trait Clock: Send + Sync + 'static {
    /// The local time.
    fn now(&self) -> Timestamp;

    /// The time since some moment in the past, which nobody can set back: for ages, such as that of an answer that was
    /// remembered. By the wall clock, an answer would live on for as long as that was set back.
    fn uptime(&self) -> Duration {
        BEGIN.elapsed()
    }

    /// The API server's time, given what it answered just now.
    fn server_time(&self, answered: Timestamp) -> Timestamp {
        answered
    }

    /// Resolves when time has jumped, so that whoever sleeps looks again. Never, on a real clock.
    fn jumped(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
