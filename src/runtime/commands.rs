//! What each command of the command line does.

use std::{io::Write, process::ExitCode, sync::Arc};

use kube::Client;
use tokio::{runtime::Builder, sync::watch};

use super::{
    admin::{self, Admin, Readiness},
    arguments::{Command, LogArguments, PolicyArguments, RootKeyIdArguments, RunArguments, VerifyArguments},
    kms_endpoint::KmsListeners,
    log_levels::LogLevels,
    metrics::Metrics,
    operator::{Settings, Surroundings, operate},
    otlp::Tracing,
    shutdown, telemetry, verify,
};
use crate::{
    api::{crds, policies},
    clock::SystemClock,
    crypto::SystemRandom,
    store::embedded::root_key,
};

/// Any error, on its way to the user.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does what the command says. The exit status is 0, or 1 with a sentence on standard error.
#[must_use]
pub fn execute(command: Command) -> ExitCode {
    let result = match command {
        Command::Crds => print_crds(),
        Command::Policies(arguments) => print_policies(&arguments),
        Command::Run(arguments) => {
            let log = arguments.log.clone();
            block_on(&log, |levels| run(*arguments, levels))
        }
        Command::Verify(arguments) => {
            let log = arguments.log.clone();
            block_on(&log, |_| verify_records(arguments))
        }
        Command::RootKeyId(arguments) => print_root_key_ids(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cmk-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn block_on<F>(log: &LogArguments, work: impl FnOnce(LogLevels) -> F) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let levels = telemetry::start(log)?;
    shutdown::no_core_dumps();
    Builder::new_multi_thread().enable_all().build()?.block_on(work(levels))
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn print_crds() -> Result<ExitCode, Failure> {
    print(&crds::to_yaml("crds", &crds::crds())?)
}

fn print_policies(arguments: &PolicyArguments) -> Result<ExitCode, Failure> {
    let namespace = arguments.namespace.namespace.clone();
    let user = arguments.user.clone().unwrap_or_else(|| format!("system:serviceaccount:{namespace}:cmk-operator"));
    let policies = policies::policies(&policies::PolicyOptions { user, namespace });
    let manifests: Vec<_> = policies.iter().flat_map(policies::Policy::manifests).collect();
    print(&crds::to_yaml("policies", &manifests)?)
}

/// A line for each file. The id follows from the root key and tells nothing about it.
fn print_root_key_ids(arguments: &RootKeyIdArguments) -> Result<ExitCode, Failure> {
    shutdown::no_core_dumps();
    let mut ids = String::new();
    for file in &arguments.files {
        let ring = root_key::from_files(std::slice::from_ref(file))?;
        ids.extend(ring.map(|ring| format!("{}\n", ring.primary_id())));
    }
    print(&ids)
}

async fn run(arguments: RunArguments, levels: LogLevels) -> Result<ExitCode, Failure> {
    let (stop, stopped) = watch::channel(false);
    let signalled = shutdown::signalled()?;
    tokio::spawn(async move {
        signalled.await;
        stop.send_replace(true);
    });
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    if let Some(address) = arguments.admin_listen {
        let listener = admin::listen(address).await.map_err(|error| format!("--admin-listen {address}: {error}"))?;
        tracing::info!(address = %listener.local_addr()?, "the admin endpoint listens");
        tokio::spawn(admin::serve(listener, Admin { readiness: readiness.clone(), metrics: metrics.clone(), levels }));
    }
    let tracing = arguments.otlp_endpoint.clone().map(|collector| {
        Tracing::begin(collector, &arguments.namespace.namespace, &arguments.leader_election.pod_name)
    });
    let kms = KmsListeners::open(&arguments.kms).await?;
    let surroundings = Surroundings {
        client: client().await?,
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        metrics,
        readiness,
        kms,
    };
    let settings =
        Settings { election: arguments.leader_election.election(&SystemRandom)?, ..Settings::from(&arguments) };
    let ended = operate(settings, surroundings, stopped).await;
    if let Some(tracing) = tracing {
        tracing.end().await;
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

async fn verify_records(arguments: VerifyArguments) -> Result<ExitCode, Failure> {
    let report = verify::verify(client().await?, &arguments).await?;
    println!("{report}");
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn client() -> Result<Client, Failure> {
    Client::try_default().await.map_err(|error| format!("no cluster: {error}").into())
}
