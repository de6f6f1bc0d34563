//! A control plane and the operator beside it, in a process of its own; and a shell to use them from.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ControlPlane;
use crate::support::component::Component;

/// The operator under demonstration: the debug binary that cargo built for this program.
const OPERATOR: &str = env!("CARGO_BIN_EXE_cmk-operator");
/// Where the commands run: they name `deploy/` and `examples/`.
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// The demo talks to its own control plane on the loopback interface, whatever proxy the user has; and the
/// operator has its usual namespace.
const NOT_INHERITED: [&str; 7] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "POD_NAMESPACE"];

/// How long the operator may take to be ready: it lists what exists, of which there is nothing.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What a command printed, on both outputs, and whether it succeeded.
pub struct Ran {
    pub text: String,
    pub success: bool,
}

pub struct Stage {
    // Dropped in this order.
    operator: Option<Component>,
    pub control_plane: ControlPlane,
}

impl Stage {
    pub fn new(control_plane: ControlPlane) -> Self {
        Self { operator: None, control_plane }
    }

    /// Where kubectl is.
    pub fn kubectl_directory(&self) -> PathBuf {
        let kubectl = self.control_plane.kubectl([""; 0]);
        Path::new(kubectl.get_program()).parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Where `cmk-operator` is.
    pub fn operator_directory() -> &'static Path {
        Path::new(OPERATOR).parent().unwrap_or(Path::new("."))
    }

    /// Runs a line as the administrator would in a shell. Both outputs come in the order written.
    pub fn shell(&self, line: &str) -> Ran {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec 2>&1\n{line}")).current_dir(CHECKOUT).stdin(Stdio::null());
        // HOME, so that kubectl keeps its caches away from the user's.
        let kubectl = self.control_plane.kubectl([""; 0]);
        for (name, value) in kubectl.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("PATH", self.search_path());
        without_proxies(&mut command);
        let output = command.output().expect("a shell");
        Ran { text: String::from_utf8_lossy(&output.stdout).into_owned(), success: output.status.success() }
    }

    fn search_path(&self) -> OsString {
        let mut directories = vec![self.kubectl_directory(), Self::operator_directory().to_owned()];
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        directories.extend(std::env::split_paths(&inherited));
        std::env::join_paths(directories).expect("directories without a colon in their names")
    }

    /// Starts the operator with the identity of its ServiceAccount, and returns its log.
    pub fn start_operator(&mut self, kubeconfig: &Path) -> PathBuf {
        let operator = Component::start_with(
            "cmk-operator",
            Path::new(OPERATOR),
            self.control_plane.directory(),
            // Port 0: any that is free. The log says which.
            ["run", "--admin-listen", "127.0.0.1:0"].map(OsStr::new),
            |command| {
                command.env("KUBECONFIG", kubeconfig);
                without_proxies(command);
            },
        );
        self.operator.insert(operator).log().to_owned()
    }

    /// Waits until /readyz of the operator says so. Answers the address of its admin endpoint.
    pub fn operator_ready(&mut self) -> Result<SocketAddr, String> {
        let operator = self.operator.as_mut().ok_or("it was not started")?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = operator.exited() {
                return Err(format!("it ended with {status}"));
            }
            let log = std::fs::read_to_string(operator.log()).unwrap_or_default();
            let address = admin_address(&log);
            if let Some(address) = address
                && is_ready(address)
            {
                return Ok(address);
            }
            if Instant::now() >= deadline {
                return Err(format!("it was not ready within {READY_WITHIN:?} (admin endpoint: {address:?})"));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The end of the operator's log.
    pub fn operator_log_tail(&self) -> String {
        self.operator.as_ref().map(Component::log_tail).unwrap_or_default()
    }
}

fn without_proxies(command: &mut Command) {
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
}

/// The address in the line `… the admin endpoint listens address=127.0.0.1:34567`.
fn admin_address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("the admin endpoint listens"))?;
    line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// Whether `GET /readyz` answers 200.
fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
