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
mod tests {
    use super::*;
    use crate::crypto::random::doubles::{Broken, Fixed};
    use crate::crypto::{RootKey, SystemRandom};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    const KEY_ID: Uuid = Uuid::from_u128(0x0102);
    const ALGORITHM: WrappingAlgorithm = WrappingAlgorithm::RsaesOaepSha256;
    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 500_000_000);

    /// One token for all tests: making a key pair takes long.
    static ISSUED: LazyLock<ImportParameters> = LazyLock::new(|| issue(WrappingKeySpec::Rsa2048));

    fn root_key(byte: u8) -> RootKey {
        RootKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn ring() -> RootKeyRing {
        RootKeyRing::new(root_key(1), [root_key(2)])
    }

    fn issue(key_spec: WrappingKeySpec) -> ImportParameters {
        ring().issue_import_token(&SystemRandom, KEY_ID, ALGORITHM, key_spec, NOW).unwrap()
    }

    fn open_at(token: &str, now: Timestamp) -> Option<ImportTokenError> {
        ring().open_import_token(token, KEY_ID, ALGORITHM, now).err()
    }

    fn error(token: &str) -> Option<ImportTokenError> {
        open_at(token, NOW)
    }

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// The token, with its bytes changed.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = STANDARD.decode(&ISSUED.token).unwrap();
        change(&mut bytes);
        STANDARD.encode(bytes)
    }

    /// Authentic, whatever is in it.
    fn sealed(header: Header, private_key: &[u8]) -> String {
        ring().seal_import_token(&SystemRandom, header, KEY_ID, private_key).unwrap()
    }

    fn header() -> Header {
        let expiry = NOW.as_second() + IMPORT_TOKEN_LIFETIME_SECONDS;
        Header { root_key_id: root_key(1).id(), expiry, algorithm: 1, key_spec: 1 }
    }

    fn private_key() -> Plaintext {
        ring().authenticate_import_token(&ISSUED.token, KEY_ID).unwrap().1
    }

    #[test]
    fn material_encrypted_to_the_public_key_is_decrypted_with_the_token() {
        use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
        for key_spec in WrappingKeySpec::ALL {
            let ImportParameters { public_key, token, expires_at } = issue(key_spec);
            assert!(token.len() <= IMPORT_TOKEN_MAX_LEN, "{key_spec}: {} characters", token.len());
            assert_eq!(expires_at, seconds(1_800_000_000 + 86_400));
            let public_key = PublicEncryptingKey::from_der(&public_key).unwrap();
            assert_eq!(public_key.key_size_bits(), key_spec.bits());
            let mut encrypted = vec![0; public_key.key_size_bytes()];
            let public_key = OaepPublicEncryptingKey::new(public_key).unwrap();
            public_key.encrypt(&OAEP_SHA256_MGF1SHA256, &[7; 32], &mut encrypted, None).unwrap();
            let key = ring().open_import_token(&token, KEY_ID, ALGORITHM, NOW).unwrap();
            assert_eq!(key.algorithm(), ALGORITHM);
            assert_eq!(key.unwrap(&encrypted).unwrap().expose(), &[7; 32]);
            // As often as one likes.
            assert!(ring().open_import_token(&format!("\n {token}\n"), KEY_ID, ALGORITHM, NOW).is_ok());
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let (header, random) = (Header { key_spec: 3, algorithm: 2, ..header() }, Fixed::new(&[7; NONCE_LEN]));
        let token = ring().seal_import_token(&random, header, KEY_ID, b"x").unwrap();
        let token = STANDARD.decode(token).unwrap();
        assert_eq!((HEADER_LEN, token.len()), (30, 54 + 1 + 16));
        assert_eq!(&token[..4], [0x63, 0x6d, 0x69, 0x01]);
        assert_eq!(&token[4..20], root_key(1).id().as_bytes());
        assert_eq!(&token[20..28], (NOW.as_second() + 86_400).to_be_bytes());
        assert_eq!(&token[28..30], [2, 3]);
        assert_eq!(&token[30..54], [7; NONCE_LEN]);
    }

    #[test]
    fn a_token_expires_after_24_hours() {
        let expiry = ISSUED.expires_at.as_second();
        for (now, expected) in [
            (seconds(0), None),
            (NOW, None),
            (seconds(expiry - 1), None),
            (seconds(expiry), Some(ImportTokenError::Expired)),
            (seconds(expiry + 1), Some(ImportTokenError::Expired)),
            (Timestamp::MAX, Some(ImportTokenError::Expired)),
        ] {
            assert_eq!(open_at(&ISSUED.token, now), expected, "{now}");
        }
        // And with the end of time, if that is sooner.
        let (key_spec, now) = (WrappingKeySpec::Rsa2048, Timestamp::MAX);
        let last = ring().issue_import_token(&SystemRandom, KEY_ID, ALGORITHM, key_spec, now).unwrap();
        assert_eq!(last.expires_at.as_second(), Timestamp::MAX.as_second());
    }

    #[test]
    fn only_an_authentic_token_is_said_to_have_expired() {
        let late = ISSUED.expires_at;
        for token in [changed(|token| token[27] ^= 1), changed(|token| token[60] ^= 1), String::new()] {
            assert_eq!(open_at(&token, late), Some(ImportTokenError::Invalid));
        }
        let open = |key_id, algorithm| ring().open_import_token(&ISSUED.token, key_id, algorithm, late).err();
        assert_eq!(open(Uuid::nil(), ALGORITHM), Some(ImportTokenError::Invalid));
        assert_eq!(open(KEY_ID, WrappingAlgorithm::RsaesOaepSha1), Some(ImportTokenError::Invalid));
        assert_eq!(open(KEY_ID, ALGORITHM), Some(ImportTokenError::Expired));
    }

    #[test]
    fn a_token_is_for_one_key_and_one_algorithm() {
        let open = |key_id, algorithm| ring().open_import_token(&ISSUED.token, key_id, algorithm, NOW).err();
        assert_eq!(open(KEY_ID, ALGORITHM), None);
        assert_eq!(open(Uuid::from_u128(0x0103), ALGORITHM), Some(ImportTokenError::Invalid));
        for other in [WrappingAlgorithm::RsaesOaepSha1, WrappingAlgorithm::RsaAesKeyWrapSha256] {
            assert_eq!(open(KEY_ID, other), Some(ImportTokenError::Invalid));
        }
    }

    #[test]
    fn a_token_says_for_which_algorithm_it_is() {
        for algorithm in WrappingAlgorithm::ALL {
            let token = sealed(Header { algorithm: algorithm_number(algorithm), ..header() }, b"not looked at");
            assert_eq!(ring().import_token_algorithm(&token, KEY_ID), Ok(algorithm));
            assert_eq!(ring().import_token_algorithm(&token, Uuid::nil()), Err(ImportTokenError::Invalid));
        }
        let newer = sealed(Header { algorithm: 99, ..header() }, b"x");
        assert_eq!(ring().import_token_algorithm(&newer, KEY_ID), Err(ImportTokenError::Invalid));
        assert_eq!(ring().import_token_algorithm("", KEY_ID), Err(ImportTokenError::Invalid));
    }

    #[test]
    fn any_ring_with_the_root_key_takes_a_token() {
        let open = |ring: RootKeyRing| ring.open_import_token(&ISSUED.token, KEY_ID, ALGORITHM, NOW).err();
        assert_eq!(open(RootKeyRing::new(root_key(1), [])), None);
        assert_eq!(open(RootKeyRing::new(root_key(3), [root_key(1)])), None);
        assert_eq!(open(RootKeyRing::new(root_key(2), [root_key(3)])), Some(ImportTokenError::Invalid));
        // Said to be of another root key that is loaded.
        let moved = changed(|token| token[4..20].copy_from_slice(root_key(2).id().as_bytes()));
        assert_eq!(error(&moved), Some(ImportTokenError::Invalid));
    }

    #[test]
    fn every_changed_bit_and_every_other_length_is_refused() {
        let len = STANDARD.decode(&ISSUED.token).unwrap().len();
        for bit in 0..len * 8 {
            let token = changed(|token| token[bit / 8] ^= 1 << (bit % 8));
            assert_eq!(error(&token), Some(ImportTokenError::Invalid), "bit {bit}");
        }
        for cut in 0..len {
            assert_eq!(error(&changed(|token| token.truncate(cut))), Some(ImportTokenError::Invalid), "{cut} bytes");
            let tail = changed(|token| drop(token.drain(..len - cut)));
            assert_eq!(error(&tail), Some(ImportTokenError::Invalid), "the last {cut} bytes");
        }
        for extra in [1, 16, 10_000] {
            let token = changed(|token| token.resize(len + extra, 0));
            assert_eq!(error(&token), Some(ImportTokenError::Invalid));
        }
    }

    #[test]
    fn text_that_is_not_a_token_is_refused() {
        let token = &ISSUED.token;
        for text in [
            String::new(),
            "=".to_owned(),
            "é".to_owned(),
            token.trim_end_matches('=').to_owned() + "?",
            format!("{token}{token}"),
            format!("{} {}", &token[..8], &token[8..]),
            token.to_lowercase(),
        ] {
            assert_eq!(error(&text), Some(ImportTokenError::Invalid), "{text:.20}");
        }
    }

    #[test]
    fn what_is_sealed_is_a_key_of_the_spec_that_the_token_names() {
        let private_key = private_key();
        assert_eq!(error(&sealed(header(), private_key.expose())), None);
        for key_spec in [0, 2, 3, 4] {
            let token = sealed(Header { key_spec, ..header() }, private_key.expose());
            assert_eq!(error(&token), Some(ImportTokenError::Invalid), "spec {key_spec}");
        }
        for algorithm in [0, 2, 3, 4] {
            let token = sealed(Header { algorithm, ..header() }, private_key.expose());
            assert_eq!(error(&token), Some(ImportTokenError::Invalid), "algorithm {algorithm}");
        }
        for document in [&[][..], b"no key", &private_key.expose()[1..]] {
            assert_eq!(error(&sealed(header(), document)), Some(ImportTokenError::Invalid));
        }
        for expiry in [i64::MIN, -1, 0, NOW.as_second()] {
            let token = sealed(Header { expiry, ..header() }, private_key.expose());
            assert_eq!(error(&token), Some(ImportTokenError::Expired), "{expiry}");
        }
        assert_eq!(error(&sealed(Header { expiry: i64::MAX, ..header() }, private_key.expose())), None);
    }

    #[test]
    fn every_token_has_its_own_key_pair_and_nonce() {
        let (first, second) = (&*ISSUED, issue(WrappingKeySpec::Rsa2048));
        assert_ne!(first.public_key, second.public_key);
        let [first, second] = [&first.token, &second.token].map(|token| STANDARD.decode(token).unwrap());
        assert_eq!(first[..30], second[..30]);
        assert_ne!(first[30..54], second[30..54]);
        assert_ne!(first[54..], second[54..]);
    }

    #[test]
    fn nothing_is_sealed_without_randomness() {
        for random in [&Broken as &dyn Random, &Fixed::new(&[0; NONCE_LEN - 1])] {
            let error = ring().issue_import_token(random, KEY_ID, ALGORITHM, WrappingKeySpec::Rsa2048, NOW).err();
            assert!(matches!(error, Some(IssueImportTokenError::Seal(CryptoError::Random(_)))));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_tokens_never_panic_and_never_open(
            text in ".{0,200}",
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert_eq!(error(&text), Some(ImportTokenError::Invalid));
            prop_assert_eq!(error(&STANDARD.encode(&bytes)), Some(ImportTokenError::Invalid));
            let ours = [&header().encode()[..], &bytes].concat();
            prop_assert_eq!(error(&STANDARD.encode(ours)), Some(ImportTokenError::Invalid));
        }
    }
}
