//! How a call changes a key: the object is read live, changed on the version that was read, and the operator's answer
//! waited for (design, section 5).

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    EndpointCluster, KeyReference, Kms,
    answer::{self, Answer, Refusal},
    change::{self, described},
    find::{from_store, not_found},
};
use crate::{
    api::{CustomerMasterKey, edit::Edit, metadata},
    cluster::{ApiError, Objects, is_older},
    kms::{KeyRecord, Operation, ResourceName, key_record::SERVICE_ALIASES},
    server::{Call, Failure, permission::Verb},
    store::{Freshness, KeyStore, StoredKey},
};

/// How often a change is decided anew because the object changed meanwhile.
const ATTEMPTS: usize = 5;

/// The first pause between two looks at what the watch has shown, which are cheap; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A key and its object, both read past every cache.
pub(super) struct Live {
    /// The key.
    pub key: StoredKey,
    /// The object that it belongs to.
    pub object: CustomerMasterKey,
}

impl Live {
    pub(super) fn name(&self) -> ResourceName {
        ResourceName::of(&self.key.record)
    }

    /// The operator's own keys are neither disabled nor deleted, and keep their alias (design, rule 7).
    pub(super) fn refuse_service_managed(&self) -> Result<(), Failure> {
        let declared = self.object.spec.full_alias().is_some_and(|alias| alias.starts_with(SERVICE_ALIASES));
        if declared || self.key.record.is_service_managed() {
            return Err(Failure::ServiceManaged(self.name()));
        }
        Ok(())
    }

    /// Nothing is taken away from a key that is protected, or about to be (design, rule 7).
    pub(super) fn refuse_protected(&self) -> Result<(), Failure> {
        if self.key.record.deletion_protection || self.object.spec.deletion_protection == Some(true) {
            return Err(Failure::DeletionProtected(self.name()));
        }
        Ok(())
    }
}

/// What is asked for.
pub(super) struct Change<W, D> {
    /// What the caller needs on the key.
    pub verb: Verb,
    /// Which row of the state table decides.
    pub operation: Operation,
    /// The parameter that is wrong if the API server refuses what is wanted.
    pub parameter: &'static str,
    /// The edits, or why there can be none.
    pub wanted: W,
    /// Whether the key is what was asked for.
    pub shows: D,
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// Makes a change of spec, and waits until the operator has carried it out. Answers the key after that.
    pub(super) async fn change<W, D>(
        &self,
        call: &mut Call,
        reference: &KeyReference<'_>,
        change: Change<W, D>,
    ) -> Result<StoredKey, Failure>
    where
        W: Fn(&Live) -> Result<Vec<Edit>, Failure> + Sync,
        D: Fn(&KeyRecord) -> bool + Sync,
    {
        let key = self.permitted_key(call, reference, change.verb).await?;
        self.change_key(call, &key, &not_found(reference), &change).await
    }

    /// The same, of a key that was found and may be changed.
    pub(super) async fn change_key<W, D>(
        &self,
        call: &Call,
        key: &StoredKey,
        not_found: &Failure,
        change: &Change<W, D>,
    ) -> Result<StoredKey, Failure>
    where
        W: Fn(&Live) -> Result<Vec<Edit>, Failure> + Sync,
        D: Fn(&KeyRecord) -> bool + Sync,
    {
        let Change { operation, parameter, wanted, shows, .. } = change;
        let checked = |live: &Live| self.check_state(call, &live.key, *operation).and_then(|()| wanted(live));
        let (live, written) = self.edit(call, key, not_found, parameter, checked).await?;
        let generation = written.metadata.generation;
        let about = |object: &CustomerMasterKey| answer::about_spec(object, generation);
        self.carried_out(&written, &live.key, *operation, not_found, about, shows).await
    }

    /// The key and its object as they are now.
    pub(super) async fn live(&self, key: &StoredKey, not_found: &Failure) -> Result<Live, Failure> {
        let owner = &key.record.owner;
        let object = Objects::<CustomerMasterKey>::get_object(&self.cluster, &owner.namespace, &owner.name).await;
        let object = object.map_err(|error| from_api(&error))?.ok_or_else(|| not_found.clone())?;
        let key = self.refreshed(key).await?.ok_or_else(|| not_found.clone())?;
        let shown = object.annotations().get(metadata::KEY_ID).and_then(|id| id.parse().ok());
        if shown != Some(key.record.key_id) || object.uid().as_ref() != Some(&key.record.owner.uid) {
            return Err(not_found.clone());
        }
        Ok(Live { key, object })
    }

    /// A key as its store holds it now, unless it was erased. Whoever looks in this replica afterwards sees it, too.
    async fn refreshed(&self, key: &StoredKey) -> Result<Option<StoredKey>, Failure> {
        let KeyRecord { store, key_id, .. } = &*key.record;
        let found = self.store.find_by_id(store, *key_id, Freshness::Live).await;
        Ok(found.map_err(|error| from_store(&error))?.filter(|key| !key.record.is_tombstone()))
    }

    /// Edits a key's object: decided on what is there now, and again when that has changed meanwhile. Answers what it
    /// was decided on, and the object after it.
    pub(super) async fn edit(
        &self,
        call: &Call,
        key: &StoredKey,
        not_found: &Failure,
        parameter: &'static str,
        wanted: impl Fn(&Live) -> Result<Vec<Edit>, Failure>,
    ) -> Result<(Live, CustomerMasterKey), Failure> {
        for _ in 0..ATTEMPTS {
            let live = self.live(key, not_found).await?;
            refuse_deleted(&live.object)?;
            let edits = wanted(&live)?;
            let username = &call.caller.user.username;
            let Some(edits) = change::decide(&live.object, edits, &self.settings.gitops_managers, username)? else {
                let written = live.object.clone();
                return Ok((live, written));
            };
            match self.cluster.edit_key(&live.object, &edits).await {
                Ok(written) => return Ok((live, written)),
                Err(ApiError::NotFound) => return Err(not_found.clone()),
                Err(ApiError::Conflict(_)) => {}
                Err(ApiError::Refused(problem)) => {
                    // A test in the patch that fails has no error of its own: whether one did, the object tells.
                    let now = self.live(key, not_found).await?.object;
                    if now.resource_version() == live.object.resource_version() {
                        return Err(Failure::InvalidParameter { name: parameter, problem });
                    }
                }
                Err(error) => return Err(from_api(&error)),
            }
        }
        Err(Failure::Conflict)
    }

    /// Waits until the operator has answered a change that was `written`, and this replica shows what came of it.
    pub(super) async fn carried_out(
        &self,
        written: &CustomerMasterKey,
        key: &StoredKey,
        operation: Operation,
        not_found: &Failure,
        answered: impl Fn(&CustomerMasterKey) -> Answer,
        shows: impl Fn(&KeyRecord) -> bool,
    ) -> Result<StoredKey, Failure> {
        let seen = || self.store.key(key.record.key_id).filter(|seen| shows(&seen.record));
        let answer = self.answer(written, true, not_found, answered, || seen().is_some()).await?;
        if let Some(seen) = seen() {
            return Ok(seen);
        }
        // The watch of records may lag behind that of objects.
        let key = self.refreshed(key).await?.ok_or_else(|| not_found.clone())?;
        match answer {
            Some(refusal) if !shows(&key.record) => {
                let (name, state) = (ResourceName::of(&key.record), self.state_of(&key));
                Err(refusal.failure(written, &name, operation, state))
            }
            // As asked for, or as somebody has declared since.
            _ => Ok(key),
        }
    }

    /// Waits for the answer to what was `written`: None, or a refusal. `known`: the watch has shown the object before.
    /// `shown`: this replica shows what was asked for, whatever else the object waits for.
    pub(super) async fn answer(
        &self,
        written: &CustomerMasterKey,
        known: bool,
        not_found: &Failure,
        answered: impl Fn(&CustomerMasterKey) -> Answer,
        shown: impl Fn() -> bool,
    ) -> Result<Option<Refusal>, Failure> {
        let (namespace, name) = (written.namespace().unwrap_or_default(), written.name_any());
        let deadline = Instant::now() + self.settings.wait;
        let (mut known, mut pause) = (known, FIRST_PAUSE);
        loop {
            let seen = self.cluster.seen_key_object(&namespace, &name);
            let object = seen.as_ref().and_then(|seen| seen.0.as_ref().ok());
            let is_same = object.is_some_and(|object| object.uid() == written.uid() && !is_older_than(object, written));
            let last = match object.filter(|_| is_same).map(&answered) {
                Some(Answer::Done) => return Ok(None),
                Some(Answer::Refused(refusal)) => return Ok(Some(refusal)),
                Some(Answer::Waiting(_)) if shown() => return Ok(None),
                Some(Answer::Waiting(last)) => last,
                None if known && seen.is_none() => return Err(not_found.clone()),
                Some(Answer::NotYet) | None => String::new(),
            };
            if Instant::now() >= deadline {
                return Err(not_carried_out(written, self.settings.wait, &last));
            }
            known |= is_same;
            tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether the watch has yet to show what was written.
fn is_older_than(seen: &CustomerMasterKey, written: &CustomerMasterKey) -> bool {
    let version = |object: &CustomerMasterKey| object.resource_version().unwrap_or_default();
    is_older(&version(seen), &version(written))
}

fn not_carried_out(written: &CustomerMasterKey, within: Duration, last: &str) -> Failure {
    let last = last.trim_end_matches('.');
    let last = if last.is_empty() { String::new() } else { format!(" ({last})") };
    Failure::NotCarriedOut(format!(
        "{} is changed, but the operator has not carried that out within {} s{last}. It does when it gets to it",
        described(written),
        within.as_secs()
    ))
}

/// An object that is being deleted changes no more.
fn refuse_deleted(object: &CustomerMasterKey) -> Result<(), Failure> {
    match &object.metadata.deletion_timestamp {
        None => Ok(()),
        Some(_) => Err(Failure::Owned(format!("{} is being deleted, and changes no more", described(object)))),
    }
}

/// What a failure of the API server means to a caller, where nothing more is known about it.
pub(super) fn from_api(error: &ApiError) -> Failure {
    match error {
        ApiError::Conflict(_) | ApiError::AlreadyExists | ApiError::NotFound => Failure::Conflict,
        ApiError::Unavailable(problem) => Failure::Unavailable(problem.clone()),
        ApiError::Refused(_) | ApiError::Forbidden(_) => Failure::Internal(error.to_string()),
    }
}
