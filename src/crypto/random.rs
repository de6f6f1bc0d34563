//! The single source of randomness of the program.
//!
//! Keys, nonces and identifiers are made from a [`Random`] given by the caller; only
//! [`SystemRandom`] talks to the operating system. Tests give a fixed one.

use uuid::{Builder, Uuid};

/// A cryptographically secure source of random bytes.
pub trait Random: Send + Sync {
    /// Overwrites all of `buf` with unpredictable bytes.
    ///
    /// # Errors
    /// No randomness could be had. `buf` then holds nothing usable, and the caller must
    /// give up what it was about to make.
    fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError>;
}

/// The random number generator failed, so nothing was generated.
///
/// On Linux that means a kernel or a seccomp profile without `getrandom(2)` and without
/// `/dev/urandom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed: {0}")]
pub struct RandomError(getrandom::Error);

impl From<getrandom::Error> for RandomError {
    fn from(error: getrandom::Error) -> Self {
        Self(error)
    }
}

/// The operating system's generator. It keeps no state in the process, so a fork or a
/// snapshot of a virtual machine cannot repeat its output from here.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError> {
        Ok(getrandom::fill(buf)?)
    }
}

/// `N` random bytes that are not secret, such as a nonce. (An array is copied whenever it
/// moves and is never wiped: make keys with the `generate` functions of their types.)
///
/// # Errors
/// The generator failed.
pub fn random_array<const N: usize>(random: &dyn Random) -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(bytes)
}

/// A random UUID (version 4, RFC 9562 section 5.4): 122 random bits.
///
/// # Errors
/// The generator failed.
pub fn random_uuid(random: &dyn Random) -> Result<Uuid, RandomError> {
    Ok(Builder::from_random_bytes(random_array(random)?).into_uuid())
}

/// Generators for tests.
#[cfg(test)]
pub(crate) mod doubles {
    use super::{Random, RandomError};
    use std::sync::Mutex;

    /// Gives out the bytes it was made from, each once; fails when they are used up.
    pub(crate) struct Fixed(Mutex<Vec<u8>>);

    impl Fixed {
        pub(crate) fn new(bytes: &[u8]) -> Self {
            Self(Mutex::new(bytes.to_vec()))
        }
    }

    impl Random for Fixed {
        fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError> {
            let mut left = self.0.lock().unwrap();
            if left.len() < buf.len() {
                return Err(getrandom::Error::UNEXPECTED.into());
            }
            let rest = left.split_off(buf.len());
            buf.copy_from_slice(&left);
            *left = rest;
            Ok(())
        }
    }

    /// Always fails, after having written something.
    pub(crate) struct Broken;

    impl Random for Broken {
        fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError> {
            buf.fill(0x55);
            Err(getrandom::Error::UNEXPECTED.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::doubles::{Broken, Fixed};
    use super::*;

    #[test]
    fn the_system_gives_different_bytes_each_time() {
        let first: [u8; 32] = random_array(&SystemRandom).unwrap();
        let second: [u8; 32] = random_array(&SystemRandom).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn uuids_are_version_4() {
        let uuid = random_uuid(&Fixed::new(&[0xff; 16])).unwrap();
        assert_eq!(uuid.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn failure_is_reported() {
        assert!(random_uuid(&Broken).is_err());
        assert!(random_array::<8>(&Broken).is_err());
    }
}
