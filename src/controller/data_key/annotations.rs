//! What a `DataKey`'s annotations keep of its status, for a restore that loses status (pure; design, rule 12).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::Value;

use super::rotation::MAX_HISTORY;
use crate::{
    api::{DataKey, DataKeyStatus, data_key::FormerDataKey, metadata},
    kms::key_record::to_seconds,
};

/// Bytes that the API server allows all annotations of an object, names included.
const ALL_ANNOTATIONS: usize = 256 * 1024;
/// More than an entry of the history takes beside its ciphertext, and the annotation beside its entries.
const ENTRY: usize = 256;

/// The annotation with the data keys before is not what the operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON list of at most {MAX_HISTORY} {{ciphertextBlob, generatedAt}}")]
pub struct Malformed;

/// What has to be written for the annotations to say what status says, as a merge patch of them, in which null takes
/// one away. None: they do, or status has no ciphertext.
pub fn correction(object: &DataKey) -> Option<Value> {
    let wanted = wanted(object.status.as_ref()?)?;
    let differing = wanted.into_iter().filter(|(name, value)| object.annotations().get(*name) != value.as_ref());
    let differing: serde_json::Map<_, _> = differing.map(|(name, value)| (name.to_owned(), value.into())).collect();
    (!differing.is_empty()).then(|| differing.into())
}

/// The annotations that status asks for.
fn wanted(status: &DataKeyStatus) -> Option<[(&'static str, Option<String>); 3]> {
    Some([
        (metadata::CIPHERTEXT_BLOB, Some(status.ciphertext_blob.clone()?)),
        (metadata::CIPHERTEXT_HISTORY, history_text(&status.history)),
        (metadata::GENERATED_AT, status.generated_at.as_ref().map(|time| time.0.to_string())),
    ])
}

/// The history as the annotation has it. None: there is none.
///
/// The annotations of an object may have 256 KiB together ([`ALL_ANNOTATIONS`]). A data key has at most 1024 bytes and its ciphertext 108
/// more, which is 1.5 KB of base64; so 64 of them take about 100 KB, and fit also beside the copy that a client-side
/// `kubectl apply` of an exported object makes of them.
fn history_text(history: &[FormerDataKey]) -> Option<String> {
    (!history.is_empty()).then(|| serde_json::to_string(history).ok()).flatten()
}

/// Whether one more data key goes into the annotations, beside those that others have put there. Asked before a rotation:
/// one whose annotations are refused would never be delivered.
pub fn have_room(object: &DataKey) -> bool {
    let there: usize = object.annotations().iter().map(|(name, value)| name.len() + value.len()).sum();
    let current = object.status.as_ref().and_then(|status| status.ciphertext_blob.as_ref());
    there + current.map_or(0, String::len) + ENTRY <= ALL_ANNOTATIONS
}

/// The data keys before the current one as the annotation has them, the newest last, each once. They count only where
/// status was lost, and not where the data key was given, as anybody may have made others under its context.
///
/// # Errors
/// [`Malformed`]
pub fn history(object: &DataKey) -> Result<Vec<FormerDataKey>, Malformed> {
    let is_stored = object.status.as_ref().is_some_and(|status| status.ciphertext_blob.is_some());
    if is_stored || object.spec.ciphertext_blob.is_some() {
        return Ok(Vec::new());
    }
    let Some(text) = object.annotations().get(metadata::CIPHERTEXT_HISTORY) else { return Ok(Vec::new()) };
    let entries: Vec<FormerDataKey> = serde_json::from_str(text).map_err(|_| Malformed)?;
    if entries.len() > MAX_HISTORY {
        return Err(Malformed);
    }
    let mut found: Vec<FormerDataKey> = Vec::new();
    for entry in entries {
        if found.iter().all(|former| former.ciphertext_blob != entry.ciphertext_blob) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// When the data key with this ciphertext was generated, if the annotations say: never after `now`, which would put its
/// rotation off.
pub fn generated_at(object: &DataKey, ciphertext_blob: &str, now: Timestamp) -> Option<Time> {
    let annotations = object.annotations();
    let is_of_it = annotations.get(metadata::CIPHERTEXT_BLOB).is_some_and(|text| text == ciphertext_blob);
    let text = annotations.get(metadata::GENERATED_AT).filter(|_| is_of_it)?;
    let time: Timestamp = text.parse().ok()?;
    Some(Time(to_seconds(time.min(now))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::BLOB_OVERHEAD;

    /// Characters of base64.
    const LONGEST_BLOB: usize = (1024 + BLOB_OVERHEAD).div_ceil(3) * 4;

    #[test]
    fn a_full_history_of_the_longest_data_keys_fits_twice() {
        let former =
            FormerDataKey { ciphertext_blob: "A".repeat(LONGEST_BLOB), generated_at: Time(Timestamp::UNIX_EPOCH) };
        let text = history_text(&vec![former; MAX_HISTORY]).unwrap();
        let copied = serde_json::to_string(&text).unwrap();
        assert!(text.len() + copied.len() < ALL_ANNOTATIONS * 4 / 5, "{} and {}", text.len(), copied.len());
    }
}
