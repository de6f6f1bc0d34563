//! `kubectl cmk version`

use std::process::ExitCode;

use serde::Serialize;

use super::{
    arguments::VersionArguments,
    failure::Failure,
    output::{print, serialized},
};
use crate::{
    api::{GROUP, VERSION},
    kms::key_record::RECORD_FORMAT,
};

/// What this program is and understands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    api: String,
    key_record_format: u32,
}

/// Prints the versions of the plugin and of what it understands.
pub fn version(arguments: &VersionArguments) -> Result<ExitCode, Failure> {
    let about = Version {
        version: env!("CARGO_PKG_VERSION"),
        api: format!("{GROUP}/{VERSION}"),
        key_record_format: RECORD_FORMAT,
    };
    match arguments.output {
        Some(format) => print(&serialized(format, &about)?),
        None => print(&format!("kubectl-cmk {} ({})\n", about.version, about.api)),
    }
}
