//! The shell: arguments, telemetry, the admin endpoint, the watches that drive the controllers, and shutdown.

pub mod admin;
pub mod arguments;
mod audit_format;
pub mod commands;
pub mod credentials;
mod drive;
mod interruptions;
mod key_stores;
pub mod kms_endpoint;
pub mod leader_election;
mod list_watch;
pub mod log_levels;
pub mod metrics;
pub mod operator;
pub mod otlp;
mod root_key_guard;
mod root_key_rewrap;
pub mod shutdown;
mod switches;
pub mod telemetry;
pub mod triggers;
pub mod verify;
mod watches;
