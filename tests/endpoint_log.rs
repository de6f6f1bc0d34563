//! What the KMS endpoint logs: one audit line a request, and nothing that was in it. A program of its own, because it
//! captures everything that is logged.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../benches/endpoint/requests.rs"]
#[allow(dead_code)]
mod requests;
#[path = "../benches/endpoint/servers.rs"]
#[allow(dead_code)]
mod servers;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use requests::{ACCESS_KEY_ID, Operation, SECRET_ACCESS_KEY};
use sha1::Sha1;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Nothing of it may be logged, in whatever encoding.
const PLAINTEXT: &str = "a plaintext that nobody may see?>";

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn audit_lines(&self) -> Vec<serde_json::Value> {
        let lines =
            self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>();
        lines.into_iter().filter(|line| line["target"] == "cmk_operator::audit").collect()
    }
}

/// Sends a request as the last one of its connection, and answers what comes back until the server closes it. What is no
/// whole request ends with the client's half of the connection.
async fn send(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    match request.windows(2).position(|two| two == b"\r\n") {
        Some(end) => {
            let (line, rest) = request.split_at(end);
            stream.write_all(&[line, b"\r\nConnection: close", rest].concat()).await.unwrap();
        }
        None => {
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    }
    let mut answer = String::new();
    tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

fn encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// An Encrypt as Alibaba's SDKs send it: everything in the query, signed with signature v1.
fn alibaba_encrypt(key_id: &str, secret: &str, nonce: &str) -> Vec<u8> {
    let timestamp = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let plaintext = STANDARD.encode(PLAINTEXT);
    let mut parameters = [
        ("Action", "Encrypt"),
        ("Version", "2016-01-20"),
        ("Format", "JSON"),
        ("AccessKeyId", ACCESS_KEY_ID),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", nonce),
        ("Timestamp", &timestamp),
        ("KeyId", key_id),
        ("Plaintext", &plaintext),
    ];
    parameters.sort_unstable();
    let pairs: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let query = pairs.join("&");
    let mut mac = Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).unwrap();
    mac.update(format!("POST&%2F&{}", encoded(&query)).as_bytes());
    let signature = encoded(&STANDARD.encode(mac.finalize().into_bytes()));
    let line = format!("POST /?{query}&Signature={signature} HTTP/1.1");
    format!("{line}\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn assert_secret(log: &Log, answers: &[String]) {
    let text = log.text();
    let base64 = STANDARD.encode(PLAINTEXT);
    let blobs = answers.iter().filter_map(|answer| {
        let body = answer.split("\r\n\r\n").nth(1)?;
        serde_json::from_str::<serde_json::Value>(body).ok()?["CiphertextBlob"].as_str().map(str::to_owned)
    });
    let secrets = [PLAINTEXT.into(), encoded(PLAINTEXT), encoded(&base64), base64, SECRET_ACCESS_KEY.into()];
    for secret in secrets.into_iter().chain(blobs) {
        assert!(!text.contains(&secret), "{secret} was logged:\n{text}");
    }
    for word in ["Plaintext=", "Action=", "Signature=", "/?"] {
        assert!(!text.contains(word), "a URI was logged:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_logged_once_and_nothing_that_is_in_it() {
    let log = Log::default();
    let writer = log.clone();
    // Everything, of every crate.
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let (endpoint, key_id) = servers::over_a_double().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(servers::listen_for(endpoint, listener, None));

    let body = format!(r#"{{"KeyId":"{key_id}","Plaintext":"{}"}}"#, STANDARD.encode(PLAINTEXT));
    let aws = Operation::Encrypt(0).request("localhost", "/", &body);
    let text = String::from_utf8(aws.clone()).unwrap();
    let sent = [
        (aws, "200", "ok"),
        (text.replace("Signature=", "Signature=0").into_bytes(), "400", "IncompleteSignature"),
        (alibaba_encrypt(&key_id, SECRET_ACCESS_KEY, "1"), "200", "ok"),
        (alibaba_encrypt(&key_id, "another", "2"), "400", "SignatureMismatch"),
        (alibaba_encrypt("no-such-key", SECRET_ACCESS_KEY, "3"), "404", "KeyNotFound"),
        (text.replace("TrentService.", "Other.").into_bytes(), "400", "NoDialect"),
        (text.replace("POST / ", "POST /?Action=Encrypt ").into_bytes(), "400", "TwoDialects"),
        (format!("GET /?Plaintext={PLAINTEXT}").replace(' ', "+").into_bytes(), "400", ""),
        (b"GET /?Plaintext=%zz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), "400", "Malformed"),
    ];
    let mut answers = Vec::new();
    for (request, status, result) in &sent {
        let answer = send(&address, request).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")) || result.is_empty(), "{result}: {answer}");
        answers.push(answer);
    }
    let lines = log.audit_lines();
    let results: Vec<_> = lines.iter().map(|line| line["fields"]["result"].as_str().unwrap()).collect();
    let expected: Vec<_> = sent.iter().map(|(_, _, result)| *result).filter(|result| !result.is_empty()).collect();
    assert_eq!(results, expected);
    assert_secret(&log, &answers);

    for (line, dialect) in [(&lines[0], "aws"), (&lines[2], "alibaba")] {
        let fields = &line["fields"];
        assert_eq!(fields["caller"], "system:serviceaccount:shop:orders-api");
        assert_eq!((&fields["access_key_id"], &fields["dialect"]), (&ACCESS_KEY_ID.into(), &dialect.into()));
        assert_eq!((&fields["operation"], &fields["key_id"]), (&"Encrypt".into(), &key_id.clone().into()));
        let request_id = fields["request_id"].as_str().unwrap();
        assert!(
            answers.iter().any(|answer| answer.contains(&format!("-request-id: {request_id}\r\n"))
                || answer.contains(&format!("x-amzn-requestid: {request_id}\r\n"))),
            "{fields}"
        );
    }
}
