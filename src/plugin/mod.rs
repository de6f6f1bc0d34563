//! `kubectl cmk`: what people do with keys by hand, and what they look at. It runs with the rights of who calls it.
//!
//! One file a command. What is decided (whether a field may be changed, what a reconciler would do, what is wrong in a
//! cluster) is decided by pure functions; the commands read, ask them, and write or print.

mod arguments;
mod change;
mod completion;
mod describe;
mod doctor;
mod failure;
mod import;
mod lifecycle;
mod output;
mod plan;
mod rotate;
mod session;
mod times;
mod tree;
mod version;
mod wait;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use kube::ResourceExt;
use tokio::runtime::Builder;

use arguments::{Arguments, Command};
use failure::Failure;
use session::Session;

use crate::api::DataKey;

/// Does what a command line says, and answers the exit status: 0, or 1 with a sentence on standard error. Wrong usage
/// is 1 as well, as `plan` has a meaning for 2.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is nobody's business.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    crate::runtime::shutdown::no_core_dumps();
    match execute(arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments) -> Result<ExitCode, Failure> {
    // These need no cluster.
    match &arguments.command {
        Command::Completion(shell) => return completion::print(shell),
        Command::Version(arguments) => return version::version(arguments),
        _ => {}
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Io { what: "the runtime".into(), error })?;
    runtime.block_on(dispatch(arguments))
}

async fn dispatch(arguments: Arguments) -> Result<ExitCode, Failure> {
    let session = Session::open(&arguments.connection).await?;
    match arguments.command {
        Command::Completion(shell) => completion::print(&shell),
        Command::Version(arguments) => version::version(&arguments),
        Command::Describe(arguments) => describe::describe(&session, &arguments).await,
        Command::Tree(arguments) => tree::tree(&session, &arguments).await,
        Command::Doctor(arguments) => doctor::doctor(&session, &arguments).await,
        Command::Plan(arguments) => plan::plan(&session, &arguments).await,
        Command::Rotate(arguments) => rotate::rotate(&session, &arguments).await,
        Command::Import(arguments) => import::import(&session, &arguments).await,
        Command::Enable(arguments) => lifecycle::enable(&session, &arguments).await,
        Command::Disable(arguments) => lifecycle::disable(&session, &arguments).await,
        Command::ScheduleDeletion(arguments) => lifecycle::schedule_deletion(&session, &arguments).await,
        Command::CancelDeletion(arguments) => lifecycle::cancel_deletion(&session, &arguments).await,
    }
}

/// Whether a DataKey is under the key of that namespace and name.
fn refers_to(data_key: &DataKey, namespace: &str, name: &str) -> bool {
    data_key.spec.master(&data_key.namespace().unwrap_or_default()) == (namespace, name)
}
