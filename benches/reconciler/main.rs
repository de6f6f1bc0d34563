//! `make bench`: the operator beside the limit of the API server. It prints a table, and with `--json` one object.
//!
//! The release binary runs as a process of its own, with the RBAC it ships and the admission policies on. Absolute
//! figures say more about the machine than about the operator: what counts is the ratio to a bare client that does
//! the same writes, on a fresh control plane right before or after.

#[path = "../../tests/support/mod.rs"]
mod support;

mod measure;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use measure::{Created, Options, Run, limit};

/// How many keys make a run so long that its noise evens out by itself.
const LONG: usize = 5_000;
/// Keys of the short form.
const SHORT: usize = 200;

/// Measures the reconciler against the limit of the API server.
#[derive(Parser)]
struct Arguments {
    /// How many keys, comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    keys: Vec<usize>,

    /// Requests of the user, passes of the operator, and requests of the bare client at a time
    #[arg(long, default_value_t = 8)]
    concurrency: usize,

    /// How often to repeat a run of fewer than 5000 keys, the operator and the bare client in turn; the table shows
    /// the median of the ratios
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,

    /// Seconds to look at an operator that has nothing to do, with the largest number of keys; 0: not at all
    #[arg(long, default_value_t = 60)]
    idle: u64,

    /// 200 keys, once, and without the idle minute
    #[arg(long)]
    short: bool,

    /// Print one JSON object to standard output instead of the table
    #[arg(long)]
    json: bool,

    /// The operator's program
    #[arg(long, env = "CMK_OPERATOR_BIN", default_value = env!("CARGO_BIN_EXE_cmk-operator"))]
    operator: PathBuf,

    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// The measurements of one number of keys.
struct Size {
    /// The operator's: the first round is complete, the others are new keys only.
    run: Run,
    /// Each round: the operator and the bare client.
    rounds: Vec<(Created, Created)>,
}

#[tokio::main]
async fn main() {
    let mut arguments = Arguments::parse();
    if arguments.short {
        (arguments.keys, arguments.rounds, arguments.idle) = (vec![SHORT], 1, 0);
    }
    let last = arguments.keys.len().saturating_sub(1);
    let mut sizes = Vec::new();
    for (index, keys) in arguments.keys.iter().copied().enumerate() {
        let idle = (index == last && arguments.idle > 0).then(|| Duration::from_secs(arguments.idle));
        let options = Options {
            binary: arguments.operator.clone(),
            keys,
            concurrency: arguments.concurrency,
            idle,
            changes: true,
        };
        let rounds = if keys < LONG { arguments.rounds } else { 1 };
        sizes.push(measure(&options, rounds).await);
    }
    if arguments.json {
        println!("{}", report::json(&sizes, arguments.concurrency));
    } else {
        print!("{}", report::table(&sizes));
    }
}

async fn measure(options: &Options, rounds: u8) -> Size {
    let run = measure::run(options).await;
    let bare = || limit::run(run.pattern.clone(), options.keys, options.concurrency, options.within());
    let mut pairs = vec![(run.created.clone(), bare().await)];
    let again = Options { idle: None, changes: false, ..options.clone() };
    for _ in 1..rounds {
        let created = measure::run(&again).await.created;
        pairs.push((created, bare().await));
    }
    Size { run, rounds: pairs }
}
