//! New access keys, in the form that the clients of both clouds take.

use zeroize::{Zeroize, Zeroizing};

use super::AccessKeySecret;
use crate::crypto::{Random, RandomError, random_array};

/// What every id begins with.
const ID_PREFIX: &str = "CMKA";
/// Base32 (RFC 4648 section 6): no client takes other characters in an id than upper-case letters and digits.
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Random characters of an id: 80 bits.
const ID_LENGTH: usize = 16;
/// Nothing that a shell, an INI file or a URL changes.
const SECRET_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Characters of a secret, as many as AWS's have: 238 bits.
const SECRET_LENGTH: usize = 40;
/// Bytes below this are a multiple of the alphabet's length, so that each character is as likely as the others.
const UNBIASED: u8 = 62 * 4;

/// An access key that nobody has yet.
pub struct NewAccessKey {
    /// Its public half: `CMKA` and 16 characters of base32.
    pub id: String,
    /// Its secret half: 40 letters and digits.
    pub secret: AccessKeySecret,
}

/// Makes an access key.
///
/// # Errors
/// The generator failed.
pub fn generate(random: &dyn Random) -> Result<NewAccessKey, RandomError> {
    let bytes: [u8; ID_LENGTH] = random_array(random)?;
    let characters = bytes.iter().map(|byte| char::from(ID_ALPHABET[usize::from(byte % 32)]));
    let id = ID_PREFIX.chars().chain(characters).collect();
    Ok(NewAccessKey { id, secret: secret(random)? })
}

fn secret(random: &dyn Random) -> Result<AccessKeySecret, RandomError> {
    // As long as it ever gets, so that it does not move and leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(SECRET_LENGTH));
    let mut bytes = Zeroizing::new([0_u8; SECRET_LENGTH]);
    while text.len() < SECRET_LENGTH {
        random.fill(&mut bytes[..])?;
        let left = SECRET_LENGTH - text.len();
        let unbiased = bytes.iter().filter(|byte| **byte < UNBIASED).take(left);
        text.extend(unbiased.map(|byte| char::from(SECRET_ALPHABET[usize::from(byte % 62)])));
    }
    bytes.zeroize();
    Ok(AccessKeySecret::new(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crypto::SystemRandom;

    /// Gives out one byte after the other, from 0 on.
    struct Counting(std::sync::Mutex<u8>);

    impl Random for Counting {
        fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError> {
            let mut next = self.0.lock().unwrap();
            for byte in buf {
                *byte = *next;
                *next = next.wrapping_add(1);
            }
            Ok(())
        }
    }

    #[test]
    fn both_halves_are_what_the_clients_take() {
        let mut ids = BTreeSet::new();
        let mut secrets = BTreeSet::new();
        for _ in 0..200 {
            let NewAccessKey { id, secret } = generate(&SystemRandom).unwrap();
            // AWS: 16 to 128 word characters.
            assert!(id.len() == 20 && id.starts_with("CMKA"), "{id}");
            assert!(id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{id}");
            assert_eq!(secret.expose().len(), 40);
            assert!(secret.expose().bytes().all(|b| b.is_ascii_alphanumeric()));
            ids.insert(id);
            secrets.insert(secret.expose().to_owned());
        }
        assert_eq!((ids.len(), secrets.len()), (200, 200));
    }

    #[test]
    fn every_character_is_as_likely_as_the_others() {
        let random = Counting(std::sync::Mutex::new(0));
        let mut counts = std::collections::BTreeMap::<char, usize>::new();
        // 256 bytes, of which 8 are left out, are four times the alphabet.
        let text: String = (0..62).map(|_| secret(&random).unwrap().expose().to_owned()).collect();
        text.chars().for_each(|c| *counts.entry(c).or_default() += 1);
        assert_eq!(counts.len(), 62);
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - least <= 12, "{counts:?}");
    }

    #[test]
    fn without_randomness_there_is_no_access_key() {
        struct None;
        impl Random for None {
            fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
                Err(getrandom::Error::UNEXPECTED.into())
            }
        }
        assert!(generate(&None).is_err());
    }
}
