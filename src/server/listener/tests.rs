//! What clients do, well-behaved and not, over real connections.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use hyper::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::JoinHandle,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::server::Reply;

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(30);

/// A listener with an answer that says how it was asked.
struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    metrics: EndpointMetrics,
    /// Requests for `/wait` wait for it.
    go_on: Arc<Notify>,
    /// Requests that came to be answered.
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::start_on("127.0.0.1:0", limits).await
    }

    async fn start_on(address: &str, limits: Limits) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (metrics, go_on, asked) = (EndpointMetrics::default(), Arc::new(Notify::new()), Arc::default());
        let answer = {
            let (go_on, asked) = (go_on.clone(), Arc::clone(&asked));
            move |arrival: Arrival| {
                let (go_on, asked) = (go_on.clone(), Arc::clone(&asked));
                async move {
                    AtomicUsize::fetch_add(&asked, 1, Ordering::Relaxed);
                    match arrival.request.path.as_str() {
                        "/wait" => go_on.notified().await,
                        "/panic" => panic!("a bug"),
                        _ => {}
                    }
                    let text = match arrival.refused {
                        Some(failure) => failure.name().to_owned(),
                        None if arrival.request.path == "/peer" => arrival.peer.ip().to_string(),
                        None => format!("{} {}", arrival.request.query, arrival.request.body.len()),
                    };
                    let body = Zeroizing::new(text.into_bytes());
                    let reply = Reply { status: StatusCode::OK, content_type: "text/plain", body };
                    Answer { reply, request_id: Some(("x-acs-request-id", Uuid::nil())) }
                }
            }
        };
        let serving = Serving { tls: None, limits, metrics: metrics.clone() };
        let task = tokio::spawn(serve(listener, serving, answer, stopped));
        Self { address, stop, task, metrics, go_on, asked }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All that comes for these bytes until the server closes the connection.
    async fn all(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // It may close before it has read all.
        let _ = stream.write_all(bytes).await;
        rest(&mut stream).await
    }

    /// Somebody else is served.
    async fn goes_on(&self) {
        let answer = self.all(b"GET /?ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nok 0"), "{answer}");
    }

    fn open(&self) -> i64 {
        self.metrics.connections.get_or_create(&ListenerLabels { listener: "plain" }).get()
    }
}

/// What comes until the server closes the connection, which it has to do by itself.
async fn rest(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok(got) = timeout(SOON, stream.read(&mut buffer)).await else {
            panic!("the server does not close the connection after {:?}", String::from_utf8_lossy(&read));
        };
        match got {
            Ok(0) => return String::from_utf8(read).unwrap(),
            Ok(more) => read.extend_from_slice(&buffer[..more]),
            // Closed with something unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return String::from_utf8(read).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads until `end` has come.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).ends_with(end) {
        let mut byte = [0];
        let got = timeout(SOON, stream.read(&mut byte)).await.expect("an answer").unwrap();
        assert_eq!(got, 1, "{}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(SOON, met).await.is_ok(), "{what}");
}

/// Limits of a client that is not waited for.
fn short() -> Limits {
    let soon = Duration::from_millis(50);
    Limits { head: soon, body: soon, idle: soon, ..Limits::default() }
}

#[tokio::test]
async fn nothing_is_read_after_a_request_in_chunks() {
    let server = Server::start(Limits::default()).await;
    let next = "GET /?next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (chunked, length) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n");
    for headers in [format!("{chunked}{length}"), format!("{length}{chunked}"), chunked.to_owned()] {
        let sent = format!("POST /?first HTTP/1.1\r\nHost: h\r\n{headers}\r\n1\r\nx\r\n0\r\n\r\n{next}");
        let answer = server.all(sent.as_bytes()).await;
        assert!(answer.contains("connection: close") && answer.ends_with("\r\n\r\nfirst 1"), "{headers} {answer}");
    }
    server.goes_on().await;
}

/// The audit log is searched for the addresses of pods.
#[tokio::test]
async fn who_comes_by_ipv4_has_an_ipv4_address_at_a_listener_of_both_families() {
    let mut server = Server::start_on("[::]:0", Limits::default()).await;
    for address in ["127.0.0.1", "::1"] {
        server.address.set_ip(address.parse().unwrap());
        let answer = server.all(b"GET /peer HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with(&format!("\r\n\r\n{address}")), "{answer}");
    }
}

#[tokio::test]
async fn requests_follow_each_other_on_a_connection() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(b"POST /?q HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
        let answer = until(&mut stream, "\r\n\r\nq 3").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain\r\n"), "{answer}");
        assert!(answer.contains("x-acs-request-id: 00000000-0000-0000-0000-000000000000\r\n"), "{answer}");
    }
    // Two at once, of which the first comes slowly.
    stream.write_all(b"POST /?one HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na").await.unwrap();
    stream.write_all(b"bcGET /?two HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    until(&mut stream, "\r\n\r\none 3").await;
    until(&mut stream, "\r\n\r\ntwo 0").await;
    assert_eq!(server.open(), 1);
    drop(stream);
    eventually("the connection is counted no more", || server.open() == 0).await;
}

#[tokio::test]
async fn what_is_too_large_or_malformed_is_refused() {
    let server = Server::start(Limits::default()).await;
    let header = |size: usize| format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(size));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS + 1));
    let rows = [
        (header(MAX_HEAD), "431"),
        (format!("GET /?{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(66_000)), "414"),
        (many, "431"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), "400"),
        ("\0\0\0\0\0\0\0\0".to_owned(), "400"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01".to_owned(), "400"),
    ];
    for (request, status) in rows {
        let answer = server.all(request.as_bytes()).await;
        assert_eq!(answer.get(9..12), Some(status), "{:.80}: {answer}", request);
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 0, "none of them was a request");
    // The longest of Alibaba's requests fits.
    let query = "x".repeat(60_000);
    let answer = server.all(format!("GET /?{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).await;
    assert!(answer.ends_with(&format!("{query} 0")));
    server.goes_on().await;
}

#[tokio::test]
async fn a_body_has_a_limit_announced_or_not() {
    let server = Server::start(Limits::default()).await;
    let head = |rest: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}\r\n\r\n");
    let announced = head(&format!("Content-Length: {}", MAX_BODY + 1));
    let mut chunked = head("Transfer-Encoding: chunked");
    chunked.push_str(&format!("{:x}\r\n{}\r\n0\r\n\r\n", MAX_BODY + 1, "x".repeat(MAX_BODY + 1)));
    for request in [announced, chunked] {
        let answer = server.all(request.as_bytes()).await;
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("TooLarge"), "{answer}");
    }
    for length in [MAX_BODY, SMALL_BODY, SMALL_BODY + 1] {
        let request = head(&format!("Connection: close\r\nContent-Length: {length}")) + &"x".repeat(length);
        let answer = server.all(request.as_bytes()).await;
        assert!(answer.ends_with(&format!("\r\n\r\n {length}")), "{answer}");
    }
    server.goes_on().await;
}

/// A client that sends all before it reads would find its connection reset, and the answer lost, if the server closed it with
/// something unread (RFC 9112 section 9.6).
#[tokio::test]
async fn an_early_answer_comes_to_a_client_that_first_sends_all() {
    let server = Server::start(Limits::default()).await;
    // More than what the operating system takes for a connection that nobody reads from.
    let length = 32 << 20;
    let much = "x".repeat(length);
    let post = "POST / HTTP/1.1\r\nHost: h\r\n";
    let rows = [
        ("announced", format!("{post}Content-Length: {length}\r\n\r\n{much}"), "TooLarge"),
        ("chunked", format!("{post}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{much}\r\n0\r\n\r\n"), "TooLarge"),
        ("a head", format!("{post}X: {much}\r\n\r\n"), "HTTP/1.1 431 "),
    ];
    for (what, request, answered) in rows {
        let mut stream = server.connect().await;
        let sent = timeout(SOON, stream.write_all(request.as_bytes())).await.expect("it is read on");
        sent.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut answer = String::new();
        let read = timeout(SOON, stream.read_to_string(&mut answer)).await.expect("the server closes");
        read.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(answer.contains(answered), "{what}: {answer}");
    }
    server.goes_on().await;
    eventually("no connection is left", || server.open() == 0).await;
}

/// It is read on for a while only.
#[tokio::test]
async fn a_client_that_never_stops_sending_is_cut() {
    let server = Server::start(Limits { linger: Duration::from_millis(50), ..Limits::default() }).await;
    let mut stream = server.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2);
    stream.write_all(head.as_bytes()).await.unwrap();
    let cut = async { while stream.write_all(&[0; 8192]).await.is_ok() {} };
    assert!(timeout(SOON, cut).await.is_ok(), "it is read for ever");
    // Nor if it sends nothing and keeps the connection.
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.ends_with("TooLarge"));
    eventually("no connection is left", || server.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_is_slow_is_given_up_and_others_are_served() {
    let server = Server::start(short()).await;
    assert_eq!(server.all(b"").await, "", "it sends nothing");
    assert_eq!(server.all(b"GET / HTT").await, "", "half a head");
    let answer = server.all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab").await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("Malformed"), "half a body: {answer}");
    let answer = server.all(b"GET /?x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nx 0"), "it keeps the connection and sends nothing more: {answer}");
    server.goes_on().await;
    eventually("no connection is left", || server.open() == 0).await;
}

#[tokio::test]
async fn a_bug_in_one_request_harms_no_other() {
    let server = Server::start(Limits::default()).await;
    assert_eq!(server.all(b"GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").await, "");
    server.goes_on().await;
    eventually("no connection is left", || server.open() == 0).await;
}

#[tokio::test]
async fn beyond_the_limit_connections_wait() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() }).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /?x HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        until(&mut stream, "\r\n\r\nx 0").await;
        open.push(stream);
    }
    let mut waiting = server.connect().await;
    waiting.write_all(b"GET /?third HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let labels = ListenerLabels { listener: "plain" };
    eventually("it is full", || server.metrics.connections_full.get_or_create(&labels).get() > 0).await;
    assert_eq!(server.asked.load(Ordering::Relaxed), 2);
    drop(open.pop());
    until(&mut waiting, "\r\n\r\nthird 0").await;
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_it_stops() {
    let server = Server::start(Limits::default()).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    busy.write_all(b"GET /wait?busy HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    idle.write_all(b"GET /?idle HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    until(&mut idle, "\r\n\r\nidle 0").await;
    eventually("both were asked", || server.asked.load(Ordering::Relaxed) == 2).await;

    server.stop.send_replace(true);
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
    eventually("nobody listens", || server.open() == 1).await;
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!server.task.is_finished());
    server.go_on.notify_one();
    let answer = rest(&mut busy).await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("busy 0"), "{answer}");
    timeout(SOON, server.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn who_still_comes_while_it_leaves_is_served_and_sent_away() {
    let server = Server::start(Limits { leave: Duration::from_secs(3600), ..Limits::default() }).await;
    let mut known = server.connect().await;
    known.write_all(b"GET /?first HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    until(&mut known, "\r\n\r\nfirst 0").await;

    server.stop.send_replace(true);
    // It may not have heard at once.
    loop {
        known.write_all(b"GET /?again HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let answer = until(&mut known, "\r\n\r\nagain 0").await;
        if answer.contains("connection: close\r\n") {
            break;
        }
    }
    assert_eq!(rest(&mut known).await, "");
    let answer = server.all(b"GET /?new HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("new 0"), "{answer}");
    server.task.abort();
}

#[tokio::test]
async fn what_takes_too_long_is_cut_when_it_stops() {
    let server = Server::start(Limits { drain: Duration::from_millis(10), ..Limits::default() }).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    eventually("it was asked", || server.asked.load(Ordering::Relaxed) == 1).await;
    server.stop.send_replace(true);
    assert_eq!(rest(&mut busy).await, "");
    timeout(SOON, server.task).await.expect("it ends").unwrap();
}
