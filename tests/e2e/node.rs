//! The single-node cluster of tests/node, which never outlives this program, however that one ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cluster::{CHECKOUT, script_output};
use crate::screen::{Failed, Screen};

/// Runs what follows the node's directory among the arguments in the node.
const IN_NODE: &str = r#"set -euo pipefail; source tests/node/node.sh; enter "$@""#;

pub struct Node {
    directory: PathBuf,
    keep: bool,
    /// One run at a time in that directory.
    _lock: File,
}

impl Node {
    /// Brings it up: minutes the first time, then about 30 seconds.
    pub fn up(screen: &mut Screen) -> Result<Self, Failed> {
        let directory = directory();
        fs::create_dir_all(&directory).expect("a directory for the node");
        let lock = File::create(directory.with_extension("lock")).expect("a lock file");
        if lock.try_lock().is_err() {
            screen.progress(format!("another run uses {}: waiting for its end …", directory.display()));
            lock.lock().expect("the lock");
        }
        let keep = std::env::var_os("CMK_E2E_KEEP").is_some();
        let node = Self { directory, keep, _lock: lock };
        screen.progress(format!("bringing up a node, its state and logs in {} …", node.directory.display()));
        let script = Path::new(CHECKOUT).join("tests/node/up");
        let mut up = Command::new(script);
        up.arg(&node.directory).stdin(Stdio::null());
        if !keep {
            // It goes down when we end, however that is.
            up.env("CMK_NODE_OWNER", std::process::id().to_string());
        }
        let up = up.status().is_ok_and(|status| status.success());
        screen.expect("a node is up, and DNS and Services work on it", up)?;
        Ok(node)
    }

    /// Holds its state and logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Imports an image.
    pub fn load(&self, screen: &mut Screen, image: &Path) -> Result<(), Failed> {
        let loaded = script_output("tests/node/load", &[&self.directory, image]);
        screen.expect(format!("the node has {}", image.display()), loaded.is_some())
    }

    /// Gives an image another name.
    pub fn tag(&self, screen: &mut Screen, image: &str, another: &str) -> Result<(), Failed> {
        let mut tag = Command::new("bash");
        tag.args(["-c", IN_NODE, "bash"]).arg(&self.directory).current_dir(CHECKOUT).stdin(Stdio::null());
        tag.args(["/mnt/bin/ctr", "--namespace", "k8s.io", "images", "tag", "--force", image, another]);
        let tagged = tag.output().is_ok_and(|output| output.status.success());
        screen.expect(format!("the node has the image as {another} too"), tagged)
    }

    /// `stop`, `start` or `restart` of its API server.
    pub fn api_server(&self, screen: &mut Screen, action: &str) -> Result<(), Failed> {
        screen.command(&format!("tests/node/apiserver {} {action}", self.directory.display()));
        let done = script_output("tests/node/apiserver", &[&self.directory, Path::new(action)]);
        if done.is_some() { Ok(()) } else { screen.expect(format!("the API server to {action}"), false) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.keep {
            println!("\nThe cluster stays up. To use it, and to end it:");
            println!("export KUBECONFIG={}", self.kubeconfig().display());
            println!("tests/node/down {}", self.directory.display());
        } else {
            println!("\ntaking the node down …");
            let _ = script_output("tests/node/down", &[&self.directory]);
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The same at each run from this checkout, so that what a killed run left is found and removed. A short path: it holds
/// sockets.
fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("CMK_E2E_DIRECTORY") {
        return directory.into();
    }
    let of_checkout = CHECKOUT.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    Path::new("/var/tmp").join(format!("cmk-e2e-{of_checkout:08x}"))
}

/// The first process of a container, found by the container's id in the control group.
pub fn process_of(container: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| fs::read_to_string(format!("/proc/{id}/cgroup")).is_ok_and(|groups| groups.contains(container)))
        .min()
}
