//! What is tested, a file a topic, in this order. A topic leaves the operator installed and the examples applied, but for
//! the last one.

mod applications;
mod denials;
mod evictions;
mod examples;
mod install;
mod leader;
mod metrics;
mod outage;
mod reinstall;
mod uninstall;
mod upgrade;

use crate::user::{Seen, User};

pub struct Topic {
    /// What `cargo test --test e2e -- NAME` asks for.
    pub name: &'static str,
    pub title: &'static str,
    /// The others need it.
    pub always: bool,
    pub run: fn(&mut User) -> Seen,
}

const fn topic(name: &'static str, title: &'static str, run: fn(&mut User) -> Seen) -> Topic {
    Topic { name, title, always: false, run }
}

pub const TOPICS: [Topic; 11] = [
    Topic {
        name: "install",
        title: "helm install: two replicas in a namespace of the Pod Security level `restricted`",
        always: true,
        run: install::run,
    },
    Topic { name: "examples", title: "Apply the examples, and an application", always: true, run: examples::run },
    topic("applications", "Applications use data keys and the KMS endpoint", applications::run),
    topic("denials", "What RBAC and the policies refuse", denials::run),
    topic("metrics", "Metrics and readiness, through the metrics Service", metrics::run),
    topic("leader", "The leader is killed", leader::run),
    topic("upgrade", "helm upgrade under steady requests", upgrade::run),
    topic("evictions", "Scaled and drained under steady requests", evictions::run),
    topic("outage", "The API server restarts, and is away for 20 seconds", outage::run),
    topic("reinstall", "Uninstalled, and installed again: the same keys", reinstall::run),
    topic("uninstall", "Uninstalled with everything: nothing stays, nothing wedges", uninstall::run),
];
