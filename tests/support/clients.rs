//! The KMS clients that users have, prepared by `tests/clients/build`.

use std::path::PathBuf;

use super::scripts::built;

/// Prepares the clients, if that was not done before (minutes, the first time, with progress on stderr), and answers the
/// directory with `python`, `aws` and `sops`.
///
/// Panics where it fails: it has said why on stderr.
pub async fn build() -> PathBuf {
    tokio::task::spawn_blocking(|| built("tests/clients/build")).await.expect("the build of the clients")
}
