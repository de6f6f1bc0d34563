//! Which ciphertext is a DataKey's, and under which encryption context it must decrypt.

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::ResourceExt;

use super::{annotations, delivery::SecretObject};
use crate::{
    api::{DataKey, data_key::FormerDataKey, metadata},
    kms::{EncryptionContext, encryption_context::DuplicateKey},
};

/// Where a ciphertext was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In `spec.ciphertextBlob`: brought by the user.
    Spec,
    /// In status: written by the operator alone.
    Status,
    /// In the annotation: what is left where status was lost.
    Annotation,
    /// In the Secret: what is left where both were lost.
    Secret,
}

/// A ciphertext, as the base64 text that it is written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// Where it was found.
    pub source: Source,
    /// Base64.
    pub text: String,
}

impl Ciphertext {
    /// The DataKey's ciphertext, if there is one anywhere: a given one, else status, else the annotation, else
    /// our own Secret (design, rule 12).
    pub fn find(object: &DataKey, secret: Option<&SecretObject>) -> Option<Self> {
        let found = |source, text: String| Self { source, text };
        if let Some(text) = &object.spec.ciphertext_blob {
            return Some(found(Source::Spec, text.clone()));
        }
        if let Some(text) = object.status.as_ref().and_then(|s| s.ciphertext_blob.clone()) {
            return Some(found(Source::Status, text));
        }
        if let Some(text) = object.annotations().get(metadata::CIPHERTEXT_BLOB) {
            return Some(found(Source::Annotation, text.clone()));
        }
        let ours = secret.filter(|s| s.is_of(object))?;
        ours.ciphertext_blob().map(|text| found(Source::Secret, text))
    }

    /// That of a data key before, of the annotation.
    pub fn annotated(former: FormerDataKey) -> Self {
        Self { source: Source::Annotation, text: former.ciphertext_blob }
    }

    /// Its bytes, unless it is not base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(&self.text).ok()
    }
}

/// The ciphertexts in our own Secret that neither status nor, where that was lost, the annotations know, the newest last.
/// Not where the data key was given, as anybody may have made others under its context.
pub fn unknown(object: &DataKey, secret: Option<&SecretObject>, current: &Ciphertext) -> Vec<String> {
    if current.source == Source::Spec {
        return Vec::new();
    }
    let history = object.status.as_ref().map(|status| &status.history[..]).unwrap_or_default();
    let annotated = annotations::history(object).unwrap_or_default();
    let former = history.iter().chain(&annotated).map(|former| &former.ciphertext_blob);
    let is_known = |text: &String| *text == current.text || former.clone().any(|known| known == text);
    let Some(ours) = secret.filter(|s| s.is_of(object)) else { return Vec::new() };
    let mut found: Vec<_> = [ours.previous_ciphertext_blob(), ours.ciphertext_blob()].into_iter().flatten().collect();
    found.retain(|text| !is_known(text));
    found.dedup();
    found
}

/// `NAMESPACE/NAME`: what ties a generated ciphertext to its DataKey.
pub fn identity(object: &DataKey) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// The complete encryption context: the user's, and for a generated data key the entry that names the DataKey.
/// Nobody else can encrypt with that entry, so a ciphertext of somebody else never passes for one of ours.
///
/// # Errors
/// The user's context has the reserved entry; admission refuses that.
pub fn encryption_context(object: &DataKey) -> Result<EncryptionContext, DuplicateKey> {
    let user = object.spec.encryption_context.clone().unwrap_or_default();
    let context = EncryptionContext::try_from_pairs(user)?;
    match object.spec.ciphertext_blob {
        Some(_) => Ok(context),
        None => context.with_entry(metadata::DATA_KEY, identity(object)),
    }
}
