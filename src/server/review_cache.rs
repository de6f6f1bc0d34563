//! Answers of the API server about callers, remembered for a short while.
//!
//! A request that finds its answer costs a hash and a read lock that nobody holds for longer than a look into a map. Who
//! finds none asks, in a task of its own: whoever has the same question meanwhile waits for that task, and it goes on
//! when the request that began it is gone. An answer that is good for longer is asked for again shortly before its time is
//! over, so that a busy client never waits.
//!
//! While the API server does not answer, answers are used beyond their time, up to `max_staleness` from when they were
//! asked for. Then one question a second finds out whether it answers again, and no request that has an answer waits
//! for it. Who has none waits a little: a busy API server may leave one question without an answer, and a replica that has just
//! started knows none.

mod decision;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};

use self::decision::{Decision, Reach, Remembered, decide};
use crate::{clock::Clock, cluster::ApiError};

/// What identifies a question: SHA-256 over all of it.
pub type QuestionId = [u8; 32];

/// How long to leave an API server alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a request for which nothing may be used waits for an API server that does not answer, beside the question that is
/// under way then. Alibaba's SDKs wait 10 s for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often such a request looks whether it is its turn, or the API server answers again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Maps with a lock each.
const SHARDS: usize = 16;

/// An answer, and how long it is good for, from when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<V> {
    /// The answer.
    pub value: V,
    /// Until it has to be asked for again.
    pub fresh_for: Duration,
    /// Until it must not be used, even when the API server does not answer. `max_staleness` counts beside it.
    pub usable_for: Duration,
    /// It is worth keeping: it is asked for again ahead of time, and is the last to go when there is no room. False for
    /// what anybody can provoke: refusals.
    pub is_good: bool,
}

/// How much to remember, and how much to ask.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Answers.
    pub entries: usize,
    /// Questions at a time.
    pub questions: usize,
    /// How old an answer may be that is used because the API server does not answer.
    pub max_staleness: Duration,
}

/// The answers to one kind of question.
pub struct ReviewCache<V>(Arc<Inner<V>>);

struct Inner<V> {
    clock: Arc<dyn Clock>,
    limits: CacheLimits,
    shards: [RwLock<HashMap<QuestionId, Entry<V>>>; SHARDS],
    permits: Semaphore,
    /// Milliseconds of uptime when a question was last left without an answer, or tried again after that, plus one. Zero:
    /// the last one was answered.
    silent: AtomicU64,
}

struct Entry<V> {
    answer: Option<Remembered<V>>,
    asking: Option<Asking<V>>,
}

/// A question under way. The sender is gone without an answer when its task panicked.
type Asking<V> = watch::Receiver<Option<Result<V, ApiError>>>;

impl<V: Clone + Send + Sync + 'static> ReviewCache<V> {
    /// A cache that knows nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, limits: CacheLimits) -> Self {
        Self(Arc::new(Inner {
            clock,
            limits,
            shards: std::array::from_fn(|_| RwLock::default()),
            permits: Semaphore::new(limits.questions.max(1)),
            silent: AtomicU64::new(0),
        }))
    }

    /// The answer to a question: the remembered one, or what `ask` finds out.
    ///
    /// # Errors
    /// There is no answer that may be used, and the API server gives none, for some seconds.
    pub async fn answer<F>(&self, id: QuestionId, ask: impl Fn() -> F) -> Result<V, ApiError>
    where
        F: Future<Output = Result<Answer<V>, ApiError>> + Send + 'static,
    {
        let mut since = None;
        loop {
            let answered = self.answer_now(id, &ask).await;
            let Err(ApiError::Unavailable(_)) = &answered else { return answered };
            let (began, first) = since.get_or_insert_with(|| (Instant::now(), answered));
            if began.elapsed() >= PATIENCE {
                return first.clone();
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// As [`answer`](Self::answer), but for waiting until the API server answers again.
    async fn answer_now<F>(&self, id: QuestionId, ask: impl FnOnce() -> F) -> Result<V, ApiError>
    where
        F: Future<Output = Result<Answer<V>, ApiError>> + Send + 'static,
    {
        let inner = &self.0;
        let now = inner.clock.uptime();
        let remembered = inner.remembered(&id);
        let max = inner.limits.max_staleness;
        let decision = decide(remembered.as_ref(), now, max, || inner.reach(now));
        match (decision, remembered) {
            (Decision::Use, Some(remembered)) => Ok(remembered.value),
            (Decision::UseAndAsk, Some(remembered)) => {
                drop(self.asking(id, now, ask));
                Ok(remembered.value)
            }
            (Decision::Refuse, _) => Err(silence()),
            (_, remembered) => {
                let asked = outcome(self.asking(id, now, ask)).await;
                let then = inner.clock.uptime();
                asked.or_else(|error| match remembered {
                    Some(stale) if stale.is_usable(then, max) => Ok(stale.value),
                    _ => Err(error),
                })
            }
        }
    }

    /// Asks a question, unless somebody does already.
    fn asking<F>(&self, id: QuestionId, now: Duration, ask: impl FnOnce() -> F) -> Asking<V>
    where
        F: Future<Output = Result<Answer<V>, ApiError>> + Send + 'static,
    {
        let mut shard = self.0.shard(&id).write().unwrap_or_else(PoisonError::into_inner);
        let under_way = shard.get(&id).and_then(|entry| entry.asking.clone());
        if let Some(asking) = under_way.filter(|asking| asking.has_changed().is_ok()) {
            return asking;
        }
        self.0.make_room(&mut shard, now);
        let (answered, asking) = watch::channel(None);
        shard.entry(id).or_insert_with(|| Entry { answer: None, asking: None }).asking = Some(asking.clone());
        drop(shard);
        let (inner, question) = (self.0.clone(), ask());
        tokio::spawn(async move {
            let result = inner.put(question).await;
            let value = inner.settle(id, result);
            answered.send_replace(Some(value));
        });
        asking
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.read().unwrap().len()).sum()
    }
}

impl<V: Clone> Inner<V> {
    fn shard(&self, id: &QuestionId) -> &RwLock<HashMap<QuestionId, Entry<V>>> {
        &self.shards[usize::from(id[0]) % SHARDS]
    }

    fn remembered(&self, id: &QuestionId) -> Option<Remembered<V>> {
        let shard = self.shard(id).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(id).and_then(|entry| entry.answer.clone())
    }

    /// Whether the API server answers. While it does not, one caller a second is told that it may try.
    fn reach(&self, now: Duration) -> Reach {
        let since = self.silent.load(Ordering::Relaxed);
        if since == 0 {
            return Reach::Answers;
        }
        let now = millis(now);
        let waited = Duration::from_millis(now.saturating_sub(since)) >= RETRY_AFTER;
        let claim = || self.silent.compare_exchange(since, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Reach::Silent { may_try: waited && claim() }
    }

    /// Puts a question to the API server, when it is its turn. The time counts from when it is put.
    async fn put(
        &self,
        question: impl Future<Output = Result<Answer<V>, ApiError>>,
    ) -> Result<(Answer<V>, Duration), ApiError> {
        let began = millis(self.clock.uptime());
        let _permit = self.permits.acquire().await.map_err(|_| silence())?;
        if self.silent.load(Ordering::Relaxed) > began {
            // It stopped answering while this one waited for its turn.
            return Err(silence());
        }
        let asked = self.clock.uptime();
        let result = question.await;
        match &result {
            // Of a question that it refuses it says nothing about others.
            Ok(_) | Err(ApiError::Refused(_)) => {
                if self.silent.swap(0, Ordering::Relaxed) != 0 {
                    tracing::info!("the API server answers again about callers");
                }
            }
            Err(error) => {
                if self.silent.swap(millis(self.clock.uptime()), Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, "the API server does not answer about callers: what it said before counts");
                }
            }
        }
        result.map(|answer| (answer, asked))
    }

    /// Remembers an answer. Without one, what was remembered stays.
    fn settle(&self, id: QuestionId, result: Result<(Answer<V>, Duration), ApiError>) -> Result<V, ApiError> {
        let mut shard = self.shard(&id).write().unwrap_or_else(PoisonError::into_inner);
        let answer = match result {
            Ok((answer, asked)) => Remembered::new(answer, asked),
            Err(error) => {
                match shard.get_mut(&id) {
                    Some(entry) if entry.answer.is_some() => entry.asking = None,
                    _ => drop(shard.remove(&id)),
                }
                return Err(error);
            }
        };
        let value = answer.value.clone();
        shard.insert(id, Entry { answer: Some(answer), asking: None });
        Ok(value)
    }

    /// Makes room for one more entry, where there is none: what may not be used any more goes first, and then refusals, and
    /// what was asked for long ago. A question under way stays, so that it is not asked twice.
    fn make_room(&self, shard: &mut HashMap<QuestionId, Entry<V>>, now: Duration) {
        let most = (self.limits.entries / SHARDS).max(1);
        if shard.len() < most {
            return;
        }
        let max = self.limits.max_staleness;
        shard.retain(|_, entry| {
            entry.asking.is_some() || entry.answer.as_ref().is_some_and(|answer| answer.is_usable(now, max))
        });
        while shard.len() >= most {
            let idle = shard.iter().filter(|(_, entry)| entry.asking.is_none());
            let worth = |entry: &Entry<V>| entry.answer.as_ref().map(Remembered::worth);
            let Some(least) = idle.min_by_key(|(_, entry)| worth(entry)).map(|(id, _)| *id) else { return };
            shard.remove(&least);
        }
    }
}

/// What became of a question.
async fn outcome<V: Clone>(mut asking: Asking<V>) -> Result<V, ApiError> {
    match asking.wait_for(Option::is_some).await {
        Ok(answered) => answered.clone().unwrap_or_else(|| Err(silence())),
        Err(_) => Err(ApiError::Unavailable("the review was given up".into())),
    }
}

fn silence() -> ApiError {
    ApiError::Unavailable("it did not a moment ago".into())
}

fn millis(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_millis()).map_or(u64::MAX, |millis| millis.saturating_add(1))
}
