//! Writes a [`Snapshot`] as metrics, at every scrape.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet},
    metrics::MetricType,
};

use super::objects::{Identity, KeySample, Snapshot};
use crate::{controller::data_key::MAX_HISTORY, kms::limits::MAX_KEY_VERSIONS};

/// Where snapshots come from.
type Source = Box<dyn Fn() -> Snapshot + Send + Sync>;

/// What is said about keys and objects. Nothing before it is told where to look.
#[derive(Clone, Default)]
pub struct ObjectMetrics(Arc<OnceLock<Source>>);

impl fmt::Debug for ObjectMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectMetrics")
    }
}

impl ObjectMetrics {
    /// Says where to look: once all of it has been listed, as keys would seem to be missing before.
    pub fn look_at(&self, source: impl Fn() -> Snapshot + Send + Sync + 'static) {
        if self.0.set(Box::new(source)).is_err() {
            tracing::debug!("it is known already where metrics about objects come from");
        }
    }
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(source) = self.0.get() else { return Ok(()) };
        let snapshot = source();
        counts(&mut encoder, &snapshot)?;
        numbers(&mut encoder, &snapshot)?;
        troubles(&mut encoder, &snapshot)?;
        histories(&mut encoder, &snapshot)?;
        keys(&mut encoder, &snapshot.keys)
    }
}

fn counts(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let states = snapshot.states.iter().map(|(state, count)| ([("state", *state)], *count));
    gauge(encoder, ("keys", "Keys in the key store by state; Deleted: erased, only its tombstone is left"), states)?;
    let objects = snapshot.objects.iter().map(|((kind, standing, why), count)| {
        ([("kind", *kind), ("standing", *standing), ("reason", why.as_str())], *count)
    });
    gauge(encoder, ("objects", "Objects by kind, standing (ready, waiting, stalled, new) and reason of Ready"), objects)
}

fn numbers(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut number =
        |name, help, value| encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&whole(value));
    let help = "Key records, aliases and access keys that need another root key than the first, or may: it can go when there are none.";
    number("records_under_old_root_key", help, snapshot.under_other_root_keys)?;
    number("key_versions_limit", "The most versions that a key may have.", MAX_KEY_VERSIONS)?;
    number("data_key_history_limit", "The most former data keys that a DataKey may keep.", MAX_HISTORY)
}

fn troubles(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let help = "1 for each condition that is not as it should be: Ready False, or Reconciling, Stalled, PurgeHeld True";
    let samples = snapshot.troubles.iter().map(|trouble| {
        let (namespace, name) = &trouble.object;
        let labels = [
            ("kind", trouble.kind),
            ("object_namespace", namespace.as_str()),
            ("object_name", name.as_str()),
            ("type", trouble.type_),
            ("status", trouble.status),
            ("reason", trouble.reason.as_str()),
        ];
        (labels, 1)
    });
    gauge(encoder, ("condition", help), samples)
}

fn histories(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let samples = snapshot.histories.iter().map(|((namespace, name), length)| {
        ([("object_namespace", namespace.as_str()), ("object_name", name.as_str())], whole(*length))
    });
    gauge(encoder, ("data_key_history", "Former data keys that a DataKey keeps, where it keeps any"), samples)
}

fn keys(encoder: &mut DescriptorEncoder<'_>, keys: &[KeySample]) -> fmt::Result {
    let states = keys.iter().map(|key| {
        let [namespace, name, id] = labels(&key.owner, &key.key_id);
        ([namespace, name, id, ("state", key.state)], 1)
    });
    gauge(encoder, ("key_state", "1 for the state that a key is in"), states)?;

    let at = |time: Option<Timestamp>| time.map(Timestamp::as_second);
    let some = |count: usize, least: usize| (count >= least).then(|| whole(count));
    let help = "When the newest version of a key was made";
    each(encoder, ("key_version_created_timestamp_seconds", help), keys, |key| at(key.version_created))?;
    each(encoder, ("key_versions", "Versions of a key, where it has more than one"), keys, |key| {
        some(key.versions, 2)
    })?;
    let help = "When a key may be erased, where its deletion is scheduled";
    each(encoder, ("key_deletion_timestamp_seconds", help), keys, |key| at(key.deletion))?;
    let help = "When the imported material of a key expires, where it does";
    each(encoder, ("key_material_expiration_timestamp_seconds", help), keys, |key| at(key.expiration))?;
    let help = "When this replica used a key last, where it did since it began";
    each(encoder, ("key_last_used_timestamp_seconds", help), keys, |key| at(key.last_used))?;
    each(encoder, ("key_data_keys", "DataKeys under a key, where there are any"), keys, |key| some(key.data_keys, 1))?;

    let help = "Requests to use a key that this replica refused because the key is to be deleted.";
    let mut family = encoder.encode_descriptor("key_refused_pending_deletion", help, None, MetricType::Counter)?;
    for key in keys.iter().filter(|key| key.deletion.is_some()) {
        let none = None::<&prometheus_client::metrics::exemplar::Exemplar<[(&str, &str); 0], u64>>;
        family.encode_family(&labels(&key.owner, &key.key_id))?.encode_counter(&key.refused, none)?;
    }
    Ok(())
}

/// A gauge of those keys that have a value.
fn each(
    encoder: &mut DescriptorEncoder<'_>,
    metric: (&str, &str),
    keys: &[KeySample],
    value: impl Fn(&KeySample) -> Option<i64>,
) -> fmt::Result {
    let samples = keys.iter().filter_map(|key| Some((labels(&key.owner, &key.key_id), value(key)?)));
    gauge(encoder, metric, samples)
}

fn labels<'a>((namespace, name): &'a Identity, key_id: &'a str) -> [(&'static str, &'a str); 3] {
    [("object_namespace", namespace), ("object_name", name), ("key_id", key_id)]
}

fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    samples: impl IntoIterator<Item = (L, V)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
    for (labels, value) in samples {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
