//! Since when a watch may not show what there is. An answer of the API server proves nothing about a watch: it has a
//! connection of its own, rights of its own, and may be refused while everything else goes on.
//!
//! A watch is current while it is open. From when it ended, whatever the reason, it is behind, until it is open again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::clock::Clock;

/// The watches that the endpoint answers from. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Freshness(Arc<watch::Sender<Watches>>);

#[derive(Debug, Default)]
struct Watches {
    /// How many there are.
    count: u64,
    /// Those that are behind, by number.
    behind: BTreeMap<u64, Behind>,
}

#[derive(Clone, Copy, Debug)]
struct Behind {
    /// In uptime.
    since: Duration,
    /// It was tried to begin it again, in vain.
    failed: bool,
}

impl Freshness {
    /// One more watch. It is behind from now on, until it says otherwise.
    #[must_use]
    pub fn watch(&self, clock: Arc<dyn Clock>) -> WatchFreshness {
        let mut number = 0;
        self.0.send_modify(|watches| {
            number = watches.count;
            watches.count += 1;
        });
        let watch = WatchFreshness { of: self.clone(), number, clock };
        watch.behind(watch.now());
        watch
    }

    /// How long the one that is furthest behind has been so; zero when all are current.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        let oldest = self.0.borrow().behind.values().map(|behind| behind.since).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Whether one that is behind for longer than `max` was tried again in vain, so that nobody should wait for it.
    #[must_use]
    pub fn has_failed(&self, now: Duration, max: Duration) -> bool {
        self.0.borrow().behind.values().any(|behind| behind.failed && now.saturating_sub(behind.since) > max)
    }

    /// Waits until it is no more behind than `max`, or [`Self::has_failed`]. `clock` tells the uptime.
    pub async fn settled(&self, clock: &dyn Clock, max: Duration) {
        let mut changes = self.0.subscribe();
        while self.age(clock.uptime()) > max && !self.has_failed(clock.uptime(), max) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A watch, as itself tells.
#[derive(Clone)]
pub struct WatchFreshness {
    of: Freshness,
    number: u64,
    clock: Arc<dyn Clock>,
}

impl WatchFreshness {
    /// One that nobody asks about: what it shows is not what the endpoint answers from.
    #[must_use]
    pub fn unasked() -> Self {
        Freshness::default().watch(Arc::new(crate::clock::SystemClock))
    }

    /// The uptime.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.uptime()
    }

    /// It shows what there is.
    pub fn current(&self) {
        self.of.0.send_if_modified(|watches| watches.behind.remove(&self.number).is_some());
    }

    /// It may not show what happened after `since`, in uptime. If it was behind already, it is since then.
    pub fn behind(&self, since: Duration) {
        self.change(since, false);
    }

    /// It was tried to begin or to list, in vain.
    pub fn failed(&self) {
        self.change(self.now(), true);
    }

    fn change(&self, since: Duration, failed: bool) {
        self.of.0.send_modify(|watches| {
            let behind = watches.behind.entry(self.number).or_insert(Behind { since, failed });
            behind.failed |= failed;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Settable(Mutex<Duration>);

    impl Clock for Settable {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn uptime(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn the_one_that_is_furthest_behind_counts() {
        let clock = Arc::new(Settable::default());
        let (freshness, second) = (Freshness::default(), Duration::from_secs);
        let at = |now| *clock.0.lock().unwrap() = second(now);
        let age = |now| freshness.age(second(now)).as_secs();
        assert_eq!(age(1000), 0, "nothing is watched");
        at(10);
        let (keys, aliases) = (freshness.watch(clock.clone()), freshness.watch(clock.clone()));
        assert_eq!(age(15), 5, "they have not been listed");
        keys.current();
        aliases.current();
        assert_eq!(age(1000), 0);

        aliases.behind(second(100));
        keys.behind(second(120));
        assert_eq!(age(130), 30);
        assert!(!freshness.has_failed(second(1000), second(300)), "it ended, and may begin at once");
        at(140);
        aliases.failed();
        assert_eq!(age(150), 50, "a failure makes it no fresher");
        for (now, failed) in [(400, false), (401, true)] {
            assert_eq!(freshness.has_failed(second(now), second(300)), failed, "{now}");
        }
        aliases.current();
        assert_eq!(age(150), 30);
        assert!(!freshness.has_failed(second(1000), second(300)), "what failed is current again");
        keys.current();
        assert_eq!(age(1000), 0);
        at(1000);
        keys.failed();
        assert_eq!(age(1001), 1);
    }
}
