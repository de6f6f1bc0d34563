//! Clients that nobody wished for.

use std::sync::{
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinHandle,
};

use super::*;
use crate::{
    kms::key_record::tests::at,
    runtime::metrics::objects::{Snapshot, Use, tests::key},
};

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(30);

/// So little is on its way in the buffers of the operating system, that who takes nothing holds all up.
const BUFFER: u32 = 4096;

const HOUR: Duration = Duration::from_secs(3600);

struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(BUFFER).unwrap();
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket
}

/// With the metrics of so many keys, each of which `look` is told of.
fn start(limits: Limits, keys: u128, look: impl Fn() + Send + Sync + 'static) -> Server {
    let socket = socket();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::default());
    let keys: Vec<_> = (1..=keys).map(|id| key(id, &[])).collect();
    metrics.objects.look_at(move || {
        look();
        let mut snapshot = Snapshot::default();
        snapshot.add_keys(&keys, &Use::default(), at(2000), true);
        snapshot
    });
    let admin = Admin { readiness: Readiness::default(), metrics, levels: LogLevels::begin("info").unwrap().0 };
    Server { address, task: tokio::spawn(serve_within(limits, listener, admin)) }
}

impl Server {
    /// Asks, and takes nothing yet.
    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = socket().connect(self.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    async fn get(&self, path: &str) -> String {
        rest(self.ask(path).await).await
    }
}

/// What comes until the connection ends, one way or another.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut text)).await.expect("it ends");
    String::from_utf8(text).unwrap()
}

fn is_whole(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("# EOF\n")
}

#[tokio::test]
async fn who_takes_no_metrics_is_given_up() {
    let limits = Limits { connection: Duration::from_secs(3), texts: 1, ..LIMITS };
    let server = start(limits, 1000, || ());
    let stuck = server.ask("/metrics").await;
    stuck.readable().await.unwrap();
    // Who comes next waits for the memory, and has its own time for that.
    let mut next = server.get("/metrics").await;
    while !is_whole(&next) {
        next = server.get("/metrics").await;
    }
    assert!(!is_whole(&rest(stuck).await), "it was cut off");
}

#[tokio::test]
async fn connections_that_are_held_keep_no_probe_out() {
    let server = start(Limits { connections: 2, connection: HOUR, texts: 8 }, 1000, || ());
    let mut held = Vec::new();
    for _ in 0..3 {
        let stream = server.ask("/metrics").await;
        stream.readable().await.unwrap();
        held.push(stream);
    }
    assert!(server.get("/livez").await.ends_with("ok\n"));
    assert!(!is_whole(&rest(held.remove(0)).await), "the oldest made room");
    assert!(is_whole(&rest(held.pop().unwrap()).await), "the newest goes on");
}

#[tokio::test]
async fn metrics_are_put_together_one_at_a_time_and_hold_nobody_up() {
    let (go_on, wait) = mpsc::channel();
    let (wait, inside) = (std::sync::Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
    let entered = Arc::new(tokio::sync::Notify::new());
    let look = {
        let (inside, entered) = (inside.clone(), entered.clone());
        move || {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            entered.notify_one();
            wait.lock().unwrap().recv_timeout(SOON).expect("somebody else is answered meanwhile");
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let server = start(LIMITS, 1, look);
    let scrapes = [server.ask("/metrics").await, server.ask("/metrics").await];
    entered.notified().await;
    assert!(server.get("/livez").await.ends_with("ok\n"));
    assert_eq!(inside.load(Ordering::SeqCst), 1);
    for _ in 0..2 {
        go_on.send(()).unwrap();
    }
    for scrape in scrapes {
        assert!(is_whole(&rest(scrape).await));
    }
}
