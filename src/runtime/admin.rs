//! /livez, /readyz, /metrics and /loglevel.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};

use super::{log_levels::LogLevels, metrics::Metrics};
use crate::server::staleness::Contact;

/// How long a client may take to send its request, and as long again for a body: the endpoint answers short questions.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What clients may use. Anybody in the cluster's network may be one.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections that are open at a time. For one more the oldest is closed: so strangers who hold them all keep no probe out.
    connections: usize,
    /// How long each may take, with its request and its answer. As long as Prometheus waits for a slow one, twice.
    connection: Duration,
    /// Texts of /metrics that are on their way at a time. Each has 3 MB for 10,000 keys.
    texts: usize,
}

const LIMITS: Limits = Limits { connections: 32, connection: Duration::from_secs(20), texts: 4 };

/// The longest log levels, in bytes.
const MAX_LEVELS: usize = 4096;

/// The type of /metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the operator does its work: the root key is there, every watch has shown what exists, and the KMS endpoint, if it
/// has one, refuses nobody for not knowing what the API server knows.
#[derive(Clone, Default)]
pub struct Readiness {
    is_ready: Arc<AtomicBool>,
    contact: Arc<OnceLock<Arc<Contact>>>,
}

impl Readiness {
    /// Says that it does, or does no more.
    pub fn set(&self, ready: bool) {
        self.is_ready.store(ready, Ordering::Release);
    }

    /// From now on it is not ready either when this says that it is cut off: another replica may not be.
    pub fn depends_on(&self, contact: Arc<Contact>) {
        // There is one endpoint, and it is told once.
        let _ = self.contact.set(contact);
    }

    /// Whether it does.
    #[must_use]
    pub fn get(&self) -> bool {
        self.is_ready.load(Ordering::Acquire) && !self.is_cut_off()
    }

    fn is_cut_off(&self) -> bool {
        self.contact.get().is_some_and(|contact| !contact.is_fresh())
    }
}

/// What the endpoint answers from.
#[derive(Clone)]
pub struct Admin {
    /// For /readyz.
    pub readiness: Readiness,
    /// For /metrics.
    pub metrics: Arc<Metrics>,
    /// For /loglevel.
    pub levels: LogLevels,
}

/// Serves on `listener` for ever.
pub async fn serve(listener: TcpListener, admin: Admin) {
    serve_within(LIMITS, listener, admin).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, admin: Admin) {
    let scrapes = Scrapes::new(admin.metrics.clone(), limits.texts);
    let mut open = VecDeque::with_capacity(limits.connections);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                // Out of file descriptors, say. It passes, or the probes restart us.
                tracing::warn!(%error, "the admin endpoint can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        open.retain(|connection: &AbortHandle| !connection.is_finished());
        if open.len() >= limits.connections
            && let Some(oldest) = open.pop_front()
        {
            tracing::debug!("as many connections to the admin endpoint as allowed are open; the oldest is closed");
            oldest.abort();
        }
        let connection = speak(stream, peer, admin.clone(), scrapes.clone());
        let connection = tokio::spawn(async move {
            if timeout(limits.connection, connection).await.is_err() {
                tracing::debug!("a connection to the admin endpoint took too long");
            }
        });
        open.push_back(connection.abort_handle());
    }
}

/// Answers the one request of a connection: who asks again, in half a minute, needs none that waits until then.
async fn speak(stream: TcpStream, peer: IpAddr, admin: Admin, scrapes: Scrapes) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request, &admin, &scrapes, peer).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the admin endpoint ended badly");
    }
}

/// Puts the texts of /metrics together, one at a time, and knows how many are on their way.
#[derive(Clone)]
struct Scrapes {
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

/// A text that keeps its place until it was sent, or nobody takes it any more.
struct Text {
    text: String,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Scrapes {
    fn new(metrics: Arc<Metrics>, texts: usize) -> Self {
        Self { metrics, places: Arc::new(Semaphore::new(texts)), turn: Arc::default() }
    }

    /// Off the async threads: it takes a tenth of a second for 10,000 keys. None: it failed, which is a bug.
    async fn render(&self) -> Option<Bytes> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        let turn = self.turn.clone().lock_owned().await;
        let metrics = self.metrics.clone();
        // Whoever asked may be gone before it ends: so it has its place and its turn with it.
        let rendering = tokio::task::spawn_blocking(move || {
            let text = metrics.render();
            drop(turn);
            Bytes::from_owner(Text { text, _place: place })
        });
        rendering.await.inspect_err(|error| tracing::error!(%error, "the metrics can't be put together")).ok()
    }
}

/// Opens the listener.
///
/// # Errors
/// The operating system's, when the address can't be had.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers a request of `peer`.
async fn answer(request: Request<Incoming>, admin: &Admin, scrapes: &Scrapes, peer: IpAddr) -> Response<Full<Bytes>> {
    if request.uri().path() == "/loglevel" {
        return log_level(request, &admin.levels, peer).await;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if admin.readiness.get() => text(StatusCode::OK, "ok\n"),
        "/readyz" if admin.readiness.is_cut_off() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "cut off from the API server for longer than --max-staleness\n")
        }
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "starting, or stopping\n"),
        "/metrics" => match scrapes.render().await {
            Some(text) => response(StatusCode::OK, text, OPEN_METRICS),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be put together: see the log\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "see /livez, /readyz, /metrics and /loglevel\n"),
    }
}

/// Shows or changes the log level. For the machine itself only, as a pod that is where `kubectl port-forward` comes from:
/// who may do that is decided by RBAC, and nobody in the cluster's network has it.
async fn log_level(request: Request<Incoming>, levels: &LogLevels, peer: IpAddr) -> Response<Full<Bytes>> {
    if !peer.to_canonical().is_loopback() {
        return text(StatusCode::FORBIDDEN, "/loglevel is for the pod itself: use kubectl port-forward\n");
    }
    let method = request.method().clone();
    let changed = match method {
        Method::GET | Method::HEAD => Ok(()),
        Method::DELETE => levels.reset(),
        Method::PUT => {
            let body = Limited::new(request.into_body(), MAX_LEVELS).collect();
            let asked = match timeout(HEADER_TIMEOUT, body).await {
                Ok(Ok(body)) => String::from_utf8(body.to_bytes().to_vec()).unwrap_or_default(),
                Ok(Err(_)) | Err(_) => String::new(),
            };
            match asked.trim() {
                "" => return text(StatusCode::BAD_REQUEST, "the body is a level, e.g. info,cmk_operator=debug\n"),
                asked => levels.change(asked),
            }
        }
        _ => return text(StatusCode::METHOD_NOT_ALLOWED, "only GET, PUT and DELETE\n"),
    };
    match changed {
        Ok(()) => text(StatusCode::OK, format!("{}\n", levels.current())),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    response(status, Bytes::from(body.into()), "text/plain; charset=utf-8")
}

fn response(status: StatusCode, body: Bytes, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
