//! Delivers access keys: the record first, in which the secret is sealed, then the Secret that a pod has its environment
//! from (design, section 1).
//!
//! There is no finalizer. An access key is valid only while its `AccessKey` exists (`access_keys::AccessKeyView`), so
//! nothing has to happen before one goes, and no namespace waits for the operator. What is left of it, [`leftovers`] tidies
//! up.

mod apply;
mod delivery;
mod describe;
mod gather;
pub mod leftovers;
mod plan;
mod rotation;
#[cfg(test)]
mod tests;

pub use apply::{Delivery, KIND, reconcile};
pub use rotation::next_event;
