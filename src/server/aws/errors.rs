//! A failure in AWS's words: the exception, the HTTP status, the message.
//!
//! Every refusal is HTTP 400 in this protocol; only what the endpoint itself fails at is 500 or 503 (botocore's model:
//! `fault`), and a body that is too long is 413. The exceptions are those of botocore's model, and AWS's common ones
//! ("Common error types" of the API reference).

use hyper::StatusCode;
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{CONTENT_TYPE, limits};
use crate::{
    kms::{Dialect, Operation, Rejected, ResourceName},
    server::{Failure, Reply},
};

/// An error as it is answered.
#[derive(Debug, PartialEq, Eq)]
struct Exception {
    code: &'static str,
    status: StatusCode,
    message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "__type")]
    code: &'a str,
    message: &'a str,
}

/// The reply that says why a call failed.
#[must_use]
pub fn refuse(failure: &Failure, request_id: Uuid) -> Reply {
    let Exception { code, status, message } = exception(failure, request_id);
    let body = Body { code, message: &message };
    // Two strings have a JSON form.
    #[allow(clippy::expect_used)]
    let body = serde_json::to_vec(&body).expect("two strings serialise");
    Reply { status, content_type: CONTENT_TYPE, body: Zeroizing::new(body) }
}

fn exception(failure: &Failure, request_id: Uuid) -> Exception {
    let refused = |code, message| Exception { code, status: StatusCode::BAD_REQUEST, message };
    let said = |code| refused(code, sentence(failure));
    match failure {
        Failure::NotAuthenticated => said("MissingAuthenticationTokenException"),
        Failure::IncompleteSignature(_) => said("IncompleteSignatureException"),
        Failure::UnknownAccessKey => {
            refused("UnrecognizedClientException", "The security token included in the request is invalid.".into())
        }
        Failure::InvalidToken(_) => said("UnrecognizedClientException"),
        Failure::SignatureMismatch => refused("InvalidSignatureException", SIGNATURE_MISMATCH.into()),
        Failure::IllegalTimestamp { signed, now } => refused("InvalidSignatureException", out_of_time(signed, now)),
        Failure::NonceUsed => said("InvalidSignatureException"),

        Failure::UnsupportedMethod(_) | Failure::UnknownOperation(_) => said("UnknownOperationException"),
        Failure::Unsupported(_) | Failure::UnsupportedAlias(_) | Failure::UnsupportedOrigin(_) => {
            said("UnsupportedOperationException")
        }
        Failure::Malformed(_) => said("SerializationException"),
        Failure::TooLarge(_) => Exception {
            code: "RequestEntityTooLargeException",
            status: StatusCode::PAYLOAD_TOO_LARGE,
            message: sentence(failure),
        },
        Failure::MissingParameter(name) => {
            let member = limits::member(name);
            let constraint = "failed to satisfy constraint: Member must not be null";
            refused(
                "ValidationException",
                format!("1 validation error detected: Value null at '{member}' {constraint}"),
            )
        }
        Failure::Validation(message) => refused("ValidationException", message.clone()),
        Failure::InvalidParameter { name: "AliasName", problem } => {
            refused("InvalidAliasNameException", capital(problem))
        }
        Failure::InvalidParameter { name: "PolicyName", problem } => refused("NotFoundException", capital(problem)),
        Failure::InvalidParameter { name, problem } => {
            let member = limits::member(name);
            let message =
                format!("1 validation error detected: Value at '{member}' failed to satisfy constraint: {problem}");
            refused("ValidationException", message)
        }
        Failure::InvalidMarker => said("InvalidMarkerException"),
        Failure::InvalidTag(_) => said("TagException"),
        Failure::DryRun => refused(
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.".into(),
        ),

        Failure::Denied(_) | Failure::ServiceManaged(_) => refused("AccessDeniedException", aws_names(failure)),

        Failure::KeyNotFound(text) => refused("NotFoundException", key_not_found(text)),
        Failure::AliasNotFound(alias) => refused("NotFoundException", format!("Alias {alias} is not found.")),
        Failure::KeyVersionNotFound(_) => said("NotFoundException"),
        Failure::AliasExists(alias) => {
            refused("AlreadyExistsException", format!("An alias with the name {alias} already exists"))
        }
        Failure::LimitExceeded(_) => said("LimitExceededException"),
        Failure::Throttled(_) => said("ThrottlingException"),

        Failure::Rejected { key, operation, rejected } => {
            let (code, message) = rejection(key, *operation, *rejected);
            refused(code, message)
        }
        Failure::DeletionProtected(_) => refused("KMSInvalidStateException", aws_names(failure)),
        Failure::Owned(_) | Failure::Conflict => said("ConflictException"),
        Failure::NotCarriedOut(_) => unavailable("DependencyTimeoutException", sentence(failure)),

        // Why a ciphertext does not decrypt is told to nobody: AWS answers no message either.
        Failure::InvalidCiphertext => refused("InvalidCiphertextException", String::new()),
        Failure::IncorrectKey => refused(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.".into(),
        ),
        Failure::InvalidImportToken => said("InvalidImportTokenException"),
        Failure::ExpiredImportToken => said("ExpiredImportTokenException"),
        Failure::InvalidKeyMaterial => said("InvalidCiphertextException"),
        Failure::IncorrectKeyMaterial => said("IncorrectKeyMaterialException"),

        Failure::Unavailable(_) => unavailable("ServiceUnavailableException", sentence(failure)),
        Failure::Internal(_) => Exception {
            code: "KMSInternalException",
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: format!("The operator failed. Its log says why, under the request ID {request_id}."),
        },
    }
}

const SIGNATURE_MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check \
                                  your AWS Secret Access Key and signing method.";

fn unavailable(code: &'static str, message: String) -> Exception {
    Exception { code, status: StatusCode::SERVICE_UNAVAILABLE, message }
}

/// AWS tells too early from too late.
fn out_of_time(signed: &str, now: &str) -> String {
    format!("Signature expired or not yet current: it was made for {signed}, and it is {now} now.")
}

/// What isn't an id or an ARN can't be the name of a key.
fn key_not_found(text: &str) -> String {
    let shown: String = text.chars().take(256).collect();
    if Uuid::try_parse(text).is_ok() {
        return format!("Key '{shown}' does not exist");
    }
    format!("Invalid keyId '{shown}'")
}

/// The table of key states, in AWS's words.
fn rejection(key: &ResourceName, operation: Operation, rejected: Rejected) -> (&'static str, String) {
    let arn = key.arn(Dialect::Aws);
    match (rejected, operation) {
        (Rejected::Disabled, _) => ("DisabledException", format!("{arn} is disabled.")),
        // Only a key without imported material is pending import, and no such key rotates.
        (Rejected::PendingImport, Operation::UpdateRotationPolicy) => (
            "UnsupportedOperationException",
            format!("{arn} origin is EXTERNAL which is not valid for this operation."),
        ),
        (Rejected::PendingImport, _) => ("KMSInvalidStateException", format!("{arn} is pending import.")),
        (Rejected::StateModifiedFailed, Operation::CancelKeyDeletion) => {
            ("KMSInvalidStateException", format!("{arn} is not pending deletion."))
        }
        (Rejected::PendingDeletion | Rejected::StateModifiedFailed, _) => {
            ("KMSInvalidStateException", format!("{arn} is pending deletion."))
        }
    }
}

/// The failure's own words, as a sentence.
fn sentence(failure: &Failure) -> String {
    capital(&failure.to_string())
}

/// The same, with the key named as AWS does.
fn aws_names(failure: &Failure) -> String {
    match failure {
        Failure::DeletionProtected(key) => {
            format!("{} is protected against deletion: disable the protection first.", key.arn(Dialect::Aws))
        }
        Failure::ServiceManaged(key) => {
            format!("{} is a service-managed key, which the operator alone changes.", key.arn(Dialect::Aws))
        }
        other => sentence(other),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    let text: String = first.into_iter().chain(chars).collect();
    if text.ends_with(['.', '!', '?']) || text.is_empty() { text } else { text + "." }
}
