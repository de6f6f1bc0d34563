//! Wrapping of key material under a root key, for storing it.
//!
//! AES-256-GCM with a random nonce of 96 bits under a key derived from the root key. The
//! material is bound to where it belongs: moved to another key, version or store, it does
//! not unwrap.
//!
//! # Limit
//! With random nonces at most 2^32 wraps may be made under one root key (NIST SP 800-38D
//! section 8.3; the chance of a repeated nonce is then below 2^-32). One is made for every
//! version of every key, for the check key of imported material and, when the primary root key
//! changes, one under the new key for each of them. An installation that rotated 10,000 keys every day would need more than
//! a thousand years.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use uuid::Uuid;

use super::length_prefix::push_length_prefixed;
use super::random::random_array;
use super::secret::KEY_LEN;
use super::{CryptoError, KeyMaterial, Random, RootKeyId, RootKeyRing};

/// The number of this format; authenticated, not stored in the wrapped bytes.
const FORMAT: u32 = 1;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// Length in bytes of wrapped material: nonce 12, ciphertext 32, tag 16.
pub const WRAPPED_LEN: usize = NONCE_LEN + KEY_LEN + TAG_LEN;

/// Where the material belongs. The same values must be given to unwrap it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapContext<'a> {
    /// The key store, in the form the caller always gives it.
    pub store: &'a str,
    /// The customer master key.
    pub key_id: Uuid,
    /// The version of that key.
    pub version_id: Uuid,
}

impl WrapContext<'_> {
    /// The authenticated data: format, store, key, version, root key. Only the store varies
    /// in length, and it is preceded by its length, so that no two contexts encode alike.
    fn encode(&self, root_key_id: RootKeyId) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 4 + self.store.len() + 3 * 16);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        push_length_prefixed(&mut out, self.store.as_bytes());
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(self.version_id.as_bytes());
        out.extend_from_slice(root_key_id.as_bytes());
        out
    }
}

/// Wrapped material. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The root key that unwraps it.
    pub root_key_id: RootKeyId,
    /// `nonce 12 || ciphertext 32 || tag 16`: always [`WRAPPED_LEN`] bytes.
    pub bytes: Vec<u8>,
}

impl RootKeyRing {
    /// Wraps material with the primary root key, under a nonce of 12 bytes drawn from
    /// `random` in one call.
    ///
    /// # Errors
    /// [`CryptoError::Random`] only.
    pub fn wrap(
        &self,
        random: &dyn Random,
        context: &WrapContext<'_>,
        material: &KeyMaterial,
    ) -> Result<Wrapped, CryptoError> {
        let root_key = self.primary();
        let nonce: [u8; NONCE_LEN] = random_array(random)?;
        let mut ciphertext = [0; KEY_LEN];
        // From one buffer into the other, so that the material is never in the output. Neither
        // step can fail: both buffers have 32 bytes, which is not too long for AES-GCM.
        let buffers = InOutBuf::new(material.expose(), &mut ciphertext).map_err(|_| CryptoError::TooLong)?;
        let tag = root_key
            .wrapping_cipher()
            .encrypt_inout_detached(&nonce.into(), &context.encode(root_key.id()), buffers)
            .map_err(|_| CryptoError::TooLong)?;
        Ok(Wrapped { root_key_id: root_key.id(), bytes: [&nonce[..], &ciphertext, &tag].concat() })
    }

    /// Unwraps material, with the root key that wrapped it.
    ///
    /// # Errors
    /// - [`CryptoError::UnknownRootKey`]: the ring does not hold that root key.
    /// - [`CryptoError::Refused`]: the bytes were not wrapped by that root key in this
    ///   context, or were changed.
    pub fn unwrap_material(
        &self,
        context: &WrapContext<'_>,
        root_key_id: RootKeyId,
        wrapped: &[u8],
    ) -> Result<KeyMaterial, CryptoError> {
        let root_key = self.get(root_key_id).ok_or(CryptoError::UnknownRootKey(root_key_id))?;
        let (nonce, rest) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(CryptoError::Refused)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(CryptoError::Refused)?;
        KeyMaterial::try_init(|material| {
            // Fails if the ciphertext does not have 32 bytes.
            let buffers = InOutBuf::new(ciphertext, material).map_err(|_| CryptoError::Refused)?;
            root_key
                .wrapping_cipher()
                .decrypt_inout_detached(nonce.into(), &context.encode(root_key_id), buffers, tag.into())
                .map_err(|_| CryptoError::Refused)
        })
    }

    /// Wraps material again that was wrapped by another root key than the primary one. `None`: the primary one
    /// wrapped it already, there is nothing to do (and nothing was verified).
    ///
    /// # Errors
    /// As [`unwrap_material`](Self::unwrap_material) and [`wrap`](Self::wrap).
    pub fn rewrap(
        &self,
        random: &dyn Random,
        context: &WrapContext<'_>,
        root_key_id: RootKeyId,
        wrapped: &[u8],
    ) -> Result<Option<Wrapped>, CryptoError> {
        if root_key_id == self.primary_id() {
            return Ok(None);
        }
        let material = self.unwrap_material(context, root_key_id, wrapped)?;
        self.wrap(random, context, &material).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::doubles::{Broken, Fixed};
    use crate::crypto::{RootKey, SystemRandom};

    const CONTEXT: WrapContext<'static> =
        WrapContext { store: "ClusterKeyStore/default", key_id: Uuid::from_u128(1), version_id: Uuid::from_u128(2) };

    fn root_key(byte: u8) -> RootKey {
        RootKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn ring() -> RootKeyRing {
        RootKeyRing::new(root_key(1), [root_key(2)])
    }

    fn material() -> KeyMaterial {
        KeyMaterial::from_bytes(&[42; 32]).unwrap()
    }

    #[test]
    fn material_unwraps_where_it_belongs() {
        let wrapped = ring().wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        assert_eq!(wrapped.root_key_id, root_key(1).id());
        assert_eq!(wrapped.bytes.len(), WRAPPED_LEN);
        let unwrapped = ring().unwrap_material(&CONTEXT, wrapped.root_key_id, &wrapped.bytes).unwrap();
        assert_eq!(unwrapped.expose(), material().expose());
    }

    #[test]
    fn a_root_key_that_no_longer_wraps_still_unwraps() {
        let old = RootKeyRing::new(root_key(2), []);
        let wrapped = old.wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        let unwrapped = ring().unwrap_material(&CONTEXT, wrapped.root_key_id, &wrapped.bytes);
        assert_eq!(unwrapped.unwrap().expose(), material().expose());
    }

    #[test]
    fn an_unknown_root_key_is_named() {
        let other = RootKeyRing::new(root_key(3), []);
        let wrapped = other.wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        assert_eq!(
            ring().unwrap_material(&CONTEXT, wrapped.root_key_id, &wrapped.bytes).err(),
            Some(CryptoError::UnknownRootKey(root_key(3).id()))
        );
    }

    #[test]
    fn material_moved_elsewhere_is_refused() {
        let wrapped = ring().wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        let refused = |context: &WrapContext<'_>, root_key_id| {
            assert_eq!(ring().unwrap_material(context, root_key_id, &wrapped.bytes).err(), Some(CryptoError::Refused));
        };
        let id = wrapped.root_key_id;
        for store in ["", "ClusterKeyStore/defaul", "ClusterKeyStore/default\0", "x"] {
            refused(&WrapContext { store, ..CONTEXT }, id);
        }
        let (key_id, version_id) = (CONTEXT.key_id, CONTEXT.version_id);
        let another = Uuid::from_u128(3);
        refused(&WrapContext { key_id: another, ..CONTEXT }, id);
        refused(&WrapContext { version_id: another, ..CONTEXT }, id);
        refused(&WrapContext { key_id: version_id, version_id: key_id, ..CONTEXT }, id);
        refused(&CONTEXT, root_key(2).id());
    }

    #[test]
    fn every_changed_bit_and_every_other_length_is_refused() {
        let wrapped = ring().wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        let refused = |bytes: &[u8]| {
            assert_eq!(ring().unwrap_material(&CONTEXT, wrapped.root_key_id, bytes).err(), Some(CryptoError::Refused));
        };
        for bit in 0..wrapped.bytes.len() * 8 {
            let mut bytes = wrapped.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            refused(&bytes);
        }
        for len in 0..WRAPPED_LEN {
            refused(&wrapped.bytes[..len]);
            refused(&wrapped.bytes[WRAPPED_LEN - len..]);
        }
        for extra in [1, 16, 60] {
            refused(&[&wrapped.bytes[..], &vec![0; extra]].concat());
            refused(&[&vec![0; extra], &wrapped.bytes[..]].concat());
        }
    }

    #[test]
    fn every_wrap_has_its_own_nonce() {
        let first = ring().wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        let second = ring().wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        assert_ne!(first.bytes[..NONCE_LEN], second.bytes[..NONCE_LEN]);
        assert_ne!(first.bytes[NONCE_LEN..], second.bytes[NONCE_LEN..]);
    }

    #[test]
    fn only_what_another_root_key_wrapped_is_wrapped_again() {
        let old = RootKeyRing::new(root_key(2), []);
        let wrapped = old.wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        let again = ring().rewrap(&SystemRandom, &CONTEXT, wrapped.root_key_id, &wrapped.bytes).unwrap().unwrap();
        assert_eq!(again.root_key_id, root_key(1).id());
        let unwrapped = ring().unwrap_material(&CONTEXT, again.root_key_id, &again.bytes).unwrap();
        assert_eq!(unwrapped.expose(), material().expose());
        assert_eq!(ring().rewrap(&SystemRandom, &CONTEXT, again.root_key_id, &again.bytes), Ok(None));
    }

    #[test]
    fn what_does_not_unwrap_is_not_wrapped_again() {
        let old = RootKeyRing::new(root_key(2), []);
        let Wrapped { root_key_id, bytes } = old.wrap(&SystemRandom, &CONTEXT, &material()).unwrap();
        let rewrap = |context: &WrapContext<'_>, id, bytes: &[u8]| ring().rewrap(&SystemRandom, context, id, bytes);
        let elsewhere = WrapContext { version_id: Uuid::nil(), ..CONTEXT };
        assert_eq!(rewrap(&elsewhere, root_key_id, &bytes), Err(CryptoError::Refused));
        assert_eq!(rewrap(&CONTEXT, root_key_id, &bytes[1..]), Err(CryptoError::Refused));
        let unknown = root_key(3).id();
        assert_eq!(rewrap(&CONTEXT, unknown, &bytes), Err(CryptoError::UnknownRootKey(unknown)));
        let error = ring().rewrap(&Broken, &CONTEXT, root_key_id, &bytes).err();
        assert!(matches!(error, Some(CryptoError::Random(_))));
    }

    #[test]
    fn nothing_is_wrapped_without_randomness() {
        for random in [&Broken as &dyn Random, &Fixed::new(&[0; NONCE_LEN - 1])] {
            let error = ring().wrap(random, &CONTEXT, &material()).err();
            assert!(matches!(error, Some(CryptoError::Random(_))));
        }
    }
}
