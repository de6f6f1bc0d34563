//! The kinds that are driven: their watches, and what a pass over an object of each does.

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
        triggers::{Scope, Triggers, Watched},
        watches,
    },
    server::freshness::WatchFreshness,
    store::{AccessKeyStore, KeyStore},
};

/// What the drives of all kinds heed.
#[derive(Clone)]
pub struct Orders {
    /// Becomes another number when everything is to be listed anew.
    pub term: watch::Receiver<u64>,
    /// True while this replica leads.
    pub leads: watch::Receiver<bool>,
    /// Becomes true when the operator is to end.
    pub stop: watch::Receiver<bool>,
}

/// All kinds, about to be driven.
pub struct Kinds {
    keys: Vec<Drive<CustomerMasterKey>>,
    data_keys: Vec<Drive<DataKey>>,
    access_keys: Vec<Drive<AccessKey>>,
    /// The way to their controllers.
    pub triggers: Triggers,
    /// Each becomes the number of the term for which a kind has been listed in a scope.
    pub listed: Vec<watch::Receiver<u64>>,
}

impl Kinds {
    /// Prepares their watches.
    pub fn prepare(
        client: &Client,
        settings: &Settings,
        orders: &Orders,
        watch_freshness: impl Fn() -> WatchFreshness,
    ) -> Self {
        let mut listed = Vec::new();
        // The endpoint answers from the keys alone.
        let unasked = WatchFreshness::unasked;
        let (keys, watched_keys) =
            prepare(customer_master_key::KIND, client, settings, orders, &mut listed, watch_freshness);
        let (data_keys, watched_data_keys) = prepare(data_key::KIND, client, settings, orders, &mut listed, unasked);
        let (access_keys, watched_access_keys) =
            prepare(access_key::KIND, client, settings, orders, &mut listed, unasked);
        let triggers = Triggers {
            keys: Arc::new(watched_keys),
            data_keys: Arc::new(watched_data_keys),
            access_keys: Arc::new(watched_access_keys),
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

    /// Begins to drive them. Each drive ends when it is told to and its passes have ended.
    pub fn drive<C, S>(self, context: &Arc<Context<C, S>>, delivery: &access_key::Delivery) -> JoinSet<()>
    where
        C: Cluster + Objects<AccessKey> + ServiceAccounts,
        S: KeyStore + AccessKeyStore,
    {
        let Self { keys, data_keys, access_keys, triggers, .. } = self;
        let mut drives = JoinSet::new();
        keys.into_iter().for_each(|drive| drive_keys(&mut drives, drive, context, &triggers));
        data_keys.into_iter().for_each(|drive| drive_data_keys(&mut drives, drive, context, &triggers));
        access_keys.into_iter().for_each(|drive| drive_access_keys(&mut drives, drive, context, delivery));
        drives
    }
}

/// The drives of a kind, a scope each, and what they have shown.
fn prepare<K>(
    kind: &'static str,
    client: &Client,
    settings: &Settings,
    orders: &Orders,
    listed: &mut Vec<watch::Receiver<u64>>,
    freshness: impl Fn() -> WatchFreshness,
) -> (Vec<Drive<K>>, Vec<Watched<K>>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + 'static,
{
    let Orders { term, leads, stop } = orders;
    let one = |scope| {
        let writer = Writer::default();
        let (watched, requests) = Watched::new(Clone::clone(&scope), writer.as_reader());
        let (lists, listed_once) = watch::channel(0);
        listed.push(listed_once);
        let drive = Drive {
            kind,
            api: watches::api(client, &scope),
            store: writer.as_reader(),
            writer,
            requests,
            concurrency: settings.concurrency,
            freshness: freshness(),
            term: term.clone(),
            listed: lists,
            may_work: leads.clone(),
            stop: stop.clone(),
        };
        (drive, watched)
    };
    settings.scopes().into_iter().map(one).unzip()
}

fn drive_keys<C: Cluster, S: KeyStore>(
    drives: &mut JoinSet<()>,
    drive: Drive<CustomerMasterKey>,
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
    drives.spawn(drive.run(context.clone(), pass, move |object| match object {
        Some(object) => {
            gone.data_keys_of(&object.namespace().unwrap_or_default(), &object.name_any());
            gone.adopters();
        }
        None => gone.all_data_keys(),
    }));
}

fn drive_data_keys<C: Cluster, S: KeyStore>(
    drives: &mut JoinSet<()>,
    drive: Drive<DataKey>,
    context: &Arc<Context<C, S>>,
    triggers: &Triggers,
) {
    let pass = |context: Arc<Context<C, S>>, object| async move { data_key::reconcile(&context, object).await };
    // Its Secret is the garbage collector's business; the key that it was under may be waiting for it to go.
    let triggers = triggers.clone();
    drives.spawn(drive.run(context.clone(), pass, move |object| match object.map(|object| &object.0) {
        Some(Ok(data_key)) => {
            let own = data_key.namespace().unwrap_or_default();
            let (namespace, name) = data_key.spec.master(&own);
            triggers.key_alone(namespace, name);
        }
        _ => triggers.deleting_keys(),
    }));
}

fn drive_access_keys<C, S>(
    drives: &mut JoinSet<()>,
    drive: Drive<AccessKey>,
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
    // Its Secret is the garbage collector's business, its record that of `credentials::tidy`.
    drives.spawn(drive.run(context.clone(), pass, |_| {}));
}
