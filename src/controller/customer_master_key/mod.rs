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

pub use alias::AliasFacts;
pub use apply::{KIND, reconcile};
pub use gather::{find, slot};
pub use material::ImportProblem;
pub use removal::letting_go;
