//! The scripts of this checkout that prepare what tests use.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a script prints, line by line, with its progress on our stderr. It is named from the root of the checkout.
///
/// Panics where it fails: it has said why on stderr.
pub fn script(path: &str, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(output.status.success(), "{path} ended with {}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

/// What a script that builds something names in its last line, once all is built (minutes, the first time).
pub fn built(path: &str) -> PathBuf {
    script(path, &[]).pop().unwrap_or_else(|| panic!("{path} names nothing")).into()
}
