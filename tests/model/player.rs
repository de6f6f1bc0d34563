//! Plays the same steps to both sides, and compares.
//!
//! Where the operator is interrupted nobody knows how far it got, so the reference is a set of what may be: it grows
//! with every interruption, and when everything has come to rest only what the real one shows is kept.

use std::collections::{BTreeMap, BTreeSet};

use cmk_operator::api::cluster_key_store::OnNamespaceRecreated;
use jiff::Timestamp;

use crate::{
    acts::{Act, Step, Trouble},
    audit::Audit,
    cluster::Fault,
    compare::{compare, summary},
    reference::{Facts, Material, Model, NAMES, Object, Standing, Until},
    world::World,
};

/// What may be: and what the operator may have seen of it.
#[derive(Clone, PartialEq)]
struct Possible {
    model: Model,
    seen: BTreeMap<u8, Object>,
}

/// Both sides.
pub struct Player {
    world: World,
    possible: Vec<Possible>,
    audit: Audit,
    uids: u32,
}

impl Player {
    pub fn new(seed: u64, on_namespace_recreated: OnNamespaceRecreated) -> Self {
        let model = Model {
            keys: Vec::new(),
            objects: BTreeMap::new(),
            gone: BTreeMap::new(),
            aliases: BTreeMap::new(),
            secret: Some(Material::Bytes(1)),
            data_keys: BTreeMap::new(),
            namespace: 0,
            terminating: false,
            adopts: false,
            new_keys: on_namespace_recreated == OnNamespaceRecreated::NewKey,
            skewed: false,
        };
        Self {
            world: World::new(seed, on_namespace_recreated),
            possible: vec![Possible { model, seen: BTreeMap::new() }],
            audit: Audit::default(),
            uids: 0,
        }
    }

    /// Plays a step.
    ///
    /// # Errors
    /// What differs, or does not hold.
    pub fn play(&mut self, step: &Step) -> Result<(), String> {
        self.world.wait(step.wait);
        self.act(&step.act);
        self.trouble(step.trouble);
        self.audit.look(&self.world)?;
        self.world.wait(step.outage);
        let is_new_namespace = matches!(step.act, Act::NewNamespace);
        if step.settles || is_new_namespace {
            self.settle()?;
        }
        if is_new_namespace {
            self.world.renew_namespace();
            self.each(Model::renew_namespace);
        }
        Ok(())
    }

    fn act(&mut self, act: &Act) {
        let (now, uid) = (self.world.now(), self.uids);
        self.world.act(act);
        self.each(|model| model.act(act, now, uid));
        self.uids += 1;
    }

    fn each(&mut self, change: impl Fn(&mut Model)) {
        self.possible.iter_mut().for_each(|possible| change(&mut possible.model));
        self.dedup();
    }

    fn dedup(&mut self) {
        let mut distinct: Vec<Possible> = Vec::new();
        for possible in self.possible.drain(..) {
            if !distinct.contains(&possible) {
                distinct.push(possible);
            }
        }
        self.possible = distinct;
    }

    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::None => {}
            Trouble::Failure { name, calls, takes_effect, kills } => {
                self.world.catch_up_all();
                self.see();
                self.world.server.set_fault(Fault::In { calls, takes_effect, kills });
                self.interrupted(name, false);
                if self.world.server.is_dead() {
                    self.world.restart();
                    self.see();
                }
                self.world.server.set_fault(Fault::None);
            }
            Trouble::Lag { namespaces, objects, records, aliases } => {
                self.world.catch_up(!namespaces, !objects, !records, !aliases);
                if !objects {
                    self.see();
                }
                NAMES.into_iter().for_each(|name| self.interrupted(name, records));
            }
        }
    }

    /// The watch shows all objects.
    fn see(&mut self) {
        self.possible.iter_mut().for_each(|possible| possible.seen.clone_from(&possible.model.objects));
    }

    /// A pass that may not come to its end. `blind`: it may be over the record as it was before.
    fn interrupted(&mut self, name: u8, blind: bool) {
        // What went wrong is what was asked for.
        drop(self.world.pass(name));
        let now = self.world.now();
        self.possible = self.possible.iter().flat_map(|possible| possible.interrupted(name, blind, now)).collect();
        self.dedup();
    }

    fn settle(&mut self) -> Result<(), String> {
        self.world.settle()?;
        self.audit.look(&self.world)?;
        let now = self.world.now();
        self.each(|model| *model = model.settle(now));
        self.see();
        let mut closest: Option<(usize, Vec<String>, Model)> = None;
        let world = &self.world;
        self.possible.retain_mut(|possible| {
            let said = possible.model.clone();
            let differences = compare(world, &mut possible.model).0;
            if differences.is_empty() {
                return true;
            }
            if closest.as_ref().is_none_or(|(count, ..)| differences.len() < *count) {
                closest = Some((differences.len(), differences, said));
            }
            false
        });
        self.see();
        self.dedup();
        match closest {
            Some((_, differences, said)) if self.possible.is_empty() => Err(self.describe(&differences, &said)),
            _ => Ok(()),
        }
    }

    /// What the reference has come to, by words.
    pub fn met(&self) -> BTreeSet<String> {
        let model = &self.possible[0].model;
        let standings = model.objects.values().filter_map(|object| {
            let shown = object.shown.as_ref();
            match object.standing.as_ref()? {
                Standing::Ready => shown.map(|shown| format!("Ready {:?}", shown.state)),
                Standing::Waiting(reason) | Standing::Stalled(reason) => Some((*reason).to_owned()),
            }
        });
        let keys = model.keys.iter().flat_map(|key| {
            let facts = [
                (key.abandoned, "abandoned"),
                (key.erased, "erased"),
                (key.forgotten, "forgotten"),
                (key.released && key.deletion.is_none() && !key.abandoned, "retained"),
                (key.versions.len() > 1, "rotated"),
            ];
            facts.into_iter().filter(|(is, _)| *is).map(|(_, what)| what.to_owned())
        });
        standings.chain(keys).collect()
    }

    fn describe(&self, differences: &[String], said: &Model) -> String {
        let now = self.world.now();
        let records: Vec<_> = self.world.records().iter().map(|key| summary(&key.record, now)).collect();
        format!(
            "at {now}:\n  {}\nrecords:\n  {}\nthe reference: {said:?}",
            differences.join("\n  "),
            records.join("\n  ")
        )
    }
}

impl Possible {
    /// What there may be after a pass that was interrupted somewhere.
    fn interrupted(&self, name: u8, blind: bool, now: Timestamp) -> Vec<Self> {
        let current = self.model.objects.get(&name);
        let seen = self.seen.get(&name);
        let mut after = vec![self.clone()];
        if seen == current {
            let models = Until::ALL.map(|until| self.model.pass(name, now, until));
            after.extend(models.into_iter().map(|model| Self { model, seen: self.seen.clone() }));
            after.extend(self.unaware(name, now).filter(|_| blind));
        } else if let Some(seen) = seen {
            // The pass is over an object of the past: its writes to the object fail, those to the record need not.
            let is_taken_on = seen.finalizer && seen.annotated.is_some();
            let last = if is_taken_on { Until::Imported } else { Until::Recorded };
            for until in Until::ALL.into_iter().filter(|until| *until <= last) {
                let mut before = self.model.clone();
                before.objects.insert(name, seen.clone());
                let mut model = before.pass(name, now, until);
                model.objects.remove(&name);
                model.objects.extend(current.map(|current| (name, current.clone())));
                // An object that is gone when it is to be taken on: its key is dealt with at once.
                let mut forgotten = model.clone();
                forgotten.forget(name, now);
                after.extend([model, forgotten].map(|model| Self { model, seen: self.seen.clone() }));
            }
        }
        after
    }

    /// What there may be after a pass that does not know yet that the record was tampered with: its writes to the
    /// object succeed, one to the record would not.
    fn unaware(&self, name: u8, now: Timestamp) -> impl Iterator<Item = Self> {
        Until::ALL.into_iter().filter_map(move |until| {
            let mut before = self.model.clone();
            before.keys.iter_mut().filter(|key| key.name == name).for_each(|key| key.tampered = false);
            let mut model = before.pass(name, now, until);
            let is_unchanged = model.keys.len() == before.keys.len()
                && model.keys.iter().zip(&before.keys).all(|(after, before)| {
                    let unfinished = after.unfinished;
                    *after == Facts { unfinished, ..before.clone() }
                });
            model.keys.iter_mut().zip(&self.model.keys).for_each(|(after, before)| after.tampered = before.tampered);
            is_unchanged.then(|| Self { model, seen: self.seen.clone() })
        })
    }
}
