//! One key, and what its state allows.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Object, Spec, State};

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

pub(super) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap()
}

pub fn days_after(time: Timestamp, days: i32) -> Timestamp {
    seconds(time) + SignedDuration::from_hours(24 * i64::from(days))
}

impl Facts {
    pub(super) fn new(name: u8, object: &Object, namespace: u32, now: Timestamp) -> Self {
        Self {
            name,
            id: None,
            namespace,
            owner: object.uid,
            unfinished: !object.finalizer && object.annotated.is_none(),
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

    pub(super) fn due(&self, now: Timestamp) -> bool {
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
    pub(super) fn steer(&mut self, object: &Object, now: Timestamp) -> Option<&'static str> {
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
    pub(super) fn let_go(&mut self, spec: &Spec, now: Timestamp) {
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
