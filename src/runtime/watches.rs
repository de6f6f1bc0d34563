//! The watches that feed what the controllers see, beside the objects' own.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::{
        reflector::{Store, store::Writer},
        watcher::Event,
    },
};
use tokio::sync::watch;

use super::{
    list_watch::list_and_watch,
    missing_namespaces::{MissingNamespaces, Scoped},
    triggers::{Scope, Triggers},
};
use crate::{
    api::{ClusterKeyStore, KeyStoreRef, metadata},
    cluster::{Guarded, Secrets},
    kms::KeyRecord,
    maps::differing,
    server::freshness::WatchFreshness,
    store::{AliasClaim, embedded::EmbeddedStore},
};

/// Objects a page of the list that begins a watch. A page is in memory three times while it is read (as text, as
/// objects, as what is kept of them), and what the allocator got for it stays: with 500, kube's default, more memory
/// than 1,000 keys take (docs/performance.md). The API server answers from its cache, so that more pages cost little.
const PAGE: u32 = 100;

/// How all watches begin.
pub fn selection() -> ListParams {
    ListParams::default().limit(PAGE)
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

/// How a watch tells that it has listed everything: whether that is what there is, and that it has for the first time.
pub type Listed = (WatchFreshness, watch::Sender<bool>);

/// Watches the key records, and tells whose key changed.
pub async fn records<S: Secrets>(
    client: Client,
    namespace: String,
    store: Arc<EmbeddedStore<S>>,
    triggers: Triggers,
    (freshness, ready): Listed,
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
    secrets("key records", client, namespace, metadata::KEY_RECORD_TYPE, seen, (freshness, ready)).await;
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
    listed: Listed,
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
    secrets("aliases", client, namespace, metadata::ALIAS_TYPE, seen, listed).await;
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
    (freshness, ready): Listed,
) {
    let secrets = Api::<Secret>::namespaced(client, &namespace);
    let events = list_and_watch(what, secrets, selection().fields(&format!("type={type_}")), freshness);
    let mut events = std::pin::pin!(events.map(|event| event.modify(|secret| secret.managed_fields_mut().clear())));
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
    freshness: WatchFreshness,
) {
    let stores = Api::<Guarded<ClusterKeyStore>>::all(client);
    let mut events = std::pin::pin!(list_and_watch("key stores", stores, selection(), freshness));
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
                return differing(&before, &self.seen);
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
pub async fn namespaces(
    client: Client,
    mut writer: Writer<PartialObjectMeta<Namespace>>,
    triggers: Triggers,
    freshness: WatchFreshness,
) {
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client);
    let events = list_and_watch("namespaces", namespaces, selection(), freshness);
    let mut events = std::pin::pin!(events.map(|event| event.modify(|object| object.managed_fields_mut().clear())));
    let shown = writer.as_reader();
    let mut is_first = true;
    while let Some(event) = events.next().await {
        let before = if let Event::InitDone = &event { shown.state() } else { Vec::new() };
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(namespace) | Event::Delete(namespace) => triggers.namespace(&namespace.name_any()),
            // Before the first list is complete nothing was looked at.
            Event::InitDone if std::mem::take(&mut is_first) => {}
            Event::InitDone => {
                changed_meanwhile(&before, &shown.state()).iter().for_each(|name| triggers.namespace(name));
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// The names of the namespaces that came, went, or differ in what passes look at, sorted.
fn changed_meanwhile(
    before: &[Arc<PartialObjectMeta<Namespace>>],
    now: &[Arc<PartialObjectMeta<Namespace>>],
) -> Vec<String> {
    let looks = |namespace: &Arc<PartialObjectMeta<Namespace>>| {
        let metadata = &namespace.metadata;
        let is_deleted = metadata.deletion_timestamp.is_some();
        let looks = (metadata.uid.clone(), is_deleted, metadata.labels.clone(), metadata.annotations.clone());
        (namespace.name_any(), looks)
    };
    let mut names = differing(&before.iter().map(looks).collect(), &now.iter().map(looks).collect());
    names.sort_unstable();
    names
}

/// Watches the delivered Secrets, without their contents: whether one is deleted or changed.
pub async fn deliveries(client: Client, scope: Scope, triggers: Triggers, missing: Arc<MissingNamespaces>) {
    let (data_key, access_key) = (metadata::COMPONENT_DATA_KEY, metadata::COMPONENT_ACCESS_KEY);
    let selector = format!("{} in ({data_key}, {access_key})", metadata::COMPONENT_LABEL);
    let secrets = Scoped::<PartialObjectMeta<Secret>>::new(&client, scope.clone(), &missing);
    let (selected, freshness) = (selection().labels(&selector), WatchFreshness::unasked());
    look_at_deliveries(list_and_watch("delivered Secrets", secrets, selected, freshness), &scope, &triggers).await;
}

async fn look_at_deliveries(
    events: impl Stream<Item = Event<PartialObjectMeta<Secret>>>,
    scope: &Scope,
    triggers: &Triggers,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let secret = match event {
            Event::Apply(secret) | Event::Delete(secret) => secret,
            Event::Init | Event::InitApply(_) => continue,
            // Whatever the list has: it has nothing of a Secret that went after the last pass over its owner.
            Event::InitDone => {
                triggers.all_delivered(scope);
                continue;
            }
        };
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
