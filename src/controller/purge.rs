//! Erasing keys whose delete date has passed (design, rule 4): the one thing that can't be undone, so it is
//! slow, limited, and stops when the clocks disagree.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Context, PassError};
use crate::{
    api::conditions::reason,
    cluster::Cluster,
    kms::KeyStep,
    maps::differing,
    store::{Freshness, KeyStore, StoredKey},
};

/// Over which time erasures are limited.
const LIMIT_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// Erasures allowed in that time, however few keys there are.
const LIMIT_AT_LEAST: usize = 10;
/// Or one in this many keys: 1 %.
const LIMIT_ONE_IN: usize = 100;

/// Why an erasure that is due waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The local clock and the API server's differ too much.
    ClockSkew,
    /// As many keys as allowed were erased in the last hour.
    RateLimited,
}

impl Hold {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::ClockSkew, Self::RateLimited];

    /// The reason in conditions, Events and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ClockSkew => reason::CLOCK_SKEW,
            Self::RateLimited => reason::PURGE_RATE_LIMITED,
        }
    }
}

/// What is known of a key: whether it is due and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nobody has looked since this replica leads: what was said of it last still holds.
    Unknown,
    /// It does not wait.
    No,
    /// It does.
    For(Hold),
}

/// The keys that are due and wait. Nothing is known before the first look.
#[derive(Clone, Debug, Default)]
pub struct Holds(Arc<Mutex<Option<HashMap<Uuid, Hold>>>>);

impl Holds {
    /// Whether a key waits, and why.
    #[must_use]
    pub fn get(&self, key_id: Uuid) -> Held {
        match &*self.lock() {
            None => Held::Unknown,
            Some(holds) => holds.get(&key_id).map_or(Held::No, |hold| Held::For(*hold)),
        }
    }

    /// Forgets all: another replica looks from now on, until this one does again.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// Replaces all, and answers whose answer changed. Of the first look that is every key that waits.
    fn replace(&self, holds: HashMap<Uuid, Hold>) -> Vec<Uuid> {
        let mut current = self.lock();
        let changed = differing(&current.take().unwrap_or_default(), &holds);
        *current = Some(holds);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Uuid, Hold>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of the keys that are due may be erased now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// To be erased, the longest due first.
    pub erase: Vec<Uuid>,
    /// To wait for the limit.
    pub wait: Vec<Uuid>,
}

/// Applies the limit: at most max(10, 1 % of all keys) erasures an hour. What was erased is read from the
/// tombstones, so that a restart forgets nothing.
#[must_use]
pub fn select(keys: &[StoredKey], now: Timestamp) -> Selection {
    let mut due: Vec<_> = keys.iter().filter(|k| k.record.is_due(now)).collect();
    due.sort_by_key(|k| (k.record.deletion.as_ref().map(|d| d.delete_date), k.record.key_id));
    let recent = keys
        .iter()
        .filter_map(|k| k.record.erased_at)
        .filter(|erased| now.duration_since(*erased) < LIMIT_WINDOW)
        .count();
    let living = keys.iter().filter(|k| !k.record.is_tombstone()).count();
    let limit = (living / LIMIT_ONE_IN).max(LIMIT_AT_LEAST);
    let allowed = limit.saturating_sub(recent).min(due.len());
    let ids = |keys: &[&StoredKey]| keys.iter().map(|k| k.record.key_id).collect();
    Selection { erase: ids(&due[..allowed]), wait: ids(&due[allowed..]) }
}

/// Whether two clocks agree well enough to erase by them.
#[must_use]
pub fn clocks_agree(local: Timestamp, server: Timestamp, tolerance: SignedDuration) -> bool {
    local.duration_since(server).abs() <= tolerance
}

/// Erases what is due and allowed. Answers whose objects should be told of a change:
/// namespaces and names.
///
/// # Errors
/// When the API server's clock can't be read. What fails for one key is logged, and tried again next time.
pub async fn sweep<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    namespace: &str,
    tolerance: Duration,
) -> Result<Vec<(String, String)>, PassError> {
    let keys = context.store.keys();
    let now = context.clock.now();
    let Selection { erase, mut wait } = select(&keys, now);
    let mut holds = HashMap::new();
    let mut told = Vec::new();
    if !erase.is_empty() {
        let server = context.clock.server_time(context.cluster.server_time(namespace).await?);
        let tolerance = SignedDuration::try_from(tolerance).unwrap_or(SignedDuration::ZERO);
        if clocks_agree(context.clock.now(), server, tolerance) {
            for id in erase {
                match erase_key(context, &keys, id).await {
                    Ok(()) => {
                        context.metrics.keys_erased.inc();
                    }
                    Err(error) => tracing::warn!(%error, key_id = %id, "the key could not be erased"),
                }
                told.push(id);
            }
        } else {
            tracing::error!(%now, %server, "ClockSkew: keys are due, and nothing is erased while the clocks disagree");
            holds.extend(erase.into_iter().map(|id| (id, Hold::ClockSkew)));
            holds.extend(wait.drain(..).map(|id| (id, Hold::ClockSkew)));
        }
    }
    holds.extend(wait.into_iter().map(|id| (id, Hold::RateLimited)));
    context.metrics.show_purge_waiting(holds.values().copied());
    told.extend(context.purge_holds.replace(holds));
    let owner = |key: &StoredKey| (key.record.owner.namespace.clone(), key.record.owner.name.clone());
    Ok(keys.iter().filter(|k| told.contains(&k.record.key_id)).map(owner).collect())
}

/// Erases one key, decided again on its record as it is now, past every cache: the deletion may have been
/// cancelled a moment ago, and then the write on the revision just read fails or the step is refused.
async fn erase_key<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    keys: &[StoredKey],
    id: Uuid,
) -> Result<(), PassError> {
    let Some(seen) = keys.iter().find(|k| k.record.key_id == id) else { return Ok(()) };
    let live = context.store.find_by_id(&seen.record.store, id, Freshness::Live).await?;
    if let Some(live) = live
        && live.record.is_due(context.clock.now())
    {
        context.store.update(&live, &[KeyStep::Erase]).await?;
        tracing::warn!(key_id = %id, "the key's delete date has passed: its material is erased");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kms::{
            KeyRecord,
            key_record::tests::{at, record},
        },
        store::Revision,
    };

    fn stored(id: u128, change: impl FnOnce(&mut KeyRecord)) -> StoredKey {
        let mut record = KeyRecord { key_id: Uuid::from_u128(id), ..record() };
        change(&mut record);
        StoredKey { record: Arc::new(record), revision: Revision { uid: String::new(), version: "1".into() } }
    }

    fn pending(id: u128, date: i64) -> StoredKey {
        stored(id, |r| {
            r.deletion = Some(crate::kms::key_record::Deletion { pending_days: 7, delete_date: at(date) });
        })
    }

    fn erased(id: u128, when: i64) -> StoredKey {
        stored(id, |r| {
            r.versions.clear();
            r.deletion = Some(crate::kms::key_record::Deletion { pending_days: 7, delete_date: at(when) });
            r.erased_at = Some(at(when));
        })
    }

    #[test]
    fn rule_4_only_what_is_due_is_erased() {
        let keys = [pending(1, 100), pending(2, 101), stored(3, |_| ())];
        assert_eq!(select(&keys, at(99)), Selection::default());
        assert_eq!(select(&keys, at(100)).erase, [Uuid::from_u128(1)]);
    }

    #[test]
    fn rule_4_at_most_ten_or_one_percent_an_hour() {
        let keys: Vec<_> = (0..12).map(|i| pending(i, 100 - i64::try_from(i).unwrap())).collect();
        let chosen = select(&keys, at(200));
        assert_eq!((chosen.erase.len(), chosen.wait.len()), (10, 2));
        assert_eq!(chosen.erase[0], Uuid::from_u128(11), "the longest due first");

        // Three of the ten were used up by tombstones of the last hour; those before don't count.
        let with_history = [keys.clone(), vec![erased(20, 150), erased(21, 160), erased(22, 199)]].concat();
        assert_eq!(select(&with_history, at(200)).erase.len(), 7);
        assert_eq!(select(&with_history, at(199 + 3600)).erase.len(), 10);

        let many: Vec<_> = (0..2000).map(|i| pending(i, 100)).collect();
        assert_eq!(select(&many, at(200)).erase.len(), 20, "1 % of 2000");
    }

    #[test]
    fn why_a_key_waits_is_unknown_until_somebody_looks() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let holds = Holds::default();
        assert_eq!(holds.get(one), Held::Unknown);
        assert!(holds.replace(HashMap::new()).is_empty());
        assert_eq!(holds.get(one), Held::No);
        assert_eq!(holds.replace(HashMap::from([(one, Hold::ClockSkew)])), [one]);
        assert_eq!((holds.get(one), holds.get(two)), (Held::For(Hold::ClockSkew), Held::No));
        assert!(holds.replace(HashMap::from([(one, Hold::ClockSkew)])).is_empty());

        // It leads again, later: nothing is left of what it knew, and whatever it finds is told.
        holds.forget();
        assert_eq!(holds.get(one), Held::Unknown);
        assert_eq!(holds.replace(HashMap::from([(one, Hold::ClockSkew)])), [one]);
    }

    #[test]
    fn rule_4_clocks_must_agree() {
        let tolerance = SignedDuration::from_mins(5);
        assert!(clocks_agree(at(1000), at(1300), tolerance));
        assert!(clocks_agree(at(1300), at(1000), tolerance));
        assert!(!clocks_agree(at(1000), at(1301), tolerance));
        assert!(!clocks_agree(at(1301), at(1000), tolerance));
    }
}
