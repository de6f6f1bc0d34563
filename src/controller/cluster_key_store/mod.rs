//! Says what a key store can do, whether keys are in it, and which of them nobody has. The keys themselves are the
//! business of their own objects: nothing here waits for a store's status, and no finalizer holds a store.

mod apply;
pub mod plan;
#[cfg(test)]
mod tests;

pub use apply::{KIND, reconcile_all};
