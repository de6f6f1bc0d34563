//! Runs a controller: its own watch and the requests of others become passes, and failed ones are tried again.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future::BoxFuture, stream};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt, applier,
        controller::{Action, Config, Error, trigger_self},
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    list_watch::list_and_watch,
    metrics::{KindLabels, PassLabels},
    switches::{begun_for_each, off, on, while_on},
    triggers::Requests,
    watches::selection,
};
use crate::{
    api::conditions::{self, Standing, reason},
    cluster::{Cluster, Guarded, Objects},
    controller::{Context, Outcome, PassError, announce, news},
    server::freshness::WatchFreshness,
    store::KeyStore,
    trace::{self, KeyValue, Span},
};

/// The longest wait between two looks at something that gives no sign when it changes. Nothing is wrong with the
/// API server then, so that it need not be spared as after failures.
const LAST_LOOK: Duration = Duration::from_secs(30);

/// One kind in one scope.
pub struct Drive<K: Resource<DynamicType = ()> + Clone + Debug + 'static> {
    /// The kind's name, for logs and metrics.
    pub kind: &'static str,
    /// Where its objects are.
    pub api: Api<Guarded<K>>,
    /// What the watch has shown is written here,
    pub writer: Writer<Guarded<K>>,
    /// and read from here.
    pub store: Store<Guarded<K>>,
    /// What others ask to be looked at.
    pub requests: Requests<K>,
    /// How many passes at a time.
    pub concurrency: u16,
    /// Is told how the watch stands.
    pub freshness: WatchFreshness,
    /// When this becomes another number, everything is listed anew.
    pub term: watch::Receiver<u64>,
    /// Is told for which number the store has been filled. Not `Store::wait_until_ready`, which wakes one task only, and
    /// the controller is one that waits.
    pub listed: watch::Sender<u64>,
    /// True while passes may be made: everything that a pass looks at has been filled, and this replica leads.
    pub may_work: watch::Receiver<bool>,
    /// Becomes true when no pass is to be begun any more.
    pub stop: watch::Receiver<bool>,
}

impl<K> Drive<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Runs until `stop`, and then until the passes under way have ended. `gone` is told of objects that are no
    /// more, which get no pass: of one, or, with None, that any may have gone unseen.
    pub async fn run<C, S, F>(
        self,
        context: Arc<Context<C, S>>,
        reconcile: impl Fn(Arc<Context<C, S>>, K) -> F + Clone + Send + Sync + 'static,
        gone: impl Fn(Option<&Guarded<K>>) + Send + 'static,
    ) where
        C: Cluster + Objects<K>,
        S: KeyStore,
        F: Future<Output = Result<Outcome, PassError>> + Send + 'static,
    {
        let Self { kind, api, writer, store, mut requests, concurrency, freshness, term, listed, may_work, stop } =
            self;
        let listing = Arc::new(AtomicU64::default());
        let lists = listing.clone();
        let objects = begun_for_each(term, move |term| {
            lists.store(term, Ordering::Relaxed);
            list_and_watch(kind, api.clone(), selection(), freshness.clone()).boxed()
        });
        let objects = objects.map(Ok::<_, watcher::Error>).reflect(writer);
        let begun = listed.subscribe();
        let objects = objects.inspect_ok(move |event| match event {
            watcher::Event::InitDone => {
                listed.send_replace(listing.load(Ordering::Relaxed));
                gone(None);
            }
            watcher::Event::Delete(object) => gone(Some(object)),
            _ => {}
        });
        let objects = objects.applied_objects();
        let own = trigger_self(objects, ()).filter_map(|r| std::future::ready(r.ok()));
        let asked = stream::poll_fn(move |cx| requests.poll_recv(cx)).map(Into::into);
        let queue = stream::select(own, asked).map(Ok::<_, Infallible>).take_until(on(stop.clone()));

        let (stopped, watched) = (stop.clone(), store.clone());
        let passes = applier(
            move |object: Arc<Guarded<K>>, context: Arc<Context<C, S>>| -> BoxFuture<'static, _> {
                let (reconcile, may_work, stop) = (reconcile.clone(), may_work.clone(), stopped.clone());
                let (reference, watched) = (ObjectRef::from_obj(&*object), watched.clone());
                drop(object);
                async move {
                    let pass = || {
                        // As it is now: it may have been a long wait.
                        let (object, reconcile) = (watched.get(&reference), reconcile.clone());
                        let context = &context;
                        async move {
                            match object {
                                Some(object) => pass(kind, context, &object, reconcile).await,
                                None => Action::await_change(),
                            }
                        }
                    };
                    let done = tokio::select! {
                        done = while_on(may_work.clone(), pass) => done,
                        // Told to stop, a pass under way is brought to its end, and one that waits is not begun.
                        () = stopped_while_off(stop, may_work.clone()) => Action::await_change(),
                    };
                    Ok::<_, Infallible>(done)
                }
                .boxed()
            },
            |_, never: &Infallible, _| match *never {},
            context,
            store,
            queue,
            Config::default().concurrency(concurrency),
        );
        tokio::select! {
            () = log(kind, passes) => {}
            () = stopped_before(begun, stop) => {}
        }
    }
}

/// Resolves when `stop` has come and the switch is off.
async fn stopped_while_off(stop: watch::Receiver<bool>, switch: watch::Receiver<bool>) {
    on(stop).await;
    off(switch).await;
}

/// Resolves when `stop` comes before anything has been listed. The controller begins no pass until then, and once
/// told to stop it does not go on listing, so that it would wait for ever.
async fn stopped_before(listed: watch::Receiver<u64>, stop: watch::Receiver<bool>) {
    on(stop).await;
    if *listed.borrow() > 0 {
        std::future::pending::<()>().await;
    }
}

/// One pass, counted, and what comes after it.
async fn pass<K, C, S, F>(
    kind: &'static str,
    context: &Arc<Context<C, S>>,
    object: &Guarded<K>,
    reconcile: impl Fn(Arc<Context<C, S>>, K) -> F,
) -> Action
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    C: Cluster + Objects<K>,
    S: KeyStore,
    F: Future<Output = Result<Outcome, PassError>> + Send,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    if context.expectations.outdates(kind, object) {
        return Action::await_change();
    }
    let started = Instant::now();
    let span = Span::begin(|| format!("reconcile {kind}"));
    let result = match &object.0 {
        Ok(readable) => trace::within(span.as_ref(), reconcile(context.clone(), readable.clone())).await,
        Err(unreadable) => {
            report_unreadable::<K, _, _>(context, object, &unreadable.problem).await;
            Ok(Outcome::Settled)
        }
    };
    context.metrics.pass_seconds.get_or_create(&KindLabels { kind }).observe(started.elapsed().as_secs_f64());
    let label = result.as_ref().map_or_else(PassError::label, |_| "ok");
    context.metrics.passes.get_or_create(&PassLabels { kind, result: label }).inc();
    if let Some(span) = span {
        span.describe([
            KeyValue::new("k8s.namespace.name", namespace.clone()),
            KeyValue::new("cmk.kind", kind),
            KeyValue::new("cmk.name", name.clone()),
        ]);
        span.end(label, result.as_ref().is_err_and(|error| !error.is_gone() && !error.is_conflict()));
    }

    match result {
        Ok(Outcome::Settled) => {
            context.attempts.succeeded(kind, &namespace, &name);
            Action::await_change()
        }
        Ok(Outcome::Retry) => Action::requeue(context.attempts.failed(kind, &namespace, &name).min(LAST_LOOK)),
        Err(error) if error.is_gone() => {
            tracing::debug!(kind, namespace, name, "the object was deleted meanwhile");
            context.attempts.succeeded(kind, &namespace, &name);
            Action::await_change()
        }
        Err(error) => {
            let wait = context.attempts.failed(kind, &namespace, &name);
            if error.is_conflict() {
                tracing::debug!(kind, namespace, name, %error, "somebody else wrote first; looking again");
            } else {
                tracing::warn!(kind, namespace, name, %error, retry_in = ?wait, "the pass failed");
                let message = format!("{error}. It is tried again, after growing intervals.");
                report::<K, _, _>(context, object, &Standing::waiting(reason::RECONCILE_ERROR, message)).await;
            }
            Action::requeue(wait)
        }
    }
}

/// Says of an object that can't be read that it can't.
async fn report_unreadable<K, C, S>(context: &Context<C, S>, object: &Guarded<K>, problem: &str)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    C: Cluster + Objects<K>,
    S: KeyStore,
{
    tracing::warn!(namespace = object.namespace(), name = object.name_any(), problem, "an object can't be read");
    let message = format!("This object can't be read: {problem}. Correct it; its key is left as it is until then.");
    report::<K, _, _>(context, object, &Standing::stalled(reason::UNREADABLE, message)).await;
}

/// Says how an object stands whose pass did not come to say it: in an Event and, if the API server takes it, in
/// its conditions. Nothing is written where it says so already. What the status holds besides is not looked at,
/// as the object may not be readable.
async fn report<K, C, S>(context: &Context<C, S>, object: &Guarded<K>, standing: &Standing)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    C: Cluster + Objects<K>,
    S: KeyStore,
{
    let said = match Objects::<K>::get_raw(&context.cluster, object.meta()).await {
        Ok(found) => conditions_in(&found.unwrap_or_default()),
        Err(error) => {
            tracing::debug!(%error, "what was said about it is not known");
            Vec::new()
        }
    };
    let generation = object.meta().generation;
    let mut says = conditions::conditions(&standing.findings(), &said, generation, context.clock.now());
    let others = said.iter().filter(|old| conditions::find(&says, &old.type_).is_none()).cloned();
    says.extend(others.collect::<Vec<_>>());
    if says == said {
        return;
    }
    announce(context, object, &news(standing, &said)).await;
    let status = json!({"observedGeneration": generation, "conditions": says});
    if let Err(error) = Objects::<K>::patch_raw_status(&context.cluster, object.meta(), status).await {
        tracing::debug!(%error, "its status can't be written either");
    }
}

/// The conditions in an object's JSON; none if they can't be read either.
fn conditions_in(object: &Value) -> Vec<Condition> {
    Vec::deserialize(&object["status"]["conditions"]).unwrap_or_default()
}

async fn log<T>(kind: &'static str, passes: impl Stream<Item = Result<T, Error<Infallible, Infallible>>>) {
    let mut passes = std::pin::pin!(passes);
    while let Some(result) = passes.next().await {
        match result {
            Ok(_) | Err(Error::ObjectNotFound(_)) => {}
            Err(error) => tracing::warn!(kind, %error, "the controller reports"),
        }
    }
}
