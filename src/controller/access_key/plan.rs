//! What to do next for an `AccessKey`: a pure function of what was observed.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    delivery::{self, Contents, Difference, Endpoint, SecretObject},
    describe, rotation,
};
use crate::{
    access_keys::{AccessKeyRecord, AccessKeySecret, ServiceAccountIdentity},
    api::{
        AccessKey, AccessKeyStatus,
        conditions::{Standing, reason},
    },
    cluster::{EventNote, NamespaceView},
    store::{StoreError, StoredAccessKey},
};

/// Everything that decides.
pub struct Observed {
    /// The object.
    pub object: AccessKey,
    /// Its namespace; None if it is gone.
    pub namespace: Option<NamespaceView>,
    /// The UID of its ServiceAccount; None if there is none.
    pub service_account: Option<String>,
    /// Its record.
    pub record: Result<Option<StoredAccessKey>, StoreError>,
    /// The secret of the current access key. None without a record.
    pub secret_half: Option<Result<AccessKeySecret, StoreError>>,
    /// The Secret that is to be delivered, as it is.
    pub secret: Option<SecretObject>,
    /// What else goes into it. None: the key store `default` can't be used, and so has no region.
    pub endpoint: Option<Endpoint>,
}

/// How a record is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new access key, and none before.
    Anew(ServiceAccountIdentity),
    /// A new access key; the one before works until then.
    Rotate {
        /// Until when.
        expires: Timestamp,
    },
    /// The access key before has expired.
    DropPrevious,
}

/// The next step.
pub enum Step {
    /// Make an access key of this ServiceAccount, and its record.
    Create(ServiceAccountIdentity),
    /// Change the record.
    Change(StoredAccessKey, Change),
    /// Create the Secret.
    CreateSecret(SecretObject),
    /// Replace the Secret.
    ReplaceSecret(SecretObject),
    /// Delete the Secret: as it is, it can't become what it should be.
    DeleteSecret,
    /// Delete the Secret that was delivered under this name before, if it is ours.
    DeleteFormer(String),
    /// Write the status.
    WriteStatus(Box<AccessKeyStatus>),
    /// Nothing; look again later if something is waited for that gives no sign.
    Rest {
        /// Look again after a while.
        retry: bool,
    },
}

/// The next step, and what to tell people when it is done.
pub struct Plan {
    /// What to do.
    pub step: Step,
    /// Events to write after that.
    pub events: Vec<EventNote>,
}

impl Plan {
    fn just(step: Step) -> Self {
        Self { step, events: Vec::new() }
    }

    fn telling(step: Step, event: EventNote) -> Self {
        Self { step, events: vec![event] }
    }
}

/// Decides the next step.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    // Revoked already, by every view. The Secret is the garbage collector's, the record is left over.
    if observed.object.metadata.deletion_timestamp.is_some() {
        return Plan::just(Step::Rest { retry: false });
    }
    match next(observed, now) {
        Ok(plan) => plan,
        Err(standing) => describe::status(observed, &standing, now),
    }
}

fn next(o: &Observed, now: Timestamp) -> Result<Plan, Standing> {
    if o.namespace.as_ref().is_none_or(|n| n.terminating) {
        return Err(Standing::waiting(reason::NAMESPACE_TERMINATING, "The namespace is being deleted."));
    }
    // Before an access key is made that could not be delivered.
    if o.secret.as_ref().is_some_and(|secret| !delivery::is_of(secret, &o.object)) {
        return Err(describe::secret_conflict(o.secret_name()));
    }
    let uid = o.service_account.clone().ok_or_else(|| describe::no_service_account(o))?;
    let endpoint = o.endpoint.as_ref().ok_or_else(describe::no_region)?;
    let account = ServiceAccountIdentity { name: o.object.spec.service_account_name.clone(), uid };
    let stored = match &o.record {
        Err(error) => return Err(describe::record_error(error)),
        Ok(None) => return Ok(Plan::telling(Step::Create(account), describe::created(o))),
        Ok(Some(stored)) => stored,
    };
    let change = |change| Step::Change(stored.clone(), change);
    if stored.record.service_account != account {
        return Ok(Plan::telling(change(Change::Anew(account)), describe::replaced(o)));
    }
    if stored.record.previous.as_ref().is_some_and(|former| former.expires <= now) {
        return Ok(Plan::just(change(Change::DropPrevious)));
    }
    let secret = match &o.secret_half {
        Some(Ok(secret)) => secret,
        Some(Err(error)) => return Err(describe::record_error(error)),
        None => return Err(describe::record_error(&StoreError::Damaged)),
    };
    let contents = Contents { access_key_id: &stored.record.current.access_key_id, secret, endpoint };
    if let Some(plan) = deliver(o, &stored.record, &contents)? {
        return Ok(plan);
    }
    // Only now, so that every access key that is replaced was delivered.
    if rotation::is_due(&o.object, &stored.record, now) {
        let expires = rotation::expires(&o.object.spec, now);
        let event = describe::rotated(o, &stored.record, expires);
        return Ok(Plan::telling(change(Change::Rotate { expires }), event));
    }
    Err(describe::delivered(o))
}

/// The step that makes the Secret what it should be. None: it is.
fn deliver(o: &Observed, record: &AccessKeyRecord, contents: &Contents<'_>) -> Result<Option<Plan>, Standing> {
    let name = o.secret_name();
    let delivered_before = o.object.status.as_ref().and_then(|s| s.secret_ref.as_ref()).map(|r| r.name.clone());
    let plan = |step, was_missing| {
        let restored = delivered_before.as_deref() == Some(name) && o.is_settled(record);
        let event = restored.then(|| describe::restored(name, was_missing));
        Ok(Some(Plan { step, events: event.into_iter().collect() }))
    };
    match delivery::difference(&o.object, o.secret.as_ref(), contents) {
        Difference::NotOurs => Err(describe::secret_conflict(name)),
        Difference::Missing(secret) => plan(Step::CreateSecret(secret), true),
        Difference::Changed(secret) => plan(Step::ReplaceSecret(secret), false),
        Difference::Fixed => Ok(Some(Plan::just(Step::DeleteSecret))),
        Difference::None => {
            Ok(delivered_before.filter(|former| former != name).map(|former| Plan::just(Step::DeleteFormer(former))))
        }
    }
}

impl Observed {
    /// The name of the Secret.
    pub fn secret_name(&self) -> &str {
        self.object.spec.secret_name(self.object.metadata.name.as_deref().unwrap_or_default())
    }

    /// The record, if there is one that can be read.
    pub fn stored_record(&self) -> Option<&AccessKeyRecord> {
        self.record.as_ref().ok()?.as_ref().map(|stored| &*stored.record)
    }

    /// Status answers this very spec and says that this access key was delivered: what differs now was changed by somebody
    /// else, or the endpoint's address was.
    fn is_settled(&self, record: &AccessKeyRecord) -> bool {
        self.object.status.as_ref().is_some_and(|status| {
            status.observed_generation == self.object.metadata.generation
                && status.access_key_id.as_ref() == Some(&record.current.access_key_id)
        })
    }
}

/// For the log and for Events: whose access key it is.
pub fn service_account(object: &AccessKey) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.spec.service_account_name)
}
