//! The Secret of a DataKey: how it should be, and whether it is (pure).

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::ciphertext::identity;
use crate::{
    api::{
        DataKey,
        data_key::{SecretDeletionPolicy, SecretEncoding},
        metadata,
    },
    cluster::WipedSecret,
    crypto::Plaintext,
    kms::EncryptionContext,
};

const PLAINTEXT: &str = "plaintext";
const CIPHERTEXT_BLOB: &str = "ciphertextBlob";
const PREVIOUS_PLAINTEXT: &str = "previous-plaintext";
const PREVIOUS_CIPHERTEXT_BLOB: &str = "previous-ciphertextBlob";
const ENCRYPTION_CONTEXT: &str = "encryptionContext";
const KEY_ID: &str = "keyId";
const OPAQUE: &str = "Opaque";

/// A Secret that may hold a plaintext.
pub struct SecretObject(WipedSecret);

impl From<Secret> for SecretObject {
    fn from(secret: Secret) -> Self {
        Self(secret.into())
    }
}

/// What has to be done to the Secret.
pub enum Difference {
    /// It is as it should be.
    None,
    /// It does not exist.
    Missing(SecretObject),
    /// It is ours and differs: replace it by this.
    Changed(SecretObject),
    /// It is ours and differs in what can't be changed: delete it, and make it anew.
    Fixed,
    /// It is somebody else's.
    NotOurs,
}

/// What goes into the Secret.
pub struct Contents<'a> {
    /// The data key.
    pub plaintext: &'a Plaintext,
    /// Its ciphertext, base64.
    pub ciphertext_blob: &'a str,
    /// The complete encryption context.
    pub context: &'a EncryptionContext,
    /// The key that encrypts it.
    pub key_id: String,
    /// The data key before, if there was one.
    pub previous: Option<Previous<'a>>,
}

/// A data key that was rotated out, as far as it stays in the Secret.
pub struct Previous<'a> {
    /// The data key. None where no plaintext is delivered.
    pub plaintext: Option<&'a Plaintext>,
    /// Its ciphertext, base64.
    pub ciphertext_blob: &'a str,
}

impl SecretObject {
    /// The Secret itself, to be sent to the API server.
    pub fn expose(&self) -> &Secret {
        &self.0
    }

    /// Whether it was delivered for this DataKey: by label and annotation, so that it is known again after a
    /// restore, when UIDs are others.
    pub fn is_of(&self, object: &DataKey) -> bool {
        self.0.labels().get(metadata::COMPONENT_LABEL).is_some_and(|v| v == metadata::COMPONENT_DATA_KEY)
            && self.0.annotations().get(metadata::DATA_KEY).is_some_and(|v| *v == identity(object))
    }

    /// The ciphertext in it.
    pub fn ciphertext_blob(&self) -> Option<String> {
        self.text(CIPHERTEXT_BLOB)
    }

    /// The ciphertext in it that was rotated out last.
    pub fn previous_ciphertext_blob(&self) -> Option<String> {
        self.text(PREVIOUS_CIPHERTEXT_BLOB)
    }

    fn text(&self, entry: &str) -> Option<String> {
        let blob = self.0.data.as_ref()?.get(entry)?;
        String::from_utf8(blob.0.clone()).ok()
    }

    fn is_immutable(&self) -> bool {
        self.0.immutable == Some(true)
    }
}

/// Compares what is there with what should be.
pub fn difference(object: &DataKey, existing: Option<&SecretObject>, contents: &Contents<'_>) -> Difference {
    let Some(existing) = existing else {
        return Difference::Missing(desired(object, contents, &ObjectMeta::default()));
    };
    if !existing.is_of(object) {
        return Difference::NotOurs;
    }
    let wanted = desired(object, contents, &existing.0.metadata);
    let same_data = same_data(&existing.0, &wanted.0);
    let same_type = existing.0.type_ == wanted.0.type_;
    let same_immutability = existing.is_immutable() == wanted.is_immutable();
    if !same_type || (existing.is_immutable() && !(same_data && same_immutability)) {
        return Difference::Fixed;
    }
    if same_data && same_immutability && existing.0.metadata == wanted.0.metadata {
        return Difference::None;
    }
    Difference::Changed(wanted)
}

/// Same entries with the same values, compared in constant time: one of them is the plaintext.
fn same_data(a: &Secret, b: &Secret) -> bool {
    let (Some(a), Some(b)) = (&a.data, &b.data) else { return false };
    a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(a, b)| bool::from(a.0.ct_eq(&b.0)))
}

/// The Secret as it should be. Labels and annotations of others in `existing` stay; those that we put there
/// and that are no longer declared go.
fn desired(object: &DataKey, contents: &Contents<'_>, existing: &ObjectMeta) -> SecretObject {
    let template = object.spec.secret.clone().unwrap_or_default();
    let (labels, annotations) = (template.labels.unwrap_or_default(), template.annotations.unwrap_or_default());
    let applied = json!({
        "labels": labels.keys().collect::<Vec<_>>(),
        "annotations": annotations.keys().collect::<Vec<_>>(),
    });
    let before = existing.annotations.as_ref().and_then(|a| a.get(metadata::APPLIED_METADATA));
    let mut all_labels = without_applied(existing.labels.as_ref(), before, "labels");
    all_labels.extend(labels);
    all_labels.extend([
        (metadata::MANAGED_BY_LABEL.into(), metadata::MANAGER.into()),
        (metadata::COMPONENT_LABEL.into(), metadata::COMPONENT_DATA_KEY.into()),
    ]);
    let mut all_annotations = without_applied(existing.annotations.as_ref(), before, "annotations");
    all_annotations.extend(annotations);
    all_annotations.extend([
        (metadata::DATA_KEY.into(), identity(object)),
        (metadata::APPLIED_METADATA.into(), applied.to_string()),
    ]);
    SecretObject::from(Secret {
        metadata: ObjectMeta {
            name: Some(object.spec.secret_name(&object.name_any()).to_owned()),
            namespace: object.namespace(),
            labels: Some(all_labels),
            annotations: Some(all_annotations),
            owner_references: owner_references(object, existing, template.deletion_policy.unwrap_or_default()),
            ..existing.clone()
        },
        type_: Some(OPAQUE.into()),
        immutable: template.immutable.filter(|immutable| *immutable),
        data: Some(data(object, contents, template.encoding.unwrap_or_default())),
        ..Secret::default()
    })
}

fn data(object: &DataKey, contents: &Contents<'_>, encoding: SecretEncoding) -> BTreeMap<String, ByteString> {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    let mut data = BTreeMap::from([
        (CIPHERTEXT_BLOB.to_owned(), text(contents.ciphertext_blob)),
        (ENCRYPTION_CONTEXT.to_owned(), text(&contents.context.to_json())),
        (KEY_ID.to_owned(), text(&contents.key_id)),
    ]);
    let with_plaintext = !object.spec.without_plaintext.unwrap_or(false);
    if with_plaintext {
        data.insert(PLAINTEXT.to_owned(), encoded(contents.plaintext, encoding));
    }
    if let Some(previous) = &contents.previous {
        data.insert(PREVIOUS_CIPHERTEXT_BLOB.to_owned(), text(previous.ciphertext_blob));
        if let Some(plaintext) = previous.plaintext.filter(|_| with_plaintext) {
            data.insert(PREVIOUS_PLAINTEXT.to_owned(), encoded(plaintext, encoding));
        }
    }
    data
}

fn encoded(plaintext: &Plaintext, encoding: SecretEncoding) -> ByteString {
    let plaintext = plaintext.expose();
    ByteString(match encoding {
        SecretEncoding::Raw => plaintext.to_vec(),
        SecretEncoding::Base64 => BASE64_STANDARD.encode(plaintext).into_bytes(),
        SecretEncoding::Hex => hex(plaintext),
    })
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

/// With deletionPolicy Delete the garbage collector removes the Secret with its DataKey, so it is an owner.
fn owner_references(
    object: &DataKey,
    existing: &ObjectMeta,
    policy: SecretDeletionPolicy,
) -> Option<Vec<OwnerReference>> {
    let kind = DataKey::kind(&());
    let mut owners = existing.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.kind != kind);
    if policy == SecretDeletionPolicy::Delete {
        owners.extend(object.controller_owner_ref(&()));
    }
    (!owners.is_empty()).then_some(owners)
}

/// What is there, less what an earlier spec put there.
fn without_applied(
    existing: Option<&BTreeMap<String, String>>,
    applied: Option<&String>,
    what: &str,
) -> BTreeMap<String, String> {
    let mut kept = existing.cloned().unwrap_or_default();
    let applied: serde_json::Value =
        applied.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(serde_json::Value::Null);
    for key in applied[what].as_array().into_iter().flatten().filter_map(|key| key.as_str()) {
        kept.remove(key);
    }
    kept
}
