//! Lists what there is, and then watches, for ever: what kube's `watcher` does, whose events say nothing of how it stands. It
//! begins an ended watch anew in silence, waits for as long as it takes, and after failures up to a minute. Whoever answers
//! from what a watch shows has to know whether that is what there is ([`WatchFreshness`]), within bounds:
//!
//! - It is tried again within two seconds, however often it failed.
//! - A list or a watch that is not begun in time has failed.
//! - A watch that ended is begun where it was, as the API server ends each after some minutes. When that can't be done, but
//!   for a refusal, it is listed anew: an API server that was away may come back with another past, out of a backup.
//! - A watch on which nothing comes for longer than the API server keeps one open has ended.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt::Debug,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchParams},
    core::{ObjectList, Status, WatchEvent},
    runtime::watcher::Event,
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::interruptions::Interruptions;
use crate::{
    clock::{Clock, SystemClock},
    server::freshness::WatchFreshness,
};

/// How long the API server keeps a watch open, in seconds: what kube and client-go ask for at most.
const OPEN: u32 = 290;

/// How much longer nothing may come. At the end of its time the API server closes the connection.
const MARGIN: Duration = Duration::from_secs(5);

/// How often to look whether it is that long. Often, as a machine that slept finds out then.
const LOOK: Duration = Duration::from_secs(5);

/// How long the answer to the request for a watch may take, retries of the client included. It comes before any event.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// How long a page of a list may take. The API server gives up after a minute.
const PAGE_WITHIN: Duration = Duration::from_secs(30);

/// A watch that was open for so long shows that all is well again.
const LASTED: Duration = Duration::from_secs(10);

/// Where a list and its watch come from.
pub trait Source<K: Clone>: Send + Sync + 'static {
    /// Lists a page.
    fn page(&self, params: &ListParams) -> impl Future<Output = kube::Result<ObjectList<K>>> + Send;

    /// Begins to watch what happens after a version.
    fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> impl Future<Output = kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>>> + Send;
}

impl<K: Clone + Debug + DeserializeOwned + Send + 'static> Source<K> for Api<K> {
    async fn page(&self, params: &ListParams) -> kube::Result<ObjectList<K>> {
        self.list(params).await
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>> {
        Api::watch(self, params, version).await.map(StreamExt::boxed)
    }
}

/// Lists and watches what `params` select, for ever. Failures are logged, by the name `what`.
pub fn list_and_watch<K: Resource + Clone + Send + 'static>(
    what: &'static str,
    source: impl Source<K>,
    params: ListParams,
    freshness: WatchFreshness,
) -> impl Stream<Item = Event<K>> + Send {
    let watch = ListWatch::new(what, source, params, freshness, Arc::new(SystemClock));
    stream::unfold(watch, |mut watch| async { Some((watch.next().await, watch)) })
}

/// What went wrong.
#[derive(Debug, Error)]
enum Failed {
    #[error("it can't be listed: {0}")]
    List(#[source] kube::Error),
    #[error("there was no answer for {} s", .0.as_secs())]
    Late(Duration),
    #[error("the list has no resourceVersion")]
    NoVersion,
    #[error("it can't be begun: {0}")]
    Begin(#[source] kube::Error),
    #[error("it broke off: {0}")]
    Broke(#[source] kube::Error),
    #[error("the API server ended it: {0}")]
    Ended(Box<Status>),
}

impl Failed {
    /// Whether to list anew, rather than to begin the watch again where it was.
    fn lists_anew(&self) -> bool {
        match self {
            Self::Broke(_) => false,
            Self::Ended(status) => status.code == GONE,
            Self::Begin(kube::Error::Api(status)) => status.code == GONE || status.code >= 500,
            Self::List(_) | Self::Late(_) | Self::NoVersion | Self::Begin(_) => true,
        }
    }
}

/// What happened after the version is forgotten.
const GONE: u16 = 410;

/// How far it has come.
enum At<K> {
    /// Before the list.
    Nothing,
    /// In the list: what is left of a page, and where the next one begins. None: that was the last one.
    Listing { page: VecDeque<K>, next: Option<Next> },
    /// Everything is known, as of this version.
    Known,
    /// The watch is open, since then.
    Open { events: BoxStream<'static, kube::Result<WatchEvent<K>>>, since: Instant },
}

/// The next page.
enum Next {
    First,
    Continued(String),
}

struct ListWatch<K, S> {
    what: &'static str,
    source: S,
    params: ListParams,
    freshness: WatchFreshness,
    /// By which it is told that nothing comes: the machine's, as a connection does not die when a test lets months pass.
    clock: Arc<dyn Clock>,
    at: At<K>,
    /// What was shown last.
    version: String,
    interruptions: Interruptions,
    /// How often it was paused since all was well.
    pauses: u32,
    jitter: RandomState,
}

impl<K: Resource + Clone, S: Source<K>> ListWatch<K, S> {
    fn new(
        what: &'static str,
        source: S,
        params: ListParams,
        freshness: WatchFreshness,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (at, version, interruptions) = (At::Nothing, String::new(), Interruptions::default());
        let (pauses, jitter) = (0, RandomState::new());
        Self { what, source, params, freshness, clock, at, version, interruptions, pauses, jitter }
    }

    /// What it shows next.
    async fn next(&mut self) -> Event<K> {
        loop {
            match self.step().await {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(failed) => {
                    self.note(&failed);
                    self.pause().await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Event<K>>, Failed> {
        match std::mem::replace(&mut self.at, At::Known) {
            At::Nothing => {
                self.freshness.behind(self.freshness.now());
                self.at = At::Listing { page: VecDeque::new(), next: Some(Next::First) };
                Ok(Some(Event::Init))
            }
            At::Listing { mut page, next } => match (page.pop_front(), next) {
                (Some(object), next) => {
                    self.at = At::Listing { page, next };
                    Ok(Some(Event::InitApply(object)))
                }
                (None, Some(next)) => self.list(next).await.map(|()| None),
                (None, None) => Ok(Some(Event::InitDone)),
            },
            At::Known => self.begin().await.map(|()| None),
            At::Open { events, since } => self.read(events, since).await,
        }
    }

    /// Reads a page.
    async fn list(&mut self, next: Next) -> Result<(), Failed> {
        let mut params = self.params.clone();
        if let Next::Continued(token) = next {
            params.continue_token = Some(token);
        }
        let list = timeout(PAGE_WITHIN, self.source.page(&params)).await;
        let list = list.map_err(|_| Failed::Late(PAGE_WITHIN))?.map_err(Failed::List)?;
        let continued = list.metadata.continue_.filter(|token| !token.is_empty());
        self.version = list.metadata.resource_version.unwrap_or_default();
        if continued.is_none() && self.version.is_empty() {
            return Err(Failed::NoVersion);
        }
        self.at = At::Listing { page: list.items.into(), next: continued.map(Next::Continued) };
        Ok(())
    }

    /// Begins the watch.
    async fn begin(&mut self) -> Result<(), Failed> {
        let ListParams { label_selector, field_selector, .. } = self.params.clone();
        let params = WatchParams { label_selector, field_selector, ..WatchParams::default() }.timeout(OPEN);
        let began = timeout(BEGINS_WITHIN, self.source.watch(&params, &self.version)).await;
        let events = began.map_err(|_| Failed::Late(BEGINS_WITHIN))?.map_err(Failed::Begin)?;
        self.at = At::Open { events, since: Instant::now() };
        self.freshness.current();
        if let Some(failures) = self.interruptions.went_on() {
            tracing::info!(failures, "the watch of {} goes on", self.what);
        }
        Ok(())
    }

    /// Reads an event.
    async fn read(
        &mut self,
        mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
        since: Instant,
    ) -> Result<Option<Event<K>>, Failed> {
        let heard = self.freshness.now();
        let event = next_within(&mut events, Duration::from_secs(OPEN.into()) + MARGIN, &*self.clock).await;
        let shown = match event {
            Some(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => Event::Apply(object),
            Some(Some(Ok(WatchEvent::Deleted(object)))) => Event::Delete(object),
            Some(Some(Ok(WatchEvent::Bookmark(bookmark)))) => {
                self.version = bookmark.metadata.resource_version;
                self.at = At::Open { events, since };
                return Ok(None);
            }
            ended => return self.ended(ended, heard, since).await.map(|()| None),
        };
        if let Event::Apply(object) | Event::Delete(object) = &shown
            && let Some(version) = object.resource_version()
        {
            self.version = version;
        }
        self.at = At::Open { events, since };
        Ok(Some(shown))
    }

    /// The watch has ended, which was open since then, and on which something came last at `heard`, in uptime.
    async fn ended(
        &mut self,
        ended: Option<Option<kube::Result<WatchEvent<K>>>>,
        heard: Duration,
        since: Instant,
    ) -> Result<(), Failed> {
        let has_lasted = since.elapsed() >= LASTED;
        if has_lasted {
            self.pauses = 0;
        }
        // When a connection died without a word is not known. Otherwise we are told at once.
        self.freshness.behind(if ended.is_none() { heard } else { self.freshness.now() });
        match ended {
            Some(Some(Err(error))) => return Err(Failed::Broke(error)),
            Some(Some(Ok(WatchEvent::Error(status)))) => return Err(Failed::Ended(status)),
            None => tracing::debug!("nothing comes any more on the watch of {}", self.what),
            // An API server that ends each at once would be asked without end.
            Some(_) if !has_lasted => self.pause().await,
            Some(_) => {}
        }
        Ok(())
    }

    /// Says what failed, and decides where to go on.
    fn note(&mut self, failed: &Failed) {
        let what = self.what;
        if failed.lists_anew() {
            self.at = At::Nothing;
        }
        self.freshness.failed();
        if self.interruptions.failed(&failed.to_string(), std::time::Instant::now()) {
            tracing::warn!(error = %failed, "the watch of {what} was interrupted; it is tried again, and this said once a minute");
        } else {
            tracing::debug!(error = %failed, "the watch of {what} was interrupted");
        }
    }

    async fn pause(&mut self) {
        sleep(pause(self.pauses, self.jitter.hash_one(self.pauses))).await;
        self.pauses = self.pauses.saturating_add(1);
    }
}

/// How long to wait when there were so many waits before: 0.2 s and more each time, up to 1.6 s, and by `random` up to a
/// quarter more or less, as all watches fail at the same time.
fn pause(before: u32, random: u64) -> Duration {
    let full = Duration::from_millis(200 << before.min(3));
    full * 3 / 4 + full / 2 * u32::from(random.to_le_bytes()[0]) / 256
}

/// The next item. None: nothing came within `limit`.
async fn next_within<T>(events: &mut BoxStream<'static, T>, limit: Duration, clock: &dyn Clock) -> Option<Option<T>> {
    let began = clock.uptime();
    loop {
        if let Ok(event) = timeout(LOOK, events.next()).await {
            return Some(event);
        }
        if clock.uptime().saturating_sub(began) > limit {
            return None;
        }
    }
}
