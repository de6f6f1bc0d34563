//! What all passes share: how they end, and how long to wait before the next try.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use thiserror::Error;

use crate::{cluster::ApiError, store::StoreError};

/// The first wait after a failure; doubled at each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Settled,
    /// What is waited for gives no sign: look again after growing intervals.
    Retry,
}

/// Why a pass was given up. The next one starts from the beginning.
#[derive(Debug, Error)]
pub enum PassError {
    /// The API server.
    #[error("API server: {0}")]
    Api(#[from] ApiError),
    /// The key store.
    #[error("key store: {0}")]
    Store(#[from] StoreError),
    /// No randomness.
    #[error("no randomness: {0}")]
    Random(#[from] crate::crypto::RandomError),
    /// `plan` asked for more steps than any object needs: a bug, contained.
    #[error("the pass does not come to an end: please report this as a bug")]
    Endless,
    /// It panicked: a bug, contained. What it said is on standard error, and not here: it may hold anything.
    #[error("the pass panicked: please report this as a bug, with what the operator's log says of it")]
    Panicked,
}

impl PassError {
    /// Somebody else wrote first. Nothing is wrong, and the watch brings what they wrote.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(ApiError::Conflict(_)) | Self::Store(StoreError::Conflict))
    }

    /// The object is gone, so there is nothing to do for it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Api(ApiError::NotFound))
    }

    /// A label for metrics, of a bounded set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Api(ApiError::Forbidden(_)) => "forbidden",
            Self::Api(ApiError::Refused(_)) => "refused",
            Self::Api(ApiError::Unavailable(_)) => "api_unavailable",
            Self::Store(StoreError::Unavailable(_)) => "store_unavailable",
            error if error.is_conflict() => "conflict",
            Self::Api(_) => "api",
            Self::Store(_) => "store",
            Self::Random(_) => "random",
            Self::Endless => "endless",
            Self::Panicked => "panicked",
        }
    }
}

/// How often each object failed in a row: kube's controller never tells its error policy of a success, so the
/// count is kept, and cleared, here (kube-rs/kube#1916).
#[derive(Debug, Default)]
pub struct Attempts {
    failures: Mutex<HashMap<(&'static str, String, String), u32>>,
}

impl Attempts {
    /// Notes a failure of the object of this kind, namespace and name, and answers how long to wait.
    pub fn failed(&self, kind: &'static str, namespace: &str, name: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((kind, namespace.to_owned(), name.to_owned())).or_default();
        let wait = FIRST_RETRY.saturating_mul(1_u32.checked_shl(*count).unwrap_or(u32::MAX));
        *count = (*count + 1).min(16);
        wait.min(LAST_RETRY)
    }

    /// Notes a success, or that there is no such object any more.
    pub fn succeeded(&self, kind: &'static str, namespace: &str, name: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if !failures.is_empty() {
            failures.remove(&(kind, namespace.to_owned(), name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_16_retries_back_off_per_object() {
        let attempts = Attempts::default();
        let waits: Vec<_> = (0..20).map(|_| attempts.failed("K", "ns", "a").as_millis()).collect();
        assert_eq!(waits[..4], [500, 1000, 2000, 4000]);
        assert_eq!(waits[19], 300_000);
        assert_eq!(attempts.failed("K", "ns", "b").as_millis(), 500, "objects don't share a count");
        attempts.succeeded("K", "ns", "a");
        assert_eq!(attempts.failed("K", "ns", "a").as_millis(), 500, "success clears it");
    }
}
