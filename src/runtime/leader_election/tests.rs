//! What becomes of the Lease when a candidate is stopped in the middle of something, on an API server in memory.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Bytes};
use kube::{Client, Resource, client::Body};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
};

use super::*;

/// A write, and who waits for its answer.
type Pending = (Method, Value, oneshot::Sender<(StatusCode, Value)>);

/// An API server that knows one Lease.
#[derive(Default)]
struct Server {
    /// The Lease. Its version is a number that grows.
    lease: Mutex<Option<Value>>,
    /// Whether the next write is not carried out at once.
    is_slow: AtomicBool,
    /// A write that was received, and is carried out whether or not anybody waits for its answer.
    late: Mutex<Option<Pending>>,
    /// Is rung when there is one.
    received: Notify,
    /// Whether it is carried out right after the next read.
    lands_after_read: AtomicBool,
}

impl Server {
    fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "cmk-system")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let (status, answer) = if head.method == Method::GET {
            let found = self.lease.lock().unwrap().clone();
            if self.lands_after_read.swap(false, Ordering::Relaxed) {
                self.land();
            }
            found.map_or_else(|| failure(StatusCode::NOT_FOUND, "NotFound"), |lease| (StatusCode::OK, lease))
        } else {
            let lease = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
            if self.is_slow.swap(false, Ordering::Relaxed) {
                let (answered, answer) = oneshot::channel();
                *self.late.lock().unwrap() = Some((head.method, lease, answered));
                self.received.notify_one();
                answer.await.unwrap()
            } else {
                self.write(&head.method, lease)
            }
        };
        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = status;
        response
    }

    fn write(&self, method: &Method, mut lease: Value) -> (StatusCode, Value) {
        let mut known = self.lease.lock().unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let before = match &*known {
            Some(known) if *method == Method::PUT && version(known) == version(&lease) => version(known),
            Some(_) => return failure(StatusCode::CONFLICT, "Conflict"),
            None if *method == Method::POST => "0".to_owned(),
            None => return failure(StatusCode::NOT_FOUND, "NotFound"),
        };
        lease["metadata"]["resourceVersion"] = json!((before.parse::<u64>().unwrap() + 1).to_string());
        *known = Some(lease.clone());
        (StatusCode::OK, lease)
    }

    /// Carries out what was received.
    fn land(&self) {
        let (method, lease, answered) = self.late.lock().unwrap().take().unwrap();
        // That nobody waits for the answer any more is what may happen.
        let _ = answered.send(self.write(&method, lease));
    }

    fn holder(&self) -> Option<String> {
        self.lease.lock().unwrap().as_ref()?["spec"]["holderIdentity"].as_str().map(str::to_owned)
    }
}

fn failure(status: StatusCode, reason: &str) -> (StatusCode, Value) {
    (
        status,
        json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": status.as_u16()}),
    )
}

/// Nobody reads the Events.
struct Silent;

impl Events for Silent {
    async fn publish<K: Resource<DynamicType = ()> + Sync>(&self, _: &K, _: &EventNote) {}
}

struct Running {
    leads: watch::Receiver<bool>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn candidate(server: &Arc<Server>, holds: watch::Sender<bool>) -> Candidate<Silent> {
    Candidate::new((server.client(), Silent), "cmk-system", "us".into(), Timing::default(), holds)
}

fn run(server: &Arc<Server>) -> Running {
    let (holds, leads) = watch::channel(false);
    let (stop, stopped) = oneshot::channel();
    let candidate = candidate(server, holds);
    let task = tokio::spawn(candidate.run(async move {
        let _ = stopped.await;
    }));
    Running { leads, stop, task }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_being_taken_when_the_replica_is_stopped_is_given_up() {
    let server = Arc::new(Server { is_slow: true.into(), ..Server::default() });
    let running = run(&server);
    server.received.notified().await;
    running.stop.send(()).unwrap();
    tokio::task::yield_now().await;
    server.land();
    running.task.await.unwrap();
    assert!(server.lease.lock().unwrap().is_some(), "it was taken");
    assert_eq!(server.holder(), None, "and given up");
    assert!(!*running.leads.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_while_it_is_given_up_is_given_up() {
    let server = Arc::new(Server::default());
    let mut running = run(&server);
    running.leads.wait_for(|leads| *leads).await.unwrap();
    server.is_slow.store(true, Ordering::Relaxed);
    server.received.notified().await;
    running.stop.send(()).unwrap();
    // Nobody waits for its answer for so long.
    tokio::time::sleep(Timing::default().retry_period).await;
    server.lands_after_read.store(true, Ordering::Relaxed);
    running.task.await.unwrap();
    assert_eq!(server.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_stopped_before_it_knows_who_leads_takes_nothing() {
    let server = Arc::new(Server::default());
    let running = run(&server);
    running.stop.send(()).unwrap();
    running.task.await.unwrap();
    assert!(server.lease.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_lease_that_does_not_say_for_how_long_it_holds_does_so_as_ours_would() {
    let candidate = candidate(&Arc::new(Server::default()), watch::Sender::new(false));
    for (said, expected) in [(Some(3), 3), (Some(0), 15), (Some(-1), 15), (None, 15)] {
        let spec = LeaseSpec { lease_duration_seconds: said, ..LeaseSpec::default() };
        let held = candidate.held(&Lease { spec: Some(spec), ..Lease::default() });
        assert_eq!(held.duration, Duration::from_secs(expected), "{said:?}");
    }
}
