//! Alibaba Cloud KMS 2016-01-20: RPC over GET and POST, the parameters in query and form, answers in JSON or XML.
//!
//! ```text
//! Parameters -> requests::ActionRequest -> carry_out (operations) -> responses::Response -> Writer -> Reply
//!                                                                 -> Failure -> errors -> Writer -> Reply
//! ```
//!
//! Reading and writing are pure. What differs from the cloud is in docs/alibaba.md.
//!
//! Sources: `shared/reference/kms-behaviour.md` section 1; the models and docstrings of PyPI `alibabacloud_kms20160120`
//! 3.3.1; the clients themselves (tests/vectors/requests).

mod actions;
mod carry_out;
mod errors;
mod format;
mod parameters;
pub mod requests;
pub mod responses;
mod writer;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use actions::{SERVED, UNSERVED, known};
pub use errors::refuse;
pub use format::Format;
pub use parameters::{ParameterError, Parameters};

use uuid::Uuid;

use super::{
    Call, Failure, Reply, Request,
    operations::{EndpointCluster, Kms},
};
use crate::store::KeyStore;

/// The one version of the API.
pub const VERSION: &str = "2016-01-20";

/// The action that a request names. The header counts only where it is signed, or where a token stands for the whole
/// request: SDKs with signatures of version 1 send it too, unsigned.
#[must_use]
pub fn action_of<'r>(request: &'r Request, parameters: &'r Parameters<'_>) -> Option<&'r str> {
    named(request, parameters, "Action", "x-acs-action")
}

/// Answers a request that was authenticated, in the form that it asks for.
///
/// # Errors
/// [`Failure`]: for [`refuse`].
pub async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    action: &str,
    request: &Request,
    parameters: &Parameters<'_>,
    request_id: Uuid,
) -> Result<Reply, Failure> {
    check_version(request, parameters)?;
    let asked = requests::ActionRequest::parse(action, parameters)?;
    let response = carry_out::carry_out(kms, call, &asked).await?;
    Ok(responses::render(&response, Format::of(parameters, request), request_id))
}

/// A request for another version of the API would mean something else by the same words.
fn check_version(request: &Request, parameters: &Parameters<'_>) -> Result<(), Failure> {
    match named(request, parameters, "Version", "x-acs-version") {
        Some(VERSION) => Ok(()),
        Some(_) => Err(Failure::InvalidParameter { name: "Version", problem: format!("it must be {VERSION}") }),
        None => Err(Failure::MissingParameter("Version")),
    }
}

/// What stands in a parameter, or in a header of the style that has no such parameter.
fn named<'r>(request: &'r Request, parameters: &'r Parameters<'_>, parameter: &str, header: &str) -> Option<&'r str> {
    parameters.get(parameter).or_else(|| format::in_headers(request).then(|| request.header(header)).flatten())
}
