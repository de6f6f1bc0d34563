//! What a caller may do: Kubernetes RBAC on `customermasterkeys`, by SubjectAccessReview (design, section 5).

use super::{Caller, Failure};
use crate::cluster::Reviews;

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
}

/// The resource that every verb is on.
pub const RESOURCE: &str = "customermasterkeys";

/// Answers whether callers may do things, and remembers the answers for a short while.
pub struct Permissions<C> {
    cluster: C,
}

impl<C: Reviews> Permissions<C> {
    /// Permissions as the API server gives them.
    #[must_use]
    pub fn new(cluster: C) -> Self {
        Self { cluster }
    }

    /// Whether a caller has a verb on one key object, or, without a name, on all of a namespace.
    ///
    /// # Errors
    /// [`Failure::Unavailable`]: nobody can tell.
    pub async fn has(&self, caller: &Caller, verb: Verb, namespace: &str, name: Option<&str>) -> Result<bool, Failure> {
        let question = crate::cluster::AccessQuestion { verb: verb.as_str(), resource: RESOURCE, namespace, name };
        self.cluster.review_access(&caller.user, question).await.map_err(|error| {
            Failure::Unavailable(format!("whether the caller may do this can't be found out: {error}"))
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

/// Who lacks which verb on what.
fn denied(caller: &Caller, verb: Verb) -> Failure {
    let Caller { user, namespace, .. } = caller;
    Failure::Denied(format!(
        "{} may not {} on {RESOURCE}.{} in the namespace {namespace}: a Role has to allow it",
        user.username,
        verb.as_str(),
        crate::api::GROUP
    ))
}
