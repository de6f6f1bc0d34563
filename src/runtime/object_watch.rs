//! Watches a kind: shows its objects to the passes and to the KMS endpoint, and asks for a pass over each that changed. It
//! goes on when the operator is to stop, as long as the endpoint answers from what it shows; the passes end before.

use std::{fmt::Debug, sync::Arc};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Resource, ResourceExt,
    runtime::{
        reflector::{ObjectRef, store::Writer},
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{
    list_watch::list_and_watch,
    missing_namespaces::{MissingNamespaces, Scoped},
    switches::begun_for_each,
    triggers::Watched,
    watches::selection,
};
use crate::{cluster::Guarded, server::freshness::WatchFreshness};

/// One kind in one scope.
pub struct ObjectWatch<K: Resource<DynamicType = ()> + Clone + Debug + 'static> {
    /// The kind's name, for logs.
    pub kind: &'static str,
    /// The API server.
    pub client: kube::Client,
    /// What is watched, and who is asked for passes.
    pub watched: Watched<K>,
    /// What the watch has shown is written here; `watched` reads it.
    pub writer: Writer<Guarded<K>>,
    /// Whose namespace is gone shows nothing.
    pub missing: Arc<MissingNamespaces>,
    /// Is told how the watch stands. The same one for each term: another term makes nothing fresher.
    pub freshness: WatchFreshness,
    /// When this becomes another number, everything is listed anew.
    pub term: watch::Receiver<u64>,
    /// Is told for which number the store has been filled. Not `Store::wait_until_ready`, which wakes one task only, and
    /// the controller is one that waits.
    pub listed: watch::Sender<u64>,
}

impl<K> ObjectWatch<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Watches for ever. `gone` is told of objects that are no more, which get no pass: of one, or, with None, that any may
    /// have gone unseen.
    pub async fn run(self, gone: impl Fn(Option<&Guarded<K>>)) {
        let Self { kind, client, watched, mut writer, missing, freshness, term, listed } = self;
        let events = begun_for_each(term, |term| {
            let there = Scoped::<Guarded<K>>::new(&client, watched.scope.clone(), &missing);
            list_and_watch(kind, there, selection(), freshness.clone()).map(move |event| (term, event)).boxed()
        });
        let mut events = std::pin::pin!(events);
        while let Some((term, event)) = events.next().await {
            take(&watched, &mut writer, &event, &gone);
            if let Event::InitDone = event {
                listed.send_replace(term);
            }
        }
    }
}

/// Shows what an event says, and asks for the passes that it gives reason for. One over an object that is gone only forgets what
/// is known of it.
fn take<K: Resource<DynamicType = ()> + Clone + Debug>(
    watched: &Watched<K>,
    writer: &mut Writer<Guarded<K>>,
    event: &Event<Guarded<K>>,
    gone: impl Fn(Option<&Guarded<K>>),
) {
    let before = if let Event::InitDone = event { watched.store.state() } else { Vec::new() };
    writer.apply_watcher_event(event);
    let request = |object: &Guarded<K>| {
        watched.request(&object.namespace().unwrap_or_default(), &object.name_any());
    };
    match event {
        // Not each object as the list brings it: until the end of the list a pass sees what was there before.
        Event::InitDone => {
            watched.request_all();
            let is_gone = |object: &&Arc<Guarded<K>>| watched.store.get(&ObjectRef::from_obj(&***object)).is_none();
            before.iter().filter(is_gone).for_each(|object| request(object));
            gone(None);
        }
        Event::Apply(object) => request(object),
        Event::Delete(object) => {
            request(object);
            gone(Some(object));
        }
        Event::Init | Event::InitApply(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::api::{DataKey, DataKeySpec};

    fn object(name: &str) -> Guarded<DataKey> {
        let mut object = DataKey::new(name, DataKeySpec::default());
        object.metadata.namespace = Some("shop".into());
        Guarded(Ok(object))
    }

    #[test]
    fn an_object_of_a_list_is_looked_at_when_the_list_is_complete() {
        let mut writer = Writer::default();
        let (watched, mut requests) = Watched::new(None, writer.as_reader());
        let told = Cell::new(0);
        let mut after = |event: Event<Guarded<DataKey>>| {
            take(&watched, &mut writer, &event, |_| told.set(told.get() + 1));
            let mut asked: Vec<_> = std::iter::from_fn(|| requests.try_recv().ok()).map(|asked| asked.name).collect();
            asked.sort_unstable();
            let mut shown: Vec<_> = watched.store.state().iter().map(|object| object.name_any()).collect();
            shown.sort_unstable();
            (asked.join(" "), shown.join(" "), told.take())
        };
        let rows = [
            (Event::Init, "", "", 0),
            (Event::InitApply(object("a")), "", "", 0),
            (Event::InitApply(object("b")), "", "", 0),
            (Event::InitDone, "a b", "a b", 1),
            (Event::Apply(object("c")), "c", "a b c", 0),
            (Event::Delete(object("a")), "a", "b c", 1),
            // After an interruption: c went meanwhile.
            (Event::Init, "", "b c", 0),
            (Event::InitApply(object("b")), "", "b c", 0),
            (Event::InitDone, "b c", "b", 1),
        ];
        for (event, asked, shown, told) in rows {
            let step = format!("{event:?}");
            assert_eq!(after(event), (asked.into(), shown.into(), told), "{step}");
        }
    }
}
