//! Which of the two APIs a request speaks, and the one door into each of them.

use std::borrow::Cow;

use uuid::Uuid;

use super::{
    Call, Failure, Reply, Request,
    alibaba::{ParameterError, Parameters},
    aws,
    operations::{EndpointCluster, Kms},
};
use crate::{kms::Dialect, store::KeyStore};

/// The header that names it in the Alibaba dialect, where the signature is in a header as well.
const ACS_ACTION: &str = "x-acs-action";

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
    match (aws::operation_of(request), alibaba_action(request, parameters)) {
        (Some(_), Some(_)) => Asked::Both,
        (Some(operation), None) => Asked::Aws(operation),
        (None, Some(action)) => Asked::Alibaba(action),
        (None, None) => Asked::Nothing,
    }
}

fn alibaba_action<'r>(request: &'r Request, parameters: &'r Parameters<'_>) -> Option<&'r str> {
    let by_header = || {
        let authorization = request.header("authorization")?;
        let signs_headers = authorization.starts_with("ACS3-") || authorization.starts_with("Bearer ");
        signs_headers.then(|| request.header(ACS_ACTION)).flatten()
    };
    parameters.get("Action").or_else(by_header)
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
        Dialect::Alibaba => None,
    }
}

/// Does what is asked.
pub(super) async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    operation: &str,
    parameters: &Parameters<'_>,
    body: &[u8],
    request_id: Uuid,
) -> Result<Reply, Failure> {
    let _ = (parameters, request_id);
    match call.dialect {
        Dialect::Aws => aws::answer(kms, call, operation, body).await,
        Dialect::Alibaba => Err(Failure::UnknownOperation(operation.to_owned())),
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
    let _ = (request, parameters);
    if dialect == Dialect::Aws {
        return aws::refuse(failure, request_id);
    }
    Reply {
        status: hyper::StatusCode::BAD_REQUEST,
        content_type: "text/plain; charset=utf-8",
        body: zeroize::Zeroizing::new(failure.to_string().into_bytes()),
    }
}

/// What is left of parameters that can't be read: the form in which the refusal is to be written.
pub(super) fn readable<'r>(request: &'r Request) -> Cow<'r, str> {
    let asks = |format: &&str| request.query.split('&').any(|pair| pair.eq_ignore_ascii_case(format));
    ["Format=JSON", "Format=XML"].into_iter().find(asks).unwrap_or_default().into()
}
