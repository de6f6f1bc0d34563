//! What is done when its time has come: the leader erases keys, and looks at what has another date.

use std::time::Duration;

use tokio::time::sleep;

use super::Parts;
use crate::{
    controller::{alarms, orphans::Orphans, purge},
    store::KeyStore,
};

/// How often to look for keys that are due, and for records without an object, when nothing else says when. It
/// looks at what the watches have shown, and asks the API server nothing unless it finds something.
pub const SWEEP: Duration = Duration::from_secs(30);

/// Erases keys when they are due, has those looked at whose other dates have come, and looks for records without an
/// object.
pub async fn sweep(parts: &Parts, orphans: &Orphans) {
    let Parts { context, settings, triggers, .. } = parts;
    loop {
        match purge::sweep(context, &settings.namespace, settings.clock_skew_tolerance).await {
            Ok(changed) => changed.iter().for_each(|(namespace, name)| triggers.key(namespace, name)),
            Err(error) => tracing::warn!(%error, "keys are due, and can't be erased now"),
        }
        orphans.sweep(context).await;
        let (keys, now) = (context.store.keys(), context.clock.now());
        alarms::due(&keys, now).iter().for_each(|(namespace, name)| triggers.key_alone(namespace, name));
        triggers.due_data_keys(now);
        triggers.due_access_keys(now);
        let due = alarms::next(&keys, now);
        let wait = due.and_then(|due| Duration::try_from(due).ok()).map_or(SWEEP, |due| due.min(SWEEP));
        tokio::select! {
            () = sleep(wait) => {}
            () = context.clock.jumped() => {}
        }
    }
}
