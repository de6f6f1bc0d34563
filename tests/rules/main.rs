//! The rules of the design, each by a test that names it, on a real API server with the policies installed and
//! the operator running with the RBAC it ships.

#[path = "../support/mod.rs"]
mod support;

mod rule_01_one_key;
mod rule_02_drift;
mod rule_03_states;
mod rule_04_purge;
mod rule_05_deletion;
mod rule_20_root_key;
