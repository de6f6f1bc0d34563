//! The programs of `tests/clients/`, and the Python environment that they run in.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::support;

/// The directory with `python`, `aws` and `sops`, prepared once for all tests.
async fn directory() -> &'static Path {
    static DIRECTORY: OnceCell<PathBuf> = OnceCell::const_new();
    DIRECTORY.get_or_init(support::clients::build).await
}

/// Runs a program with its configuration on standard input. It has to succeed, and says what it found if it does not.
pub async fn run(program: &str, configuration: &Value) {
    let directory = directory().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(program);
    let path = std::env::join_paths(
        std::iter::once(directory.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new(directory.join("python"));
    command.arg(script).env("PATH", path.unwrap());
    // They call an endpoint on the loopback interface, whatever proxy the user has.
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = configuration.to_string();
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = ran.await.unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{program} failed:\n{said}{complained}");
}
