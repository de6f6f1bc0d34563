//! What the API server can answer, as far as the operator treats it differently.

use thiserror::Error;

/// Why a call to the API server failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ApiError {
    /// The object does not exist.
    #[error("not found")]
    NotFound,
    /// An object of that name exists already.
    #[error("already exists")]
    AlreadyExists,
    /// The object is not the version that the write was decided on.
    #[error("changed meanwhile: {0}")]
    Conflict(String),
    /// The API server, or a policy in it, refuses the object.
    #[error("refused: {0}")]
    Refused(String),
    /// The operator lacks a right: its RBAC is incomplete.
    #[error("the operator may not do this: {0}")]
    Forbidden(String),
    /// No answer, or none that is understood. Worth trying again.
    #[error("the API server did not answer: {0}")]
    Unavailable(String),
}

impl From<::kube::Error> for ApiError {
    fn from(error: ::kube::Error) -> Self {
        let ::kube::Error::Api(status) = error else {
            return Self::Unavailable(error.to_string());
        };
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::NotFound,
            (409, "AlreadyExists") => Self::AlreadyExists,
            (409, _) => Self::Conflict(status.message),
            (400 | 422, _) => Self::Refused(status.message),
            (401 | 403, _) => Self::Forbidden(status.message),
            _ => Self::Unavailable(format!("{} {}", status.code, status.message)),
        }
    }
}
