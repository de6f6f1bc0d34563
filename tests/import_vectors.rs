//! Known answers of imports: `docs/formats.md` against vectors made by a second implementation
//! (`tests/vectors/generate.py`), and an import made with the openssl command line.

// Helper functions outside `#[test]` functions panic as well: a test that cannot run has failed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use cmk_operator::crypto::{
    ImportTokenError, KeyMaterial, MaterialCheck, Random, RandomError, RootKey, RootKeyRing, SystemRandom, WrapContext,
    Wrapped,
};
use cmk_operator::kms::{WrappingAlgorithm, WrappingKeySpec};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// Bytes written in hex.
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        assert!(text.len().is_multiple_of(2));
        Ok(Self((0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()))
    }
}

fn vectors<T: DeserializeOwned>(name: &str) -> Vec<T> {
    #[derive(Deserialize)]
    struct File<T> {
        vectors: Vec<T>,
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let File { vectors } = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(!vectors.is_empty());
    vectors
}

fn ring(root_key: &[u8]) -> RootKeyRing {
    RootKeyRing::new(RootKey::from_bytes(root_key).unwrap(), [])
}

/// Gives out exactly these bytes, in this order.
struct Sequence(Mutex<Vec<u8>>);

impl Random for Sequence {
    fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError> {
        let mut left = self.0.lock().unwrap();
        let rest = left.split_off(buf.len());
        buf.copy_from_slice(&left);
        *left = rest;
        Ok(())
    }
}

#[test]
fn import_tokens() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vector {
        name: String,
        root_key: Hex,
        key_id: Uuid,
        algorithm: WrappingAlgorithm,
        expiry: i64,
        token: String,
        material: Hex,
        encrypted: Hex,
    }
    let vectors = vectors::<Vector>("import_token.json");
    for vector in &vectors {
        let name = &vector.name;
        let open = |seconds| {
            let now = Timestamp::from_second(seconds).unwrap();
            ring(&vector.root_key.0).open_import_token(&vector.token, vector.key_id, vector.algorithm, now)
        };
        assert_eq!(open(vector.expiry).err(), Some(ImportTokenError::Expired), "{name}");
        let key = open(vector.expiry - 1).unwrap();
        assert_eq!(key.unwrap(&vector.encrypted.0).unwrap().expose()[..], vector.material.0, "{name}");
    }
    for algorithm in WrappingAlgorithm::ALL {
        assert!(vectors.iter().any(|vector| vector.algorithm == algorithm), "{algorithm}");
    }
}

#[test]
fn material_checks() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vector {
        root_key: Hex,
        store: String,
        key_id: Uuid,
        version_id: Uuid,
        check_key: Hex,
        nonce: Hex,
        wrapped: Hex,
        material: Hex,
        value: Hex,
    }
    for vector in vectors::<Vector>("material_check.json") {
        let ring = ring(&vector.root_key.0);
        let context = WrapContext { store: &vector.store, key_id: vector.key_id, version_id: vector.version_id };
        let material = KeyMaterial::from_bytes(&vector.material.0).unwrap();
        let random = Sequence(Mutex::new([&vector.check_key.0[..], &vector.nonce.0].concat()));
        let made = ring.new_material_check(&random, &context, &material).unwrap();
        assert_eq!(made.value[..], vector.value.0);
        assert_eq!(made.check_key.bytes, vector.wrapped.0);
        let stored = MaterialCheck {
            check_key: Wrapped { root_key_id: ring.primary_id(), bytes: vector.wrapped.0 },
            value: vector.value.0.try_into().unwrap(),
        };
        assert_eq!(ring.is_same_material(&context, &stored, &material), Ok(true));
    }
}

/// What a user does who has the public key, the material and openssl, as both clouds' guides say.
#[test]
fn what_openssl_encrypts_is_imported() {
    const MATERIAL: &[u8; 32] = b"thirty-two bytes of key material";
    const AES_KEY: &[u8; 32] = b"an AES-256 key between the two..";

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    if Command::new("openssl").arg("version").output().is_err() {
        // Not `eprintln!`, which is shown only when the test fails.
        writeln!(std::io::stderr(), "SKIPPED what_openssl_encrypts_is_imported: there is no openssl here").unwrap();
        return;
    }
    fs::write(path("material"), MATERIAL).unwrap();
    fs::write(path("aes-key"), AES_KEY).unwrap();
    let oaep = |hash: &str, input: &str| {
        let (oaep_hash, mgf1_hash) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
        openssl(
            &[
                &["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public-key", "-in", input][..],
                &["-out", "encrypted", "-pkeyopt", "rsa_padding_mode:oaep"],
                &["-pkeyopt", &oaep_hash, "-pkeyopt", &mgf1_hash],
            ]
            .concat(),
        );
        fs::read(path("encrypted")).unwrap()
    };

    let (ring, key_id, now) = (ring(&[1; 32]), Uuid::from_u128(1), Timestamp::UNIX_EPOCH);
    for algorithm in WrappingAlgorithm::ALL {
        let issued = ring.issue_import_token(&SystemRandom, key_id, algorithm, WrappingKeySpec::Rsa2048, now).unwrap();
        fs::write(path("public-key"), &issued.public_key).unwrap();
        let encrypted = match algorithm {
            WrappingAlgorithm::RsaesOaepSha256 => oaep("sha256", "material"),
            WrappingAlgorithm::RsaesOaepSha1 => oaep("sha1", "material"),
            WrappingAlgorithm::RsaAesKeyWrapSha256 | WrappingAlgorithm::RsaAesKeyWrapSha1 => {
                let hash = if algorithm == WrappingAlgorithm::RsaAesKeyWrapSha1 { "sha1" } else { "sha256" };
                let key: String = AES_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
                let wrap = ["enc", "-id-aes256-wrap-pad", "-K", &key, "-iv", "A65959A6"];
                openssl(&[&wrap[..], &["-in", "material", "-out", "wrapped"]].concat());
                [oaep(hash, "aes-key"), fs::read(path("wrapped")).unwrap()].concat()
            }
        };
        let key = ring.open_import_token(&issued.token, key_id, algorithm, now).unwrap();
        assert_eq!(key.unwrap(&encrypted).unwrap().expose(), MATERIAL, "{algorithm}");
    }
}
