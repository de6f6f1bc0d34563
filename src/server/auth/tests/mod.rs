//! The whole way of a request through the [`Authenticator`].

mod forms;
mod fuzzed;
mod nonces;
mod recorded;
mod support;
mod vectors;
