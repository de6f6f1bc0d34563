//! What SigV4 and ACS3 have in common: the fields of `Authorization`, the signed headers, and the hash of the canonical
//! request.
//!
//! The canonical request is never built as text: its pieces go to the hash as they lie in the request.

use hyper::HeaderMap;
use sha2::{Digest, Sha256};

use crate::server::{Failure, Request};

/// The length of an HMAC-SHA-256, and of a SHA-256.
pub(super) const HASH_LEN: usize = 32;

/// A request whose signature, or what the signature has to cover, is not as it has to be.
pub(super) fn incomplete(sentence: impl Into<String>) -> Failure {
    Failure::IncompleteSignature(sentence.into())
}

/// The one value of a header; None: it is absent.
///
/// # Errors
/// It is there more than once, or is not visible ASCII.
pub(super) fn at_most_one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(incomplete(format!("the header {name} is given more than once")));
    }
    value.to_str().map(Some).map_err(|_| incomplete(format!("the header {name} is not visible ASCII")))
}

/// The one value of a header.
///
/// # Errors
/// It is absent, there more than once, or not visible ASCII.
pub(super) fn exactly_one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Failure> {
    at_most_one(headers, name)?.ok_or_else(|| incomplete(format!("the header {name} is missing")))
}

/// What stands after the scheme in `Authorization`.
pub(super) struct Fields<'a> {
    /// `Credential=`.
    pub(super) credential: &'a str,
    /// `SignedHeaders=`.
    pub(super) signed_headers: SignedHeaders<'a>,
    /// `Signature=`.
    pub(super) signature: [u8; HASH_LEN],
}

impl<'a> Fields<'a> {
    /// Reads `Credential=…, SignedHeaders=…, Signature=…`: in any order, each once, nothing else; spaces around the
    /// commas may be left out.
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) = field.trim_matches(' ').split_once('=').unwrap_or_default();
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(incomplete("Authorization has a part that is not NAME=VALUE with a name known here")),
            };
            if slot.replace(value).is_some() {
                return Err(incomplete(format!("Authorization has {name} more than once")));
            }
        }
        let missing = |name| move || incomplete(format!("Authorization has no {name}"));
        let signature = signature.ok_or_else(missing("Signature"))?;
        Ok(Self {
            credential: credential.ok_or_else(missing("Credential"))?,
            signed_headers: SignedHeaders::parse(signed_headers.ok_or_else(missing("SignedHeaders"))?)?,
            signature: from_hex(signature)
                .ok_or_else(|| incomplete("the Signature is not 64 lower-case hexadecimal digits"))?,
        })
    }
}

/// The names of the headers that are signed: `host;x-amz-date`, sorted.
#[derive(Clone, Copy)]
pub(super) struct SignedHeaders<'a>(&'a str);

impl<'a> SignedHeaders<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        let is_name = |name: &str| {
            let is_lower_case = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && byte != b':';
            !name.is_empty() && name.bytes().all(is_lower_case)
        };
        let this = Self(text);
        if !this.iter().all(is_name) || !this.iter().is_sorted_by(|earlier, later| earlier < later) {
            return Err(incomplete("SignedHeaders is not a list of names in lower case, sorted, with ; between them"));
        }
        Ok(this)
    }

    fn iter(self) -> impl Iterator<Item = &'a str> {
        self.0.split(';')
    }

    fn contains(self, name: &str) -> bool {
        self.iter().any(|signed| signed == name)
    }

    /// Whether a header that has to be signed is.
    pub(super) fn require(self, name: &str) -> Result<(), Failure> {
        if self.contains(name) {
            return Ok(());
        }
        Err(incomplete(format!("the header {name} has to be signed")))
    }

    /// Whether all headers of the request with a prefix are signed.
    pub(super) fn require_all_with(self, prefix: &str, headers: &HeaderMap) -> Result<(), Failure> {
        headers.keys().map(hyper::header::HeaderName::as_str).filter(|name| name.starts_with(prefix)).try_for_each(
            // A name of the request is in lower case, as tokens are: it can be shown.
            |name| self.require(name),
        )
    }
}

/// Begins the hash of a canonical request; the caller adds the canonical query. The path is `/`.
pub(super) fn begin(request: &Request) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(request.method.as_str());
    hash.update(b"\n/\n");
    hash
}

/// Adds what comes after the query, and finishes.
///
/// # Errors
/// A header that is said to be signed is not there.
pub(super) fn finish(
    mut hash: Sha256,
    request: &Request,
    signed_headers: SignedHeaders<'_>,
    body_hash: &[u8; 2 * HASH_LEN],
) -> Result<[u8; 2 * HASH_LEN], Failure> {
    hash.update(b"\n");
    for name in signed_headers.iter() {
        hash.update(name);
        let mut before: &[u8] = b":";
        for value in request.headers.get_all(name) {
            hash.update(before);
            trimmed(value.as_bytes(), &mut hash);
            before = b",";
        }
        if before == b":" {
            return Err(incomplete("a header that SignedHeaders lists is not in the request"));
        }
        hash.update(b"\n");
    }
    hash.update(b"\n");
    hash.update(signed_headers.0);
    hash.update(b"\n");
    hash.update(body_hash);
    Ok(to_hex(&hash.finalize().into()))
}

/// Adds a value without the white space around it, and with one space for each run of white space in it.
fn trimmed(value: &[u8], hash: &mut Sha256) {
    let value = value.trim_ascii();
    let is_plain = value.windows(2).all(|pair| pair[0] != b'\t' && !(pair[0] == b' ' && pair[1] == b' '));
    if is_plain {
        return hash.update(value);
    }
    let words = value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            hash.update(b" ");
        }
        hash.update(word);
    }
}

/// The SHA-256 of a body, in hexadecimal digits.
pub(super) fn hash_of(body: &[u8]) -> [u8; 2 * HASH_LEN] {
    to_hex(&Sha256::digest(body).into())
}

/// Lower-case hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8; HASH_LEN]) -> [u8; 2 * HASH_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 2 * HASH_LEN];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
}

/// What lower-case hexadecimal digits stand for.
fn from_hex(text: &str) -> Option<[u8; HASH_LEN]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 2 * HASH_LEN] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; HASH_LEN];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
