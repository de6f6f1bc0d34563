//! Processes that never outlive the one that started them, however that one ends.
//!
//! Each runs under a shell that reads a pipe whose other end only this process holds: when this
//! process ends, even by SIGKILL, the kernel closes the pipe and the shell does what is left to do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The watching shell goes to the background and the component takes the place of the first one, so
/// that our child is the component itself. SIGKILL because kube-apiserver drains for up to a minute.
const RUN: &str = r#"
exec 3<&0
component=$$
(trap '' HUP INT TERM; read -r _ <&3; kill -9 "$component") &
exec "$@" </dev/null 3<&-
"#;

/// Once more after a second: a component that dies at the same moment may still write.
const REMOVE: &str = r#"trap '' HUP INT TERM; read -r _; rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }"#;

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A running component. Dropping it kills the process and waits until it is gone.
pub struct Component {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Component {
    /// Starts `binaries/name` with `args` in `directory`, where its log goes too.
    pub fn start<S: AsRef<OsStr>>(
        name: &'static str,
        binaries: &Path,
        directory: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::start_with(name, &binaries.join(name), directory, args, |_| ())
    }

    /// The same with any program, in an environment that `prepare` changes.
    pub fn start_with<S: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        directory: &Path,
        args: impl IntoIterator<Item = S>,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).expect("a log file");
        let mut command = shell(RUN);
        prepare(&mut command);
        let child = command
            .arg(program)
            .args(args)
            .current_dir(directory)
            .stdout(output.try_clone().expect("a second handle of the log"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name, child, log }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, where it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Where its log goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        // The watching shell kills it while it is still our child: its process id cannot have gone
        // to another process. Only if somebody killed that shell is it done from here.
        drop(self.child.stdin.take());
        let deadline = Instant::now() + GONE_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Removes a directory when dropped, or when this process ends without dropping anything.
pub struct DirectoryRemoval(Child);

impl DirectoryRemoval {
    pub fn of(directory: &Path) -> Self {
        let child = shell(REMOVE).arg(directory).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell");
        Self(child)
    }
}

impl Drop for DirectoryRemoval {
    fn drop(&mut self) {
        // Closes its standard input first.
        let _ = self.0.wait();
    }
}

/// A shell whose standard input closes with us, in a process group of its own: Ctrl-C reaches us
/// alone, and what we still do with the control plane then finds it running.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).stdin(Stdio::piped()).process_group(0);
    command
}
