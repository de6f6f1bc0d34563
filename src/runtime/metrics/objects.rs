//! What is said about keys and objects at a scrape: put together from what the watches have shown, never by asking the
//! API server.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt, runtime::reflector::Store};
use uuid::Uuid;

use crate::{
    api::{
        AccessKey, ClusterKeyStore, CustomerMasterKey, DataKey,
        conditions::{self, PURGE_HELD, READY, RECONCILING, STALLED, reason},
    },
    cluster::Guarded,
    kms::KeyState,
    store::StoredKey,
};

/// An object's namespace and name.
pub type Identity = (String, String);

/// The state of a tombstone, beside those of [`KeyState`].
pub const DELETED: &str = "Deleted";

/// Everything at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Records, aliases and access keys that need another root key than the first, or may.
    pub under_other_root_keys: usize,
    /// The number of keys by state.
    pub states: BTreeMap<&'static str, i64>,
    /// Each key that is not a tombstone. Empty with `--key-metrics off`.
    pub keys: Vec<KeySample>,
    /// The number of objects by kind, standing and reason.
    pub objects: BTreeMap<(&'static str, &'static str, String), i64>,
    /// What is not as it should be. Healthy objects have none.
    pub troubles: Vec<Trouble>,
    /// How many former data keys each DataKey keeps, where it keeps any.
    pub histories: Vec<(Identity, usize)>,
}

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub struct KeySample {
    /// The object that it belongs to, or belonged to.
    pub owner: Identity,
    /// Its id.
    pub key_id: String,
    /// Its state.
    pub state: &'static str,
    /// When its newest version was made. None: it has no material.
    pub version_created: Option<Timestamp>,
    /// How many versions it has.
    pub versions: usize,
    /// When it may be erased, if its deletion is scheduled.
    pub deletion: Option<Timestamp>,
    /// When its imported material expires.
    pub expiration: Option<Timestamp>,
    /// When this replica used it last, since it began.
    pub last_used: Option<Timestamp>,
    /// DataKeys under it.
    pub data_keys: usize,
    /// How often this replica refused to use it because it is to be deleted.
    pub refused: u64,
}

/// A condition that says that something is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The kind of the object.
    pub kind: &'static str,
    /// The object. The namespace of a ClusterKeyStore is empty.
    pub object: Identity,
    /// The type of the condition.
    pub type_: &'static str,
    /// True or False.
    pub status: &'static str,
    /// Why.
    pub reason: String,
}

/// What is known about the use of keys.
#[derive(Debug, Default)]
pub struct Use {
    /// When each key was used last.
    pub last: HashMap<Uuid, Timestamp>,
    /// How often the use of each key was refused because it is to be deleted.
    pub refused: HashMap<Uuid, u64>,
    /// How many DataKeys there are under the `CustomerMasterKey` of a namespace and name.
    pub data_keys: HashMap<Identity, usize>,
}

impl Snapshot {
    /// Counts keys, and with `each` describes them.
    pub fn add_keys(&mut self, keys: &[StoredKey], used: &Use, now: Timestamp, each: bool) {
        for state in KeyState::ALL.map(KeyState::as_str).into_iter().chain([DELETED]) {
            self.states.entry(state).or_default();
        }
        for key in keys {
            let state = if key.record.is_tombstone() { DELETED } else { key.record.state(now).as_str() };
            *self.states.entry(state).or_default() += 1;
            if each && state != DELETED {
                self.keys.push(KeySample::of(key, state, used));
            }
        }
    }

    /// Adds objects of a kind, by their conditions.
    pub fn add_objects<K>(&mut self, kind: &'static str, objects: &Store<Guarded<K>>)
    where
        K: Resource<DynamicType = ()> + HasConditions + Clone + 'static,
    {
        for object in objects.state() {
            let identity = (object.namespace().unwrap_or_default(), object.name_any());
            match &object.0 {
                Ok(readable) => self.add_object(kind, identity, readable.conditions()),
                Err(_) => {
                    self.count(kind, "stalled", reason::UNREADABLE);
                    self.trouble(kind, &identity, STALLED, "True", reason::UNREADABLE);
                }
            }
        }
    }

    fn add_object(&mut self, kind: &'static str, object: Identity, said: &[Condition]) {
        let (standing, why) = standing(said);
        self.count(kind, standing, why);
        for (type_, bad) in [(READY, "False"), (RECONCILING, "True"), (STALLED, "True"), (PURGE_HELD, "True")] {
            if let Some(condition) = conditions::find(said, type_).filter(|condition| condition.status == bad) {
                self.trouble(kind, &object, type_, bad, &condition.reason);
            }
        }
    }

    fn count(&mut self, kind: &'static str, standing: &'static str, why: &str) {
        *self.objects.entry((kind, standing, why.to_owned())).or_default() += 1;
    }

    fn trouble(&mut self, kind: &'static str, object: &Identity, type_: &'static str, status: &'static str, why: &str) {
        self.troubles.push(Trouble { kind, object: object.clone(), type_, status, reason: why.to_owned() });
    }

    /// Adds how many former data keys DataKeys keep.
    pub fn add_histories(&mut self, data_keys: &Store<Guarded<DataKey>>) {
        for object in data_keys.state() {
            let status = object.0.as_ref().ok().and_then(|data_key| data_key.status.as_ref());
            let length = status.map_or(0, |status| status.history.len());
            if length > 0 {
                self.histories.push(((object.namespace().unwrap_or_default(), object.name_any()), length));
            }
        }
    }
}

impl KeySample {
    fn of(key: &StoredKey, state: &'static str, used: &Use) -> Self {
        let record = &*key.record;
        let owner = (record.owner.namespace.clone(), record.owner.name.clone());
        // A key whose object is gone has no DataKeys under it: those of that name are under the next key.
        let data_keys = if record.owner.released { None } else { used.data_keys.get(&owner).copied() };
        Self {
            data_keys: data_keys.unwrap_or_default(),
            owner,
            key_id: record.key_id.to_string(),
            state,
            version_created: record.primary_version().map(|version| version.creation_date),
            versions: record.versions.len(),
            deletion: record.deletion.as_ref().map(|deletion| deletion.delete_date),
            expiration: record.material_expire_time(),
            last_used: used.last.get(&record.key_id).copied(),
            refused: used.refused.get(&record.key_id).copied().unwrap_or_default(),
        }
    }
}

/// How an object stands, by its conditions, and why.
fn standing(said: &[Condition]) -> (&'static str, &str) {
    let is = |type_, status| conditions::find(said, type_).is_some_and(|condition| condition.status == status);
    let why = conditions::find(said, READY).map_or("", |condition| &condition.reason);
    match () {
        () if said.is_empty() => ("new", ""),
        () if is(STALLED, "True") => ("stalled", why),
        () if is(READY, "True") => ("ready", why),
        () => ("waiting", why),
    }
}

/// An object of ours, which has conditions.
pub trait HasConditions {
    /// The conditions in its status.
    fn conditions(&self) -> &[Condition];
}

macro_rules! has_conditions {
    ($($kind:ty),*) => {
        $(impl HasConditions for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        })*
    };
}

has_conditions!(CustomerMasterKey, DataKey, AccessKey, ClusterKeyStore);

#[cfg(test)]
pub(in crate::runtime) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::conditions::{Finding, Standing},
        kms::{
            KeyRecord, KeyStep,
            key_record::tests::{at, record},
        },
        store::Revision,
    };

    /// A key with this id.
    pub fn key(id: u128, steps: &[KeyStep]) -> StoredKey {
        let record = KeyRecord { key_id: Uuid::from_u128(id), ..record() };
        let record = record.apply_all(steps, at(1000)).unwrap();
        StoredKey { record: Arc::new(record), revision: Revision { uid: String::new(), version: "1".into() } }
    }

    fn identity() -> Identity {
        ("shop".into(), "orders".into())
    }

    #[test]
    fn keys_are_counted_and_described() {
        let pending = key(2, &[KeyStep::ScheduleDeletion { days: 7 }]);
        let erased = pending.record.apply_all(&[KeyStep::Erase], at(1000 + 8 * 86_400)).unwrap();
        let released = key(4, &[KeyStep::Release]);
        let keys =
            [key(1, &[KeyStep::Disable]), pending, StoredKey { record: Arc::new(erased), ..key(3, &[]) }, released];
        let used = Use {
            last: HashMap::from([(Uuid::from_u128(1), at(900))]),
            refused: HashMap::from([(Uuid::from_u128(2), 3)]),
            data_keys: HashMap::from([(identity(), 2)]),
        };
        let mut snapshot = Snapshot::default();
        snapshot.add_keys(&keys, &used, at(2000), true);
        let states: Vec<_> = snapshot.states.into_iter().collect();
        let expected = [("Deleted", 1), ("Disabled", 1), ("Enabled", 1), ("PendingDeletion", 1), ("PendingImport", 0)];
        assert_eq!(states, expected);
        let [disabled, pending, released] = &snapshot.keys[..] else { panic!("{:?}", snapshot.keys) };
        assert_eq!((disabled.state, disabled.last_used, disabled.data_keys), ("Disabled", Some(at(900)), 2));
        assert_eq!((pending.deletion, pending.refused), (Some(at(1000 + 7 * 86_400)), 3));
        assert_eq!((released.state, released.data_keys, released.versions), ("Enabled", 0, 1));

        let mut counted = Snapshot::default();
        counted.add_keys(&keys, &used, at(2000), false);
        assert!(counted.keys.is_empty() && counted.states["Disabled"] == 1, "--key-metrics off");
    }

    #[test]
    fn only_what_is_not_as_it_should_be_is_named() {
        let said = |findings: &[Finding]| conditions::conditions(findings, &[], Some(1), at(0));
        let ready = said(&Standing::Ready { message: "Enabled".into() }.findings());
        let stalled = said(&Standing::stalled(reason::RECORD_TAMPERED, "").findings());
        let waiting = said(&Standing::waiting(reason::KEY_STORE_ERROR, "").findings());
        let held = said(&[
            Finding::new(READY, true, reason::AS_DECLARED, ""),
            Finding::new(PURGE_HELD, true, reason::CLOCK_SKEW, ""),
        ]);
        let seen = |conditions: &[Condition]| {
            let mut snapshot = Snapshot::default();
            snapshot.add_object("CustomerMasterKey", identity(), conditions);
            let objects: Vec<_> = snapshot.objects.into_keys().map(|(_, standing, why)| (standing, why)).collect();
            let troubles = snapshot.troubles.into_iter().map(|t| (t.type_, t.status, t.reason)).collect::<Vec<_>>();
            (objects, troubles)
        };
        let named = |type_: &'static str, status: &'static str, why: &str| (type_, status, why.to_owned());
        assert_eq!(seen(&[]), (vec![("new", String::new())], vec![]));
        assert_eq!(seen(&ready), (vec![("ready", "AsDeclared".into())], vec![]));
        let troubles = vec![named("Ready", "False", "RecordTampered"), named("Stalled", "True", "RecordTampered")];
        assert_eq!(seen(&stalled), (vec![("stalled", "RecordTampered".into())], troubles));
        let troubles = vec![named("Ready", "False", "KeyStoreError"), named("Reconciling", "True", "KeyStoreError")];
        assert_eq!(seen(&waiting), (vec![("waiting", "KeyStoreError".into())], troubles));
        assert_eq!(seen(&held), (vec![("ready", "AsDeclared".into())], vec![named("PurgeHeld", "True", "ClockSkew")]));
    }
}
