//! Import tokens: the private key of an import, sealed, in the hands of the importer.
//!
//! GetParametersForImport makes an RSA key pair and keeps nothing: the private key travels in the token, which only
//! the root key opens. So any replica takes a token that any other issued, and a token survives a restart.
//!
//! ```text
//! offset  length
//!      0       4  63 6d 69 01: "cmi", format 1
//!      4      16  root key id
//!     20       8  expiry, in seconds since 1970-01-01T00:00:00Z (signed)
//!     28       1  algorithm: 1 RSAES_OAEP_SHA_256, 2 RSAES_OAEP_SHA_1, 3 RSA_AES_KEY_WRAP_SHA_256,
//!                   4 RSA_AES_KEY_WRAP_SHA_1
//!     29       1  key spec: 1 RSA_2048, 2 RSA_3072, 3 RSA_4096
//!     30      24  nonce
//!     54       n  ciphertext of the private key, a PKCS#8 document in DER
//!   54+n      16  tag
//! ```
//!
//! In base64, as both APIs transport it. XAES-256-GCM under a key derived from the root key; authenticated are the
//! first 30 bytes, and the id of the customer master key, which is not in the token.
//!
//! # Why
//! - XAES-256-GCM, as for blobs: users cause tokens to be made, and nothing counts them across replicas and years.
//!   Random nonces are good for 2^80 tokens, in AES-256-GCM for 2^32. The key is the tokens' own, so they use up
//!   nothing of the bound for wrapping.
//! - No commitment: an importer who could make a token that opens under two root keys would have to know both.
//!
//! # Limits
//! A token may be used any number of times until it expires, as in both clouds. It does not expire earlier, unless its
//! root key is no longer loaded.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use uuid::Uuid;

use super::random::random_array;
use super::{CryptoError, Plaintext, Random, RootKeyId, RootKeyRing, WrappingKey};
use crate::kms::{WrappingAlgorithm, WrappingKeySpec};

/// The first bytes of a token; not those of a ciphertext blob.
const MAGIC: [u8; 4] = *b"cmi\x01";
const UUID_LEN: usize = 16;
const HEADER_LEN: usize = MAGIC.len() + UUID_LEN + 8 + 1 + 1;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// For how long a token is good, in seconds: 24 hours, as in both clouds.
pub const IMPORT_TOKEN_LIFETIME_SECONDS: i64 = 24 * 60 * 60;

/// No token is longer, in characters. The longest ones, of RSA_4096, have about 3,300.
pub const IMPORT_TOKEN_MAX_LEN: usize = 4096;

/// What an importer needs. Nothing in it is secret: the private key in the token is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportParameters {
    /// The key to encrypt the material to: SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7).
    pub public_key: Vec<u8>,
    /// To be handed back with the encrypted material: base64, standard alphabet with padding.
    pub token: String,
    /// When the token expires, in whole seconds.
    pub expires_at: Timestamp,
}

/// Why no token was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueImportTokenError {
    /// aws-lc made no RSA key pair.
    #[error("no RSA key pair could be generated")]
    KeyGeneration,
    /// The private key was not sealed: no randomness.
    #[error(transparent)]
    Seal(#[from] CryptoError),
}

/// Why a token was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImportTokenError {
    /// Not a token, or changed, or issued for another key or algorithm, or under a root key that is not loaded:
    /// deliberately one error.
    #[error("the import token is not valid for this key and algorithm")]
    Invalid,
    /// Issued for this key and algorithm, too long ago.
    #[error("the import token has expired")]
    Expired,
}

/// What a token says in the clear. Authenticated.
#[derive(Clone, Copy)]
struct Header {
    root_key_id: RootKeyId,
    /// Seconds since 1970.
    expiry: i64,
    algorithm: u8,
    key_spec: u8,
}

impl Header {
    fn encode(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let fields =
            [&MAGIC[..], self.root_key_id.as_bytes(), &self.expiry.to_be_bytes(), &[self.algorithm, self.key_spec]];
        out.copy_from_slice(&fields.concat());
        out
    }
}

/// A token taken apart, nothing verified.
struct Parts<'a> {
    header: Header,
    nonce: &'a [u8; NONCE_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Parts<'a> {
    fn parse(token: &'a [u8]) -> Option<Self> {
        let rest = token.strip_prefix(&MAGIC)?;
        let (root_key_id, rest) = rest.split_first_chunk()?;
        let (expiry, rest) = rest.split_first_chunk()?;
        let (&[algorithm, key_spec], rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (ciphertext, tag) = rest.split_last_chunk()?;
        let root_key_id = Uuid::from_bytes(*root_key_id).into();
        let header = Header { root_key_id, expiry: i64::from_be_bytes(*expiry), algorithm, key_spec };
        Some(Self { header, nonce, ciphertext, tag })
    }
}

fn algorithm_number(algorithm: WrappingAlgorithm) -> u8 {
    match algorithm {
        WrappingAlgorithm::RsaesOaepSha256 => 1,
        WrappingAlgorithm::RsaesOaepSha1 => 2,
        WrappingAlgorithm::RsaAesKeyWrapSha256 => 3,
        WrappingAlgorithm::RsaAesKeyWrapSha1 => 4,
    }
}

fn key_spec_number(key_spec: WrappingKeySpec) -> u8 {
    match key_spec {
        WrappingKeySpec::Rsa2048 => 1,
        WrappingKeySpec::Rsa3072 => 2,
        WrappingKeySpec::Rsa4096 => 3,
    }
}

fn authenticated(header: Header, key_id: Uuid) -> Vec<u8> {
    [&header.encode()[..], key_id.as_bytes()].concat()
}

impl RootKeyRing {
    /// Makes a key pair to import the material of `key_id` with, and the token that keeps its private key.
    ///
    /// The nonce of 24 bytes is drawn from `random` in one call. The RSA key pair is not made from it: aws-lc
    /// takes no generator, and uses its own, which the operating system seeds.
    ///
    /// Finding the primes takes a tenth of a second (RSA_2048) to four (RSA_4096), by chance: not for an async thread,
    /// and not without a limit on how often a caller may ask.
    ///
    /// # Errors
    /// [`IssueImportTokenError::KeyGeneration`], or [`CryptoError::Random`] in [`IssueImportTokenError::Seal`].
    pub fn issue_import_token(
        &self,
        random: &dyn Random,
        key_id: Uuid,
        algorithm: WrappingAlgorithm,
        key_spec: WrappingKeySpec,
        now: Timestamp,
    ) -> Result<ImportParameters, IssueImportTokenError> {
        let expiry = now.as_second().saturating_add(IMPORT_TOKEN_LIFETIME_SECONDS).min(Timestamp::MAX.as_second());
        let header = Header {
            root_key_id: self.primary_id(),
            expiry,
            algorithm: algorithm_number(algorithm),
            key_spec: key_spec_number(key_spec),
        };
        let (public_key, private_key) = generate_key_pair(key_spec).ok_or(IssueImportTokenError::KeyGeneration)?;
        let token = self.seal_import_token(random, header, key_id, private_key.as_ref())?;
        let expires_at = Timestamp::from_second(expiry).unwrap_or(Timestamp::MAX);
        Ok(ImportParameters { public_key, token, expires_at })
    }

    /// Seals under the primary root key, whose id the header has to name.
    fn seal_import_token(
        &self,
        random: &dyn Random,
        header: Header,
        key_id: Uuid,
        private_key: &[u8],
    ) -> Result<String, CryptoError> {
        let nonce: [u8; NONCE_LEN] = random_array(random)?;
        // From one buffer into another, so that the private key is never in the output.
        let mut ciphertext = vec![0; private_key.len()];
        let buffers = InOutBuf::new(private_key, &mut ciphertext).map_err(|_| CryptoError::TooLong)?;
        let tag = self
            .primary()
            .import_token_cipher()
            .encrypt_inout_detached(&nonce.into(), &authenticated(header, key_id), buffers)
            .map_err(|_| CryptoError::TooLong)?;
        Ok(STANDARD.encode([&header.encode()[..], &nonce, &ciphertext, &tag].concat()))
    }

    /// Opens a token that any replica issued for this key and algorithm. White space around it is ignored.
    ///
    /// # Errors
    /// [`ImportTokenError::Expired`] for an authentic token from its expiry on; [`ImportTokenError::Invalid`] for
    /// anything else.
    pub fn open_import_token(
        &self,
        token: &str,
        key_id: Uuid,
        algorithm: WrappingAlgorithm,
        now: Timestamp,
    ) -> Result<WrappingKey, ImportTokenError> {
        let (header, private_key) = self.authenticate_import_token(token, key_id).ok_or(ImportTokenError::Invalid)?;
        if header.algorithm != algorithm_number(algorithm) {
            return Err(ImportTokenError::Invalid);
        }
        if now.as_second() >= header.expiry {
            return Err(ImportTokenError::Expired);
        }
        WrappingKey::from_pkcs8(algorithm, private_key.expose())
            .filter(|key| has_key_spec(key, header.key_spec))
            .ok_or(ImportTokenError::Invalid)
    }

    /// The algorithm for which any replica issued a token for this key, expired or not.
    ///
    /// # Errors
    /// [`ImportTokenError::Invalid`].
    pub fn import_token_algorithm(&self, token: &str, key_id: Uuid) -> Result<WrappingAlgorithm, ImportTokenError> {
        let (header, _) = self.authenticate_import_token(token, key_id).ok_or(ImportTokenError::Invalid)?;
        let mut all = WrappingAlgorithm::ALL.into_iter();
        all.find(|algorithm| algorithm_number(*algorithm) == header.algorithm).ok_or(ImportTokenError::Invalid)
    }

    fn authenticate_import_token(&self, token: &str, key_id: Uuid) -> Option<(Header, Plaintext)> {
        let token = token.trim_ascii();
        if token.len() > IMPORT_TOKEN_MAX_LEN {
            return None;
        }
        let token = STANDARD.decode(token).ok()?;
        let Parts { header, nonce, ciphertext, tag } = Parts::parse(&token)?;
        let root_key = self.get(header.root_key_id)?;
        let private_key = Plaintext::try_init(ciphertext.len(), |private_key| {
            let buffers = InOutBuf::new(ciphertext, private_key).map_err(|_| CryptoError::Refused)?;
            root_key
                .import_token_cipher()
                .decrypt_inout_detached(nonce.into(), &authenticated(header, key_id), buffers, tag.into())
                .map_err(|_| CryptoError::Refused)
        });
        Some((header, private_key.ok()?))
    }
}

/// Whether a private key is of the spec that has this number.
fn has_key_spec(key: &WrappingKey, number: u8) -> bool {
    WrappingKeySpec::ALL.iter().any(|spec| key_spec_number(*spec) == number && spec.bits() == key.key_size_bits())
}

/// The public key as SubjectPublicKeyInfo and the private key as PKCS#8, which is wiped when dropped.
fn generate_key_pair(key_spec: WrappingKeySpec) -> Option<(Vec<u8>, Pkcs8V1Der<'static>)> {
    let size = match key_spec {
        WrappingKeySpec::Rsa2048 => KeySize::Rsa2048,
        WrappingKeySpec::Rsa3072 => KeySize::Rsa3072,
        WrappingKeySpec::Rsa4096 => KeySize::Rsa4096,
    };
    let key = PrivateDecryptingKey::generate(size).ok()?;
    let public_key: PublicKeyX509Der<'_> = key.public_key().as_der().ok()?;
    Some((public_key.as_ref().to_vec(), key.as_der().ok()?))
}

#[cfg(test)]
mod tests;
