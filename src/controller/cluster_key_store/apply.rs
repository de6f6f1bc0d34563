//! Gathers what there is to say about the key stores, and writes it.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::{Observed, Plan, plan};
use crate::{
    api::{
        ClusterKeyStore, KeyStoreRef,
        cluster_key_store::OrphanedKeys,
        conditions::{self, Standing, reason},
    },
    cluster::{Cluster, ClusterKeyStores, EventNote, Guarded},
    controller::{
        Context, PassError,
        events::{announce, news},
        orphans::Found,
    },
    runtime::metrics::{KindLabels, PassLabels},
    store::KeyStore,
};

/// The kind, for logs and metrics.
pub const KIND: &str = "ClusterKeyStore";

/// How long to wait for the watch to show what was just written.
const BEHIND: Duration = Duration::from_millis(200);

/// One pass over every key store. `orphans` is what the last sweep found, if there was one. Answers how long to wait
/// before the next pass, where one is needed although nothing changes.
pub async fn reconcile_all<C, S>(context: &Context<C, S>, orphans: Option<&Found>) -> Option<Duration>
where
    C: Cluster + ClusterKeyStores,
    S: KeyStore,
{
    let mut again = None;
    for object in context.cluster.key_store_objects() {
        let wait = if context.expectations.outdates(KIND, &*object) {
            Some(BEHIND)
        } else {
            pass(context, &object, orphans).await
        };
        again = [again, wait].into_iter().flatten().min();
    }
    again
}

/// One pass, counted. Answers when to try again if it failed.
async fn pass<C, S>(
    context: &Context<C, S>,
    object: &Guarded<ClusterKeyStore>,
    orphans: Option<&Found>,
) -> Option<Duration>
where
    C: Cluster + ClusterKeyStores,
    S: KeyStore,
{
    let started = Instant::now();
    let result = match &object.0 {
        Ok(readable) => reconcile(context, readable, orphans).await,
        Err(unreadable) => report_unreadable(context, object, &unreadable.problem).await,
    };
    context.metrics.pass_seconds.get_or_create(&KindLabels { kind: KIND }).observe(started.elapsed().as_secs_f64());
    let label = result.as_ref().map_or_else(PassError::label, |()| "ok");
    context.metrics.passes.get_or_create(&PassLabels { kind: KIND, result: label }).inc();
    let name = object.name_any();
    match result {
        Err(error) if !error.is_gone() => {
            let wait = context.attempts.failed(KIND, "", &name);
            if error.is_conflict() {
                tracing::debug!(kind = KIND, name, %error, "somebody else wrote first; looking again");
            } else {
                tracing::warn!(kind = KIND, name, %error, retry_in = ?wait, "the pass failed");
                let message = format!("{error}. It is tried again, after growing intervals.");
                let note = EventNote::warning(reason::RECONCILE_ERROR, "Reconcile", message);
                context.cluster.publish(object, &note).await;
            }
            Some(wait)
        }
        _ => {
            context.attempts.succeeded(KIND, "", &name);
            None
        }
    }
}

async fn reconcile<C, S>(
    context: &Context<C, S>,
    object: &ClusterKeyStore,
    orphans: Option<&Found>,
) -> Result<(), PassError>
where
    C: Cluster + ClusterKeyStores,
    S: KeyStore,
{
    let store = KeyStoreRef { name: object.name_any(), ..KeyStoreRef::default() }.to_string();
    let observed = Observed {
        object: object.clone(),
        in_use: context.store.is_in_use(&store),
        orphaned_keys: orphans.map(|found| found.get(&store).cloned().unwrap_or_else(OrphanedKeys::default)),
    };
    let Plan { status, events } = plan(&observed, context.store.capabilities(), context.clock.now());
    if status.is_some() {
        let wanted = ClusterKeyStore { status, ..observed.object };
        let written = context.cluster.replace_key_store_status(&wanted).await?;
        context.expectations.wrote(KIND, &written);
    }
    announce(context, object, &events).await;
    Ok(())
}

/// Says of a store that can't be read that it can't, and nothing where it says so already.
async fn report_unreadable<C, S>(
    context: &Context<C, S>,
    object: &Guarded<ClusterKeyStore>,
    problem: &str,
) -> Result<(), PassError>
where
    C: Cluster + ClusterKeyStores,
    S: KeyStore,
{
    let raw = context.cluster.get_raw_key_store(&object.name_any()).await?.unwrap_or_default();
    let said = conditions_in(&raw);
    let message = format!("This object can't be read: {problem}. Correct it; the keys in it are left as they are.");
    let standing = Standing::stalled(reason::UNREADABLE, message);
    let generation = object.meta().generation;
    let mut says = conditions::conditions(&standing.findings(), &said, generation, context.clock.now());
    let others: Vec<_> = said.iter().filter(|old| conditions::find(&says, &old.type_).is_none()).cloned().collect();
    says.extend(others);
    if says == said {
        return Ok(());
    }
    let status = json!({"observedGeneration": generation, "conditions": says});
    context.cluster.patch_raw_key_store_status(object.meta(), status).await?;
    announce(context, object, &news(&standing, &said)).await;
    Ok(())
}

/// The conditions in an object's JSON; none if they can't be read either.
fn conditions_in(object: &Value) -> Vec<Condition> {
    Vec::deserialize(&object["status"]["conditions"]).unwrap_or_default()
}
