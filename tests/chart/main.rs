//! The Helm chart, with Helm 4 and 3, on a real API server: what it renders, what it refuses, what an installation, an
//! upgrade and an uninstallation do, and that the files which are made from it or for it are not stale.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../support/mod.rs"]
mod support;

mod endpoint;
mod helm;
mod releases;
mod rendered;
mod rights;
mod shipped;
mod values;
mod watched;
