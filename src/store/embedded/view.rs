//! The records that the watch, and our own writes, have shown: what most reads are answered from.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    key_cache::{Count, Moment, Unwrapped},
    record_secret::{self, Decoded},
};
use crate::{
    cluster::is_older,
    crypto::RootKeyRing,
    kms::KeyState,
    store::{Revision, StoreError, StoredKey},
};

/// A record that was seen, readable or not.
#[derive(Clone, Debug)]
enum Seen {
    Key { key: StoredKey, is_under_first_root_key: bool, unwrapped: Arc<Unwrapped> },
    Fault { fault: Fault, revision: Revision, said_store: Option<String> },
}

/// Why a record can't be used. [`StoreError`] without what can't be cloned.
#[derive(Clone, Debug)]
enum Fault {
    Tampered,
    Unreadable(String),
    RootKeyMissing(Uuid),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreadable { problem, .. } => Self::Unreadable(problem),
            StoreError::RootKeyMissing { root_key_id } => Self::RootKeyMissing(root_key_id),
            _ => Self::Tampered,
        }
    }
}

impl Seen {
    /// The store that this is a reason not to delete. Of a record that can't be used, the one that it names: good
    /// enough to keep a store for its sake, and used for nothing else.
    fn store_in_use(&self) -> Option<&str> {
        match self {
            Self::Key { key, .. } if key.record.is_tombstone() => None,
            Self::Key { key, .. } => Some(&key.record.store),
            Self::Fault { said_store, .. } => said_store.as_deref(),
        }
    }

    fn key_id(&self) -> Option<Uuid> {
        match self {
            Self::Key { key, .. } => Some(key.record.key_id),
            Self::Fault { .. } => None,
        }
    }

    fn version(&self) -> &str {
        match self {
            Self::Key { key, .. } => &key.revision.version,
            Self::Fault { revision, .. } => &revision.version,
        }
    }

    fn answer(&self, name: &str) -> Result<StoredKey, StoreError> {
        match self {
            Self::Key { key, .. } => Ok(key.clone()),
            Self::Fault { fault: Fault::Tampered, .. } => Err(StoreError::Tampered { secret: name.into() }),
            Self::Fault { fault: Fault::Unreadable(problem), .. } => {
                Err(StoreError::Unreadable { secret: name.into(), problem: problem.clone() })
            }
            Self::Fault { fault: Fault::RootKeyMissing(id), .. } => {
                Err(StoreError::RootKeyMissing { root_key_id: *id })
            }
        }
    }
}

/// All records seen, by the name of their Secret, and how many of them are a reason not to delete a store.
#[derive(Debug, Default)]
struct Shelf {
    seen: HashMap<String, Seen>,
    /// The names of the readable ones, by the id of their key.
    by_id: HashMap<Uuid, String>,
    in_use: HashMap<String, usize>,
}

impl Shelf {
    /// Puts a record there, or takes it away. Answers whether a store came into use, or went out of it.
    fn set(&mut self, name: &str, now: Option<Seen>) -> bool {
        let store = now.as_ref().and_then(|seen| seen.store_in_use().map(str::to_owned));
        let key_id = now.as_ref().and_then(Seen::key_id);
        let before = match now {
            Some(now) => self.seen.insert(name.to_owned(), now),
            None => self.seen.remove(name),
        };
        if let Some(before) = before.as_ref().and_then(Seen::key_id)
            && self.by_id.get(&before).is_some_and(|known| known == name)
        {
            self.by_id.remove(&before);
        }
        if let Some(key_id) = key_id {
            self.by_id.insert(key_id, name.to_owned());
        }
        let before = before.as_ref().and_then(Seen::store_in_use);
        if before == store.as_deref() {
            return false;
        }
        let mut changed = false;
        if let Some(before) = before
            && let Some(count) = self.in_use.get_mut(before)
        {
            *count -= 1;
            if *count == 0 {
                self.in_use.remove(before);
                changed = true;
            }
        }
        if let Some(store) = store {
            let count = self.in_use.entry(store).or_default();
            *count += 1;
            changed |= *count == 1;
        }
        changed
    }

    /// What was seen under a name, if it is newer than a revision.
    fn newer(&self, name: &str, revision: &Revision) -> Option<&Seen> {
        self.seen.get(name).filter(|known| is_older(&revision.version, known.version()))
    }

    /// The readable record of a key, and its keys that are unwrapped.
    fn by_id(&self, key_id: Uuid) -> Option<(&StoredKey, &Arc<Unwrapped>)> {
        match self.seen.get(self.by_id.get(&key_id)?)? {
            Seen::Key { key, unwrapped, .. } => Some((key, unwrapped)),
            Seen::Fault { .. } => None,
        }
    }
}

/// The records seen.
#[derive(Debug, Default)]
pub struct RecordView {
    shelf: RwLock<Shelf>,
    usage: watch::Sender<()>,
    unwrapped: Count,
}

impl RecordView {
    // A panic elsewhere leaves it whole: nothing in `Shelf::set` panics.

    fn read(&self) -> RwLockReadGuard<'_, Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shelf> {
        self.shelf.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when a store comes into use, or goes out of it.
    pub fn usage(&self) -> watch::Receiver<()> {
        self.usage.subscribe()
    }

    /// Whether a store, `KIND/NAME`, has a key that is not a tombstone.
    pub fn is_in_use(&self, store: &str) -> bool {
        self.read().in_use.contains_key(store)
    }

    fn set(&self, shelf: &mut Shelf, name: &str, now: Option<Seen>) {
        if shelf.set(name, now) {
            self.usage.send_replace(());
        }
    }

    /// Takes note of a Secret, unless a later version of it was seen already: the watch tells of our own
    /// writes after they were answered. Answers what is now known under its name.
    pub fn note(&self, secret: &Secret, ring: &RootKeyRing) -> Result<StoredKey, StoreError> {
        let name = secret.name_any();
        let decode = || match record_secret::decode(secret, ring) {
            Ok(decoded) => Ok(decoded),
            Err(error) => Err((Fault::from(error), record_secret::said_store(secret))),
        };
        self.note_decoded(&name, record_secret::revision(secret), decode)
    }

    /// Decodes without a lock: it checks a MAC, and every request looks at the records meanwhile.
    fn note_decoded(
        &self,
        name: &str,
        revision: Revision,
        decode: impl FnOnce() -> Result<Decoded, (Fault, Option<String>)>,
    ) -> Result<StoredKey, StoreError> {
        if let Some(newer) = self.read().newer(name, &revision) {
            return newer.answer(name);
        }
        let decoded = decode();
        let mut shelf = self.write();
        // Somebody else may have taken note of it in between.
        if let Some(newer) = shelf.newer(name, &revision) {
            return newer.answer(name);
        }
        let now = match decoded {
            Ok(Decoded { key, is_under_first_root_key }) => {
                let before = shelf.by_id(key.record.key_id).map(|(_, unwrapped)| unwrapped);
                let unwrapped = Arc::new(Unwrapped::new(&self.unwrapped, before.map(|before| &**before)));
                Seen::Key { key, is_under_first_root_key, unwrapped }
            }
            Err((fault, said_store)) => Seen::Fault { fault, revision, said_store },
        };
        let answer = now.answer(name);
        self.set(&mut shelf, name, Some(now));
        answer
    }

    /// The record under a name, if one was seen.
    pub fn get(&self, name: &str) -> Option<Result<StoredKey, StoreError>> {
        self.read().seen.get(name).map(|seen| seen.answer(name))
    }

    /// Forgets a record.
    pub fn remove(&self, name: &str) {
        self.set(&mut self.write(), name, None);
    }

    /// Forgets every record but these, and answers which of those that could be read went.
    pub fn retain(&self, names: &HashSet<String>) -> Vec<StoredKey> {
        let mut shelf = self.write();
        let missing: Vec<_> = shelf.seen.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let mut gone = Vec::new();
        for name in missing {
            if let Some(Seen::Key { key, .. }) = shelf.seen.get(&name) {
                gone.push(key.clone());
            }
            self.set(&mut shelf, &name, None);
        }
        gone
    }

    /// All readable records.
    pub fn keys(&self) -> Vec<StoredKey> {
        let shelf = self.read();
        shelf
            .seen
            .values()
            .filter_map(|s| if let Seen::Key { key, .. } = s { Some(key.clone()) } else { None })
            .collect()
    }

    /// When each key was used last, of those that were since the process began.
    pub fn last_used(&self) -> HashMap<Uuid, Timestamp> {
        let used = |seen: &Seen| match seen {
            Seen::Key { key, unwrapped, .. } => Some((key.record.key_id, unwrapped.last_used()?)),
            Seen::Fault { .. } => None,
        };
        self.read().seen.values().filter_map(used).collect()
    }

    /// The readable record of the key with an id.
    pub fn by_id(&self, key_id: Uuid) -> Option<StoredKey> {
        self.read().by_id(key_id).map(|(key, _)| key.clone())
    }

    /// The keys of a record that are unwrapped. None: it is not in the state that was seen last.
    pub fn unwrapped(&self, key: &StoredKey) -> Option<Arc<Unwrapped>> {
        let shelf = self.read();
        let (seen, unwrapped) = shelf.by_id(key.record.key_id)?;
        Arc::ptr_eq(&seen.record, &key.record).then(|| unwrapped.clone())
    }

    /// Drops unwrapped keys that nobody uses, or may use: expired material changes no record.
    pub fn drop_idle_keys(&self, moment: Moment) {
        for seen in self.read().seen.values() {
            if let Seen::Key { key, unwrapped, .. } = seen {
                match key.record.state(moment.now) {
                    KeyState::Enabled => unwrapped.drop_idle(moment.uptime),
                    KeyState::Disabled | KeyState::PendingDeletion | KeyState::PendingImport => unwrapped.drop_all(),
                }
            }
        }
    }

    /// How many unwrapped keys are kept.
    #[cfg(test)]
    pub fn unwrapped_count(&self) -> usize {
        self.unwrapped.get()
    }

    /// The readable records that another root key than the first one protects.
    pub fn under_other_root_keys(&self) -> Vec<StoredKey> {
        let shelf = self.read();
        let old = |seen: &Seen| match seen {
            Seen::Key { key, is_under_first_root_key: false, .. } => Some(key.clone()),
            _ => None,
        };
        shelf.seen.values().filter_map(old).collect()
    }

    /// Whether the readable record under a name is one that another root key than the first one protects.
    pub fn is_under_other_root_key(&self, name: &str) -> bool {
        matches!(self.read().seen.get(name), Some(Seen::Key { is_under_first_root_key: false, .. }))
    }

    /// How many records there are of which nobody knows whether they need another root key than the first: those that
    /// can't be read, but may be by a newer version, or with a root key that is not at hand.
    pub fn sealed_unknown(&self) -> usize {
        let unknown = |seen: &&Seen| match seen {
            Seen::Key { .. } | Seen::Fault { fault: Fault::Tampered, .. } => false,
            Seen::Fault { fault: Fault::Unreadable(_) | Fault::RootKeyMissing(_), .. } => true,
        };
        self.read().seen.values().filter(unknown).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::key_record::tests::record;

    fn decoded(version: &str) -> (Revision, Decoded) {
        let revision = Revision { uid: "uid".into(), version: version.into() };
        let key = StoredKey { record: Arc::new(record()), revision: revision.clone() };
        (revision, Decoded { key, is_under_first_root_key: true })
    }

    fn note(view: &RecordView, version: &str, meanwhile: impl FnOnce()) -> StoredKey {
        let (revision, decoded) = decoded(version);
        let decode = || {
            meanwhile();
            Ok(decoded)
        };
        view.note_decoded("cmk-1", revision, decode).unwrap()
    }

    #[test]
    fn records_are_read_while_another_is_decoded() {
        let view = RecordView::default();
        note(&view, "1", || ());
        let noted = note(&view, "2", || {
            assert!(view.shelf.try_read().is_ok(), "nobody is held up");
            assert_eq!(view.keys()[0].revision.version, "1");
        });
        assert_eq!(noted.revision.version, "2");
        assert_eq!(view.keys(), [noted]);
    }

    #[test]
    fn what_was_noted_while_an_older_version_was_decoded_stays() {
        let view = RecordView::default();
        let answered = note(&view, "2", || {
            note(&view, "3", || ());
        });
        assert_eq!(answered.revision.version, "3", "the answer is what is known");
        assert_eq!(view.keys(), [answered]);
        assert_eq!(note(&view, "1", || panic!("it is known to be older")).revision.version, "3");
    }
}
