//! What can go wrong in a call, in words of neither dialect. `aws::errors` and `alibaba::errors` give each its code, its
//! HTTP status and its message.

use thiserror::Error;

use crate::kms::{Operation, Rejected, ResourceName};

/// Why a call failed. The text is for people, holds no secret, and says nothing about keys that the caller may not see.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    // Who
    /// There is neither a signature nor a token.
    #[error("the request is not signed")]
    NotAuthenticated,
    /// The signature, or what it has to cover, is not complete; two schemes; a form that is refused.
    #[error("{0}")]
    IncompleteSignature(String),
    /// There is no such access key, or it was revoked.
    #[error("the access key is not known")]
    UnknownAccessKey,
    /// The token is not valid for this endpoint.
    #[error("the token is not valid here: {0}")]
    InvalidToken(String),
    /// The signature is wrong.
    #[error("the signature does not match")]
    SignatureMismatch,
    /// The request was signed too long ago, or for a time to come.
    #[error("the request was signed at {signed}, and it is {now} now")]
    IllegalTimestamp {
        /// When it says that it was signed.
        signed: String,
        /// The endpoint's clock.
        now: String,
    },
    /// The nonce was used before.
    #[error("the nonce was used before")]
    NonceUsed,

    // Parameters
    /// The method is neither GET nor POST, or not the one for this dialect.
    #[error("the method {0} is not supported")]
    UnsupportedMethod(String),
    /// There is no such operation, or it is not served here.
    #[error("the operation {0} is not supported")]
    UnknownOperation(String),
    /// The operation exists, and can't be done here or for this key: a sentence that says why.
    #[error("{0}")]
    Unsupported(String),
    /// An alias stands where the dialect takes a key's id or ARN only: the parameter.
    #[error("the parameter {0} takes the id or ARN of a key here, not an alias")]
    UnsupportedAlias(&'static str),
    /// The body, the query or a header can't be read.
    #[error("the request is malformed: {0}")]
    Malformed(String),
    /// The body, the query or the headers are too long.
    #[error("the request is too large: {0}")]
    TooLarge(String),
    /// A parameter is missing.
    #[error("the parameter {0} is missing")]
    MissingParameter(&'static str),
    /// A parameter has a value that is not allowed.
    #[error("the parameter {name} is invalid: {problem}")]
    InvalidParameter {
        /// The parameter, as the dialect spells it.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A limit of the API is broken: the whole message, in that API's words.
    #[error("{0}")]
    Validation(String),
    /// A marker of a list that this endpoint did not make.
    #[error("the marker is not valid")]
    InvalidMarker,
    /// A tag, or a number of tags, that is not allowed.
    #[error("{0}")]
    InvalidTag(String),
    /// A dry run that would have worked.
    #[error("the request would have succeeded, but it was a dry run")]
    DryRun,

    // Permission
    /// The caller lacks a verb. The message says who lacks which verb on what.
    #[error("{0}")]
    Denied(String),

    // What there is
    /// There is no such key. It names what was asked for, as it was asked for.
    #[error("the key {0} does not exist")]
    KeyNotFound(String),
    /// There is no such alias.
    #[error("the alias {0} does not exist")]
    AliasNotFound(String),
    /// There is no such version.
    #[error("the key version {0} does not exist")]
    KeyVersionNotFound(String),
    /// The alias is taken.
    #[error("the alias {0} exists already")]
    AliasExists(String),
    /// A limit of numbers is reached: a sentence that says which.
    #[error("{0}")]
    LimitExceeded(String),
    /// Too many requests of a costly kind.
    #[error("too many requests: {0}")]
    Throttled(String),

    // State
    /// The state machine refuses.
    #[error("{rejected} ({key})")]
    Rejected {
        /// The key.
        key: ResourceName,
        /// What was asked.
        operation: Operation,
        /// Why it is refused.
        rejected: Rejected,
    },
    /// The key's origin does not allow the operation.
    #[error("{0}")]
    UnsupportedOrigin(String),
    /// The key is protected against deletion.
    #[error("{0} is protected against deletion: disable the protection first")]
    DeletionProtected(ResourceName),
    /// The operator manages the key.
    #[error("{0} is a service-managed key, which the operator alone changes")]
    ServiceManaged(ResourceName),
    /// The field belongs to somebody who would change it back (design, section 5).
    #[error("{0}")]
    Owned(String),
    /// The object was changed or deleted by somebody else at the same time.
    #[error("the key was changed by somebody else at the same time: try again")]
    Conflict,
    /// The change was made, but the operator has not carried it out in time.
    #[error("{0}")]
    NotCarriedOut(String),

    // Cryptography
    /// Not a ciphertext of the key, or not with this encryption context, or damaged.
    #[error("the ciphertext does not decrypt under this key and encryption context")]
    InvalidCiphertext,
    /// The ciphertext was made by another key than the one that was named.
    #[error("the ciphertext was made by another key")]
    IncorrectKey,
    /// The import token is not valid for the key.
    #[error("the import token is not valid for this key")]
    InvalidImportToken,
    /// The import token has expired.
    #[error("the import token has expired: call GetParametersForImport again")]
    ExpiredImportToken,
    /// The encrypted material does not decrypt, or is not 32 bytes. One failure for all causes.
    #[error("the key material does not decrypt to exactly 32 bytes")]
    InvalidKeyMaterial,
    /// The material differs from what the key had before.
    #[error("the key material differs from the material that the key had before")]
    IncorrectKeyMaterial,

    // We ourselves
    /// The replica has been cut off from the API server for too long, or the API server does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The operator failed: a damaged record, no randomness. Shown without detail; the detail is logged.
    #[error("internal failure: {0}")]
    Internal(String),
}

impl Failure {
    /// A name for the audit line and the metrics: the same in both dialects, and never anything of the request.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotAuthenticated => "NotAuthenticated",
            Self::IncompleteSignature(_) => "IncompleteSignature",
            Self::UnknownAccessKey => "UnknownAccessKey",
            Self::InvalidToken(_) => "InvalidToken",
            Self::SignatureMismatch => "SignatureMismatch",
            Self::IllegalTimestamp { .. } => "IllegalTimestamp",
            Self::NonceUsed => "NonceUsed",
            Self::UnsupportedMethod(_) => "UnsupportedMethod",
            Self::UnknownOperation(_) => "UnknownOperation",
            Self::Unsupported(_) => "Unsupported",
            Self::UnsupportedAlias(_) => "UnsupportedAlias",
            Self::Malformed(_) => "Malformed",
            Self::TooLarge(_) => "TooLarge",
            Self::MissingParameter(_) => "MissingParameter",
            Self::InvalidParameter { .. } => "InvalidParameter",
            Self::InvalidMarker => "InvalidMarker",
            Self::InvalidTag(_) => "InvalidTag",
            Self::Validation(_) => "Validation",
            Self::DryRun => "DryRun",
            Self::Denied(_) => "Denied",
            Self::KeyNotFound(_) => "KeyNotFound",
            Self::AliasNotFound(_) => "AliasNotFound",
            Self::KeyVersionNotFound(_) => "KeyVersionNotFound",
            Self::AliasExists(_) => "AliasExists",
            Self::LimitExceeded(_) => "LimitExceeded",
            Self::Throttled(_) => "Throttled",
            Self::Rejected { rejected, .. } => match rejected {
                Rejected::Disabled => "Disabled",
                Rejected::PendingDeletion => "PendingDeletion",
                Rejected::PendingImport => "PendingImport",
                Rejected::StateModifiedFailed => "StateModifiedFailed",
            },
            Self::UnsupportedOrigin(_) => "UnsupportedOrigin",
            Self::DeletionProtected(_) => "DeletionProtected",
            Self::ServiceManaged(_) => "ServiceManaged",
            Self::Owned(_) => "Owned",
            Self::Conflict => "Conflict",
            Self::NotCarriedOut(_) => "NotCarriedOut",
            Self::InvalidCiphertext => "InvalidCiphertext",
            Self::IncorrectKey => "IncorrectKey",
            Self::InvalidImportToken => "InvalidImportToken",
            Self::ExpiredImportToken => "ExpiredImportToken",
            Self::InvalidKeyMaterial => "InvalidKeyMaterial",
            Self::IncorrectKeyMaterial => "IncorrectKeyMaterial",
            Self::Unavailable(_) => "Unavailable",
            Self::Internal(_) => "Internal",
        }
    }
}
