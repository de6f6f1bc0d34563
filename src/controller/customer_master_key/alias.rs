//! What to do about a key's alias (design, rule 10): claim the new one, write it into the record, release the old
//! one. In this order, so that a key that is found by its alias has it, and an alias is never taken from another key.

use super::plan::{Observed, Step};
use crate::{
    kms::{Dialect, KeyStep, Operation},
    store::{AliasClaim, AliasSlot, Freshness, StoredKey},
};

/// What is known about aliases.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AliasFacts {
    /// Who has the declared alias, and whether that key has no use for it any more.
    pub holder: Option<(AliasClaim, bool)>,
    /// What the object's key has claimed.
    pub claims: Vec<AliasClaim>,
    /// The Secret that claims the declared alias, if it is damaged.
    pub damaged: Option<String>,
}

/// What is next for an alias.
#[derive(Debug, PartialEq)]
pub enum AliasStep {
    /// Do this.
    Do(Step),
    /// Another key has it.
    Taken(AliasClaim),
    /// Its claim can't be read.
    Damaged(String),
    /// The state of the key forbids the change.
    Blocked,
    /// It is as declared.
    Settled,
}

/// Decides what is next for the alias of `key`.
pub fn next(o: &Observed, key: &StoredKey, now: jiff::Timestamp) -> AliasStep {
    let declared = o.object.spec.full_alias();
    let held = key.record.alias.clone();
    let set = |alias| AliasStep::Do(Step::UpdateKey { key: key.clone(), steps: vec![KeyStep::SetAlias(alias)] });
    let settled = match &declared {
        None if held.is_some() => return set(None),
        None => AliasStep::Settled,
        Some(alias) => {
            if let Some(secret) = &o.alias.damaged {
                return AliasStep::Damaged(secret.clone());
            }
            let may_change = Operation::CreateAlias.check(key.record.state(now), Dialect::Alibaba).is_ok();
            match &o.alias.holder {
                Some((claim, _)) if claim.key_id == key.record.key_id => {
                    if held == declared {
                        AliasStep::Settled
                    } else if may_change {
                        return set(declared);
                    } else {
                        AliasStep::Blocked
                    }
                }
                _ if held != declared && !may_change => AliasStep::Blocked,
                None => {
                    let owner = &key.record.owner;
                    let (store, namespace) = (key.record.store.clone(), owner.namespace.clone());
                    let slot = AliasSlot { store, namespace, alias: alias.clone() };
                    return AliasStep::Do(Step::ClaimAlias { slot, key_id: key.record.key_id });
                }
                Some((claim, true)) => return AliasStep::Do(Step::ReleaseAlias(claim.clone())),
                Some(_) if o.freshness == Freshness::Watched => return AliasStep::Do(Step::LookAgain),
                // It was ours, and somebody else has it: their claim counts.
                Some(_) if held == declared => return set(None),
                Some((claim, false)) => AliasStep::Taken(claim.clone()),
            }
        }
    };
    // A key that was adopted has left the alias of its former namespace behind.
    let namespace = &key.record.owner.namespace;
    let is_held = |claim: &AliasClaim| Some(&claim.slot.alias) == held.as_ref() && claim.slot.namespace == *namespace;
    match o.alias.claims.iter().find(|claim| !is_held(claim)) {
        Some(left) => AliasStep::Do(Step::ReleaseAlias(left.clone())),
        None => settled,
    }
}
