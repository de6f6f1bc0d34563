//! What a caller may do: Kubernetes RBAC on `customermasterkeys`, by SubjectAccessReview (design, section 5).
//!
//! What was allowed counts for 5 seconds, so a RoleBinding that is removed stops its users within that time; a refusal
//! counts for one, so a new RoleBinding works at once.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

use super::{
    Caller, Failure,
    review_cache::{Answer, CacheLimits, QuestionId, ReviewCache},
};
use crate::{
    clock::Clock,
    cluster::{AccessQuestion, Reviews, UserInfo},
};

/// How long an allowed answer counts.
const ALLOWED_FOR: Duration = Duration::from_secs(5);

/// How long a refusal counts.
const DENIED_FOR: Duration = Duration::from_secs(1);

/// How many answers to remember: one a caller, verb and key in use. About 200 bytes each.
const ENTRIES: usize = 20_000;

/// How many reviews at a time: each has a connection of its own.
const REVIEWS: usize = 16;

/// A verb on `customermasterkeys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Encrypt, and the encrypting half of ReEncrypt.
    Encrypt,
    /// Decrypt, and the decrypting half of ReEncrypt.
    Decrypt,
    /// GenerateDataKey and GenerateDataKeyWithoutPlaintext.
    GenerateDataKey,
    /// GetParametersForImport and ImportKeyMaterial.
    ImportKeyMaterial,
    /// CreateKey.
    Create,
    /// What changes a key.
    Patch,
    /// Scheduling a deletion, and deleting imported material.
    Delete,
    /// What shows a key.
    Get,
    /// What lists keys or aliases.
    List,
}

impl Verb {
    /// As RBAC spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::GenerateDataKey => "generatedatakey",
            Self::ImportKeyMaterial => "importkeymaterial",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Get => "get",
            Self::List => "list",
        }
    }

    /// The smallest of the ClusterRoles in deploy/rbac.yaml that has it.
    fn role(self) -> &'static str {
        match self {
            Self::Encrypt | Self::GenerateDataKey => "cmk-encrypter",
            Self::Decrypt => "cmk-decrypter",
            Self::ImportKeyMaterial => "cmk-admin",
            Self::Create | Self::Patch | Self::Delete => "cmk-edit",
            Self::Get | Self::List => "cmk-view",
        }
    }
}

/// The resource that every verb is on.
pub const RESOURCE: &str = "customermasterkeys";

/// Answers whether callers may do things, and remembers the answers for a short while.
pub struct Permissions<C> {
    cluster: C,
    answers: ReviewCache<bool>,
}

impl<C: Reviews + Clone> Permissions<C> {
    /// Permissions as the API server gives them. While it does not answer, its answers count for up to `max_staleness`.
    #[must_use]
    pub fn new(cluster: C, clock: Arc<dyn Clock>, max_staleness: Duration) -> Self {
        let limits = CacheLimits { entries: ENTRIES, questions: REVIEWS, max_staleness };
        Self { cluster, answers: ReviewCache::new(clock, limits) }
    }

    /// Whether a caller has a verb on one key object, or, without a name, on all of a namespace.
    ///
    /// # Errors
    /// [`Failure::Unavailable`]: nobody can tell.
    pub async fn has(&self, caller: &Caller, verb: Verb, namespace: &str, name: Option<&str>) -> Result<bool, Failure> {
        let id = question_id(&caller.user, verb, namespace, name);
        let ask = || {
            let (cluster, user) = (self.cluster.clone(), caller.user.clone());
            let (namespace, name) = (namespace.to_owned(), name.map(str::to_owned));
            async move {
                let question = AccessQuestion {
                    verb: verb.as_str(),
                    resource: RESOURCE,
                    namespace: &namespace,
                    name: name.as_deref(),
                };
                cluster.review_access(&user, question).await.map(answer)
            }
        };
        self.answers.answer(id, ask).await.map_err(|error| {
            tracing::debug!(%error, "a permission can't be looked up");
            Failure::Unavailable("the API server does not say now whether the caller may do this: try again".into())
        })
    }

    /// Requires a verb on all keys of the caller's namespace.
    ///
    /// # Errors
    /// [`Failure::Denied`], or as [`has`](Self::has).
    pub async fn require_in_namespace(&self, caller: &Caller, verb: Verb) -> Result<(), Failure> {
        let Caller { namespace, .. } = caller;
        if self.has(caller, verb, namespace, None).await? {
            return Ok(());
        }
        Err(denied(caller, verb))
    }

    /// What to answer about a key that does not exist, or that the caller may not use: the same in both cases, judged
    /// by the caller's right on the own namespace, so that nothing is told about other keys.
    pub async fn hidden(&self, caller: &Caller, verb: Verb, not_found: Failure) -> Failure {
        match self.require_in_namespace(caller, verb).await {
            Ok(()) => not_found,
            Err(failure) => failure,
        }
    }
}

/// How long an answer counts. Both may be used for longer while the API server does not answer.
fn answer(allowed: bool) -> Answer<bool> {
    let fresh_for = if allowed { ALLOWED_FOR } else { DENIED_FOR };
    Answer { value: allowed, fresh_for, usable_for: Duration::MAX, is_good: allowed }
}

/// A hash of everything that is asked. Each part says how long it is, so that no two questions look alike.
fn question_id(user: &UserInfo, verb: Verb, namespace: &str, name: Option<&str>) -> QuestionId {
    let mut hash = Sha256::new();
    let mut count = |number: usize| hash.update(number.to_le_bytes());
    let UserInfo { username, uid, groups, extra } = user;
    let numbers = [groups.len(), extra.len(), usize::from(name.is_some())];
    numbers.into_iter().for_each(&mut count);
    let mut text = |part: &str| {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    };
    [username, uid, verb.as_str(), namespace, name.unwrap_or_default()].into_iter().for_each(&mut text);
    groups.iter().for_each(|group| text(group));
    for (key, values) in extra {
        text(key);
        // Its values are as many as this says, so that the next key is told from them.
        text(&values.len().to_string());
        values.iter().for_each(|value| text(value));
    }
    hash.finalize().into()
}

/// Who lacks which verb on what, and where to get it.
fn denied(caller: &Caller, verb: Verb) -> Failure {
    let Caller { user, namespace, .. } = caller;
    Failure::Denied(format!(
        "user {} lacks the verb {} on {RESOURCE}.{} in the namespace {namespace}: the ClusterRole {} has it",
        user.username,
        verb.as_str(),
        crate::api::GROUP,
        verb.role(),
    ))
}
