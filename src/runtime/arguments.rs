//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{leader_election::Timing, operator::Election, otlp::Collector};
use crate::{
    api::field_ownership::GITOPS_MANAGERS,
    crypto::{Random, random_uuid},
};

/// Declares customer master keys and data keys as Kubernetes objects.
#[derive(Debug, Parser)]
#[command(name = "cmk-operator", version, about, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator against the cluster of KUBECONFIG, or the one it runs in
    Run(Box<RunArguments>),
    /// Print the CustomResourceDefinitions: `cmk-operator crds | kubectl apply --server-side -f -`
    Crds,
    /// Print the ValidatingAdmissionPolicies: `cmk-operator policies | kubectl apply --server-side -f -`
    Policies(PolicyArguments),
    /// Check that every key record in the cluster is authentic and unwraps
    Verify(VerifyArguments),
    /// Print the id of the root key in a file, to tell whether a copy is the right one. No cluster is needed
    RootKeyId(RootKeyIdArguments),
}

/// Where the operator's own Secrets are.
#[derive(Args, Clone, Debug)]
pub struct NamespaceArgument {
    /// The operator's own namespace, which holds the key records and the root key
    #[arg(long, env = "POD_NAMESPACE", default_value = "cmk-system")]
    pub namespace: String,
}

/// Where the root key comes from.
#[derive(Args, Clone, Debug, Default)]
pub struct RootKeyArgument {
    /// A file with a root key: one base64 line of 32 bytes. Repeatable: the first wraps, all unwrap, and what another
    /// one wrapped is moved to the first. Absent: the Secret cmk-root-key in the operator's namespace, which is
    /// generated once
    #[arg(long = "root-key-file", value_name = "FILE")]
    pub root_key_files: Vec<PathBuf>,
}

/// `cmk-operator run`
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgument,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub root_key: RootKeyArgument,

    /// Watch only these namespaces, comma-separated or repeated. Absent: all
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,

    /// Make no key and no root key: for rebuilding a cluster in the order root key, records, objects
    #[arg(long)]
    pub no_new_keys: bool,

    /// How far the local clock and the API server's may differ when a key is erased, e.g. 90s or 5m
    #[arg(long, default_value = "5m", value_parser = parse_duration, value_name = "DURATION")]
    pub clock_skew_tolerance: Duration,

    /// How long the KMS endpoint goes on without contact to the API server: with the keys as they were last seen, and
    /// the permissions and tokens that it looked up before. Then it answers 503. At least 10s
    #[arg(long, default_value = "5m", value_parser = parse_max_staleness, value_name = "DURATION")]
    pub max_staleness: Duration,

    /// How many objects of a kind are worked on at a time. More than about 10 gains nothing: the API server is
    /// the limit
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub leader_election: LeaderElectionArguments,

    /// How long to go on taking requests at the KMS endpoint after being told to stop, until nobody is sent here any more,
    /// e.g. 5s. Requests that came until then are answered
    #[arg(long, default_value = "0s", value_parser = parse_duration, value_name = "DURATION")]
    pub shutdown_delay: Duration,

    /// Whether /metrics describes every key, with the namespace and the name of its object. `off` for very many keys, where
    /// about 2 series a key are too many: alerts about single keys then have nothing to tell. Objects that are not as
    /// declared are named all the same
    #[arg(long, value_enum, default_value_t = KeyMetrics::On, value_name = "WHICH")]
    pub key_metrics: KeyMetrics,

    /// Serve /livez, /readyz, /metrics and, for the machine itself, /loglevel on this address, e.g. 0.0.0.0:8080. Absent: not at all
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<SocketAddr>,

    /// Send traces to this OpenTelemetry collector, e.g. http://collector.observability:4318: OTLP over HTTP without TLS, to
    /// the path /v1/traces under it. Absent or empty: no traces
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    #[arg(value_parser = parse_collector)]
    // Written out, so that the parser is told of an empty one as well.
    pub otlp_endpoint: std::option::Option<Collector>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub kms: KmsArguments,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub log: LogArguments,
}

/// Which of several replicas writes. The names and defaults are those of the Kubernetes components.
#[derive(Args, Clone, Debug)]
pub struct LeaderElectionArguments {
    /// Write only while holding the Lease cmk-operator in the operator's namespace: for more than one replica. Every one
    /// serves the KMS endpoint
    #[arg(long)]
    pub leader_elect: bool,

    /// How long a lease holds that is not renewed: after that another replica takes over
    #[arg(long, default_value = "15s", value_parser = parse_duration, value_name = "DURATION")]
    pub leader_elect_lease_duration: Duration,

    /// How long a leader that can't renew its lease goes on
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "DURATION")]
    pub leader_elect_renew_deadline: Duration,

    /// How long to wait between two tries to get or renew the lease
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "DURATION")]
    pub leader_elect_retry_period: Duration,

    /// What tells this replica from the others, for people who look at the Lease
    #[arg(long, env = "POD_NAME", default_value = "cmk-operator", hide = true)]
    pub pod_name: String,
}

impl LeaderElectionArguments {
    /// How to stand for election; None: not at all.
    ///
    /// # Errors
    /// A sentence that names the flag, when the times don't fit together or there is no randomness.
    pub fn election(&self, random: &dyn Random) -> Result<Option<Election>, String> {
        if !self.leader_elect {
            return Ok(None);
        }
        let timing = Timing {
            lease_duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
        };
        timing.check()?;
        // A pod's name may come again, a container of it does.
        let unique = random_uuid(random).map_err(|error| error.to_string())?;
        Ok(Some(Election { identity: format!("{}_{unique}", self.pod_name), timing }))
    }
}

/// The KMS endpoint.
#[derive(Args, Clone, Debug, Default)]
pub struct KmsArguments {
    /// Serve the Alibaba Cloud KMS and AWS KMS APIs with TLS on this address, e.g. 0.0.0.0:8443. Absent: not at all
    #[arg(long, value_name = "ADDR")]
    pub kms_listen: Option<SocketAddr>,

    /// Serve them without TLS on this loopback address, e.g. 127.0.0.1:8080: for tests
    #[arg(long, value_name = "ADDR")]
    pub kms_listen_http: Option<SocketAddr>,

    /// Where clients reach the endpoint, e.g. https://kms.example.com, for the Secrets of AccessKeys. Absent:
    /// https://cmk-operator-kms.NAMESPACE.svc
    #[arg(long, value_parser = parse_url, value_name = "URL")]
    pub kms_url: Option<String>,

    /// The certificate chain for --kms-listen, in PEM. Loaded again when it changes. Absent: a CA and a certificate are
    /// made, and kept in the Secret cmk-kms-tls
    #[arg(long, value_name = "FILE", requires = "kms_tls_key")]
    pub kms_tls_cert: Option<PathBuf>,

    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "kms_tls_cert")]
    pub kms_tls_key: Option<PathBuf>,

    /// The CA of that certificate, in PEM, if clients don't know it: it is delivered with access keys
    #[arg(long, value_name = "FILE", requires = "kms_tls_cert")]
    pub kms_tls_ca: Option<PathBuf>,

    /// A DNS name or IP address that the self-made certificate is for, beside the host of --kms-url, the Service
    /// cmk-operator-kms, and localhost. Comma-separated or repeated
    #[arg(long = "kms-tls-host", value_name = "HOST", value_delimiter = ',', conflicts_with = "kms_tls_cert")]
    pub kms_tls_hosts: Vec<String>,

    /// How many connections may be open at a time, on each of the two addresses. The next ones wait
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    pub kms_max_connections: u16,

    /// Field managers that would change back what is changed through the KMS endpoint: of a field that one of them wrote
    /// without server-side apply, it answers a conflict. Comma-separated or repeated; replaces the default
    #[arg(long, value_name = "MANAGER", value_delimiter = ',', default_values = GITOPS_MANAGERS)]
    pub gitops_managers: Vec<String>,
}

/// How to log.
#[derive(Args, Clone, Debug)]
pub struct LogArguments {
    /// What to log: error, warn, info, debug, trace, or levels for parts such as info,cmk_operator::server=debug. PUT
    /// /loglevel on --admin-listen changes it while the operator runs
    #[arg(long, env = "CMK_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// How to write the log
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
}

/// Whether metrics describe single keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyMetrics {
    /// Every key
    On,
    /// Numbers of keys only
    Off,
}

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Human,
    /// One JSON object a line
    Json,
}

/// `cmk-operator policies`
#[derive(Args, Clone, Debug)]
pub struct PolicyArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgument,

    /// The user that the operator runs as. Absent: the ServiceAccount cmk-operator in the operator's namespace
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// `cmk-operator verify`
#[derive(Args, Clone, Debug)]
pub struct VerifyArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgument,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub root_key: RootKeyArgument,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub log: LogArguments,
}

/// `cmk-operator root-key-id`
#[derive(Args, Clone, Debug)]
pub struct RootKeyIdArguments {
    /// A file with a root key: one base64 line of 32 bytes. /dev/stdin, for a copy that is decrypted on the way
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

fn parse_url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    if host.is_empty() || text.contains(char::is_whitespace) {
        return Err("not an address such as https://kms.example.com".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|e| format!("not a duration such as 90s or 5m: {e}"))?;
    Duration::try_from(signed).map_err(|_| "a duration can't be negative".into())
}

/// To OpenTelemetry an environment variable that is empty is one that is not set.
fn parse_collector(text: &str) -> Result<Option<Collector>, String> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

fn parse_max_staleness(text: &str) -> Result<Duration, String> {
    let least = Duration::from_secs(10);
    let duration = parse_duration(text)?;
    if duration < least { Err("at least 10s: a look at the API server takes its time".into()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lists_and_durations_are_read() {
        let line = "cmk-operator run --watch-namespaces a,b --clock-skew-tolerance 90s --root-key-file x";
        let Command::Run(run) = Arguments::parse_from(line.split(' ')).command else { panic!() };
        assert_eq!(run.watch_namespaces, ["a", "b"]);
        assert_eq!(run.clock_skew_tolerance, Duration::from_secs(90));
        assert_eq!(run.root_key.root_key_files, [PathBuf::from("x")]);
        assert!(Arguments::try_parse_from("cmk-operator run --clock-skew-tolerance -1s".split(' ')).is_err());
        assert_eq!(run.max_staleness, Duration::from_secs(300));
        assert!(Arguments::try_parse_from("cmk-operator run --max-staleness 9s".split(' ')).is_err());
        assert!(Arguments::try_parse_from("cmk-operator run --concurrency 0".split(' ')).is_err());
        assert_eq!(run.leader_election.election(&SystemRandom), Ok(None));

        for (address, traces) in [("", false), ("http://collector:4318", true)] {
            let line = ["cmk-operator", "run", "--otlp-endpoint", address];
            let Command::Run(run) = Arguments::parse_from(line).command else { panic!() };
            assert_eq!(run.otlp_endpoint.is_some(), traces, "{address:?}");
        }
        assert!(Arguments::try_parse_from(["cmk-operator", "run", "--otlp-endpoint", "collector"]).is_err());

        let line = "cmk-operator run --kms-url https://kms.example.com:8443/";
        let Command::Run(run) = Arguments::parse_from(line.split(' ')).command else { panic!() };
        assert_eq!(run.kms.kms_url.as_deref(), Some("https://kms.example.com:8443"));
        for url in ["kms.example.com", "https://", "ftp://kms"] {
            assert!(Arguments::try_parse_from(["cmk-operator", "run", "--kms-url", url]).is_err(), "{url}");
        }
    }

    #[test]
    fn a_leader_is_to_stop_before_another_begins() {
        let election = |flags: &str| {
            let line = format!("cmk-operator run --leader-elect {flags}");
            let Command::Run(run) = Arguments::parse_from(line.split_whitespace()).command else { panic!() };
            run.leader_election.election(&SystemRandom)
        };
        let (first, second) = (election("").unwrap().unwrap(), election("").unwrap().unwrap());
        assert_eq!(first.timing, Timing::default());
        assert!(first.identity.starts_with("cmk-operator_") && first.identity != second.identity);
        for flags in [
            "--leader-elect-lease-duration 10s",
            "--leader-elect-renew-deadline 13s",
            "--leader-elect-retry-period 10s",
            "--leader-elect-retry-period 0s",
            "--leader-elect-lease-duration 1500ms --leader-elect-renew-deadline 500ms --leader-elect-retry-period 100ms",
        ] {
            let error = election(flags).unwrap_err();
            assert!(error.starts_with("--leader-elect-"), "{flags}: {error}");
        }
    }
}
