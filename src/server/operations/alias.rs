//! CreateAlias, UpdateAlias and DeleteAlias. A key has one alias, which its `CustomerMasterKey` declares, so that an alias
//! that moves is taken from one object and given to another (design, rule 10).

use serde_json::json;

use super::{
    EndpointCluster, KeyReference, Kms,
    change::{self, described},
    find::{from_store, not_found},
    live::{Change, Live},
};
use crate::{
    api::edit::Edit,
    kms::{KeyRecord, Operation, ResourceName, key_record::SERVICE_ALIASES},
    server::{Call, Failure, permission::Verb},
    store::{AliasSlot, Freshness, KeyStore, StoredKey},
};

/// The parameter that is wrong if the API server refuses an alias.
const PARAMETER: &str = "AliasName";

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// CreateAlias, in the key's namespace. The alias has its prefix.
    ///
    /// # Errors
    /// As every change; [`Failure::AliasExists`], also where it is this key's, and [`Failure::LimitExceeded`] for a key
    /// that has another one.
    pub async fn create_alias(&self, call: &mut Call, alias: &str, key: &KeyReference<'_>) -> Result<(), Failure> {
        let found = self.permitted_key(call, key, Verb::Patch).await?;
        self.check_state(call, &found, Operation::CreateAlias)?;
        if self.holder_in(&found.record.owner.namespace, alias).is_some() {
            return Err(Failure::AliasExists(alias.to_owned()));
        }
        let given = self.give_alias(call, alias, &found, &not_found(key), Operation::CreateAlias).await;
        if let Err(Failure::AliasExists(_)) = given {
            // Somebody was quicker. What the object declares would else wait to take it over.
            self.withdraw(call, alias, &found, &not_found(key)).await?;
        }
        given
    }

    /// UpdateAlias: lets an alias name another key. Between the two changes that this takes it names none.
    ///
    /// # Errors
    /// As every change, of both keys; [`Failure::AliasNotFound`], and [`Failure::LimitExceeded`] for a key that has
    /// another alias. The alias goes back to where it was if the other key does not get it.
    pub async fn update_alias(&self, call: &mut Call, alias: &str, key: &KeyReference<'_>) -> Result<(), Failure> {
        let named = KeyReference::Alias(alias);
        let holder = self.permitted_key(&mut call.clone(), &named, Verb::Patch).await?;
        let target = self.permitted_key(call, key, Verb::Patch).await?;
        self.check_state(call, &target, Operation::UpdateAlias)?;
        refuse_service_alias(alias, &holder)?;
        if holder.record.key_id == target.record.key_id {
            return Ok(());
        }
        if holder.record.owner.namespace != target.record.owner.namespace {
            return Err(Failure::Unsupported(format!(
                "{alias} is an alias of the namespace {}, and names no key of another one",
                holder.record.owner.namespace
            )));
        }
        // Both, before the first is changed.
        for (key, wanted) in [(&holder, None), (&target, Some(alias))] {
            let live = self.live(key, &not_found(&named)).await?;
            let edits = edits(&live, alias, wanted)?;
            change::decide(&live.object, edits, &self.settings.gitops_managers, &call.caller.user.username)?;
        }
        let failure = match self.take_alias(call, alias, &holder, &not_found(&named)).await {
            Ok(()) => match self.give_alias(call, alias, &target, &not_found(key), Operation::UpdateAlias).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            },
            // It is taken from the object, if not from the key yet.
            Err(failure @ Failure::NotCarriedOut(_)) => failure,
            Err(failure) => return Err(failure),
        };
        let back = match self.withdraw(call, alias, &target, &not_found(key)).await {
            Ok(()) => self.give_alias(call, alias, &holder, &not_found(&named), Operation::DeleteAlias).await,
            Err(failure) => Err(failure),
        };
        let (from, to) = (ResourceName::of(&holder.record), ResourceName::of(&target.record));
        Err(Failure::NotCarriedOut(match back {
            Ok(()) => format!("{alias} names {from} as before, as {to} did not get it: {failure}"),
            Err(back) => {
                format!("{alias} names no key now: {to} did not get it ({failure}), nor {from} again ({back})")
            }
        }))
    }

    /// DeleteAlias. The alias has its prefix, and is one of the caller's namespace.
    ///
    /// # Errors
    /// As every change, and [`Failure::AliasNotFound`].
    pub async fn delete_alias(&self, call: &mut Call, alias: &str) -> Result<(), Failure> {
        let named = KeyReference::Alias(alias);
        let holder = self.permitted_key(call, &named, Verb::Patch).await?;
        refuse_service_alias(alias, &holder)?;
        self.take_alias(call, alias, &holder, &not_found(&named)).await
    }

    /// The key that has an alias in a namespace, in whichever key store, if an object shows it.
    fn holder_in(&self, namespace: &str, alias: &str) -> Option<StoredKey> {
        let claims = self.store.aliases_in(namespace);
        claims.into_iter().filter(|claim| claim.slot.alias == alias).find_map(|claim| self.key_by_id(claim.key_id))
    }

    async fn give_alias(
        &self,
        call: &Call,
        alias: &str,
        key: &StoredKey,
        not_found: &Failure,
        operation: Operation,
    ) -> Result<(), Failure> {
        let change = Change {
            verb: Verb::Patch,
            operation,
            parameter: PARAMETER,
            wanted: |live: &Live| edits(live, alias, Some(alias)),
            shows: |record: &KeyRecord| record.alias.as_deref() == Some(alias),
        };
        self.change_key(call, key, not_found, &change).await?;
        self.see_alias(alias, key).await
    }

    async fn take_alias(&self, call: &Call, alias: &str, key: &StoredKey, not_found: &Failure) -> Result<(), Failure> {
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::DeleteAlias,
            parameter: PARAMETER,
            wanted: |live: &Live| edits(live, alias, None),
            shows: |record: &KeyRecord| record.alias.as_deref() != Some(alias),
        };
        self.change_key(call, key, not_found, &change).await?;
        self.see_alias(alias, key).await
    }

    /// Has a key's object declare an alias no more that the key did not get.
    async fn withdraw(&self, call: &Call, alias: &str, key: &StoredKey, not_found: &Failure) -> Result<(), Failure> {
        self.edit(call, key, not_found, PARAMETER, |live| edits(live, alias, None)).await.map(drop)
    }

    /// Has this replica see whose an alias is now: the watch of aliases may lag behind that of objects.
    async fn see_alias(&self, alias: &str, key: &StoredKey) -> Result<(), Failure> {
        let KeyRecord { store, owner, .. } = &*key.record;
        let slot = AliasSlot { store: store.clone(), namespace: owner.namespace.clone(), alias: alias.to_owned() };
        self.store.alias(&slot, Freshness::Live).await.map(drop).map_err(|error| from_store(&error))
    }
}

fn refuse_service_alias(alias: &str, key: &StoredKey) -> Result<(), Failure> {
    if alias.starts_with(SERVICE_ALIASES) {
        return Err(Failure::ServiceManaged(ResourceName::of(&key.record)));
    }
    Ok(())
}

/// Gives `alias` to a key that has none, or, with nothing wanted, takes it from one that has it.
fn edits(live: &Live, alias: &str, wanted: Option<&str>) -> Result<Vec<Edit>, Failure> {
    let declared = live.object.spec.full_alias();
    let is = live.object.spec.alias.as_ref().map(|alias| json!(alias));
    match (wanted, declared) {
        (None, Some(declared)) if declared == alias => Ok(vec![Edit::removal("alias", is)]),
        (None, _) => Ok(vec![]),
        (Some(wanted), None) => Ok(vec![Edit::spec("alias", None, json!(wanted))]),
        (Some(wanted), Some(declared)) if declared == wanted => Ok(vec![]),
        (Some(_), Some(declared)) => Err(Failure::LimitExceeded(format!(
            "{} has the alias {declared}, and a key has one here: delete that one first",
            described(&live.object)
        ))),
    }
}
