//! Alibaba Cloud's signature version 1.0: HMAC-SHA1 over the method and all parameters, which stand in the query, or
//! partly in a form. Headers are not signed, so that none is read here: the official SDKs send some `x-acs-*`.
//!
//! Every official SDK signs with `SignatureMethod=HMAC-SHA1`, whatever its version. `SHA256withRSA`, which goes with a
//! `SignatureType`, and tokens are refused.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha1::Sha1;
use zeroize::Zeroizing;

use super::{
    canonical::incomplete,
    encoding::{encoded, encoded_twice},
    nonces::Nonce,
    time,
};
use crate::{
    access_keys::AccessKeySecret,
    server::{Failure, Request, alibaba::Parameters},
};

const SIGNATURE: &str = "Signature";
const SIGNATURE_LEN: usize = 20;

/// A request that is signed completely, as far as can be told without the secret.
pub struct Signed<'a> {
    access_key_id: &'a str,
    time: Timestamp,
    nonce: Nonce<'a>,
    signature: [u8; SIGNATURE_LEN],
}

/// Whether there is any parameter that only signed requests have.
#[must_use]
pub fn is_attempted(parameters: &Parameters<'_>) -> bool {
    [SIGNATURE, "SignatureMethod", "SignatureNonce", "AccessKeyId"].iter().any(|name| parameters.get(name).is_some())
}

/// Reads the signature of a request.
///
/// # Errors
/// [`Failure::IncompleteSignature`]: what is missing, or refused.
pub fn parse<'a>(request: &Request, parameters: &'a Parameters<'_>) -> Result<Signed<'a>, Failure> {
    if request.path != "/" {
        return Err(incomplete("the path has to be /"));
    }
    if !request.body.is_empty() && !is_form(request) {
        return Err(incomplete("the body is no form (application/x-www-form-urlencoded), so it is not signed"));
    }
    let get =
        |name: &'static str| parameters.get(name).ok_or_else(|| incomplete(format!("the parameter {name} is missing")));
    if get("SignatureMethod")? != "HMAC-SHA1" || get("SignatureVersion")? != "1.0" {
        return Err(incomplete("the SignatureMethod has to be HMAC-SHA1, and the SignatureVersion 1.0"));
    }
    if parameters.get("SignatureType").is_some_and(|kind| !kind.is_empty()) {
        return Err(incomplete("the SignatureType has to be empty"));
    }
    if parameters.get("SecurityToken").is_some() {
        return Err(incomplete("SecurityToken is not accepted: access keys of this endpoint have no session"));
    }
    let time = time::ALIBABA.parse(get("Timestamp")?);
    let time = time.ok_or_else(|| incomplete("the Timestamp is not of the form 2006-01-02T15:04:05Z"))?;
    let nonce = Nonce::new(get("SignatureNonce")?)?;
    let signature = STANDARD.decode(get(SIGNATURE)?).ok().and_then(|bytes| bytes.try_into().ok());
    let signature = signature.ok_or_else(|| incomplete("the Signature is not 20 bytes in base64"))?;
    Ok(Signed { access_key_id: get("AccessKeyId")?, time, nonce, signature })
}

fn is_form(request: &Request) -> bool {
    const FORM: &str = "application/x-www-form-urlencoded";
    let kind = request.header("content-type").unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
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
    /// [`Failure::SignatureMismatch`].
    pub fn verify(
        &self,
        request: &Request,
        parameters: &Parameters<'_>,
        secret: &AccessKeySecret,
    ) -> Result<(), Failure> {
        let key = Zeroizing::new([secret.expose().as_bytes(), b"&"].concat());
        // HMAC takes keys of every length (RFC 2104 section 2).
        #[allow(clippy::expect_used)]
        let mut mac = Hmac::<Sha1>::new_from_slice(&key).expect("HMAC accepts keys of any length");
        mac.update(request.method.as_str().as_bytes());
        let mut before = "&%2F&";
        for (name, value) in parameters.iter().filter(|(name, _)| *name != SIGNATURE) {
            // `NAME=VALUE`, each of the two encoded, with `&` before it, and all that encoded again.
            mac.update(before.as_bytes());
            encoded_twice(name).for_each(|piece| mac.update(piece.as_bytes()));
            encoded("=").for_each(|piece| mac.update(piece.as_bytes()));
            encoded_twice(value).for_each(|piece| mac.update(piece.as_bytes()));
            before = "%26";
        }
        mac.verify_slice(&self.signature).map_err(|_| Failure::SignatureMismatch)
    }
}
