//! The single-node cluster of tests/node, which never outlives this program, however that one ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cluster::{CHECKOUT, script_output};
use crate::screen::{Failed, Screen};

/// Takes the cluster down when this program ends, be it by SIGKILL: then the kernel closes the pipe that it reads.
const TAKE_DOWN: &str = r#"trap '' HUP INT TERM; read -r _; echo 'e2e: taking the cluster down' >&2; "$1" "$2" >&2"#;

pub struct Node {
    directory: PathBuf,
    /// None: it is kept.
    taking_down: Option<Child>,
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
        let taking_down = (!keep).then(|| {
            let mut shell = Command::new("sh");
            shell.args(["-c", TAKE_DOWN, "sh"]).arg(Path::new(CHECKOUT).join("tests/node/down")).arg(&directory);
            // In a process group of its own, so that Ctrl-C does not reach it.
            shell.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn().expect("a shell")
        });
        let node = Self { directory, taking_down, _lock: lock };
        screen.progress(format!("bringing up a node, its state and logs in {} …", node.directory.display()));
        let up = script_output("tests/node/up", &[&node.directory]);
        screen.expect("a node is up, and DNS and Services work on it", up.is_some())?;
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

    /// `stop`, `start` or `restart` of its API server.
    pub fn api_server(&self, screen: &mut Screen, action: &str) -> Result<(), Failed> {
        screen.command(&format!("tests/node/apiserver {} {action}", self.directory.display()));
        let done = script_output("tests/node/apiserver", &[&self.directory, Path::new(action)]);
        if done.is_some() { Ok(()) } else { screen.expect(format!("the API server to {action}"), false) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(mut taking_down) = self.taking_down.take() else {
            println!("\nThe cluster stays up. To use it, and to end it:");
            println!("export KUBECONFIG={}", self.kubeconfig().display());
            println!("tests/node/down {}", self.directory.display());
            return;
        };
        // Closes its standard input first, which it waits for.
        let _ = taking_down.wait();
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
    ids.filter(|id| fs::read_to_string(format!("/proc/{id}/cgroup")).is_ok_and(|groups| groups.contains(container))).min()
}
