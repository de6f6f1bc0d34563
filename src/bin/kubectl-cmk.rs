//! `kubectl cmk`: parses the command line and does what it says.

use std::process::ExitCode;

fn main() -> ExitCode {
    cmk_operator::plugin::main(std::env::args_os())
}
