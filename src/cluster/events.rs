//! Events: what `kubectl describe` tells about an object.

use std::future::Future;

use kube::Resource;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// A line in `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// Something went wrong or needs attention, as opposed to Normal.
    pub warning: bool,
    /// One of [`crate::api::conditions::reason`].
    pub reason: &'static str,
    /// What the operator was doing, one word.
    pub action: &'static str,
    /// What happened, and what to do.
    pub message: String,
}

impl EventNote {
    /// Something that went as it should.
    #[must_use]
    pub fn normal(reason: &'static str, action: &'static str, message: impl Into<String>) -> Self {
        Self { warning: false, reason, action, message: message.into() }
    }

    /// Something that needs attention.
    #[must_use]
    pub fn warning(reason: &'static str, action: &'static str, message: impl Into<String>) -> Self {
        Self { warning: true, reason, action, message: message.into() }
    }
}

/// Writes Events.
pub trait Events: Send + Sync + 'static {
    /// Writes an Event about an object. A failure is logged: an Event is news, never the only record.
    fn publish<K>(&self, about: &K, note: &EventNote) -> impl Future<Output = ()> + Send
    where
        K: Resource<DynamicType = ()> + Sync;
}

/// Labels of an Event.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
struct EventLabels {
    /// The kind of the object that it is about.
    kind: String,
    /// `Normal` or `Warning`.
    r#type: &'static str,
    /// One of [`crate::api::conditions::reason`].
    reason: &'static str,
}

/// Counts the Events that the API server took.
#[derive(Clone, Debug, Default)]
pub struct EventMetrics(Family<EventLabels, Counter>);

impl EventMetrics {
    /// Has them shown with `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("events", "Events written by kind, type and reason", self.0.clone());
    }

    /// Counts an Event about an object of a kind.
    pub fn written(&self, kind: &str, note: &EventNote) {
        let type_ = if note.warning { "Warning" } else { "Normal" };
        let labels = EventLabels { kind: kind.to_owned(), r#type: type_, reason: note.reason };
        self.0.get_or_create(&labels).inc();
    }
}
