//! The program as its users run it: its commands, its admin endpoint, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that fails says why by a panic")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::json;
use support::{
    eventually,
    world::{SOON, World},
};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cmk-operator"));
    command.args(arguments).env_remove("https_proxy").env_remove("HTTPS_PROXY").stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn policies_name_the_operator_they_are_for() {
    let (code, default, _) = output(&mut program(&["policies"]));
    assert_eq!(code, Some(0));
    assert!(default.contains("system:serviceaccount:cmk-system:cmk-operator"));
    let (_, of_namespace, _) = output(program(&["policies"]).env("POD_NAMESPACE", "keys"));
    assert!(of_namespace.contains("system:serviceaccount:keys:cmk-operator"));
    let (_, of_user, _) = output(&mut program(&["policies", "--user", "somebody"]));
    assert!(of_user.contains("somebody") && !of_user.contains("system:serviceaccount"));
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let nowhere = "/nonexistent/kubeconfig";
    let rows: [(&[&str], i32, &str); 5] = [
        (&["run", "--concurrency", "0"], 2, "--concurrency"),
        (&["run", "--clock-skew-tolerance", "soon"], 2, "not a duration such as 90s or 5m"),
        (&["run", "--log-level", "info,x=!"], 1, "--log-level info,x=!"),
        (&["run"], 1, "no cluster"),
        (&["verify", "--root-key-file", "/nonexistent/key"], 1, "no cluster"),
    ];
    for (arguments, code, sentence) in rows {
        let (ended, _, error) = output(program(arguments).env("KUBECONFIG", nowhere));
        assert!(ended == Some(code) && error.contains(sentence), "{arguments:?}: {ended:?} {error}");
    }
}

/// A running operator, killed when dropped.
struct Running {
    child: Child,
    admin: SocketAddr,
    /// What it has logged since.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Waits for a line with all of these in it.
    async fn logs(&self, parts: &[&str]) {
        eventually(&format!("a line with {parts:?}"), SOON, async || {
            let lines = self.lines.lock().unwrap();
            let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
            if found { Ok(()) } else { Err(format!("{lines:#?}")) }
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the operator, and reads from its log where its admin endpoint listens.
fn run(world: &World, kubeconfig: &Path) -> Running {
    let namespaces = ["--namespace", &world.operator_namespace, "--watch-namespaces", &world.namespace];
    let mut child = program(&["run", "--admin-listen", "127.0.0.1:0", "--log-format", "json"])
        .args(namespaces)
        .env("KUBECONFIG", kubeconfig)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    let admin = entry["fields"]["address"].as_str().unwrap_or_else(|| panic!("no address: {line}")).parse().unwrap();
    // Read on, as it must not fill the pipe.
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let kept = lines.clone();
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
    Running { child, admin, lines }
}

/// The status line's number and the body.
fn ask(admin: SocketAddr, method: &str, path: &str) -> (u16, String) {
    send(admin, method, path, "")
}

/// The same, with a body in the request.
fn send(admin: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_admin_endpoint_tells_and_sigterm_ends_in_order() {
    let world = World::new("cli").await;
    let mut running = run(&world, world.operator_kubeconfig());
    let admin = running.admin;
    assert_eq!(ask(admin, "GET", "/livez").0, 200);
    eventually("the operator to be ready", SOON, async || match ask(admin, "GET", "/readyz") {
        (200, _) => Ok(()),
        (code, body) => Err(format!("{code} {body}")),
    })
    .await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    let (code, metrics) = ask(admin, "GET", "/metrics");
    assert!(code == 200 && metrics.contains("cmk_passes_total{kind=\"CustomerMasterKey\",result=\"ok\"}"), "{metrics}");
    assert_eq!(ask(admin, "GET", "/secrets").0, 404);
    assert_eq!(ask(admin, "POST", "/metrics").0, 405);

    // The log level changes while it runs, and that is logged whatever the level is.
    assert_eq!(ask(admin, "GET", "/loglevel"), (200, "info\n".into()));
    assert_eq!(send(admin, "PUT", "/loglevel", "debug").0, 200);
    running.logs(&["the log level was changed", "\"now\":\"debug\""]).await;
    // Something that is worth no more than a line at this level.
    TcpStream::connect(admin).unwrap().write_all(b"this is not HTTP\r\n\r\n").unwrap();
    running.logs(&["\"level\":\"DEBUG\"", "a connection to the admin endpoint ended badly"]).await;
    assert_eq!(send(admin, "PUT", "/loglevel", "off"), (200, "off\n".into()));
    running.logs(&["the log level was changed", "\"now\":\"off\""]).await;
    for (method, levels, code) in [("PUT", "info,x=!", 400), ("PUT", "", 400), ("POST", "info", 405)] {
        assert_eq!(send(admin, method, "/loglevel", levels).0, code, "{method} {levels}");
    }
    assert_eq!(ask(admin, "GET", "/loglevel").1, "off\n", "what was in force stays");
    assert_eq!(ask(admin, "DELETE", "/loglevel"), (200, "info\n".into()));

    let terminated = Command::new("kill").arg(running.child.id().to_string()).status().unwrap();
    assert!(terminated.success());
    eventually("the operator to end", SOON, async || {
        let ended = running.child.try_wait().map_err(|e| e.to_string())?.ok_or("it runs")?;
        if ended.success() { Ok(()) } else { Err(format!("{ended}")) }
    })
    .await;
}
