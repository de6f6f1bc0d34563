//! Who sent a request: a signature under an access key, or a ServiceAccount's token (design, section 5).
//!
//! | module     | what                                                                                        |
//! |------------|---------------------------------------------------------------------------------------------|
//! | [`sigv4`]  | AWS: `Authorization: AWS4-HMAC-SHA256 …`                                                    |
//! | [`acs3`]   | Alibaba, signature v3: `Authorization: ACS3-HMAC-SHA256 …`                                  |
//! | [`rpc_v1`] | Alibaba, signature v1: the parameters `Signature`, `AccessKeyId` and others                 |
//! | [`bearer`] | both: `Authorization: Bearer …`                                                             |
//! | [`nonces`] | what keeps an Alibaba request from being sent twice                                         |
//!
//! The schemes are pure: they `parse` what the request says, and `verify` it with a secret. What they have not covered is
//! refused, never ignored: a request has exactly one scheme, and a body or a header that counts is signed.
//!
//! Each request is judged in this order: its form, its time, its access key and signature, its nonce. The answers tell
//! an unknown access key from a wrong signature, as those of the clouds do. The signature is verified in both cases, so
//! that the time that it takes says nothing more.

use std::{sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{Caller, Failure, Request, alibaba::Parameters};
use crate::{
    access_keys::{AccessKeySecret, Credential, Credentials},
    clock::Clock,
    cluster::Reviews,
};
use bearer::BearerTokens;
use canonical::{at_most_one, incomplete};
use nonces::Nonces;
use signing_keys::SigningKeys;
use sigv4::SigningKey;

pub mod acs3;
pub mod bearer;
mod canonical;
mod encoding;
pub mod nonces;
pub mod rpc_v1;
mod signing_keys;
pub mod sigv4;
mod time;

#[cfg(test)]
mod tests;

/// The audience that a token has to be for.
pub const AUDIENCE: &str = "kms.cmk-operator.dev";

/// Authenticates requests.
pub struct Authenticator<C> {
    credentials: Arc<dyn Credentials>,
    clock: Arc<dyn Clock>,
    tokens: BearerTokens<C>,
    signing_keys: SigningKeys,
    nonces: Nonces,
    /// What the signature is verified with where there is no such access key. Nothing depends on the result.
    nobodys_secret: AccessKeySecret,
}

impl<C: Reviews + Clone> Authenticator<C> {
    /// An authenticator that has seen no request yet. What the API server said of a token counts for up to
    /// `max_staleness` while it does not answer.
    #[must_use]
    pub fn new(cluster: C, credentials: Arc<dyn Credentials>, clock: Arc<dyn Clock>, max_staleness: Duration) -> Self {
        Self {
            credentials,
            tokens: BearerTokens::new(cluster, clock.clone(), max_staleness),
            clock,
            signing_keys: SigningKeys::default(),
            nonces: Nonces::default(),
            nobodys_secret: AccessKeySecret::new(Zeroizing::new("0".repeat(40))),
        }
    }

    /// Who sent a request in the AWS dialect: SigV4 or a token.
    ///
    /// # Errors
    /// One of the [`Failure`]s about who.
    pub async fn aws(&self, request: &Request) -> Result<Caller, Failure> {
        match Scheme::of(request)? {
            Scheme::None => Err(Failure::NotAuthenticated),
            Scheme::SigV4 => self.sigv4(request),
            Scheme::Bearer(token) => self.tokens.authenticate(token).await,
            Scheme::Acs3 => Err(unknown_scheme()),
        }
    }

    /// Who sent a request in the Alibaba dialect: signature v1 (in the parameters), v3 (ACS3), or a token.
    ///
    /// # Errors
    /// One of the [`Failure`]s about who.
    pub async fn alibaba(&self, request: &Request, parameters: &Parameters<'_>) -> Result<Caller, Failure> {
        let scheme = Scheme::of(request)?;
        if !matches!(scheme, Scheme::None) && rpc_v1::is_attempted(parameters) {
            return Err(incomplete("there is both Authorization and a signature in the parameters: send one"));
        }
        match scheme {
            Scheme::None if rpc_v1::is_attempted(parameters) => self.rpc_v1(request, parameters),
            Scheme::None => Err(Failure::NotAuthenticated),
            Scheme::Acs3 => self.acs3(request),
            Scheme::Bearer(token) => self.tokens.authenticate(token).await,
            Scheme::SigV4 => Err(unknown_scheme()),
        }
    }

    fn sigv4(&self, request: &Request) -> Result<Caller, Failure> {
        let signed = sigv4::parse(request)?;
        signed.check_time(self.clock.now())?;
        let scope = signed.scope();
        let Some(credential) = self.credentials.credential(signed.access_key_id()) else {
            return Err(unknown(signed.verify(request, &SigningKey::derive(&self.nobodys_secret, scope))));
        };
        if let Some(key) = self.signing_keys.get(&credential, scope) {
            signed.verify(request, &key)?;
        } else {
            let key = SigningKey::derive(&credential.secret, scope);
            signed.verify(request, &key)?;
            self.signing_keys.put(&credential, scope, key);
        }
        Ok(Caller::from(&*credential))
    }

    fn acs3(&self, request: &Request) -> Result<Caller, Failure> {
        let signed = acs3::parse(request)?;
        let now = self.clock.now();
        signed.check_time(now)?;
        let credential = self.verified(signed.access_key_id(), |secret| signed.verify(request, secret))?;
        self.nonces.use_once(&credential.access_key_id, signed.nonce(), signed.valid_until(), now)?;
        Ok(Caller::from(&*credential))
    }

    fn rpc_v1(&self, request: &Request, parameters: &Parameters<'_>) -> Result<Caller, Failure> {
        let signed = rpc_v1::parse(request, parameters)?;
        let now = self.clock.now();
        signed.check_time(now)?;
        let credential = self.verified(signed.access_key_id(), |secret| signed.verify(request, parameters, secret))?;
        self.nonces.use_once(&credential.access_key_id, signed.nonce(), signed.valid_until(), now)?;
        Ok(Caller::from(&*credential))
    }

    /// The credential with an id, if the signature is its own.
    fn verified(
        &self,
        access_key_id: &str,
        verify: impl FnOnce(&AccessKeySecret) -> Result<(), Failure>,
    ) -> Result<Arc<Credential>, Failure> {
        let Some(credential) = self.credentials.credential(access_key_id) else {
            return Err(unknown(verify(&self.nobodys_secret)));
        };
        verify(&credential.secret)?;
        Ok(credential)
    }
}

/// The failure where there is no such access key, after the signature was verified in vain. What is wrong with the
/// request itself goes first, as it does where there is one.
fn unknown(verified: Result<(), Failure>) -> Failure {
    match verified {
        Ok(()) | Err(Failure::SignatureMismatch) => Failure::UnknownAccessKey,
        Err(failure) => failure,
    }
}

/// What `Authorization` begins with.
enum Scheme<'a> {
    None,
    SigV4,
    Acs3,
    Bearer(&'a str),
}

impl<'a> Scheme<'a> {
    fn of(request: &'a Request) -> Result<Self, Failure> {
        let Some(text) = at_most_one(&request.headers, "authorization")? else {
            return match request.query.contains("X-Amz-Signature=") {
                true => Err(incomplete("presigned URLs are not accepted")),
                false => Ok(Self::None),
            };
        };
        match text.split_once(' ') {
            Some((sigv4::SCHEME, _)) => Ok(Self::SigV4),
            Some((acs3::SCHEME, _)) => Ok(Self::Acs3),
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Self::Bearer(token.trim())),
            _ => Err(unknown_scheme()),
        }
    }
}

fn unknown_scheme() -> Failure {
    incomplete("the scheme of Authorization is not one that this API takes")
}
