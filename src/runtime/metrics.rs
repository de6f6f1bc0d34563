//! What is counted, as OpenMetrics. Labels have few values, never names of objects.

use std::fmt::Write as _;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::server::metrics::EndpointMetrics;

/// Labels of a pass.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct PassLabels {
    /// The kind of object.
    pub kind: &'static str,
    /// How it ended: `ok`, or what kind of error.
    pub result: &'static str,
}

/// Labels of a number of keys.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct StateLabels {
    /// The state, or `Deleted` for a tombstone.
    pub state: &'static str,
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    /// Passes, by kind and result.
    pub passes: Family<PassLabels, Counter>,
    /// How long passes took.
    pub pass_seconds: Histogram,
    /// Keys by state.
    pub keys: Family<StateLabels, Gauge>,
    /// Records whose object is missing.
    pub records_without_object: Gauge,
    /// Keys that are due to be erased and wait.
    pub purge_waiting: Gauge,
    /// Keys erased by this process.
    pub keys_erased: Counter,
    /// Records, aliases and access keys that need another root key than the first, or may.
    pub records_under_old_root_key: Gauge,
    /// Keys that this process let go without scheduling their deletion.
    pub keys_retained: Counter,
    /// 1 while this replica leads, and so writes; else 0.
    pub leader: Gauge,
    /// The KMS endpoint's.
    pub endpoint: EndpointMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("cmk");
        let metrics = Self {
            passes: Family::default(),
            pass_seconds: Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0]),
            keys: Family::default(),
            records_without_object: Gauge::default(),
            purge_waiting: Gauge::default(),
            records_under_old_root_key: Gauge::default(),
            keys_erased: Counter::default(),
            keys_retained: Counter::default(),
            leader: Gauge::default(),
            endpoint: EndpointMetrics::default(),
            registry: Registry::default(),
        };
        registry.register("passes", "Reconcile passes by kind and result", metrics.passes.clone());
        registry.register("pass_duration_seconds", "Duration of reconcile passes", metrics.pass_seconds.clone());
        registry.register("keys", "Keys by state", metrics.keys.clone());
        registry.register(
            "records_without_object",
            "Keys whose CustomerMasterKey is missing; they are kept",
            metrics.records_without_object.clone(),
        );
        registry.register(
            "purge_waiting",
            "Keys due to be erased that wait for the clocks to agree or for the hourly limit",
            metrics.purge_waiting.clone(),
        );
        registry.register(
            "records_under_old_root_key",
            "Key records, aliases and access keys that need another root key than the first, or may: it can go when there are none",
            metrics.records_under_old_root_key.clone(),
        );
        registry.register(
            "keys_retained",
            "Keys that stayed as they were when their object was deleted",
            metrics.keys_retained.clone(),
        );
        registry.register("keys_erased", "Keys erased after their delete date", metrics.keys_erased.clone());
        registry.register("leader", "1 while this replica leads, and so writes; else 0", metrics.leader.clone());
        metrics.endpoint.register(&mut registry);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // A String takes everything that is written to it.
            let _ = writeln!(text, "# encoding failed");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_open_metrics() {
        let metrics = Metrics::default();
        metrics.passes.get_or_create(&PassLabels { kind: "DataKey", result: "ok" }).inc();
        metrics.keys.get_or_create(&StateLabels { state: "Enabled" }).set(3);
        let text = metrics.render();
        assert!(text.contains("cmk_passes_total{kind=\"DataKey\",result=\"ok\"} 1"), "{text}");
        assert!(text.contains("cmk_keys{state=\"Enabled\"} 3"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
