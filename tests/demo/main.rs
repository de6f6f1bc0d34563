//! `make demo`: the operator on a real API server, shown with kubectl, every step checked.
//!
//! `cargo test` runs it too, once. With `--stay` (`cargo test --test demo -- --stay`) it stays up afterwards.
#![allow(clippy::expect_used, reason = "where the test bed fails there is nothing to show")]

#[path = "../support/mod.rs"]
mod support;

mod endpoint;
mod life;
mod stage;
mod steps;

use std::process::ExitCode;
use std::time::Instant;

use stage::Stage;
use steps::{OPERATOR_NAMESPACE, Show};
use support::screen::{Failed, Screen};
use support::{ControlPlane, clients};
use tokio::signal::unix::{SignalKind, signal};

/// What the command line asks for: `cargo test` passes the arguments of its own test programs to this one.
#[derive(Debug, PartialEq)]
enum Asked {
    Once,
    Stay,
    /// Print the names of the tests.
    List,
    /// The tests asked for are others.
    Nothing,
}

impl Asked {
    fn of(arguments: impl Iterator<Item = String>) -> Self {
        const WITH_VALUE: [&str; 7] =
            ["--skip", "--test-threads", "--format", "--color", "--logfile", "--shuffle-seed", "-Z"];
        let (mut stay, mut filters) = (false, Vec::new());
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => return Self::List,
                "--ignored" => return Self::Nothing,
                "--stay" => stay = true,
                flag if WITH_VALUE.contains(&flag) => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                _ => filters.push(argument),
            }
        }
        match (filters.is_empty() || filters.iter().any(|filter| "demo".contains(filter.as_str())), stay) {
            (false, _) => Self::Nothing,
            (true, false) => Self::Once,
            (true, true) => Self::Stay,
        }
    }
}

fn main() -> ExitCode {
    let stay = match Asked::of(std::env::args().skip(1)) {
        Asked::List => {
            println!("demo: test");
            return ExitCode::SUCCESS;
        }
        Asked::Nothing => return ExitCode::SUCCESS,
        Asked::Once => false,
        Asked::Stay => true,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut screen = Screen::new("demo");
    // A test bed that fails panics, having said why.
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(&mut screen, stay))));
    if ran.is_err() {
        screen.failed += 1;
        screen.summary();
    }
    if screen.failed == 0 && screen.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(screen: &mut Screen, stay: bool) {
    screen.progress("preparing the KMS clients (about 4 minutes the first time) …");
    let clients = clients::build().await;
    let started = Instant::now();
    screen.progress("starting a control plane: etcd, kube-apiserver, kube-controller-manager (a few seconds) …");
    let mut stage = Stage::new(ControlPlane::start().await, clients);
    screen.progress(format!("a Kubernetes API server serves at {}", stage.control_plane.url()));

    let shown = show(screen, &mut stage).await;
    if shown.is_err() {
        screen.say(format!("\nThe end of the operator's log:\n{}", stage.operator_log_tail()));
    } else {
        screen.progress(format!("\nshown in {} s", started.elapsed().as_secs()));
    }
    screen.summary();
    if stay && shown.is_ok() {
        stay_up(screen, &stage).await;
    }
}

async fn show(screen: &mut Screen, stage: &mut Stage) -> Result<(), Failed> {
    Show { screen, stage }.install()?;

    screen.heading("Run the operator, as its ServiceAccount");
    let kubeconfig = stage.control_plane.kubeconfig_for_service_account(OPERATOR_NAMESPACE, "cmk-operator").await;
    screen.command(&format!("cmk-operator {} &", stage.operator_arguments().join(" ")));
    let log = stage.start_operator(&kubeconfig);
    screen.progress(format!("its log: {}", log.display()));
    match stage.operator_ready() {
        Ok(address) => screen.expect(format!("http://{address}/readyz says that it is ready"), true)?,
        Err(problem) => screen.expect(format!("the operator to be ready, but {problem}"), false)?,
    }
    Show { screen, stage }.all()
}

/// Waits for Ctrl-C, so that the user can go on.
async fn stay_up(screen: &Screen, stage: &Stage) {
    let home = stage.home();
    let path = stage.program_directories().map(|directory| directory.display().to_string()).join(":");
    screen.heading("It stays up. To try more, in another terminal:");
    screen.say(format!("export KUBECONFIG={}", stage.control_plane.admin_kubeconfig().display()));
    screen.say(format!("export PATH={path}:$PATH"));
    screen.say(format!(". {0}/orders-kms.env; export AWS_CA_BUNDLE={0}/ca.crt", home.display()));
    screen.say("kubectl get kms -n shop");
    screen.say("aws kms generate-data-key --key-id alias/customers --key-spec AES_256");
    screen.say("\nCtrl-C ends it; nothing is left behind.");
    let mut terminated = signal(SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    screen.progress("\nstopping …");
}
