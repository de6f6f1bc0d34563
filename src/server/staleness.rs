//! Whether this replica knows what the API server knows: `--max-staleness` (design, section 5).
//!
//! Keys are used as the watches have shown them, so a replica that is cut off would go on with a key that was disabled
//! meanwhile. Two things have to be so for it to know:
//!
//! - It is in contact. Every few seconds it reads the operator's namespace past every cache. That read goes through the
//!   API server to a majority of etcd: an answer says that what happens in the cluster can reach us.
//! - All watches that it answers from are open ([`Freshness`]). Each has a connection of its own, so that one may fail
//!   while that read goes on.
//!
//! When either has not been so for `--max-staleness`, operations are refused with [`Failure::Unavailable`]. A watch whose
//! connection died without a word is found out after 295 seconds (`runtime::list_watch`), which is why the default is 5
//! minutes; from then on it counts as behind since something came on it last.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{Failure, freshness::Freshness};
use crate::{clock::Clock, cluster::Cluster};

/// The default of `--max-staleness`.
pub const DEFAULT: Duration = Duration::from_secs(5 * 60);

/// How long between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// How long a look may take, retries of the client included.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Whether this replica knows what the API server knows.
pub struct Contact {
    clock: Arc<dyn Clock>,
    max_staleness: Duration,
    watches: Freshness,
    /// When it was last in contact, in milliseconds of uptime.
    last: AtomicU64,
    /// The last look failed.
    is_lost: AtomicBool,
    /// Somebody waits for a look.
    wanted: Notify,
    /// How many looks there were.
    looks: watch::Sender<u64>,
}

impl Contact {
    /// In contact now: whoever begins to serve has just listed everything. `watches` are those that it answers from.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, max_staleness: Duration, watches: Freshness) -> Self {
        let last = AtomicU64::new(millis(clock.uptime()));
        let (is_lost, wanted, looks) = (AtomicBool::new(false), Notify::new(), watch::Sender::new(0));
        Self { clock, max_staleness, watches, last, is_lost, wanted, looks }
    }

    /// How long ago this replica last knew all there is: when the API server answered, or, if that is longer ago, when all
    /// watches were open.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.contact_age().max(self.watches.age(self.clock.uptime()))
    }

    /// Whether it is recent enough to act on.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.age() <= self.max_staleness
    }

    /// How long ago the API server answered.
    fn contact_age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.clock.uptime().saturating_sub(last)
    }

    /// Whether what the watches have shown is recent enough to act on. When nothing has failed and yet it is not recent
    /// enough, as after the machine slept, it waits for the next look, and for the watches to be begun again.
    ///
    /// # Errors
    /// [`Failure::Unavailable`]: it is older than `--max-staleness`.
    pub async fn check(&self) -> Result<(), Failure> {
        if self.is_fresh() {
            return Ok(());
        }
        let _ = tokio::time::timeout(2 * TIMEOUT, async {
            self.looked().await;
            if self.contact_age() <= self.max_staleness {
                self.watches.settled(&*self.clock, self.max_staleness).await;
            }
        })
        .await;
        if self.is_fresh() {
            return Ok(());
        }
        let max = self.max_staleness.as_secs();
        let why = if self.contact_age() > self.max_staleness {
            "has had no contact with the API server"
        } else {
            "has not been able to watch all that it answers from"
        };
        Err(Failure::Unavailable(format!(
            "this replica {why} for more than {max} s (--max-staleness), so it does not know which keys were disabled \
             meanwhile"
        )))
    }

    /// Waits until a look has brought contact, or has failed. The look under way may have begun long ago, so that
    /// its answer is too old.
    async fn looked(&self) {
        let mut looks = self.looks.subscribe();
        while !self.is_lost.load(Ordering::Relaxed) && self.contact_age() > self.max_staleness {
            self.wanted.notify_one();
            if looks.changed().await.is_err() {
                return;
            }
        }
    }

    /// Notes what became of a look that began at `asked`, in uptime.
    fn note(&self, asked: Duration, result: Result<(), String>) {
        if result.is_ok() {
            self.last.fetch_max(millis(asked), Ordering::Relaxed);
        }
        let was_lost = self.is_lost.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !was_lost => tracing::warn!(%error, "no contact with the API server"),
            Ok(()) if was_lost => tracing::info!("in contact with the API server again"),
            _ => {}
        }
        self.looks.send_modify(|looks| *looks = looks.wrapping_add(1));
    }

    /// How long between two looks: often enough that one which is lost does no harm.
    fn interval(&self) -> Duration {
        (self.max_staleness / 3).min(EVERY)
    }
}

/// Keeps in contact, for ever, by reading a namespace: the operator's own.
pub async fn keep<C: Cluster>(contact: Arc<Contact>, cluster: C, namespace: String) {
    loop {
        let asked = contact.clock.uptime();
        let result = match tokio::time::timeout(TIMEOUT, cluster.namespace_now(&namespace)).await {
            Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        contact.note(asked, result);
        tokio::select! {
            () = tokio::time::sleep(contact.interval()) => {}
            () = contact.wanted.notified() => {}
            () = contact.clock.jumped() => {}
        }
    }
}

fn millis(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)
}
