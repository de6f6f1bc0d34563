//! What the watch has yet to show: a pass over an object older than our last write to it would decide on the
//! past, and its write would fail on its precondition.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::ResourceExt;

type Key = (&'static str, String, String);

/// The last versions written, as far as the watch has not shown them yet.
#[derive(Debug, Default)]
pub struct Expectations {
    written: Mutex<HashMap<Key, u128>>,
}

impl Expectations {
    /// Takes note of an object as the API server answered a write with it.
    pub fn wrote<K: ResourceExt>(&self, kind: &'static str, object: &K) {
        if let Some(version) = version(object) {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key(kind, object), version);
        }
    }

    /// Whether the watch will show something newer than `object`.
    pub fn outdates<K: ResourceExt>(&self, kind: &'static str, object: &K) -> bool {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(kind, object);
        match (written.get(&key), version(object)) {
            (Some(expected), Some(seen)) if seen < *expected => true,
            _ => {
                written.remove(&key);
                false
            }
        }
    }

    /// Forgets what was written to an object that is gone.
    pub fn forget(&self, kind: &'static str, namespace: &str, name: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if !written.is_empty() {
            written.remove(&(kind, namespace.to_owned(), name.to_owned()));
        }
    }
}

fn key<K: ResourceExt>(kind: &'static str, object: &K) -> Key {
    (kind, object.namespace().unwrap_or_default(), object.name_any())
}

/// Resource versions grow. One that is no number tells nothing.
fn version<K: ResourceExt>(object: &K) -> Option<u128> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DataKey;

    #[test]
    fn an_older_object_is_outdated_until_the_watch_catches_up() {
        let object = |version: &str| {
            let mut object = DataKey::new("a", crate::api::DataKeySpec::default());
            object.metadata.resource_version = Some(version.into());
            object
        };
        let expectations = Expectations::default();
        assert!(!expectations.outdates("K", &object("9")), "nothing was written");
        expectations.wrote("K", &object("10"));
        assert!(expectations.outdates("K", &object("9")));
        assert!(!expectations.outdates("Other", &object("9")));
        assert!(!expectations.outdates("K", &object("10")));
        assert!(expectations.written.lock().unwrap().is_empty(), "and then it is forgotten");
    }
}
