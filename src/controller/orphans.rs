//! Records without an object (design, rule 1): reported, never deleted, except those that never belonged to a
//! finished object.
//!
//! A key's record is written before its object gets the finalizer. An object deleted between the two leaves a
//! record that nobody can ever have used, because data keys are only made under finished objects. What proves
//! that an object never was finished is the API server's own history of it, from the version on that the claim
//! was decided on; where that no longer reaches back, there is no proof, and the record stays.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;

use super::{Context, PassError, customer_master_key::letting_go};
use crate::{
    api::{
        CustomerMasterKey,
        cluster_key_store::{OrphanedKey, OrphanedKeys},
    },
    cluster::{Cluster, History, KeyObjectView, Objects},
    kms::KeyRecord,
    store::{KeySlot, KeyStore, Revision, StoredKey},
};

/// How many orphaned keys a key store names.
const NAMED: usize = 100;

/// The orphaned keys in each key store, `KIND/NAME`, that has any.
pub type Found = HashMap<String, OrphanedKeys>;

/// What the sweeps found out.
#[derive(Debug, Default)]
pub struct Orphans {
    /// Those that were asked about, so that none is asked about twice.
    unproven: Mutex<HashSet<(String, String)>>,
    found: watch::Sender<Option<Arc<Found>>>,
}

/// Whether a record's object should be there.
fn expects_object(record: &KeyRecord) -> bool {
    !record.owner.released && !record.abandoned && !record.is_tombstone()
}

/// Whether an object with the name of a key's owner has that key: it may have another one by now, in another key
/// store or under `spec.keyId`.
#[must_use]
pub fn has_key(object: &KeyObjectView, record: &KeyRecord) -> bool {
    let is_same = |id: &str| id.parse() == Ok(record.key_id);
    if object.key_id.as_deref().is_some_and(is_same) {
        return true;
    }
    let by_name = || KeySlot::of_home(record) == KeySlot::of_owner(record);
    object.key_store_ref.to_string() == record.store && object.adopts.as_deref().map_or_else(by_name, is_same)
}

impl Orphans {
    /// What the last sweep found; None before the first one. It tells of every sweep.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<Option<Arc<Found>>> {
        self.found.subscribe()
    }

    /// Looks for records without an object, in what the watches have seen, and answers how many there are.
    /// Only those found are asked about.
    pub async fn sweep<C: Cluster, S: KeyStore>(&self, context: &Context<C, S>) -> usize {
        let mut orphans = Vec::new();
        let mut seen = HashSet::new();
        for key in context.store.keys() {
            let owner = &key.record.owner;
            let (namespace, name) = (&owner.namespace, &owner.name);
            let cluster = &context.cluster;
            let is_seen = || cluster.watched_key(namespace, name).is_some_and(|object| has_key(&object, &key.record));
            if !expects_object(&key.record) || !cluster.is_watched(namespace) || is_seen() {
                continue;
            }
            let id = identity(&key.revision);
            let known = self.unproven.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
            if !known {
                match let_go_if_unfinished(context, &key).await {
                    Ok(Verdict::LetGo | Verdict::HasObject) => continue,
                    Ok(Verdict::Unproven) => {
                        tracing::warn!(
                            namespace, name, key_id = %key.record.key_id,
                            "this key has no CustomerMasterKey; it is kept. Apply the object again to use it."
                        );
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a record without an object could not be looked into");
                        orphans.push(key);
                        continue;
                    }
                }
            }
            orphans.push(key);
            seen.insert(id);
        }
        *self.unproven.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        context.metrics.records_without_object.set(i64::try_from(orphans.len()).unwrap_or(i64::MAX));
        self.found.send_replace(Some(Arc::new(by_store(&orphans))));
        orphans.len()
    }
}

/// The orphaned keys of each store: all counted, the newest named.
fn by_store(orphans: &[StoredKey]) -> Found {
    let mut records: Vec<_> = orphans.iter().map(|key| &key.record).collect();
    records.sort_by_key(|record| (Reverse(record.creation_date), record.key_id));
    let mut found = Found::new();
    for record in records {
        let keys = found.entry(record.store.clone()).or_default();
        keys.count += 1;
        if keys.newest.len() < NAMED {
            keys.newest.push(OrphanedKey {
                key_id: record.key_id.to_string(),
                namespace: record.owner.namespace.clone(),
                name: record.owner.name.clone(),
                creation_date: Time(record.creation_date),
            });
        }
    }
    found
}

fn identity(revision: &Revision) -> (String, String) {
    (revision.uid.clone(), revision.version.clone())
}

/// What became of a key whose object was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It never belonged to a finished object, and is gone; or its last object never finished taking it back, or
    /// went in the moment in which it was finished, and it is let go as the deletion of that object would have.
    LetGo,
    /// The object exists after all.
    HasObject,
    /// Nothing proves that it was never finished: it stays.
    Unproven,
}

/// Lets the key go if the API server's history proves that its object was deleted before it was finished, or in that
/// very moment.
///
/// # Errors
/// The API server's or the store's; nothing was changed then.
pub async fn let_go_if_unfinished<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    key: &StoredKey,
) -> Result<Verdict, PassError> {
    let record = &key.record;
    let owner = &record.owner;
    if !expects_object(record) {
        return Ok(Verdict::Unproven);
    }
    let object = Objects::<CustomerMasterKey>::get_object(&context.cluster, &owner.namespace, &owner.name).await?;
    if object.is_some_and(|object| has_key(&KeyObjectView::from(&object), record)) {
        return Ok(Verdict::HasObject);
    }
    let history = context.cluster.history(&owner.namespace, &owner.name, &owner.uid, &owner.resource_version);
    let (last_state, may_be_used) = match history.await? {
        History::NeverFinished(last_state) => (last_state, record.revision > 0),
        History::DeletedAtOnce(last_state) => (last_state, true),
        History::Unknown => return Ok(Verdict::Unproven),
    };
    if !may_be_used {
        context.store.forget_unfinished(key).await?;
        tracing::info!(
            namespace = owner.namespace, name = owner.name, key_id = %record.key_id,
            "the object was deleted before its key was ever used: the key is forgotten"
        );
    } else {
        // The key is older than this object, or was finished, and may have been used: it is let go like any other.
        let capabilities = context.store.capabilities();
        let (steps, event) = letting_go(&last_state.spec, record, capabilities, context.clock.now());
        context.store.update(key, &steps).await?;
        tracing::info!(namespace = owner.namespace, name = owner.name, "{}", event.message);
        context.cluster.publish(&*last_state, &event).await;
    }
    Ok(Verdict::LetGo)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        api::KeyStoreRef,
        kms::key_record::{
            Home,
            tests::{at, record},
        },
    };

    fn stored(id: u128, created: i64, store: &str) -> StoredKey {
        let record =
            KeyRecord { key_id: Uuid::from_u128(id), creation_date: at(created), store: store.into(), ..record() };
        StoredKey { record: Arc::new(record), revision: Revision { uid: String::new(), version: "1".into() } }
    }

    #[test]
    fn rule_1_orphaned_keys_are_counted_for_each_store_and_the_newest_named() {
        let mut keys: Vec<_> = (0..150).map(|i| stored(i, i64::try_from(i).unwrap(), "a")).collect();
        keys.push(stored(999, 5, "b"));
        let found = by_store(&keys);
        let (a, b) = (&found["a"], &found["b"]);
        assert_eq!((a.count, a.newest.len(), b.count, b.newest.len()), (150, 100, 1, 1));
        assert_eq!(a.newest[0].key_id, Uuid::from_u128(149).to_string());
        assert_eq!(a.newest[99].key_id, Uuid::from_u128(50).to_string());
        assert_eq!((a.newest[0].namespace.as_str(), a.newest[0].name.as_str()), ("shop", "orders"));
        assert_eq!(by_store(&[]), Found::new());
    }

    #[test]
    fn rule_11_an_object_of_the_owners_name_may_have_another_key() {
        let id = record().key_id.to_string();
        let own = record();
        let adopted = KeyRecord { home: Some(Home { namespace: "old".into(), name: "before".into() }), ..record() };
        let elsewhere = KeyStoreRef { name: "frankfurt".into(), ..KeyStoreRef::default() };
        let object =
            |adopts: Option<&str>| KeyObjectView { adopts: adopts.map(Into::into), ..KeyObjectView::default() };
        let annotated = KeyObjectView { key_id: Some(id.clone()), ..KeyObjectView::default() };
        let rows = [
            ("by its name", object(None), &own, true),
            (
                "by its name, in another store",
                KeyObjectView { key_store_ref: elsewhere.clone(), ..object(None) },
                &own,
                false,
            ),
            ("it names another one", object(Some("00000000-0000-4000-8000-000000000000")), &own, false),
            ("it names it", object(Some(&id)), &adopted, true),
            ("it names it in capitals", object(Some(&id.to_uppercase())), &adopted, true),
            (
                "it names it in another store",
                KeyObjectView { key_store_ref: elsewhere, ..object(Some(&id)) },
                &adopted,
                false,
            ),
            ("applied again without naming it", object(None), &adopted, false),
            ("the operator wrote that it has it", annotated, &adopted, true),
        ];
        for (name, object, record, expected) in rows {
            assert_eq!(has_key(&object, record), expected, "{name}");
        }
    }
}
