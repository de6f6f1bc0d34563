//! Decrypting imported key material.
//!
//! | algorithm                  | what the importer sends                                                        |
//! |----------------------------|--------------------------------------------------------------------------------|
//! | `RSAES_OAEP_SHA_256`       | RSA-OAEP (RFC 8017 section 7.1), SHA-256 also in MGF1, of the material           |
//! | `RSAES_OAEP_SHA_1`         | the same with SHA-1                                                            |
//! | `RSA_AES_KEY_WRAP_SHA_256` | RSA-OAEP with SHA-256 of an AES-256 key, then AES key wrap with padding (RFC 5649) of the material under that key, as PKCS#11's `CKM_RSA_AES_KEY_WRAP` |
//!
//! The label is empty. All of it is done by aws-lc, whose RSA is blinded and checks the padding in constant time
//! (the crate `rsa` does not, RUSTSEC-2023-0071).
//!
//! # Why there is one error
//! Whoever learns *how* a decryption failed can decrypt by asking often enough (Manger 2001). So a wrong padding, a
//! wrong length and a wrong AES key wrap are the same [`ImportError`]. That RSA-OAEP succeeded and what came
//! after it failed may show in the time taken; it is known to who made the ciphertext, and to others
//! it tells nothing about the material.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::KeyMaterial;
use crate::kms::WrappingAlgorithm;

static OAEP_SHA_256: OaepAlgorithm = OAEP_SHA256_MGF1SHA256;
static OAEP_SHA_1: OaepAlgorithm = OAEP_SHA1_MGF1SHA1;

/// The encrypted material did not decrypt to exactly 32 bytes: another key pair, another algorithm, other data or
/// another length. Deliberately one error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encrypted key material does not decrypt to exactly 32 bytes with this import token and algorithm")]
pub struct ImportError;

/// The private key to which material is encrypted for one import, and how.
///
/// From [`RootKeyRing::open_import_token`](super::RootKeyRing::open_import_token).
///
/// It cannot be printed, cloned, compared or serialised:
/// ```compile_fail,E0277
/// fn print(key: &cmk_operator::crypto::WrappingKey) {
///     println!("{key:?}");
/// }
/// ```
pub struct WrappingKey {
    algorithm: WrappingAlgorithm,
    private_key: OaepPrivateDecryptingKey,
}

/// aws-lc clears all memory that it frees (`OPENSSL_free`).
impl ZeroizeOnDrop for WrappingKey {}

impl WrappingKey {
    /// The key of a PKCS#8 document. `None`: it holds no RSA key of 2048 to 8192 bits, or an inconsistent one.
    pub(super) fn from_pkcs8(algorithm: WrappingAlgorithm, document: &[u8]) -> Option<Self> {
        let private_key = PrivateDecryptingKey::from_pkcs8(document).ok()?;
        Some(Self { algorithm, private_key: OaepPrivateDecryptingKey::new(private_key).ok()? })
    }

    /// How the material has to be encrypted.
    #[must_use]
    pub fn algorithm(&self) -> WrappingAlgorithm {
        self.algorithm
    }

    /// Length of the modulus in bits.
    pub(super) fn key_size_bits(&self) -> usize {
        self.private_key.key_size_bits()
    }

    /// Decrypts imported material. Takes about a millisecond, or a few of them, of computing.
    ///
    /// # Errors
    /// [`ImportError`], for whatever reason.
    pub fn unwrap(&self, encrypted: &[u8]) -> Result<KeyMaterial, ImportError> {
        let decrypted = match self.algorithm {
            WrappingAlgorithm::RsaesOaepSha256 => oaep_decrypt(&self.private_key, &OAEP_SHA_256, encrypted),
            WrappingAlgorithm::RsaesOaepSha1 => oaep_decrypt(&self.private_key, &OAEP_SHA_1, encrypted),
            WrappingAlgorithm::RsaAesKeyWrapSha256 => encrypted
                .split_at_checked(self.private_key.key_size_bytes())
                .and_then(|(key, wrapped)| kwp_unwrap(&*oaep_decrypt(&self.private_key, &OAEP_SHA_256, key)?, wrapped)),
        };
        decrypted.and_then(|material| KeyMaterial::from_bytes(&material).ok()).ok_or(ImportError)
    }
}

/// RSA-OAEP with an empty label.
fn oaep_decrypt(
    key: &OaepPrivateDecryptingKey,
    algorithm: &'static OaepAlgorithm,
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    decrypt_into(key.min_output_size(), |output| Some(key.decrypt(algorithm, ciphertext, output, None).ok()?.len()))
}

/// AES-256 key wrap with padding, RFC 5649. `None` also for a key that does not have 32 bytes.
fn kwp_unwrap(key: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = AesKek::new(&AES_256, key).ok()?;
    decrypt_into(wrapped.len(), |output| Some(key.unwrap_with_padding(wrapped, output).ok()?.len()))
}

/// The first bytes of a buffer, as many as `write` says it has written. All of the buffer is wiped in the end.
fn decrypt_into(len: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; len]);
    let written = write(&mut buffer)?;
    buffer.truncate(written);
    Some(buffer)
}
