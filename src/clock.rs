//! Time, as an argument.

use std::{future::Future, pin::Pin, time::Duration};

use jiff::Timestamp;

/// The time since the machine booted. It goes on while the machine sleeps, which [`std::time::Instant`] does not on Linux: by
/// that, what was seen before a night's sleep is seconds old.
#[cfg(target_os = "linux")]
#[must_use]
pub fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is ever negative.
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

/// The time since this was first called.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn uptime() -> Duration {
    static BEGIN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    BEGIN.elapsed()
}

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
        uptime()
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
