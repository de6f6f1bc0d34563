//! What the state tables and the rules of the design say about keys, in the words of this file alone: it uses nothing
//! of the operator's. Where they leave something open, it does as the operator does, and a comment says so.
//!
//! A [`Model`] is a value: what is known to be there, as facts. What a pass over one object makes of it is [`Model::pass`].

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

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

/// All that there is to know about a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The name of the object that it was made for.
    pub name: u8,
    /// Its id, once it was seen.
    pub id: Option<Uuid>,
    /// The namespace, of those that had the same name one after the other, in which it was claimed last.
    pub namespace: u32,
    /// The object that claimed it last.
    pub owner: u32,
    /// No object of its name was finished since that claim, so that nobody can have used it under one.
    pub unfinished: bool,
    /// Never changed since it was made.
    pub untouched: bool,
    /// Its object was deleted, and let it go.
    pub released: bool,
    /// Given up for another key.
    pub abandoned: bool,
    /// It never belonged to a finished object, and there is no trace of it.
    pub forgotten: bool,
    /// Somebody damaged its record.
    pub tampered: bool,
    pub external: bool,
    pub enabled: bool,
    pub description: u8,
    pub protection: bool,
    pub alias: Option<u8>,
    pub interval: Option<i32>,
    /// The request for a rotation that was answered last.
    pub handled: Option<u8>,
    /// The window and the date of its deletion.
    pub deletion: Option<(i32, Timestamp)>,
    pub erased: bool,
    /// When each version was made.
    pub versions: Vec<Timestamp>,
    /// Which material was imported, when first, and when it expires.
    pub imported: Option<(u8, Timestamp, Option<Timestamp>)>,
}

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
    pub const ALL: [Self; 6] =
        [Self::GivenUp, Self::Recorded, Self::TakenOn, Self::Named, Self::Imported, Self::Told];
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

fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap()
}

pub fn days_after(time: Timestamp, days: i32) -> Timestamp {
    seconds(time) + SignedDuration::from_hours(24 * i64::from(days))
}

impl Facts {
    fn new(name: u8, object: &Object, namespace: u32, now: Timestamp) -> Self {
        Self {
            name,
            id: None,
            namespace,
            owner: object.uid,
            unfinished: true,
            untouched: true,
            released: false,
            abandoned: false,
            forgotten: false,
            tampered: false,
            external: object.spec.external,
            enabled: true,
            description: 0,
            protection: false,
            alias: None,
            interval: None,
            // A request that is there from the beginning is answered by the key itself. (Open; as the operator does.)
            handled: object.request,
            deletion: None,
            erased: false,
            versions: if object.spec.external { vec![] } else { vec![seconds(now)] },
            imported: None,
        }
    }

    fn expires(&self) -> Option<Timestamp> {
        self.imported.filter(|_| !self.versions.is_empty())?.2
    }

    fn expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|time| time <= now)
    }

    /// Rule 3.
    pub fn state(&self, now: Timestamp) -> State {
        if self.deletion.is_some() {
            State::PendingDeletion
        } else if self.versions.is_empty() || self.expired(now) {
            State::PendingImport
        } else if !self.enabled {
            State::Disabled
        } else {
            State::Enabled
        }
    }

    /// Rule 8: next = last + interval, only while Enabled.
    pub fn next_rotation(&self, now: Timestamp) -> Option<Timestamp> {
        let days = self.interval.filter(|_| self.state(now) == State::Enabled)?;
        Some(days_after(*self.versions.last()?, days))
    }

    fn due(&self, now: Timestamp) -> bool {
        !self.erased && self.deletion.is_some_and(|(_, date)| date <= now)
    }

    /// CancelKeyDeletion: the key is Enabled.
    fn cancel(&mut self) {
        self.deletion = None;
        self.enabled = true;
    }

    fn schedule(&mut self, days: i32, now: Timestamp) {
        self.deletion = Some((days, days_after(now, days)));
    }

    /// Brings the key to what is declared, as far as its state allows. Answers why the rest has to wait.
    fn steer(&mut self, object: &Object, now: Timestamp) -> Option<&'static str> {
        let spec = &object.spec;
        if self.expired(now) {
            self.versions.clear();
        }
        if spec.material.is_none() && self.external && !self.protection && !spec.protection {
            self.versions.clear();
        }
        // Protection and a scheduled deletion exclude each other at admission; if not, protection wins (rule 7).
        let schedule = spec.schedule && !spec.protection;
        if self.deletion.is_some_and(|(days, _)| schedule && days == spec.window()) {
            // The tables: nothing but a cancellation changes a key that is PendingDeletion.
            let differs = self.description != spec.description
                || self.protection != spec.protection
                || self.interval != spec.interval;
            return differs.then_some("RejectedPendingDeletion");
        }
        if self.deletion.is_some() {
            self.cancel();
        }
        self.description = spec.description;
        self.protection = spec.protection;
        let usable = |key: &Self| key.state(now) == State::Enabled;
        if self.state(now) == State::Disabled && spec.enabled {
            self.enabled = true;
        }
        if usable(self) && !self.external {
            self.interval = spec.interval;
            let requested = object.request.is_some() && object.request != self.handled;
            let overdue = self.next_rotation(now).is_some_and(|next| next <= now);
            if (requested || overdue) && spec.enabled && !schedule {
                self.versions.push(seconds(now));
                self.handled = if requested { object.request } else { self.handled };
            }
        }
        if usable(self) && !spec.enabled {
            self.enabled = false;
        }
        let blocked = (self.interval != spec.interval).then(|| match self.state(now) {
            State::Disabled => "RejectedDisabled",
            state => unreachable!("an interval can be set while {state:?}"),
        });
        if schedule {
            self.schedule(spec.window(), now);
        }
        blocked
    }

    /// What the deletion of an object with this spec does (rules 5 and 7).
    fn let_go(&mut self, spec: &Spec, now: Timestamp) {
        self.released = true;
        self.untouched = false;
        if self.erased {
            return;
        }
        self.alias = None;
        if spec.protection || self.protection || spec.retain {
            return;
        }
        // The date does not move, unless the window did (rule 4).
        if self.deletion.is_none_or(|(days, _)| days != spec.window()) {
            self.schedule(spec.window(), now);
        }
    }
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

    /// What one pass over an object, interrupted at `until`, leaves.
    pub fn pass(&self, name: u8, now: Timestamp, until: Until) -> Self {
        let mut after = self.clone();
        let Some(mut object) = after.objects.remove(&name) else { return after };
        let stays =
            if object.deleting { after.remove(&mut object, name, now, until) } else { after.drive(&mut object, name, now, until) };
        match stays {
            Some((standing, key)) => {
                if until == Until::Told {
                    after.tell(&mut object, standing, key, now);
                }
                after.objects.insert(name, object);
            }
            None => {
                after.gone.insert(object.uid, object.spec);
            }
        }
        after
    }

    fn tell(&self, object: &mut Object, standing: Standing, key: Option<Key>, now: Timestamp) {
        object.standing = Some(standing);
        // A key that can't be read keeps what was shown of it last.
        if let Some(key) = key {
            let facts = self.keys[key].clone();
            let (state, next_rotation) = (facts.state(now), facts.next_rotation(now));
            object.shown = Some(Shown { key, state, facts, next_rotation });
        }
    }

    /// A pass over an object that is to stay.
    fn drive(
        &mut self,
        object: &mut Object,
        name: u8,
        now: Timestamp,
        until: Until,
    ) -> Option<(Standing, Option<Key>)> {
        let stalled = |reason, key| Some((Standing::Stalled(reason), key));
        if self.unreadable(name) {
            return stalled("RecordTampered", None);
        }
        let claimed = self.claimed(object);
        if claimed.is_some() && claimed != self.current(name) {
            return stalled("KeyRecordMissing", None);
        }
        if let Some(key) = self.current(name) {
            let replaced = self.keys[key].namespace != self.namespace
                && self.new_keys
                && !self.adopts
                && claimed.is_none()
                && !self.keys[key].erased
                && self.keys[key].external == object.spec.external;
            if object.abandon == Some(key) || replaced {
                self.keys[key].abandoned = true;
                self.keys[key].released = true;
                if until == Until::GivenUp {
                    return stalled("", None);
                }
            }
        }
        if until == Until::GivenUp {
            return stalled("", None);
        }
        let is_new = self.current(name).is_none();
        if is_new {
            let mut key = Facts::new(name, object, self.namespace, now);
            key.steer(object, now);
            self.keys.push(key);
        }
        let key = self.current(name).unwrap();
        if self.keys[key].erased {
            self.aliases.retain(|_, holder| *holder != key);
            return stalled("KeyDeleted", Some(key));
        }
        if self.keys[key].external != object.spec.external {
            return stalled("ImmutableFieldChanged", Some(key));
        }
        if self.keys[key].namespace != self.namespace && !self.adopts {
            return stalled("NamespaceRecreated", Some(key));
        }
        self.take(object, key);
        let mut blocked = self.settle_record(object, key, now);
        if until == Until::Recorded {
            return stalled("", None);
        }
        object.finalizer = true;
        object.annotated = Some(key);
        self.keys[key].unfinished = false;
        if until == Until::TakenOn {
            return stalled("", None);
        }
        let alias = self.name(object, key, now);
        if until == Until::Named {
            return stalled("", None);
        }
        let (material, imported) = self.import(object, key, now);
        if imported {
            blocked = self.settle_record(object, key, now);
        }
        let standing = material
            .or(alias)
            .or(blocked.map(Standing::Stalled))
            .or(self.rotation(object, key))
            .unwrap_or(Standing::Ready);
        Some((standing, Some(key)))
    }

    /// The object claims its key.
    fn take(&mut self, object: &Object, key: Key) {
        let facts = &mut self.keys[key];
        if facts.released || facts.owner != object.uid || facts.namespace != self.namespace {
            facts.released = false;
            facts.owner = object.uid;
            facts.namespace = self.namespace;
            facts.untouched = false;
            facts.unfinished = !object.finalizer && object.annotated.is_none();
        }
    }

    /// Steers until nothing changes any more.
    fn settle_record(&mut self, object: &Object, key: Key, now: Timestamp) -> Option<&'static str> {
        let facts = &mut self.keys[key];
        loop {
            let before = facts.clone();
            let blocked = facts.steer(object, now);
            if *facts == before {
                return blocked;
            }
            facts.untouched = false;
        }
    }

    /// Rule 10.
    fn name(&mut self, object: &Object, key: Key, now: Timestamp) -> Option<Standing> {
        let declared = object.spec.alias;
        let held = self.keys[key].alias;
        let mut standing = None;
        if let Some(alias) = declared {
            let holder = self.aliases.get(&alias).copied().filter(|holder| !self.is_void(*holder));
            // CreateAlias and UpdateAlias are refused while PendingDeletion.
            if held != declared && self.keys[key].state(now) == State::PendingDeletion {
                standing = Some(Standing::Stalled("RejectedPendingDeletion"));
            } else if holder.is_none_or(|holder| holder == key) {
                self.aliases.insert(alias, key);
                self.keys[key].alias = declared;
            } else {
                standing = Some(Standing::Waiting("AliasConflict"));
            }
        } else {
            self.keys[key].alias = None;
        }
        if self.keys[key].alias != held {
            self.keys[key].untouched = false;
        }
        let held = self.keys[key].alias;
        self.aliases.retain(|alias, holder| *holder != key || Some(*alias) == held);
        standing
    }

    /// Rule 9. Answers what is wrong, and whether material was imported.
    fn import(&mut self, object: &Object, key: Key, now: Timestamp) -> (Option<Standing>, bool) {
        let facts = &mut self.keys[key];
        if !facts.external {
            return (None, false);
        }
        let Some(expires) = object.spec.material else {
            let kept = !facts.versions.is_empty();
            return (kept.then_some(Standing::Stalled("DeletionProtected")), false);
        };
        if expires.is_some_and(|time| time <= now) {
            // An expiry in the past is refused, as in the cloud: what was imported before stays as it was.
            return (Some(Standing::Stalled("MaterialExpired")), false);
        }
        if !facts.versions.is_empty() && facts.imported.is_some_and(|(_, _, before)| before == expires) {
            return (None, false);
        }
        if facts.state(now) == State::PendingDeletion {
            return (Some(Standing::Stalled("RejectedPendingDeletion")), false);
        }
        match (self.secret, facts.imported) {
            (None, _) => (Some(Standing::Waiting("MaterialNotFound")), false),
            (Some(Material::Short), _) => (Some(Standing::Stalled("InvalidKeyMaterial")), false),
            (Some(Material::Bytes(bytes)), Some((before, ..))) if bytes != before => {
                (Some(Standing::Stalled("InvalidKeyMaterial")), false)
            }
            (Some(Material::Bytes(bytes)), before) => {
                // It is the version that it was before.
                let first = before.map_or(seconds(now), |(_, first, _)| first);
                facts.imported = Some((bytes, first, expires));
                facts.versions = vec![first];
                facts.enabled = true;
                facts.untouched = false;
                (None, true)
            }
        }
    }

    /// A request that was not answered.
    fn rotation(&self, object: &Object, key: Key) -> Option<Standing> {
        let facts = &self.keys[key];
        if object.request.is_none() || object.request == facts.handled {
            None
        } else if facts.external {
            Some(Standing::Stalled("RotationRefused"))
        } else {
            Some(Standing::Waiting("RotationSuspended"))
        }
    }

    /// A pass over an object that is to go. None: it is gone.
    fn remove(
        &mut self,
        object: &mut Object,
        name: u8,
        now: Timestamp,
        until: Until,
    ) -> Option<(Standing, Option<Key>)> {
        let unreadable = self.unreadable(name);
        if !self.terminating && self.data_keys.get(&name) == Some(&true) {
            return Some((Standing::Waiting("KeyInUse"), self.current(name).filter(|_| !unreadable)));
        }
        let mine = self.current(name).filter(|key| {
            !unreadable && self.claimed(object) == Some(*key) && self.keys[*key].namespace == self.namespace
        });
        if let Some(key) = mine {
            if until == Until::GivenUp {
                return Some((Standing::Ready, None));
            }
            if !self.keys[key].released {
                self.keys[key].let_go(&object.spec, now);
            }
            if until > Until::Recorded {
                self.aliases.retain(|_, holder| *holder != key);
            }
        }
        (until < Until::Told).then_some((Standing::Ready, None))
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
    pub fn forget(&mut self, now: Timestamp) {
        let objects = &self.objects;
        let orphan =
            |key: &&mut Facts| !key.released && !key.abandoned && !key.forgotten && !key.erased && !key.tampered && !objects.contains_key(&key.name);
        for key in self.keys.iter_mut().filter(orphan) {
            if key.unfinished && let Some(spec) = self.gone.get(&key.owner) {
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
            let names: Vec<_> = settled.objects.keys().copied().collect();
            for name in names {
                settled = settled.pass(name, now, Until::Told);
            }
            if settled == before {
                settled.purge(now);
                settled.forget(now);
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
