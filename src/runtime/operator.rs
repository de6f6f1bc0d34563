//! The operator: everything put together and run.

use std::{collections::HashSet, fmt::Debug, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt, runtime::reflector::store::Writer};
use thiserror::Error;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    admin::Readiness,
    arguments::{KeyMetrics, RunArguments},
    credentials::{self, Credentialed},
    drive::{Drive, on},
    key_stores::{self, Signs},
    kms_endpoint::{self, Certificate, KmsListeners, KmsSettings},
    metrics::{Metrics, Sources},
    root_key_guard, root_key_rewrap,
    triggers::{Scope, Triggers, Watched},
    watches,
};
use crate::{
    access_keys::AccessKeyView,
    api::{AccessKey, CustomerMasterKey, DataKey},
    clock::Clock,
    cluster::{Cluster, KubeCluster, Objects, ServiceAccounts, Views},
    controller::{
        Attempts, Context, Expectations, access_key, alarms, customer_master_key, data_key, orphans::Orphans, purge,
    },
    crypto::{Random, RootKeyRing},
    server::{
        auth::Authenticator,
        endpoint::Endpoint,
        operations::{EndpointCluster, Kms, OperationSettings},
        tls::TlsError,
    },
    store::{
        AccessKeyStore, KeyStore,
        embedded::{EmbeddedStore, root_key, root_key::RootKeyError},
        metered::Metered,
    },
};

/// How often to look for keys that are due, and for records without an object, when nothing else says when. It
/// looks at what the watches have shown, and asks the API server nothing unless it finds something.
const SWEEP: Duration = Duration::from_secs(30);

/// What the operator is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's own namespace.
    pub namespace: String,
    /// What it watches; empty: all namespaces.
    pub watch_namespaces: Vec<String>,
    /// Root keys; empty: the Secret.
    pub root_key_files: Vec<PathBuf>,
    /// Make no keys.
    pub no_new_keys: bool,
    /// How far the clocks may differ.
    pub clock_skew_tolerance: Duration,
    /// Passes of a kind at a time.
    pub concurrency: u16,
    /// Whether metrics describe single keys.
    pub key_metrics: bool,
    /// The KMS endpoint.
    pub kms: KmsSettings,
    /// Where applications reach the KMS endpoint.
    pub kms_url: String,
}

impl From<&RunArguments> for Settings {
    fn from(arguments: &RunArguments) -> Self {
        let namespace = arguments.namespace.namespace.clone();
        Self {
            kms_url: arguments
                .kms
                .kms_url
                .clone()
                .unwrap_or_else(|| format!("https://cmk-operator-kms.{namespace}.svc")),
            namespace,
            watch_namespaces: arguments.watch_namespaces.clone(),
            root_key_files: arguments.root_key.root_key_files.clone(),
            no_new_keys: arguments.no_new_keys,
            clock_skew_tolerance: arguments.clock_skew_tolerance,
            concurrency: arguments.concurrency,
            key_metrics: arguments.key_metrics == KeyMetrics::On,
            kms: KmsSettings::from(arguments),
        }
    }
}

impl Settings {
    fn scopes(&self) -> Vec<Scope> {
        if self.watch_namespaces.is_empty() {
            return vec![None];
        }
        let distinct: HashSet<_> = self.watch_namespaces.iter().cloned().collect();
        distinct.into_iter().map(Some).collect()
    }
}

/// What the operator is given.
pub struct Surroundings {
    /// The API server.
    pub client: Client,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Whether it does its work.
    pub readiness: Readiness,
    /// Where the KMS endpoint listens.
    pub kms: KmsListeners,
}

/// Why the operator ended.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// There is no root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// There is no certificate for the KMS endpoint.
    #[error("--kms-listen: {0}")]
    Certificate(#[from] TlsError),
    /// A part of it panicked: a bug. The process ends, and starts anew.
    #[error("a part of the operator failed: {0}")]
    Part(#[from] tokio::task::JoinError),
    /// A part of it ended that never should.
    #[error("a part of the operator ended before it was told to")]
    Ended,
}

/// Runs the operator until `stop` becomes true.
///
/// # Errors
/// [`OperatorError`]: it can't begin, or can't go on.
pub async fn operate(
    settings: Settings,
    surroundings: Surroundings,
    stop: watch::Receiver<bool>,
) -> Result<(), OperatorError> {
    let Surroundings { client, clock, random, metrics, readiness, kms: listeners } = surroundings;
    let keys = Kind::prepare(customer_master_key::KIND, &client, &settings, &stop);
    let data_keys = Kind::prepare(data_key::KIND, &client, &settings, &stop);
    let access_keys = Kind::prepare(access_key::KIND, &client, &settings, &stop);
    let (namespaces, key_stores) = (Writer::default(), Writer::default());
    let views = Views {
        namespaces: namespaces.as_reader(),
        scopes: settings.scopes(),
        keys: keys.watched.iter().map(|watched| watched.store.clone()).collect(),
        data_keys: data_keys.watched.iter().map(|watched| watched.store.clone()).collect(),
        key_stores: key_stores.as_reader(),
    };
    let cluster = KubeCluster::new(client.clone(), views.clone());
    let ring = Arc::new(root_keys(&settings, &cluster, &*random).await?);
    tracing::info!(root_key_id = %ring.primary_id(), namespace = settings.namespace, "the root key is there");
    let store =
        Arc::new(EmbeddedStore::new(&settings.namespace, cluster.clone(), ring.clone(), clock.clone(), random.clone()));
    let view = Arc::new(AccessKeyView::new(clock.clone()));
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        store: Arc::new(Metered::new(store.clone(), metrics.store.clone())),
        clock,
        random,
        no_new_keys: settings.no_new_keys,
        purge_holds: purge::Holds::default(),
        attempts: Attempts::default(),
        expectations: Expectations::default(),
        metrics,
    });
    let triggers = Triggers {
        keys: Arc::new(keys.watched),
        data_keys: Arc::new(data_keys.watched),
        access_keys: Arc::new(access_keys.watched),
    };

    // What never ends by itself.
    let mut services = JoinSet::new();
    let (records_ready, records_listed) = watch::channel(false);
    let namespace = settings.namespace.clone();
    let (aliases_ready, aliases_listed) = watch::channel(false);
    let usage = store.usage();
    let records = watches::records(client.clone(), namespace.clone(), store.clone(), triggers.clone(), records_ready);
    let aliases = watches::aliases(client.clone(), namespace.clone(), store.clone(), triggers.clone(), aliases_ready);
    services.spawn(records);
    services.spawn(aliases);
    services.spawn(drop_idle_keys(store.clone()));
    let (credentials_ready, credentials_listed) = watch::channel(false);
    let gone = Arc::new(Notify::new());
    let fed = Credentialed { store: store.clone(), view: view.clone(), triggers: triggers.clone(), gone: gone.clone() };
    services.spawn(credentials::follow(client.clone(), namespace.clone(), settings.scopes(), fed, credentials_ready));
    services.spawn({
        let (context, tidied, listed) = (context.clone(), view.clone(), credentials_listed.clone());
        async move {
            on(listed).await;
            credentials::tidy(context, tidied, gone).await;
        }
    });
    // Who delivers access keys is told the CA of the endpoint.
    let (authority, kms_ca) = watch::channel(None);
    services.spawn(redeliver(kms_ca.clone(), triggers.clone()));
    let rewrapped = store.clone();
    services.spawn({
        let metrics = context.metrics.clone();
        let (records, aliases, access_keys) =
            (records_listed.clone(), aliases_listed.clone(), credentials_listed.clone());
        async move {
            on(records).await;
            on(aliases).await;
            on(access_keys).await;
            root_key_rewrap::rewrap(rewrapped, metrics).await;
        }
    });
    services.spawn(watches::namespaces(client.clone(), namespaces, triggers.clone()));
    let (stores_changed, stores) = watch::channel(());
    services.spawn(watches::key_stores(client.clone(), key_stores, triggers.clone(), stores_changed));
    for scope in settings.scopes() {
        services.spawn(watches::deliveries(client.clone(), scope, triggers.clone()));
    }
    if settings.root_key_files.is_empty() {
        services.spawn(root_key_guard::guard(client.clone(), namespace.clone(), cluster.clone(), ring));
    }
    // What ends when it is told to.
    let mut drives = JoinSet::new();
    keys.drives.into_iter().for_each(|drive| drive_keys(&mut drives, drive, &context, &triggers));
    data_keys.drives.into_iter().for_each(|drive| drive_data_keys(&mut drives, drive, &context, &triggers));
    let delivery = access_key::Delivery { url: settings.kms_url.clone(), ca: kms_ca };
    access_keys.drives.into_iter().for_each(|drive| drive_access_keys(&mut drives, drive, &context, &delivery));
    let endpoint = Arc::new(endpoint(&context, &settings, view));
    let mut tls = None;
    if listeners.tls.is_some() || listeners.plain.is_some() {
        let (contact, metrics) = (endpoint.kms().contact().clone(), context.metrics.endpoint.clone());
        services.spawn(kms_endpoint::keep_in_contact(contact, cluster.clone(), namespace.clone(), metrics));
    }
    if listeners.tls.is_some() {
        let (kms, clock) = (&settings.kms, context.clock.clone());
        let certificate = Certificate::prepare(kms, cluster, &namespace, clock, authority).await?;
        tls = Some(certificate.acceptor());
        services.spawn(certificate.keep(client, namespace));
    }
    let serving = (settings.kms.limits, context.metrics.endpoint.clone());
    drives.spawn(kms_endpoint::serve(endpoint, listeners, tls, serving, (keys.may_work.subscribe(), stop.clone())));

    let sources = Sources {
        store: store.clone(),
        views: views.clone(),
        access_keys: triggers.access_keys.iter().map(|watched| watched.store.clone()).collect(),
        endpoint: context.metrics.endpoint.clone(),
        clock: context.clock.clone(),
        each_key: settings.key_metrics,
    };
    let orphans = Orphans::default();
    let signs = Signs { stores, usage, orphans: orphans.found() };
    services.spawn(key_stores::keep_status(context.clone(), signs, keys.may_work.subscribe()));
    services.spawn({
        let readiness = readiness.clone();
        async move {
            // A pass looks at all of them: one over a key that is deleted, at the data keys under it.
            on(records_listed).await;
            on(aliases_listed).await;
            on(credentials_listed).await;
            watches::filled(views.namespaces).await;
            watches::filled(views.key_stores).await;
            for listed in keys.listed.into_iter().chain(data_keys.listed).chain(access_keys.listed) {
                on(listed).await;
            }
            root_key_rewrap::count(&store, &context.metrics);
            context.metrics.objects.look_at(move || sources.snapshot());
            context.metrics.leader.set(1);
            keys.may_work.send_replace(true);
            data_keys.may_work.send_replace(true);
            access_keys.may_work.send_replace(true);
            readiness.set(true);
            tracing::info!(watching = ?settings.watch_namespaces, "the operator is ready");
            sweep(context, orphans, settings, triggers).await;
        }
    });
    let ended = until_stopped(services, drives, stop).await;
    readiness.set(false);
    ended
}

/// A kind's objects in every scope, about to be driven.
struct Kind<K: Resource<DynamicType = ()> + Clone + Debug + 'static> {
    drives: Vec<Drive<K>>,
    watched: Vec<Watched<K>>,
    /// Each becomes true when a scope has been listed.
    listed: Vec<watch::Receiver<bool>>,
    /// Lets the passes begin.
    may_work: watch::Sender<bool>,
}

impl<K> Kind<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + 'static,
{
    fn prepare(kind: &'static str, client: &Client, settings: &Settings, stop: &watch::Receiver<bool>) -> Self {
        let (may_work, started) = watch::channel(false);
        let mut prepared = Self { drives: Vec::new(), watched: Vec::new(), listed: Vec::new(), may_work };
        for scope in settings.scopes() {
            let writer = Writer::default();
            let (watched, requests) = Watched::new(scope.clone(), writer.as_reader());
            let (listed, listed_once) = watch::channel(false);
            prepared.drives.push(Drive {
                kind,
                api: watches::api(client, &scope),
                store: writer.as_reader(),
                writer,
                requests,
                concurrency: settings.concurrency,
                listed,
                may_work: started.clone(),
                stop: stop.clone(),
            });
            prepared.watched.push(watched);
            prepared.listed.push(listed_once);
        }
        prepared
    }
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

/// Has every access key delivered again, for ever, when the authority of the endpoint's certificate becomes another.
async fn redeliver(mut ca: watch::Receiver<Option<String>>, triggers: Triggers) {
    while ca.changed().await.is_ok() {
        triggers.all_access_keys();
    }
    std::future::pending::<()>().await;
}

/// Waits until `stop`, and then until the passes under way have come to their end. An end before that is a
/// failure, of whatever part.
async fn until_stopped(
    mut services: JoinSet<()>,
    mut drives: JoinSet<()>,
    stop: watch::Receiver<bool>,
) -> Result<(), OperatorError> {
    tokio::select! {
        () = on(stop.clone()) => {}
        Some(ended) = services.join_next() => return Err(failure(ended)),
        // Told to stop, the drives end as well, and may be seen to end before the switch is seen.
        Some(ended) = drives.join_next() => match ended {
            Ok(()) if *stop.borrow() => {}
            ended => return Err(failure(ended)),
        },
    }
    while let Some(ended) = drives.join_next().await {
        ended?;
    }
    Ok(())
}

fn failure(ended: Result<(), tokio::task::JoinError>) -> OperatorError {
    ended.map_or_else(OperatorError::Part, |()| OperatorError::Ended)
}

/// The KMS endpoint over what the passes work on.
fn endpoint<C: EndpointCluster, S: KeyStore>(
    context: &Context<C, S>,
    settings: &Settings,
    access_keys: Arc<AccessKeyView>,
) -> Endpoint<C, S> {
    let Context { cluster, store, clock, random, metrics, .. } = context;
    let operations = OperationSettings { no_new_keys: settings.no_new_keys, ..settings.kms.operations.clone() };
    let authenticator = Authenticator::new(cluster.clone(), access_keys, clock.clone(), operations.max_staleness);
    let kms = Kms::new(cluster.clone(), store.clone(), clock.clone(), random.clone(), operations);
    Endpoint::new(kms, authenticator, random.clone(), metrics.endpoint.clone(), settings.kms.limits.request)
}

async fn root_keys(
    settings: &Settings,
    cluster: &KubeCluster,
    random: &dyn Random,
) -> Result<RootKeyRing, RootKeyError> {
    if let Some(ring) = root_key::from_files(&settings.root_key_files)? {
        return Ok(ring);
    }
    let count = || cluster.count_keys_with_status();
    root_key::from_secret(cluster, &settings.namespace, settings.no_new_keys, random, count).await
}

/// Erases keys when they are due, has those looked at whose other dates have come, and looks for records without an
/// object.
async fn sweep<C: Cluster, S: KeyStore>(
    context: Arc<Context<C, S>>,
    orphans: Orphans,
    settings: Settings,
    triggers: Triggers,
) {
    loop {
        match purge::sweep(&context, &settings.namespace, settings.clock_skew_tolerance).await {
            Ok(changed) => changed.iter().for_each(|(namespace, name)| triggers.key(namespace, name)),
            Err(error) => tracing::warn!(%error, "keys are due, and can't be erased now"),
        }
        orphans.sweep(&context).await;
        let (keys, now) = (context.store.keys(), context.clock.now());
        alarms::due(&keys, now).iter().for_each(|(namespace, name)| triggers.key_alone(namespace, name));
        triggers.due_data_keys(now);
        triggers.due_access_keys(now);
        let due = alarms::next(&keys, now);
        let wait = due.and_then(|due| Duration::try_from(due).ok()).map_or(SWEEP, |due| due.min(SWEEP));
        tokio::select! {
            () = sleep(wait) => {}
            () = context.clock.jumped() => {}
        }
    }
}

/// Has the store keep no unwrapped key for longer than it is used.
async fn drop_idle_keys(store: Arc<EmbeddedStore<KubeCluster>>) {
    loop {
        sleep(SWEEP).await;
        store.drop_idle_keys();
    }
}
