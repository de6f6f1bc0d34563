//! The KMS endpoint: its listeners, its certificate, and when it serves.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt, future::join};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, core::PartialObjectMeta};
use tokio::{net::TcpListener, sync::watch, time::sleep};

use super::{
    arguments::{KmsArguments, RunArguments},
    list_watch::list_and_watch,
    switches::on,
    watches::selection,
};
use crate::{
    clock::Clock,
    cluster::KubeCluster,
    server::{
        endpoint::Endpoint,
        freshness::WatchFreshness,
        limits::Limits,
        listener::{self, Serving},
        metrics::EndpointMetrics,
        operations::{EndpointCluster, OperationSettings},
        staleness::{self, Contact},
        tls::{
            Acceptor, TlsError,
            files::{Files, FromFiles},
            self_made::{self, SelfMade},
        },
    },
    store::KeyStore,
};

/// How often to look at the self-made certificate without a sign that it changed: whether it ends soon.
const LOOK: Duration = Duration::from_secs(3600);

/// How often to show how long ago the API server answered.
const SHOW: Duration = Duration::from_secs(5);

/// What the endpoint is told.
#[derive(Clone, Debug, Default)]
pub struct KmsSettings {
    /// The certificate. None: self-made.
    pub tls_files: Option<Files>,
    /// The CA that clients need to trust that certificate. None: they know it.
    pub tls_ca: Option<PathBuf>,
    /// What the self-made certificate is for, beside what it is for anyway.
    pub tls_hosts: BTreeSet<String>,
    /// What clients may use.
    pub limits: Limits,
    /// What the operations are told.
    pub operations: OperationSettings,
}

impl From<&RunArguments> for KmsSettings {
    fn from(run: &RunArguments) -> Self {
        let arguments = &run.kms;
        let KmsArguments { kms_tls_cert, kms_tls_key, .. } = arguments.clone();
        let files = kms_tls_cert.zip(kms_tls_key);
        let host = arguments.kms_url.as_deref().and_then(host_of);
        Self {
            tls_files: files.map(|(certificate, key)| Files { certificate, key }),
            tls_ca: arguments.kms_tls_ca.clone(),
            tls_hosts: arguments.kms_tls_hosts.iter().cloned().chain(host).collect(),
            limits: Limits {
                connections: arguments.kms_max_connections.into(),
                leave: run.shutdown_delay,
                ..Limits::default()
            },
            operations: OperationSettings {
                max_staleness: run.max_staleness,
                no_new_keys: run.no_new_keys,
                gitops_managers: arguments.gitops_managers.clone(),
                ..OperationSettings::default()
            },
        }
    }
}

impl KmsSettings {
    /// Everything that the self-made certificate is for: the Service of the endpoint, in all forms of its name, and the
    /// machine itself.
    fn hosts(&self, namespace: &str) -> BTreeSet<String> {
        let service = "cmk-operator-kms";
        let mut hosts = self.tls_hosts.clone();
        hosts.extend(["localhost", "127.0.0.1", "::1", service].map(str::to_owned));
        hosts.extend(["", ".svc", ".svc.cluster.local"].map(|suffix| format!("{service}.{namespace}{suffix}")));
        hosts
    }
}

/// The host in a URL.
fn host_of(url: &str) -> Option<String> {
    let uri: hyper::Uri = url.parse().ok()?;
    Some(uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// The listeners, open and not served yet.
#[derive(Debug, Default)]
pub struct KmsListeners {
    /// `--kms-listen`
    pub tls: Option<TcpListener>,
    /// `--kms-listen-http`
    pub plain: Option<TcpListener>,
}

impl KmsListeners {
    /// Opens them.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub async fn open(arguments: &KmsArguments) -> Result<Self, String> {
        let plain = arguments.kms_listen_http;
        if let Some(address) = plain.filter(|address| !address.ip().is_loopback()) {
            return Err(format!(
                "--kms-listen-http {address}: without TLS everybody on the way reads the plaintext. Only a loopback \
                 address, such as 127.0.0.1:{}, is allowed; use --kms-listen for others",
                address.port()
            ));
        }
        Ok(Self {
            tls: open("--kms-listen", arguments.kms_listen).await?,
            plain: open("--kms-listen-http", plain).await?,
        })
    }
}

async fn open(flag: &str, address: Option<SocketAddr>) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else { return Ok(None) };
    let failed = |error: std::io::Error| format!("{flag} {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    tracing::info!(address = %listener.local_addr().map_err(failed)?, flag, "the KMS endpoint listens");
    Ok(Some(listener))
}

/// The certificate, and where it comes from.
pub enum Certificate {
    /// From files.
    Files(FromFiles),
    /// Of our own making.
    SelfMade(Box<SelfMade<KubeCluster>>),
}

impl Certificate {
    /// Loads or makes it, and tells clients' CA.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn prepare(
        settings: &KmsSettings,
        cluster: KubeCluster,
        namespace: &str,
        clock: Arc<dyn Clock>,
        authority: watch::Sender<Option<String>>,
    ) -> Result<Self, TlsError> {
        if let Some(files) = settings.tls_files.clone() {
            return files.load(settings.tls_ca.clone(), authority).map(Self::Files);
        }
        let hosts = settings.hosts(namespace);
        SelfMade::start(cluster, namespace, hosts, clock, authority).await.map(|made| Self::SelfMade(Box::new(made)))
    }

    /// What accepts connections with it.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        match self {
            Self::Files(files) => files.acceptor(),
            Self::SelfMade(made) => made.acceptor(),
        }
    }

    /// Renews it, or takes what others renewed, for ever.
    pub async fn keep(self, client: Client, namespace: String) {
        match self {
            Self::Files(files) => files.keep().await,
            Self::SelfMade(made) => keep(*made, client, &namespace).await,
        }
    }
}

async fn keep(mut made: SelfMade<KubeCluster>, client: Client, namespace: &str) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, namespace);
    let (selected, freshness) =
        (selection().fields(&format!("metadata.name={}", self_made::SECRET)), WatchFreshness::unasked());
    let events = list_and_watch("the certificate of the KMS endpoint", api, selected, freshness);
    let mut events = std::pin::pin!(events);
    loop {
        tokio::select! {
            _ = events.next() => {}
            () = sleep(LOOK) => {}
        }
        match made.look().await {
            Ok(false) => {}
            Ok(true) => tracing::info!("the KMS endpoint has another certificate"),
            Err(error) => tracing::warn!(%error, "the certificate of the KMS endpoint stays as it is"),
        }
    }
}

/// Keeps in contact with the API server, and shows for how long there was none, for ever.
pub async fn keep_in_contact(contact: Arc<Contact>, cluster: KubeCluster, namespace: String, metrics: EndpointMetrics) {
    let show = async {
        loop {
            metrics.staleness_seconds.set(contact.age().as_secs_f64());
            sleep(SHOW).await;
        }
    };
    join(staleness::keep(contact.clone(), cluster, namespace), show).await;
}

/// Serves from when `may_start` is true until `stop` is, and the requests under way are answered.
pub async fn serve<C: EndpointCluster, S: KeyStore>(
    endpoint: Arc<Endpoint<C, S>>,
    listeners: KmsListeners,
    tls: Option<Acceptor>,
    (limits, metrics): (Limits, EndpointMetrics),
    (may_start, stop): (watch::Receiver<bool>, watch::Receiver<bool>),
) {
    tokio::select! {
        () = on(may_start) => {}
        () = on(stop.clone()) => return,
    }
    let one = async |listener: Option<TcpListener>, tls: Option<Acceptor>| {
        let Some(listener) = listener else { return on(stop.clone()).await };
        let endpoint = endpoint.clone();
        let answer = move |arrival| {
            let endpoint = endpoint.clone();
            async move { endpoint.answer(arrival).await }
        };
        listener::serve(listener, Serving { tls, limits, metrics: metrics.clone() }, answer, stop.clone()).await;
    };
    // A TLS listener without a certificate is not served: nobody prepares one without the other.
    let encrypted = tls.is_some().then_some(listeners.tls).flatten();
    join(one(encrypted, tls), one(listeners.plain, None)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_for_the_host_of_the_url() {
        let rows = [
            ("https://kms.example.com", Some("kms.example.com")),
            ("https://kms.example.com:8443/", Some("kms.example.com")),
            ("https://[2001:db8::1]:8443", Some("2001:db8::1")),
            ("/no/host", None),
        ];
        for (url, host) in rows {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
        let hosts = KmsSettings { tls_hosts: BTreeSet::from(["kms.example.com".into()]), ..KmsSettings::default() };
        let hosts = hosts.hosts("cmk-system");
        for host in ["kms.example.com", "localhost", "cmk-operator-kms.cmk-system.svc"] {
            assert!(hosts.contains(host), "{host}");
        }
    }

    #[tokio::test]
    async fn without_tls_only_loopback_is_listened_on() {
        let arguments =
            |address: &str| KmsArguments { kms_listen_http: Some(address.parse().unwrap()), ..KmsArguments::default() };
        for address in ["0.0.0.0:0", "10.0.0.1:0", "[::]:0"] {
            let error = KmsListeners::open(&arguments(address)).await.unwrap_err();
            assert!(error.contains("--kms-listen-http") && error.contains("--kms-listen for others"), "{error}");
        }
        let listeners = KmsListeners::open(&arguments("127.0.0.1:0")).await.unwrap();
        assert!(listeners.plain.unwrap().local_addr().unwrap().ip().is_loopback());
        assert!(listeners.tls.is_none());
    }
}
