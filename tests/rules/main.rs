//! The rules of the design, each by a test that names it, on a real API server with the policies installed and
//! the operator running with the RBAC it ships.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../support/mod.rs"]
mod support;

mod access_keys;
mod backup;
mod bad_input;
mod bad_manifests;
mod endpoint;
mod endpoint_aliases;
mod endpoint_import;
mod endpoint_lifecycle;
mod endpoint_ownership;
mod endpoint_permissions;
mod helpers;
mod key_stores;
mod leader_election;
mod rebuild;
mod restore;
mod root_key_rotation;
mod rule_01_one_key;
mod rule_02_drift;
mod rule_03_states;
mod rule_04_purge;
mod rule_05_deletion;
mod rule_06_in_use;
mod rule_07_protection;
mod rule_08_rotation;
mod rule_09_import;
mod rule_10_aliases;
mod rule_11_adoption;
mod rule_12_data_keys;
mod rule_12_history;
mod rule_12_lost_status;
mod rule_12_rotation;
mod rule_12_service_key;
mod rule_13_states;
mod rule_14_secrets;
mod rule_15_sharing;
mod rule_16_conditions;
mod rule_17_preconditions;
mod rule_18_disclosure;
mod rule_18_rights;
mod rule_20_root_key;
mod users;
