//! A control plane and the operator beside it, in a process of its own; and a shell to use them from.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
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

/// Nor whatever clouds the user works with.
const NOT_INHERITED_PREFIXES: [&str; 2] = ["AWS_", "ALIBABA_CLOUD_"];

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
    /// Where `aws` and `python` are.
    clients: PathBuf,
    /// Where the KMS endpoint listens.
    kms_address: SocketAddr,
    kms_url: String,
    /// What was exported, as it was typed.
    exported: String,
}

impl Stage {
    /// `clients` is the directory that `tests/clients/build` answers.
    pub fn new(control_plane: ControlPlane, clients: PathBuf) -> Self {
        // Known before the operator runs: it delivers the address to its clients, and they go to the host localhost.
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let kms_address = free.expect("a free port");
        let kms_url = format!("https://localhost:{}", kms_address.port());
        Self { operator: None, control_plane, clients, kms_address, kms_url, exported: String::new() }
    }

    /// The KMS endpoint, as clients call it.
    pub fn kms_url(&self) -> &str {
        &self.kms_url
    }

    /// The arguments that the operator runs with. Port 0 is any that is free: the log says which.
    pub fn operator_arguments(&self) -> [String; 7] {
        let address = self.kms_address.to_string();
        ["run", "--admin-listen", "127.0.0.1:0", "--kms-listen", &address, "--kms-url", &self.kms_url]
            .map(str::to_owned)
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

    /// The home directory of the shell.
    pub fn home(&self) -> PathBuf {
        self.control_plane.directory().join("home")
    }

    /// Where the programs are that the commands name.
    pub fn program_directories(&self) -> [PathBuf; 3] {
        [self.clients.clone(), self.kubectl_directory(), Self::operator_directory().to_owned()]
    }

    /// Exports variables to all lines that are run from now on, as if it was one shell.
    pub fn export(&mut self, line: &str) {
        self.exported += line;
        self.exported += "\n";
    }

    /// Runs a line as the administrator would in a shell. Both outputs come in the order written.
    pub fn shell(&self, line: &str) -> Ran {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec 2>&1\n{}{line}", self.exported)).current_dir(CHECKOUT).stdin(Stdio::null());
        // HOME, so that kubectl keeps its caches away from the user's.
        let kubectl = self.control_plane.kubectl([""; 0]);
        for (name, value) in kubectl.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("PATH", self.search_path());
        without_the_users(&mut command);
        let output = command.output().expect("a shell");
        Ran { text: String::from_utf8_lossy(&output.stdout).into_owned(), success: output.status.success() }
    }

    fn search_path(&self) -> OsString {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let directories = self.program_directories().into_iter().chain(std::env::split_paths(&inherited));
        std::env::join_paths(directories).expect("directories without a colon in their names")
    }

    /// Starts the operator with the identity of its ServiceAccount, and returns its log.
    pub fn start_operator(&mut self, kubeconfig: &Path) -> PathBuf {
        let operator = Component::start_with(
            "cmk-operator",
            Path::new(OPERATOR),
            self.control_plane.directory(),
            self.operator_arguments(),
            |command| {
                command.env("KUBECONFIG", kubeconfig);
                without_the_users(command);
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

fn without_the_users(command: &mut Command) {
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        if NOT_INHERITED_PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
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
