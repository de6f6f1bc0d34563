//! Leader election by a Lease: of several replicas one writes. Every write has a precondition (design, rule 17), so that
//! this saves work and noise, and no data depends on it.

mod decide;
#[cfg(test)]
mod tests;

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{error::Elapsed, sleep, timeout},
};

pub use decide::Timing;
use decide::{Held, Seen, Step, decide};

use crate::{
    api::{conditions::reason, metadata},
    cluster::{EventNote, Events},
};

/// The name of the Lease, in the operator's namespace.
pub const LEASE: &str = "cmk-operator";

/// How often to try to give the lease up when somebody else writes it at the same time: most likely we did, in a request whose
/// answer was not waited for.
const GIVE_UP_TRIES: usize = 3;

/// A replica that would lead.
pub struct Candidate<C> {
    api: Api<Lease>,
    cluster: C,
    identity: String,
    timing: Timing,
    holds: watch::Sender<bool>,
    /// Whether no write is to begin any more.
    is_stopped: AtomicBool,
}

/// What a candidate knows.
#[derive(Default)]
struct Standing {
    seen: Seen,
    /// When the last renewal was sent that was answered, while the lease holds.
    renewed: Option<Instant>,
    /// Whether the Lease may say that we hold it: we wrote that, answered or not, and have not seen another holder since.
    may_hold: bool,
}

/// What became of one try.
enum Tried {
    /// The Lease is ours as of this moment, and reads like this.
    Holds(Box<Lease>),
    /// It is another one's.
    Waits,
    /// Somebody wrote it at the same time: it is to be looked at again.
    Unclear,
}

impl<C: Events> Candidate<C> {
    /// A replica with an identity that no other has, now or later. `holds` is true while it holds the lease; Events about it go
    /// to `cluster`.
    #[must_use]
    pub fn new(
        (client, cluster): (Client, C),
        namespace: &str,
        identity: String,
        timing: Timing,
        holds: watch::Sender<bool>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            cluster,
            identity,
            timing,
            holds,
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Stands for election until `stop` resolves, and then gives the lease up, so that another need not wait.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut standing = Standing::default();
        loop {
            // Not when it was answered: others count from when they saw it, which may be long before that.
            let sent = Instant::now();
            let left = standing.renewed.map_or(self.timing.renew_deadline, |at| {
                (at + self.timing.renew_deadline).saturating_duration_since(sent)
            });
            let tried = {
                let mut trying = pin!(timeout(left, self.try_once(&mut standing)));
                tokio::select! {
                    tried = &mut trying => Some(tried),
                    () = &mut stop => {
                        self.holds.send_replace(false);
                        self.is_stopped.store(true, Ordering::Relaxed);
                        // A write that was sent may be carried out after we looked whether there is anything to give up: so
                        // its answer is waited for.
                        let _ = timeout(self.timing.retry_period, trying).await;
                        None
                    }
                }
            };
            let Some(tried) = tried else { break };
            tokio::select! {
                () = self.take_note(&mut standing, sent, tried) => {}
                () = &mut stop => break,
            }
        }
        self.holds.send_replace(false);
        if standing.may_hold {
            self.give_up().await;
        }
    }

    /// What a try means, and the pause before the next one.
    async fn take_note(
        &self,
        standing: &mut Standing,
        sent: Instant,
        tried: Result<Result<Tried, kube::Error>, Elapsed>,
    ) {
        match tried {
            Ok(Ok(Tried::Holds(lease))) => {
                standing.renewed = Some(sent);
                if self.set(true) {
                    self.announce(&lease).await;
                }
            }
            Ok(Ok(Tried::Waits)) => {
                standing.renewed = None;
                self.set(false);
            }
            Ok(Ok(Tried::Unclear)) => {}
            Ok(Err(error)) => tracing::warn!(%error, lease = LEASE, "the lease can't be read or written"),
            Err(_) => tracing::warn!(lease = LEASE, "the API server does not answer about the lease"),
        }
        let until_lost =
            standing.renewed.map(|at| (at + self.timing.renew_deadline).saturating_duration_since(Instant::now()));
        if until_lost.is_some_and(|left| left.is_zero()) {
            standing.renewed = None;
            self.set(false);
        }
        sleep(self.timing.retry_period.min(until_lost.unwrap_or(Duration::MAX))).await;
    }

    /// Whether that is new.
    fn set(&self, leads: bool) -> bool {
        let changed = self.holds.send_if_modified(|known| std::mem::replace(known, leads) != leads);
        match (changed, leads) {
            (true, true) => tracing::info!(identity = self.identity, "this replica leads"),
            (true, false) => tracing::warn!(identity = self.identity, "this replica leads no more"),
            (false, _) => {}
        }
        changed
    }

    /// Says in an Event who leads, as `kubectl describe lease` shows it for the components of Kubernetes. It takes no longer
    /// than the pause that comes after it, as the lease has to be renewed.
    async fn announce(&self, lease: &Lease) {
        let note = EventNote::normal(reason::LEADER_ELECTION, "Lead", format!("{} became leader", self.identity));
        if timeout(self.timing.retry_period, self.cluster.publish(lease, &note)).await.is_err() {
            tracing::warn!(lease = LEASE, "the Event about the new leader could not be written in time");
        }
    }

    /// Looks at the Lease, and takes or renews it if it may.
    async fn try_once(&self, standing: &mut Standing) -> Result<Tried, kube::Error> {
        let found = self.api.get_opt(LEASE).await?;
        standing.seen.note(found.as_ref().map(|lease| self.held(lease)), Instant::now());
        let step = decide(&standing.seen, &self.identity, Instant::now());
        // One that waits has seen another version than the one that it may have written over: that write fails.
        standing.may_hold = step != Step::Wait;
        let written = match (step, found) {
            (Step::Wait, _) => return Ok(Tried::Waits),
            _ if self.is_stopped.load(Ordering::Relaxed) => return Ok(Tried::Unclear),
            (Step::Hold, Some(lease)) => self.api.replace(LEASE, &post(), &self.held_by_us(lease)).await,
            (Step::Create | Step::Hold, _) => {
                let metadata = ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() };
                self.api.create(&post(), &self.held_by_us(Lease { metadata, spec: None })).await
            }
        };
        match written {
            Ok(lease) => {
                standing.seen.note(Some(self.held(&lease)), Instant::now());
                Ok(Tried::Holds(Box::new(lease)))
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(Tried::Unclear),
            Err(error) => Err(error),
        }
    }

    /// The Lease as it is to be written: ours, from now on.
    fn held_by_us(&self, lease: Lease) -> Lease {
        let before = lease.spec.unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let is_ours = before.holder_identity.as_deref() == Some(&self.identity);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.lease_duration.as_secs()).ok(),
            acquire_time: if is_ours { before.acquire_time } else { Some(now.clone()) },
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!is_ours)),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        Lease { metadata: lease.metadata, spec: Some(spec) }
    }

    async fn give_up(&self) {
        match timeout(self.timing.retry_period, self.try_to_give_up()).await {
            Ok(Ok(true)) => tracing::info!(identity = self.identity, "this replica gave the lease up"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, lease = LEASE, "the lease can't be given up; it expires"),
            Err(_) => tracing::warn!(lease = LEASE, "the lease can't be given up in time; it expires"),
        }
    }

    /// Whether it was ours.
    async fn try_to_give_up(&self) -> Result<bool, kube::Error> {
        let mut tries = 0;
        loop {
            let Some(mut lease) = self.api.get_opt(LEASE).await? else { return Ok(false) };
            if self.held(&lease).holder != self.identity {
                return Ok(false);
            }
            lease.spec.get_or_insert_default().holder_identity = None;
            tries += 1;
            match self.api.replace(LEASE, &post(), &lease).await {
                Err(kube::Error::Api(status)) if status.is_conflict() && tries < GIVE_UP_TRIES => {}
                written => return written.map(|_| true),
            }
        }
    }

    /// What a Lease says. One that does not say for how long it holds does so for as long as ours would.
    fn held(&self, lease: &Lease) -> Held {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Held {
            holder: spec.holder_identity.unwrap_or_default(),
            duration: seconds.filter(|seconds| *seconds > 0).map_or(self.timing.lease_duration, Duration::from_secs),
            version: lease.resource_version().unwrap_or_default(),
        }
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(metadata::MANAGER.into()), ..PostParams::default() }
}
