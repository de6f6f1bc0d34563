//! Recognising the identical material when it is imported again.
//!
//! Imported material may expire or be removed, and only the same material may come back, so that something which
//! outlives the material has to recognise it. That is HMAC-SHA-256 of the material under a random *check key*, one
//! for each customer master key, which is itself wrapped under the root key as a version of the key is. Without the
//! root key the value says nothing about the material; a bare hash would let anybody confirm a guess, and
//! show which keys have the same material.
//!
//! # Limit
//! It recognises material, nothing more: who can write the record can exchange the check along with it, which the
//! record's MAC prevents.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::length_prefix::length_prefix;
use super::mac::{MAC_LEN, hmac_sha256, tag};
use super::wrap::{WrapContext, Wrapped};
use super::{CryptoError, KeyMaterial, Random, RootKeyRing};

/// Says what is authenticated, so that no other use of the same key could collide.
const DOMAIN: &[u8] = b"cmk-operator/v1/material-check";

/// What is kept about imported material in order to recognise it.
///
/// It can neither be printed nor compared: `value` is derived from a secret, and although nobody can use it
/// without the root key, it has no business in a log.
#[derive(Clone)]
pub struct MaterialCheck {
    /// The check key, wrapped as a version of the customer master key is.
    pub check_key: Wrapped,
    /// HMAC-SHA-256 of the material under the check key.
    pub value: [u8; MAC_LEN],
}

fn mac(check_key: &KeyMaterial, material: &KeyMaterial) -> Hmac<Sha256> {
    hmac_sha256(check_key.expose(), &[&length_prefix(DOMAIN), DOMAIN, material.expose()])
}

impl RootKeyRing {
    /// Makes the check of newly imported material, under a check key of its own: 32 bytes drawn from `random`, then
    /// the nonce of 12 that wraps them.
    ///
    /// `context` is where the check key belongs: its `version_id` is an id for this purpose alone, never that of a
    /// version of the key.
    ///
    /// # Errors
    /// [`CryptoError::Random`] only.
    pub fn new_material_check(
        &self,
        random: &dyn Random,
        context: &WrapContext<'_>,
        material: &KeyMaterial,
    ) -> Result<MaterialCheck, CryptoError> {
        let check_key = KeyMaterial::generate(random)?;
        let value = tag(mac(&check_key, material));
        Ok(MaterialCheck { check_key: self.wrap(random, context, &check_key)?, value })
    }

    /// Whether `material` is what `check` was made from, in constant time. `context` is the one it was made with.
    ///
    /// # Errors
    /// The check key does not unwrap: [`CryptoError::UnknownRootKey`] or [`CryptoError::Refused`].
    pub fn is_same_material(
        &self,
        context: &WrapContext<'_>,
        check: &MaterialCheck,
        material: &KeyMaterial,
    ) -> Result<bool, CryptoError> {
        let check_key = self.unwrap_material(context, check.check_key.root_key_id, &check.check_key.bytes)?;
        Ok(mac(&check_key, material).verify_slice(&check.value).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::doubles::{Broken, Fixed};
    use crate::crypto::{RootKey, SystemRandom};
    use uuid::Uuid;

    const CONTEXT: WrapContext<'static> =
        WrapContext { store: "ClusterKeyStore/default", key_id: Uuid::from_u128(1), version_id: Uuid::from_u128(9) };

    fn root_key(byte: u8) -> RootKey {
        RootKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn ring() -> RootKeyRing {
        RootKeyRing::new(root_key(1), [root_key(2)])
    }

    fn material(byte: u8) -> KeyMaterial {
        KeyMaterial::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn only_the_same_material_is_recognised() {
        let check = ring().new_material_check(&SystemRandom, &CONTEXT, &material(7)).unwrap();
        assert_eq!(ring().is_same_material(&CONTEXT, &check, &material(7)), Ok(true));
        assert_eq!(ring().is_same_material(&CONTEXT, &check, &material(8)), Ok(false));
        for bit in 0..256 {
            let mut bytes = [7; 32];
            bytes[bit / 8] ^= 1 << (bit % 8);
            let other = KeyMaterial::from_bytes(&bytes).unwrap();
            assert_eq!(ring().is_same_material(&CONTEXT, &check, &other), Ok(false), "bit {bit}");
        }
    }

    #[test]
    fn every_check_has_its_own_key() {
        let first = ring().new_material_check(&SystemRandom, &CONTEXT, &material(7)).unwrap();
        let second = ring().new_material_check(&SystemRandom, &CONTEXT, &material(7)).unwrap();
        assert_ne!(first.value, second.value);
        let mixed = MaterialCheck { check_key: second.check_key, value: first.value };
        assert_eq!(ring().is_same_material(&CONTEXT, &mixed, &material(7)), Ok(false));
    }

    #[test]
    fn a_changed_value_recognises_nothing() {
        let check = ring().new_material_check(&SystemRandom, &CONTEXT, &material(7)).unwrap();
        for bit in 0..256 {
            let mut changed = check.clone();
            changed.value[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ring().is_same_material(&CONTEXT, &changed, &material(7)), Ok(false), "bit {bit}");
        }
    }

    #[test]
    fn a_check_belongs_to_one_key_and_outlives_a_change_of_the_root_key() {
        let old = RootKeyRing::new(root_key(2), []);
        let check = old.new_material_check(&SystemRandom, &CONTEXT, &material(7)).unwrap();
        assert_eq!(ring().is_same_material(&CONTEXT, &check, &material(7)), Ok(true));
        let elsewhere = WrapContext { key_id: Uuid::from_u128(2), ..CONTEXT };
        assert_eq!(ring().is_same_material(&elsewhere, &check, &material(7)), Err(CryptoError::Refused));
        let unknown = RootKeyRing::new(root_key(3), []).is_same_material(&CONTEXT, &check, &material(7));
        assert_eq!(unknown, Err(CryptoError::UnknownRootKey(root_key(2).id())));

        // Its key is wrapped again as every version is; the value stays.
        let Wrapped { root_key_id, bytes } = &check.check_key;
        let check_key = ring().rewrap(&SystemRandom, &CONTEXT, *root_key_id, bytes).unwrap().unwrap();
        let check = MaterialCheck { check_key, ..check };
        let new = RootKeyRing::new(root_key(1), []);
        assert_eq!(new.is_same_material(&CONTEXT, &check, &material(7)), Ok(true));
    }

    #[test]
    fn nothing_is_made_without_randomness() {
        // None, too little for the check key, too little for the nonce.
        for random in [&Broken as &dyn Random, &Fixed::new(&[0; 31]), &Fixed::new(&[0; 32 + 11])] {
            let error = ring().new_material_check(random, &CONTEXT, &material(7)).err();
            assert!(matches!(error, Some(CryptoError::Random(_))));
        }
    }
}
