//! What one replica does for all: it is elected by a Lease, begins with what the API server says at that moment, and stops
//! in the middle of whatever it does when the lease is lost.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{Followed, Parts, sweep::sweep};
use crate::{
    controller::{orphans::Orphans, purge},
    runtime::{
        credentials,
        key_stores::{self, Signs},
        leader_election::{Candidate, Timing},
        metrics::Metrics,
        root_key_guard, root_key_rewrap,
        switches::{off, on, while_on},
    },
};

/// How long to wait for the lists that a leader begins with.
const LISTED_WITHIN: Duration = Duration::from_secs(10);

/// How to stand for election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// An identity that no other replica has, now or later.
    pub identity: String,
    /// How long things may take.
    pub timing: Timing,
}

/// What says who leads, and what is to be done before one does.
pub struct Leadership {
    /// Becomes true when there is something to lead with.
    pub ready: watch::Receiver<bool>,
    /// Has the watches list everything anew. A watch that died silently is noticed only after minutes, and what it last showed
    /// may not be what another replica has acted on since.
    pub term: watch::Sender<u64>,
    /// Each becomes the number of the term for which a kind has been listed.
    pub listed: Vec<watch::Receiver<u64>>,
    /// Is true while this replica leads.
    pub leads: watch::Sender<bool>,
    /// Becomes true when it is to lead no more.
    pub retired: watch::Receiver<bool>,
}

impl Leadership {
    /// Leads, once it may, until it is retired. Without an election: as the only one.
    pub async fn lead(self, parts: &Parts) {
        tokio::select! {
            () = on(self.ready.clone()) => {}
            () = on(self.retired.clone()) => return,
        }
        let Some(Election { identity, timing }) = parts.settings.election.clone() else {
            self.leads.send_replace(true);
            return on(self.retired).await;
        };
        let (holds, held) = watch::channel(false);
        let resigned = async {
            on(self.retired.clone()).await;
            // Before the lease is given up.
            self.leads.send_replace(false);
        };
        let reach = (parts.client.clone(), parts.cluster.clone());
        let candidate = Candidate::new(reach, &parts.settings.namespace, identity, timing, holds);
        tokio::select! {
            () = candidate.run(resigned) => {}
            () = self.while_held(held) => {}
        }
    }

    /// Leads while the lease is held, for ever.
    async fn while_held(&self, held: watch::Receiver<bool>) {
        loop {
            while_on(held.clone(), || self.listed_anew()).await;
            self.leads.send_replace(*held.borrow() && !*self.retired.borrow());
            off(held.clone()).await;
            self.leads.send_replace(false);
        }
    }

    /// Lists everything anew, if that can be done in a moment. A kind that is being removed from the cluster can't be listed any
    /// more, and somebody has to let its objects go.
    async fn listed_anew(&self) {
        let mut term = 0;
        self.term.send_modify(|number| {
            *number += 1;
            term = *number;
        });
        let all = async {
            for mut listed in self.listed.iter().cloned() {
                if listed.wait_for(|listed| *listed >= term).await.is_err() {
                    // Its watch has ended, and so will all.
                    pending::<()>().await;
                }
            }
        };
        if timeout(LISTED_WITHIN, all).await.is_err() {
            tracing::warn!("not everything can be listed anew: this replica leads with what it saw before");
        }
    }
}

/// What the leader does beside the passes, for ever.
pub async fn duties(parts: Arc<Parts>, followed: Arc<Followed>) {
    let Parts { client, settings, cluster, ring, store, context, access_keys, .. } = &*parts;
    let orphans = Orphans::default();
    let _leading = Leading::begin(&context.metrics, &context.purge_holds);
    let signs = Signs { stores: followed.stores_changed.clone(), usage: store.usage(), orphans: orphans.found() };
    let guard = async {
        if settings.root_key_files.is_empty() {
            root_key_guard::guard(client.clone(), settings.namespace.clone(), cluster.clone(), ring.clone()).await;
        } else {
            pending::<()>().await;
        }
    };
    // None of them ends.
    tokio::select! {
        () = key_stores::keep_status(context.clone(), signs) => {}
        () = sweep(&parts, &orphans) => {}
        () = credentials::tidy(context.clone(), access_keys.clone(), followed.access_key_gone.clone()) => {}
        () = root_key_rewrap::rewrap(store.clone()) => {}
        () = guard => {}
    }
}

/// Shows in the metrics that this replica leads, until it is dropped.
struct Leading {
    metrics: Arc<Metrics>,
    purge_holds: purge::Holds,
}

impl Leading {
    fn begin(metrics: &Arc<Metrics>, purge_holds: &purge::Holds) -> Self {
        metrics.leader.set(1);
        Self { metrics: metrics.clone(), purge_holds: purge_holds.clone() }
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        // What the leader alone looks at is the next one's to say.
        self.metrics.leader.set(0);
        self.metrics.records_without_object.set(0);
        self.metrics.show_purge_waiting([]);
        // Before it leads again, when passes begin at the same time as the first look.
        self.purge_holds.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leadership(listed: watch::Receiver<u64>) -> (Leadership, watch::Receiver<u64>) {
        let (term, terms) = watch::channel(1);
        let (_, ready) = watch::channel(true);
        let (_, retired) = watch::channel(false);
        (Leadership { ready, term, listed: vec![listed], leads: watch::Sender::new(false), retired }, terms)
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_begins_with_new_lists() {
        let (lists, listed) = watch::channel(1);
        let (leadership, mut terms) = leadership(listed);
        let (_holds, held) = watch::channel(true);
        let leads = leadership.leads.subscribe();
        tokio::select! {
            () = leadership.while_held(held) => panic!("it leads for ever"),
            () = async {
                terms.changed().await.unwrap();
                assert!(!*leads.borrow(), "it was listed for an earlier term only");
                lists.send_replace(*terms.borrow());
                on(leads.clone()).await;
            } => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_not_be_listed_holds_nobody_up() {
        let (_lists, listed) = watch::channel(1);
        let (leadership, _terms) = leadership(listed);
        let (holds, held) = watch::channel(true);
        let leads = leadership.leads.subscribe();
        tokio::select! {
            () = leadership.while_held(held) => panic!("it leads for ever"),
            () = async {
                on(leads.clone()).await;
                holds.send_replace(false);
                off(leads.clone()).await;
            } => {}
        }
    }
}
