//! A real Kubernetes control plane on this machine: etcd, kube-apiserver and
//! kube-controller-manager, built by `tests/cluster/build`, without nodes.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::Request;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::POLL_INTERVAL;
use super::certificates::Certificates;
use super::component::{Component, DirectoryRemoval};
use super::scripts::built;

/// Three seconds on an idle machine of two cores; far more where a build runs beside it.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// One look at it. A stranger on the port may never answer, while the API server has long ended.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// Somebody else may take the port between our look and the API server's.
const START_ATTEMPTS: usize = 5;

/// Longer than any test.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

/// Relative to the directory of the control plane: no port of etcd's that another could have taken,
/// and nobody outside that directory reaches it. etcd wants a port in the name all the same.
const ETCD: &str = "unix://etcd:2379";
const ETCD_PEER: &str = "unix://etcd:2380";

/// The controllers without which objects behave differently from a real cluster's: deletion of
/// dependents and namespaces, service accounts, aggregated roles, and the type checks of admission
/// policies.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,\
     serviceaccount-controller,serviceaccount-token-controller,\
     root-ca-certificate-publisher-controller,clusterrole-aggregation-controller,\
     validatingadmissionpolicy-status-controller";

/// A running control plane. Dropping it kills its processes and removes its files; so does the end
/// of this process, in whatever way.
///
/// Nothing in it belongs to a tokio runtime, so that several tests may share one in a
/// `static tokio::sync::OnceCell`. A client does belong to the runtime it was made in.
pub struct ControlPlane {
    // Dropped in this order: the files go when nobody writes them any more.
    components: Vec<Component>,
    directory: TempDir,
    _removal: DirectoryRemoval,
    binaries: PathBuf,
    certificates: Certificates,
    url: String,
    admin_kubeconfig: PathBuf,
    kubeconfigs: AtomicUsize,
}

impl ControlPlane {
    /// Builds what is missing (minutes, the first time, with progress on stderr), starts all of it
    /// and returns when it is ready: the API server serves, and the controllers have made the
    /// service account and the CA bundle of the namespace `default`.
    ///
    /// Panics with the end of the failing component's log.
    pub async fn start() -> Self {
        Self::start_prepared(async |_| ()).await
    }

    /// As [`Self::start`], with `prepare` run as the administrator between the start of the API
    /// server and that of the controllers. Install CustomResourceDefinitions there: the garbage
    /// collector looks for new kinds every 30 seconds only, and until then it does not delete what
    /// their objects own. It may run again, on a new cluster, where the first one lost its port.
    pub async fn start_prepared(prepare: impl AsyncFn(Client)) -> Self {
        let binaries =
            tokio::task::spawn_blocking(|| built("tests/cluster/build")).await.expect("the build of the control plane");
        for attempt in 1.. {
            match Self::start_on(free_port(), &binaries, &prepare).await {
                Ok(started) => return started,
                Err(error) if attempt < START_ATTEMPTS && error.contains("address already in use") => {}
                Err(error) => panic!("the control plane does not start: {error}"),
            }
        }
        unreachable!("the last attempt returns or panics")
    }

    async fn start_on(port: u16, binaries: &Path, prepare: impl AsyncFn(Client)) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("cmk-testbed-").tempdir().expect("a temporary directory");
        let removal = DirectoryRemoval::of(directory.path());
        let certificates = Certificates::create(directory.path());
        fs::create_dir(directory.path().join("home")).expect("a home for kubectl");
        let mut started = Self {
            components: Vec::new(),
            directory,
            _removal: removal,
            binaries: binaries.to_owned(),
            url: format!("https://127.0.0.1:{port}"),
            admin_kubeconfig: PathBuf::new(),
            kubeconfigs: AtomicUsize::new(0),
            certificates,
        };
        started.admin_kubeconfig = started.write_kubeconfig(&started.admin_credentials());

        started.run("etcd", etcd_arguments());
        started.run("kube-apiserver", api_server_arguments(port, &started.certificates));
        // Retries would hide from `wait_for` that the API server is gone.
        let mut config = config(&started.admin_kubeconfig).await;
        config.default_retry = false;
        let admin = Client::try_from(config).expect("a client");
        started
            .wait_for("the API server", async || {
                admin.request_text(get("/readyz")).await.map(drop).map_err(|error| error.to_string())
            })
            .await?;

        prepare(started.admin_client().await).await;
        // Only now: it gives up when it finds no API server for ten seconds.
        started.run(
            "kube-controller-manager",
            controller_manager_arguments(&started.admin_kubeconfig, &started.certificates),
        );
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
        let bundles: Api<ConfigMap> = Api::namespaced(admin, "default");
        started
            .wait_for("the controllers", async || {
                let account = accounts.get("default").await.map(drop);
                let bundle = bundles.get("kube-root-ca.crt").await.map(drop);
                account.and(bundle).map_err(|error| error.to_string())
            })
            .await?;
        Ok(started)
    }

    /// Where the API server listens, as in `https://127.0.0.1:34567`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds the logs (`kube-apiserver.log` and so on) as long as the control plane lives.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The processes of etcd, kube-apiserver and kube-controller-manager.
    pub fn process_ids(&self) -> Vec<u32> {
        self.components.iter().map(Component::process_id).collect()
    }

    /// Stops the API server from answering, as a network that swallows everything would (`-STOP`), lets it go on (`-CONT`), or
    /// ends it (`-KILL`).
    pub fn signal_api_server(&self, signal: &str) {
        let pid = self.process_ids()[1].to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success(), "kill {signal} {pid}");
    }

    /// Whether the API server's authorizers let a user do something in a namespace.
    pub fn may(&self, user: &str, verb: &str, resource: &str, namespace: &str) -> bool {
        let asked = ["auth", "can-i", verb, resource, "--namespace", namespace, "--as", user];
        let output = self.kubectl(asked).output().unwrap();
        // Its exit status is that of a failure where the answer is no.
        match output.stdout.as_slice() {
            [b'y', b'e', b's', ..] => true,
            [b'n', b'o', ..] => false,
            _ => panic!("{asked:?}: {output:?}"),
        }
    }

    /// A kubeconfig for a member of `system:masters`.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// A client for a member of `system:masters`.
    pub async fn admin_client(&self) -> Client {
        client(&self.admin_kubeconfig).await
    }

    /// kubectl as the administrator, away from the user's own configuration. A later
    /// `--kubeconfig` among the arguments makes it somebody else.
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.binaries.join("kubectl"));
        command
            .env("HOME", self.directory.path().join("home"))
            .env("KUBECONFIG", &self.admin_kubeconfig)
            .arg("--kubeconfig")
            .arg(&self.admin_kubeconfig)
            .args(args);
        command
    }

    /// A kubeconfig with a token of the service account, which must exist.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin_client().await, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let token = accounts
            .create_token_request(name, &Default::default(), &request)
            .await
            .unwrap_or_else(|error| panic!("a token of {namespace}/{name}: {error}"))
            .status
            .expect("the token")
            .token;
        self.write_kubeconfig(&json!({ "token": token }))
    }

    /// A client with a token of the service account, which must exist.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> Client {
        client(&self.kubeconfig_for_service_account(namespace, name).await).await
    }

    /// A kubeconfig for a user of any name, in these groups and `system:authenticated`, by
    /// impersonation: authorization and admission see this user, and the audit log both.
    pub fn kubeconfig_for_user(&self, name: &str, groups: &[&str]) -> PathBuf {
        let mut user = self.admin_credentials();
        user["as"] = json!(name);
        user["as-groups"] = json!(groups);
        self.write_kubeconfig(&user)
    }

    /// A client for a user of any name, as [`Self::kubeconfig_for_user`].
    pub async fn client_as(&self, name: &str, groups: &[&str]) -> Client {
        client(&self.kubeconfig_for_user(name, groups)).await
    }

    /// The API server's own metrics, in the text format of Prometheus.
    pub async fn apiserver_metrics(&self) -> String {
        self.admin_client().await.request_text(get("/metrics")).await.expect("the API server's metrics")
    }

    fn run(&mut self, name: &'static str, args: Vec<String>) {
        let component = Component::start(name, &self.binaries, self.directory.path(), args);
        self.components.push(component);
    }

    /// Repeats `probe` until it succeeds, a component ends, or the time is over.
    async fn wait_for(&mut self, what: &str, mut probe: impl AsyncFnMut() -> Result<(), String>) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            for component in &mut self.components {
                if let Some(status) = component.exited() {
                    let (name, log) = (component.name(), component.log_tail());
                    return Err(format!("{name} ended with {status}:\n{log}"));
                }
            }
            let error = match tokio::time::timeout(PROBE_WITHIN, probe()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => format!("no answer in {PROBE_WITHIN:?}"),
            };
            if Instant::now() >= deadline {
                let logs = self
                    .components
                    .iter()
                    .map(|component| format!("{}:\n{}", component.name(), component.log_tail()))
                    .collect::<Vec<_>>()
                    .join("\n");
                return Err(format!("waited {READY_WITHIN:?} for {what}: {error}\n{logs}"));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn admin_credentials(&self) -> Value {
        json!({
            "client-certificate": self.certificates.admin.certificate,
            "client-key": self.certificates.admin.key,
        })
    }

    /// Writes a kubeconfig with these credentials; JSON is YAML too.
    fn write_kubeconfig(&self, user: &Value) -> PathBuf {
        let number = self.kubeconfigs.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("kubeconfig-{number}"));
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "testbed", "cluster": {
                "server": self.url,
                "certificate-authority": self.certificates.authority,
            }}],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "testbed", "context": {
                "cluster": "testbed", "user": "user", "namespace": "default",
            }}],
            "current-context": "testbed",
        });
        fs::write(&path, kubeconfig.to_string()).expect("a kubeconfig");
        path
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

async fn config(kubeconfig: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration from the kubeconfig");
    // It takes HTTPS_PROXY from the environment, for loopback addresses too.
    config.proxy_url = None;
    config
}

async fn client(kubeconfig: &Path) -> Client {
    Client::try_from(config(kubeconfig).await).expect("a client")
}

fn get(path: &str) -> Request<Vec<u8>> {
    Request::get(path).body(Vec::new()).expect("a request")
}

fn etcd_arguments() -> Vec<String> {
    vec![
        "--data-dir=etcd-data".into(),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        format!("--listen-peer-urls={ETCD_PEER}"),
        format!("--initial-advertise-peer-urls={ETCD_PEER}"),
        format!("--initial-cluster=default={ETCD_PEER}"),
    ]
}

fn api_server_arguments(port: u16, certificates: &Certificates) -> Vec<String> {
    vec![
        format!("--etcd-servers={ETCD}"),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        // Without one it looks for a default route, which a sandbox need not have; and without nodes
        // nobody needs an endpoint for the Service `kubernetes`.
        "--advertise-address=127.0.0.1".into(),
        "--endpoint-reconciler-type=none".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        argument("--tls-cert-file", &certificates.server.certificate),
        argument("--tls-private-key-file", &certificates.server.key),
        argument("--client-ca-file", &certificates.authority),
        "--authorization-mode=RBAC".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        argument("--service-account-key-file", &certificates.service_account_public_key),
        argument("--service-account-signing-key-file", &certificates.service_account_key),
        "--profiling=false".into(),
    ]
}

fn controller_manager_arguments(kubeconfig: &Path, certificates: &Certificates) -> Vec<String> {
    vec![
        argument("--kubeconfig", kubeconfig),
        argument("--root-ca-file", &certificates.authority),
        argument("--service-account-private-key-file", &certificates.service_account_key),
        format!("--controllers={CONTROLLERS}"),
        // One of its kind, and nobody scrapes it.
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
        "--profiling=false".into(),
    ]
}

fn argument(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}
