//! Runs a controller: what its watch and others ask for becomes passes, and failed ones are tried again.

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    fmt::Debug,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Resource, ResourceExt,
    runtime::{
        applier,
        controller::{Action, Config, Error},
        reflector::{ObjectRef, Store},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    metrics::{KindLabels, PassLabels},
    switches::{off, on, received_until, while_on},
    triggers::Requests,
};
use crate::{
    api::conditions::{self, Standing, reason},
    cluster::{Cluster, Guarded, Objects},
    controller::{Context, Outcome, PassError, announce, news},
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
    /// What its watch has shown.
    pub store: Store<Guarded<K>>,
    /// What its watch and others ask to be looked at.
    pub requests: Requests<K>,
    /// How many passes at a time.
    pub concurrency: u16,
    /// Above 0 once the store has been filled.
    pub listed: watch::Receiver<u64>,
    /// True while passes may be made: everything that a pass looks at has been filled, and this replica leads.
    pub may_work: watch::Receiver<bool>,
    /// Becomes true when no pass is to be begun any more.
    pub stop: watch::Receiver<bool>,
}

impl<K> Drive<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + Send + Sync + 'static,
{
    /// Runs until `stop`, and then until the passes under way have ended.
    pub async fn run<C, S, F>(
        self,
        context: Arc<Context<C, S>>,
        reconcile: impl Fn(Arc<Context<C, S>>, K) -> F + Clone + Send + Sync + 'static,
    ) where
        C: Cluster + Objects<K>,
        S: KeyStore,
        F: Future<Output = Result<Outcome, PassError>> + Send + 'static,
    {
        let Self { kind, store, requests, concurrency, listed, may_work, stop } = self;
        let queue = received_until(requests, stop.clone()).map(Ok::<_, Infallible>);
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
                        let (context, reference) = (&context, &reference);
                        async move {
                            let Some(object) = object else {
                                forget(context, kind, reference.namespace.as_deref(), &reference.name);
                                return Action::await_change();
                            };
                            pass(kind, context, &object, reconcile).await
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
            context.clone(),
            store,
            queue,
            Config::default().concurrency(concurrency),
        );
        tokio::select! {
            () = carry_out(kind, &context, passes) => {}
            () = stopped_before(listed, stop) => {}
        }
    }
}

/// Resolves when `stop` has come and the switch is off.
async fn stopped_while_off(stop: watch::Receiver<bool>, switch: watch::Receiver<bool>) {
    on(stop).await;
    off(switch).await;
}

/// Resolves when `stop` comes before anything has been listed. The controller begins no pass until then, and would wait for
/// a list that may never come.
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
    let attempt = async {
        match &object.0 {
            Ok(readable) => trace::within(span.as_ref(), reconcile(context.clone(), readable.clone())).await,
            Err(unreadable) => {
                report_unreadable::<K, _, _>(context, object, &unreadable.problem).await;
                Ok(Outcome::Settled)
            }
        }
    };
    // An object that makes a pass panic would otherwise end the process of each leader in turn. A pass leaves nothing half
    // changed in memory that the next one would trip over: what passes share is behind locks, none of which stays poisoned.
    let result = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or(Err(PassError::Panicked));
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
                if let PassError::Panicked = error {
                    tracing::error!(kind, namespace, name, %error, retry_in = ?wait, "the pass failed");
                } else {
                    tracing::warn!(kind, namespace, name, %error, retry_in = ?wait, "the pass failed");
                }
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

/// Has the passes made. What is known of an object that is gone when its turn comes is forgotten.
async fn carry_out<C, S, T>(
    kind: &'static str,
    context: &Context<C, S>,
    passes: impl Stream<Item = Result<T, Error<Infallible, Infallible>>>,
) {
    let mut passes = std::pin::pin!(passes);
    while let Some(result) = passes.next().await {
        match result {
            Ok(_) => {}
            Err(Error::ObjectNotFound(gone)) => forget(context, kind, gone.namespace.as_deref(), &gone.name),
            Err(error) => tracing::warn!(kind, %error, "the controller reports"),
        }
    }
}

/// Forgets what was noted of an object between passes.
fn forget<C, S>(context: &Context<C, S>, kind: &'static str, namespace: Option<&str>, name: &str) {
    let namespace = namespace.unwrap_or_default();
    context.attempts.succeeded(kind, namespace, name);
    context.expectations.forget(kind, namespace, name);
}
