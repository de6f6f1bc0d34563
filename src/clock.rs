//! Time, as an argument.

use std::{future::Future, pin::Pin};

use jiff::Timestamp;

/// Tells the time, the operator's and the API server's.
///
/// Both are read through it, so that a test can let months pass: the one place where the operator decides by
/// time, the erasure of a deleted key, compares the two (design, rule 4).
pub trait Clock: Send + Sync + 'static {
    /// The local time.
    fn now(&self) -> Timestamp;

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
