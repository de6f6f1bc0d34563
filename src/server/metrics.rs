//! What the endpoint counts. Labels have few values: operations that are known, and names of failures.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

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
    seconds: Histogram,
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
        Self {
            requests: Family::default(),
            seconds: Histogram::new([
                0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
            ]),
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
            "How long ago the API server answered this replica; beyond --max-staleness operations are refused",
            self.staleness_seconds.clone(),
        );
        registry.register("kms_tls_failures", "TLS handshakes that failed", self.tls_failures.clone());
    }

    /// Counts a request.
    pub(super) fn note(&self, dialect: &'static str, operation: &'static str, result: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { dialect, operation, result }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
