//! The load generator: persistent HTTP/1.1 connections that send requests made before, one at a time each.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider},
};

/// A server, and how to reach it.
#[derive(Clone)]
pub struct Target {
    pub address: String,
    pub tls: Option<TlsConnector>,
}

/// Whom to trust.
pub fn trusting(certificate: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// What came of it.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Measured {
    /// Answers a second.
    pub rate: f64,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// The latency that one in a hundred exceeds, in microseconds.
    pub p99: f64,
    /// CPU time of the server an answer, in microseconds.
    pub cpu: f64,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection and what was read beyond the last answer.
pub struct Connection {
    target: Target,
    stream: Box<dyn Stream>,
    /// The server closes it after what it has answered: moto's does after every request.
    closed: bool,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub async fn open(target: &Target) -> io::Result<Self> {
        let stream = Self::stream(target).await?;
        Ok(Self { target: target.clone(), stream, closed: false, buffer: vec![0; 64 * 1024], filled: 0 })
    }

    async fn stream(target: &Target) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &target.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(ServerName::try_from("localhost").expect("a name"), stream).await?),
        })
    }

    /// Sends a request, and answers the status and the body of its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        if self.closed {
            (self.stream, self.closed) = (Self::stream(&self.target).await?, false);
        }
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.filled += read;
            if let Some((status, start, end)) = answer(&self.buffer[..self.filled])
                && end <= self.filled
            {
                self.closed = self.buffer[..start].windows(17).any(|line| line == b"Connection: close");
                return Ok((status, &self.buffer[start..end]));
            }
        }
    }
}

/// The status of an answer, and from where to where its body goes; once its head is there.
fn answer(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let start = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..start]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some((status, start, start + length.unwrap_or_default()))
}

/// Keeps `connections` connections busy for some time. Every answer has to be a success.
/// `cpu` tells the CPU time that the server has used, in microseconds.
pub async fn run(
    target: &Target,
    cpu: impl Fn() -> f64,
    requests: Arc<Vec<Vec<u8>>>,
    connections: usize,
    time: Duration,
) -> Measured {
    let stop = Arc::new(AtomicBool::new(false));
    let ready = Arc::new(Barrier::new(connections + 1));
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            let (target, requests, stop, ready) = (target.clone(), requests.clone(), stop.clone(), ready.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(&target).await.expect("the server takes connections");
                let mut next = number * requests.len() / connections;
                let mut one = async || {
                    next = (next + 1) % requests.len();
                    let started = Instant::now();
                    let (status, body) = connection.exchange(&requests[next]).await.expect("an answer");
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
                    u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX)
                };
                for _ in 0..20 {
                    one().await;
                }
                ready.wait().await;
                let mut latencies = Vec::with_capacity(100_000);
                while !stop.load(Ordering::Relaxed) {
                    latencies.push(one().await);
                }
                latencies
            })
        })
        .collect();
    ready.wait().await;
    let (started, before) = (Instant::now(), cpu());
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let (took, used) = (started.elapsed(), cpu() - before);
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("the load generator does not panic"));
    }
    all.sort_unstable();
    let at = |part: usize| all.get(all.len() * part / 100).map_or(0.0, |nanos| f64::from(*nanos) / 1000.0);
    Measured { rate: all.len() as f64 / took.as_secs_f64(), p50: at(50), p99: at(99), cpu: used / all.len() as f64 }
}
