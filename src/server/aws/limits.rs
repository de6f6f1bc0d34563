//! The limits that AWS sets for parameters, and its words for who breaks them.
//!
//! Sources: botocore's model of the service (`kms/2014-11-01/service-2.json`: lengths, ranges, patterns, enumerations), and
//! `shared/reference/kms-behaviour.md` section 2 where the service is stricter than its model.

use std::ops::RangeInclusive;

use crate::{
    kms::{EncryptionContext, encryption_context::MAX_JSON_CHARS},
    server::{Failure, operations::KeyReference},
};

/// Bytes of plaintext that Encrypt takes.
pub(super) const PLAINTEXT_BYTES: RangeInclusive<usize> = 1..=4096;
/// Bytes of a ciphertext, an import token or encrypted key material.
pub(super) const CIPHERTEXT_BYTES: RangeInclusive<usize> = 1..=6144;
/// Characters of what names a key.
pub(super) const KEY_ID_CHARS: RangeInclusive<usize> = 1..=2048;
/// Bytes of a data key, or of randomness.
pub(super) const NUMBER_OF_BYTES: RangeInclusive<i64> = 1..=1024;
/// Characters of a description.
pub(super) const DESCRIPTION_CHARS: RangeInclusive<usize> = 0..=8192;
/// Characters of an alias, with its prefix.
pub(super) const ALIAS_CHARS: RangeInclusive<usize> = 1..=256;
/// Days until a key is deleted.
pub(super) const PENDING_WINDOW_DAYS: RangeInclusive<i64> = 7..=30;
/// Days until a key is deleted, when it isn't said.
pub(super) const DEFAULT_PENDING_WINDOW_DAYS: i64 = 30;
/// Days between automatic rotations.
pub(super) const ROTATION_PERIOD_DAYS: RangeInclusive<i64> = 90..=2560;
/// Days between automatic rotations, when it isn't said.
pub(super) const DEFAULT_ROTATION_PERIOD_DAYS: i64 = 365;
/// Tags in one call.
pub(super) const MAX_TAGS: usize = 50;
/// Characters of a tag's key.
pub(super) const TAG_KEY_CHARS: RangeInclusive<usize> = 1..=128;
/// Characters of a tag's value.
pub(super) const TAG_VALUE_CHARS: RangeInclusive<usize> = 0..=256;
/// Characters of a policy.
pub(super) const POLICY_CHARS: RangeInclusive<usize> = 1..=131_072;
/// Characters of a marker.
pub(super) const MARKER_CHARS: RangeInclusive<usize> = 1..=1024;
/// Days until imported material has to expire, where it does.
pub(super) const MAX_VALID_DAYS: i32 = 365;

/// Longer values are not shown back.
const SHOWN_CHARS: usize = 256;

/// A name as messages spell it: the parameter `KeyId` is the member `keyId`.
pub(super) fn member(parameter: &str) -> String {
    let mut chars = parameter.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// A value that breaks a constraint. Secrets and long values are not shown.
pub(super) fn broken(parameter: &str, value: Option<&str>, constraint: &str) -> Failure {
    let member = member(parameter);
    let value = match value {
        Some(value) if value.chars().count() <= SHOWN_CHARS => format!("Value '{value}'"),
        _ => "Value".to_owned(),
    };
    Failure::Validation(format!(
        "1 validation error detected: {value} at '{member}' failed to satisfy constraint: {constraint}"
    ))
}

/// A parameter that has to be given.
pub(super) fn required<T>(value: Option<T>, parameter: &'static str) -> Result<T, Failure> {
    value.ok_or(Failure::MissingParameter(parameter))
}

/// A length, in whatever unit the limit counts. The value is shown where it is given.
pub(super) fn length(
    parameter: &str,
    actual: usize,
    allowed: RangeInclusive<usize>,
    value: Option<&str>,
) -> Result<(), Failure> {
    if actual < *allowed.start() {
        let least = allowed.start();
        return Err(broken(parameter, value, &format!("Member must have length greater than or equal to {least}")));
    }
    if actual > *allowed.end() {
        let most = allowed.end();
        return Err(broken(parameter, value, &format!("Member must have length less than or equal to {most}")));
    }
    Ok(())
}

/// The characters of a text that may be shown.
pub(super) fn characters(parameter: &str, text: &str, allowed: RangeInclusive<usize>) -> Result<(), Failure> {
    length(parameter, text.chars().count(), allowed, Some(text))
}

/// A number in a range.
pub(super) fn range(parameter: &str, value: i64, allowed: RangeInclusive<i64>) -> Result<i64, Failure> {
    let shown = value.to_string();
    if value < *allowed.start() {
        let least = allowed.start();
        let constraint = format!("Member must have value greater than or equal to {least}");
        return Err(broken(parameter, Some(&shown), &constraint));
    }
    if value > *allowed.end() {
        let most = allowed.end();
        return Err(broken(parameter, Some(&shown), &format!("Member must have value less than or equal to {most}")));
    }
    Ok(value)
}

/// As [`range`], for limits that are counts of days or bytes and fit any integer.
pub(super) fn small_range(parameter: &str, value: i64, allowed: RangeInclusive<i64>) -> Result<i32, Failure> {
    let value = range(parameter, value, allowed)?;
    i32::try_from(value).map_err(|_| broken(parameter, None, "Member must be a 32 bit number"))
}

/// One of the values of an enumeration.
pub(super) fn one_of<T: Copy>(parameter: &str, value: &str, all: &[(&str, T)]) -> Result<T, Failure> {
    if let Some((_, found)) = all.iter().find(|(name, _)| *name == value) {
        return Ok(*found);
    }
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let constraint = format!("Member must satisfy enum value set: [{}]", names.join(", "));
    Err(broken(parameter, Some(value), &constraint))
}

/// What names a key, or an alias.
pub(super) fn key_id(parameter: &str, text: &str) -> Result<(), Failure> {
    characters(parameter, text, KEY_ID_CHARS)
}

/// What names a key where AWS takes no alias: an alias is no key then.
pub(super) fn key_only(parameter: &str, text: &str) -> Result<(), Failure> {
    key_id(parameter, text)?;
    if KeyReference::parse(text).is_alias() {
        return Err(Failure::KeyNotFound(text.to_owned()));
    }
    Ok(())
}

/// An alias that is to be made, moved or deleted.
pub(super) fn alias(parameter: &'static str, text: &str) -> Result<(), Failure> {
    characters(parameter, text, ALIAS_CHARS)?;
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '_' | '-')) {
        let constraint = "Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$";
        return Err(broken(parameter, Some(text), constraint));
    }
    let Some(name) = text.strip_prefix("alias/") else {
        return Err(Failure::Validation("Alias must start with the prefix \"alias/\".".into()));
    };
    if name.is_empty() || name.contains(':') {
        return Err(Failure::Validation(format!("{text} contains invalid characters for an alias")));
    }
    if name.starts_with("aws/") {
        let problem = "aliases that begin with alias/aws/ are reserved".to_owned();
        return Err(Failure::InvalidParameter { name: parameter, problem });
    }
    Ok(())
}

/// An encryption context. Its JSON form can't be longer than the body that it came in, where there is one.
pub(super) fn context(
    parameter: &'static str,
    context: EncryptionContext,
    body_len: usize,
) -> Result<EncryptionContext, Failure> {
    if body_len <= MAX_JSON_CHARS {
        return Ok(context);
    }
    match context.check_size() {
        Ok(()) => Ok(context),
        Err(problem) => Err(Failure::InvalidParameter { name: parameter, problem: problem.to_string() }),
    }
}
