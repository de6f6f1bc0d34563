//! Who sent a request: a signature under an access key, or a ServiceAccount's token (design, section 5).

pub mod bearer;

use std::sync::Arc;

use super::{Caller, Failure, Request, alibaba::Parameters};
use crate::{access_keys::Credentials, clock::Clock, cluster::Reviews};

/// The audience that a token has to be for.
pub const AUDIENCE: &str = "kms.cmk-operator.dev";

/// Authenticates requests.
pub struct Authenticator<C> {
    cluster: C,
    credentials: Arc<dyn Credentials>,
    clock: Arc<dyn Clock>,
}

impl<C: Reviews> Authenticator<C> {
    /// An authenticator that has seen no request yet.
    #[must_use]
    pub fn new(cluster: C, credentials: Arc<dyn Credentials>, clock: Arc<dyn Clock>) -> Self {
        Self { cluster, credentials, clock }
    }

    /// Who sent a request in the AWS dialect: SigV4 or a token.
    ///
    /// # Errors
    /// One of the [`Failure`]s about who.
    pub async fn aws(&self, request: &Request) -> Result<Caller, Failure> {
        let _ = (request, &self.cluster, &self.credentials, &self.clock);
        Err(Failure::NotAuthenticated)
    }

    /// Who sent a request in the Alibaba dialect: signature v1 (in the parameters), v3 (ACS3), or a token.
    ///
    /// # Errors
    /// One of the [`Failure`]s about who.
    pub async fn alibaba(&self, request: &Request, parameters: &Parameters<'_>) -> Result<Caller, Failure> {
        let _ = (request, parameters);
        Err(Failure::NotAuthenticated)
    }
}
