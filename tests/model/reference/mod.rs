//! What the state tables and the rules of the design say about keys, in its own words: it uses nothing of the
//! operator's. Where they leave something open, it does as the operator does, and a comment says so.
//!
//! A [`Model`] is a value: what is known to be there, as facts. What a pass over one object makes of it is [`Model::pass`].

mod facts;
mod pass;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use facts::{Facts, days_after};

/// The objects are called by numbers.
pub const NAMES: [u8; 2] = [0, 1];

/// What a user declares. Descriptions stand for tags too; aliases and secrets are numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub external: bool,
    pub enabled: bool,
    pub schedule: bool,
    pub window: Option<i32>,
    pub protection: bool,
    pub retain: bool,
    pub description: u8,
    pub alias: Option<u8>,
    pub interval: Option<i32>,
    /// Imported material: when it expires.
    pub material: Option<Option<Timestamp>>,
}

impl Spec {
    fn window(&self) -> i32 {
        self.window.unwrap_or(366)
    }
}

/// The states of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Enabled,
    Disabled,
    PendingDeletion,
    PendingImport,
}

/// How an object stands: Ready, or why it is not, and whether that needs a person.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    Ready,
    Waiting(&'static str),
    Stalled(&'static str),
}

/// A key, by its place in [`Model::keys`].
pub type Key = usize;

/// What an object's status says of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub key: Key,
    pub state: State,
    pub facts: Facts,
    pub next_rotation: Option<Timestamp>,
}

/// An object, as it is declared and as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Tells it from others of the same name.
    pub uid: u32,
    pub spec: Spec,
    /// The request for a rotation, as annotated.
    pub request: Option<u8>,
    /// The key to be given up, as annotated.
    pub abandon: Option<Key>,
    pub finalizer: bool,
    /// The key that it says it has, as annotated.
    pub annotated: Option<Key>,
    pub deleting: bool,
    pub standing: Option<Standing>,
    pub shown: Option<Shown>,
}

/// A material Secret: which bytes are in it, or that there are too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Material {
    Bytes(u8),
    Short,
}

/// Up to where a pass gets before it is interrupted. Everything up to there is done, nothing after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// A key is given up, no other is made yet.
    GivenUp,
    /// The record says what is declared.
    Recorded,
    /// The object says which key it has.
    TakenOn,
    /// The alias is claimed and recorded.
    Named,
    /// The material is imported, and what it allows is done.
    Imported,
    /// Status says everything.
    Told,
}

impl Until {
    pub const ALL: [Self; 6] = [Self::GivenUp, Self::Recorded, Self::TakenOn, Self::Named, Self::Imported, Self::Told];
}

/// A namespace, with all the keys and objects that it ever had.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub keys: Vec<Facts>,
    pub objects: BTreeMap<u8, Object>,
    /// The last declarations of objects that are gone.
    pub gone: BTreeMap<u32, Spec>,
    /// Who claimed an alias.
    pub aliases: BTreeMap<u8, Key>,
    /// The material Secret, which all objects of origin EXTERNAL refer to.
    pub secret: Option<Material>,
    /// DataKeys refer to the keys of these objects.
    pub data_keys: BTreeMap<u8, bool>,
    /// Which namespace of its name this is.
    pub namespace: u32,
    pub terminating: bool,
    /// An administrator lets it adopt the keys of an earlier one.
    pub adopts: bool,
    /// The key store gives new keys to namespaces that were made anew.
    pub new_keys: bool,
    /// The clocks disagree.
    pub skewed: bool,
}

impl Model {
    /// The key that a name has now.
    pub fn current(&self, name: u8) -> Option<Key> {
        let mut keys = self.keys.iter().enumerate();
        keys.find(|(_, key)| key.name == name && !key.abandoned && !key.forgotten).map(|(index, _)| index)
    }

    /// Whether a record of a name can't be read: then nobody knows which key it has.
    fn unreadable(&self, name: u8) -> bool {
        self.keys.iter().any(|key| key.name == name && key.tampered && !key.forgotten)
    }

    /// The key that an object says it has. One that was given up does not count.
    fn claimed(&self, object: &Object) -> Option<Key> {
        let key = object.annotated.or(object.shown.as_ref().map(|shown| shown.key))?;
        (!self.keys[key].abandoned).then_some(key)
    }

    /// The key that claimed an alias has no use for it any more. Of one that can't be read nobody can say that.
    fn is_void(&self, key: Key) -> bool {
        let key = &self.keys[key];
        !key.tampered && (key.released || key.abandoned || key.erased)
    }

    /// Keys whose date has passed are erased (rule 4).
    pub fn purge(&mut self, now: Timestamp) {
        if self.skewed {
            return;
        }
        for key in self.keys.iter_mut().filter(|key| key.due(now) && !key.tampered && !key.forgotten) {
            key.versions.clear();
            key.erased = true;
            key.untouched = false;
        }
    }

    /// Keys that never belonged to a finished object are forgotten; older ones whose last object never finished are
    /// let go as its deletion would have (rule 1).
    pub fn forget(&mut self, name: u8, now: Timestamp) {
        if self.objects.contains_key(&name) {
            return;
        }
        let waits = |key: &&mut Facts| {
            key.name == name && !key.released && !key.abandoned && !key.forgotten && !key.erased && !key.tampered
        };
        for key in self.keys.iter_mut().filter(waits) {
            if key.unfinished
                && let Some(spec) = self.gone.get(&key.owner)
            {
                if key.untouched {
                    key.forgotten = true;
                } else {
                    key.let_go(spec, now);
                }
            }
        }
    }

    /// Passes over everything until nothing changes any more, the erasing, and what that brings.
    pub fn settle(&self, now: Timestamp) -> Self {
        let mut settled = self.clone();
        loop {
            let before = settled.clone();
            for name in NAMES {
                settled = settled.pass(name, now, Until::Told);
            }
            if settled == before {
                settled.purge(now);
                NAMES.into_iter().for_each(|name| settled.forget(name, now));
            }
            if settled == before {
                return settled;
            }
        }
    }

    /// Whether an erasure is held back.
    pub fn held(&self, key: Key, now: Timestamp) -> bool {
        self.skewed && self.keys[key].due(now)
    }
}
