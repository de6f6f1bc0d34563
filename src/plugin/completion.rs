//! `kubectl cmk completion`

use std::{io, process::ExitCode};

use clap::CommandFactory;
use clap_complete::generate;

use super::{
    arguments::{Arguments, CompletionArguments},
    failure::Failure,
    output,
};

/// Prints the script for a shell.
pub fn print(arguments: &CompletionArguments) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Arguments::command(), "kubectl-cmk", &mut script);
    let script = String::from_utf8(script)
        .map_err(|_| Failure::Io { what: "the script".into(), error: io::Error::from(io::ErrorKind::InvalidData) })?;
    output::print(&script)
}
