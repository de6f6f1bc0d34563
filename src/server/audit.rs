//! The audit line: one a request, with who, what, on which key, and how it ended. Never what was in the request:
//! Alibaba clients put the plaintext into the query. The span of a request says the same, but for who.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hyper::StatusCode;
use uuid::Uuid;

use super::{Call, metrics::EndpointMetrics};
use crate::{
    kms::Dialect,
    trace::{KeyValue, Span},
};

/// Where audit lines go: `--log-level` can turn them off by this name.
pub const TARGET: &str = "cmk_operator::audit";

/// The result of a request that nobody waited for: the client went away, or the endpoint stopped.
const ABANDONED: &str = "Abandoned";

/// The result of a request that a key refused because it is to be deleted: [`Failure::name`](super::Failure::name).
const PENDING_DELETION: &str = "PendingDeletion";

/// The attribute of a span that has the status (OpenTelemetry's semantic conventions).
const STATUS: &str = "http.response.status_code";

/// What is known about a request so far. When it is dropped, however that comes about, the line is written and the
/// request is counted.
pub struct Entry<'m> {
    metrics: &'m EndpointMetrics,
    started: Instant,
    peer: SocketAddr,
    /// The request's id, which the client is told as well.
    pub request_id: Uuid,
    /// The dialect, once it is known.
    pub dialect: Option<Dialect>,
    /// The operation, if it is one that is known: what the client calls it is not logged.
    pub operation: Option<&'static str>,
    /// The caller and the key, once they are known.
    pub call: Option<Call>,
    /// `ok`, or [`Failure::name`](super::Failure::name).
    pub result: &'static str,
    /// The HTTP status of the answer, once there is one.
    pub status: Option<StatusCode>,
    /// The request's span, while traces are on.
    pub span: Option<Span>,
}

impl<'m> Entry<'m> {
    /// The entry of a request that has just come.
    #[must_use]
    pub fn new(metrics: &'m EndpointMetrics, request_id: Uuid, peer: SocketAddr) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            started: Instant::now(),
            peer,
            request_id,
            dialect: None,
            operation: None,
            call: None,
            result: ABANDONED,
            status: None,
            span: None,
        }
    }

    /// The key that was to be used, if it was not because it is to be deleted.
    fn refused_use(&self) -> Option<Uuid> {
        let call = self.call.as_ref()?;
        let operation = self.operation?;
        let is_use =
            matches!(operation, "Encrypt" | "Decrypt" | "ReEncrypt") || operation.starts_with("GenerateDataKey");
        let pending = call.key_id.filter(|_| self.result == PENDING_DELETION);
        pending.or(call.deleted_key_id).filter(|_| is_use)
    }

    /// All values but the peer are borrowed text: formatting them costs more than sealing a small message does.
    fn write(&self, took: Duration) {
        let caller = self.call.as_ref().map(|call| &call.caller);
        let (mut key_id, mut request_id) = (Uuid::encode_buffer(), Uuid::encode_buffer());
        let key = self.call.as_ref().and_then(|call| call.key_id);
        tracing::info!(
            target: TARGET,
            caller = caller.map_or("-", |caller| caller.user.username.as_str()),
            access_key_id = caller.and_then(|caller| caller.access_key_id.as_deref()).unwrap_or("-"),
            dialect = dialect_name(self.dialect),
            operation = self.operation.unwrap_or("-"),
            key_id = key.map_or("-", |key| key.hyphenated().encode_lower(&mut key_id)),
            result = self.result,
            request_id = &*self.request_id.hyphenated().encode_lower(&mut request_id),
            duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            peer = %self.peer,
            "request"
        );
    }
}

impl Entry<'_> {
    /// Says of the span what it was, and ends it.
    fn end(&self, span: Span) {
        let (dialect, operation) = (dialect_name(self.dialect), self.operation.unwrap_or("-"));
        if self.operation.is_some() {
            span.rename(format!("{dialect} {operation}"));
        }
        span.describe([
            KeyValue::new("cmk.dialect", dialect),
            KeyValue::new("cmk.operation", operation),
            KeyValue::new("cmk.request_id", self.request_id.to_string()),
        ]);
        let key_id = self.call.as_ref().and_then(|call| call.key_id);
        span.describe(key_id.map(|key_id| KeyValue::new("cmk.key_id", key_id.to_string())));
        span.describe(self.status.map(|status| KeyValue::new(STATUS, i64::from(status.as_u16()))));
        span.end(self.result, self.status.is_some_and(|status| status.is_server_error()));
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.note(dialect_name(self.dialect), self.operation.unwrap_or("-"), self.result, took);
        if let Some(key_id) = self.refused_use() {
            self.metrics.note_refused_use(key_id);
        }
        self.write(took);
        if let Some(span) = self.span.take() {
            self.end(span);
        }
    }
}

fn dialect_name(dialect: Option<Dialect>) -> &'static str {
    match dialect {
        Some(Dialect::Alibaba) => "alibaba",
        Some(Dialect::Aws) => "aws",
        None => "-",
    }
}
