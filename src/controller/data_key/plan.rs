//! What to do next for a `DataKey`: a pure function of what was observed.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::{
    annotations::{self, Malformed},
    ciphertext::{Ciphertext, Source},
    delivery::{self, Contents, Difference, Previous, SecretObject},
    describe,
    rotation::{MAX_HISTORY, Rotation},
    service_key::service_key,
};
use crate::{
    api::{
        CustomerMasterKey, DataKey, DataKeyStatus,
        conditions::{self, READY, Standing, reason},
        data_key::FormerDataKey,
    },
    cluster::{EventNote, KeyObjectView, NamespaceView},
    crypto::Plaintext,
    kms::{Dialect, EncryptionContext, Operation},
    store::{StoreError, StoredKey},
};

/// Everything that decides.
pub struct Observed {
    /// The object.
    pub object: DataKey,
    /// Its namespace; None if it is gone.
    pub namespace: Option<NamespaceView>,
    /// The `CustomerMasterKey` that it refers to.
    pub master: Option<KeyObjectView>,
    /// The namespace of that one is watched. Else nobody knows whether it exists.
    pub master_is_watched: bool,
    /// That one's key.
    pub key: Result<Option<StoredKey>, StoreError>,
    /// The Secret that is to be delivered, as it is.
    pub secret: Option<SecretObject>,
    /// The complete encryption context.
    pub context: EncryptionContext,
    /// The DataKey's ciphertext.
    pub ciphertext: Option<Ciphertext>,
    /// What it decrypts to, or why it does not. None without a ciphertext, or without a key to try.
    pub opened: Option<Result<Plaintext, StoreError>>,
    /// What the data key before decrypts to. None without one, or where its plaintext is not delivered.
    pub previous: Option<Result<Plaintext, StoreError>>,
    /// The data keys before, of the annotation, where status was lost: the newest last.
    pub annotated: Result<Vec<FoundFormer>, Malformed>,
    /// The ciphertexts in our own Secret that neither status nor the annotations know, the newest last.
    pub strays: Vec<Found>,
    /// No new keys are to be made (design, rule 20).
    pub no_new_keys: bool,
    /// The namespace's service key was asked for in this pass. The watch has yet to show it.
    pub service_key_made: bool,
}

/// A data key before that was found, and what it decrypts to.
pub struct FoundFormer {
    /// As it was written.
    pub former: FormerDataKey,
    /// The plaintext.
    pub opened: Result<Plaintext, StoreError>,
}

/// A ciphertext that was found, and what it decrypts to.
pub struct Found {
    /// Base64.
    pub text: String,
    /// The plaintext.
    pub opened: Result<Plaintext, StoreError>,
}

/// The next step.
pub enum Step {
    /// Make the service key of the namespace, if nobody has.
    CreateServiceKey(Box<CustomerMasterKey>),
    /// Generate a data key, and store its ciphertext in status; one that is there goes into its history.
    Generate(StoredKey),
    /// Have the annotations say what status says: a merge patch of them.
    Annotate(Value),
    /// Create the Secret.
    CreateSecret(SecretObject),
    /// Replace the Secret.
    ReplaceSecret(SecretObject),
    /// Delete the Secret: as it is, it can't become what it should be.
    DeleteSecret,
    /// Delete the Secret that was delivered under this name before, if it is ours and to be deleted.
    DeleteFormer(String),
    /// Write the status.
    WriteStatus(Box<DataKeyStatus>),
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
}

/// What stands, once nothing is to be done.
type Said = Result<Plan, Standing>;

/// Decides the next step.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    if observed.object.metadata.deletion_timestamp.is_some() {
        return Plan::just(Step::Rest { retry: false });
    }
    match next(observed, now) {
        Ok(plan) => plan,
        Err(standing) => describe::status(observed, &standing, now),
    }
}

fn next(o: &Observed, now: Timestamp) -> Said {
    if o.namespace.as_ref().is_none_or(|n| n.terminating) {
        return Err(Standing::waiting(reason::NAMESPACE_TERMINATING, "The namespace is being deleted."));
    }
    let Some(master) = &o.master else { return no_master(o) };
    let key = usable_key(o, master)?;
    let Some(ciphertext) = &o.ciphertext else {
        let events = describe::history_found(own_annotated(o, key, now)?.len());
        return Ok(Plan { step: generate(o, key, now)?, events });
    };
    let plaintext = opened(o, key, ciphertext, now)?;

    // The ciphertext is stored, twice, before any Secret exists (rule 12), and whatever the Secret alone has is
    // stored before it is replaced.
    if o.object.status.as_ref().and_then(|s| s.ciphertext_blob.as_ref()) != Some(&ciphertext.text) {
        return Ok(describe::take_over(o, ciphertext, recovered(o, key, ciphertext, now)?, now));
    }
    if let Some(annotations) = annotations::correction(&o.object) {
        return Ok(Plan::just(Step::Annotate(annotations)));
    }
    let strays = own_strays(o, key, now)?;
    if !strays.is_empty() {
        return take_in(o, strays, now);
    }
    let contents = Contents {
        plaintext,
        ciphertext_blob: &ciphertext.text,
        context: &o.context,
        key_id: key.record.key_id.to_string(),
        previous: previous(o, key, now)?,
    };
    deliver(o, key, &contents, now)
}

/// The key does not exist. A service key is made on demand; any other is waited for.
fn no_master(o: &Observed) -> Said {
    if o.object.spec.key_ref.is_some() {
        return Err(describe::no_master(o));
    }
    if o.service_key_made {
        return Err(describe::key_not_ready(o));
    }
    if o.no_new_keys {
        return Err(describe::creation_paused(o));
    }
    let former = || annotations::history(&o.object).ok()?.pop().map(Ciphertext::annotated);
    let key = service_key(&o.object, o.ciphertext.clone().or_else(former).as_ref());
    Ok(Plan::just(Step::CreateServiceKey(Box::new(key))))
}

/// A data key under the newest version of the key, if the key's state allows it.
fn generate(o: &Observed, key: &StoredKey, now: Timestamp) -> Result<Step, Standing> {
    Operation::GenerateDataKey
        .check(key.record.state(now), Dialect::Alibaba)
        .map_err(|_| describe::key_state(o, &key.record, now))?;
    Ok(Step::Generate(key.clone()))
}

/// The key, if its object has been taken on and its record can be read. Nobody may use a key before: its record
/// might still be forgotten (rule 1). That the object says which key it has is not enough: in a namespace made anew anybody
/// can write that of the former one's key (rule 5), which then has another owner.
fn usable_key<'a>(o: &'a Observed, master: &KeyObjectView) -> Result<&'a StoredKey, Standing> {
    if !is_shared(o, master) {
        return Err(describe::key_not_shared(o));
    }
    match &o.key {
        Err(error) => Err(describe::key_error(o, error)),
        Ok(Some(key)) if key.record.is_tombstone() => Err(describe::key_deleted(o, &key.record)),
        Ok(Some(key))
            if master.key_id.as_deref() == Some(&*key.record.key_id.to_string())
                && master.uid == key.record.owner.uid =>
        {
            Ok(key)
        }
        Ok(_) => Err(describe::key_not_ready(o)),
    }
}

/// Whether the key lets this namespace use it (rule 15).
fn is_shared(o: &Observed, master: &KeyObjectView) -> bool {
    let own = o.object.namespace().unwrap_or_default();
    let (namespace, _) = o.object.spec.master(&own);
    o.namespace.as_ref().is_some_and(|view| master.allows(namespace == own, &view.labels))
}

/// The plaintext, if the ciphertext is this DataKey's.
fn opened<'a>(
    o: &'a Observed,
    key: &StoredKey,
    ciphertext: &Ciphertext,
    now: Timestamp,
) -> Result<&'a Plaintext, Standing> {
    let plaintext = match &o.opened {
        Some(Ok(plaintext)) => plaintext,
        None => return Err(describe::foreign(o, ciphertext)),
        Some(Err(error)) if is_foreign(error) => return Err(describe::foreign(o, ciphertext)),
        Some(Err(error)) => return Err(describe::can_not_open(o, key, error, now)),
    };
    let spec = &o.object.spec;
    let length_declared = spec.key_spec.is_some() || spec.number_of_bytes.is_some();
    let length_matters = ciphertext.source != Source::Spec || length_declared;
    if length_matters && plaintext.len() != spec.length() {
        return Err(describe::foreign(o, ciphertext));
    }
    if ciphertext.source == Source::Secret && !may_be_delivered(o, plaintext) {
        return Err(describe::withheld(o));
    }
    Ok(plaintext)
}

/// Whether a data key of which only the Secret has the ciphertext may be taken over: its plaintext is in the Secret
/// already, or is not going to be. Whoever may write Secrets could else put any earlier ciphertext of this DataKey there, or
/// leave the one there whose plaintext was never delivered, and have it decrypted, without the right to (rule 18).
fn may_be_delivered(o: &Observed, plaintext: &Plaintext) -> bool {
    o.object.spec.without_plaintext.unwrap_or(false) || o.secret.as_ref().is_some_and(|secret| secret.holds(plaintext))
}

/// The data key before, as it stays in the Secret.
fn previous<'a>(o: &'a Observed, key: &StoredKey, now: Timestamp) -> Result<Option<Previous<'a>>, Standing> {
    let Some(former) = o.history().last() else { return Ok(None) };
    let plaintext = match &o.previous {
        None => None,
        Some(Ok(plaintext)) => Some(plaintext),
        Some(Err(error)) if is_foreign(error) => return Err(describe::foreign_history(o)),
        Some(Err(error)) => return Err(describe::can_not_open(o, key, error, now)),
    };
    Ok(Some(Previous { plaintext, ciphertext_blob: &former.ciphertext_blob }))
}

/// Those of the ciphertexts in the Secret that status does not know which are this DataKey's.
fn own_strays(o: &Observed, key: &StoredKey, now: Timestamp) -> Result<Vec<FormerDataKey>, Standing> {
    let mut own = Vec::new();
    for stray in &o.strays {
        match &stray.opened {
            Ok(plaintext) if plaintext.len() != o.object.spec.length() => {}
            Ok(plaintext) if !may_be_delivered(o, plaintext) => return Err(describe::former_withheld(o)),
            Ok(_) => own.push(describe::former(&stray.text, now)),
            Err(error) if is_foreign(error) => {}
            Err(error) => return Err(describe::can_not_open(o, key, error, now)),
        }
    }
    Ok(own)
}

/// The data keys before, of the annotation. Each has to be this DataKey's: whoever could add another one to the list would
/// have it delivered.
fn own_annotated(o: &Observed, key: &StoredKey, now: Timestamp) -> Result<Vec<FormerDataKey>, Standing> {
    let found = o.annotated.as_ref().map_err(|malformed| describe::malformed_history(*malformed))?;
    for (index, FoundFormer { opened, .. }) in found.iter().enumerate() {
        match opened {
            Ok(plaintext) if plaintext.len() == o.object.spec.length() => {}
            Ok(_) => return Err(describe::foreign_annotated(o, index)),
            Err(error) if is_foreign(error) => return Err(describe::foreign_annotated(o, index)),
            Err(error) => return Err(describe::can_not_open(o, key, error, now)),
        }
    }
    Ok(found.iter().map(|found| found.former.clone()).collect())
}

/// What is left of a lost history, the newest last: that of the annotation, and what the Secret alone has, unless that is
/// more than there is room for, which is said later.
fn recovered(
    o: &Observed,
    key: &StoredKey,
    current: &Ciphertext,
    now: Timestamp,
) -> Result<Vec<FormerDataKey>, Standing> {
    let mut history = own_annotated(o, key, now)?;
    history.retain(|former| former.ciphertext_blob != current.text);
    let strays = own_strays(o, key, now)?;
    if o.history().len() + history.len() + strays.len() <= MAX_HISTORY {
        history.extend(strays);
    }
    Ok(history)
}

/// Takes data keys into the history that were found in the Secret only.
fn take_in(o: &Observed, strays: Vec<FormerDataKey>, now: Timestamp) -> Said {
    if o.history().len() + strays.len() > MAX_HISTORY {
        return Err(describe::no_room_for_strays(o));
    }
    Ok(describe::take_in(o, strays, now))
}

/// Whether a ciphertext that is not opened for this reason is not the DataKey's.
fn is_foreign(error: &StoreError) -> bool {
    matches!(error, StoreError::InvalidCiphertext | StoreError::IncorrectKey { .. })
}

fn deliver(o: &Observed, key: &StoredKey, contents: &Contents<'_>, now: Timestamp) -> Said {
    let name = o.object.spec.secret_name(&o.object.name_any()).to_owned();
    let delivered_before = o.object.status.as_ref().and_then(|s| s.secret_ref.as_ref()).map(|r| r.name.clone());
    // Else it is missing or differs because the spec was changed.
    let restored = delivered_before.as_deref() == Some(name.as_str()) && o.is_settled();
    let event = |what: &str| {
        let message = format!("Secret {name} was {what}, and restored to the same data key.");
        vec![EventNote::warning(reason::SECRET_RESTORED, "Deliver", message)]
    };
    match delivery::difference(&o.object, o.secret.as_ref(), contents) {
        Difference::NotOurs => Err(describe::secret_conflict(&name)),
        Difference::Missing(secret) => {
            Ok(Plan { step: Step::CreateSecret(secret), events: if restored { event("missing") } else { Vec::new() } })
        }
        Difference::Changed(secret) => {
            Ok(Plan { step: Step::ReplaceSecret(secret), events: if restored { event("changed") } else { Vec::new() } })
        }
        Difference::Fixed => Ok(Plan::just(Step::DeleteSecret)),
        Difference::None => match delivered_before {
            Some(former) if former != name => Ok(Plan::just(Step::DeleteFormer(former))),
            _ => rotate(o, key, now),
        },
    }
}

/// The data key is delivered. Only then it rotates, so that every one in the history was the current one of a Secret.
fn rotate(o: &Observed, key: &StoredKey, now: Timestamp) -> Said {
    let standing = match Rotation::of(&o.object, now) {
        Rotation::Now => {
            return Ok(Plan { step: generate(o, key, now)?, events: vec![describe::rotated(o)] });
        }
        Rotation::NotNow => describe::delivered(o),
        Rotation::Refused(refusal) => describe::rotation_refused(refusal),
        Rotation::HistoryFull => describe::history_full(o),
        Rotation::AnnotationsFull => describe::annotations_full(o),
    };
    Err(standing)
}

impl Observed {
    /// Status answers this very spec, and the Secret was delivered: what differs now was changed by somebody else.
    fn is_settled(&self) -> bool {
        self.object.status.as_ref().is_some_and(|status| {
            let ready = conditions::find(&status.conditions, READY);
            status.observed_generation == self.object.metadata.generation
                && ready.is_none_or(|ready| ready.reason != reason::DELIVERING)
        })
    }

    /// The data keys before the current one, the newest last.
    fn history(&self) -> &[FormerDataKey] {
        self.object.status.as_ref().map(|status| &status.history[..]).unwrap_or_default()
    }
}
