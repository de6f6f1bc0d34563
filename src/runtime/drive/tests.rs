use std::{
    future::ready,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::runtime::{reflector::store::Writer, watcher::Event};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    api::{DataKey, DataKeySpec},
    cluster::{KubeCluster, Views},
    controller::{Attempts, Expectations, data_key::KIND, purge},
    crypto::SystemRandom,
    runtime::{metrics::Metrics, triggers::Watched},
    store::embedded::{
        EmbeddedStore,
        testing::{Bench, Memory},
    },
};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

type Passes = Context<KubeCluster, EmbeddedStore<Memory>>;

/// A drive of data keys, on an API server that has nothing and keeps what it was asked.
struct Driven {
    context: Arc<Passes>,
    watched: Watched<DataKey>,
    writer: Writer<Guarded<DataKey>>,
    may_work: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    drive: Option<Drive<DataKey>>,
    asked: Arc<Mutex<Vec<String>>>,
    api_server: JoinHandle<()>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.api_server.abort();
    }
}

impl Driven {
    async fn with(names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let api_server = tokio::spawn(nothing(listener, asked.clone()));
        let mut config = kube::Config::new(url.parse().unwrap());
        (config.default_retry, config.proxy_url) = (false, None);
        let bench = Bench::new();
        let context = Arc::new(Context {
            cluster: KubeCluster::new(kube::Client::try_from(config).unwrap(), Views::blind()),
            store: Arc::new(bench.store),
            clock: bench.clock,
            random: Arc::new(SystemRandom),
            no_new_keys: false,
            purge_holds: purge::Holds::default(),
            attempts: Attempts::default(),
            expectations: Expectations::default(),
            metrics: Arc::new(Metrics::default()),
        });
        let mut writer = Writer::default();
        writer.apply_watcher_event(&Event::Init);
        names.iter().for_each(|name| writer.apply_watcher_event(&Event::InitApply(object(name))));
        writer.apply_watcher_event(&Event::InitDone);
        let (watched, requests) = Watched::new(None, writer.as_reader());
        let (may_work, stop) = (watch::Sender::new(true), watch::Sender::new(false));
        let drive = Drive {
            kind: KIND,
            store: writer.as_reader(),
            requests,
            concurrency: 1,
            listed: watch::channel(1).1,
            may_work: may_work.subscribe(),
            stop: stop.subscribe(),
        };
        Self { context, watched, writer, may_work, stop, drive: Some(drive), asked, api_server }
    }

    /// Makes passes of this until `enough`, and then stops.
    async fn run<F>(
        &mut self,
        pass: impl Fn(DataKey) -> F + Clone + Send + Sync + 'static,
        enough: impl AsyncFnOnce(&mut Self),
    ) where
        F: Future<Output = Result<Outcome, PassError>> + Send + 'static,
    {
        let drive = self.drive.take().unwrap();
        let running = tokio::spawn(drive.run(self.context.clone(), move |_, object| pass(object)));
        enough(self).await;
        self.stop.send_replace(true);
        timeout(SOON, running).await.expect("the drive ends when it is told to").expect("it does not panic");
    }

    fn passes(&self, result: &'static str) -> u64 {
        self.context.metrics.passes.get_or_create(&PassLabels { kind: KIND, result }).get()
    }

    /// Whether anything is known of an object between two passes.
    fn knows(&self, name: &str) -> bool {
        let Passes { attempts, expectations, .. } = &*self.context;
        format!("{attempts:?} {expectations:?}").contains(name)
    }

    fn delete(&mut self, name: &str) {
        self.writer.apply_watcher_event(&Event::Delete(object(name)));
        self.watched.request("shop", name);
    }
}

fn object(name: &str) -> Guarded<DataKey> {
    let mut object = DataKey::new(name, DataKeySpec::default());
    object.metadata.namespace = Some("shop".into());
    object.metadata.resource_version = Some("7".into());
    Guarded(Ok(object))
}

/// An API server that has nothing, and notes what it is asked.
async fn nothing(listener: TcpListener, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let asked = asked.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (asked, what) = (asked.clone(), format!("{} {}", request.method(), request.uri().path()));
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                asked.lock().unwrap().push(format!("{what} {}", String::from_utf8_lossy(&body)));
                let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
                let answer = Response::builder().status(404).header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(status.to_string()))).unwrap())
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, holds).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn rule_16_a_pass_that_panics_is_said_and_tried_again() {
    let mut driven = Driven::with(&["bad", "good"]).await;
    let cured = Arc::new(AtomicBool::new(false));
    let pass = {
        let cured = cured.clone();
        move |object: DataKey| {
            let panics = object.name_any() == "bad" && !cured.load(Ordering::Relaxed);
            async move {
                assert!(!panics, "what a panic says may be anything, such as hunter2");
                Ok(Outcome::Settled)
            }
        }
    };
    driven
        .run(pass, async |driven| {
            driven.watched.request("shop", "bad");
            until("it panics twice", || driven.passes("panicked") == 2).await;
            driven.watched.request("shop", "good");
            until("others are looked at", || driven.passes("ok") == 1).await;
            cured.store(true, Ordering::Relaxed);
            until("it is tried again", || driven.passes("ok") == 2).await;
        })
        .await;
    assert!(!driven.knows("bad"), "its failures are forgotten with the first success");
    let asked = driven.asked.lock().unwrap();
    let status = asked.iter().find(|asked| asked.starts_with("PATCH") && asked.contains("/bad/status")).unwrap();
    assert!(status.contains("ReconcileError") && status.contains("report this as a bug"), "{status}");
    assert!(asked.iter().all(|asked| !asked.contains("hunter2")), "{asked:?}");
}

#[tokio::test]
async fn what_is_known_of_an_object_that_is_gone_is_forgotten() {
    let mut driven = Driven::with(&["failing", "waiting", "changed"]).await;
    driven
        .run(
            |_| ready(Err(PassError::Endless)),
            async |driven| {
                driven.watched.request("shop", "failing");
                until("it fails", || driven.knows("failing")).await;
                driven.delete("failing");
                until("its failures are forgotten", || !driven.knows("failing")).await;

                // It goes while its pass waits for this replica to lead.
                driven.may_work.send_replace(false);
                driven.context.attempts.failed(KIND, "shop", "waiting");
                driven.watched.request("shop", "waiting");
                driven.delete("waiting");
                driven.may_work.send_replace(true);
                until("its failures are forgotten as well", || !driven.knows("waiting")).await;

                // What was written to it is never shown.
                let Guarded(Ok(written)) = object("changed") else { unreachable!("it can be read") };
                driven.context.expectations.wrote(KIND, &written);
                assert!(driven.knows("changed"));
                driven.delete("changed");
                until("what was written is forgotten", || !driven.knows("changed")).await;
            },
        )
        .await;
}
