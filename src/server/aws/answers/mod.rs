//! The operations, from a typed input to the body of the answer: each asks the operations that both dialects share, and
//! renders what they answer.

pub(super) mod cryptography;
mod import;
mod keys;
mod lists;

use serde::Serialize;
use zeroize::Zeroizing;

use super::requests::{Family, Input};
use crate::{
    server::{
        Call, Failure,
        operations::{EndpointCluster, Kms},
    },
    store::KeyStore,
};

/// A body. Wiped, as it may hold plaintext.
type Body = Zeroizing<Vec<u8>>;

pub(super) async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    input: Input<'_>,
) -> Result<Body, Failure> {
    match input.0 {
        Family::Cryptography(input) => cryptography::answer(kms, call, input).await,
        Family::Key(input) => keys::answer(kms, call, input).await,
        Family::Import(input) => import::answer(kms, call, input).await,
        Family::List(input) => lists::answer(kms, call, input).await,
    }
}

/// A response as JSON.
fn json(response: &impl Serialize) -> Result<Body, Failure> {
    let body = serde_json::to_vec(response);
    body.map(Zeroizing::new).map_err(|error| Failure::Internal(format!("a response has no JSON form: {error}")))
}

/// Of the operations that answer nothing: an empty body, as AWS sends it.
fn nothing() -> Body {
    Zeroizing::new(Vec::new())
}
