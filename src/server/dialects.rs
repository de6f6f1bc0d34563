//! Which of the two APIs a request speaks, and the one door into each of them.

use std::borrow::Cow;

use uuid::Uuid;

use super::{
    Call, Failure, Reply, Request,
    alibaba::{self, Format, ParameterError, Parameters},
    aws,
    operations::{EndpointCluster, Kms},
};
use crate::{kms::Dialect, store::KeyStore};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'r> {
    /// An operation of AWS KMS.
    Aws(&'r str),
    /// An action of Alibaba Cloud KMS.
    Alibaba(&'r str),
    /// Something in both dialects: who signed one did not sign the other.
    Both,
    /// Nothing that is known here.
    Nothing,
}

/// What a request asks for. Only what a signature of the dialect covers counts.
pub(super) fn asked<'r>(request: &'r Request, parameters: &'r Parameters<'_>) -> Asked<'r> {
    match (aws::operation_of(request), alibaba::action_of(request, parameters)) {
        (Some(_), Some(_)) => Asked::Both,
        (Some(operation), None) => Asked::Aws(operation),
        (None, Some(action)) => Asked::Alibaba(action),
        (None, None) => Asked::Nothing,
    }
}

/// The dialect of a request whose parameters can't be read.
pub(super) fn dialect_by_headers(request: &Request) -> Dialect {
    if aws::operation_of(request).is_some() { Dialect::Aws } else { Dialect::Alibaba }
}

/// The form in the body, if there is one: in the AWS dialect the body is JSON.
pub(super) fn form(request: &Request) -> Result<&str, ParameterError> {
    let kind = request.header("content-type").unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        return Ok("");
    }
    std::str::from_utf8(&request.body).map_err(|_| ParameterError::NotUtf8)
}

/// The operation as it may be logged and counted: one that is known.
pub(super) fn known(dialect: Dialect, operation: &str) -> Option<&'static str> {
    match dialect {
        Dialect::Aws => aws::known(operation),
        Dialect::Alibaba => alibaba::known(operation),
    }
}

/// Does what is asked.
pub(super) async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    operation: &str,
    (request, parameters): (&Request, &Parameters<'_>),
    request_id: Uuid,
) -> Result<Reply, Failure> {
    match call.dialect {
        Dialect::Aws => aws::answer(kms, call, operation, &request.body).await,
        Dialect::Alibaba => alibaba::answer(kms, call, operation, request, parameters, request_id).await,
    }
}

/// Says no, in the words of a dialect.
pub(super) fn refuse(
    dialect: Dialect,
    failure: &Failure,
    request: &Request,
    parameters: &Parameters<'_>,
    request_id: Uuid,
) -> Reply {
    match dialect {
        Dialect::Aws => aws::refuse(failure, request_id),
        Dialect::Alibaba => {
            let host = request.header("host").unwrap_or_default();
            alibaba::refuse(failure, Format::of(parameters, request), host, request_id)
        }
    }
}

/// What is left of parameters that can't be read: the form in which the refusal is to be written.
pub(super) fn readable<'r>(request: &'r Request) -> Cow<'r, str> {
    let asks = |format: &&str| request.query.split('&').any(|pair| pair.eq_ignore_ascii_case(format));
    ["Format=JSON", "Format=XML"].into_iter().find(asks).unwrap_or_default().into()
}
