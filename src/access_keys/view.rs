//! The access keys that are valid now, as the watches have shown them.
//!
//! One is valid while its record is there, and the `AccessKey` and the ServiceAccount that the record names exist with
//! the UIDs that it has. So deleting either one revokes on every replica as soon as its watch tells, whoever is to tidy up
//! the record.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::{AccessKeyRecord, AccessKeySecret, Credential, Credentials};
use crate::{clock::Clock, cluster::UserInfo};

/// A record whose secrets are open. Like them, it can't be printed or cloned.
pub struct OpenedAccessKeys {
    /// The record.
    pub record: Arc<AccessKeyRecord>,
    /// The version of its Secret.
    pub version: String,
    /// The secret of the current access key.
    pub current: AccessKeySecret,
    /// The secret of the one before.
    pub previous: Option<AccessKeySecret>,
}

/// What has to exist for an access key to be valid, beside its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The `AccessKey`.
    AccessKey,
    /// The ServiceAccount.
    ServiceAccount,
}

/// A namespace and a name.
type Place = (String, String);

/// The UIDs of objects, by namespace and name.
pub type Listed = HashMap<Place, String>;

/// An access key while its record says so.
struct Held {
    credential: Arc<Credential>,
    expires: Option<Timestamp>,
}

/// A record, and its access keys as they are answered.
struct Seen {
    record: Arc<AccessKeyRecord>,
    version: String,
    held: Vec<Held>,
}

/// All that the watches have shown.
#[derive(Default)]
struct Shelf {
    /// By the name of the Secret.
    records: HashMap<String, Seen>,
    access_keys: Listed,
    service_accounts: Listed,
    /// All of it was listed once.
    complete: bool,
}

impl Shelf {
    fn objects(&mut self, subject: Subject) -> &mut Listed {
        match subject {
            Subject::AccessKey => &mut self.access_keys,
            Subject::ServiceAccount => &mut self.service_accounts,
        }
    }

    /// Whether a record depends on an object.
    fn matters(&self, subject: Subject, (namespace, name): &Place) -> bool {
        self.records.values().any(|seen| {
            let owner = &seen.record.owner;
            let named = match subject {
                Subject::AccessKey => &owner.name,
                Subject::ServiceAccount => &seen.record.service_account.name,
            };
            (&owner.namespace, named) == (namespace, name)
        })
    }

    fn is_valid(&self, record: &AccessKeyRecord) -> bool {
        let AccessKeyRecord { owner, service_account, .. } = record;
        let has = |objects: &Listed, name: &str, uid: &str| {
            objects.get(&(owner.namespace.clone(), name.to_owned())).is_some_and(|known| known == uid)
        };
        has(&self.access_keys, &owner.name, &owner.uid)
            && has(&self.service_accounts, &service_account.name, &service_account.uid)
    }

    /// The valid access keys, by id.
    fn valid(&self) -> Valid {
        if !self.complete {
            return Valid::new();
        }
        let held = self.records.values().filter(|seen| self.is_valid(&seen.record)).flat_map(|seen| &seen.held);
        let entry = |held: &Held| {
            let Held { credential, expires } = held;
            (credential.access_key_id.clone(), Held { credential: credential.clone(), expires: *expires })
        };
        held.map(entry).collect()
    }
}

type Valid = HashMap<Arc<str>, Held>;

/// The access keys that are valid now.
///
/// Looking one up takes no lock: what is valid is published as a whole, each time that it changes.
pub struct AccessKeyView {
    clock: Arc<dyn Clock>,
    shelf: Mutex<Shelf>,
    valid: ArcSwap<Valid>,
}

impl AccessKeyView {
    /// A view that has seen nothing. It answers nothing before [`begin`](Self::begin).
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, shelf: Mutex::default(), valid: ArcSwap::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // A panic elsewhere leaves it whole: every change to it is one insert or remove.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the lock, so that an older state never replaces a newer one.
    fn publish(&self, shelf: &Shelf) {
        self.valid.store(Arc::new(shelf.valid()));
    }

    /// All that an answer depends on was listed: answers from now on.
    pub fn begin(&self) {
        let mut shelf = self.lock();
        shelf.complete = true;
        self.publish(&shelf);
    }

    /// Takes note of the record in the Secret of a name. None: it is gone, or can't be used.
    pub fn record(&self, secret_name: &str, opened: Option<OpenedAccessKeys>) {
        let mut shelf = self.lock();
        let Some(opened) = opened else {
            if shelf.records.remove(secret_name).is_some() {
                self.publish(&shelf);
            }
            return;
        };
        if shelf.records.get(secret_name).is_some_and(|seen| seen.version == opened.version) {
            return;
        }
        shelf.records.insert(secret_name.to_owned(), Seen::from(opened));
        if shelf.complete {
            self.publish(&shelf);
        }
    }

    /// Takes note that the watch, begun anew, shows exactly the records of these names.
    pub fn records_exactly(&self, secret_names: &HashSet<String>) {
        let mut shelf = self.lock();
        let before = shelf.records.len();
        shelf.records.retain(|name, _| secret_names.contains(name));
        if shelf.records.len() != before {
            self.publish(&shelf);
        }
    }

    /// Takes note of an object. None: it is gone, or being deleted. Answers whether that is news.
    pub fn object(&self, subject: Subject, namespace: &str, name: &str, uid: Option<&str>) -> bool {
        let mut shelf = self.lock();
        let place = (namespace.to_owned(), name.to_owned());
        let objects = shelf.objects(subject);
        let is_news = objects.get(&place).map(String::as_str) != uid;
        match uid {
            Some(uid) => objects.insert(place.clone(), uid.to_owned()),
            None => objects.remove(&place),
        };
        if is_news && shelf.complete && shelf.matters(subject, &place) {
            self.publish(&shelf);
        }
        is_news
    }

    /// Whether the watch shows an object with this UID.
    #[must_use]
    pub fn has(&self, subject: Subject, namespace: &str, name: &str, uid: &str) -> bool {
        let place = (namespace.to_owned(), name.to_owned());
        self.lock().objects(subject).get(&place).is_some_and(|known| known == uid)
    }

    /// Takes note that the watch of a scope (a namespace, or all), begun anew, shows exactly these objects. Answers those
    /// of which that is news.
    pub fn objects_exactly(&self, subject: Subject, scope: Option<&str>, listed: Listed) -> Vec<Place> {
        let mut shelf = self.lock();
        let objects = shelf.objects(subject);
        let in_scope = |(namespace, _): &Place| scope.is_none_or(|scope| scope == namespace);
        let gone = objects.keys().filter(|place| in_scope(place) && !listed.contains_key(*place));
        let mut news: Vec<_> = gone.cloned().collect();
        news.iter().for_each(|place| drop(objects.remove(place)));
        for (place, uid) in listed {
            if objects.get(&place) != Some(&uid) {
                news.push(place.clone());
                objects.insert(place, uid);
            }
        }
        if !news.is_empty() && shelf.complete {
            self.publish(&shelf);
        }
        news
    }
}

impl From<OpenedAccessKeys> for Seen {
    fn from(opened: OpenedAccessKeys) -> Self {
        let OpenedAccessKeys { record, version, current, previous } = opened;
        let (owner, account) = (&record.owner, &record.service_account);
        let user = Arc::new(UserInfo::service_account(&owner.namespace, &account.name, &account.uid));
        let namespace: Arc<str> = owner.namespace.as_str().into();
        let held = |id: &str, secret, expires| Held {
            credential: Arc::new(Credential {
                access_key_id: id.into(),
                secret,
                user: user.clone(),
                namespace: namespace.clone(),
            }),
            expires,
        };
        let mut all = vec![held(&record.current.access_key_id, current, None)];
        if let (Some(former), Some(secret)) = (&record.previous, previous) {
            all.push(held(&former.key.access_key_id, secret, Some(former.expires)));
        }
        Self { record, version, held: all }
    }
}

impl Credentials for AccessKeyView {
    fn credential(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        let valid = self.valid.load();
        let Held { credential, expires } = valid.get(access_key_id)?;
        // Read only where a date counts.
        expires.is_none_or(|expires| self.clock.now() < expires).then(|| credential.clone())
    }
}
