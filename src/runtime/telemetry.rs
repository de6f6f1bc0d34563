//! Logging.

use tracing_subscriber::EnvFilter;

use super::{
    arguments::{LogArguments, LogFormat},
    audit_format::AuditFormat,
};

/// The filter given is not one.
#[derive(Debug, thiserror::Error)]
#[error("--log-level {level}: {problem}")]
pub struct InvalidFilter {
    level: String,
    problem: String,
}

/// Starts logging to standard error: standard output belongs to what a command prints.
///
/// # Errors
/// [`InvalidFilter`] for a level that is none.
pub fn start(arguments: &LogArguments) -> Result<(), InvalidFilter> {
    let filter = EnvFilter::try_new(&arguments.log_level)
        .map_err(|e| InvalidFilter { level: arguments.log_level.clone(), problem: e.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Human => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().map_event_format(AuditFormat).init(),
    }
    Ok(())
}
