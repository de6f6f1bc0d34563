//! AWS Signature Version 4 over a request to KMS.
//!
//! The date is `X-Amz-Date`: the official SDKs always send it. The body's hash is always computed here.
//! `UNSIGNED-PAYLOAD`, streamed payloads, presigned URLs and session tokens are refused; so are another path than `/`
//! and a query, since no operation of KMS has them. An identical retry is legal: there is no nonce.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::{
    canonical::{self, Fields, at_most_one, exactly_one, incomplete},
    time,
};
use crate::{
    access_keys::AccessKeySecret,
    server::{Failure, Request},
};

/// The scheme in `Authorization`.
pub const SCHEME: &str = "AWS4-HMAC-SHA256";

const SERVICE: &str = "kms";
const TERMINATOR: &str = "aws4_request";
const MAX_REGION_LEN: usize = 64;

/// A request that is signed completely, as far as can be told without the secret.
pub struct Signed<'a> {
    access_key_id: &'a str,
    scope: Scope<'a>,
    timestamp: &'a str,
    time: Timestamp,
    fields: Fields<'a>,
}

/// What a signing key is for. The service is `kms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `20260102`.
    pub date: &'a str,
    /// Any: the endpoint has none.
    pub region: &'a str,
}

/// Reads the signature of a request, of which `Authorization` begins with [`SCHEME`].
///
/// # Errors
/// [`Failure::IncompleteSignature`]: what is missing, or refused.
pub fn parse(request: &Request) -> Result<Signed<'_>, Failure> {
    if request.path != "/" || !request.query.is_empty() {
        return Err(incomplete("KMS has no path but / and no query; presigned URLs are not accepted"));
    }
    let headers = &request.headers;
    let text = exactly_one(headers, "authorization")?;
    let text = text.strip_prefix(SCHEME).and_then(|text| text.strip_prefix(' '));
    let fields = Fields::parse(text.ok_or_else(|| incomplete("Authorization does not begin with AWS4-HMAC-SHA256"))?)?;
    let (access_key_id, scope) = credential(fields.credential)?;

    if headers.contains_key("x-amz-security-token") {
        return Err(incomplete("X-Amz-Security-Token is not accepted: access keys of this endpoint have no session"));
    }
    let timestamp = exactly_one(headers, "x-amz-date")?;
    let time = time::AWS.parse(timestamp);
    let time = time.ok_or_else(|| incomplete("X-Amz-Date is not of the form 20060102T150405Z"))?;
    if !timestamp.starts_with(scope.date) {
        return Err(incomplete("the date in Credential is not the one of X-Amz-Date"));
    }

    exactly_one(headers, "host")?;
    fields.signed_headers.require("host")?;
    at_most_one(headers, "x-amz-target")?;
    fields.signed_headers.require_all_with("x-amz-", headers)?;
    if at_most_one(headers, "content-type")?.is_some() {
        fields.signed_headers.require("content-type")?;
    }
    Ok(Signed { access_key_id, scope, timestamp, time, fields })
}

/// `ID/20260102/REGION/kms/aws4_request`.
fn credential(text: &str) -> Result<(&str, Scope<'_>), Failure> {
    let mut parts = text.split('/');
    let mut next = || parts.next().unwrap_or_default();
    let (access_key_id, date, region, service, terminator) = (next(), next(), next(), next(), next());
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    let is_region = (1..=MAX_REGION_LEN).contains(&region.len());
    if access_key_id.is_empty() || !is_date || !is_region || terminator != TERMINATOR || parts.next().is_some() {
        return Err(incomplete("Credential is not of the form ID/DATE/REGION/kms/aws4_request"));
    }
    if service != SERVICE {
        return Err(incomplete("the Credential is for another service than kms"));
    }
    Ok((access_key_id, Scope { date, region }))
}

impl<'a> Signed<'a> {
    /// The access key that it says.
    #[must_use]
    pub fn access_key_id(&self) -> &'a str {
        self.access_key_id
    }

    /// What its signing key is for.
    #[must_use]
    pub fn scope(&self) -> Scope<'a> {
        self.scope
    }

    /// Whether it was signed at most five minutes ago, and for at most five minutes ahead.
    ///
    /// # Errors
    /// [`Failure::IllegalTimestamp`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), Failure> {
        time::AWS.check(self.time, now)
    }

    /// Whether the signature is the one that the key makes over the request that this was [`parse`]d from.
    ///
    /// # Errors
    /// [`Failure::SignatureMismatch`]. [`Failure::IncompleteSignature`]: a header that is said to be signed is not
    /// there, or `X-Amz-Content-SHA256` is not the hash of the body.
    pub fn verify(&self, request: &Request, key: &SigningKey) -> Result<(), Failure> {
        let body_hash = canonical::hash_of(&request.body);
        if let Some(said) = at_most_one(&request.headers, "x-amz-content-sha256")?
            && said.as_bytes() != body_hash
        {
            return Err(incomplete("X-Amz-Content-SHA256 is not the hash of the body, which has to be signed"));
        }
        let hash = canonical::begin(request);
        let hash = canonical::finish(hash, request, self.fields.signed_headers, &body_hash)?;
        let mut mac = key.0.clone();
        for part in [SCHEME, "\n", self.timestamp, "\n", self.scope.date, "/", self.scope.region] {
            mac.update(part.as_bytes());
        }
        mac.update(b"/kms/aws4_request\n");
        mac.update(&hash);
        mac.verify_slice(&self.fields.signature).map_err(|_| Failure::SignatureMismatch)
    }
}

/// The key that signatures of one access key, date and region are made with. It can't be printed, and is wiped when
/// dropped.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Derives the key.
    #[must_use]
    pub fn derive(secret: &AccessKeySecret, scope: Scope<'_>) -> Self {
        Self::derive_for(secret, scope, SERVICE)
    }

    fn derive_for(secret: &AccessKeySecret, scope: Scope<'_>, service: &str) -> Self {
        let first = Zeroizing::new([b"AWS4", secret.expose().as_bytes()].concat());
        let steps = [scope.date, scope.region, service, TERMINATOR];
        let last = steps.iter().fold(keyed(&first), |mut mac, step| {
            mac.update(step.as_bytes());
            let mut derived: [u8; canonical::HASH_LEN] = mac.finalize().into_bytes().into();
            let next = keyed(&derived);
            derived.zeroize();
            next
        });
        Self(last)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of every length (RFC 2104 section 2).
    #[allow(clippy::expect_used)]
    Hmac::new_from_slice(key).expect("HMAC accepts keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the AWS General Reference, "Deriving the signing key".
    #[test]
    fn the_published_signing_key_is_derived() {
        let secret = AccessKeySecret::new(Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()));
        let scope = Scope { date: "20150830", region: "us-east-1" };
        let key = SigningKey::derive_for(&secret, scope, "iam");
        // The key itself can't be read; the published example's signature is made with it.
        let to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                       f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        let mut mac = key.0;
        mac.update(to_sign.as_bytes());
        let signature: [u8; 32] = mac.finalize().into_bytes().into();
        let expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(std::str::from_utf8(&canonical::to_hex(&signature)), Ok(expected));
    }
}
