//! The KMS clients that users have, prepared by `tests/clients/build`.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// Prepares the clients, if that was not done before (minutes, the first time, with progress on stderr), and answers the
/// directory with `python`, `aws` and `sops`.
///
/// Panics where it fails: it has said why on stderr.
pub async fn build() -> PathBuf {
    tokio::task::spawn_blocking(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/build");
        let output = Command::new(script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(output.status.success(), "{script} ended with {}", output.status);
        let text = String::from_utf8(output.stdout).expect("the name of a directory");
        PathBuf::from(text.lines().last().expect("the name of a directory"))
    })
    .await
    .expect("the build of the clients")
}
