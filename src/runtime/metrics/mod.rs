//! What is counted, as OpenMetrics. What is counted over time has labels of few values, never names of objects; what is
//! said about single keys and objects is put together at a scrape ([`objects`]).

mod collector;
mod gather;
pub mod objects;
mod process;

use std::fmt::{self, Write as _};

use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

pub use collector::ObjectMetrics;
pub use gather::Sources;

use crate::{
    cluster::EventMetrics, controller::purge::Hold, server::metrics::EndpointMetrics, store::metered::StoreMetrics,
};

/// Labels of what is counted by kind.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct KindLabels {
    /// The kind of object.
    pub kind: &'static str,
}

/// Labels of a pass.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct PassLabels {
    /// The kind of object.
    pub kind: &'static str,
    /// How it ended: `ok`, or what kind of error.
    pub result: &'static str,
}

/// Labels of what waits.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
struct WaitingLabels {
    /// For what: [`Hold::reason`].
    reason: &'static str,
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    /// What has names without our prefix.
    process: Registry,
    /// Passes, by kind and result.
    pub passes: Family<PassLabels, Counter>,
    /// How long passes took.
    pub pass_seconds: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// Events written.
    pub events: EventMetrics,
    /// Calls to the key store.
    pub store: StoreMetrics,
    /// What is said about keys and objects.
    pub objects: ObjectMetrics,
    /// 1 while this replica makes passes: it leads, or there is no leader election.
    pub leader: Gauge,
    /// Records whose object is missing.
    pub records_without_object: Gauge,
    /// Keys that are due to be erased and wait.
    purge_waiting: Family<WaitingLabels, Gauge>,
    /// Keys erased by this process.
    pub keys_erased: Counter,
    /// Keys that this process let go without scheduling their deletion.
    pub keys_retained: Counter,
    /// The KMS endpoint's.
    pub endpoint: EndpointMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let pass_seconds: fn() -> Histogram = || Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0]);
        let mut metrics = Self {
            registry: Registry::with_prefix("cmk"),
            process: Registry::default(),
            passes: Family::default(),
            pass_seconds: Family::new_with_constructor(pass_seconds),
            events: EventMetrics::default(),
            store: StoreMetrics::default(),
            objects: ObjectMetrics::default(),
            leader: Gauge::default(),
            records_without_object: Gauge::default(),
            purge_waiting: Family::default(),
            keys_erased: Counter::default(),
            keys_retained: Counter::default(),
            endpoint: EndpointMetrics::default(),
        };
        metrics.register();
        metrics.show_purge_waiting([]);
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("leader", "1 while this replica makes passes", self.leader.clone());
        registry.register("passes", "Reconcile passes by kind and result", self.passes.clone());
        registry.register("pass_duration_seconds", "Duration of reconcile passes by kind", self.pass_seconds.clone());
        self.events.register(registry);
        registry.register(
            "records_without_object",
            "Keys whose CustomerMasterKey is missing; they are kept",
            self.records_without_object.clone(),
        );
        registry.register(
            "purge_waiting",
            "Keys due to be erased that wait, by reason: for the clocks to agree, or for the hourly limit",
            self.purge_waiting.clone(),
        );
        registry.register(
            "keys_retained",
            "Keys that stayed as they were when their object was deleted",
            self.keys_retained.clone(),
        );
        registry.register("keys_erased", "Keys erased after their delete date", self.keys_erased.clone());
        self.store.register(registry);
        self.endpoint.register(registry);
        registry.register_collector(Box::new(self.objects.clone()));
        self.process.register_collector(Box::new(process::ProcessMetrics));
    }

    /// Shows for what the keys wait that are due to be erased: one item a key.
    pub fn show_purge_waiting(&self, holds: impl IntoIterator<Item = Hold>) {
        let mut counts = Hold::ALL.map(|hold| (hold, 0));
        for hold in holds {
            counts.iter_mut().filter(|(counted, _)| *counted == hold).for_each(|(_, count)| *count += 1);
        }
        for (hold, count) in counts {
            self.purge_waiting.get_or_create(&WaitingLabels { reason: hold.reason() }).set(count);
        }
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if self.write(&mut text).is_err() {
            // A String takes everything that is written to it.
            let _ = writeln!(text, "# encoding failed");
        }
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        encode_registry(text, &self.registry)?;
        encode_registry(text, &self.process)?;
        encode_eof(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        objects::{Snapshot, Use, tests::key},
        *,
    };
    use crate::{
        api::conditions::reason,
        cluster::EventNote,
        kms::{KeyStep, key_record::tests::at},
    };

    /// What a scrape of many keys costs (docs/operations.md).
    #[test]
    fn a_healthy_key_is_two_series_of_less_than_300_bytes() {
        let size = |count: u128| {
            let metrics = Metrics::default();
            metrics.objects.look_at(move || {
                let mut snapshot = Snapshot::default();
                let keys: Vec<_> = (1..=count).map(|id| key(id, &[])).collect();
                snapshot.add_keys(&keys, &Use::default(), at(2000), true);
                snapshot
            });
            let text = metrics.render();
            (text.lines().filter(|line| line.starts_with("cmk_key_") && line.contains("key_id=")).count(), text.len())
        };
        let ((few, short), (many, long)) = (size(1), size(1001));
        assert_eq!((few, many), (2, 2002));
        let bytes = (long - short) / 1000;
        assert!(bytes < 300, "{bytes} bytes a key");
    }

    #[test]
    fn metrics_are_open_metrics() {
        let metrics = Metrics::default();
        metrics.passes.get_or_create(&PassLabels { kind: "DataKey", result: "ok" }).inc();
        metrics.pass_seconds.get_or_create(&KindLabels { kind: "DataKey" }).observe(0.01);
        metrics.events.written("DataKey", &EventNote::normal(reason::DATA_KEY_ROTATED, "Rotate", ""));
        metrics.objects.look_at(|| {
            let mut snapshot = Snapshot::default();
            snapshot.add_keys(&[key(1, &[KeyStep::ScheduleDeletion { days: 7 }])], &Use::default(), at(2000), true);
            snapshot
        });
        metrics.show_purge_waiting([Hold::ClockSkew, Hold::ClockSkew]);
        let text = metrics.render();
        for line in [
            "cmk_passes_total{kind=\"DataKey\",result=\"ok\"} 1",
            "cmk_pass_duration_seconds_bucket{le=\"0.01\",kind=\"DataKey\"} 1",
            "cmk_events_total{kind=\"DataKey\",type=\"Normal\",reason=\"DataKeyRotated\"} 1",
            "cmk_keys{state=\"PendingDeletion\"} 1",
            "cmk_keys{state=\"Enabled\"} 0",
            "cmk_key_state{object_namespace=\"shop\",object_name=\"orders\",\
             key_id=\"00000000-0000-0000-0000-000000000001\",state=\"PendingDeletion\"} 1",
            "cmk_key_deletion_timestamp_seconds{object_namespace=\"shop\",object_name=\"orders\",\
             key_id=\"00000000-0000-0000-0000-000000000001\"} 605800",
            "cmk_key_versions_limit 3000",
            "cmk_leader 0",
            "cmk_purge_waiting{reason=\"ClockSkew\"} 2",
            "cmk_purge_waiting{reason=\"PurgeRateLimited\"} 0",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
        metrics.show_purge_waiting([]);
        assert!(metrics.render().contains("cmk_purge_waiting{reason=\"ClockSkew\"} 0"), "it leads no more, say");
    }
}
