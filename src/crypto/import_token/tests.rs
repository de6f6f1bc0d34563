//! Import tokens: what they open with, and what they refuse.

use super::*;
use crate::crypto::random::doubles::{Broken, Fixed};
use crate::crypto::{RootKey, SystemRandom};
use proptest::prelude::*;
use std::sync::LazyLock;

const KEY_ID: Uuid = Uuid::from_u128(0x0102);
const ALGORITHM: WrappingAlgorithm = WrappingAlgorithm::RsaesOaepSha256;
const NOW: Timestamp = Timestamp::constant(1_800_000_000, 500_000_000);

/// One token for all tests: making a key pair takes long.
static ISSUED: LazyLock<ImportParameters> = LazyLock::new(|| issue(WrappingKeySpec::Rsa2048));

fn root_key(byte: u8) -> RootKey {
    RootKey::from_bytes(&[byte; 32]).unwrap()
}

fn ring() -> RootKeyRing {
    RootKeyRing::new(root_key(1), [root_key(2)])
}

fn issue(key_spec: WrappingKeySpec) -> ImportParameters {
    ring().issue_import_token(&SystemRandom, KEY_ID, ALGORITHM, key_spec, NOW).unwrap()
}

fn open_at(token: &str, now: Timestamp) -> Option<ImportTokenError> {
    ring().open_import_token(token, KEY_ID, ALGORITHM, now).err()
}

fn error(token: &str) -> Option<ImportTokenError> {
    open_at(token, NOW)
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The token, with its bytes changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = STANDARD.decode(&ISSUED.token).unwrap();
    change(&mut bytes);
    STANDARD.encode(bytes)
}

/// Authentic, whatever is in it.
fn sealed(header: Header, private_key: &[u8]) -> String {
    ring().seal_import_token(&SystemRandom, header, KEY_ID, private_key).unwrap()
}

fn header() -> Header {
    let expiry = NOW.as_second() + IMPORT_TOKEN_LIFETIME_SECONDS;
    Header { root_key_id: root_key(1).id(), expiry, algorithm: 1, key_spec: 1 }
}

fn private_key() -> Plaintext {
    ring().authenticate_import_token(&ISSUED.token, KEY_ID).unwrap().1
}

#[test]
fn material_encrypted_to_the_public_key_is_decrypted_with_the_token() {
    use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
    for key_spec in WrappingKeySpec::ALL {
        let ImportParameters { public_key, token, expires_at } = issue(key_spec);
        assert!(token.len() <= IMPORT_TOKEN_MAX_LEN, "{key_spec}: {} characters", token.len());
        assert_eq!(expires_at, seconds(1_800_000_000 + 86_400));
        let public_key = PublicEncryptingKey::from_der(&public_key).unwrap();
        assert_eq!(public_key.key_size_bits(), key_spec.bits());
        let mut encrypted = vec![0; public_key.key_size_bytes()];
        let public_key = OaepPublicEncryptingKey::new(public_key).unwrap();
        public_key.encrypt(&OAEP_SHA256_MGF1SHA256, &[7; 32], &mut encrypted, None).unwrap();
        let key = ring().open_import_token(&token, KEY_ID, ALGORITHM, NOW).unwrap();
        assert_eq!(key.algorithm(), ALGORITHM);
        assert_eq!(key.unwrap(&encrypted).unwrap().expose(), &[7; 32]);
        // As often as one likes.
        assert!(ring().open_import_token(&format!("\n {token}\n"), KEY_ID, ALGORITHM, NOW).is_ok());
    }
}

#[test]
fn the_layout_is_the_documented_one() {
    let (header, random) = (Header { key_spec: 3, algorithm: 2, ..header() }, Fixed::new(&[7; NONCE_LEN]));
    let token = ring().seal_import_token(&random, header, KEY_ID, b"x").unwrap();
    let token = STANDARD.decode(token).unwrap();
    assert_eq!((HEADER_LEN, token.len()), (30, 54 + 1 + 16));
    assert_eq!(&token[..4], [0x63, 0x6d, 0x69, 0x01]);
    assert_eq!(&token[4..20], root_key(1).id().as_bytes());
    assert_eq!(&token[20..28], (NOW.as_second() + 86_400).to_be_bytes());
    assert_eq!(&token[28..30], [2, 3]);
    assert_eq!(&token[30..54], [7; NONCE_LEN]);
}

#[test]
fn a_token_expires_after_24_hours() {
    let expiry = ISSUED.expires_at.as_second();
    for (now, expected) in [
        (seconds(0), None),
        (NOW, None),
        (seconds(expiry - 1), None),
        (seconds(expiry), Some(ImportTokenError::Expired)),
        (seconds(expiry + 1), Some(ImportTokenError::Expired)),
        (Timestamp::MAX, Some(ImportTokenError::Expired)),
    ] {
        assert_eq!(open_at(&ISSUED.token, now), expected, "{now}");
    }
    // And with the end of time, if that is sooner.
    let (key_spec, now) = (WrappingKeySpec::Rsa2048, Timestamp::MAX);
    let last = ring().issue_import_token(&SystemRandom, KEY_ID, ALGORITHM, key_spec, now).unwrap();
    assert_eq!(last.expires_at.as_second(), Timestamp::MAX.as_second());
}

#[test]
fn only_an_authentic_token_is_said_to_have_expired() {
    let late = ISSUED.expires_at;
    for token in [changed(|token| token[27] ^= 1), changed(|token| token[60] ^= 1), String::new()] {
        assert_eq!(open_at(&token, late), Some(ImportTokenError::Invalid));
    }
    let open = |key_id, algorithm| ring().open_import_token(&ISSUED.token, key_id, algorithm, late).err();
    assert_eq!(open(Uuid::nil(), ALGORITHM), Some(ImportTokenError::Invalid));
    assert_eq!(open(KEY_ID, WrappingAlgorithm::RsaesOaepSha1), Some(ImportTokenError::Invalid));
    assert_eq!(open(KEY_ID, ALGORITHM), Some(ImportTokenError::Expired));
}

#[test]
fn a_token_is_for_one_key_and_one_algorithm() {
    let open = |key_id, algorithm| ring().open_import_token(&ISSUED.token, key_id, algorithm, NOW).err();
    assert_eq!(open(KEY_ID, ALGORITHM), None);
    assert_eq!(open(Uuid::from_u128(0x0103), ALGORITHM), Some(ImportTokenError::Invalid));
    for other in [WrappingAlgorithm::RsaesOaepSha1, WrappingAlgorithm::RsaAesKeyWrapSha256] {
        assert_eq!(open(KEY_ID, other), Some(ImportTokenError::Invalid));
    }
}

#[test]
fn a_token_says_for_which_algorithm_it_is() {
    for algorithm in WrappingAlgorithm::ALL {
        let token = sealed(Header { algorithm: algorithm_number(algorithm), ..header() }, b"not looked at");
        assert_eq!(ring().import_token_algorithm(&token, KEY_ID), Ok(algorithm));
        assert_eq!(ring().import_token_algorithm(&token, Uuid::nil()), Err(ImportTokenError::Invalid));
    }
    let newer = sealed(Header { algorithm: 99, ..header() }, b"x");
    assert_eq!(ring().import_token_algorithm(&newer, KEY_ID), Err(ImportTokenError::Invalid));
    assert_eq!(ring().import_token_algorithm("", KEY_ID), Err(ImportTokenError::Invalid));
}

#[test]
fn any_ring_with_the_root_key_takes_a_token() {
    let open = |ring: RootKeyRing| ring.open_import_token(&ISSUED.token, KEY_ID, ALGORITHM, NOW).err();
    assert_eq!(open(RootKeyRing::new(root_key(1), [])), None);
    assert_eq!(open(RootKeyRing::new(root_key(3), [root_key(1)])), None);
    assert_eq!(open(RootKeyRing::new(root_key(2), [root_key(3)])), Some(ImportTokenError::Invalid));
    // Said to be of another root key that is loaded.
    let moved = changed(|token| token[4..20].copy_from_slice(root_key(2).id().as_bytes()));
    assert_eq!(error(&moved), Some(ImportTokenError::Invalid));
}

#[test]
fn every_changed_bit_and_every_other_length_is_refused() {
    let len = STANDARD.decode(&ISSUED.token).unwrap().len();
    for bit in 0..len * 8 {
        let token = changed(|token| token[bit / 8] ^= 1 << (bit % 8));
        assert_eq!(error(&token), Some(ImportTokenError::Invalid), "bit {bit}");
    }
    for cut in 0..len {
        assert_eq!(error(&changed(|token| token.truncate(cut))), Some(ImportTokenError::Invalid), "{cut} bytes");
        let tail = changed(|token| drop(token.drain(..len - cut)));
        assert_eq!(error(&tail), Some(ImportTokenError::Invalid), "the last {cut} bytes");
    }
    for extra in [1, 16, 10_000] {
        let token = changed(|token| token.resize(len + extra, 0));
        assert_eq!(error(&token), Some(ImportTokenError::Invalid));
    }
}

#[test]
fn text_that_is_not_a_token_is_refused() {
    let token = &ISSUED.token;
    for text in [
        String::new(),
        "=".to_owned(),
        "é".to_owned(),
        token.trim_end_matches('=').to_owned() + "?",
        format!("{token}{token}"),
        format!("{} {}", &token[..8], &token[8..]),
        token.to_lowercase(),
    ] {
        assert_eq!(error(&text), Some(ImportTokenError::Invalid), "{text:.20}");
    }
}

#[test]
fn what_is_sealed_is_a_key_of_the_spec_that_the_token_names() {
    let private_key = private_key();
    assert_eq!(error(&sealed(header(), private_key.expose())), None);
    for key_spec in [0, 2, 3, 4] {
        let token = sealed(Header { key_spec, ..header() }, private_key.expose());
        assert_eq!(error(&token), Some(ImportTokenError::Invalid), "spec {key_spec}");
    }
    for algorithm in [0, 2, 3, 4] {
        let token = sealed(Header { algorithm, ..header() }, private_key.expose());
        assert_eq!(error(&token), Some(ImportTokenError::Invalid), "algorithm {algorithm}");
    }
    for document in [&[][..], b"no key", &private_key.expose()[1..]] {
        assert_eq!(error(&sealed(header(), document)), Some(ImportTokenError::Invalid));
    }
    for expiry in [i64::MIN, -1, 0, NOW.as_second()] {
        let token = sealed(Header { expiry, ..header() }, private_key.expose());
        assert_eq!(error(&token), Some(ImportTokenError::Expired), "{expiry}");
    }
    assert_eq!(error(&sealed(Header { expiry: i64::MAX, ..header() }, private_key.expose())), None);
}

#[test]
fn every_token_has_its_own_key_pair_and_nonce() {
    let (first, second) = (&*ISSUED, issue(WrappingKeySpec::Rsa2048));
    assert_ne!(first.public_key, second.public_key);
    let [first, second] = [&first.token, &second.token].map(|token| STANDARD.decode(token).unwrap());
    assert_eq!(first[..30], second[..30]);
    assert_ne!(first[30..54], second[30..54]);
    assert_ne!(first[54..], second[54..]);
}

#[test]
fn nothing_is_sealed_without_randomness() {
    for random in [&Broken as &dyn Random, &Fixed::new(&[0; NONCE_LEN - 1])] {
        let error = ring().issue_import_token(random, KEY_ID, ALGORITHM, WrappingKeySpec::Rsa2048, NOW).err();
        assert!(matches!(error, Some(IssueImportTokenError::Seal(CryptoError::Random(_)))));
    }
}

proptest! {
    #[test]
    fn arbitrary_tokens_never_panic_and_never_open(
        text in ".{0,200}",
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert_eq!(error(&text), Some(ImportTokenError::Invalid));
        prop_assert_eq!(error(&STANDARD.encode(&bytes)), Some(ImportTokenError::Invalid));
        let ours = [&header().encode()[..], &bytes].concat();
        prop_assert_eq!(error(&STANDARD.encode(ours)), Some(ImportTokenError::Invalid));
    }
}
