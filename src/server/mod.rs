//! The KMS endpoint: the Alibaba Cloud KMS and AWS KMS APIs over the keys of the operator (design, section 5).
//!
//! ```text
//! listener -> message::Request -> dialect -> auth (who) -> aws/ or alibaba/ (parse)
//!                                                              |
//!          Reply <- aws/ or alibaba/ (render) <- operations (permission, state, cryptography or a change)
//! ```
//!
//! A dialect knows its wire format and nothing about keys; [`operations`] know keys and nothing about a wire format.
//! What goes wrong is a [`Failure`] on the way out, and each dialect gives it the code, the status and the words that
//! its API has. URIs, queries and bodies are never logged: Alibaba clients put plaintext into the query.

pub mod alibaba;
pub mod audit;
pub mod auth;
pub mod aws;
pub mod call;
mod deadlines;
mod dialects;
pub mod endpoint;
pub mod failure;
pub mod freshness;
pub mod limits;
pub mod listener;
pub mod message;
pub mod metrics;
pub mod operations;
pub mod permission;
pub mod review_cache;
pub mod staleness;
pub mod tls;

pub use call::{Call, Caller};
pub use failure::Failure;
pub use message::{Reply, Request};
