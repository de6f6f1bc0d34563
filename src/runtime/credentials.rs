//! Feeds the view of valid access keys from the watches of what they depend on, and tidies up after `AccessKey`s that went.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ServiceAccount};
use kube::{Client, Resource, ResourceExt, core::PartialObjectMeta, runtime::watcher::Event};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::{
    list_watch::list_and_watch,
    switches::on,
    triggers::{Scope, Triggers},
    watches::{Listed as Switch, SecretEvent, api, secrets, selection},
};
use crate::{
    access_keys::{AccessKeyView, Listed, Subject},
    api::{AccessKey, metadata},
    cluster::{Cluster, Objects, Secrets},
    controller::{Context, access_key::leftovers},
    server::freshness::WatchFreshness,
    store::{
        AccessKeyStore,
        embedded::{EmbeddedStore, inspect::access_key_owner},
    },
};

/// How often to look for records without an `AccessKey` when nothing says that there is one.
const TIDY: Duration = Duration::from_secs(30);

/// What the watches feed and tell.
pub struct Credentialed<S> {
    /// Opens the records, and knows which are under an older root key.
    pub store: Arc<EmbeddedStore<S>>,
    /// What is valid.
    pub view: Arc<AccessKeyView>,
    /// Which objects to look at again.
    pub triggers: Triggers,
    /// Is rung when an `AccessKey` is gone.
    pub gone: Arc<Notify>,
}

/// Watches, for ever, the records in the operator's namespace and the objects in the scopes; `ready` is told when all of them
/// were listed once, and the view answers from then on.
pub async fn follow<S: Secrets>(
    client: Client,
    namespace: String,
    scopes: Vec<Scope>,
    fed: Credentialed<S>,
    ready: watch::Sender<bool>,
    watch_freshness: impl Fn() -> WatchFreshness,
) {
    let mut watches: Vec<BoxFuture<'_, ()>> = Vec::new();
    let mut listed = Vec::new();
    let mut switch = || {
        let (sender, receiver) = watch::channel(false);
        listed.push(receiver);
        (watch_freshness(), sender)
    };
    watches.push(records(client.clone(), namespace, &fed, switch()).boxed());
    for scope in scopes {
        watches.push(objects::<AccessKey, S>(Subject::AccessKey, &client, scope.clone(), &fed, switch()).boxed());
        watches.push(objects::<ServiceAccount, S>(Subject::ServiceAccount, &client, scope, &fed, switch()).boxed());
    }
    let begin = async {
        for listed in listed {
            on(listed).await;
        }
        fed.view.begin();
        ready.send_replace(true);
    };
    futures::join!(begin, futures::future::join_all(watches));
}

/// Watches the records of access keys.
async fn records<S: Secrets>(client: Client, namespace: String, fed: &Credentialed<S>, listed: Switch) {
    let Credentialed { store, view, triggers, .. } = fed;
    let tell = |(namespace, name): (String, String)| triggers.access_key(&namespace, &name);
    let seen = |event: SecretEvent| match event {
        SecretEvent::There(secret) => {
            let opened = store.note_access_key(&secret).inspect_err(|error| {
                let secret = secret.name_any();
                tracing::error!(%error, secret, "the record of an access key can't be used: it is not valid");
            });
            view.record(&secret.name_any(), opened.ok());
            access_key_owner(&secret).into_iter().for_each(tell);
        }
        SecretEvent::Gone(secret) => {
            view.record(&secret.name_any(), None);
            store.note_access_key_deleted(&secret.name_any()).into_iter().for_each(tell);
        }
        SecretEvent::Exactly(names) => {
            view.records_exactly(&names);
            store.note_all_access_keys(&names).into_iter().for_each(tell);
        }
    };
    secrets("access keys", client, namespace, metadata::ACCESS_KEY_TYPE, seen, listed).await;
}

/// Watches the objects of a kind that access keys depend on, without their contents.
async fn objects<K, S>(
    subject: Subject,
    client: &Client,
    scope: Scope,
    fed: &Credentialed<S>,
    (freshness, ready): Switch,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    let Credentialed { view, triggers, gone, .. } = fed;
    let news = |namespace: &str, name: &str| match subject {
        Subject::ServiceAccount => triggers.access_keys_of(namespace, name),
        Subject::AccessKey => gone.notify_one(),
    };
    let api = api::<PartialObjectMeta<K>>(client, &scope);
    let events = list_and_watch("what access keys depend on", api, selection(), freshness);
    let mut events = std::pin::pin!(events.map(|event| event.modify(|object| object.managed_fields_mut().clear())));
    let mut listed: Listed = HashMap::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.extend(living(&object).map(|uid| (place(&object), uid)));
            }
            Event::InitDone => {
                let changed = view.objects_exactly(subject, scope.as_deref(), std::mem::take(&mut listed));
                changed.iter().for_each(|(namespace, name)| news(namespace, name));
                ready.send_replace(true);
            }
            Event::Apply(object) => {
                let (namespace, name) = place(&object);
                let is_news = view.object(subject, &namespace, &name, living(&object).as_deref());
                // One that is there, or is about to go, leaves no record over.
                if is_news && subject == Subject::ServiceAccount {
                    news(&namespace, &name);
                }
            }
            Event::Delete(object) => {
                let (namespace, name) = place(&object);
                view.object(subject, &namespace, &name, None);
                news(&namespace, &name);
            }
        }
    }
}

fn place<K: Resource>(object: &PartialObjectMeta<K>) -> (String, String) {
    let metadata = &object.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// The UID of an object that is not being deleted: what has to exist has to stay.
fn living<K: Resource>(object: &PartialObjectMeta<K>) -> Option<String> {
    object.metadata.deletion_timestamp.is_none().then(|| object.metadata.uid.clone()).flatten()
}

/// Deletes, for ever, the records of `AccessKey`s that are gone.
pub async fn tidy<C, S>(context: Arc<Context<C, S>>, view: Arc<AccessKeyView>, gone: Arc<Notify>)
where
    C: Cluster + Objects<AccessKey>,
    S: AccessKeyStore,
{
    loop {
        leftovers::sweep(&*context, |namespace, name, uid| view.has(Subject::AccessKey, namespace, name, uid)).await;
        tokio::select! {
            () = gone.notified() => {}
            () = sleep(TIDY) => {}
        }
    }
}
