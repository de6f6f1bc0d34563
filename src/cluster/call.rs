//! A call of the API server: within a time, and boxed.

use std::{future::Future, time::Duration};

use futures::future::BoxFuture;

use super::ApiError;

/// How long one call may take, retries of the client included. Its own retries go on for very much longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A request to the API server, which may take [`CALL_TIMEOUT`].
pub(super) fn call<'a, T: 'a>(
    request: impl Future<Output = Result<T, kube::Error>> + Send + 'a,
) -> BoxFuture<'a, Result<T, ApiError>> {
    call_within(CALL_TIMEOUT, request)
}

/// A request to the API server, which may take so long. It is boxed: kube's futures have several KiB, which all who wait for
/// them would hold within their own, one in the other up to the connection, and unoptimized code has copies of all that on
/// the stack.
pub(super) fn call_within<'a, T: 'a>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>> + Send + 'a,
) -> BoxFuture<'a, Result<T, ApiError>> {
    Box::pin(async move {
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer.map_err(ApiError::from),
            Err(_) => Err(ApiError::Unavailable(format!("no answer within {} s", limit.as_secs()))),
        }
    })
}
