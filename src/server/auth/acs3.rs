//! Alibaba Cloud's signature version 3, `ACS3-HMAC-SHA256`: like SigV4, with the secret itself as the key, and with a
//! nonce. The variants with RSA and SM3 are refused.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    canonical::{self, Fields, exactly_one, incomplete},
    encoding::encoded,
    nonces::Nonce,
    time,
};
use crate::{
    access_keys::AccessKeySecret,
    server::{Failure, Request, alibaba::Parameters},
};

/// The scheme in `Authorization`.
pub const SCHEME: &str = "ACS3-HMAC-SHA256";

/// A request that is signed completely, as far as can be told without the secret.
pub struct Signed<'a> {
    access_key_id: &'a str,
    time: Timestamp,
    nonce: Nonce<'a>,
    fields: Fields<'a>,
}

/// Reads the signature of a request, of which `Authorization` begins with [`SCHEME`].
///
/// # Errors
/// [`Failure::IncompleteSignature`]: what is missing, or refused.
pub fn parse(request: &Request) -> Result<Signed<'_>, Failure> {
    if request.path != "/" {
        return Err(incomplete("the path has to be /"));
    }
    let headers = &request.headers;
    let text = exactly_one(headers, "authorization")?;
    let text = text.strip_prefix(SCHEME).and_then(|text| text.strip_prefix(' '));
    let fields = Fields::parse(text.ok_or_else(|| incomplete("Authorization does not begin with ACS3-HMAC-SHA256"))?)?;
    if fields.credential.is_empty() {
        return Err(incomplete("the Credential is empty"));
    }
    if headers.contains_key("x-acs-security-token") {
        return Err(incomplete("x-acs-security-token is not accepted: access keys of this endpoint have no session"));
    }
    let time = time::ALIBABA.parse(exactly_one(headers, "x-acs-date")?);
    let time = time.ok_or_else(|| incomplete("x-acs-date is not of the form 2006-01-02T15:04:05Z"))?;
    let nonce = Nonce::new(exactly_one(headers, "x-acs-signature-nonce")?)?;

    exactly_one(headers, "host")?;
    fields.signed_headers.require("host")?;
    exactly_one(headers, "x-acs-action")?;
    fields.signed_headers.require_all_with("x-acs-", headers)?;
    // It says how the body is read. Without a body it says nothing, and some HTTP clients add it after signing.
    if !request.body.is_empty() && headers.contains_key("content-type") {
        exactly_one(headers, "content-type")?;
        fields.signed_headers.require("content-type")?;
    }
    Ok(Signed { access_key_id: fields.credential, time, nonce, fields })
}

impl<'a> Signed<'a> {
    /// The access key that it says.
    #[must_use]
    pub fn access_key_id(&self) -> &'a str {
        self.access_key_id
    }

    /// Its nonce: to be used once, after the signature was verified.
    #[must_use]
    pub fn nonce(&self) -> Nonce<'a> {
        self.nonce
    }

    /// Until when [`Signed::check_time`] accepts it.
    #[must_use]
    pub fn valid_until(&self) -> Timestamp {
        time::ALIBABA.valid_until(self.time)
    }

    /// Whether it was signed at most fifteen minutes ago, and for at most fifteen minutes ahead.
    ///
    /// # Errors
    /// [`Failure::IllegalTimestamp`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), Failure> {
        time::ALIBABA.check(self.time, now)
    }

    /// Whether the signature is the one that the secret makes over the request that this was [`parse`]d from.
    ///
    /// # Errors
    /// [`Failure::SignatureMismatch`]. [`Failure::IncompleteSignature`]: a header that is said to be signed is not
    /// there, or `x-acs-content-sha256` is not the hash of the body. [`Failure::Malformed`]: the query can't be read.
    pub fn verify(&self, request: &Request, secret: &AccessKeySecret) -> Result<(), Failure> {
        let body_hash = canonical::hash_of(&request.body);
        if exactly_one(&request.headers, "x-acs-content-sha256")?.as_bytes() != body_hash {
            return Err(incomplete("x-acs-content-sha256 is not the hash of the body"));
        }
        let mut hash = canonical::begin(request);
        add_query(&request.query, &mut hash)?;
        let hash = canonical::finish(hash, request, self.fields.signed_headers, &body_hash)?;
        // HMAC takes keys of every length (RFC 2104 section 2).
        #[allow(clippy::expect_used)]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC accepts keys of any length");
        mac.update(SCHEME.as_bytes());
        mac.update(b"\n");
        mac.update(&hash);
        mac.verify_slice(&self.fields.signature).map_err(|_| Failure::SignatureMismatch)
    }
}

/// `name=value&…`, encoded anew and sorted by name. A form in the body is not in it: the body's hash is signed.
fn add_query(query: &str, hash: &mut Sha256) -> Result<(), Failure> {
    let parameters = Parameters::parse(query, "").map_err(|error| Failure::Malformed(error.to_string()))?;
    for (index, (name, value)) in parameters.iter().enumerate() {
        if index > 0 {
            hash.update(b"&");
        }
        encoded(name).for_each(|piece| hash.update(piece));
        hash.update(b"=");
        encoded(value).for_each(|piece| hash.update(piece));
    }
    Ok(())
}
