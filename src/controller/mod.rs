//! The controllers: one folder a kind, each gather (IO) -> plan (pure) -> apply (IO).
//!
//! A pass over an object gathers once and then asks `plan` for one step at a time: the step is carried out, what
//! it changed is put into what was observed, and `plan` is asked again, until there is nothing left to do. So
//! `plan` decides from facts only, never from what it hopes a write will have done, and a crash between any two
//! steps leaves a state that it decides from as well.

pub mod access_key;
pub mod alarms;
pub mod cluster_key_store;
pub mod customer_master_key;
pub mod data_key;
mod delivered;
mod events;
mod expectations;
pub mod orphans;
mod pass;
pub mod purge;

use std::sync::Arc;

pub use events::{announce, news};
pub use expectations::Expectations;
pub use pass::{Attempts, Outcome, PassError};

use crate::{clock::Clock, crypto::Random, runtime::metrics::Metrics};

/// What every pass needs.
pub struct Context<C, S> {
    /// The API server.
    pub cluster: C,
    /// The key store.
    pub store: Arc<S>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// `--no-new-keys` (design, rule 20).
    pub no_new_keys: bool,
    /// Why erasures that are due wait.
    pub purge_holds: purge::Holds,
    /// How often each object failed in a row.
    pub attempts: Attempts,
    /// What the watch has yet to show.
    pub expectations: Expectations,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}
