//! Condition types and reasons, and how conditions are carried over from one pass to the next.
//!
//! Ready, Reconciling and Stalled mean what kstatus says: Ready is True when the object is as declared,
//! Reconciling is True while the operator works on it or waits for something, Stalled is True when it can't go
//! on without a person. All of them are computed at every pass (design, rule 16).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The key, or data key, is as declared.
pub const READY: &str = "Ready";
/// The operator is working on it, or waiting for something it needs.
pub const RECONCILING: &str = "Reconciling";
/// It can't go on without a person; the message says what to do.
pub const STALLED: &str = "Stalled";
/// An erasure that is due waits, and why (design, rule 4).
pub const PURGE_HELD: &str = "PurgeHeld";

/// There are keys in the key store, so that it is not to be deleted.
pub const IN_USE: &str = "InUse";

/// Reasons of conditions and Events, CamelCase as the API conventions ask. One constant a reason, so that
/// tests, docs and alerts can refer to them.
pub mod reason {
    /// As declared.
    pub const AS_DECLARED: &str = "AsDeclared";
    /// Nothing is going on.
    pub const IDLE: &str = "Idle";
    /// Something else failed; see the condition Ready.
    pub const NOT_STALLED: &str = "NotStalled";

    /// The annotation names a key that the store has no record of (rule 1).
    pub const KEY_RECORD_MISSING: &str = "KeyRecordMissing";
    /// The namespace is not the one in which the key was made (rule 5).
    pub const NAMESPACE_RECREATED: &str = "NamespaceRecreated";
    /// The key was deleted and its material erased (rules 4 and 5).
    pub const KEY_DELETED: &str = "KeyDeleted";
    /// The record failed its integrity check (design, section 4).
    pub const RECORD_TAMPERED: &str = "RecordTampered";
    /// The record was written by a newer version of the operator.
    pub const RECORD_FORMAT_UNKNOWN: &str = "RecordFormatUnknown";
    /// The record's material was wrapped under a root key that is not at hand.
    pub const ROOT_KEY_MISSING: &str = "RootKeyMissing";
    /// No new keys are made, by `--no-new-keys` (rule 20).
    pub const CREATION_PAUSED: &str = "CreationPaused";
    /// An immutable field differs from the key that is there.
    pub const IMMUTABLE_FIELD_CHANGED: &str = "ImmutableFieldChanged";
    /// The declared change is not possible while the key is to be deleted.
    pub const REJECTED_PENDING_DELETION: &str = "RejectedPendingDeletion";
    /// The declared change is not possible while the key is disabled.
    pub const REJECTED_DISABLED: &str = "RejectedDisabled";
    /// The declared change is not possible while the key has no material.
    pub const REJECTED_PENDING_IMPORT: &str = "RejectedPendingImport";
    /// The declared change is refused because the key has deletionProtection (rule 7).
    pub const DELETION_PROTECTED: &str = "DeletionProtected";
    /// Another key has the alias (rule 10).
    pub const ALIAS_CONFLICT: &str = "AliasConflict";
    /// The key that is to be adopted belongs to another object (rule 11).
    pub const KEY_HAS_OWNER: &str = "KeyHasOwner";
    /// The key store does not exist (yet).
    pub const KEY_STORE_NOT_FOUND: &str = "KeyStoreNotFound";
    /// The key store takes no keys of this namespace.
    pub const KEY_STORE_NOT_ALLOWED: &str = "KeyStoreNotAllowed";
    /// The key that is to be adopted has imported material, and the object declares none (rule 11).
    pub const MATERIAL_NOT_DECLARED: &str = "MaterialNotDeclared";
    /// There are keys in the key store.
    pub const HOLDS_KEYS: &str = "HoldsKeys";
    /// There are no keys in the key store.
    pub const EMPTY: &str = "Empty";
    /// The key store has a provider that this version of the operator does not know.
    pub const UNKNOWN_PROVIDER: &str = "UnknownProvider";
    /// DataKeys refer to the key, so its object can't go (rule 6).
    pub const KEY_IN_USE: &str = "KeyInUse";
    /// The Secret with the material to import, or its entry, does not exist (yet).
    pub const MATERIAL_NOT_FOUND: &str = "MaterialNotFound";
    /// The material is not 32 bytes, does not decrypt, or is not what was imported before (rule 9).
    pub const INVALID_KEY_MATERIAL: &str = "InvalidKeyMaterial";
    /// The import token was not made for this key and algorithm.
    pub const INVALID_IMPORT_TOKEN: &str = "InvalidImportToken";
    /// The import token was made more than a day ago.
    pub const EXPIRED_IMPORT_TOKEN: &str = "ExpiredImportToken";
    /// The imported material has expired (rule 9).
    pub const MATERIAL_EXPIRED: &str = "MaterialExpired";
    /// A requested rotation waits until the key is enabled (rule 8).
    pub const ROTATION_SUSPENDED: &str = "RotationSuspended";
    /// A rotation is not possible at all: EXTERNAL, or as many versions as a record holds (rule 8).
    pub const ROTATION_REFUSED: &str = "RotationRefused";
    /// The store does not offer what is declared (rule 11).
    pub const UNSUPPORTED_BY_KEY_STORE: &str = "UnsupportedByKeyStore";
    /// The key store could not be reached or failed; tried again.
    pub const KEY_STORE_ERROR: &str = "KeyStoreError";
    /// The namespace is being deleted.
    pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
    /// A pass failed, and is tried again.
    pub const RECONCILE_ERROR: &str = "ReconcileError";
    /// The object itself could not be read.
    pub const UNREADABLE: &str = "Unreadable";
    /// Other finalizers come first.
    pub const WAITING_FOR_FINALIZERS: &str = "WaitingForFinalizers";
    /// The local clock and the API server's differ too much to erase anything (rule 4).
    pub const CLOCK_SKEW: &str = "ClockSkew";
    /// As many keys as allowed were erased in the last hour; this one waits (rule 4).
    pub const PURGE_RATE_LIMITED: &str = "PurgeRateLimited";
    /// Nothing that is due waits.
    pub const NOT_DUE: &str = "NotDue";

    /// The CustomerMasterKey does not exist (yet).
    pub const KEY_NOT_FOUND: &str = "KeyNotFound";
    /// The CustomerMasterKey exists but can't be used yet, or any more.
    pub const KEY_NOT_READY: &str = "KeyNotReady";
    /// The key is disabled (rule 13).
    pub const KEY_DISABLED: &str = "KeyDisabled";
    /// The key is to be deleted (rule 13).
    pub const KEY_PENDING_DELETION: &str = "KeyPendingDeletion";
    /// The key has no material (rule 13).
    pub const KEY_PENDING_IMPORT: &str = "KeyPendingImport";
    /// A ciphertext that does not belong to this DataKey (rule 12).
    pub const FOREIGN_CIPHERTEXT: &str = "ForeignCiphertext";
    /// A ciphertext in `spec.ciphertextBlob` that the key does not decrypt, or of another length.
    pub const INVALID_CIPHERTEXT: &str = "InvalidCiphertext";
    /// Only the Secret has the ciphertext, and not its plaintext: nothing shows that it was ever delivered (rule 18).
    pub const PLAINTEXT_WITHHELD: &str = "PlaintextWithheld";
    /// The data key is there; its Secret is being written.
    pub const DELIVERING: &str = "Delivering";
    /// A Secret of that name exists and is not this DataKey's (rule 14).
    pub const SECRET_CONFLICT: &str = "SecretConflict";
    /// The key's allowedNamespaces do not select the DataKey's namespace (rule 15).
    pub const KEY_NOT_SHARED: &str = "KeyNotShared";
    /// A rotation is due, and `status.history` has no room for one data key more (rule 12).
    pub const HISTORY_FULL: &str = "HistoryFull";

    /// The ServiceAccount of an AccessKey does not exist (yet).
    pub const SERVICE_ACCOUNT_NOT_FOUND: &str = "ServiceAccountNotFound";

    /// Event: the key was changed behind the operator's back and was brought back (rule 2).
    pub const DRIFT_CORRECTED: &str = "DriftCorrected";
    /// Event: an existing key was taken over by a re-applied object (rule 5).
    pub const KEY_ADOPTED: &str = "KeyAdopted";
    /// Event: a key was given up for a new one (rule 5).
    pub const KEY_ABANDONED: &str = "KeyAbandoned";
    /// Event: the deletion of the key was scheduled.
    pub const DELETION_SCHEDULED: &str = "DeletionScheduled";
    /// Event: the scheduled deletion was cancelled.
    pub const DELETION_CANCELLED: &str = "DeletionCancelled";
    /// Event: the key stays though its object is deleted.
    pub const KEY_RETAINED: &str = "KeyRetained";
    /// Event: material was imported (rule 9).
    pub const MATERIAL_IMPORTED: &str = "MaterialImported";
    /// Event: what needed attention is as declared again.
    pub const RECOVERED: &str = "Recovered";
    /// Event: the key has a new version (rule 8).
    pub const KEY_ROTATED: &str = "KeyRotated";
    /// Event: imported material was deleted, as declared.
    pub const MATERIAL_DELETED: &str = "MaterialDeleted";
    /// Event: the key was enabled.
    pub const KEY_ENABLED: &str = "KeyEnabled";
    /// Event: a Secret was made again from its ciphertext (rule 12).
    pub const SECRET_RESTORED: &str = "SecretRestored";
    /// Event: a data key that was already there was taken over (rule 12).
    pub const DATA_KEY_ADOPTED: &str = "DataKeyAdopted";
    /// Event: a new data key was generated, and the one before kept.
    pub const DATA_KEY_ROTATED: &str = "DataKeyRotated";
    /// Event: the key of the namespace's DataKeys without keyRef was made.
    pub const SERVICE_KEY_CREATED: &str = "ServiceKeyCreated";
    /// Event: an access key was made.
    pub const ACCESS_KEY_CREATED: &str = "AccessKeyCreated";
    /// Event: an access key replaces one that works no more, as its ServiceAccount was made anew or its record lost.
    pub const ACCESS_KEY_REPLACED: &str = "AccessKeyReplaced";
    /// Event: an access key was made, and the one before works for a while yet.
    pub const ACCESS_KEY_ROTATED: &str = "AccessKeyRotated";
    /// Event: the deleted root key was written back (rule 20).
    pub const ROOT_KEY_RESTORED: &str = "RootKeyRestored";
    /// Event about the Lease: another replica leads.
    pub const LEADER_ELECTION: &str = "LeaderElection";
}

/// What one pass says about a condition, before it is compared with the last pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type.
    pub type_: &'static str,
    /// True, or False.
    pub status: bool,
    /// One of [`reason`].
    pub reason: &'static str,
    /// A sentence for a person: what is, and what to do.
    pub message: String,
}

impl Finding {
    /// A finding.
    #[must_use]
    pub fn new(type_: &'static str, status: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status, reason, message: message.into() }
    }
}

/// How an object stands: the one answer from which Ready, Reconciling and Stalled follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As declared. The message says what that is.
    Ready {
        /// What the object is, in a few words.
        message: String,
    },
    /// Not as declared yet; the operator goes on by itself when what it waits for comes.
    Waiting {
        /// Why.
        reason: &'static str,
        /// What it waits for.
        message: String,
    },
    /// Not as declared, and nothing will change without a person.
    Stalled {
        /// Why.
        reason: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl Standing {
    /// Waiting, for a reason.
    #[must_use]
    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Waiting { reason, message: message.into() }
    }

    /// Stalled, for a reason.
    #[must_use]
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Stalled { reason, message: message.into() }
    }

    /// The three kstatus conditions that say this.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let (ready, reconciling, stalled) = match self {
            Self::Ready { message } => (
                Finding::new(READY, true, reason::AS_DECLARED, message),
                Finding::new(RECONCILING, false, reason::IDLE, ""),
                Finding::new(STALLED, false, reason::NOT_STALLED, ""),
            ),
            Self::Waiting { reason, message } => (
                Finding::new(READY, false, reason, message),
                Finding::new(RECONCILING, true, reason, message),
                Finding::new(STALLED, false, reason::NOT_STALLED, ""),
            ),
            Self::Stalled { reason, message } => (
                Finding::new(READY, false, reason, message),
                Finding::new(RECONCILING, false, reason::IDLE, ""),
                Finding::new(STALLED, true, reason, message),
            ),
        };
        vec![ready, reconciling, stalled]
    }

    /// The reason and message of a failure, for an Event. None when Ready.
    #[must_use]
    pub fn failure(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Ready { .. } => None,
            Self::Waiting { reason, message } | Self::Stalled { reason, message } => Some((reason, message)),
        }
    }
}

impl Standing {
    /// Whether a person should look: not while something is waited for that usually comes by itself.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        match self {
            Self::Ready { .. } => false,
            Self::Stalled { .. } => true,
            Self::Waiting { reason, .. } => !comes_by_itself(reason),
        }
    }
}

/// Whether what is waited for for a reason usually comes by itself.
#[must_use]
pub fn comes_by_itself(reason: &str) -> bool {
    [
        reason::KEY_NOT_FOUND,
        reason::SERVICE_ACCOUNT_NOT_FOUND,
        reason::KEY_NOT_READY,
        reason::DELIVERING,
        reason::NAMESPACE_TERMINATING,
        reason::WAITING_FOR_FINALIZERS,
        reason::KEY_IN_USE,
    ]
    .contains(&reason)
}

/// Turns findings into conditions: what did not change since `before` keeps its transition time.
#[must_use]
pub fn conditions(
    findings: &[Finding],
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let status = if finding.status { "True" } else { "False" };
            let since = before.iter().find(|c| c.type_ == finding.type_ && c.status == status);
            Condition {
                type_: finding.type_.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.to_owned(),
                message: finding.message.clone(),
                observed_generation: generation,
                last_transition_time: since.map_or(Time(now), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The condition of a type, if there.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    #[test]
    fn rule_16_transition_time_moves_with_the_status_only() {
        let ready = Standing::Ready { message: "Enabled".into() };
        let first = conditions(&ready.findings(), &[], Some(1), at(100));
        let same = conditions(&ready.findings(), &first, Some(1), at(200));
        assert_eq!(first, same, "a pass that changes nothing writes nothing");

        let stalled = Standing::stalled(reason::KEY_DELETED, "gone");
        let later = conditions(&stalled.findings(), &same, Some(2), at(300));
        let of = |t| find(&later, t).unwrap().clone();
        assert_eq!((of(READY).status.as_str(), of(READY).last_transition_time), ("False", Time(at(300))));
        assert_eq!((of(STALLED).status.as_str(), of(STALLED).reason.as_str()), ("True", "KeyDeleted"));
        assert_eq!(of(RECONCILING).last_transition_time, Time(at(100)), "Reconciling stayed False");
        assert!(later.iter().all(|c| c.observed_generation == Some(2)));

        // A stale failure does not survive success.
        let again = conditions(&ready.findings(), &later, Some(3), at(400));
        assert_eq!(find(&again, STALLED).unwrap().status, "False");
    }
}
