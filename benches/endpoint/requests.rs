//! Requests as an AWS SDK sends them, signed beforehand, so that the load generator only writes and reads.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub const ACCESS_KEY_ID: &str = "AKIDBENCHBENCHBENCH0";
pub const SECRET_ACCESS_KEY: &str = "benchbenchbenchbenchbenchbenchbenchbench";
/// One that moto knows; ours takes any.
const REGION: &str = "us-east-1";

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Operation {
    Encrypt(usize),
    Decrypt(usize),
    GenerateDataKey(usize),
}

impl Operation {
    pub const ALL: [Self; 6] = [
        Self::Encrypt(1024),
        Self::Encrypt(4096),
        Self::Decrypt(1024),
        Self::Decrypt(4096),
        Self::GenerateDataKey(32),
        Self::GenerateDataKey(1024),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Encrypt(_) => "Encrypt",
            Self::Decrypt(_) => "Decrypt",
            Self::GenerateDataKey(_) => "GenerateDataKey",
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Self::Encrypt(bytes) | Self::Decrypt(bytes) | Self::GenerateDataKey(bytes) => bytes,
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.bytes() {
            bytes if bytes >= 1024 => write!(f, "{} {} KiB", self.name(), bytes / 1024),
            bytes => write!(f, "{} {bytes} B", self.name()),
        }
    }
}

const CONTEXT: &str = r#""EncryptionContext":{"app":"shop"}"#;

/// The body of the `index`th Encrypt or GenerateDataKey: no two have the same plaintext.
pub fn body(operation: Operation, key_id: &str, index: usize) -> String {
    match operation {
        Operation::Encrypt(bytes) => {
            let mut plaintext = vec![0; bytes];
            for (at, byte) in plaintext.iter_mut().enumerate() {
                *byte = (at * 31 + index * 7) as u8;
            }
            plaintext[..8].copy_from_slice(&(index as u64).to_be_bytes());
            format!(r#"{{"KeyId":"{key_id}","Plaintext":"{}",{CONTEXT}}}"#, STANDARD.encode(plaintext))
        }
        Operation::GenerateDataKey(bytes) => format!(r#"{{"KeyId":"{key_id}","NumberOfBytes":{bytes},{CONTEXT}}}"#),
        Operation::Decrypt(_) => unreachable!("see `decrypt_body`"),
    }
}

/// The body of a Decrypt of what an Encrypt answered.
pub fn decrypt_body(encrypted: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(encrypted).expect("Encrypt answers JSON");
    let blob = answer["CiphertextBlob"].as_str().unwrap_or_else(|| panic!("Encrypt failed: {answer}"));
    format!(r#"{{"CiphertextBlob":"{blob}",{CONTEXT}}}"#)
}

/// The bytes of a request, signed now. `path` is `/` for a KMS, and how much to answer for the bare server, which looks
/// at nothing else.
pub fn signed(host: &str, path: &str, operation: &str, body: &str) -> Vec<u8> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    let target = format!("TrentService.{operation}");
    let kind = "application/x-amz-json-1.1";
    let hash = hex(&Sha256::digest(body.as_bytes()));
    let signed_headers = "content-type;host;x-amz-date;x-amz-target";
    let canonical = format!(
        "POST\n/\n\ncontent-type:{kind}\nhost:{host}\nx-amz-date:{time}\nx-amz-target:{target}\n\n{signed_headers}\n{hash}"
    );
    let scope = format!("{date}/{REGION}/kms/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{SECRET_ACCESS_KEY}").into_bytes();
    for part in [date, REGION, "kms", "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &text));
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\nX-Amz-Target: {target}\r\n\
         Content-Type: {kind}\r\nUser-Agent: Boto3/1.40 md/Botocore#1.40 ua/2.1 os/linux lang/python#3.11\r\n\
         X-Amz-Date: {time}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope}, \
         SignedHeaders={signed_headers}, Signature={signature}\r\namz-sdk-invocation-id: \
         2c1a5d3e-1f9c-4d0a-b1c3-5a8d1c0f7e11\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

impl Operation {
    /// A request for it.
    pub fn request(self, host: &str, path: &str, body: &str) -> Vec<u8> {
        signed(host, path, self.name(), body)
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
