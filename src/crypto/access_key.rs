//! The secrets of access keys, sealed under a root key for storing them.
//!
//! ```text
//! offset  length
//!      0      24  nonce
//!     24       n  ciphertext of the secret
//!   24+n      16  tag
//! ```
//!
//! XAES-256-GCM under a key derived from the root key. A secret is bound to its access key id and to the Secret whose
//! record it is in: moved to another one, it does not open.
//!
//! XAES-256-GCM with its nonces of 192 bits, as for import tokens: users cause access keys to be made, and nothing counts
//! them across replicas and years. The derived key is theirs alone, so they use up nothing of the bound for wrapping.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;

use super::length_prefix::push_length_prefixed;
use super::random::random_array;
use super::{CryptoError, Plaintext, Random, RootKeyId, RootKeyRing, Wrapped};

/// The number of this format; authenticated, not stored in the sealed bytes.
const FORMAT: u32 = 1;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// How many bytes longer than the secret its sealed form is.
pub const ACCESS_KEY_SECRET_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Where the secret of an access key belongs. The same values must be given to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessKeyContext<'a> {
    /// The name of the Secret that holds the record.
    pub record_name: &'a str,
    /// The access key's id.
    pub access_key_id: &'a str,
}

impl AccessKeyContext<'_> {
    /// The authenticated data: format, record, access key, root key.
    fn encode(&self, root_key_id: RootKeyId) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 4 + self.record_name.len() + 4 + self.access_key_id.len() + 16);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        push_length_prefixed(&mut out, self.record_name.as_bytes());
        push_length_prefixed(&mut out, self.access_key_id.as_bytes());
        out.extend_from_slice(root_key_id.as_bytes());
        out
    }
}

impl RootKeyRing {
    /// Seals the secret of an access key with the primary root key, under a nonce of 24 bytes drawn from `random` in one
    /// call.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::TooLong`], for no secret that is one.
    pub fn seal_access_key_secret(
        &self,
        random: &dyn Random,
        context: &AccessKeyContext<'_>,
        secret: &[u8],
    ) -> Result<Wrapped, CryptoError> {
        let root_key = self.primary();
        let nonce: [u8; NONCE_LEN] = random_array(random)?;
        let mut ciphertext = vec![0; secret.len()];
        // From one buffer into the other, so that the secret is never in the output.
        let buffers = InOutBuf::new(secret, &mut ciphertext).map_err(|_| CryptoError::TooLong)?;
        let tag = root_key
            .access_key_cipher()
            .encrypt_inout_detached(&nonce.into(), &context.encode(root_key.id()), buffers)
            .map_err(|_| CryptoError::TooLong)?;
        Ok(Wrapped { root_key_id: root_key.id(), bytes: [&nonce[..], &ciphertext, &tag].concat() })
    }

    /// Opens the secret of an access key, with the root key that sealed it.
    ///
    /// # Errors
    /// - [`CryptoError::UnknownRootKey`]: the ring does not hold that root key.
    /// - [`CryptoError::Refused`]: the bytes were not sealed by that root key in this context, or were changed.
    pub fn open_access_key_secret(
        &self,
        context: &AccessKeyContext<'_>,
        root_key_id: RootKeyId,
        sealed: &[u8],
    ) -> Result<Plaintext, CryptoError> {
        let root_key = self.get(root_key_id).ok_or(CryptoError::UnknownRootKey(root_key_id))?;
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(CryptoError::Refused)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(CryptoError::Refused)?;
        Plaintext::try_init(ciphertext.len(), |secret| {
            let buffers = InOutBuf::new(ciphertext, secret).map_err(|_| CryptoError::Refused)?;
            root_key
                .access_key_cipher()
                .decrypt_inout_detached(nonce.into(), &context.encode(root_key_id), buffers, tag.into())
                .map_err(|_| CryptoError::Refused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::doubles::{Broken, Fixed};
    use crate::crypto::{RootKey, SystemRandom};

    const CONTEXT: AccessKeyContext<'static> =
        AccessKeyContext { record_name: "cmk-access-key-00", access_key_id: "CMKAAAAABBBBCCCCDDDD" };
    const SECRET: &[u8] = b"0123456789abcdefghijABCDEFGHIJ0123456789";

    fn root_key(byte: u8) -> RootKey {
        RootKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn ring() -> RootKeyRing {
        RootKeyRing::new(root_key(1), [root_key(2)])
    }

    fn sealed() -> Wrapped {
        ring().seal_access_key_secret(&SystemRandom, &CONTEXT, SECRET).unwrap()
    }

    #[test]
    fn a_secret_opens_where_it_belongs() {
        let first = sealed();
        assert_eq!(first.root_key_id, root_key(1).id());
        assert_eq!(first.bytes.len(), SECRET.len() + ACCESS_KEY_SECRET_OVERHEAD);
        assert!(ring().open_access_key_secret(&CONTEXT, first.root_key_id, &first.bytes).unwrap().ct_eq(SECRET));
        assert_ne!(first.bytes[..NONCE_LEN], sealed().bytes[..NONCE_LEN], "each has its own nonce");

        // Also under a root key that only unwraps, and under none that is not there.
        let old = RootKeyRing::new(root_key(2), []).seal_access_key_secret(&SystemRandom, &CONTEXT, SECRET).unwrap();
        assert!(ring().open_access_key_secret(&CONTEXT, old.root_key_id, &old.bytes).unwrap().ct_eq(SECRET));
        let error = RootKeyRing::new(root_key(3), []).open_access_key_secret(&CONTEXT, old.root_key_id, &old.bytes);
        assert_eq!(error.err(), Some(CryptoError::UnknownRootKey(root_key(2).id())));
    }

    #[test]
    fn a_secret_moved_elsewhere_is_refused() {
        let Wrapped { root_key_id, bytes } = sealed();
        let refused = |context: AccessKeyContext<'_>, root_key_id| {
            let opened = ring().open_access_key_secret(&context, root_key_id, &bytes);
            assert_eq!(opened.err(), Some(CryptoError::Refused));
        };
        refused(AccessKeyContext { record_name: "cmk-access-key-01", ..CONTEXT }, root_key_id);
        refused(AccessKeyContext { access_key_id: "CMKAAAAABBBBCCCCDDDE", ..CONTEXT }, root_key_id);
        // The same bytes, divided differently.
        refused(
            AccessKeyContext { record_name: "cmk-access-key-00C", access_key_id: "MKAAAAABBBBCCCCDDDD" },
            root_key_id,
        );
        refused(CONTEXT, root_key(2).id());
    }

    #[test]
    fn every_changed_bit_and_every_missing_byte_is_refused() {
        let Wrapped { root_key_id, bytes } = sealed();
        let refused = |bytes: &[u8]| {
            let opened = ring().open_access_key_secret(&CONTEXT, root_key_id, bytes);
            assert_eq!(opened.err(), Some(CryptoError::Refused));
        };
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(&changed);
        }
        for len in 0..bytes.len() {
            refused(&bytes[..len]);
        }
    }

    /// A key that wraps something else does not open it, even with the same root key.
    #[test]
    fn the_label_is_its_own() {
        let key = root_key(1);
        let (nonce, mut buffer) = ([0; NONCE_LEN], SECRET.to_vec());
        let tag = key
            .import_token_cipher()
            .encrypt_inout_detached(&nonce.into(), &CONTEXT.encode(key.id()), buffer.as_mut_slice().into())
            .unwrap();
        let bytes = [&nonce[..], &buffer, &tag].concat();
        assert_eq!(ring().open_access_key_secret(&CONTEXT, key.id(), &bytes).err(), Some(CryptoError::Refused));
    }

    #[test]
    fn nothing_is_sealed_without_randomness() {
        for random in [&Broken as &dyn Random, &Fixed::new(&[0; NONCE_LEN - 1])] {
            let error = ring().seal_access_key_secret(random, &CONTEXT, SECRET).err();
            assert!(matches!(error, Some(CryptoError::Random(_))));
        }
    }
}
