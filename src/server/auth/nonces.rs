//! The nonces that were used: each is good for one request of its access key, as long as its timestamp is valid.
//!
//! They are remembered by each replica on its own, and only after the signature was verified. What is kept of a nonce
//! is a keyed hash of 64 bits: two nonces of an access key are taken for the same by chance once in 10^13 times, and
//! the client then tries again with another one. Where there is no room, a request is refused as throttled: forgetting
//! a nonce before its time would allow a replay.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;

use super::canonical::incomplete;
use crate::server::Failure;

/// So many nonces of one access key are remembered: about 1000 requests a second, for the 15 minutes that a timestamp
/// is valid. They take up to 20 MB.
pub const MAX_PER_ACCESS_KEY: usize = 1_000_000;

/// So many are remembered of all access keys. They take up to 80 MB.
pub const MAX_TOTAL: usize = 4_000_000;

/// Nonces are forgotten in portions of so many seconds.
const PORTION_SECONDS: i64 = 300;

/// What a client makes up for one request: 1 to 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce<'a>(&'a str);

impl<'a> Nonce<'a> {
    const MAX_LEN: usize = 128;

    pub(super) fn new(text: &'a str) -> Result<Self, Failure> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(incomplete("the nonce has to be 1 to 128 bytes long"));
        }
        Ok(Self(text))
    }
}

/// The nonces that were used.
pub struct Nonces {
    max_per_access_key: usize,
    max_total: usize,
    total: AtomicUsize,
    /// The portion in which all was swept last.
    swept: AtomicI64,
    hasher: RandomState,
    used: RwLock<HashMap<Arc<str>, Arc<Mutex<Used>>>>,
}

/// Those of one access key, in portions by when they expire.
#[derive(Default)]
struct Used(BTreeMap<i64, HashSet<u64>>);

impl Used {
    /// Drops the portions that have expired as a whole; how many nonces that were.
    fn forget(&mut self, now: Timestamp) -> usize {
        let current = portion(now);
        let mut forgotten = 0;
        while let Some(oldest) = self.0.first_entry().filter(|oldest| *oldest.key() < current) {
            forgotten += oldest.remove().len();
        }
        forgotten
    }

    fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }
}

fn portion(time: Timestamp) -> i64 {
    time.as_second().div_euclid(PORTION_SECONDS)
}

impl Default for Nonces {
    fn default() -> Self {
        Self::new(MAX_PER_ACCESS_KEY, MAX_TOTAL)
    }
}

impl Nonces {
    /// None was used yet; so many of one access key and of all are remembered.
    #[must_use]
    pub fn new(max_per_access_key: usize, max_total: usize) -> Self {
        let (total, swept) = (AtomicUsize::new(0), AtomicI64::new(i64::MIN));
        Self { max_per_access_key, max_total, total, swept, hasher: RandomState::new(), used: RwLock::default() }
    }

    /// Uses a nonce of a request that is valid until a time. To be called once the signature was verified.
    ///
    /// # Errors
    /// [`Failure::NonceUsed`]; [`Failure::Throttled`]: too many are remembered.
    pub fn use_once(
        &self,
        access_key_id: &Arc<str>,
        nonce: Nonce<'_>,
        valid_until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let hash = self.hasher.hash_one(nonce.0);
        let used = self.of(access_key_id, now);
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        self.total.fetch_sub(used.forget(now), Ordering::Relaxed);
        if used.0.values().any(|portion| portion.contains(&hash)) {
            return Err(Failure::NonceUsed);
        }
        if used.len() >= self.max_per_access_key {
            return Err(Failure::Throttled("too many requests with nonces under this access key in 15 minutes".into()));
        }
        let room = |total: usize| (total < self.max_total).then_some(total + 1);
        if self.total.try_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(Failure::Throttled("too many requests with nonces in 15 minutes".into()));
        }
        used.0.entry(portion(valid_until)).or_default().insert(hash);
        Ok(())
    }

    /// Those of one access key.
    fn of(&self, access_key_id: &Arc<str>, now: Timestamp) -> Arc<Mutex<Used>> {
        let current = portion(now);
        let is_swept = self.swept.load(Ordering::Relaxed) == current;
        if !is_swept && self.swept.swap(current, Ordering::Relaxed) != current {
            self.sweep(now);
        }
        if let Some(used) = self.used.read().unwrap_or_else(PoisonError::into_inner).get(access_key_id) {
            return used.clone();
        }
        self.used.write().unwrap_or_else(PoisonError::into_inner).entry(access_key_id.clone()).or_default().clone()
    }

    /// Forgets what has expired, also of access keys that are used no more. Once for each portion.
    fn sweep(&self, now: Timestamp) {
        let mut all = self.used.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, used| {
            // Whoever else holds it is about to use a nonce.
            let is_held = Arc::strong_count(used) > 1;
            let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
            self.total.fetch_sub(used.forget(now), Ordering::Relaxed);
            is_held || !used.0.is_empty()
        });
    }
}
