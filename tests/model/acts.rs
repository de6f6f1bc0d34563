//! What users, administrators and misfortune do: as values, for both sides.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::reference::{Facts, Material, Model, NAMES, Object, Spec, State, days_after};

/// One change to what is declared.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Enabled(bool),
    Schedule(bool),
    Window(Option<i32>),
    Protection(bool),
    Retain(bool),
    Description(u8),
    Alias(Option<u8>),
    Interval(Option<i32>),
    /// Declared to expire so many days from now, or never.
    Material(Option<Option<i32>>),
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing but time.
    Nothing,
    /// The object, if it is there, is applied with these changes to what was declared.
    Declare(u8, Vec<Change>),
    /// The object is made, with its origin, unless it is there.
    Make {
        name: u8,
        external: bool,
        changes: Vec<Change>,
    },
    RequestRotation(u8),
    /// The object is annotated to give its key up.
    Abandon(u8),
    Delete(u8),
    /// The material Secret has this content from now on, or is gone.
    Secret(Option<Material>),
    /// A DataKey refers to the object from now on, or none does.
    DataKey(u8, bool),
    /// The namespace is deleted with all that is in it, and made anew.
    NewNamespace,
    /// The administrator's annotation on the namespace.
    Adopts(bool),
    LoseStatus(u8),
    /// The object is made anew from a backup: without status, with another UID, and without what is not kept.
    Restore {
        name: u8,
        annotation: bool,
        finalizer: bool,
    },
    /// Somebody changes the bytes of the record, or puts the right ones back.
    Tamper(u8),
    Mend(u8),
    /// Somebody disables the key, or enables it, behind the operator's back.
    Drift(u8, bool),
    /// The API server's clock goes wrong, or right.
    Skew(bool),
}

/// What befalls the operator while it sees to it.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    None,
    /// A call of the pass over this object fails.
    Failure {
        name: u8,
        calls: u32,
        takes_effect: bool,
        kills: bool,
    },
    /// Passes are made while some watches lag behind.
    Lag {
        namespaces: bool,
        objects: bool,
        records: bool,
        aliases: bool,
    },
}

/// An act, with what goes wrong, and the time that passes.
#[derive(Clone, Debug)]
pub struct Step {
    /// Seconds that pass first.
    pub wait: i64,
    pub act: Act,
    pub trouble: Trouble,
    /// Seconds that pass after the trouble.
    pub outage: i64,
    /// Whether everything comes to rest before the next step.
    pub settles: bool,
}

impl Change {
    fn to(self, spec: &mut Spec, now: Timestamp) {
        match self {
            Self::Enabled(on) => spec.enabled = on,
            Self::Schedule(on) => spec.schedule = on,
            Self::Window(days) => spec.window = days,
            Self::Protection(on) => spec.protection = on,
            Self::Retain(on) => spec.retain = on,
            Self::Description(text) => spec.description = text,
            Self::Alias(alias) => spec.alias = alias,
            // What only makes sense with another origin is left out.
            Self::Interval(days) => spec.interval = days.filter(|_| !spec.external),
            Self::Material(material) => {
                let material = material.filter(|_| spec.external);
                spec.material = material.map(|days| days.map(|days| days_after(now, days)));
            }
        }
    }
}

/// A declaration with changes, or the same as before if the API server would refuse it: the CEL rules of the kind.
pub fn changed(before: Option<&Spec>, external: bool, changes: &[Change], now: Timestamp) -> Option<Spec> {
    let blank = Spec {
        external,
        enabled: true,
        schedule: false,
        window: None,
        protection: false,
        retain: false,
        description: 0,
        alias: None,
        interval: None,
        material: None,
    };
    let mut spec = before.unwrap_or(&blank).clone();
    changes.iter().for_each(|change| change.to(&mut spec, now));
    let was_protected = before.is_some_and(|spec| spec.protection);
    let removes_material = before.is_some_and(|spec| spec.material.is_some()) && spec.material.is_none();
    let refused = (spec.schedule && (spec.protection || was_protected)) || (was_protected && removes_material);
    (!refused).then_some(spec)
}

impl Model {
    /// What an act leaves, before anybody saw it. An object that it makes has this UID.
    pub fn act(&mut self, act: &Act, now: Timestamp, uid: u32) {
        match act {
            Act::Nothing => {}
            Act::Declare(name, changes) => self.with(*name, |object| {
                object.spec = changed(Some(&object.spec), false, changes, now).unwrap_or(object.spec.clone());
            }),
            Act::Make { name, external, changes } => {
                if let Some(spec) = changed(None, *external, changes, now)
                    && !self.objects.contains_key(name)
                {
                    self.objects.insert(*name, Object::new(uid, spec));
                }
            }
            Act::RequestRotation(name) => {
                let request = Some(u8::try_from(now.as_second() % 251).unwrap());
                self.with(*name, |object| object.request = request);
            }
            Act::Abandon(name) => {
                let key = self.current(*name);
                self.with(*name, |object| object.abandon = key.or(object.abandon));
            }
            Act::Delete(name) => self.delete(*name),
            Act::Secret(material) => self.secret = *material,
            Act::DataKey(name, refers) => {
                self.data_keys.insert(*name, *refers);
            }
            Act::NewNamespace => {
                self.terminating = true;
                self.secret = None;
                self.data_keys.clear();
                let names: Vec<_> = self.objects.keys().copied().collect();
                names.into_iter().for_each(|name| self.delete(name));
            }
            Act::Adopts(adopts) => self.adopts = *adopts,
            Act::LoseStatus(name) => self.with(*name, |object| {
                object.standing = None;
                object.shown = None;
            }),
            Act::Restore { name, annotation, finalizer } => self.restore(*name, *annotation, *finalizer, uid),
            Act::Tamper(name) => self.with_record(*name, |facts| facts.tampered = true),
            Act::Mend(name) => self.with_record(*name, |facts| facts.tampered = false),
            // What a caller of the API may do: the tables allow it while Enabled or Disabled.
            Act::Drift(name, enabled) => self.with_record(*name, |facts| {
                let allowed = matches!(facts.state(now), State::Enabled | State::Disabled);
                if allowed && !facts.tampered {
                    facts.untouched = false;
                    facts.enabled = *enabled;
                }
            }),
            Act::Skew(skewed) => self.skewed = *skewed,
        }
    }

    fn with(&mut self, name: u8, change: impl FnOnce(&mut Object)) {
        if let Some(object) = self.objects.get_mut(&name) {
            change(object);
        }
    }

    fn with_record(&mut self, name: u8, change: impl FnOnce(&mut Facts)) {
        if let Some(key) = self.current(name) {
            change(&mut self.keys[key]);
        }
    }

    fn delete(&mut self, name: u8) {
        let Some(object) = self.objects.get_mut(&name) else { return };
        object.deleting = true;
        if !object.finalizer {
            let object = self.objects.remove(&name).unwrap();
            self.gone.insert(object.uid, object.spec);
        }
    }

    fn restore(&mut self, name: u8, annotation: bool, finalizer: bool, uid: u32) {
        let Some(old) = self.objects.remove(&name) else { return };
        self.gone.insert(old.uid, old.spec.clone());
        let restored = Object {
            request: old.request,
            abandon: old.abandon,
            annotated: old.annotated.filter(|_| annotation),
            finalizer: old.finalizer && finalizer,
            ..Object::new(uid, old.spec)
        };
        // Somebody may have used a key under an object that says it has one.
        if restored.annotated.is_some() || restored.finalizer {
            self.keys.iter_mut().filter(|key| key.name == name).for_each(|key| key.unfinished = false);
        }
        self.objects.insert(name, restored);
    }

    /// The namespace, which is empty now, is made anew.
    pub fn renew_namespace(&mut self) {
        assert!(self.objects.is_empty());
        self.namespace += 1;
        self.terminating = false;
        self.adopts = false;
    }
}

impl Object {
    fn new(uid: u32, spec: Spec) -> Self {
        Self {
            uid,
            spec,
            request: None,
            abandon: None,
            finalizer: false,
            annotated: None,
            deleting: false,
            standing: None,
            shown: None,
        }
    }
}

fn name() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(NAMES[0]), 2 => Just(NAMES[1])]
}

fn change() -> impl Strategy<Value = Change> {
    let window = prop_oneof![Just(None), Just(Some(7)), Just(Some(30))];
    let interval = prop_oneof![1 => Just(None), 2 => Just(Some(7)), 1 => Just(Some(90))];
    let expiry = prop_oneof![Just(None), Just(Some(1)), Just(Some(60))];
    prop_oneof![
        3 => any::<bool>().prop_map(Change::Enabled),
        3 => any::<bool>().prop_map(Change::Schedule),
        2 => window.prop_map(Change::Window),
        2 => any::<bool>().prop_map(Change::Protection),
        1 => any::<bool>().prop_map(Change::Retain),
        2 => (0..3_u8).prop_map(Change::Description),
        4 => proptest::option::weighted(0.8, 0..2_u8).prop_map(Change::Alias),
        2 => interval.prop_map(Change::Interval),
        5 => proptest::option::weighted(0.7, expiry).prop_map(Change::Material),
    ]
}

fn changes(most: usize) -> impl Strategy<Value = Vec<Change>> {
    // Refused or not, what seldom comes together by chance: material goes in the change that protects the key.
    let contrary = vec![Change::Protection(true), Change::Material(None)];
    prop_oneof![12 => proptest::collection::vec(change(), 0..=most), 1 => Just(contrary)]
}

fn material() -> impl Strategy<Value = Option<Material>> {
    prop_oneof![
        4 => Just(Some(Material::Bytes(1))),
        1 => Just(Some(Material::Bytes(2))),
        1 => Just(Some(Material::Short)),
        1 => Just(None),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Nothing),
        10 => (name(), changes(3)).prop_map(|(name, changes)| Act::Declare(name, changes)),
        8 => (name(), any::<bool>(), changes(5))
            .prop_map(|(name, external, changes)| Act::Make { name, external, changes }),
        2 => name().prop_map(Act::RequestRotation),
        1 => name().prop_map(Act::Abandon),
        4 => name().prop_map(Act::Delete),
        4 => material().prop_map(Act::Secret),
        1 => (name(), any::<bool>()).prop_map(|(name, refers)| Act::DataKey(name, refers)),
        1 => Just(Act::NewNamespace),
        1 => any::<bool>().prop_map(Act::Adopts),
        1 => name().prop_map(Act::LoseStatus),
        2 => (name(), any::<bool>(), any::<bool>())
            .prop_map(|(name, annotation, finalizer)| Act::Restore { name, annotation, finalizer }),
        1 => name().prop_map(Act::Tamper),
        1 => name().prop_map(Act::Mend),
        1 => (name(), any::<bool>()).prop_map(|(name, enabled)| Act::Drift(name, enabled)),
        1 => any::<bool>().prop_map(Act::Skew),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let failure = (name(), 0..12_u32, any::<bool>(), any::<bool>())
        .prop_map(|(name, calls, takes_effect, kills)| Trouble::Failure { name, calls, takes_effect, kills });
    let lag = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(namespaces, objects, records, aliases)| Trouble::Lag { namespaces, objects, records, aliases });
    prop_oneof![4 => Just(Trouble::None), 3 => failure, 2 => lag]
}

fn seconds() -> impl Strategy<Value = i64> {
    let day = SignedDuration::from_hours(24).as_secs();
    prop_oneof![4 => Just(0), 2 => 1..3600_i64, 3 => day..10 * day, 1 => 10 * day..120 * day]
}

pub fn step() -> impl Strategy<Value = Step> {
    (seconds(), act(), trouble(), seconds(), proptest::bool::weighted(0.8))
        .prop_map(|(wait, act, trouble, outage, settles)| Step { wait, act, trouble, outage, settles })
}
