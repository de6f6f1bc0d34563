//! `make bench`: the KMS endpoint beside a bare HTTP server of the same stack, and beside moto. It prints a table, and
//! with `--json` one object.
//!
//! The machine is shared, so that absolute figures say little: what counts are the ratios of figures measured in turn, in
//! one run, with one load generator.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that fails stops, and says why")]

mod load;
mod process;
mod report;
mod requests;
mod servers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;
use load::{Connection, Measured, Target};
use process::Server;
use requests::{Operation, body, decrypt_body};

/// How many different requests there are of a kind.
const DIFFERENT: usize = 1024;

/// Measures the KMS endpoint.
#[derive(Parser)]
struct Arguments {
    /// How many connections, comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    connections: Vec<usize>,

    /// How often to measure each of the servers in turn; the table shows the medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,

    /// How long to measure at a time, in milliseconds
    #[arg(long, default_value_t = 700)]
    time: u64,

    /// Only operations whose name begins so, e.g. "Encrypt 4"
    #[arg(long, default_value = "")]
    only: String,

    /// A run of less than a minute
    #[arg(long)]
    short: bool,

    /// Print one JSON object to standard output instead of the table
    #[arg(long)]
    json: bool,

    /// Be one of the servers
    #[arg(long, hide = true)]
    serve: Option<String>,

    /// Where that server finds its certificate
    #[arg(long, hide = true, default_value = ".")]
    directory: PathBuf,

    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// One operation at one number of connections: the figures of each server, round by round.
#[derive(serde::Serialize)]
struct Cell {
    operation: Operation,
    connections: usize,
    rounds: Vec<Round>,
}

/// Figures measured right after each other.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Round {
    plain: Measured,
    bare: Measured,
    tls: Measured,
    bare_tls: Measured,
}

/// moto's figures.
#[derive(serde::Serialize)]
struct Moto {
    operation: Operation,
    connections: usize,
    measured: Measured,
}

/// All figures.
#[derive(serde::Serialize)]
struct Report {
    cells: Vec<Cell>,
    /// None: moto is not there.
    moto: Option<Vec<Moto>>,
    /// Resident memory in MiB at the end: the endpoint's, and the bare server's.
    memory: (f64, f64),
}

#[tokio::main]
async fn main() {
    let mut arguments = Arguments::parse();
    if let Some(which) = &arguments.serve {
        return servers::serve(which, &arguments.directory).await;
    }
    if arguments.short {
        (arguments.connections, arguments.rounds, arguments.time) = (vec![1, 32], 1, 300);
    }
    let report = measure(&arguments).await;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("figures are JSON"));
    } else {
        print!("{}", report::table(&report));
    }
}

async fn measure(arguments: &Arguments) -> Report {
    let directory = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(directory.path().join("tls.crt"), &certificate).expect("a file");
    std::fs::write(directory.path().join("tls.key"), key).expect("a file");
    let endpoint = Server::start("endpoint", directory.path());
    let bare = Server::start("bare", directory.path());
    let tls = load::trusting(&certificate);
    let time = Duration::from_millis(arguments.time);

    let mut cells = Vec::new();
    for operation in Operation::ALL.into_iter().filter(|name| name.to_string().starts_with(&arguments.only)) {
        for connections in arguments.connections.iter().copied() {
            let targets = Targets {
                plain: endpoint.target("plain", None),
                bare: bare.target("plain", None),
                tls: endpoint.target("tls", Some(tls.clone())),
                bare_tls: bare.target("tls", Some(tls.clone())),
            };
            eprintln!("{operation}, {connections} connections ...");
            let rounds = targets.measure((&endpoint, &bare), operation, connections, arguments.rounds, time).await;
            cells.push(Cell { operation, connections, rounds });
        }
    }
    let memory = (endpoint.memory(), bare.memory());
    drop((endpoint, bare));
    let most = arguments.connections.iter().copied().max().unwrap_or(1);
    Report { cells, moto: moto(&arguments.only, most, time.max(Duration::from_secs(2))).await, memory }
}

struct Targets {
    plain: Target,
    bare: Target,
    tls: Target,
    bare_tls: Target,
}

impl Targets {
    async fn measure(
        &self,
        (endpoint, bare): (&Server, &Server),
        operation: Operation,
        connections: usize,
        rounds: u8,
        time: Duration,
    ) -> Vec<Round> {
        let key_id = endpoint.said["keyId"].as_str().expect("a key");
        let bodies = bodies(&self.plain, operation, key_id).await;
        let requests = |path: &str| {
            let all = bodies.iter().map(|body| operation.request("localhost", path, body));
            Arc::new(all.collect::<Vec<_>>())
        };
        let kms = requests("/");
        let mut connection = Connection::open(&self.plain).await.expect("a connection");
        let (status, answer) = connection.exchange(&kms[0]).await.expect("an answer");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(answer));
        let same = requests(&format!("/{}", answer.len()));
        let mut measured = Vec::new();
        for _ in 0..rounds {
            measured.push(Round {
                plain: load::run(&self.plain, || endpoint.cpu(), kms.clone(), connections, time).await,
                bare: load::run(&self.bare, || bare.cpu(), same.clone(), connections, time).await,
                tls: load::run(&self.tls, || endpoint.cpu(), kms.clone(), connections, time).await,
                bare_tls: load::run(&self.bare_tls, || bare.cpu(), same.clone(), connections, time).await,
            });
        }
        measured
    }
}

/// The bodies of different requests. What is decrypted is encrypted before.
async fn bodies(target: &Target, operation: Operation, key_id: &str) -> Vec<String> {
    let Operation::Decrypt(bytes) = operation else {
        return (0..DIFFERENT).map(|index| body(operation, key_id, index)).collect();
    };
    let (encrypt, mut bodies) = (Operation::Encrypt(bytes), Vec::new());
    let mut connection = Connection::open(target).await.expect("a connection");
    for index in 0..DIFFERENT {
        let request = encrypt.request("localhost", "/", &body(encrypt, key_id, index));
        let (_, answer) = connection.exchange(&request).await.expect("an answer");
        bodies.push(decrypt_body(answer));
    }
    bodies
}

/// moto at the largest number of connections.
async fn moto(only: &str, connections: usize, time: Duration) -> Option<Vec<Moto>> {
    let server = Server::moto().await?;
    let target = server.target("plain", None);
    let mut connection = Connection::open(&target).await.ok()?;
    let (_, answer) = connection.exchange(&requests::signed("localhost", "/", "CreateKey", "{}")).await.ok()?;
    let made: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let key_id = made["KeyMetadata"]["KeyId"].as_str()?.to_owned();
    let mut figures = Vec::new();
    for operation in Operation::ALL.into_iter().filter(|name| name.to_string().starts_with(only)) {
        eprintln!("{operation}, {connections} connections, moto ...");
        let bodies = bodies(&target, operation, &key_id).await;
        let requests = bodies.iter().map(|body| operation.request("localhost", "/", body)).collect();
        let measured = load::run(&target, || server.cpu(), Arc::new(requests), connections, time).await;
        figures.push(Moto { operation, connections, measured });
    }
    Some(figures)
}
