//! `make e2e`: the chart on a real cluster with a node, used as a user would, every step checked.
//!
//! A single-node Kubernetes comes up for it (tests/node), or it uses a cluster that is there:
//!
//! - `CMK_E2E_KUBECONFIG`: that cluster, with the kubectl and helm in `PATH`. What needs the node itself is skipped.
//! - `CMK_E2E_LOAD_IMAGE`: with it, the command that is given an image's tar, such as `kind load image-archive`.
//! - `CMK_E2E_IMAGE`: the tar of the operator's image, instead of one that is built from this checkout.
//! - `CMK_E2E_KEEP=1`: the cluster stays up afterwards.
//! - `CMK_E2E_DIRECTORY`: where the node keeps its state and logs.
//!
//! `cargo test --test e2e -- data-keys leader` goes through these topics only (and the installation).
#![allow(clippy::expect_used, reason = "where the test bed fails there is nothing to show")]

#[path = "../support/screen.rs"]
mod screen;

mod cluster;
mod diagnosis;
mod node;
mod steady;
mod topics;
mod user;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use cluster::Cluster;
use screen::{Failed, Screen};
use topics::TOPICS;
use user::User;

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = asked.iter().find(|name| TOPICS.iter().all(|topic| topic.name != name.as_str())) {
        let names: Vec<_> = TOPICS.iter().map(|topic| topic.name).collect();
        eprintln!("e2e: there is no topic {unknown}: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let mut screen = Screen::new("e2e");
    // What fails to come up panics, having said why.
    let ran = catch_unwind(AssertUnwindSafe(|| run(&mut screen, &asked)));
    if !matches!(ran, Ok(Ok(()))) {
        screen.failed = screen.failed.max(1);
    }
    screen.summary();
    if screen.failed == 0 && screen.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(screen: &mut Screen, asked: &[String]) -> Result<(), Failed> {
    let started = Instant::now();
    let cluster = Cluster::start(screen)?;
    screen.progress(format!("the cluster is up and has the images, after {} s", started.elapsed().as_secs()));
    let mut times = Vec::new();
    for topic in TOPICS.iter().filter(|topic| topic.always || asked.is_empty() || asked.iter().any(|a| a == topic.name))
    {
        let started = Instant::now();
        screen.heading(topic.title);
        let mut user = User { screen, cluster: &cluster };
        let ran = catch_unwind(AssertUnwindSafe(|| (topic.run)(&mut user)));
        if !matches!(ran, Ok(Ok(()))) {
            screen.say(format!("\nThe topic {} failed.", topic.name));
            diagnosis::show(screen, &cluster);
            return Err(Failed);
        }
        times.push(format!("{} {} s", topic.name, started.elapsed().as_secs()));
    }
    screen.progress(format!("\n{} s in all: {}", started.elapsed().as_secs(), times.join(", ")));
    Ok(())
}
