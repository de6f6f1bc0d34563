//! HMAC-SHA-256, in the one configuration used here.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::secret::KEY_LEN;

/// Length of an HMAC-SHA-256 tag in bytes; tags are never truncated.
pub(super) const MAC_LEN: usize = 32;

/// An HMAC-SHA-256 over the concatenation of the parts, not yet finished: the caller either
/// takes the tag or verifies one (`verify_slice` is constant time).
///
/// The key has a fixed length shorter than a block of SHA-256, so that no two keys are
/// equivalent, as HMAC keys of different lengths may be.
pub(super) fn hmac_sha256(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC takes keys of every length (RFC 2104 section 2).
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// The tag of a finished MAC. It is public: never compare it with `==`, verify instead.
pub(super) fn tag(mac: Hmac<Sha256>) -> [u8; MAC_LEN] {
    mac.finalize().into_bytes().into()
}
