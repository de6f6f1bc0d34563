//! The keys at the top: what wraps every other key, and how one is named.

use std::fmt;
use std::str::FromStr;

use aes_gcm::{Aes256Gcm, Key, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use uuid::{Builder, Uuid};
use xaes_256_gcm::{Key as XaesKey, Xaes256Gcm};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::kdf::{Kdf, Label};
use super::secret::{KEY_LEN, SecretKey, secret_key_from};
use super::{Random, RandomError, WrongLength};

/// Length in bytes of a root key's check value.
pub const CHECK_VALUE_LEN: usize = 16;

/// The public name of a root key. Records say with it which root key wrapped them.
///
/// It is derived from the key: a root-key file holds nothing but the key, so an id that was
/// chosen separately could not be found again from it. As the key is random, so is the id
/// (122 bits of HKDF-SHA-256 output, as a UUID of version 8, RFC 9562 section 5.8), and it
/// reveals nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootKeyId(Uuid);

impl RootKeyId {
    /// The 16 bytes of the UUID, in network order.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For an id that is stored as a UUID, as in a record. It need not be the id of any key.
impl From<Uuid> for RootKeyId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl From<RootKeyId> for Uuid {
    fn from(id: RootKeyId) -> Self {
        id.0
    }
}

impl FromStr for RootKeyId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A root-key file or Secret does not hold one base64 line of 32 bytes.
///
/// The messages never repeat the input, which may be the key with a typing error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootKeyFormatError {
    /// There is nothing but white space.
    #[error("the root key is empty; expected one base64 line of {KEY_LEN} bytes")]
    Empty,
    /// There is more than one line or word.
    #[error("the root key is more than one line; expected one base64 line of {KEY_LEN} bytes")]
    NotOneLine,
    /// Not the standard alphabet with padding.
    #[error("the root key is not valid base64 (standard alphabet, with padding)")]
    NotBase64,
    /// Valid base64 of another number of bytes.
    #[error("the root key does not have the right length: {0}")]
    WrongLength(#[from] WrongLength),
}

/// A key that wraps the material of other keys and authenticates their records.
///
/// It encrypts nothing itself: one key is derived from it for each use, at construction.
///
/// It cannot be printed, cloned, compared or serialised:
/// ```compile_fail,E0277
/// # let root_key = cmk_operator::crypto::RootKey::from_bytes(&[0; 32])?;
/// println!("{root_key:?}");
/// # Ok::<(), cmk_operator::crypto::WrongLength>(())
/// ```
/// ```compile_fail,E0599
/// # let root_key = cmk_operator::crypto::RootKey::from_bytes(&[0; 32])?;
/// let copy = root_key.clone();
/// # Ok::<(), cmk_operator::crypto::WrongLength>(())
/// ```
pub struct RootKey {
    secret: SecretKey,
    id: RootKeyId,
    check_value: [u8; CHECK_VALUE_LEN],
    /// Boxed for the reason that `SecretKey` is: its round keys stay in one place.
    wrapping_cipher: Box<Aes256Gcm>,
    record_mac_key: SecretKey,
    import_token_cipher: Box<Xaes256Gcm>,
    access_key_cipher: Box<Xaes256Gcm>,
}

impl ZeroizeOnDrop for RootKey {}

impl RootKey {
    /// A new random root key.
    ///
    /// # Errors
    /// The generator failed.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let mut secret = SecretKey::default();
        random.fill(&mut secret[..])?;
        Ok(Self::derive(secret))
    }

    /// A root key from its 32 bytes, which must have been generated at random. The caller
    /// wipes its own copy.
    ///
    /// # Errors
    /// `bytes` are not exactly 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrongLength> {
        Ok(Self::derive(secret_key_from(bytes)?))
    }

    /// A root key from one line of base64 (standard alphabet, with padding; for instance
    /// from `openssl rand -base64 32`). White space around it is ignored.
    ///
    /// # Errors
    /// The text is anything else. The error does not repeat it.
    pub fn from_base64_line(text: &str) -> Result<Self, RootKeyFormatError> {
        let line = text.trim_ascii();
        if line.is_empty() {
            return Err(RootKeyFormatError::Empty);
        }
        if line.contains(|c: char| c.is_ascii_whitespace()) {
            return Err(RootKeyFormatError::NotOneLine);
        }
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(line.len())]);
        // The error of the decoder contains bytes of the input: not passed on.
        let len = STANDARD.decode_slice(line, &mut bytes).map_err(|_| RootKeyFormatError::NotBase64)?;
        Ok(Self::from_bytes(bytes.get(..len).unwrap_or_default())?)
    }

    fn derive(secret: SecretKey) -> Self {
        let kdf = Kdf::new(&secret);
        let id = Builder::from_custom_bytes(kdf.public(Label::RootKeyId)).into_uuid();
        let wrapping_key = kdf.key(Label::RootKeyWrap);
        let import_token_key = kdf.key(Label::RootKeyImportToken);
        let access_key_key = kdf.key(Label::RootKeyAccessKey);
        Self {
            id: RootKeyId(id),
            check_value: kdf.public(Label::RootKeyCheckValue),
            wrapping_cipher: Box::new(Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&**wrapping_key))),
            record_mac_key: kdf.key(Label::RootKeyRecordMac),
            import_token_cipher: Box::new(Xaes256Gcm::new(<&XaesKey>::from(&**import_token_key))),
            access_key_cipher: Box::new(Xaes256Gcm::new(<&XaesKey>::from(&**access_key_key))),
            secret,
        }
    }

    /// The secret bytes, for storing them in the Secret that keeps this key. Do not copy
    /// them into anything that is not wiped.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.secret
    }

    /// The public name of this key, derived from it.
    #[must_use]
    pub fn id(&self) -> RootKeyId {
        self.id
    }

    /// A public value derived from this key, to be stored beside what it protects: when it
    /// differs later, another key was loaded. It reveals nothing about the key.
    #[must_use]
    pub fn check_value(&self) -> [u8; CHECK_VALUE_LEN] {
        self.check_value
    }

    /// Whether `stored` is the check value of this key, in constant time.
    #[must_use]
    pub fn verify_check_value(&self, stored: &[u8]) -> bool {
        self.check_value.as_slice().ct_eq(stored).into()
    }

    pub(super) fn wrapping_cipher(&self) -> &Aes256Gcm {
        &self.wrapping_cipher
    }

    pub(super) fn import_token_cipher(&self) -> &Xaes256Gcm {
        &self.import_token_cipher
    }

    pub(super) fn access_key_cipher(&self) -> &Xaes256Gcm {
        &self.access_key_cipher
    }

    pub(super) fn record_mac_key(&self) -> &[u8; KEY_LEN] {
        &self.record_mac_key
    }
}

/// The root keys in use: the primary one wraps, all of them unwrap.
///
/// Wrapping is in `wrap.rs`, authenticating records in `record_mac.rs`, import tokens in `import_token.rs`,
/// the secrets of access keys in `access_key.rs`.
pub struct RootKeyRing {
    primary: RootKey,
    /// Without the primary key, without duplicates, in the order given.
    others: Vec<RootKey>,
}

impl ZeroizeOnDrop for RootKeyRing {}

impl RootKeyRing {
    /// A ring that wraps with `primary` and unwraps with any. A key that is given twice
    /// counts once.
    pub fn new(primary: RootKey, others: impl IntoIterator<Item = RootKey>) -> Self {
        let mut ring = Self { primary, others: Vec::new() };
        for key in others {
            if !ring.contains(key.id()) {
                ring.others.push(key);
            }
        }
        ring
    }

    /// The key that wraps.
    #[must_use]
    pub fn primary(&self) -> &RootKey {
        &self.primary
    }

    /// The id of the key that wraps.
    #[must_use]
    pub fn primary_id(&self) -> RootKeyId {
        self.primary.id()
    }

    /// The ids of all keys, the primary one first.
    pub fn ids(&self) -> impl Iterator<Item = RootKeyId> {
        self.keys().map(RootKey::id)
    }

    /// Whether the ring holds the key of that id.
    #[must_use]
    pub fn contains(&self, id: RootKeyId) -> bool {
        self.get(id).is_some()
    }

    /// The key of that id.
    #[must_use]
    pub fn get(&self, id: RootKeyId) -> Option<&RootKey> {
        self.keys().find(|key| key.id() == id)
    }

    /// All keys, the primary one first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RootKey> {
        std::iter::once(&self.primary).chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::doubles::{Broken, Fixed};

    const LINE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn a_base64_line_is_read_with_white_space_around() {
        let expected: Vec<u8> = (0..32).collect();
        for text in [LINE.to_owned(), format!("{LINE}\n"), format!("{LINE}\r\n"), format!(" \t{LINE} \n\n")] {
            let key = RootKey::from_base64_line(&text).unwrap();
            assert_eq!(key.expose().as_slice(), expected);
        }
    }

    #[test]
    fn anything_else_is_refused_without_repeating_it() {
        let length = |actual| RootKeyFormatError::WrongLength(WrongLength { expected: 32, actual });
        for (text, error) in [
            ("", RootKeyFormatError::Empty),
            (" \n", RootKeyFormatError::Empty),
            (&format!("{LINE}\n{LINE}"), RootKeyFormatError::NotOneLine),
            (&format!("{LINE}{LINE}"), RootKeyFormatError::NotBase64),
            (&LINE.replace('=', ""), RootKeyFormatError::NotBase64),
            (&LINE.replace("h8=", "h9="), RootKeyFormatError::NotBase64),
            (&LINE.replace('A', "-"), RootKeyFormatError::NotBase64),
            (&LINE.replace('A', "é"), RootKeyFormatError::NotBase64),
            (&LINE[4..], length(29)),
            ("AAAA", length(3)),
        ] {
            let found = RootKey::from_base64_line(text).err();
            assert_eq!(found, Some(error), "{text:?}");
            assert!(text.trim().len() < 4 || !error.to_string().contains(text.trim()));
        }
    }

    #[test]
    fn ids_and_check_values_follow_from_the_key() {
        let key = RootKey::from_bytes(&[1; 32]).unwrap();
        let same = RootKey::from_bytes(&[1; 32]).unwrap();
        let other = RootKey::from_bytes(&[2; 32]).unwrap();
        assert_eq!(key.id(), same.id());
        assert_ne!(key.id(), other.id());
        assert_eq!(key.id().0.get_version_num(), 8);
        assert!(key.verify_check_value(&same.check_value()));
        assert!(!key.verify_check_value(&other.check_value()));
        assert!(!key.verify_check_value(&key.check_value()[..15]));
        assert!(!key.verify_check_value(&[]));
    }

    #[test]
    fn an_id_is_text_everywhere() {
        let id = RootKey::from_bytes(&[1; 32]).unwrap().id();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(RootKeyId::from(Uuid::from(id)), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<RootKeyId>(&json).unwrap(), id);
        assert!("no id".parse::<RootKeyId>().is_err());
    }

    #[test]
    fn a_key_is_generated_from_the_given_randomness() {
        let key = RootKey::generate(&Fixed::new(&[9; 32])).unwrap();
        assert_eq!(key.expose(), &[9; 32]);
        assert!(RootKey::generate(&Broken).is_err());
    }

    #[test]
    fn the_first_key_of_a_ring_is_primary_and_duplicates_count_once() {
        let key = |byte| RootKey::from_bytes(&[byte; 32]).unwrap();
        let ring = RootKeyRing::new(key(1), [key(2), key(1), key(2), key(3)]);
        let ids: Vec<_> = ring.ids().collect();
        assert_eq!(ids, [key(1).id(), key(2).id(), key(3).id()]);
        assert_eq!(ring.primary_id(), key(1).id());
        assert!(ring.contains(key(3).id()));
        assert!(!ring.contains(key(4).id()));
        assert_eq!(ring.get(key(2).id()).unwrap().expose(), &[2; 32]);
    }
}
