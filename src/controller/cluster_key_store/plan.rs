//! What to say about a key store: a pure function of what was observed.

use jiff::Timestamp;

use crate::{
    api::{
        ClusterKeyStore, ClusterKeyStoreStatus,
        cluster_key_store::{DayRange, OrphanedKeys, StoreCapabilities},
        conditions::{self, Finding, IN_USE, Standing, reason},
    },
    cluster::EventNote,
    controller::events::news,
    store::Capabilities,
};

/// Everything that decides.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub object: ClusterKeyStore,
    /// There are keys in the store that are not tombstones.
    pub in_use: bool,
    /// The keys in it whose objects are missing. None: they were not looked for yet.
    pub orphaned_keys: Option<OrphanedKeys>,
}

/// What to write, and what to tell people when it is written.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The status, if it is not the one that is there.
    pub status: Option<ClusterKeyStoreStatus>,
    /// Events to write after that.
    pub events: Vec<EventNote>,
}

/// Decides what to write. Nothing in it changes with every key, so that many keys are not as many writes.
#[must_use]
pub fn plan(observed: &Observed, can: Capabilities, now: Timestamp) -> Plan {
    let object = &observed.object;
    let before = object.status.clone().unwrap_or_default();
    let standing = standing(object);
    let mut findings = standing.findings();
    findings.push(in_use(observed.in_use));
    let generation = object.metadata.generation;
    let after = ClusterKeyStoreStatus {
        observed_generation: generation,
        capabilities: object.spec.embedded.as_ref().map(|_| capabilities(can)),
        orphaned_keys: observed.orphaned_keys.clone().or(before.orphaned_keys),
        conditions: conditions::conditions(&findings, &before.conditions, generation, now),
    };
    if object.status.as_ref() == Some(&after) {
        return Plan::default();
    }
    Plan { status: Some(after), events: news(&standing, &before.conditions) }
}

fn standing(object: &ClusterKeyStore) -> Standing {
    if object.spec.embedded.is_none() {
        return Standing::stalled(
            reason::UNKNOWN_PROVIDER,
            "This version of the operator knows the provider spec.embedded only. Upgrade it; until then the keys in \
             the store are left as they are.",
        );
    }
    Standing::Ready { message: "Keys can be made.".into() }
}

fn in_use(in_use: bool) -> Finding {
    if in_use {
        let message = "There are keys in the store. Without it they can't be changed, so do not delete it.";
        Finding::new(IN_USE, true, reason::HOLDS_KEYS, message)
    } else {
        Finding::new(IN_USE, false, reason::EMPTY, "There is no key in the store.")
    }
}

fn capabilities(can: Capabilities) -> StoreCapabilities {
    let window = can.pending_deletion_days;
    StoreCapabilities {
        pending_deletion_days: DayRange { min: window.min, max: window.max, default: Some(window.default) },
        rotation_interval_days: can.rotation_interval_days.map(|(min, max)| DayRange { min, max, default: None }),
        import: can.import,
    }
}
