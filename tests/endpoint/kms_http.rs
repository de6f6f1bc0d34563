//! A client of the endpoint without TLS, in the time of the test: SigV4 for AWS, ACS3 for Alibaba.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use cmk_operator::clock::Clock;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    application::Credentials,
    support::{clock::TestClock, eventually, world::SOON},
};

const REGION: &str = "cn-hangzhou";

/// Longer than a request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The code of an error, in either dialect; empty for a success.
    pub fn code(&self) -> &str {
        self.body["__type"].as_str().or_else(|| self.body["Code"].as_str()).unwrap_or_default()
    }

    /// The body of a success.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }
}

/// Whoever calls an endpoint.
pub struct Client<'a> {
    pub address: SocketAddr,
    pub credentials: &'a Credentials,
    pub clock: &'a TestClock,
}

impl Client<'_> {
    /// An operation of AWS KMS.
    pub async fn aws(&self, operation: &str, body: &Value) -> Answer {
        let Credentials { access_key_id, secret_access_key } = self.credentials;
        let body = body.to_string();
        let time = self.clock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let (host, target) = (self.address.to_string(), format!("TrentService.{operation}"));
        let headers = [("host", &*host), ("x-amz-date", &time), ("x-amz-target", &target)];
        let (names, hash) = canonical("", &headers, &body);
        let scope = format!("{date}/{REGION}/kms/aws4_request");
        let parts = [date, REGION, "kms", "aws4_request"];
        let first = format!("AWS4{secret_access_key}").into_bytes();
        let key = parts.iter().fold(first, |key, part| hmac(&key, part));
        let signature = hex(&hmac(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}")));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        );
        self.send("/", &headers, &authorization, &body).await
    }

    /// An action of Alibaba Cloud KMS, its parameters in the query. They are text of unreserved characters and base64.
    pub async fn alibaba(&self, action: &str, parameters: &[(&str, &str)]) -> Answer {
        let Credentials { access_key_id, secret_access_key } = self.credentials;
        let mut pairs: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        pairs.sort_unstable();
        let query = pairs.join("&");
        let (host, empty) = (self.address.to_string(), hex(&Sha256::digest("")));
        let time = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let nonce = format!("{:032x}", rand::random::<u128>());
        let headers = [
            ("host", &*host),
            ("x-acs-action", action),
            ("x-acs-content-sha256", &empty),
            ("x-acs-date", &time),
            ("x-acs-signature-nonce", &nonce),
            ("x-acs-version", "2016-01-20"),
        ];
        let (names, hash) = canonical(&query, &headers, "");
        let signature = hex(&hmac(secret_access_key.as_bytes(), &format!("ACS3-HMAC-SHA256\n{hash}")));
        let authorization =
            format!("ACS3-HMAC-SHA256 Credential={access_key_id},SignedHeaders={names},Signature={signature}");
        self.send(&format!("/?{query}"), &headers, &authorization, "").await
    }

    /// Encrypts something.
    pub async fn encrypt(&self, id: &str) -> Answer {
        self.aws("Encrypt", &json!({"KeyId": id, "Plaintext": STANDARD.encode("hello")})).await
    }

    /// Waits until a key encrypts.
    pub async fn encrypts(&self, id: &str) {
        eventually("the key to encrypt", SOON, async || match self.encrypt(id).await {
            answer if answer.status == 200 => Ok(()),
            refused => Err(format!("{refused:?}")),
        })
        .await;
    }

    async fn send(&self, target: &str, headers: &[(&str, &str)], authorization: &str, body: &str) -> Answer {
        let mut request = format!("POST {target} HTTP/1.1\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        let length = body.len();
        write!(
            request,
            "authorization: {authorization}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("the endpoint answers");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        Answer { status, body }
    }
}

/// The names of the signed headers, and the hash of the canonical request: the same in SigV4 and ACS3.
fn canonical(query: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let hash = hex(&Sha256::digest(body));
    let text = format!("POST\n/\n{query}\n{lines}\n{names}\n{hash}");
    (names, hex(&Sha256::digest(text)))
}

fn encoded(value: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    value.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
