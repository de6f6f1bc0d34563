//! `cmk-operator`: parses the command line and does what it says.

use std::process::ExitCode;

use clap::Parser;
use cmk_operator::runtime::{arguments::Arguments, commands};

fn main() -> ExitCode {
    commands::execute(Arguments::parse().command)
}
