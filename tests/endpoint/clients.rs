//! The programs of `tests/clients/`, and the Python environment that they run in.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, sync::OnceCell};

/// Prepares the clients, if that was not done before, and answers the directory with `python` and `sops`.
pub async fn directory() -> &'static Path {
    static DIRECTORY: OnceCell<PathBuf> = OnceCell::const_new();
    DIRECTORY
        .get_or_init(|| async {
            let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/build");
            let built = tokio::task::spawn_blocking(move || {
                Command::new(build).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap()
            });
            let output = built.await.unwrap();
            assert!(output.status.success(), "tests/clients/build failed: it says why above");
            let text = String::from_utf8(output.stdout).unwrap();
            PathBuf::from(text.lines().last().unwrap())
        })
        .await
}

/// Runs a program with its configuration on standard input. It has to succeed, and says what it found if it does not.
pub async fn run(program: &str, configuration: &Value) {
    let directory = directory().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(program);
    let path = std::env::join_paths(
        std::iter::once(directory.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = tokio::process::Command::new(directory.join("python"));
    command.arg(script).env("PATH", path.unwrap()).kill_on_drop(true);
    // They call an endpoint on the loopback interface, whatever proxy the user has.
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(configuration.to_string().as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{program} failed:\n{said}{complained}");
}
