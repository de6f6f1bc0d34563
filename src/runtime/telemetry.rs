//! Logging.

use tracing_subscriber::{Registry, fmt, prelude::*};

use super::{
    arguments::{LogArguments, LogFormat},
    audit_format::AuditFormat,
    log_levels::{InvalidLevels, LogLevels},
};

/// The filter given is not one.
#[derive(Debug, thiserror::Error)]
#[error("--log-level {0}")]
pub struct InvalidFilter(#[from] InvalidLevels);

/// Starts logging to standard error: standard output belongs to what a command prints. Answers what changes the levels.
///
/// # Errors
/// [`InvalidFilter`] for a level that is none.
pub fn start(arguments: &LogArguments) -> Result<LogLevels, InvalidFilter> {
    let (levels, filter) = LogLevels::begin(&arguments.log_level)?;
    let filtered = Registry::default().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Human => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            filtered.with(lines.with_ansi(is_terminal)).init();
        }
        LogFormat::Json => filtered.with(lines.json().map_event_format(AuditFormat)).init(),
    }
    Ok(levels)
}
