//! AWS KMS: JSON 1.1 over POST, the operation in `X-Amz-Target: TrentService.…`, signed by SigV4.
//!
//! ```text
//! operation_of, action -> requests (typed, within the limits) -> answers (operations, responses) -> Reply
//!                                  limits                          json, policy, pagination
//!                                                     Failure -> errors -> Reply
//! ```

mod action;
mod answers;
mod errors;
mod json;
mod limits;
mod pagination;
mod policy;
pub mod requests;
mod responses;

pub use action::{Action, known};
pub use errors::refuse;
use hyper::StatusCode;

use super::{
    Call, Failure, Reply, Request,
    operations::{EndpointCluster, Kms},
};
use crate::store::KeyStore;

/// The media type of every reply.
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The operation that a request names. None: it is not of this dialect.
#[must_use]
pub fn operation_of(request: &Request) -> Option<&str> {
    request.header("x-amz-target")?.strip_prefix("TrentService.")
}

/// Answers a request that was authenticated.
///
/// # Errors
/// [`Failure`]: what [`refuse`] renders.
pub async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    operation: &str,
    body: &[u8],
) -> Result<Reply, Failure> {
    let input = requests::Input::parse(Action::find(operation)?, body)?;
    let body = answers::answer(kms, call, input).await?;
    Ok(Reply { status: StatusCode::OK, content_type: CONTENT_TYPE, body })
}

#[cfg(test)]
mod tests;
