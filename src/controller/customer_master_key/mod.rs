//! Drives a key to what its `CustomerMasterKey` declares.

mod apply;
mod describe;
mod gather;
pub mod plan;
mod removal;
#[cfg(test)]
mod tests;

pub use apply::{KIND, reconcile};
pub use gather::slot;
pub use removal::letting_go;
