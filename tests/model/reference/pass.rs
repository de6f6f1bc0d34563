//! What one pass over an object makes of it.

use jiff::Timestamp;

use super::{Facts, Key, Material, Model, Object, Shown, Standing, State, Until, facts::seconds};

impl Model {
    /// What one pass over an object, interrupted at `until`, leaves.
    pub fn pass(&self, name: u8, now: Timestamp, until: Until) -> Self {
        let mut after = self.clone();
        let Some(mut object) = after.objects.remove(&name) else { return after };
        let stays = if object.deleting {
            after.remove(&mut object, name, now, until)
        } else {
            after.drive(&mut object, name, now, until)
        };
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
        // Its own: the key that it says it has, or, where it says nothing, the one that was claimed for it.
        let claimed = self.claimed(object);
        let is_its_own = |key: Key| claimed.map_or(self.keys[key].owner == object.uid, |claimed| claimed == key);
        let mine = self
            .current(name)
            .filter(|key| !unreadable && is_its_own(*key) && self.keys[*key].namespace == self.namespace);
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
}
