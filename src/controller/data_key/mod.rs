//! Delivers data keys: generated once, their ciphertext stored before any Secret exists, so that the Secret can
//! always be made again (design, rules 12 to 15).

mod annotations;
mod apply;
mod ciphertext;
mod delivery;
mod describe;
mod gather;
mod plan;
mod rotation;
mod service_key;
#[cfg(test)]
mod tests;

pub use apply::{KIND, reconcile};
pub use rotation::{MAX_HISTORY, next_event};
