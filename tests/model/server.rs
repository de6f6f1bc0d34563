//! An API server in memory, with the semantics that the operator counts on: resource versions that grow, UIDs,
//! preconditions, finalizers, generations, status apart from spec, and times to the second.

use std::collections::{BTreeMap, BTreeSet};

use cmk_operator::{
    api::{CustomerMasterKey, DataKey, metadata},
    cluster::{ApiError, History, NamespaceView},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Namespace and name.
pub type Name = (String, String);

/// Everything in etcd.
pub struct Etcd {
    /// The version of the last write.
    pub version: u64,
    uids: u64,
    /// The server's own clock.
    pub now: Timestamp,
    pub namespaces: BTreeMap<String, NamespaceView>,
    pub secrets: BTreeMap<Name, Secret>,
    pub keys: BTreeMap<Name, CustomerMasterKey>,
    pub data_keys: BTreeMap<Name, DataKey>,
    /// Every change of a `CustomerMasterKey`: at which version, whether it was deleted, and as what.
    history: Vec<(u64, bool, CustomerMasterKey)>,
}

/// A kind of object that is kept.
pub trait Kept: Resource<DynamicType = ()> + Clone + PartialEq + Serialize + DeserializeOwned {
    fn shelf(etcd: &mut Etcd) -> &mut BTreeMap<Name, Self>;
    /// Whether the two have the same spec.
    fn same_spec(&self, other: &Self) -> bool;
    /// Whether there is a part `status`, with an entry of its own in the API.
    fn take_status(&mut self, from: &Self);
    fn log(_: &mut Etcd, _deleted: bool, _: &Self) {}
}

impl Kept for Secret {
    fn shelf(etcd: &mut Etcd) -> &mut BTreeMap<Name, Self> {
        &mut etcd.secrets
    }
    fn same_spec(&self, _: &Self) -> bool {
        true
    }
    fn take_status(&mut self, _: &Self) {}
}

impl Kept for DataKey {
    fn shelf(etcd: &mut Etcd) -> &mut BTreeMap<Name, Self> {
        &mut etcd.data_keys
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
    fn take_status(&mut self, from: &Self) {
        self.status.clone_from(&from.status);
    }
}

impl Kept for CustomerMasterKey {
    fn shelf(etcd: &mut Etcd) -> &mut BTreeMap<Name, Self> {
        &mut etcd.keys
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
    fn take_status(&mut self, from: &Self) {
        self.status.clone_from(&from.status);
    }
    fn log(etcd: &mut Etcd, deleted: bool, object: &Self) {
        etcd.history.push((etcd.version, deleted, object.clone()));
    }
}

/// The namespace and name of an object.
pub fn name_of<K: ResourceExt>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What arrives of an object at the other end of a connection: times to the second, and nothing that is not written.
fn over_the_wire<K: Kept>(object: &K) -> K {
    serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap()
}

fn finalizers(meta: &ObjectMeta) -> BTreeSet<&String> {
    meta.finalizers.iter().flatten().collect()
}

impl Etcd {
    pub fn new(now: Timestamp) -> Self {
        Self {
            version: 100,
            uids: 0,
            now,
            namespaces: BTreeMap::new(),
            secrets: BTreeMap::new(),
            keys: BTreeMap::new(),
            data_keys: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    pub fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    pub fn get<K: Kept>(&mut self, namespace: &str, name: &str) -> Option<K> {
        K::shelf(self).get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// `AlreadyExists`, or the object as it is then.
    pub fn create<K: Kept>(&mut self, object: &K) -> Result<K, ApiError> {
        let name = name_of(object);
        match self.namespaces.get(&name.0) {
            None => return Err(ApiError::NotFound),
            Some(namespace) if namespace.terminating => {
                return Err(ApiError::Forbidden("the namespace is being terminated".into()));
            }
            Some(_) => {}
        }
        if K::shelf(self).contains_key(&name) {
            return Err(ApiError::AlreadyExists);
        }
        let mut created = over_the_wire(object);
        let uid = self.new_uid();
        let meta = created.meta_mut();
        assert_eq!(meta.uid, None, "a create with a UID is refused");
        meta.uid = Some(uid);
        meta.generation = Some(1);
        meta.creation_timestamp = Some(Time(Timestamp::from_second(self.now.as_second()).unwrap()));
        Ok(self.put(created))
    }

    /// Writes an object, at a new version; one that is being deleted and has no finalizer is gone.
    fn put<K: Kept>(&mut self, mut object: K) -> K {
        self.version += 1;
        object.meta_mut().resource_version = Some(self.version.to_string());
        let gone = object.meta().deletion_timestamp.is_some() && finalizers(object.meta()).is_empty();
        if gone {
            K::shelf(self).remove(&name_of(&object));
        } else {
            K::shelf(self).insert(name_of(&object), object.clone());
        }
        K::log(self, gone, &object);
        object
    }

    /// The object as it is now, if `decided_on` names exactly that. A write that names none is a bug of the operator.
    fn matching<K: Kept>(&mut self, decided_on: &ObjectMeta) -> Result<K, ApiError> {
        let (Some(uid), Some(version)) = (&decided_on.uid, &decided_on.resource_version) else {
            panic!("a write without a precondition: {decided_on:?}");
        };
        let (namespace, name) = (decided_on.namespace.clone().unwrap(), decided_on.name.clone().unwrap());
        let current: K = self.get(&namespace, &name).ok_or(ApiError::NotFound)?;
        if current.meta().uid.as_ref() != Some(uid) || current.meta().resource_version.as_ref() != Some(version) {
            return Err(ApiError::Conflict("the object has been modified".into()));
        }
        Ok(current)
    }

    /// Replaces what `change` makes of exactly the version that was decided on. What is the same as before is not
    /// written.
    pub fn update<K: Kept>(&mut self, decided_on: &ObjectMeta, change: impl FnOnce(&mut K)) -> Result<K, ApiError> {
        let current: K = self.matching(decided_on)?;
        self.change(current, change)
    }

    /// Changes an object, whatever it is now: only a user writes like that.
    pub fn edit<K: Kept>(&mut self, name: &Name, change: impl FnOnce(&mut K)) -> bool {
        let Some(current) = K::shelf(self).get(name).cloned() else { return false };
        self.change(current, change).is_ok()
    }

    fn change<K: Kept>(&mut self, current: K, change: impl FnOnce(&mut K)) -> Result<K, ApiError> {
        let mut next = current.clone();
        change(&mut next);
        let mut next = over_the_wire(&next);
        if current.meta().deletion_timestamp.is_some()
            && !finalizers(next.meta()).is_subset(&finalizers(current.meta()))
        {
            return Err(ApiError::Refused("no new finalizers can be added if the object is being deleted".into()));
        }
        if !next.same_spec(&current) {
            next.meta_mut().generation = current.meta().generation.map(|g| g + 1);
        }
        if next == current { Ok(current) } else { Ok(self.put(next)) }
    }

    /// Deletes exactly the version that was decided on.
    pub fn delete_exactly<K: Kept>(&mut self, decided_on: &ObjectMeta) -> Result<(), ApiError> {
        let current: K = self.matching(decided_on)?;
        self.delete::<K>(&name_of(&current));
        Ok(())
    }

    /// Deletes an object: one with finalizers stays, and is marked.
    pub fn delete<K: Kept>(&mut self, name: &Name) {
        let Some(mut object) = K::shelf(self).get(name).cloned() else { return };
        if object.meta().deletion_timestamp.is_none() {
            let now = Timestamp::from_second(self.now.as_second()).unwrap();
            object.meta_mut().deletion_timestamp = Some(Time(now));
            object.meta_mut().generation = object.meta().generation.map(|g| g + 1);
            self.put(object);
        }
    }

    /// What the recorded history since a version says of an object.
    pub fn history(&self, namespace: &str, name: &str, uid: &str, since: &str) -> History {
        let since: u64 = since.parse().unwrap_or(u64::MAX);
        let finished = |o: &CustomerMasterKey| {
            o.finalizers().iter().any(|f| f == metadata::FINALIZER) || o.annotations().contains_key(metadata::KEY_ID)
        };
        let events = || {
            self.history.iter().filter(|(version, _, object)| {
                *version > since && object.namespace().as_deref() == Some(namespace) && object.name_any() == name
            })
        };
        let last = events().rfind(|(_, deleted, o)| *deleted && o.uid().as_deref() == Some(uid));
        match last {
            Some((_, _, object)) if !events().any(|(_, _, o)| finished(o)) => {
                History::NeverFinished(Box::new(object.clone()))
            }
            _ => History::Unknown,
        }
    }
}

/// A JSON merge patch (RFC 7396).
pub fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (field, value) in fields {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(field);
        } else {
            merge(&mut into[field.as_str()], value);
        }
    }
}
