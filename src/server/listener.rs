//! HTTP/1.1 over TCP, with TLS or without, within [`Limits`].

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Response,
    body::{Body, Bytes, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Failure, Request,
    deadlines::{Deadlines, Progress},
    endpoint::{Answer, Arrival},
    limits::{LARGE_BODIES, Limits, MAX_BODY, MAX_HEAD, MAX_HEADERS, SMALL_BODY},
    metrics::{EndpointMetrics, ListenerLabels},
    tls::Acceptor,
};

/// How long to wait after a connection could not be accepted: out of file descriptors, say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What a listener does.
#[derive(Clone)]
pub struct Serving {
    /// With TLS. None: without.
    pub tls: Option<Acceptor>,
    /// What clients may use.
    pub limits: Limits,
    /// What is counted.
    pub metrics: EndpointMetrics,
}

/// What `stop` says to every connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serve,
    /// Go on, and have clients open their next connection: to somebody else, as we hope.
    Leave,
    /// Answer what is under way, and no more.
    Drain,
    /// End now.
    End,
}

/// Serves on `listener` until `stop` becomes true, for `limits.leave` after that, and until the requests under way are answered
/// or the time for that is over.
/// No more than `limits.connections` are open: the next ones wait in the queue of the operating system.
pub async fn serve<A, F>(listener: TcpListener, serving: Serving, answer: A, mut stop: watch::Receiver<bool>)
where
    A: Fn(Arrival) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let Serving { limits, metrics, .. } = serving.clone();
    let labels = ListenerLabels { listener: if serving.tls.is_some() { "tls" } else { "plain" } };
    let open = metrics.connections.get_or_create_owned(&labels);
    let full = metrics.connections_full.get_or_create_owned(&labels);
    let places = Arc::new(Semaphore::new(limits.connections));
    let large = Arc::new(Semaphore::new(LARGE_BODIES));
    let (phase, phases) = watch::channel(Phase::Serve);
    let accept = async {
        loop {
            if places.available_permits() == 0 {
                full.inc();
                tracing::warn!(
                    connections = limits.connections,
                    "as many connections as allowed are open; others wait"
                );
            }
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the KMS endpoint can't accept a connection");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let connection = Connection {
                // A listener of both families shows an IPv4 address within an IPv6 one.
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                serving: serving.clone(),
                large: large.clone(),
                phase: phases.clone(),
                answer: answer.clone(),
            };
            let open = open.clone();
            open.inc();
            tokio::spawn(async move {
                // Dropped, and so counted, also when something in there panics.
                let _open = Open { gauge: open, _place: place };
                connection.serve(stream).await;
            });
        }
    };
    let left = async {
        // One whose sender is gone has ended.
        let _ = stop.wait_for(|stop| *stop).await;
        phase.send_replace(Phase::Leave);
        sleep(limits.leave).await;
    };
    tokio::select! {
        () = accept => {}
        () = left => {}
    }
    drop(listener);
    phase.send_replace(Phase::Drain);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    if timeout(limits.drain, places.acquire_many(all)).await.is_err() {
        tracing::warn!(connections = %open.get(), "connections are cut: their requests are not answered in time");
        phase.send_replace(Phase::End);
    }
}

/// Has the connection look again once the answer is on its way: only then hyper sees that nobody reads the body any more, and
/// closes. Nothing else would wake it, if the client sends nothing more.
async fn look_again() {
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Ready(())
    })
    .await;
}

/// Resolves once it has come to a phase. A listener that is gone has ended.
async fn is(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// A connection that is open.
struct Open {
    gauge: prometheus_client::metrics::gauge::Gauge,
    _place: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

struct Connection<A> {
    peer: SocketAddr,
    serving: Serving,
    large: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
    answer: A,
}

impl<A, F> Connection<A>
where
    A: Fn(Arrival) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection can't be made to send at once");
        }
        let Some(tls) = self.serving.tls.clone() else { return self.speak(stream).await };
        let mut phase = self.phase.clone();
        let handshake = timeout(self.serving.limits.handshake, tls.accept(stream));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = is(&mut phase, Phase::Drain) => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(error)) => self.tls_failed(&error),
            Err(_) => self.tls_failed(&"it took too long"),
        }
    }

    fn tls_failed(&self, error: &dyn std::fmt::Display) {
        self.serving.metrics.tls_failures.inc();
        tracing::debug!(%error, peer = %self.peer, "a TLS handshake failed");
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let Self { peer, serving, large, mut phase, answer } = self;
        let leaving = phase.clone();
        let progress = Progress::default();
        let stream = Deadlines::new(stream, progress.clone(), serving.limits);
        let limits = serving.limits;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (progress, busy) = (progress.clone(), progress.begin());
            let (large, answer) = (large.clone(), answer.clone());
            let leaving = leaving.clone();
            async move {
                // hyper takes a request that says its length twice, in chunks and in bytes, by the chunks. A proxy may have
                // counted the bytes, so whatever comes after it may be somebody else's (RFC 9112 section 6.1).
                let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
                let arrival = arrive(request, peer, &limits, &large).await;
                let close = is_chunked || arrival.refused.is_some();
                let answer = answer(arrival).await;
                let response = respond(answer, close || *leaving.borrow() >= Phase::Leave);
                drop(busy);
                if close {
                    progress.cut_short();
                    look_again().await;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS).max_header_size(MAX_HEAD).max_buf_size(MAX_HEAD + SMALL_BODY);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = is(&mut phase, Phase::Drain) => None,
        };
        if ended.is_none() {
            connection.as_mut().graceful_shutdown();
            ended = tokio::select! {
                ended = &mut connection => Some(ended),
                () = is(&mut phase, Phase::End) => None,
            };
        }
        if let Some(Err(error)) = ended {
            // hyper has answered what can be answered: 400, 414 or 431. The error says nothing of the request.
            tracing::debug!(%error, %peer, "a connection to the KMS endpoint ended badly");
        }
    }
}

/// Reads a request.
async fn arrive(request: hyper::Request<Incoming>, peer: SocketAddr, limits: &Limits, large: &Semaphore) -> Arrival {
    let (head, body) = request.into_parts();
    let (body, refused) = match read(body, limits, large).await {
        Ok(body) => (body, None),
        Err(failure) => (Bytes::new(), Some(failure)),
    };
    let request = Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
    };
    Arrival { request, peer, refused }
}

/// Reads a body.
async fn read(body: Incoming, limits: &Limits, large: &Semaphore) -> Result<Bytes, Failure> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // None: it comes in chunks, and nobody knows how many.
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let is_small = announced.is_some_and(|length| length <= SMALL_BODY as u64);
    let reading = async {
        let place = if is_small { None } else { large.acquire().await.ok() };
        let collected = Limited::new(body, MAX_BODY).collect().await;
        drop(place);
        match collected {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(Failure::Malformed("the body did not arrive".into())),
        }
    };
    match timeout(limits.body, reading).await {
        Ok(read) => read,
        Err(_) => Err(Failure::Malformed(format!("the body did not arrive within {} s", limits.body.as_secs()))),
    }
}

fn too_large() -> Failure {
    Failure::TooLarge(format!("the body may have {MAX_BODY} bytes"))
}

/// The answer on its way out: its body is wiped when it was sent.
fn respond(answer: Answer, close: bool) -> Response<Full<Bytes>> {
    let Answer { reply, request_id } = answer;
    let mut response = Response::new(Full::new(Bytes::from_owner(reply.body)));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Some((name, id)) = request_id {
        let mut text = uuid::Uuid::encode_buffer();
        // Digits and hyphens are a header's value.
        if let Ok(id) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
            headers.insert(HeaderName::from_static(name), id);
        }
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
