//! The judges: kstatus, and the Lua of Argo CD.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use crate::support::scripts::built;

/// Where the repository is.
pub const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// What somebody makes of an object: a word, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: String,
    pub message: String,
}

/// What kstatus makes of an object.
pub fn kstatus(object: &Value) -> Verdict {
    judge(Command::new(binaries().join("kstatus")), object)
}

/// What Argo CD makes of an object, with the script for its kind in `gitops/argocd/argocd-cm.yaml`.
pub fn argo_cd(object: &Value) -> Verdict {
    let mut command = Command::new(binaries().join("health"));
    let script = script(object["kind"].as_str().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    command.arg(file.path());
    judge(command, object)
}

/// The health script for a kind.
fn script(kind: &str) -> String {
    let text = std::fs::read_to_string(Path::new(REPOSITORY).join("gitops/argocd/argocd-cm.yaml")).unwrap();
    let map: Value = serde_yaml_ng::from_str(&text).unwrap();
    let key = format!("resource.customizations.health.kms.cmk-operator.dev_{kind}");
    map["data"][&key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned()
}

fn judge(mut command: Command, object: &Value) -> Verdict {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
    let (status, message) = stdout.split_once('\n').unwrap();
    Verdict { status: status.to_owned(), message: message.trim_end().to_owned() }
}

/// Builds both at the first call (a minute, the first time, with progress on stderr).
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| built("tests/gitops/build"))
}
