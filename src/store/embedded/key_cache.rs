//! Keys that were unwrapped, kept for the next use: unwrapping one and deriving from it costs more than sealing a small
//! message does.
//!
//! What is kept belongs to one state of one record. When the record changes or goes, so does it: a key that was disabled, rotated,
//! erased or wrapped anew leaves nothing behind but in the call that is using it.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::crypto::BlobKeys;

/// How many are kept at most, a process. Each has less than 1 KiB.
const MOST: usize = 4096;

/// How long one is kept that nobody uses.
pub const IDLE: Duration = Duration::from_secs(5 * 60);

/// A moment, by both clocks: what is told to people goes by the time, what is kept by the uptime, which nobody can set back.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// [`Clock::now`](crate::clock::Clock::now).
    pub now: Timestamp,
    /// [`Clock::uptime`](crate::clock::Clock::uptime).
    pub uptime: Duration,
}

/// How many are kept, in all records together.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicUsize>);

/// One of the places for keys that are kept.
struct Place(Count);

impl Count {
    fn take(&self) -> Option<Place> {
        let more = |count| (count < MOST).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(self.clone()))
    }

    /// How many there are.
    #[cfg(test)]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Kept {
    version_id: Uuid,
    keys: Arc<BlobKeys>,
    /// The uptime at which it was used last, in seconds.
    used: AtomicU64,
    _place: Place,
}

/// The keys of one record, in the state that it was seen in.
pub struct Unwrapped {
    count: Count,
    /// When the record's keys were used last, in seconds; 0: not since the process began.
    last_used: AtomicI64,
    kept: RwLock<Vec<Kept>>,
}

impl fmt::Debug for Unwrapped {
    /// Without anything in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unwrapped")
    }
}

impl Unwrapped {
    /// None yet. `before`: those of the record as it was, whose last use is still the last.
    pub fn new(count: &Count, before: Option<&Self>) -> Self {
        let last_used = before.map_or(0, |before| before.last_used.load(Ordering::Relaxed));
        Self { count: count.clone(), last_used: last_used.into(), kept: RwLock::default() }
    }

    /// When a key of the record was used last. None: not since the process began.
    pub fn last_used(&self) -> Option<Timestamp> {
        let second = self.last_used.load(Ordering::Relaxed);
        Timestamp::from_second(second).ok().filter(|_| second > 0)
    }

    /// The keys of a version, unwrapped now if they are not there.
    pub fn get<E>(
        &self,
        version_id: Uuid,
        moment: Moment,
        unwrap: impl FnOnce() -> Result<BlobKeys, E>,
    ) -> Result<Arc<BlobKeys>, E> {
        if let Some(keys) = self.find(version_id, moment) {
            return Ok(keys);
        }
        let keys = Arc::new(unwrap()?);
        self.last_used.store(moment.now.as_second(), Ordering::Relaxed);
        if let Some(place) = self.count.take() {
            let used = moment.uptime.as_secs().into();
            let kept = Kept { version_id, keys: keys.clone(), used, _place: place };
            let mut all = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            // Two calls may have unwrapped it at the same time.
            if !all.iter().any(|kept| kept.version_id == version_id) {
                all.push(kept);
            }
        }
        Ok(keys)
    }

    fn find(&self, version_id: Uuid, moment: Moment) -> Option<Arc<BlobKeys>> {
        let all = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let kept = all.iter().find(|kept| kept.version_id == version_id)?;
        kept.used.store(moment.uptime.as_secs(), Ordering::Relaxed);
        self.last_used.store(moment.now.as_second(), Ordering::Relaxed);
        Some(kept.keys.clone())
    }

    /// Drops what nobody has used for [`IDLE`].
    pub fn drop_idle(&self, uptime: Duration) {
        let oldest = uptime.saturating_sub(IDLE).as_secs();
        self.keep(|kept| kept.used.load(Ordering::Relaxed) >= oldest);
    }

    /// Drops all.
    pub fn drop_all(&self) {
        self.keep(|_| false);
    }

    fn keep(&self, which: impl Fn(&Kept) -> bool) {
        // Most records have none, and need no writing.
        if !self.kept.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.kept.write().unwrap_or_else(PoisonError::into_inner).retain(which);
        }
    }
}
