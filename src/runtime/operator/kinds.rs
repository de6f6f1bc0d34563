//! The kinds: their watches, which go on for as long as anything looks at what they show, and what a pass over an object of each
//! does.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace};
use kube::{
    Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{Store, store::Writer},
};
use tokio::{sync::watch, task::JoinSet};

use super::Settings;
use crate::{
    api::{AccessKey, ClusterKeyStore, CustomerMasterKey, DataKey},
    cluster::{Cluster, Guarded, Objects, ServiceAccounts, Views},
    controller::{Context, access_key, customer_master_key, data_key},
    runtime::{
        drive::Drive,
        missing_namespaces::MissingNamespaces,
        object_watch::ObjectWatch,
        triggers::{Scope, Triggers, Watched},
    },
    server::freshness::WatchFreshness,
    store::{AccessKeyStore, KeyStore},
};

/// What the watches and drives of all kinds heed.
#[derive(Clone)]
pub struct Orders {
    /// Becomes another number when everything is to be listed anew.
    pub term: watch::Receiver<u64>,
    /// True while this replica leads.
    pub leads: watch::Receiver<bool>,
    /// Becomes true when the operator is to end.
    pub stop: watch::Receiver<bool>,
}

/// All kinds, about to be watched and driven.
pub struct Kinds {
    keys: Vec<Driven<CustomerMasterKey>>,
    data_keys: Vec<Driven<DataKey>>,
    access_keys: Vec<Driven<AccessKey>>,
    /// The way to their controllers.
    pub triggers: Triggers,
    /// Each becomes the number of the term for which a kind has been listed in a scope.
    pub listed: Vec<watch::Receiver<u64>>,
}

/// One kind in one scope.
struct Driven<K: Resource<DynamicType = ()> + Clone + Debug + 'static> {
    watch: ObjectWatch<K>,
    drive: Drive<K>,
}

/// Who watches, for ever, and who drives, until it is told to stop and its passes have ended.
struct Tasks<'a> {
    services: &'a mut JoinSet<()>,
    drives: JoinSet<()>,
}

impl Kinds {
    /// Prepares their watches.
    pub fn prepare(
        reach: (&Client, &Arc<MissingNamespaces>),
        settings: &Settings,
        orders: &Orders,
        watch_freshness: impl Fn() -> WatchFreshness,
    ) -> Self {
        // The endpoint answers from the keys alone.
        let unasked = WatchFreshness::unasked;
        let keys = prepare(customer_master_key::KIND, reach, settings, orders, watch_freshness);
        let data_keys = prepare(data_key::KIND, reach, settings, orders, unasked);
        let access_keys = prepare(access_key::KIND, reach, settings, orders, unasked);
        let listed = listed(&keys).chain(listed(&data_keys)).chain(listed(&access_keys)).collect();
        let triggers = Triggers {
            keys: Arc::new(watched(&keys)),
            data_keys: Arc::new(watched(&data_keys)),
            access_keys: Arc::new(watched(&access_keys)),
        };
        Self { keys, data_keys, access_keys, triggers, listed }
    }

    /// What the watches have shown, with those of namespaces and key stores.
    pub fn views(
        &self,
        scopes: Vec<Scope>,
        namespaces: Store<PartialObjectMeta<Namespace>>,
        key_stores: Store<Guarded<ClusterKeyStore>>,
    ) -> Views {
        let Triggers { keys, data_keys, .. } = &self.triggers;
        let keys = keys.iter().map(|watched| watched.store.clone()).collect();
        let data_keys = data_keys.iter().map(|watched| watched.store.clone()).collect();
        Views { namespaces, scopes, keys, data_keys, key_stores }
    }

    /// Begins to watch them, for ever, and to drive them. Each drive ends when it is told to and its passes have ended.
    pub fn begin<C, S>(
        self,
        services: &mut JoinSet<()>,
        context: &Arc<Context<C, S>>,
        delivery: &access_key::Delivery,
    ) -> JoinSet<()>
    where
        C: Cluster + Objects<AccessKey> + ServiceAccounts,
        S: KeyStore + AccessKeyStore,
    {
        let Self { keys, data_keys, access_keys, triggers, .. } = self;
        let mut tasks = Tasks { services, drives: JoinSet::new() };
        keys.into_iter().for_each(|kind| begin_keys(&mut tasks, kind, context, &triggers));
        data_keys.into_iter().for_each(|kind| begin_data_keys(&mut tasks, kind, context, &triggers));
        access_keys.into_iter().for_each(|kind| begin_access_keys(&mut tasks, kind, context, delivery));
        tasks.drives
    }
}

/// A kind, in each scope.
fn prepare<K>(
    kind: &'static str,
    (client, missing): (&Client, &Arc<MissingNamespaces>),
    settings: &Settings,
    orders: &Orders,
    freshness: impl Fn() -> WatchFreshness,
) -> Vec<Driven<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + 'static,
{
    let Orders { term, leads, stop } = orders;
    let one = |scope| {
        let writer = Writer::default();
        let (watched, requests) = Watched::new(scope, writer.as_reader());
        let (lists, listed) = watch::channel(0);
        let drive = Drive {
            kind,
            store: writer.as_reader(),
            requests,
            concurrency: settings.concurrency,
            listed,
            may_work: leads.clone(),
            stop: stop.clone(),
        };
        let (client, missing, freshness) = (client.clone(), missing.clone(), freshness());
        let watch =
            ObjectWatch { kind, client, watched, writer, missing, freshness, term: term.clone(), listed: lists };
        Driven { watch, drive }
    };
    settings.scopes().into_iter().map(one).collect()
}

fn listed<K>(kinds: &[Driven<K>]) -> impl Iterator<Item = watch::Receiver<u64>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    kinds.iter().map(|kind| kind.drive.listed.clone())
}

fn watched<K>(kinds: &[Driven<K>]) -> Vec<Watched<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    kinds.iter().map(|kind| kind.watch.watched.clone()).collect()
}

fn begin_keys<C: Cluster, S: KeyStore>(
    tasks: &mut Tasks<'_>,
    kind: Driven<CustomerMasterKey>,
    context: &Arc<Context<C, S>>,
    triggers: &Triggers,
) {
    let (after, gone) = (triggers.clone(), triggers.clone());
    let pass = move |context: Arc<Context<C, S>>, object: CustomerMasterKey| {
        let triggers = after.clone();
        async move {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let outcome = customer_master_key::reconcile(&context, object).await;
            triggers.data_keys_of(&namespace, &name);
            outcome
        }
    };
    tasks.drives.spawn(kind.drive.run(context.clone(), pass));
    tasks.services.spawn(kind.watch.run(move |object| match object {
        Some(object) => {
            gone.data_keys_of(&object.namespace().unwrap_or_default(), &object.name_any());
            gone.adopters();
        }
        None => gone.all_data_keys(),
    }));
}

fn begin_data_keys<C: Cluster, S: KeyStore>(
    tasks: &mut Tasks<'_>,
    kind: Driven<DataKey>,
    context: &Arc<Context<C, S>>,
    triggers: &Triggers,
) {
    let pass = |context: Arc<Context<C, S>>, object| async move { data_key::reconcile(&context, object).await };
    tasks.drives.spawn(kind.drive.run(context.clone(), pass));
    // Its Secret is the garbage collector's business; the key that it was under may be waiting for it to go.
    let triggers = triggers.clone();
    tasks.services.spawn(kind.watch.run(move |object| match object.map(|object| &object.0) {
        Some(Ok(data_key)) => {
            let own = data_key.namespace().unwrap_or_default();
            let (namespace, name) = data_key.spec.master(&own);
            triggers.key_alone(namespace, name);
        }
        _ => triggers.deleting_keys(),
    }));
}

fn begin_access_keys<C, S>(
    tasks: &mut Tasks<'_>,
    kind: Driven<AccessKey>,
    context: &Arc<Context<C, S>>,
    delivery: &access_key::Delivery,
) where
    C: Cluster + Objects<AccessKey> + ServiceAccounts,
    S: KeyStore + AccessKeyStore,
{
    let delivery = delivery.clone();
    let pass = move |context: Arc<Context<C, S>>, object| {
        let delivery = delivery.clone();
        async move { access_key::reconcile(&context, &delivery, object).await }
    };
    tasks.drives.spawn(kind.drive.run(context.clone(), pass));
    // Its Secret is the garbage collector's business, its record that of `credentials::tidy`.
    tasks.services.spawn(kind.watch.run(|_| {}));
}
