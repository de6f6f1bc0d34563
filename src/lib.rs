//! The cmk-operator: customer master keys and data keys as Kubernetes objects.
//!
//! Arrows point from shell to core only:
//!
//! ```text
//! runtime -> server ----------\
//!        \-> controller -> store -> cluster -> api -> kms
//!                              \-> crypto <- (nobody's business but the stores')
//! ```
//!
//! [`kms`] and [`crypto`] know neither Kubernetes nor HTTP. [`api`] has no client. What the controllers decide
//! is decided by pure functions (`plan`), from what was gathered before and for somebody else to apply after.

pub mod access_keys;
pub mod api;
pub mod clock;
pub mod cluster;
pub mod controller;
pub mod crypto;
pub mod kms;
mod maps;
pub mod plugin;
pub mod runtime;
pub mod server;
pub mod store;
pub mod trace;
