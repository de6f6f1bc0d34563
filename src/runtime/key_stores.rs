//! Has the status of the key stores written: when one changes, when its first key comes or its last one goes, and
//! after every sweep for orphaned keys.

use std::{future::pending, sync::Arc};

use tokio::{sync::watch, time::sleep};

use crate::{
    cluster::{Cluster, ClusterKeyStores},
    controller::{Context, cluster_key_store::reconcile_all, orphans::Found},
    store::KeyStore,
};

/// What is a reason to look at the key stores again. The sender of each lives as long as the operator.
#[derive(Clone)]
pub struct Signs {
    /// A store came, changed or went.
    pub stores: watch::Receiver<()>,
    /// A store came into use, or went out of it.
    pub usage: watch::Receiver<()>,
    /// A sweep has ended, and found this.
    pub orphans: watch::Receiver<Option<Arc<Found>>>,
}

/// Runs for ever. Not before the records were listed: until then nothing is known of any store.
///
/// A status that somebody else writes is no sign, so that two operators on one cluster, who know of different keys,
/// do not write against each other without end: each looks again after its sweeps.
pub async fn keep_status<C, S>(context: Arc<Context<C, S>>, mut signs: Signs)
where
    C: Cluster + ClusterKeyStores,
    S: KeyStore,
{
    loop {
        let found = signs.orphans.borrow_and_update().clone();
        signs.usage.mark_unchanged();
        signs.stores.mark_unchanged();
        let again = reconcile_all(&context, found.as_deref()).await;
        let again = async {
            match again {
                Some(wait) => sleep(wait).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = again => {}
            () = sign(&mut signs.stores) => {}
            () = sign(&mut signs.usage) => {}
            () = sign(&mut signs.orphans) => {}
        }
    }
}

/// Waits for a sign. One that nobody gives any more never comes.
async fn sign<T>(sign: &mut watch::Receiver<T>) {
    if sign.changed().await.is_err() {
        pending::<()>().await;
    }
}
