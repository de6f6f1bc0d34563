//! How key material is encrypted on its way into a key of origin `EXTERNAL`: what GetParametersForImport is asked
//! for, and what ImportKeyMaterial then has to undo.
//!
//! Sources: RFC 8017 section 7.1 (RSAES-OAEP); RFC 5649 (AES key wrap with padding); PKCS#11 3.1 section 6.1.20
//! (`CKM_RSA_AES_KEY_WRAP`); `shared/reference/kms-behaviour.md` sections 1 and 2.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the importer encrypts the key material. Spelled as both APIs spell it.
///
/// The label of OAEP is always empty, and the hash function of MGF1 is the one of OAEP itself.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WrappingAlgorithm {
    /// RSA-OAEP with SHA-256.
    #[serde(rename = "RSAES_OAEP_SHA_256")]
    RsaesOaepSha256,
    /// RSA-OAEP with SHA-1. Collisions of SHA-1 do not weaken it, but prefer SHA-256.
    #[serde(rename = "RSAES_OAEP_SHA_1")]
    RsaesOaepSha1,
    /// An AES-256 key under RSA-OAEP with SHA-256, then the material under that key by AES key wrap with padding.
    #[serde(rename = "RSA_AES_KEY_WRAP_SHA_256")]
    RsaAesKeyWrapSha256,
    /// The same with SHA-1. Prefer SHA-256.
    #[serde(rename = "RSA_AES_KEY_WRAP_SHA_1")]
    RsaAesKeyWrapSha1,
}

impl WrappingAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] =
        [Self::RsaesOaepSha256, Self::RsaesOaepSha1, Self::RsaAesKeyWrapSha256, Self::RsaAesKeyWrapSha1];

    /// The algorithm's name, as both APIs spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RsaesOaepSha256 => "RSAES_OAEP_SHA_256",
            Self::RsaesOaepSha1 => "RSAES_OAEP_SHA_1",
            Self::RsaAesKeyWrapSha256 => "RSA_AES_KEY_WRAP_SHA_256",
            Self::RsaAesKeyWrapSha1 => "RSA_AES_KEY_WRAP_SHA_1",
        }
    }
}

impl std::fmt::Display for WrappingAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The RSA key pair that the importer encrypts to. Spelled as both APIs spell it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WrappingKeySpec {
    /// A modulus of 2048 bits, the only one of Alibaba Cloud's API.
    #[serde(rename = "RSA_2048")]
    Rsa2048,
    /// A modulus of 3072 bits.
    #[serde(rename = "RSA_3072")]
    Rsa3072,
    /// A modulus of 4096 bits.
    #[serde(rename = "RSA_4096")]
    Rsa4096,
}

impl WrappingKeySpec {
    /// Every spec.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The spec's name, as both APIs spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
        }
    }

    /// Length of the modulus in bits.
    #[must_use]
    pub fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

impl std::fmt::Display for WrappingKeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_serialised_ones() {
        for algorithm in WrappingAlgorithm::ALL {
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.as_str());
            assert_eq!(serde_json::from_value::<WrappingAlgorithm>(algorithm.as_str().into()).unwrap(), algorithm);
        }
        for spec in WrappingKeySpec::ALL {
            assert_eq!(serde_json::to_value(spec).unwrap(), spec.as_str());
            assert_eq!(serde_json::from_value::<WrappingKeySpec>(spec.as_str().into()).unwrap(), spec);
            assert_eq!(format!("RSA_{}", spec.bits()), spec.to_string());
        }
        for unknown in ["RSAES_PKCS1_V1_5", "rsaes_oaep_sha_256", ""] {
            assert!(serde_json::from_value::<WrappingAlgorithm>(unknown.into()).is_err());
            assert!(serde_json::from_value::<WrappingKeySpec>(unknown.into()).is_err());
        }
    }
}
