//! The rules of the design, each by a test that names it, on a real API server with the policies installed and
//! the operator running with the RBAC it ships.

#[path = "../support/mod.rs"]
mod support;

mod rule_01_one_key;
