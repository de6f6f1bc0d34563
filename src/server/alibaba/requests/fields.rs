//! Reading single parameters. Problems name the parameter, never its value: it may be plaintext.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::server::{Failure, alibaba::Parameters, operations::KeyReference};

pub(super) fn invalid(name: &'static str, problem: impl Into<String>) -> Failure {
    Failure::InvalidParameter { name, problem: problem.into() }
}

/// A parameter that has a value. Empty counts as absent, as clients send unset parameters like that.
pub(super) fn optional<'a>(parameters: &'a Parameters<'_>, name: &str) -> Option<&'a str> {
    parameters.get(name).filter(|value| !value.is_empty())
}

pub(super) fn required<'a>(parameters: &'a Parameters<'_>, name: &'static str) -> Result<&'a str, Failure> {
    optional(parameters, name).ok_or(Failure::MissingParameter(name))
}

/// A parameter that has no meaning here, and must not be overlooked.
pub(super) fn refuse(parameters: &Parameters<'_>, name: &str, why: &str) -> Result<(), Failure> {
    match optional(parameters, name) {
        Some(_) => Err(Failure::Unsupported(format!("the parameter {name} is not supported: {why}"))),
        None => Ok(()),
    }
}

/// `true` or `false`, in any case: the older SDK for Python sends `True`.
pub(super) fn flag(parameters: &Parameters<'_>, name: &'static str) -> Result<Option<bool>, Failure> {
    match optional(parameters, name) {
        None => Ok(None),
        Some(yes) if yes.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(no) if no.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(_) => Err(invalid(name, "it must be true or false")),
    }
}

/// A decimal number in a range.
pub(super) fn number(
    parameters: &Parameters<'_>,
    name: &'static str,
    range: std::ops::RangeInclusive<i32>,
) -> Result<Option<i32>, Failure> {
    let Some(text) = optional(parameters, name) else { return Ok(None) };
    let problem = || invalid(name, format!("it must be a number from {} to {}", range.start(), range.end()));
    let number = decimal(text).and_then(|number| i32::try_from(number).ok()).ok_or_else(problem)?;
    if range.contains(&number) { Ok(Some(number)) } else { Err(problem()) }
}

/// Digits only: `+7` and the like are no numbers of the API.
pub(super) fn decimal(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// One of a few values. Case counts.
pub(super) fn one_of<T: Copy>(
    parameters: &Parameters<'_>,
    name: &'static str,
    values: &[(&str, T)],
) -> Result<Option<T>, Failure> {
    let Some(text) = optional(parameters, name) else { return Ok(None) };
    let names = || values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
    let found = values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.map(Some).ok_or_else(|| invalid(name, format!("it must be {}", names())))
}

/// Bytes in base64, with padding.
pub(super) fn bytes(parameters: &Parameters<'_>, name: &'static str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text = required(parameters, name)?;
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(text, &mut bytes).map_err(|_| invalid(name, "it is not base64"))?;
    bytes.truncate(length);
    Ok(bytes)
}

/// `KeyId`, where an alias is welcome.
pub(super) fn key<'a>(parameters: &'a Parameters<'_>) -> Result<KeyReference<'a>, Failure> {
    Ok(KeyReference::parse(required(parameters, "KeyId")?))
}

/// `KeyId`, where the API takes no alias.
pub(super) fn key_by_id<'a>(parameters: &'a Parameters<'_>) -> Result<KeyReference<'a>, Failure> {
    key_in(parameters, "KeyId")
}

/// A key's id or ARN.
pub(super) fn key_in<'a>(parameters: &'a Parameters<'_>, name: &'static str) -> Result<KeyReference<'a>, Failure> {
    let key = KeyReference::parse(required(parameters, name)?);
    if key.is_alias() { Err(Failure::UnsupportedAlias(name)) } else { Ok(key) }
}
