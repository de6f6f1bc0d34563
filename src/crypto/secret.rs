//! Types that hold secrets: they cannot be printed, copied, compared or serialised by
//! accident, and are wiped when dropped.

use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{Random, RandomError};

/// Length in bytes of every symmetric key of the program.
pub const KEY_LEN: usize = 32;

/// A key in the heap. Boxed, because moving an array copies it and leaves the old bytes
/// behind; moving the box copies a pointer.
///
/// For use inside `crypto` only: `Zeroizing` can be printed and cloned.
pub(super) type SecretKey = Box<Zeroizing<[u8; KEY_LEN]>>;

/// A secret did not have the length that it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes, got {actual}")]
pub struct WrongLength {
    /// Length required, in bytes.
    pub expected: usize,
    /// Length found, in bytes.
    pub actual: usize,
}

/// The secret of one version of a customer master key: exactly 32 bytes.
///
/// Generated, imported, or unwrapped from a record. It never encrypts anything itself:
/// [`BlobKeys`](super::BlobKeys) derives the keys that do.
///
/// It cannot be printed, cloned, compared or serialised:
/// ```compile_fail,E0277
/// # let material = cmk_operator::crypto::KeyMaterial::from_bytes(&[0; 32])?;
/// println!("{material:?}");
/// # Ok::<(), cmk_operator::crypto::WrongLength>(())
/// ```
/// ```compile_fail,E0599
/// # let material = cmk_operator::crypto::KeyMaterial::from_bytes(&[0; 32])?;
/// let copy = material.clone();
/// # Ok::<(), cmk_operator::crypto::WrongLength>(())
/// ```
pub struct KeyMaterial(SecretKey);

impl ZeroizeOnDrop for KeyMaterial {}

impl KeyMaterial {
    /// New random material.
    ///
    /// # Errors
    /// The generator failed.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        Self::try_init(|bytes| random.fill(bytes))
    }

    /// Existing material, for instance imported. The caller wipes its own copy.
    ///
    /// # Errors
    /// `bytes` are not exactly 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrongLength> {
        Ok(Self(secret_key_from(bytes)?))
    }

    /// Material written in place by `write`, so that no other copy exists.
    pub(super) fn try_init<E>(write: impl FnOnce(&mut [u8; KEY_LEN]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = SecretKey::default();
        write(&mut key)?;
        Ok(Self(key))
    }

    /// The secret bytes. Do not copy them into anything that is not wiped.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// Copies a key into its own wiped memory.
pub(super) fn secret_key_from(bytes: &[u8]) -> Result<SecretKey, WrongLength> {
    if bytes.len() != KEY_LEN {
        return Err(WrongLength { expected: KEY_LEN, actual: bytes.len() });
    }
    let mut key = SecretKey::default();
    key.copy_from_slice(bytes);
    Ok(key)
}

/// Secret bytes of any length: what a user encrypted, or a data key.
///
/// The bytes are secret, their number is not.
///
/// It cannot be printed, cloned, compared or serialised:
/// ```compile_fail,E0277
/// let plaintext = cmk_operator::crypto::Plaintext::from(vec![1, 2, 3]);
/// println!("{plaintext:?}");
/// ```
/// ```compile_fail,E0277
/// let plaintext = cmk_operator::crypto::Plaintext::from(vec![1, 2, 3]);
/// println!("{plaintext}");
/// ```
/// ```compile_fail,E0599
/// let plaintext = cmk_operator::crypto::Plaintext::from(vec![1, 2, 3]);
/// let copy = plaintext.clone();
/// ```
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl ZeroizeOnDrop for Plaintext {}

impl Plaintext {
    /// `len` random bytes: a new data key.
    ///
    /// # Errors
    /// The generator failed.
    pub fn generate(random: &dyn Random, len: usize) -> Result<Self, RandomError> {
        Self::try_init(len, |bytes| random.fill(bytes))
    }

    /// Bytes written in place by `write` into a buffer that never grows: growing would
    /// leave a copy behind.
    pub(super) fn try_init<E>(len: usize, write: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new(vec![0; len]);
        write(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The secret bytes. Do not copy them into anything that is not wiped.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these are the same bytes, in time that depends on the lengths only.
    #[must_use]
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }
}

impl From<Vec<u8>> for Plaintext {
    /// Takes the buffer over without copying it.
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::doubles::{Broken, Fixed};

    #[test]
    fn material_has_exactly_32_bytes() {
        for actual in [0, 16, 31, 33, 64] {
            assert_eq!(KeyMaterial::from_bytes(&vec![1; actual]).err(), Some(WrongLength { expected: 32, actual }));
        }
        let material = KeyMaterial::from_bytes(&[7; 32]).unwrap();
        assert_eq!(material.expose(), &[7; 32]);
    }

    #[test]
    fn material_and_data_keys_come_from_the_given_randomness() {
        let bytes: Vec<u8> = (0..40).collect();
        let material = KeyMaterial::generate(&Fixed::new(&bytes)).unwrap();
        assert_eq!(material.expose(), &bytes[..32]);
        let data_key = Plaintext::generate(&Fixed::new(&bytes), 5).unwrap();
        assert_eq!(data_key.expose(), &bytes[..5]);
        assert!(KeyMaterial::generate(&Broken).is_err());
        assert!(Plaintext::generate(&Broken, 32).is_err());
    }

    #[test]
    fn plaintext_compares_bytes_and_length() {
        let plaintext = Plaintext::from(vec![1, 2, 3]);
        assert_eq!(plaintext.len(), 3);
        assert!(!plaintext.is_empty());
        assert!(plaintext.ct_eq(&[1, 2, 3]));
        for other in [&[1, 2, 4][..], &[1, 2], &[1, 2, 3, 0], &[]] {
            assert!(!plaintext.ct_eq(other));
        }
        assert!(Plaintext::from(vec![]).is_empty());
    }
}
