//! The servers, each a process of its own, which this program starts as itself: the endpoint over a key store whose API
//! server answers at once, and a bare hyper server of the same stack.

use std::{collections::BTreeMap, convert::Infallible, path::Path, sync::Arc};

use cmk_operator::{
    access_keys::{AccessKeySecret, Credential, Credentials},
    api::{CustomerMasterKey, metadata},
    clock::SystemClock,
    cluster::{Guarded, KubeCluster, UserInfo, Views},
    crypto::{RootKey, RootKeyRing, SystemRandom, random_uuid},
    kms::{DesiredKey, KeyUsage, Origin, Owner},
    runtime::{
        arguments::{LogArguments, LogFormat},
        telemetry,
    },
    server::{
        auth::Authenticator,
        endpoint::Endpoint,
        limits::Limits,
        listener::{self, Serving},
        metrics::EndpointMetrics,
        operations::{Kms, OperationSettings},
        tls::Acceptor,
    },
    store::{KeyStore, NewKey, embedded::EmbeddedStore},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    runtime::{reflector::store::Writer, watcher::Event},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs::default_provider},
};
use zeroize::Zeroizing;

use crate::requests::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

const NAMESPACE: &str = "shop";
const OBJECT: &str = "orders";

/// Runs a server until its standard input ends. `directory` has `tls.crt` and `tls.key`. It prints where it listens.
pub async fn serve(which: &str, directory: &Path) {
    let read = |name: &str| std::fs::read(directory.join(name)).expect("the certificate");
    let (chain, key) = (read("tls.crt"), read("tls.key"));
    let (plain, tls) = (listen().await, listen().await);
    let mut said = json!({"plain": address(&plain), "tls": address(&tls)});
    match which {
        "endpoint" => {
            let key_id = endpoint(plain, tls, &chain, &key).await;
            said["keyId"] = key_id.into();
        }
        _ => bare(plain, tls, &chain, &key),
    }
    println!("{said}");
    // Until the parent is gone.
    let mut end = String::new();
    let _ = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut end)).await;
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().expect("it is bound").to_string()
}

/// The endpoint, as the operator runs it: with its log, of which the audit lines are a part, on standard error.
async fn endpoint(plain: TcpListener, tls: TcpListener, chain: &[u8], key: &[u8]) -> String {
    telemetry::start(&LogArguments { log_level: "info".into(), log_format: LogFormat::Json }).expect("a filter");
    let (endpoint, key_id) = over_a_double().await;
    let acceptor = Acceptor::new(chain, key).expect("a certificate");
    for (listener, tls) in [(plain, None), (tls, Some(acceptor))] {
        tokio::spawn(listen_for(endpoint.clone(), listener, tls));
    }
    key_id
}

type OverADouble = Endpoint<KubeCluster, EmbeddedStore<KubeCluster>>;

/// Serves for ever.
pub async fn listen_for(endpoint: Arc<OverADouble>, listener: TcpListener, tls: Option<Acceptor>) {
    let (stop, stopped) = watch::channel(false);
    let answer = move |arrival| {
        let endpoint = endpoint.clone();
        async move { endpoint.answer(arrival).await }
    };
    let (limits, metrics) = (Limits::default(), EndpointMetrics::default());
    listener::serve(listener, Serving { tls, limits, metrics }, answer, stopped).await;
    drop(stop);
}

/// An endpoint with one key and one access key, and the id of the key. All is real but the API server.
pub async fn over_a_double() -> (Arc<OverADouble>, String) {
    let api_server = listen().await;
    let config = Config::new(format!("http://{}", address(&api_server)).parse().expect("a URI"));
    tokio::spawn(api_server_double(api_server));
    let client = Client::try_from(config).expect("a client");

    let mut objects = Writer::<Guarded<CustomerMasterKey>>::default();
    let cluster = KubeCluster::new(client, Views { keys: vec![objects.as_reader()], ..Views::blind() });
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let root = RootKey::generate(&*random).expect("randomness");
    let ring = Arc::new(RootKeyRing::new(root, []));
    let store = EmbeddedStore::new("cmk-system", cluster.clone(), ring, clock.clone(), random.clone());
    let key_id = store.create(&new_key()).await.expect("a key").record.key_id.to_string();
    let object = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey", "spec": {},
        "metadata": {
            "namespace": NAMESPACE, "name": OBJECT, "uid": "object",
            "annotations": {metadata::KEY_ID: key_id},
        },
    });
    objects.apply_watcher_event(&Event::Apply(serde_json::from_value(object).expect("an object")));

    let settings = OperationSettings::default();
    let keys = Arc::new(OneKey::default());
    let authenticator = Authenticator::new(cluster.clone(), keys, clock.clone(), settings.max_staleness);
    let kms = Kms::new(cluster.clone(), Arc::new(store), clock, random.clone(), settings);
    let patience = Limits::default().request;
    let endpoint = Arc::new(Endpoint::new(kms, authenticator, random, EndpointMetrics::default(), patience));
    let contact = endpoint.kms().contact().clone();
    tokio::spawn(cmk_operator::server::staleness::keep(contact, cluster, "cmk-system".into()));
    (endpoint, key_id)
}

struct OneKey(Arc<Credential>);

impl Default for OneKey {
    fn default() -> Self {
        Self(Arc::new(Credential {
            access_key_id: ACCESS_KEY_ID.into(),
            secret: AccessKeySecret::new(Zeroizing::new(SECRET_ACCESS_KEY.to_owned())),
            user: Arc::new(UserInfo::service_account(NAMESPACE, "orders-api", "user")),
            namespace: NAMESPACE.into(),
        }))
    }
}

impl Credentials for OneKey {
    fn credential(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (access_key_id == &*self.0.access_key_id).then(|| self.0.clone())
    }
}

fn new_key() -> NewKey {
    let id = || random_uuid(&SystemRandom).expect("randomness");
    NewKey {
        key_id: id(),
        version_id: id(),
        store: "ClusterKeyStore/default".into(),
        region: "cn-hangzhou".into(),
        account_id: "123456".into(),
        generation: 0,
        owner: Owner {
            namespace: NAMESPACE.into(),
            namespace_uid: "namespace".into(),
            name: OBJECT.into(),
            uid: "object".into(),
            resource_version: "1".into(),
            released: false,
        },
        origin: Origin::AliyunKms,
        key_usage: KeyUsage::EncryptDecrypt,
        desired: DesiredKey {
            description: String::new(),
            tags: BTreeMap::new(),
            enabled: true,
            deletion_protection: false,
            rotation_interval_days: None,
            rotation_request: None,
            schedule_deletion: false,
            pending_deletion_days: 7,
        },
    }
}

/// An API server that takes every Secret, allows everything, and has the operator's namespace.
async fn api_server_double(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = service_fn(async |request: Request<Incoming>| {
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let mut object: Value = serde_json::from_slice(&body).unwrap_or_else(
                |_| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cmk-system"}}),
            );
            object["metadata"]["uid"] = "made".into();
            object["metadata"]["resourceVersion"] = "1".into();
            if object["kind"] == "SubjectAccessReview" {
                object["status"] = json!({"allowed": true});
            }
            let mut response = Response::new(Full::new(Bytes::from(object.to_string())));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok::<_, Infallible>(response)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// A server that reads every request and answers as many bytes as its path says.
fn bare(plain: TcpListener, tls: TcpListener, chain: &[u8], key: &[u8]) {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for (listener, tls) in [(plain, None), (tls, Some(acceptor))] {
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("an option");
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => bare_connection(stream).await,
                        Some(tls) => bare_connection(tls.accept(stream).await.expect("a handshake")).await,
                    }
                });
            }
        });
    }
}

async fn bare_connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    static ANSWER: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    let service = service_fn(async |request: Request<Incoming>| {
        let length = request.uri().path()[1..].parse::<usize>().unwrap_or_default();
        request.into_body().collect().await?;
        let mut response = Response::new(Full::new(Bytes::from_static(&ANSWER[..length])));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        Ok::<_, hyper::Error>(response)
    });
    // A client that goes away is no failure.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
