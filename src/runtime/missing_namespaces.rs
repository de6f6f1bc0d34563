//! A namespace of `--watch-namespaces` that is gone. What is in it could be listed by the right of a Role in it only, which
//! went with it, so that the API server refuses the list and does not say that there is nothing to list. Without what is here
//! the operator would wait for that list for ever, and do nothing in its other namespaces.

use std::{
    collections::HashSet,
    future::Future,
    sync::{Mutex, PoisonError},
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Client,
    runtime::watcher::{self, Event},
};

use super::triggers::Scope;
use crate::cluster::{ApiError, Cluster, KubeCluster, NamespaceView, Views};

/// Knows which watched namespaces are gone, and says so once.
pub struct MissingNamespaces {
    cluster: KubeCluster,
    said: Mutex<HashSet<String>>,
}

impl MissingNamespaces {
    /// Asks the API server behind `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { cluster: KubeCluster::new(client, Views::blind()), said: Mutex::default() }
    }

    /// Whether a scope is a namespace that is gone, or is being deleted. Read past the watch, which may be behind: a namespace
    /// that was made again has objects that must not be taken for gone.
    async fn is_missing(&self, scope: Option<&str>) -> bool {
        let Some(namespace) = scope else { return false };
        let found = self.cluster.namespace_now(namespace).await;
        if let Err(error) = &found {
            tracing::debug!(namespace, %error, "whether the namespace is there is not known");
        }
        let missing = is_missing(&found);
        if missing && self.said().insert(namespace.to_owned()) {
            tracing::error!(
                namespace,
                "a namespace of --watch-namespaces is gone or being deleted, and nothing in it can be listed: it counts as \
                 empty. Take it out of --watch-namespaces, or make it and the operator's Role in it again"
            );
        }
        missing
    }

    /// Something in a scope was listed.
    fn is_there(&self, scope: Option<&str>) {
        if let Some(namespace) = scope.filter(|namespace| self.said().remove(*namespace)) {
            tracing::info!(namespace, "a namespace of --watch-namespaces that was gone is watched again");
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events of a watch in a scope, with an empty list where the namespace is missing and the API server refuses the list
    /// or the watch for that. The watch goes on, and shows what is there once it is there.
    pub fn count_as_empty<K: Send>(
        &self,
        scope: Scope,
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    ) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
        let there = scope.clone();
        let events = events.inspect(move |event| {
            if let Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone) = event {
                self.is_there(there.as_deref());
            }
        });
        with_empty_lists(events, move || {
            let scope = scope.clone();
            async move { self.is_missing(scope.as_deref()).await }
        })
    }
}

/// One that could not be looked up is not missing, as far as is known.
fn is_missing(found: &Result<Option<NamespaceView>, ApiError>) -> bool {
    found.as_ref().is_ok_and(|namespace| namespace.as_ref().is_none_or(|namespace| namespace.terminating))
}

/// Has an empty list follow a refusal where `is_missing` says so, once until the watch shows something.
fn with_empty_lists<K: Send, F: Future<Output = bool> + Send>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    is_missing: impl Fn() -> F + Clone + Send,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let judged = events.then(move |event| {
        let is_missing = is_missing.clone();
        async move {
            match event {
                Err(error) if is_refusal(&error) && is_missing().await => None,
                event => Some(event),
            }
        }
    });
    let mut counted = false;
    judged.flat_map(move |event| {
        let events = match event {
            // Init drops what a list showed before it was refused.
            None if !std::mem::replace(&mut counted, true) => vec![Ok(Event::Init), Ok(Event::InitDone)],
            None => Vec::new(),
            Some(event) => {
                // Init says that a list is asked for, not that one comes.
                counted &= matches!(event, Err(_) | Ok(Event::Init));
                vec![event]
            }
        };
        stream::iter(events)
    })
}

/// Whether the API server refused to list or to watch: without a Role there is no right, and without the kind no list.
fn is_refusal(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    code == 403 || code == 404
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> watcher::Result<Event<u32>> {
        let status = Status { code, ..Status::default() };
        Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
    }

    /// What comes of the events, as text.
    async fn shown(events: Vec<watcher::Result<Event<u32>>>, missing: bool) -> Vec<String> {
        let events = with_empty_lists(stream::iter(events), move || std::future::ready(missing));
        let text =
            |event: watcher::Result<Event<u32>>| event.map_or_else(|_| "Err".into(), |event| format!("{event:?}"));
        events.map(text).collect().await
    }

    #[tokio::test]
    async fn a_list_that_is_refused_for_want_of_its_namespace_is_empty() {
        for code in [403, 404] {
            let events =
                || vec![Ok(Event::Init), Ok(Event::InitApply(1)), refused(code), Ok(Event::Init), refused(code)];
            let empty = ["Init", "InitApply(1)", "Init", "InitDone", "Init"];
            assert_eq!(shown(events(), true).await, empty, "{code}: once");
            assert_eq!(shown(events(), false).await, ["Init", "InitApply(1)", "Err", "Init", "Err"], "{code}");
        }
    }

    #[tokio::test]
    async fn it_is_empty_again_when_it_is_gone_again() {
        let there = || [Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitDone)];
        let events = [refused(403)].into_iter().chain(there()).chain([refused(403), refused(403)]).collect();
        let expected = ["Init", "InitDone", "Init", "InitApply(1)", "InitDone", "Init", "InitDone"];
        assert_eq!(shown(events, true).await, expected);
    }

    #[tokio::test]
    async fn other_failures_tell_nothing() {
        let expired = Err(watcher::Error::WatchError(Box::new(Status { code: 410, ..Status::default() })));
        let events = vec![refused(500), refused(401), expired, Err(watcher::Error::NoResourceVersion)];
        assert_eq!(shown(events, true).await, ["Err"; 4]);
    }

    #[test]
    fn only_a_namespace_that_was_looked_up_is_missing() {
        let namespace =
            |terminating| NamespaceView { uid: "1".into(), terminating, adopt_keys: false, labels: BTreeMap::new() };
        let rows = [
            (Ok(None), true),
            (Ok(Some(namespace(true))), true),
            (Ok(Some(namespace(false))), false),
            (Err(ApiError::Unavailable("down".into())), false),
            (Err(ApiError::Forbidden("no".into())), false),
        ];
        for (found, expected) in rows {
            assert_eq!(is_missing(&found), expected, "{found:?}");
        }
    }
}
