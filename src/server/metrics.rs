//! What the endpoint counts. Labels have few values: operations that are known, and names of failures.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use uuid::Uuid;

/// Labels of a request.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct RequestLabels {
    /// `aws`, `alibaba`, or `-`.
    pub dialect: &'static str,
    /// An operation that is known, or `-`.
    pub operation: &'static str,
    /// `ok`, or the name of a failure.
    pub result: &'static str,
}

/// Labels of how long requests took.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct DurationLabels {
    /// As in [`RequestLabels`].
    pub dialect: &'static str,
    /// As in [`RequestLabels`].
    pub operation: &'static str,
}

/// Labels of what a listener counts.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct ListenerLabels {
    /// `tls` or `plain`.
    pub listener: &'static str,
}

/// What the endpoint counts.
#[derive(Clone, Debug)]
pub struct EndpointMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<DurationLabels, Histogram, fn() -> Histogram>,
    /// How often each key was not used because it is to be deleted.
    refused: Arc<Mutex<HashMap<Uuid, u64>>>,
    /// Requests that are being answered.
    pub in_flight: Gauge,
    /// Connections that are open.
    pub connections: Family<ListenerLabels, Gauge>,
    /// How often no connection was taken because as many as are allowed were open.
    pub connections_full: Family<ListenerLabels, Counter>,
    /// How long ago the API server answered this replica.
    pub staleness_seconds: Gauge<f64, AtomicU64>,
    /// Handshakes that failed, or took too long.
    pub tls_failures: Counter,
}

impl Default for EndpointMetrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || {
            Histogram::new([
                0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
            ])
        };
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            refused: Arc::default(),
            in_flight: Gauge::default(),
            connections: Family::default(),
            connections_full: Family::default(),
            staleness_seconds: Gauge::default(),
            tls_failures: Counter::default(),
        }
    }
}

impl EndpointMetrics {
    /// Has all of it shown with `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "kms_requests",
            "Requests to the KMS endpoint by dialect, operation and result",
            self.requests.clone(),
        );
        registry.register("kms_request_duration_seconds", "Duration of requests to it", self.seconds.clone());
        registry.register("kms_requests_in_flight", "Requests being answered", self.in_flight.clone());
        registry.register("kms_connections", "Open connections by listener", self.connections.clone());
        registry.register(
            "kms_connections_full",
            "How often as many connections as allowed were open, and the next had to wait",
            self.connections_full.clone(),
        );
        registry.register(
            "kms_staleness_seconds",
            "How long ago this replica last knew all that the API server knows; beyond --max-staleness operations are refused",
            self.staleness_seconds.clone(),
        );
        registry.register("kms_tls_failures", "TLS handshakes that failed", self.tls_failures.clone());
    }

    /// Counts a request.
    pub(super) fn note(&self, dialect: &'static str, operation: &'static str, result: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { dialect, operation, result }).inc();
        self.seconds.get_or_create(&DurationLabels { dialect, operation }).observe(took.as_secs_f64());
    }

    /// Counts that a key was not used because it is to be deleted.
    pub(super) fn note_refused_use(&self, key_id: Uuid) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(key_id).or_default() += 1;
    }

    /// How often each key was not used because it is to be deleted. Keys that are to be deleted no more are forgotten.
    #[must_use]
    pub fn refused_uses(&self, is_pending: impl Fn(Uuid) -> bool) -> HashMap<Uuid, u64> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|key_id, _| is_pending(*key_id));
        refused.clone()
    }
}
