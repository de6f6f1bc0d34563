//! The operator: everything put together and run.

mod follow;
mod kinds;
mod lead;
mod parts;
mod serve;
mod sweep;

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use kube::{Client, runtime::reflector::store::Writer};
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet};

pub use lead::Election;

use follow::{Followed, become_ready, follow};
use kinds::{Kinds, Orders};
use lead::{Leadership, duties};
use parts::{Parts, Store};
use serve::serve;

use super::{
    admin::Readiness,
    arguments::{KeyMetrics, RunArguments},
    kms_endpoint::{KmsListeners, KmsSettings},
    metrics::Metrics,
    switches::{on, while_on},
    triggers::Scope,
};
use crate::{
    clock::Clock,
    controller::access_key,
    crypto::Random,
    server::{freshness::Freshness, tls::TlsError},
    store::embedded::root_key::RootKeyError,
};

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
    /// How to stand for election. None: this is the only replica.
    pub election: Option<Election>,
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
            election: None,
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
    let (term, terms) = watch::channel(1);
    let (leads, led) = watch::channel(false);
    let orders = Orders { term: terms, leads: led.clone(), stop: stop.clone() };
    let freshness = Freshness::default();
    let kinds =
        Kinds::prepare(&surroundings.client, &settings, &orders, || freshness.watch(surroundings.clock.clone()));
    let (namespaces, key_stores) = (Writer::default(), Writer::default());
    let views = kinds.views(settings.scopes(), namespaces.as_reader(), key_stores.as_reader());
    let parts = Arc::new(Parts::assemble(settings, &surroundings, views, kinds.triggers.clone(), freshness).await?);

    // What never ends by itself.
    let mut services = JoinSet::new();
    let followed = Arc::new(follow(&mut services, &parts, namespaces, key_stores));
    let (filled, ready) = watch::channel(false);
    let readiness = surroundings.readiness;
    let listed = kinds.listed.clone();
    services.spawn(become_ready(parts.clone(), followed.clone(), listed.clone(), {
        let readiness = readiness.clone();
        move || {
            filled.send_replace(true);
            readiness.set(true);
        }
    }));
    services.spawn({
        let (led, parts) = (led.clone(), parts.clone());
        async move { while_on(led, || duties(parts.clone(), followed.clone())).await }
    });

    // What ends when it is told to.
    let (authority, kms_ca) = watch::channel(None);
    let delivery = access_key::Delivery { url: parts.settings.kms_url.clone(), ca: kms_ca };
    let passes = kinds.drive(&parts.context, &delivery);
    let when = (ready.clone(), stop.clone());
    let serving = serve(&mut services, &parts, surroundings.kms, authority, &readiness, when).await?;
    let (retire, retired) = watch::channel(false);
    let mut leadership = JoinSet::new();
    leadership.spawn(async move {
        Leadership { ready, term, listed, leads, retired }.lead(&parts).await;
    });

    let work = Work { services, passes, serving, leadership, retire };
    work.until(stop, || readiness.set(false)).await
}

/// Everything that runs.
struct Work {
    /// What never ends by itself.
    services: JoinSet<()>,
    /// Ends when it is told to, and the passes under way have ended.
    passes: JoinSet<()>,
    /// Ends when it is told to, and the requests under way have been answered.
    serving: JoinSet<()>,
    /// Ends when it is to retire.
    leadership: JoinSet<()>,
    retire: watch::Sender<bool>,
}

impl Work {
    /// Waits until `stop`, and then until what is under way has come to its end. An end before that is a failure, of whatever
    /// part.
    async fn until(mut self, stop: watch::Receiver<bool>, stopping: impl FnOnce()) -> Result<(), OperatorError> {
        let ended = tokio::select! {
            () = on(stop.clone()) => None,
            ended = self.services.join_next() => Some(ended),
            // Told to stop, these end as well, and may be seen to end before the switch is seen.
            ended = self.passes.join_next() => Some(ended),
            ended = self.serving.join_next() => Some(ended),
            ended = self.leadership.join_next() => Some(ended),
        };
        stopping();
        match ended {
            None => {}
            Some(Some(Ok(()))) if *stop.borrow() => {}
            Some(Some(Err(panicked))) => return Err(OperatorError::Part(panicked)),
            Some(_) => return Err(OperatorError::Ended),
        }
        let Self { services: _services, mut passes, mut serving, mut leadership, retire } = self;
        // Another replica may lead as soon as no pass is under way here, however long it takes to answer the requests.
        let hand_over = async {
            all(&mut passes).await?;
            retire.send_replace(true);
            all(&mut leadership).await
        };
        tokio::try_join!(hand_over, all(&mut serving)).map(|_| ())
    }
}

async fn all(tasks: &mut JoinSet<()>) -> Result<(), OperatorError> {
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
