//! The Secret of a DataKey: how it should be, and whether it is (pure).

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ciphertext::identity;
pub use crate::controller::delivered::{Difference, SecretObject};
use crate::{
    api::{
        DataKey,
        data_key::{SecretDeletionPolicy, SecretEncoding},
        metadata,
    },
    controller::delivered::{self, Declared, Mark, OPAQUE},
    crypto::Plaintext,
    kms::EncryptionContext,
};

const PLAINTEXT: &str = "plaintext";
const CIPHERTEXT_BLOB: &str = "ciphertextBlob";
const PREVIOUS_PLAINTEXT: &str = "previous-plaintext";
const PREVIOUS_CIPHERTEXT_BLOB: &str = "previous-ciphertextBlob";
const ENCRYPTION_CONTEXT: &str = "encryptionContext";
const KEY_ID: &str = "keyId";

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

/// What is on a Secret that was delivered for this DataKey.
fn mark(object: &DataKey) -> Mark {
    let (component, annotation) = (metadata::COMPONENT_DATA_KEY, metadata::DATA_KEY);
    Mark { component, annotation, identity: identity(object) }
}

impl SecretObject {
    /// Whether it was delivered for this DataKey.
    pub fn is_of(&self, object: &DataKey) -> bool {
        mark(object).is_on(self)
    }

    /// The ciphertext in it.
    pub fn ciphertext_blob(&self) -> Option<String> {
        self.text(CIPHERTEXT_BLOB)
    }

    /// The ciphertext in it that was rotated out last.
    pub fn previous_ciphertext_blob(&self) -> Option<String> {
        self.text(PREVIOUS_CIPHERTEXT_BLOB)
    }

    /// Whether a data key's plaintext is in it, as the current one or the one before, in whichever encoding. Compared in
    /// constant time.
    pub fn holds(&self, plaintext: &Plaintext) -> bool {
        let encodings = [SecretEncoding::Raw, SecretEncoding::Base64, SecretEncoding::Hex];
        let forms = encodings.map(|encoding| Zeroizing::new(encoded(plaintext, encoding).0));
        let data = self.expose().data.as_ref();
        let there = [PLAINTEXT, PREVIOUS_PLAINTEXT].into_iter().filter_map(|entry| data?.get(entry));
        there.flat_map(|entry| forms.iter().map(move |form| entry.0.ct_eq(form))).any(bool::from)
    }
}

/// Compares what is there with what should be.
pub fn difference(object: &DataKey, existing: Option<&SecretObject>, contents: &Contents<'_>) -> Difference {
    delivered::difference(existing, &mark(object), |metadata| desired(object, contents, metadata))
}

/// The Secret as it should be, given the metadata that it has.
fn desired(object: &DataKey, contents: &Contents<'_>, existing: &ObjectMeta) -> SecretObject {
    let template = object.spec.secret.clone().unwrap_or_default();
    let declared = Declared {
        name: object.spec.secret_name(&object.name_any()).to_owned(),
        namespace: object.namespace(),
        labels: template.labels.unwrap_or_default(),
        annotations: template.annotations.unwrap_or_default(),
        owner_references: owner_references(object, existing, template.deletion_policy.unwrap_or_default()),
    };
    SecretObject::from(Secret {
        metadata: declared.metadata(&mark(object), existing),
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
