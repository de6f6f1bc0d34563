//! Drives a key to what its `CustomerMasterKey` declares.

mod alias;
mod apply;
mod describe;
mod gather;
mod material;
pub mod plan;
mod removal;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_adoption;

pub use apply::{KIND, reconcile};
pub use gather::slot;
pub use removal::letting_go;
