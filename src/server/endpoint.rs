//! A request's way through the endpoint: dialect, who, what, the reply, the audit line.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::{Method, StatusCode};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Call, Caller, Failure, Reply, Request,
    alibaba::Parameters,
    audit::Entry,
    auth::Authenticator,
    dialects::{self, Asked},
    metrics::EndpointMetrics,
    operations::{EndpointCluster, Kms},
};
use crate::{
    crypto::{Random, random_uuid},
    kms::Dialect,
    store::KeyStore,
    trace::{self, Span},
};

/// What a request gets as the type of an answer that is in neither dialect.
const PLAIN: &str = "text/plain; charset=utf-8";

/// The name of a span whose request asks for nothing that is known.
const REQUEST: &str = "request";

/// A request that has come, as far as it was read.
pub struct Arrival {
    /// The request.
    pub request: Request,
    /// Who sent it, by address.
    pub peer: SocketAddr,
    /// Why it was not read as a whole: the body was too long, or took too long.
    pub refused: Option<Failure>,
}

/// What goes back.
pub struct Answer {
    /// Status and body.
    pub reply: Reply,
    /// The header that tells the request's id, and the id. None: the request was in neither dialect.
    pub request_id: Option<(&'static str, Uuid)>,
}

/// The endpoint.
pub struct Endpoint<C, S> {
    kms: Kms<C, S>,
    authenticator: Authenticator<C>,
    random: Arc<dyn Random>,
    metrics: EndpointMetrics,
    /// How long an operation may take.
    patience: Duration,
}

impl<C: EndpointCluster, S: KeyStore> Endpoint<C, S> {
    /// An endpoint for these operations and callers.
    #[must_use]
    pub fn new(
        kms: Kms<C, S>,
        authenticator: Authenticator<C>,
        random: Arc<dyn Random>,
        metrics: EndpointMetrics,
        patience: Duration,
    ) -> Self {
        Self { kms, authenticator, random, metrics, patience }
    }

    /// The operations.
    #[must_use]
    pub fn kms(&self) -> &Kms<C, S> {
        &self.kms
    }

    /// Answers a request, whatever it is, writes its audit line, and ends its span.
    pub async fn answer(&self, arrival: Arrival) -> Answer {
        let request_id = match random_uuid(&*self.random) {
            Ok(request_id) => request_id,
            Err(error) => {
                tracing::error!(%error, "a request can't be answered without randomness");
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "there is no randomness: see the operator's log\n");
            }
        };
        let mut entry = Entry::new(&self.metrics, request_id, arrival.peer);
        entry.span = Span::of_request(REQUEST, |name| arrival.request.header(name));
        let answer = self.answer_for(&mut entry, arrival).await;
        entry.status = Some(answer.reply.status);
        answer
    }

    async fn answer_for(&self, entry: &mut Entry<'_>, arrival: Arrival) -> Answer {
        let Arrival { request, refused, .. } = arrival;
        if request.path != "/" {
            entry.result = "NotFound";
            return plain(StatusCode::NOT_FOUND, "both KMS APIs are at /\n");
        }
        let form = dialects::form(&request);
        let parameters = match form.and_then(|form| Parameters::parse(&request.query, form)) {
            Ok(parameters) => parameters,
            Err(error) => {
                let format = dialects::readable(&request);
                let parameters = Parameters::parse(&format, "").unwrap_or_default();
                let dialect = dialects::dialect_by_headers(&request);
                entry.dialect = Some(dialect);
                return refuse(entry, dialect, &Failure::Malformed(error.to_string()), &request, &parameters);
            }
        };
        let (dialect, operation) = match dialects::asked(&request, &parameters) {
            Asked::Aws(operation) => (Dialect::Aws, operation),
            Asked::Alibaba(action) => (Dialect::Alibaba, action),
            Asked::Both => {
                entry.result = "TwoDialects";
                return plain(StatusCode::BAD_REQUEST, "the request is in two dialects: X-Amz-Target and Action\n");
            }
            Asked::Nothing => {
                if let Some(failure) = refused {
                    entry.result = failure.name();
                    return plain(StatusCode::BAD_REQUEST, &format!("{failure}\n"));
                }
                entry.result = "NoDialect";
                return plain(
                    StatusCode::BAD_REQUEST,
                    "this is a KMS endpoint: it takes AWS KMS requests (X-Amz-Target: TrentService.Encrypt) and Alibaba \
                     Cloud KMS requests (Action=Encrypt)\n",
                );
            }
        };
        entry.dialect = Some(dialect);
        entry.operation = dialects::known(dialect, operation);
        let done = match refused {
            Some(failure) => Err(failure),
            None => self.carry_out(entry, dialect, operation, &request, &parameters).await,
        };
        match done {
            Ok(reply) => {
                entry.result = "ok";
                Answer { reply, request_id: Some((header(dialect), entry.request_id)) }
            }
            Err(failure) => refuse(entry, dialect, &failure, &request, &parameters),
        }
    }

    async fn carry_out(
        &self,
        entry: &mut Entry<'_>,
        dialect: Dialect,
        operation: &str,
        request: &Request,
        parameters: &Parameters<'_>,
    ) -> Result<Reply, Failure> {
        if request.method != Method::POST && (dialect == Dialect::Aws || request.method != Method::GET) {
            return Err(Failure::UnsupportedMethod(request.method.to_string()));
        }
        let (request_id, span) = (entry.request_id, entry.span.clone());
        let work = async {
            let caller = self.authenticate(dialect, request, parameters).await?;
            let call = entry.call.insert(Call::new(caller, dialect));
            dialects::answer(&self.kms, call, operation, (request, parameters), request_id).await
        };
        match tokio::time::timeout(self.patience, trace::within(span.as_ref(), work)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Unavailable(format!("no result within {} s", self.patience.as_secs()))),
        }
    }

    async fn authenticate(
        &self,
        dialect: Dialect,
        request: &Request,
        parameters: &Parameters<'_>,
    ) -> Result<Caller, Failure> {
        match dialect {
            Dialect::Aws => self.authenticator.aws(request).await,
            Dialect::Alibaba => self.authenticator.alibaba(request, parameters).await,
        }
    }
}

fn refuse(
    entry: &mut Entry<'_>,
    dialect: Dialect,
    failure: &Failure,
    request: &Request,
    parameters: &Parameters<'_>,
) -> Answer {
    let request_id = entry.request_id;
    entry.result = failure.name();
    if let Failure::Internal(detail) = failure {
        // The client is not told.
        tracing::error!(%request_id, detail, "a request failed");
    }
    let reply = dialects::refuse(dialect, failure, request, parameters, request_id);
    Answer { reply, request_id: Some((header(dialect), request_id)) }
}

fn header(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Aws => "x-amzn-requestid",
        Dialect::Alibaba => "x-acs-request-id",
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let body = Zeroizing::new(text.as_bytes().to_vec());
    Answer { reply: Reply { status, content_type: PLAIN, body }, request_id: None }
}
