//! The measurements themselves, which `tests/bench_short.rs` runs as well.
#![allow(dead_code, reason = "the test uses a part of it")]
#![allow(clippy::expect_used, reason = "a measurement that fails stops, saying why")]

pub mod counters;
pub mod limit;
pub mod load;
pub mod process;
pub mod progress;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::json;

use crate::support::world::{self, Bed};
use counters::Requests;
use process::{Memory, Process};
use progress::Progress;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's program.
    pub binary: PathBuf,
    /// How many keys.
    pub keys: usize,
    /// Requests of the user, and passes of the operator, at a time.
    pub concurrency: usize,
    /// How long to look at an operator that has nothing to do; none: not at all.
    pub idle: Option<Duration>,
    /// Touch, disable and restart as well.
    pub changes: bool,
}

impl Options {
    /// The deadline of each step: ten times what it takes on an idle machine of two cores, and more.
    pub fn within(&self) -> Duration {
        Duration::from_secs(60) + Duration::from_millis(100) * u32::try_from(self.keys).unwrap_or(u32::MAX)
    }
}

/// Keys were made: how long it took, and what it cost.
#[derive(Clone, Debug, Serialize)]
pub struct Created {
    /// How many.
    pub keys: usize,
    /// From the first create until a watch has shown all of them Ready, in seconds.
    pub seconds: f64,
    /// CPU seconds of the API server meanwhile.
    pub api_server_cpu: f64,
    /// CPU seconds of etcd meanwhile.
    pub etcd_cpu: f64,
    /// Requests answered meanwhile, the user's creates among them.
    pub requests: Requests,
}

impl Created {
    /// Keys a second.
    pub fn rate(&self) -> f64 {
        self.keys as f64 / self.seconds
    }

    fn of(self, keys: usize) -> Self {
        Self { keys, ..self }
    }
}

/// Does `work`, which answers how long it took, and counts what it cost.
async fn measured(bed: &Bed, work: impl AsyncFnOnce() -> Duration) -> Created {
    let components = bed.control_plane.process_ids();
    let cpu = |index: usize| components.get(index).map_or(0.0, |id| process::cpu(*id));
    let (etcd, api_server) = (cpu(0), cpu(1));
    let before = Requests::so_far(&bed.control_plane).await;
    let took = work().await;
    Created {
        keys: 0,
        seconds: took.as_secs_f64(),
        api_server_cpu: cpu(1) - api_server,
        etcd_cpu: cpu(0) - etcd,
        requests: Requests::so_far(&bed.control_plane).await.since(&before),
    }
}

/// What an operator did.
#[derive(Clone, Serialize)]
pub struct Run {
    /// New keys. The user's creates are not among the requests.
    pub created: Created,
    /// CPU seconds of the operator meanwhile.
    pub operator_cpu: f64,
    /// Passes that the new keys took.
    pub passes: u64,
    /// Memory without a key.
    pub at_rest: Memory,
    /// Memory with all keys, when nothing goes on any more.
    pub with_keys: Memory,
    /// With nothing to do.
    pub idle: Option<Idle>,
    /// Touching, disabling and restarting.
    pub changes: Option<Changes>,
    /// For the bare client.
    #[serde(skip)]
    pub pattern: limit::Pattern,
}

/// Nothing went on.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// For so many seconds.
    pub seconds: f64,
    /// CPU seconds of the operator.
    pub cpu: f64,
    /// Requests answered.
    pub requests: Requests,
}

/// What happened to keys that were there.
#[derive(Clone, Debug, Serialize)]
pub struct Changes {
    /// An annotation that means nothing, changed on each: the operator's requests.
    pub touched: Requests,
    /// Each disabled: the operator's requests.
    pub disabled: Requests,
    /// The operator killed and started again: its requests until it was quiet.
    pub restarted: Requests,
    /// Its memory then.
    pub after_restart: Memory,
}

/// Runs the operator on a fresh control plane.
pub async fn run(options: &Options) -> Run {
    let Options { keys: count, concurrency, .. } = *options;
    let bed = world::install().await;
    let admin = bed.control_plane.admin_client().await;
    let user = load::user(&bed).await;
    let operator = Process::start(&options.binary, &bed, concurrency).await;
    operator.quiet(0, options.within()).await;
    let (at_rest, cpu, passes) = (operator.memory(), operator.cpu(), operator.passes());

    let before = Requests::so_far(&bed.control_plane).await;
    let created = measured(&bed, async || {
        let work = load::create(user.clone(), count, concurrency, None);
        let progress = Progress::begin(format!("{count} keys, operator"), count);
        load::until_all(&admin, count, load::is_ready, work, progress, options.within()).await
    })
    .await;
    let operator_cpu = operator.cpu() - cpu;
    operator.quiet(0, options.within()).await;
    let with_keys = operator.memory();
    let passes = operator.passes() - passes;
    // Again, and later: passes go on after the last key is Ready, and would be the ones to write too much.
    let requests = Requests::so_far(&bed.control_plane).await.since(&before);
    let requests = requests.without("POST customermasterkeys", count as u64).without_watches();
    let pattern = limit::Pattern::find(&admin).await;

    let idle = match options.idle {
        Some(time) => Some(idle(&bed, &operator, time).await),
        None => None,
    };
    let mut run = Run {
        created: Created { requests, ..created.of(count) },
        operator_cpu,
        passes,
        at_rest,
        with_keys,
        idle,
        changes: None,
        pattern,
    };
    if options.changes {
        run.changes = Some(changes(options, &bed, operator, &admin, &user).await);
    }
    run
}

async fn idle(bed: &Bed, operator: &Process, time: Duration) -> Idle {
    let progress = Progress::begin(format!("nothing to do for {} s", time.as_secs()), time.as_secs() as usize);
    let (started, cpu) = (Instant::now(), operator.cpu());
    let before = Requests::so_far(&bed.control_plane).await;
    while started.elapsed() < time {
        progress.at(started.elapsed().as_secs() as usize);
        tokio::time::sleep(Duration::from_secs(1).min(time.saturating_sub(started.elapsed()))).await;
    }
    let requests = Requests::so_far(&bed.control_plane).await.since(&before);
    Idle { seconds: started.elapsed().as_secs_f64(), cpu: operator.cpu() - cpu, requests }
}

async fn changes(
    options: &Options,
    bed: &Bed,
    operator: Process,
    admin: &kube::Client,
    user: &kube::Client,
) -> Changes {
    let Options { keys: count, concurrency, .. } = *options;
    let (objects, within) = (count as u64, options.within());
    let ours = "PATCH customermasterkeys";

    let progress = Progress::begin(format!("{count} keys touched"), count);
    let (before, passes) = (Requests::so_far(&bed.control_plane).await, operator.passes());
    let touch = json!({"metadata": {"annotations": {"example.com/touched": "now"}}});
    load::patch(user.clone(), count, concurrency, touch).await;
    operator.quiet(passes + objects, within).await;
    drop(progress);
    let touched = Requests::so_far(&bed.control_plane).await.since(&before).without(ours, objects).without_watches();

    let (before, passes) = (Requests::so_far(&bed.control_plane).await, operator.passes());
    let work = load::patch(user.clone(), count, concurrency, json!({"spec": {"enabled": false}}));
    let progress = Progress::begin(format!("{count} keys disabled"), count);
    load::until_all(admin, count, load::is_disabled, work, progress, within).await;
    operator.quiet(passes + objects, within).await;
    let disabled = Requests::so_far(&bed.control_plane).await.since(&before).without(ours, objects).without_watches();

    let progress = Progress::begin(format!("restart with {count} keys"), count);
    let before = Requests::so_far(&bed.control_plane).await;
    let operator = operator.restart(&options.binary, bed, concurrency).await;
    operator.quiet(objects, within).await;
    drop(progress);
    let restarted = Requests::so_far(&bed.control_plane).await.since(&before);
    let restarted = restarted.without_watches();
    Changes { touched, disabled, restarted, after_restart: operator.memory() }
}
