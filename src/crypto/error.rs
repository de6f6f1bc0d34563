//! What may go wrong, without saying anything an attacker could use.

use super::{RandomError, RootKeyId};

/// A failure of an operation under a root key, or of sealing.
///
/// It never carries key bytes, plaintext or a reason for a cryptographic refusal, so it
/// may be logged and shown in a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The data names a root key that the ring does not hold. Which root key wrapped a
    /// record is public, and an administrator needs it to find the missing key.
    #[error("the root key {0} is not loaded")]
    UnknownRootKey(RootKeyId),
    /// Wrong key, wrong context, wrong length, or tampered data: deliberately one error.
    #[error("the data could not be authenticated")]
    Refused,
    /// The plaintext is longer than AES-GCM can encrypt under one nonce (2^36 - 32 bytes,
    /// NIST SP 800-38D 5.2.1.1).
    #[error("the plaintext is too long")]
    TooLong,
    /// No randomness, so nothing was sealed.
    #[error(transparent)]
    Random(#[from] RandomError),
}
