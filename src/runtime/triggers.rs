//! Tells the controllers which objects to look at again, beside those that their own watch shows changed.

use std::sync::Arc;

use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    api::{CustomerMasterKey, DataKey},
    cluster::Guarded,
    store::KeySlot,
};

/// What is watched: one namespace, or all.
pub type Scope = Option<String>;

/// The objects of one kind in one scope, and the way to their controller.
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

    fn request(&self, namespace: &str, name: &str) {
        // Fails only when the controller has ended, and then nothing is to be looked at any more.
        let _ = self.sender.send(ObjectRef::new(name).within(namespace));
    }
}

/// The way to all controllers.
#[derive(Clone)]
pub struct Triggers {
    /// The keys.
    pub keys: Arc<Vec<Watched<CustomerMasterKey>>>,
    /// The data keys.
    pub data_keys: Arc<Vec<Watched<DataKey>>>,
}

impl Triggers {
    /// Look at a key's object again, and at the data keys under it.
    pub fn key(&self, slot: &KeySlot) {
        for watched in self.keys.iter().filter(|w| w.covers(&slot.namespace)) {
            watched.request(&slot.namespace, &slot.name);
        }
        self.data_keys_of(slot);
    }

    /// Look at the data keys under a key again.
    pub fn data_keys_of(&self, slot: &KeySlot) {
        for watched in self.data_keys.iter().filter(|w| w.covers(&slot.namespace)) {
            let under = |object: &Guarded<DataKey>| {
                object.0.as_ref().is_ok_and(|data_key| {
                    data_key.spec.key_ref.name == slot.name
                        && data_key.metadata.namespace.as_deref() == Some(&slot.namespace)
                })
            };
            for object in watched.store.state_filter(under) {
                // Every object that was watched has a name.
                let name = object.0.as_ref().ok().and_then(|o| o.metadata.name.clone()).unwrap_or_default();
                watched.request(&slot.namespace, &name);
            }
        }
    }

    /// Look at every data key again.
    pub fn all_data_keys(&self) {
        for watched in self.data_keys.iter() {
            for object in watched.store.state() {
                watched.request(&object.namespace().unwrap_or_default(), &object.name_any());
            }
        }
    }

    /// Look at a data key again.
    pub fn data_key(&self, namespace: &str, name: &str) {
        for watched in self.data_keys.iter().filter(|w| w.covers(namespace)) {
            watched.request(namespace, name);
        }
    }

    /// Look at everything in a namespace again.
    pub fn namespace(&self, namespace: &str) {
        for watched in self.keys.iter().filter(|w| w.covers(namespace)) {
            request_all(watched, namespace);
        }
        for watched in self.data_keys.iter().filter(|w| w.covers(namespace)) {
            request_all(watched, namespace);
        }
    }
}

fn request_all<K>(watched: &Watched<K>, namespace: &str)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for object in watched.store.state_filter(|object| object.namespace().as_deref() == Some(namespace)) {
        watched.request(namespace, &object.name_any());
    }
}
