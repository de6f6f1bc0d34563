//! Tells the controllers which objects to look at again, beside those that their own watch shows changed.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    api::{AccessKey, CustomerMasterKey, DataKey, KeyStoreRef, metadata},
    cluster::Guarded,
    controller::{access_key, data_key},
};

/// What is watched: one namespace, or all.
pub type Scope = Option<String>;

/// The objects of one kind in one scope, and the way to their controller.
#[derive(Clone)]
pub struct Watched<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// The scope.
    pub scope: Scope,
    /// What the watch has shown.
    pub store: Store<Guarded<K>>,
    sender: UnboundedSender<ObjectRef<Guarded<K>>>,
}

/// Requests for a controller.
pub type Requests<K> = UnboundedReceiver<ObjectRef<Guarded<K>>>;

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// The objects in `store`, and the requests that will be made for them.
    pub fn new(scope: Scope, store: Store<Guarded<K>>) -> (Self, Requests<K>) {
        let (sender, receiver) = unbounded_channel();
        (Self { scope, store, sender }, receiver)
    }

    fn covers(&self, namespace: &str) -> bool {
        self.scope.as_deref().is_none_or(|scope| scope == namespace)
    }

    /// Look at an object.
    pub fn request(&self, namespace: &str, name: &str) {
        // Fails only when the controller has ended, and then nothing is to be looked at any more.
        let _ = self.sender.send(ObjectRef::new(name).within(namespace));
    }

    /// Look at everything that is shown.
    pub fn request_all(&self) {
        request_where(self, |_| true);
    }
}

/// The way to all controllers.
#[derive(Clone, Default)]
pub struct Triggers {
    /// The keys.
    pub keys: Arc<Vec<Watched<CustomerMasterKey>>>,
    /// The data keys.
    pub data_keys: Arc<Vec<Watched<DataKey>>>,
    /// The access keys.
    pub access_keys: Arc<Vec<Watched<AccessKey>>>,
}

impl Triggers {
    /// Look at a key's object again, and at the data keys under it.
    pub fn key(&self, namespace: &str, name: &str) {
        self.key_alone(namespace, name);
        self.data_keys_of(namespace, name);
    }

    /// Look at a key's object again.
    pub fn key_alone(&self, namespace: &str, name: &str) {
        for watched in self.keys.iter().filter(|w| w.covers(namespace)) {
            watched.request(namespace, name);
        }
    }

    /// Look at the data keys under a key again, in whatever namespace.
    pub fn data_keys_of(&self, namespace: &str, name: &str) {
        for watched in self.data_keys.iter() {
            let under = |object: &Guarded<DataKey>| {
                let own = object.namespace().unwrap_or_default();
                object.0.as_ref().is_ok_and(|data_key| data_key.spec.master(&own) == (namespace, name))
            };
            request_where(watched, under);
        }
    }

    /// An alias is free: look at the keys that want it.
    pub fn alias(&self, namespace: &str, alias: &str) {
        for watched in self.keys.iter().filter(|w| w.covers(namespace)) {
            request_where(watched, |object| {
                object.namespace().as_deref() == Some(namespace)
                    && object.0.as_ref().is_ok_and(|key| key.spec.full_alias().as_deref() == Some(alias))
            });
        }
    }

    /// A key store came, went or changed: look at the keys in it, and at what has its region.
    pub fn key_store(&self, store: &KeyStoreRef) {
        if *store == KeyStoreRef::default() {
            self.all_access_keys();
        }
        for watched in self.keys.iter() {
            request_where(watched, |object| object.0.as_ref().is_ok_and(|key| key.key_store_ref() == *store));
        }
    }

    /// Look at the objects that want to adopt a key and have not: they may now.
    pub fn adopters(&self) {
        for watched in self.keys.iter() {
            request_where(watched, |object| {
                let wants = object.0.as_ref().is_ok_and(|key| key.spec.key_id.is_some());
                wants && !object.annotations().contains_key(metadata::KEY_ID)
            });
        }
    }

    /// Look at the keys that are being deleted: what they wait for may be gone.
    pub fn deleting_keys(&self) {
        for watched in self.keys.iter() {
            request_where(watched, |object| object.meta().deletion_timestamp.is_some());
        }
    }

    /// Look at everything again that is delivered as a Secret in a scope.
    pub fn all_delivered(&self, scope: &Scope) {
        self.data_keys.iter().filter(|w| w.scope == *scope).for_each(Watched::request_all);
        self.access_keys.iter().filter(|w| w.scope == *scope).for_each(Watched::request_all);
    }

    /// Look at every data key again.
    pub fn all_data_keys(&self) {
        for watched in self.data_keys.iter() {
            watched.request_all();
        }
    }

    /// Look at the data keys whose next rotation has come.
    pub fn due_data_keys(&self, now: Timestamp) {
        let is_due = |data_key: &DataKey| data_key::next_event(data_key).is_some_and(|time| time <= now);
        for watched in self.data_keys.iter() {
            request_where(watched, |object| object.0.as_ref().is_ok_and(is_due));
        }
    }

    /// Look at a data key again.
    pub fn data_key(&self, namespace: &str, name: &str) {
        for watched in self.data_keys.iter().filter(|w| w.covers(namespace)) {
            watched.request(namespace, name);
        }
    }

    /// Look at an access key again.
    pub fn access_key(&self, namespace: &str, name: &str) {
        for watched in self.access_keys.iter().filter(|w| w.covers(namespace)) {
            watched.request(namespace, name);
        }
    }

    /// A ServiceAccount came, went or was made anew: look at its access keys.
    pub fn access_keys_of(&self, namespace: &str, service_account: &str) {
        for watched in self.access_keys.iter().filter(|w| w.covers(namespace)) {
            request_where(watched, |object| {
                object.namespace().as_deref() == Some(namespace)
                    && object.0.as_ref().is_ok_and(|object| object.spec.service_account_name == service_account)
            });
        }
    }

    /// Look at every access key again.
    pub fn all_access_keys(&self) {
        for watched in self.access_keys.iter() {
            watched.request_all();
        }
    }

    /// Look at the access keys whose next rotation has come, or beside which one has expired.
    pub fn due_access_keys(&self, now: Timestamp) {
        let is_due = |object: &AccessKey| access_key::next_event(object).is_some_and(|time| time <= now);
        for watched in self.access_keys.iter() {
            request_where(watched, |object| object.0.as_ref().is_ok_and(is_due));
        }
    }

    /// Look at everything in a namespace again.
    pub fn namespace(&self, namespace: &str) {
        for watched in self.keys.iter().filter(|w| w.covers(namespace)) {
            request_where(watched, |object| object.namespace().as_deref() == Some(namespace));
        }
        for watched in self.data_keys.iter().filter(|w| w.covers(namespace)) {
            request_where(watched, |object| object.namespace().as_deref() == Some(namespace));
        }
        for watched in self.access_keys.iter().filter(|w| w.covers(namespace)) {
            request_where(watched, |object| object.namespace().as_deref() == Some(namespace));
        }
    }
}

fn request_where<K>(watched: &Watched<K>, wanted: impl Fn(&Guarded<K>) -> bool)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for object in watched.store.state_filter(wanted) {
        watched.request(&object.namespace().unwrap_or_default(), &object.name_any());
    }
}
