//! Servers as processes of their own.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::load::{Connection, Target};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    /// What it said about itself.
    pub said: Value,
}

impl Server {
    /// Starts this program as one of its servers. What it logs is thrown away, after it was written.
    pub fn start(which: &str, directory: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--serve", which, "--directory"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().append(true).open("/dev/null").expect("/dev/null"))
            .spawn()
            .expect("this program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("where it listens");
        Self { said: serde_json::from_str(&line).unwrap_or_else(|_| panic!("{which} did not start")), child }
    }

    /// Starts moto's server, if the clients that the tests use are there.
    pub async fn moto() -> Option<Self> {
        let program = moto_program()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self { child, said: serde_json::json!({"plain": format!("127.0.0.1:{port}")}) };
        let started = Instant::now();
        while started.elapsed() < START {
            if Connection::open(&server.target("plain", None)).await.is_ok() {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    }

    pub fn target(&self, listener: &str, tls: Option<tokio_rustls::TlsConnector>) -> Target {
        Target { address: self.said[listener].as_str().expect("an address").to_owned(), tls }
    }

    /// CPU time that it has used, in microseconds. The kernel counts in steps of 10 ms.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // After the name, which may have spaces in it: the state, and so on; user and system time are the 12th and 13th.
        let after = stat.rsplit_once(") ").map(|(_, after)| after).unwrap_or_default();
        after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10_000.0
    }

    /// Its resident memory, in MiB.
    pub fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `tests/clients/build` puts it.
fn moto_program() -> Option<PathBuf> {
    let cache = std::env::var_os("CMK_CLIENTS_CACHE").map(PathBuf::from).or_else(|| {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
        Some(cache.join("cmk-operator/clients"))
    })?;
    let places = std::fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let programs = places.flat_map(|place| ["venv/bin/moto_server", "bin/moto_server"].map(|file| place.join(file)));
    programs.filter(|program| program.exists()).max_by_key(|program| program.metadata().and_then(|m| m.modified()).ok())
}
