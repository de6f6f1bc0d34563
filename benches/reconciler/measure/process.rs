//! The operator as a process of its own: starting it, and what the kernel says about it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::support::{
    component::Component,
    eventually,
    world::{Bed, OPERATOR_NAMESPACE, SOON},
};

/// Clock ticks a second in /proc/PID/stat: USER_HZ, which is 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;
/// How long no pass may have ended for the operator to count as quiet: far longer than a pass takes.
const QUIET: Duration = Duration::from_secs(1);
/// How long the admin endpoint may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A running operator. Dropping it kills it.
pub struct Process {
    component: Component,
    admin: String,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Resident at most, since it started.
    pub peak: u64,
}

impl Process {
    /// Starts the operator with the RBAC it ships, over all namespaces, and returns when it is ready.
    pub async fn start(binary: &Path, bed: &Bed, concurrency: usize) -> Self {
        let component = Self::launch(binary, bed, concurrency);
        Self { component, admin: String::new() }.ready().await
    }

    /// Kills it, and starts it again.
    pub async fn restart(self, binary: &Path, bed: &Bed, concurrency: usize) -> Self {
        drop(self);
        Self::start(binary, bed, concurrency).await
    }

    fn launch(binary: &Path, bed: &Bed, concurrency: usize) -> Component {
        let concurrency = concurrency.to_string();
        let args = ["run", "--namespace", OPERATOR_NAMESPACE, "--concurrency", &concurrency];
        let args = args.into_iter().chain(["--admin-listen", "127.0.0.1:0", "--log-format", "json"]);
        let directory = bed.control_plane.directory();
        Component::start_with("cmk-operator", binary, directory, args, |command| {
            command.env("KUBECONFIG", &bed.operator_kubeconfig);
        })
    }

    async fn ready(mut self) -> Self {
        self.admin = eventually("the operator's admin endpoint", SOON, async || {
            assert!(self.component.exited().is_none(), "the operator ended: {}", self.component.log_tail());
            let log = std::fs::read_to_string(self.component.log()).unwrap_or_default();
            address(&log).ok_or_else(|| self.component.log_tail())
        })
        .await;
        eventually("the operator to be ready", SOON, async || {
            let answer = self.ask("/readyz")?;
            (answer == "ok\n").then_some(()).ok_or(answer)
        })
        .await;
        self
    }

    /// Resident memory.
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.component.process_id())).expect("a process");
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("memory in /proc/PID/status");
            line.trim_end_matches("kB").trim().parse::<u64>().expect("a number of kB") * 1024
        };
        Memory { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }

    /// CPU seconds used so far.
    pub fn cpu(&self) -> f64 {
        cpu(self.component.process_id())
    }

    /// Passes ended so far, of every kind and result.
    pub fn passes(&self) -> u64 {
        let metrics = self.ask("/metrics").expect("the operator's metrics");
        let counts = metrics.lines().filter(|line| line.starts_with("cmk_passes_total"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Waits until at least `passes` have ended and no more end.
    pub async fn quiet(&self, passes: u64, within: Duration) {
        let (mut seen, mut since) = (0, Instant::now());
        eventually("the operator to be quiet", within, async || {
            let now = self.passes();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            let quiet = seen >= passes && since.elapsed() >= QUIET;
            quiet.then_some(()).ok_or_else(|| format!("{seen} passes of {passes}"))
        })
        .await;
    }

    /// The answer of the admin endpoint, which is on this machine and answers from memory: not worth waiting for
    /// asynchronously.
    fn ask(&self, path: &str) -> Result<String, String> {
        let exchange = || {
            let mut stream = TcpStream::connect(&self.admin)?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = exchange().map_err(|error| format!("{path}: {error}"))?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(answer)
    }
}

/// CPU seconds that a process used so far.
pub fn cpu(process_id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).expect("a process");
    // The name before the last parenthesis may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("clock ticks"));
    ticks.sum::<f64>() / TICKS
}

/// Where the admin endpoint listens, as the log says.
fn address(log: &str) -> Option<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut addresses = lines.filter_map(|line| line["fields"]["address"].as_str().map(str::to_owned));
    addresses.next()
}
