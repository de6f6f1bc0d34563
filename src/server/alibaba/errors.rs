//! What each failure is called here, and its HTTP status.
//!
//! Codes and statuses are those of the API's documentation ("Responses", "Common errors") and of its gateway. Where neither
//! names a failure, the code is ours, in the same style: docs/alibaba.md lists them.

use hyper::StatusCode;
use uuid::Uuid;

use super::{Format, ParameterError, writer::Writer};
use crate::{
    kms::Rejected,
    server::{Failure, Reply},
};

/// The reply that says what went wrong.
#[must_use]
pub fn refuse(failure: &Failure, format: Format, host_id: &str, request_id: Uuid) -> Reply {
    let (status, code) = code_of(failure);
    Writer::answer(format, status, request_id, |writer| {
        writer.number("HttpStatus", status.as_u16().into());
        writer.text("Code", code);
        writer.text("Message", &message_of(failure));
        writer.text("HostId", host_id);
    })
}

/// The status and the code of a failure.
#[must_use]
pub(super) fn code_of(failure: &Failure) -> (StatusCode, &'static str) {
    const INVALID: StatusCode = StatusCode::BAD_REQUEST;
    const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
    const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
    const REJECTED: StatusCode = StatusCode::CONFLICT;
    match failure {
        Failure::NotAuthenticated | Failure::IncompleteSignature(_) => (INVALID, "IncompleteSignature"),
        Failure::UnknownAccessKey => (NOT_FOUND, "InvalidAccessKeyId.NotFound"),
        Failure::InvalidToken(_) => (FORBIDDEN, "InvalidBearerToken"),
        Failure::SignatureMismatch => (INVALID, "SignatureDoesNotMatch"),
        Failure::IllegalTimestamp { .. } => (INVALID, "IllegalTimestamp"),
        Failure::NonceUsed => (INVALID, "SignatureNonceUsed"),
        Failure::UnsupportedMethod(_) => (FORBIDDEN, "UnsupportedHTTPMethod"),
        Failure::UnknownOperation(_) => (NOT_FOUND, "InvalidAction.NotFound"),
        Failure::Unsupported(_) => (INVALID, "UnsupportedOperation"),
        Failure::UnsupportedAlias(_) => (INVALID, "Unsupported.Alias"),
        Failure::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLarge"),
        Failure::MissingParameter(_) => (INVALID, "MissingParameter"),
        Failure::InvalidParameter { name: "Version", .. } => (INVALID, "InvalidVersion"),
        Failure::Malformed(_)
        | Failure::Validation(_)
        | Failure::InvalidParameter { .. }
        | Failure::InvalidMarker
        | Failure::InvalidTag(_) => (INVALID, "InvalidParameter"),
        Failure::DryRun => (INVALID, "DryRunOperationError"),
        Failure::Denied(_) => (FORBIDDEN, "Forbidden.NoPermission"),
        Failure::KeyNotFound(_) => (NOT_FOUND, "Forbidden.KeyNotFound"),
        Failure::AliasNotFound(_) => (NOT_FOUND, "Forbidden.AliasNotFound"),
        Failure::KeyVersionNotFound(_) => (NOT_FOUND, "Forbidden.KeyVersionNotFound"),
        Failure::AliasExists(_) => (INVALID, "AliasAlreadyExists"),
        Failure::LimitExceeded(_) => (INVALID, "Rejected.LimitExceeded"),
        Failure::Throttled(_) => (INVALID, "Throttling"),
        Failure::Rejected { rejected, .. } => (REJECTED, rejected_code(*rejected)),
        Failure::UnsupportedOrigin(_) => (INVALID, "Unsupported.Origin"),
        Failure::DeletionProtected(_) => (REJECTED, "Rejected.DeletionProtected"),
        Failure::ServiceManaged(_) => (REJECTED, "Rejected.ServiceManaged"),
        Failure::Owned(_) | Failure::Conflict => (REJECTED, rejected_code(Rejected::StateModifiedFailed)),
        Failure::InvalidCiphertext => (INVALID, "InvalidCiphertext"),
        Failure::IncorrectKey => (INVALID, "IncorrectKey"),
        Failure::InvalidImportToken => (INVALID, "InvalidImportToken"),
        Failure::ExpiredImportToken => (INVALID, "ExpiredImportToken"),
        Failure::InvalidKeyMaterial | Failure::IncorrectKeyMaterial => (INVALID, "InvalidKeyMaterial"),
        Failure::NotCarriedOut(_) | Failure::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableTemporary")
        }
        Failure::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
    }
}

fn rejected_code(rejected: Rejected) -> &'static str {
    match rejected {
        Rejected::Disabled => "Rejected.Disabled",
        Rejected::PendingDeletion => "Rejected.PendingDeletion",
        Rejected::PendingImport => "Rejected.PendingImport",
        Rejected::StateModifiedFailed => "Rejected.StateModifiedFailed",
    }
}

fn message_of(failure: &Failure) -> String {
    match failure {
        // The older Python SDK compares what stands after a colon with what it has signed, and fails without one.
        Failure::SignatureMismatch => format!("{failure}: check the access key's secret and the endpoint's name"),
        Failure::Internal(_) => "the operator failed: its log says why, under this request id".into(),
        other => other.to_string(),
    }
}

impl From<ParameterError> for Failure {
    fn from(error: ParameterError) -> Self {
        Self::Malformed(error.to_string())
    }
}
