//! The ciphertext blob: what Encrypt and GenerateDataKey give out, and Decrypt takes back.
//!
//! ```text
//! offset  length
//!      0       4  63 6d 6b 01: "cmk", format 1
//!      4      16  key id            \ UUIDs, in network order
//!     20      16  key version id    /
//!     36      24  nonce
//!     60      32  commitment
//!     92       n  ciphertext, as long as the plaintext
//!   92+n      16  tag
//! ```
//!
//! From the material of the key version, HKDF-SHA-256 derives an encryption key and a commitment
//! key. The *header* is the first 60 bytes; *context* is the encoded encryption context,
//! which is not stored.
//!
//! - `commitment` = HMAC-SHA-256(commitment key, header || context)
//! - `ciphertext`, `tag` = XAES-256-GCM(encryption key, nonce, plaintext), with the
//!   authenticated data header || commitment || context
//!
//! Header and commitment have a fixed length and the context is all that follows, so both
//! inputs are unambiguous. The commitment is checked first.
//!
//! # Why
//! - XAES-256-GCM ([C2SP](https://c2sp.org/XAES-256-GCM)) takes random nonces for 2^80
//!   messages under one key, AES-256-GCM for 2^32. A master key has no bound of its own.
//! - AES-GCM does not commit to its key: a ciphertext can be made that decrypts under two
//!   keys, to two plaintexts. The commitment, a hash of key, header and context that resists
//!   collisions, ties a blob to one key and one context.
//!
//! # Limits
//! A plaintext has at most 2^36 - 32 bytes; the API allows far less.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use hmac::Mac;
use uuid::Uuid;
use xaes_256_gcm::aead::KeyInit;
use xaes_256_gcm::{Key, Xaes256Gcm};
use zeroize::ZeroizeOnDrop;

use super::kdf::{Kdf, Label};
use super::mac::{MAC_LEN, hmac_sha256, tag};
use super::random::random_array;
use super::secret::SecretKey;
use super::{CryptoError, KeyMaterial, Plaintext, Random};

/// The bytes that every blob of the project starts with, before the format number.
const MAGIC: [u8; 3] = *b"cmk";
/// The format described here. 2 is reserved for wrapping the blob of another key store.
const FORMAT: u8 = 1;
const UUID_LEN: usize = 16;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Magic to nonce, and the commitment: everything before the ciphertext.
const PREFIX_LEN: usize = BLOB_HEADER_LEN + MAC_LEN;

/// Length in bytes of the header, from the magic to the nonce.
pub const BLOB_HEADER_LEN: usize = MAGIC.len() + 1 + 2 * UUID_LEN + NONCE_LEN;

/// By how many bytes a blob is longer than its plaintext.
pub const BLOB_OVERHEAD: usize = PREFIX_LEN + TAG_LEN;

/// Why a blob was not opened.
///
/// The first two can be told from the blob by anybody; everything that depends on a key is
/// the third, without distinction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Too short, or not starting with `63 6d 6b`: not one of our blobs.
    #[error("not a ciphertext of this key store")]
    Malformed,
    /// One of ours, in a format that this version does not know.
    #[error("the ciphertext has format {0}, which is not supported")]
    UnsupportedFormat(u8),
    /// Wrong key, wrong encryption context, or tampered data: deliberately one error.
    #[error("the ciphertext could not be authenticated")]
    Refused,
}

/// What a blob says about itself. Not authenticated until the blob has been opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobHeader {
    /// The customer master key that sealed it.
    pub key_id: Uuid,
    /// The version of that key.
    pub key_version_id: Uuid,
}

impl BlobHeader {
    /// Appends the header of a blob.
    fn encode_into(&self, out: &mut Vec<u8>, nonce: &[u8; NONCE_LEN]) {
        for part in [&MAGIC[..], &[FORMAT], self.key_id.as_bytes(), self.key_version_id.as_bytes(), nonce] {
            out.extend_from_slice(part);
        }
    }
}

/// A blob taken apart, nothing verified.
struct Parts<'a> {
    header: BlobHeader,
    /// Magic to nonce, as it stands in the blob.
    header_bytes: &'a [u8; BLOB_HEADER_LEN],
    nonce: &'a [u8; NONCE_LEN],
    commitment: &'a [u8; MAC_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Parts<'a> {
    fn parse(blob: &'a [u8]) -> Result<Self, BlobError> {
        let rest = blob.strip_prefix(&MAGIC).ok_or(BlobError::Malformed)?;
        let (&format, rest) = rest.split_first().ok_or(BlobError::Malformed)?;
        // Before the length: another format may be shorter.
        if format != FORMAT {
            return Err(BlobError::UnsupportedFormat(format));
        }
        let parts = || {
            let header_bytes = blob.first_chunk()?;
            let (key_id, rest) = rest.split_first_chunk()?;
            let (key_version_id, rest) = rest.split_first_chunk()?;
            let (nonce, rest) = rest.split_first_chunk()?;
            let (commitment, rest) = rest.split_first_chunk()?;
            let (ciphertext, tag) = rest.split_last_chunk()?;
            Some(Self {
                header: BlobHeader {
                    key_id: Uuid::from_bytes(*key_id),
                    key_version_id: Uuid::from_bytes(*key_version_id),
                },
                header_bytes,
                nonce,
                commitment,
                ciphertext,
                tag,
            })
        };
        parts().ok_or(BlobError::Malformed)
    }
}

/// Reads which key and version a blob needs, without verifying anything.
///
/// # Errors
/// [`BlobError::Malformed`] or [`BlobError::UnsupportedFormat`].
pub fn parse_header(blob: &[u8]) -> Result<BlobHeader, BlobError> {
    Parts::parse(blob).map(|parts| parts.header)
}

/// The keys derived from one [`KeyMaterial`], ready for use. Callers may keep it; it is as
/// secret as the material, and is wiped when dropped.
///
/// It cannot be printed, cloned, compared or serialised:
/// ```compile_fail,E0277
/// # use cmk_operator::crypto::{BlobKeys, KeyMaterial};
/// # let keys = BlobKeys::derive(&KeyMaterial::from_bytes(&[0; 32])?);
/// println!("{keys:?}");
/// # Ok::<(), cmk_operator::crypto::WrongLength>(())
/// ```
pub struct BlobKeys {
    /// Boxed for the reason that `SecretKey` is: its round keys stay in one place.
    cipher: Box<Xaes256Gcm>,
    commitment_key: SecretKey,
}

impl ZeroizeOnDrop for BlobKeys {}

impl BlobKeys {
    /// Derives the encryption key and the commitment key.
    #[must_use]
    pub fn derive(material: &KeyMaterial) -> Self {
        let kdf = Kdf::new(material.expose());
        let encryption_key = kdf.key(Label::BlobEncryption);
        Self {
            cipher: Box::new(Xaes256Gcm::new(<&Key>::from(&**encryption_key))),
            commitment_key: kdf.key(Label::BlobCommitment),
        }
    }

    /// Seals `plaintext` into a blob, under a nonce of 24 bytes drawn from `random` in one
    /// call. `header` names the key and version that this material belongs to; `context`
    /// is the encoded encryption context.
    ///
    /// # Errors
    /// [`CryptoError::Random`] or [`CryptoError::TooLong`].
    pub fn seal(
        &self,
        header: BlobHeader,
        context: &[u8],
        plaintext: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, CryptoError> {
        self.seal_with_nonce(header, context, plaintext, &random_array(random)?)
    }

    /// A nonce used twice under one key loses the secrecy of both messages: not public.
    fn seal_with_nonce(
        &self,
        header: BlobHeader,
        context: &[u8],
        plaintext: &[u8],
        nonce: &[u8; NONCE_LEN],
    ) -> Result<Vec<u8>, CryptoError> {
        let mut blob = Vec::with_capacity(plaintext.len() + BLOB_OVERHEAD);
        header.encode_into(&mut blob, nonce);
        let commitment = tag(hmac_sha256(&self.commitment_key, &[&blob, context]));
        blob.extend_from_slice(&commitment);
        let authenticated = [&blob[..], context].concat();
        // From one buffer into another, so that the plaintext is never in the output.
        blob.resize(PREFIX_LEN + plaintext.len(), 0);
        let buffers = InOutBuf::new(plaintext, &mut blob[PREFIX_LEN..]).map_err(|_| CryptoError::TooLong)?;
        let tag = self
            .cipher
            .encrypt_inout_detached(nonce.into(), &authenticated, buffers)
            .map_err(|_| CryptoError::TooLong)?;
        blob.extend_from_slice(&tag);
        Ok(blob)
    }

    /// Opens a blob. `context` is the encoded encryption context that it was sealed with.
    ///
    /// # Errors
    /// [`BlobError::Malformed`] and [`BlobError::UnsupportedFormat`] as in [`parse_header`];
    /// [`BlobError::Refused`] for everything else.
    pub fn open(&self, blob: &[u8], context: &[u8]) -> Result<Plaintext, BlobError> {
        let parts = Parts::parse(blob)?;
        // First, and in constant time: is it this key, this header, this context?
        hmac_sha256(&self.commitment_key, &[parts.header_bytes, context])
            .verify_slice(parts.commitment)
            .map_err(|_| BlobError::Refused)?;
        let authenticated = [&parts.header_bytes[..], parts.commitment, context].concat();
        Plaintext::try_init(parts.ciphertext.len(), |plaintext| {
            let buffers = InOutBuf::new(parts.ciphertext, plaintext).map_err(|_| BlobError::Refused)?;
            self.cipher
                .decrypt_inout_detached(parts.nonce.into(), &authenticated, buffers, parts.tag.into())
                .map_err(|_| BlobError::Refused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;
    use crate::crypto::random::doubles::{Broken, Fixed};
    use crate::kms::encryption_context::EncryptionContext;
    use proptest::prelude::*;

    const HEADER: BlobHeader = BlobHeader { key_id: Uuid::from_u128(0x0102), key_version_id: Uuid::from_u128(0x0304) };

    fn keys(byte: u8) -> BlobKeys {
        BlobKeys::derive(&KeyMaterial::from_bytes(&[byte; 32]).unwrap())
    }

    fn context(entries: &[(&str, &str)]) -> Vec<u8> {
        let pairs = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        EncryptionContext::try_from_pairs(pairs).unwrap().encode()
    }

    fn seal(plaintext: &[u8], context: &[u8]) -> Vec<u8> {
        keys(1).seal(HEADER, context, plaintext, &SystemRandom).unwrap()
    }

    fn error(blob: &[u8], context: &[u8]) -> Option<BlobError> {
        keys(1).open(blob, context).err()
    }

    #[test]
    fn a_blob_opens_to_its_plaintext() {
        for len in [0, 1, 15, 16, 17, 32, 4096, 6144] {
            let plaintext: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let context = context(&[("app", "shop")]);
            let blob = seal(&plaintext, &context);
            assert_eq!(blob.len(), plaintext.len() + BLOB_OVERHEAD);
            assert_eq!(parse_header(&blob), Ok(HEADER));
            let opened = keys(1).open(&blob, &context).unwrap();
            assert!(opened.ct_eq(&plaintext));
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!((BLOB_HEADER_LEN, PREFIX_LEN, BLOB_OVERHEAD), (60, 92, 108));
        let random = Fixed::new(&[7; NONCE_LEN]);
        let blob = keys(1).seal(HEADER, &[], b"x", &random).unwrap();
        assert_eq!(&blob[..4], [0x63, 0x6d, 0x6b, 0x01]);
        assert_eq!(&blob[4..20], HEADER.key_id.as_bytes());
        assert_eq!(&blob[20..36], HEADER.key_version_id.as_bytes());
        assert_eq!(&blob[36..60], [7; NONCE_LEN]);
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let context = context(&[("app", "shop")]);
        let blob = seal(b"thirty-two bytes of a data key..", &context);
        for bit in 0..blob.len() * 8 {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0..3 => BlobError::Malformed,
                3 => BlobError::UnsupportedFormat(changed[3]),
                _ => BlobError::Refused,
            };
            assert_eq!(error(&changed, &context), Some(expected), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let context = context(&[]);
        let blob = seal(b"four", &context);
        for len in 0..blob.len() {
            let expected = if len < BLOB_OVERHEAD { BlobError::Malformed } else { BlobError::Refused };
            assert_eq!(error(&blob[..len], &context), Some(expected), "{len} bytes");
            assert!(error(&blob[blob.len() - len..], &context).is_some());
        }
        for extra in [1, 16, 108] {
            let extended = [&blob[..], &vec![0; extra]].concat();
            assert_eq!(error(&extended, &context), Some(BlobError::Refused));
        }
        // Bytes moved from the context into the blob and back.
        let whole = [&blob[..], &context].concat();
        assert_eq!(error(&whole, &[]), Some(BlobError::Refused));
    }

    #[test]
    fn parts_of_another_blob_are_refused() {
        let context = context(&[]);
        let (first, second) = (seal(b"one", &context), seal(b"two", &context));
        for cut in [4, 20, 36, 60, 92, 95] {
            let mixed = [&first[..cut], &second[cut..]].concat();
            // Up to the nonce both are equal, and the mixture is the second blob itself.
            let expected = (cut > 36).then_some(BlobError::Refused);
            assert_eq!(error(&mixed, &context), expected, "cut at {cut}");
        }
        for header in [
            BlobHeader { key_id: HEADER.key_version_id, key_version_id: HEADER.key_id },
            BlobHeader { key_id: Uuid::nil(), ..HEADER },
            BlobHeader { key_version_id: Uuid::nil(), ..HEADER },
        ] {
            let mut moved = first.clone();
            moved[4..20].copy_from_slice(header.key_id.as_bytes());
            moved[20..36].copy_from_slice(header.key_version_id.as_bytes());
            assert_eq!(parse_header(&moved), Ok(header));
            assert_eq!(error(&moved, &context), Some(BlobError::Refused));
        }
    }

    #[test]
    fn another_context_is_refused() {
        let sealed_with = context(&[("ab", "c")]);
        let blob = seal(b"secret", &sealed_with);
        assert!(error(&blob, &sealed_with).is_none());
        for other in [
            context(&[("a", "bc")]),
            context(&[("ab", "C")]),
            context(&[("c", "ab")]),
            context(&[("ab", "c"), ("", "")]),
            context(&[("ab", "")]),
            context(&[]),
            Vec::new(),
        ] {
            assert_eq!(error(&blob, &other), Some(BlobError::Refused));
        }
    }

    #[test]
    fn another_key_is_refused() {
        let blob = seal(b"secret", &[]);
        assert_eq!(keys(2).open(&blob, &[]).err(), Some(BlobError::Refused));
    }

    #[test]
    fn only_format_1_is_known() {
        assert_eq!(parse_header(b""), Err(BlobError::Malformed));
        assert_eq!(parse_header(b"cmk"), Err(BlobError::Malformed));
        assert_eq!(parse_header(b"cmk\x01"), Err(BlobError::Malformed));
        assert_eq!(parse_header(b"cmk\x02"), Err(BlobError::UnsupportedFormat(2)));
        assert_eq!(parse_header(&[&b"cmk\x02"[..], &[0; 200]].concat()), Err(BlobError::UnsupportedFormat(2)));
        assert_eq!(parse_header(&[&b"CMK\x01"[..], &[0; 200]].concat()), Err(BlobError::Malformed));
    }

    #[test]
    fn nothing_is_sealed_without_randomness() {
        for random in [&Broken as &dyn Random, &Fixed::new(&[0; NONCE_LEN - 1])] {
            let error = keys(1).seal(HEADER, &[], b"secret", random).err();
            assert!(matches!(error, Some(CryptoError::Random(_))));
        }
    }

    #[test]
    fn every_seal_has_its_own_nonce() {
        let (first, second) = (seal(b"secret", &[]), seal(b"secret", &[]));
        assert_ne!(first[36..60], second[36..60]);
        assert_ne!(first[92..], second[92..]);
    }

    proptest! {
        #[test]
        fn sealed_is_opened(
            plaintext in proptest::collection::vec(any::<u8>(), 0..512),
            context in proptest::collection::vec(any::<u8>(), 0..64),
            key in any::<u128>(),
            version in any::<u128>(),
        ) {
            let header = BlobHeader {
                key_id: Uuid::from_u128(key),
                key_version_id: Uuid::from_u128(version),
            };
            let blob = keys(1).seal(header, &context, &plaintext, &SystemRandom).unwrap();
            prop_assert_eq!(parse_header(&blob), Ok(header));
            let opened = keys(1).open(&blob, &context).unwrap();
            prop_assert!(opened.ct_eq(&plaintext));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_open(
            blob in proptest::collection::vec(any::<u8>(), 0..256),
            context in proptest::collection::vec(any::<u8>(), 0..32),
        ) {
            prop_assert!(keys(1).open(&blob, &context).is_err());
            let ours = [b"cmk\x01", &blob[..]].concat();
            prop_assert!(keys(1).open(&ours, &context).is_err());
        }
    }
}
