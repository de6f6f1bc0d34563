//! Authentication of stored records, so that what a record says about a key (whose it is,
//! whether it may be purged) is believed only if this program wrote it.
//!
//! HMAC-SHA-256 over the name of the Secret and the bytes of the record as stored. The name is
//! included so that one key's record cannot be put in another's place. An older record of
//! the same name still verifies: a MAC does not stop a replay.

use super::length_prefix::length_prefix;
use super::mac::{MAC_LEN, hmac_sha256, tag};
use super::secret::KEY_LEN;
use super::{CryptoError, RootKeyId, RootKeyRing};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Says what is authenticated, so that no other use of the same key could collide.
const DOMAIN: &[u8] = b"cmk-operator/v1/record";

fn mac(key: &[u8; KEY_LEN], name: &str, record: &[u8]) -> Hmac<Sha256> {
    let name = name.as_bytes();
    hmac_sha256(key, &[&length_prefix(DOMAIN), DOMAIN, &length_prefix(name), name, &length_prefix(record), record])
}

impl RootKeyRing {
    /// The MAC under the primary root key of the record stored in the Secret `name`.
    #[must_use]
    pub fn record_mac(&self, name: &str, record: &[u8]) -> [u8; MAC_LEN] {
        tag(mac(self.primary().record_mac_key(), name, record))
    }

    /// Checks the MAC of the record stored in the Secret `name`, under every root key of the
    /// ring and in constant time. Returns the root key that it was made with: if that is not
    /// the primary one, the record should be written again.
    ///
    /// # Errors
    /// [`CryptoError::Refused`]: the record or its name was changed, or the root key it
    /// was written under is not loaded.
    pub fn verify_record_mac(&self, name: &str, record: &[u8], stored: &[u8]) -> Result<RootKeyId, CryptoError> {
        self.keys()
            .find(|key| mac(key.record_mac_key(), name, record).verify_slice(stored).is_ok())
            .map(|key| key.id())
            .ok_or(CryptoError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::RootKey;

    fn root_key(byte: u8) -> RootKey {
        RootKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn ring() -> RootKeyRing {
        RootKeyRing::new(root_key(1), [root_key(2)])
    }

    #[test]
    fn a_record_verifies_under_every_root_key_of_the_ring() {
        let mac = ring().record_mac("name", b"record");
        let verified = ring().verify_record_mac("name", b"record", &mac);
        assert_eq!(verified, Ok(root_key(1).id()));
        let old = RootKeyRing::new(root_key(2), []).record_mac("name", b"record");
        assert_ne!(mac, old);
        let verified = ring().verify_record_mac("name", b"record", &old);
        assert_eq!(verified, Ok(root_key(2).id()));
    }

    #[test]
    fn anything_else_is_refused() {
        let mac = ring().record_mac("name", b"record");
        let refused = |ring: RootKeyRing, name: &str, record: &[u8], mac: &[u8]| {
            assert_eq!(ring.verify_record_mac(name, record, mac), Err(CryptoError::Refused));
        };
        refused(ring(), "another", b"record", &mac);
        refused(ring(), "name", b"another", &mac);
        refused(ring(), "name", b"", &mac);
        // The same bytes, divided differently.
        refused(ring(), "namer", b"ecord", &mac);
        refused(ring(), "nam", b"erecord", &mac);
        refused(RootKeyRing::new(root_key(3), []), "name", b"record", &mac);
        for len in 0..MAC_LEN {
            refused(ring(), "name", b"record", &mac[..len]);
        }
        refused(ring(), "name", b"record", &[&mac[..], &[0]].concat());
        for bit in 0..MAC_LEN * 8 {
            let mut changed = mac;
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(ring(), "name", b"record", &changed);
        }
    }
}
