//! Helm 4 and 3, as `tests/chart/build` makes them, and the chart.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde::Deserialize;
use serde_json::Value;

use crate::support::{ControlPlane, scripts::built, world::succeed};

pub const RELEASE: &str = "cmk-operator";
pub const NAMESPACE: &str = "cmk-system";
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/cmk-operator");
/// The Kubernetes version that is assumed where there is no cluster.
const KUBERNETES: &str = "1.36.0";

/// A version of Helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    Four,
    Three,
}

impl Helm {
    pub const ALL: [Self; 2] = [Self::Four, Self::Three];

    /// A command that knows no cluster and nothing of the user's.
    pub fn command(self) -> Command {
        static BINARIES: OnceLock<PathBuf> = OnceLock::new();
        static HOME: OnceLock<PathBuf> = OnceLock::new();
        let binaries = BINARIES.get_or_init(|| built("tests/chart/build"));
        // In the target directory: it holds caches only.
        let home = HOME.get_or_init(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm"));
        let mut command = Command::new(binaries.join(if self == Self::Four { "helm" } else { "helm3" }));
        command.env_clear().env("HOME", home).env("KUBECONFIG", "/dev/null").stdin(Stdio::null());
        command
    }

    /// A command on a cluster, as its administrator.
    pub fn on(self, control_plane: &ControlPlane) -> Command {
        let mut command = self.command();
        let home = control_plane.directory().join("home");
        command.env("HOME", home).env("KUBECONFIG", control_plane.admin_kubeconfig());
        command.args(["--namespace", NAMESPACE]);
        command
    }

    /// What the chart renders, as text.
    pub fn template(self, arguments: &[&str]) -> String {
        succeed(self.templating().args(arguments))
    }

    /// What the chart does not render, and why.
    pub fn refuses(self, arguments: &[&str]) -> String {
        let output = self.templating().args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} is rendered with {self:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn templating(self) -> Command {
        let mut command = self.command();
        command.args(["template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", KUBERNETES]);
        command
    }
}

/// The values to try the chart with: name and path of every file in `ci/`.
pub fn tried_values() -> Vec<(String, String)> {
    let entries = fs::read_dir(Path::new(CHART).join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches("-values.yaml").to_owned();
            (name, path.to_str().unwrap().to_owned())
        })
        .collect();
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    files
}

/// The path of one of them.
pub fn values_file(name: &str) -> String {
    format!("{CHART}/ci/{name}-values.yaml")
}

/// The objects in a text.
pub fn objects(yaml: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|object| !object.is_null()).collect()
}

/// The only object of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let only = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    only
}

/// The arguments that the operator is started with.
pub fn operator_arguments(deployment: &Value) -> Vec<String> {
    let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    serde_json::from_value(arguments.clone()).unwrap()
}
