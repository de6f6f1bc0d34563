//! Telling people: which Events a pass writes, and writing them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};

use super::Context;
use crate::{
    api::conditions::{self, READY, Standing},
    cluster::{Cluster, EventNote},
};

/// The Event about a failure, once: not while the object fails for the reason that `before` gives already.
pub fn news(standing: &Standing, before: &[Condition]) -> Vec<EventNote> {
    let known = conditions::find(before, READY).map(|c| c.reason.as_str());
    let news = standing.failure().filter(|(reason, _)| known != Some(*reason));
    let note = news.map(|(reason, message)| EventNote {
        warning: standing.needs_attention(),
        ..EventNote::warning(reason, "Reconcile", message)
    });
    note.into_iter().collect()
}

/// Writes Events about an object, and logs them.
pub async fn announce<C, S, K>(context: &Context<C, S>, object: &K, notes: &[EventNote])
where
    C: Cluster,
    S: Send + Sync,
    K: Resource<DynamicType = ()> + Sync,
{
    for note in notes {
        let (namespace, name) = (object.namespace(), object.name_any());
        context.metrics.count_event(&K::kind(&()), note);
        tracing::info!(kind = %K::kind(&()), namespace, name, reason = note.reason, "{}", note.message);
        context.cluster.publish(object, note).await;
    }
}
