//! What a body asks for: read, typed, and within the limits of the API. Pure.
//!
//! Each family of operations has one struct of all that its operations may be given, borrowed from the body, and from it
//! one typed input an operation. As with AWS, members that an operation does not have are ignored, and `null` is absent.
//! A member that is given twice is refused: which one counts would depend on the reader.

mod cryptography;
mod import;
mod keys;
mod lists;
mod values;

pub(super) use cryptography::{CryptographyInput, Decrypt, Encrypt, GenerateDataKey, ReEncrypt};
pub(super) use import::{ImportInput, ImportKeyMaterial};
pub(super) use keys::{KeyInput, NewAlias};
pub(super) use lists::{ListInput, RotationsToList};
use serde::Deserialize;
pub(super) use values::Text;
use values::{Blob, Object};

use super::action::Action;
use crate::server::Failure;

/// What an operation is asked to do.
pub struct Input<'a>(pub(super) Family<'a>);

/// The families of operations.
pub(super) enum Family<'a> {
    Cryptography(CryptographyInput<'a>),
    Key(KeyInput<'a>),
    Import(ImportInput<'a>),
    List(ListInput<'a>),
}

impl<'a> Input<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// A body that is no JSON object of the operation's members; a member that is missing or breaks a limit; what the API
    /// has and is not supported here.
    pub fn parse(action: Action, body: &'a [u8]) -> Result<Self, Failure> {
        use Action as A;
        let family = match action {
            A::Encrypt
            | A::Decrypt
            | A::ReEncrypt
            | A::GenerateDataKey
            | A::GenerateDataKeyWithoutPlaintext
            | A::GenerateRandom => Family::Cryptography(cryptography::read(action, body)?),
            A::GetParametersForImport | A::ImportKeyMaterial | A::DeleteImportedKeyMaterial => {
                Family::Import(import::read(action, body)?)
            }
            A::ListAliases | A::ListKeyPolicies | A::ListKeyRotations | A::ListKeys | A::ListResourceTags => {
                Family::List(lists::read(action, body)?)
            }
            _ => Family::Key(keys::read(action, body)?),
        };
        Ok(Self(family))
    }
}

/// A family's members in a body. An empty body is an empty object.
fn members<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body };
    match serde_json::from_slice(body) {
        Ok(Object(members)) => Ok(members),
        Err(error) => Err(malformed(&error)),
    }
}

/// Where a body is wrong. What stands there is not said: it may be plaintext.
fn malformed(error: &serde_json::Error) -> Failure {
    let (line, column) = (error.line(), error.column());
    Failure::Malformed(match error.classify() {
        serde_json::error::Category::Data => {
            format!("a member up to line {line} column {column} has another type in this API, or is given twice")
        }
        _ => format!("the body is not a JSON object (line {line} column {column})"),
    })
}
