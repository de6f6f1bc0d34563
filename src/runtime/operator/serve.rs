//! The KMS endpoint, over what the passes work on. Every replica serves it.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinSet};

use super::{OperatorError, Parts, Store};
use crate::{
    cluster::KubeCluster,
    controller::Context,
    runtime::{
        admin::Readiness,
        kms_endpoint::{self, Certificate, KmsListeners},
        triggers::Triggers,
    },
    server::{
        auth::Authenticator,
        endpoint::Endpoint,
        operations::{Kms, OperationSettings},
    },
    store::metered::Metered,
};

/// Begins to serve from when `may_start` is true until `stop` is; what this returns ends when the requests under way have
/// been answered.
///
/// # Errors
/// There is no certificate.
pub async fn serve(
    services: &mut JoinSet<()>,
    parts: &Parts,
    listeners: KmsListeners,
    authority: watch::Sender<Option<String>>,
    readiness: &Readiness,
    (may_start, stop): (watch::Receiver<bool>, watch::Receiver<bool>),
) -> Result<JoinSet<()>, OperatorError> {
    let Parts { settings, context, cluster, client, triggers, .. } = parts;
    let namespace = || settings.namespace.clone();
    let endpoint = Arc::new(endpoint(parts));
    // Who delivers access keys is told the CA of the endpoint.
    services.spawn(redeliver(authority.subscribe(), triggers.clone()));
    if listeners.tls.is_some() || listeners.plain.is_some() {
        let (contact, metrics) = (endpoint.kms().contact().clone(), context.metrics.endpoint.clone());
        readiness.depends_on(contact.clone());
        services.spawn(kms_endpoint::keep_in_contact(contact, cluster.clone(), namespace(), metrics));
    }
    let mut tls = None;
    if listeners.tls.is_some() {
        let (kms, clock) = (&settings.kms, context.clock.clone());
        let certificate = Certificate::prepare(kms, cluster.clone(), &namespace(), clock, authority).await?;
        tls = Some(certificate.acceptor());
        services.spawn(certificate.keep(client.clone(), namespace()));
    }
    let serving = (settings.kms.limits, context.metrics.endpoint.clone());
    let mut served = JoinSet::new();
    served.spawn(kms_endpoint::serve(endpoint, listeners, tls, serving, (may_start, stop)));
    Ok(served)
}

fn endpoint(parts: &Parts) -> Endpoint<KubeCluster, Metered<Store>> {
    let Parts { settings, context, access_keys, .. } = parts;
    let Context { cluster, store, clock, random, metrics, .. } = &**context;
    let operations = OperationSettings {
        no_new_keys: settings.no_new_keys,
        watches: parts.freshness.clone(),
        ..settings.kms.operations.clone()
    };
    let authenticator =
        Authenticator::new(cluster.clone(), access_keys.clone(), clock.clone(), operations.max_staleness);
    let kms = Kms::new(cluster.clone(), store.clone(), clock.clone(), random.clone(), operations);
    Endpoint::new(kms, authenticator, random.clone(), metrics.endpoint.clone(), settings.kms.limits.request)
}

/// Has every access key delivered again, for ever, when the authority of the endpoint's certificate becomes another.
async fn redeliver(mut ca: watch::Receiver<Option<String>>, triggers: Triggers) {
    while ca.changed().await.is_ok() {
        triggers.all_access_keys();
    }
    std::future::pending::<()>().await;
}
