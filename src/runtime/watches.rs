//! The watches that feed what the controllers see, beside the objects' own.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::Arc,
    time::Instant,
};

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

use super::{
    interruptions::Interruptions,
    missing_namespaces::MissingNamespaces,
    triggers::{Scope, Triggers},
};
use crate::{
    api::{ClusterKeyStore, KeyStoreRef, metadata},
    cluster::{Guarded, Secrets},
    kms::KeyRecord,
    store::{AliasClaim, embedded::EmbeddedStore},
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

/// A watch whose failures are logged, and which is then tried again, for ever.
pub fn persistent<K: Send>(
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = Event<K>> + Send {
    logged(what, stream.default_backoff())
}

/// The same of a watch in a scope, which is empty where its namespace is missing.
pub fn persistent_in<K: Send>(
    scope: &Scope,
    missing: &MissingNamespaces,
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = Event<K>> + Send {
    logged(what, missing.count_as_empty(scope.clone(), stream.default_backoff()))
}

fn logged<K: Send>(
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = Event<K>> + Send {
    let mut interruptions = Interruptions::default();
    stream.filter_map(move |event| {
        match &event {
            Err(error) if interruptions.failed(&error.to_string(), Instant::now()) => {
                tracing::warn!(%error, "the watch of {what} was interrupted; it is tried again, and this said once a minute");
            }
            Err(error) => tracing::debug!(%error, "the watch of {what} was interrupted"),
            // It says that a list is asked for, not that one comes.
            Ok(Event::Init) => {}
            Ok(_) => {
                if let Some(failures) = interruptions.went_on() {
                    tracing::info!(failures, "the watch of {what} goes on");
                }
            }
        }
        ready(event.ok())
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
    let tell = |owner: Option<(String, String)>| {
        owner.into_iter().for_each(|(namespace, name)| triggers.key(&namespace, &name));
    };
    let begun = ready.subscribe();
    let seen = |event: SecretEvent| match event {
        SecretEvent::There(secret) => {
            let name = secret.name_any();
            let is_new = store.seen(&name).is_none();
            tell(store.note(&secret));
            // Before the first list is complete no object was looked at, so that nobody waits.
            if let (true, Some(record)) = (*begun.borrow(), store.seen(&name)) {
                who_waits_for(&record, is_new, &triggers);
            }
        }
        SecretEvent::Gone(secret) => {
            let owner = store.note(&secret);
            store.note_deleted(&secret.name_any());
            tell(owner);
        }
        SecretEvent::Exactly(names) => store.note_all(&names).into_iter().for_each(|owner| tell(Some(owner))),
    };
    secrets("key records", client, namespace, metadata::KEY_RECORD_TYPE, seen, ready).await;
}

/// Tells who waits for a key that is another object's, or was: whoever wants to adopt it, once it is let go or its
/// record restored, and the object that it was made for, which gets a new one once it is adopted.
fn who_waits_for(record: &KeyRecord, is_new: bool, triggers: &Triggers) {
    if is_new || record.owner.released {
        triggers.adopters();
    }
    if let Some(home) = &record.home {
        triggers.key(&home.namespace, &home.name);
    }
}

/// Watches the claims of aliases, and tells who may have one that is free now.
pub async fn aliases<S: Secrets>(
    client: Client,
    namespace: String,
    store: Arc<EmbeddedStore<S>>,
    triggers: Triggers,
    ready: watch::Sender<bool>,
) {
    let tell = |claim: AliasClaim| triggers.alias(&claim.slot.namespace, &claim.slot.alias);
    let seen = |event: SecretEvent| match event {
        SecretEvent::There(secret) => store.note_alias(&secret),
        SecretEvent::Gone(secret) => {
            store.note_alias(&secret);
            store.note_alias_deleted(&secret.name_any()).into_iter().for_each(tell);
        }
        SecretEvent::Exactly(names) => store.note_all_aliases(&names).into_iter().for_each(tell),
    };
    secrets("aliases", client, namespace, metadata::ALIAS_TYPE, seen, ready).await;
}

/// What a watch of Secrets tells.
pub enum SecretEvent {
    /// One is there, or changed.
    There(Secret),
    /// One is gone.
    Gone(Secret),
    /// There are exactly those of these names.
    Exactly(HashSet<String>),
}

/// Watches the operator's own Secrets of a type.
pub async fn secrets(
    what: &'static str,
    client: Client,
    namespace: String,
    type_: &str,
    seen: impl Fn(SecretEvent),
    ready: watch::Sender<bool>,
) {
    let config = config().fields(&format!("type={type_}"));
    let events = watcher(Api::<Secret>::namespaced(client, &namespace), config).modify(|secret| {
        secret.managed_fields_mut().clear();
    });
    let mut events = std::pin::pin!(persistent(what, events));
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(secret) => {
                listed.insert(secret.name_any());
                seen(SecretEvent::There(secret));
            }
            Event::InitDone => {
                seen(SecretEvent::Exactly(std::mem::take(&mut listed)));
                ready.send_replace(true);
            }
            Event::Apply(secret) => seen(SecretEvent::There(secret)),
            Event::Delete(secret) => seen(SecretEvent::Gone(secret)),
        }
    }
}

/// Watches the key stores. One that came, changed or went is a reason to look at the keys in it, and `changed` is told.
/// Status is not: the operator writes it.
pub async fn key_stores(
    client: Client,
    mut writer: Writer<Guarded<ClusterKeyStore>>,
    triggers: Triggers,
    changed: watch::Sender<()>,
) {
    let events = watcher(Api::<Guarded<ClusterKeyStore>>::all(client), config());
    let mut events = std::pin::pin!(persistent("key stores", events));
    let mut seen = Declarations::default();
    while let Some(event) = events.next().await {
        writer.apply_watcher_event(&event);
        for name in seen.changed_by(&event) {
            triggers.key_store(&KeyStoreRef { name, ..KeyStoreRef::default() });
            changed.send_replace(());
        }
    }
}

/// What is declared, by name: the UID and the generation of each object.
type Declared = HashMap<String, (Option<String>, Option<i64>)>;

/// The declarations that a watch has shown, through its interruptions.
#[derive(Default)]
struct Declarations {
    seen: Declared,
    /// Those of a list that is coming in.
    listed: Option<Declared>,
}

impl Declarations {
    /// The names of the objects that came, went, or declare something else, now that this is known.
    fn changed_by<K: ResourceExt>(&mut self, event: &Event<K>) -> Vec<String> {
        let declared = |object: &K| (object.uid(), object.meta().generation);
        match event {
            Event::Init => self.listed = Some(Declared::new()),
            Event::InitApply(object) => {
                self.listed.get_or_insert_default().insert(object.name_any(), declared(object));
            }
            Event::InitDone => {
                let now = self.listed.take().unwrap_or_default();
                let before = std::mem::replace(&mut self.seen, now);
                let names: HashSet<_> = before.keys().chain(self.seen.keys()).cloned().collect();
                return names.into_iter().filter(|name| before.get(name) != self.seen.get(name)).collect();
            }
            Event::Apply(object) => {
                let now = declared(object);
                if self.seen.insert(object.name_any(), now.clone()) != Some(now) {
                    return vec![object.name_any()];
                }
            }
            Event::Delete(object) => {
                self.seen.remove(&object.name_any());
                return vec![object.name_any()];
            }
        }
        Vec::new()
    }
}

/// Watches namespaces: whether they are made anew, go away, may adopt keys, or have the labels that a key is shared
/// with.
pub async fn namespaces(client: Client, mut writer: Writer<PartialObjectMeta<Namespace>>, triggers: Triggers) {
    let events = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config())
        .modify(|namespace| namespace.managed_fields_mut().clear());
    let mut events = std::pin::pin!(persistent("namespaces", events));
    while let Some(event) = events.next().await {
        writer.apply_watcher_event(&event);
        if let Event::Apply(namespace) | Event::Delete(namespace) = &event {
            triggers.namespace(&namespace.name_any());
        }
        // After an interruption any label may have changed.
        if let Event::InitDone = &event {
            triggers.all_data_keys();
        }
    }
}

/// Watches the delivered Secrets, without their contents: whether one is deleted or changed.
pub async fn deliveries(client: Client, scope: Scope, triggers: Triggers, missing: Arc<MissingNamespaces>) {
    let (data_key, access_key) = (metadata::COMPONENT_DATA_KEY, metadata::COMPONENT_ACCESS_KEY);
    let selector = format!("{} in ({data_key}, {access_key})", metadata::COMPONENT_LABEL);
    let api: Api<PartialObjectMeta<Secret>> = api(&client, &scope);
    let events = watcher(api, config().labels(&selector));
    let mut events = std::pin::pin!(persistent_in(&scope, &missing, "delivered Secrets", events));
    while let Some(event) = events.next().await {
        let (Event::Apply(secret) | Event::InitApply(secret) | Event::Delete(secret)) = event else { continue };
        let owner = |annotation| secret.annotations().get(annotation).and_then(|owner| owner.split_once('/'));
        if let Some((namespace, name)) = owner(metadata::DATA_KEY) {
            triggers.data_key(namespace, name);
        }
        if let Some((namespace, name)) = owner(metadata::ACCESS_KEY) {
            triggers.access_key(namespace, name);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str, uid: &str, generation: i64) -> ClusterKeyStore {
        let mut store = ClusterKeyStore::new(name, crate::api::ClusterKeyStoreSpec::default());
        (store.metadata.uid, store.metadata.generation) = (Some(uid.into()), Some(generation));
        store
    }

    #[test]
    fn rule_16_only_what_is_declared_counts_as_a_change() {
        let list = |seen: &mut Declarations, stores: &[ClusterKeyStore]| {
            let mut changed = seen.changed_by(&Event::<ClusterKeyStore>::Init);
            stores.iter().for_each(|store| changed.extend(seen.changed_by(&Event::InitApply(store.clone()))));
            assert_eq!(changed, Vec::<String>::new());
            let mut changed = seen.changed_by(&Event::<ClusterKeyStore>::InitDone);
            changed.sort();
            changed
        };
        let mut seen = Declarations::default();
        assert_eq!(list(&mut seen, &[store("a", "1", 1), store("b", "2", 1)]), ["a", "b"]);
        assert_eq!(seen.changed_by(&Event::Apply(store("a", "1", 1))).len(), 0, "its status was written");
        assert_eq!(seen.changed_by(&Event::Apply(store("a", "1", 2))), ["a"]);
        assert_eq!(seen.changed_by(&Event::Apply(store("a", "3", 2))), ["a"], "made anew");
        assert_eq!(seen.changed_by(&Event::Delete(store("a", "3", 2))), ["a"]);
        // The watch was interrupted, and begins anew.
        assert_eq!(list(&mut seen, &[store("b", "2", 1)]).len(), 0);
        assert_eq!(list(&mut seen, &[store("b", "2", 2), store("c", "4", 1)]), ["b", "c"]);
        assert_eq!(list(&mut seen, &[store("c", "4", 1)]), ["b"]);
    }
}
