//! What to do next for a `DataKey`: a pure function of what was observed.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    ciphertext::{Ciphertext, Source},
    delivery::{self, Contents, Difference, SecretObject},
    describe,
};
use crate::{
    api::{
        DataKey, DataKeyStatus,
        conditions::{Standing, reason},
        metadata,
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
}

/// The next step.
pub enum Step {
    /// Generate the data key, and store its ciphertext in status.
    Generate(StoredKey),
    /// Store a ciphertext that was found, in the annotation.
    Annotate(String),
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
    let key = usable_key(o)?;
    let Some(ciphertext) = &o.ciphertext else {
        Operation::GenerateDataKey
            .check(key.record.state(now), Dialect::Alibaba)
            .map_err(|_| describe::key_state(o, &key.record, now))?;
        return Ok(Plan::just(Step::Generate(key.clone())));
    };
    let plaintext = opened(o, key, ciphertext, now)?;

    // The ciphertext is stored, twice, before any Secret exists (rule 12).
    if o.object.status.as_ref().and_then(|s| s.ciphertext_blob.as_ref()) != Some(&ciphertext.text) {
        return Ok(describe::take_over(o, ciphertext, now));
    }
    if o.object.annotations().get(metadata::CIPHERTEXT_BLOB) != Some(&ciphertext.text) {
        return Ok(Plan::just(Step::Annotate(ciphertext.text.clone())));
    }
    deliver(
        o,
        &Contents {
            plaintext,
            ciphertext_blob: &ciphertext.text,
            context: &o.context,
            key_id: key.record.key_id.to_string(),
        },
    )
}

/// The key, if its object has been taken on and its record can be read. Nobody may use a key before: its record
/// might still be forgotten (rule 1).
fn usable_key(o: &Observed) -> Result<&StoredKey, Standing> {
    let Some(master) = &o.master else { return Err(describe::no_master(o)) };
    match &o.key {
        Err(error) => Err(describe::key_error(o, error)),
        Ok(Some(key)) if key.record.is_tombstone() => Err(describe::key_deleted(o, &key.record)),
        Ok(Some(key)) if master.key_id.as_deref() == Some(&*key.record.key_id.to_string()) => Ok(key),
        Ok(_) => Err(describe::key_not_ready(o)),
    }
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
        Some(Err(StoreError::Refused(_))) => return Err(describe::key_state(o, &key.record, now)),
        Some(Err(StoreError::InvalidCiphertext | StoreError::IncorrectKey { .. })) | None => {
            return Err(describe::foreign(o, ciphertext));
        }
        Some(Err(error)) => return Err(describe::key_error(o, error)),
    };
    let spec = &o.object.spec;
    let length_declared = spec.key_spec.is_some() || spec.number_of_bytes.is_some();
    let length_matters = ciphertext.source != Source::Spec || length_declared;
    if length_matters && plaintext.len() != spec.length() {
        return Err(describe::foreign(o, ciphertext));
    }
    Ok(plaintext)
}

fn deliver(o: &Observed, contents: &Contents<'_>) -> Said {
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
            _ => Err(Standing::Ready { message: format!("Delivered as Secret {name}.") }),
        },
    }
}

impl Observed {
    /// Status answers this very spec: what differs now was changed by somebody else.
    fn is_settled(&self) -> bool {
        self.object.status.as_ref().is_some_and(|s| s.observed_generation == self.object.metadata.generation)
    }
}
