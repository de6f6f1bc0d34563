//! The watches that feed what the controllers see, beside the objects' own.

use std::{collections::HashSet, sync::Arc};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

use super::triggers::{Scope, Triggers};
use crate::{
    api::metadata,
    cluster::Secrets,
    store::{KeySlot, embedded::EmbeddedStore},
};

/// Objects a page of the list that begins a watch. A page is in memory three times while it is read (as text, as
/// objects, as what is kept of them), and what the allocator got for it stays: with 500, kube's default, more memory
/// than 1,000 keys take (docs/performance.md). The API server answers from its cache, so that more pages cost little.
const PAGE: u32 = 100;

/// How all watches begin.
pub fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// An Api for a scope.
pub fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A watch whose failures are logged and tried again, for ever.
pub fn persistent<K>(
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Send,
{
    stream.default_backoff().filter_map(move |event| async move {
        event.inspect_err(|error| tracing::warn!(%error, "the watch of {what} was interrupted")).ok()
    })
}

/// Watches the key records, and tells whose key changed.
pub async fn records<S: Secrets>(
    client: Client,
    namespace: String,
    store: Arc<EmbeddedStore<S>>,
    triggers: Triggers,
    ready: watch::Sender<bool>,
) {
    let config = config().fields(&format!("type={}", metadata::KEY_RECORD_TYPE));
    let events = watcher(Api::<Secret>::namespaced(client, &namespace), config).modify(|secret| {
        secret.managed_fields_mut().clear();
    });
    let mut events = std::pin::pin!(persistent("key records", events));
    let mut listed = HashSet::new();
    let tell = |slot: Option<KeySlot>| slot.into_iter().for_each(|slot| triggers.key(&slot));
    while let Some(event) = events.next().await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(secret) => {
                listed.insert(secret.name_any());
                tell(store.note(&secret));
            }
            Event::InitDone => {
                store.note_all(&std::mem::take(&mut listed)).into_iter().for_each(|slot| tell(Some(slot)));
                ready.send_replace(true);
            }
            Event::Apply(secret) => tell(store.note(&secret)),
            Event::Delete(secret) => {
                let slot = store.note(&secret);
                store.note_deleted(&secret.name_any());
                tell(slot);
            }
        }
    }
}

/// Watches namespaces: whether they are made anew, go away, or may adopt keys.
pub async fn namespaces(client: Client, mut writer: Writer<PartialObjectMeta<Namespace>>, triggers: Triggers) {
    let events = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config())
        .modify(|namespace| namespace.managed_fields_mut().clear());
    let mut events = std::pin::pin!(persistent("namespaces", events));
    while let Some(event) = events.next().await {
        writer.apply_watcher_event(&event);
        if let Event::Apply(namespace) | Event::Delete(namespace) = &event {
            triggers.namespace(&namespace.name_any());
        }
    }
}

/// Watches the delivered Secrets, without their contents: whether one is deleted or changed.
pub async fn deliveries(client: Client, scope: Scope, triggers: Triggers) {
    let selector = format!("{}={}", metadata::COMPONENT_LABEL, metadata::COMPONENT_DATA_KEY);
    let api: Api<PartialObjectMeta<Secret>> = api(&client, &scope);
    let events = watcher(api, config().labels(&selector));
    let mut events = std::pin::pin!(persistent("delivered Secrets", events));
    while let Some(event) = events.next().await {
        if let Event::Apply(secret) | Event::InitApply(secret) | Event::Delete(secret) = event
            && let Some(owner) = secret.annotations().get(metadata::DATA_KEY)
            && let Some((namespace, name)) = owner.split_once('/')
        {
            triggers.data_key(namespace, name);
        }
    }
}

/// Waits until a store has been filled once. Only one task may wait for a store: kube wakes only the last one that
/// did, so not for those of a controller, which waits itself.
pub async fn filled<K>(store: Store<K>)
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    if store.wait_until_ready().await.is_err() {
        // The writer is gone: we are shutting down, and whoever waits is aborted.
        std::future::pending::<()>().await;
    }
}
