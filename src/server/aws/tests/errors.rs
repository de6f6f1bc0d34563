use serde_json::Value;
use uuid::Uuid;

use super::model::model;
use crate::{
    kms::{Dialect, KeyState, Operation, Rejected, ResourceName},
    server::{Failure, aws::refuse},
};

const ARN: &str = "arn:aws:kms:r:000000000001:key/00000000-0000-0000-0000-000000000000";

/// AWS's exceptions that every service has, which its model of one service does not list.
const COMMON: [&str; 12] = [
    "AccessDeniedException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "RequestEntityTooLargeException",
    "SerializationException",
    "ServiceUnavailableException",
    "ThrottlingException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
    "KMSInternalException",
];

fn key() -> ResourceName {
    ResourceName { region: "r".into(), account_id: "1".into(), key_id: Uuid::nil() }
}

/// Status, exception and message, as a client reads them.
fn refused(failure: &Failure) -> (u16, String, String) {
    let reply = refuse(failure, Uuid::nil());
    assert_eq!(reply.content_type, "application/x-amz-json-1.1");
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 2);
    let text = |member: &str| body[member].as_str().unwrap().to_owned();
    (reply.status.as_u16(), text("__type"), text("message"))
}

/// One of each, and what is answered. A new variant has to be added to `variant` below, and then here.
fn rows() -> Vec<(Failure, u16, &'static str, String)> {
    use Failure as F;
    let text = || "the reason".to_owned();
    let said = || "The reason.".to_owned();
    let rejected = F::Rejected { key: key(), operation: Operation::Encrypt, rejected: Rejected::Disabled };
    vec![
        (F::NotAuthenticated, 400, "MissingAuthenticationTokenException", "The request is not signed.".into()),
        (F::IncompleteSignature(text()), 400, "IncompleteSignatureException", said()),
        (
            F::UnknownAccessKey,
            400,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.".into(),
        ),
        (
            F::InvalidToken(text()),
            400,
            "UnrecognizedClientException",
            "The token is not valid here: the reason.".into(),
        ),
        (
            F::SignatureMismatch,
            400,
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method."
                .into(),
        ),
        (
            F::IllegalTimestamp { signed: "A".into(), now: "B".into() },
            400,
            "InvalidSignatureException",
            "Signature expired or not yet current: it was made for A, and it is B now.".into(),
        ),
        (F::NonceUsed, 400, "InvalidSignatureException", "The nonce was used before.".into()),
        (
            F::UnsupportedMethod("GET".into()),
            400,
            "UnknownOperationException",
            "The method GET is not supported.".into(),
        ),
        (F::UnknownOperation("X".into()), 400, "UnknownOperationException", "The operation X is not supported.".into()),
        (F::Unsupported(text()), 400, "UnsupportedOperationException", said()),
        (F::Malformed(text()), 400, "SerializationException", "The request is malformed: the reason.".into()),
        (F::TooLarge(text()), 413, "RequestEntityTooLargeException", "The request is too large: the reason.".into()),
        (
            F::MissingParameter("KeyId"),
            400,
            "ValidationException",
            "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null"
                .into(),
        ),
        (
            F::InvalidParameter { name: "EncryptionContext", problem: text() },
            400,
            "ValidationException",
            "1 validation error detected: Value at 'encryptionContext' failed to satisfy constraint: the reason".into(),
        ),
        (F::InvalidParameter { name: "AliasName", problem: text() }, 400, "InvalidAliasNameException", said()),
        (F::InvalidParameter { name: "PolicyName", problem: text() }, 400, "NotFoundException", said()),
        (
            F::UnsupportedAlias("KeyId"),
            400,
            "UnsupportedOperationException",
            "The parameter KeyId takes the id or ARN of a key here, not an alias.".into(),
        ),
        (F::Validation("as it is".into()), 400, "ValidationException", "as it is".into()),
        (F::InvalidMarker, 400, "InvalidMarkerException", "The marker is not valid.".into()),
        (F::InvalidTag(text()), 400, "TagException", said()),
        (
            F::DryRun,
            400,
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.".into(),
        ),
        (F::Denied(text()), 400, "AccessDeniedException", said()),
        (
            F::KeyNotFound(Uuid::nil().to_string()),
            400,
            "NotFoundException",
            format!("Key '{}' does not exist", Uuid::nil()),
        ),
        (F::KeyNotFound("orders".into()), 400, "NotFoundException", "Invalid keyId 'orders'".into()),
        (F::AliasNotFound("alias/a".into()), 400, "NotFoundException", "Alias alias/a is not found.".into()),
        (F::KeyVersionNotFound("v".into()), 400, "NotFoundException", "The key version v does not exist.".into()),
        (
            F::AliasExists("alias/a".into()),
            400,
            "AlreadyExistsException",
            "An alias with the name alias/a already exists".into(),
        ),
        (F::LimitExceeded(text()), 400, "LimitExceededException", said()),
        (F::Throttled(text()), 400, "ThrottlingException", "Too many requests: the reason.".into()),
        (rejected, 400, "DisabledException", format!("{ARN} is disabled.")),
        (F::UnsupportedOrigin(text()), 400, "UnsupportedOperationException", said()),
        (
            F::DeletionProtected(key()),
            400,
            "KMSInvalidStateException",
            format!("{ARN} is protected against deletion: disable the protection first."),
        ),
        (
            F::ServiceManaged(key()),
            400,
            "AccessDeniedException",
            format!("{ARN} is a service-managed key, which the operator alone changes."),
        ),
        (F::Owned(text()), 400, "ConflictException", said()),
        (
            F::Conflict,
            400,
            "ConflictException",
            "The key was changed by somebody else at the same time: try again.".into(),
        ),
        (F::NotCarriedOut(text()), 503, "DependencyTimeoutException", said()),
        (F::InvalidCiphertext, 400, "InvalidCiphertextException", String::new()),
        (
            F::IncorrectKey,
            400,
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.".into(),
        ),
        (
            F::InvalidImportToken,
            400,
            "InvalidImportTokenException",
            "The import token is not valid for this key.".into(),
        ),
        (
            F::ExpiredImportToken,
            400,
            "ExpiredImportTokenException",
            "The import token has expired: call GetParametersForImport again.".into(),
        ),
        (
            F::InvalidKeyMaterial,
            400,
            "InvalidCiphertextException",
            "The key material does not decrypt to exactly 32 bytes.".into(),
        ),
        (
            F::IncorrectKeyMaterial,
            400,
            "IncorrectKeyMaterialException",
            "The key material differs from the material that the key had before.".into(),
        ),
        (F::Unavailable(text()), 503, "ServiceUnavailableException", said()),
        (
            F::Internal("root key 7 is missing".into()),
            500,
            "KMSInternalException",
            format!("The operator failed. Its log says why, under the request ID {}.", Uuid::nil()),
        ),
    ]
}

/// A number for each variant: the compiler asks for new ones.
fn variant(failure: &Failure) -> usize {
    use Failure as F;
    match failure {
        F::NotAuthenticated => 0,
        F::IncompleteSignature(_) => 1,
        F::UnknownAccessKey => 2,
        F::InvalidToken(_) => 3,
        F::SignatureMismatch => 4,
        F::IllegalTimestamp { .. } => 5,
        F::NonceUsed => 6,
        F::UnsupportedMethod(_) => 7,
        F::UnknownOperation(_) => 8,
        F::Unsupported(_) => 9,
        F::Malformed(_) => 10,
        F::TooLarge(_) => 11,
        F::MissingParameter(_) => 12,
        F::InvalidParameter { .. } => 13,
        F::Validation(_) => 14,
        F::InvalidMarker => 15,
        F::InvalidTag(_) => 16,
        F::DryRun => 17,
        F::Denied(_) => 18,
        F::KeyNotFound(_) => 19,
        F::AliasNotFound(_) => 20,
        F::KeyVersionNotFound(_) => 21,
        F::AliasExists(_) => 22,
        F::LimitExceeded(_) => 23,
        F::Throttled(_) => 24,
        F::Rejected { .. } => 25,
        F::UnsupportedOrigin(_) => 26,
        F::DeletionProtected(_) => 27,
        F::ServiceManaged(_) => 28,
        F::Owned(_) => 29,
        F::Conflict => 30,
        F::NotCarriedOut(_) => 31,
        F::InvalidCiphertext => 32,
        F::IncorrectKey => 33,
        F::InvalidImportToken => 34,
        F::ExpiredImportToken => 35,
        F::InvalidKeyMaterial => 36,
        F::IncorrectKeyMaterial => 37,
        F::Unavailable(_) => 38,
        F::Internal(_) => 39,
        F::UnsupportedAlias(_) => 40,
    }
}

#[test]
fn every_failure_has_its_exception_status_and_message() {
    let model = model();
    let mut seen = [false; 41];
    for (failure, status, code, message) in rows() {
        seen[variant(&failure)] = true;
        assert_eq!(refused(&failure), (status, code.to_owned(), message), "{failure:?}");
        let modelled = model["exceptions"].get(code);
        assert!(modelled.is_some() || COMMON.contains(&code), "AWS has no {code}");
        if let Some(fault) = modelled {
            assert_eq!(fault.as_bool().unwrap(), status >= 500, "{code}");
        }
    }
    assert!(seen.iter().all(|seen| *seen), "{seen:?}");
}

/// The cells of the table of key states in kms-behaviour.md section 2 that refuse, with AWS's words.
#[test]
fn states_refuse_in_the_words_of_aws() {
    use KeyState::{Disabled, Enabled, PendingDeletion, PendingImport};
    use Operation as O;
    let disabled = ("DisabledException", "is disabled.");
    let deletion = ("KMSInvalidStateException", "is pending deletion.");
    let not_deletion = ("KMSInvalidStateException", "is not pending deletion.");
    let import = ("KMSInvalidStateException", "is pending import.");
    let origin = ("UnsupportedOperationException", "origin is EXTERNAL which is not valid for this operation.");
    /// What some operations are refused with, by state.
    type Row<'a> = (&'a [Operation], &'a [(KeyState, (&'a str, &'a str))]);
    let rows: &[Row<'_>] = &[
        (
            &[O::Encrypt, O::Decrypt, O::GenerateDataKey, O::CreateKeyVersion],
            &[(Disabled, disabled), (PendingDeletion, deletion), (PendingImport, import)],
        ),
        (&[O::UpdateRotationPolicy], &[(Disabled, disabled), (PendingDeletion, deletion), (PendingImport, origin)]),
        (&[O::EnableKey, O::DisableKey], &[(PendingDeletion, deletion), (PendingImport, import)]),
        (&[O::CancelKeyDeletion], &[(Enabled, not_deletion), (Disabled, not_deletion), (PendingImport, not_deletion)]),
        (
            &[
                O::ScheduleKeyDeletion,
                O::CreateAlias,
                O::UpdateAlias,
                O::TagResource,
                O::UpdateKeyDescription,
                O::GetParametersForImport,
                O::ImportKeyMaterial,
            ],
            &[(PendingDeletion, deletion)],
        ),
        (&[O::DescribeKey, O::DeleteAlias, O::DeleteKeyMaterial], &[]),
    ];
    for (operations, refusals) in rows {
        for (operation, state) in operations.iter().flat_map(|o| KeyState::ALL.map(|state| (*o, state))) {
            let expected = refusals.iter().find(|(refusing, _)| *refusing == state).map(|(_, words)| *words);
            let answered = operation.check(state, Dialect::Aws).err().map(|rejected| {
                let (status, code, message) = refused(&Failure::Rejected { key: key(), operation, rejected });
                assert_eq!(status, 400);
                (code, message)
            });
            let expected = expected.map(|(code, words)| (code.to_owned(), format!("{ARN} {words}")));
            assert_eq!(answered, expected, "{operation:?} in {state}");
        }
    }
}
