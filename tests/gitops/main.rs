//! What GitOps tools see and need: how healthy an object is, by kstatus (Flux) and by the health scripts of
//! `gitops/argocd`; that applying a manifest again changes nothing and shows no difference; and that the ClusterRole
//! `cmk-gitops` is enough. On a real API server, with the policies installed and the operator running.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../support/mod.rs"]
mod support;

mod examples;
mod files;
mod flux;
mod no_diff;
mod role;
mod states;
mod tools;
