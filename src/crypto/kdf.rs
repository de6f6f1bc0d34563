//! Every derived key of the program, with its label.
//!
//! HKDF-SHA-256 (RFC 5869) without salt: the inputs are uniformly random keys of 32 bytes, so
//! extraction only has to spread them (RFC 5869 section 3.1), and an output under one label says
//! nothing about the output under another.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroize;

use super::secret::{KEY_LEN, SecretKey};

/// What a derived value is for. Its bytes are the `info` of HKDF-Expand.
///
/// A label is part of the stored formats: changing one makes everything written under it
/// unreadable, and giving one to two purposes mixes them up.
#[derive(Clone, Copy)]
pub(super) enum Label {
    /// Root key: its public name.
    RootKeyId,
    /// Root key: a public value which shows that the right key is loaded.
    RootKeyCheckValue,
    /// Root key: the AES-256-GCM key that wraps key material.
    RootKeyWrap,
    /// Root key: the HMAC-SHA-256 key that authenticates records.
    RootKeyRecordMac,
    /// Root key: the XAES-256-GCM key that seals import tokens.
    RootKeyImportToken,
    /// Root key: the XAES-256-GCM key that seals the secrets of access keys.
    RootKeyAccessKey,
    /// Key material: the XAES-256-GCM key of the ciphertext blob.
    BlobEncryption,
    /// Key material: the HMAC-SHA-256 key of the blob's commitment.
    BlobCommitment,
}

impl Label {
    /// The `info` argument, in ASCII.
    const fn info(self) -> &'static [u8] {
        match self {
            Self::RootKeyId => b"cmk-operator/v1/root-key/id",
            Self::RootKeyCheckValue => b"cmk-operator/v1/root-key/check-value",
            Self::RootKeyWrap => b"cmk-operator/v1/root-key/wrap",
            Self::RootKeyRecordMac => b"cmk-operator/v1/root-key/record-mac",
            Self::RootKeyImportToken => b"cmk-operator/v1/root-key/import-token",
            Self::RootKeyAccessKey => b"cmk-operator/v1/root-key/access-key",
            Self::BlobEncryption => b"cmk-operator/v1/blob/encryption",
            Self::BlobCommitment => b"cmk-operator/v1/blob/commitment",
        }
    }
}

/// The extracted form of one secret, from which labelled values are expanded.
pub(super) struct Kdf(Hkdf<Sha256>);

impl Kdf {
    /// HKDF-Extract without salt.
    pub(super) fn new(secret: &[u8; KEY_LEN]) -> Self {
        // Not `Hkdf::new`, which drops the pseudorandom key without wiping it.
        let (mut pseudorandom_key, kdf) = Hkdf::<Sha256>::extract(None, secret);
        pseudorandom_key.as_mut_slice().zeroize();
        Self(kdf)
    }

    /// A secret key of 32 bytes for the labelled purpose.
    pub(super) fn key(&self, label: Label) -> SecretKey {
        let mut key = SecretKey::default();
        self.expand(label, &mut key[..]);
        key
    }

    /// Bytes that may be published.
    pub(super) fn public<const N: usize>(&self, label: Label) -> [u8; N] {
        let mut bytes = [0; N];
        self.expand(label, &mut bytes);
        bytes
    }

    fn expand(&self, label: Label, out: &mut [u8]) {
        // The only error is an output longer than 255 * 32 bytes; ours have 16 or 32.
        #[allow(clippy::expect_used)]
        self.0.expand(label.info(), out).expect("short output");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_distinct() {
        let all = [
            Label::RootKeyId,
            Label::RootKeyCheckValue,
            Label::RootKeyWrap,
            Label::RootKeyRecordMac,
            Label::RootKeyImportToken,
            Label::RootKeyAccessKey,
            Label::BlobEncryption,
            Label::BlobCommitment,
        ];
        let distinct: BTreeSet<_> = all.iter().map(|label| label.info()).collect();
        assert_eq!(distinct.len(), all.len());
        let outputs: BTreeSet<[u8; 16]> = all.iter().map(|label| Kdf::new(&[1; 32]).public(*label)).collect();
        assert_eq!(outputs.len(), all.len());
    }
}
