//! Sealing, wrapping and authenticating: every cryptographic operation of the program.
//!
//! This module knows neither Kubernetes nor HTTP, reads no clock and no file, and takes
//! its randomness as an argument ([`Random`]). What it writes is specified byte for byte
//! in `docs/formats.md` and pinned by the vectors in `tests/vectors/`, which a second
//! implementation produced.
//!
//! | secret          | what it does                                                        | here             |
//! |-----------------|---------------------------------------------------------------------|------------------|
//! | [`RootKey`]     | wraps the material of every key, and authenticates their records    | [`RootKeyRing`]  |
//! | [`KeyMaterial`] | one version of a customer master key: seals data into blobs         | [`BlobKeys`]     |
//! | [`Plaintext`]   | what a user encrypts, or a data key                                 | [`BlobKeys`]     |
//! | [`WrappingKey`] | decrypts key material that is imported                              | [`RootKeyRing`]  |
//!
//! # Rules
//! - A type that holds a secret implements neither `Debug`, `Display`, `Serialize`,
//!   `Clone` nor `PartialEq`, and is wiped when dropped. Reading it takes a call to
//!   `expose`, which is easy to find in a review. (The AEAD key types of the libraries do
//!   print their bytes with `{:?}`, so none of them leaves this module.)
//! - Errors carry no secret and do not tell one cryptographic failure from another.
//! - Secrets, MACs and commitments are compared in constant time.
//!
//! Wiping is best effort: heap memory that holds a key is cleared, but the compiler and the
//! libraries may leave copies in registers and on the stack, which is why core dumps are
//! off as well.

mod access_key;
mod blob;
mod error;
mod import;
mod import_token;
mod kdf;
mod length_prefix;
mod mac;
mod material_check;
mod random;
mod record_mac;
mod root_key;
mod secret;
mod wrap;

pub use access_key::{ACCESS_KEY_SECRET_OVERHEAD, AccessKeyContext};
pub use blob::{BLOB_HEADER_LEN, BLOB_OVERHEAD, BlobError, BlobHeader, BlobKeys, parse_header};
pub use error::CryptoError;
pub use import::{ImportError, WrappingKey};
pub use import_token::{
    IMPORT_TOKEN_LIFETIME_SECONDS, IMPORT_TOKEN_MAX_LEN, ImportParameters, ImportTokenError, IssueImportTokenError,
};
pub use material_check::MaterialCheck;
pub use random::{Random, RandomError, SystemRandom, random_array, random_uuid};
pub use root_key::{CHECK_VALUE_LEN, RootKey, RootKeyFormatError, RootKeyId, RootKeyRing};
pub use secret::{KEY_LEN, KeyMaterial, Plaintext, WrongLength};
pub use wrap::{WRAPPED_LEN, WrapContext, Wrapped};

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    /// Fails to compile (the type of the method is ambiguous) if the type implements one
    /// of the traits.
    macro_rules! assert_implements_none {
        ($type:ty: $($forbidden:path),+ $(,)?) => {
            const _: fn() = || {
                trait Probe<Marker> {
                    fn probe() {}
                }
                impl<T: ?Sized> Probe<()> for T {}
                $({
                    #[allow(dead_code)]
                    struct Forbidden;
                    impl<T: ?Sized + $forbidden> Probe<Forbidden> for T {}
                })+
                let _ = <$type as Probe<_>>::probe;
            };
        };
    }

    macro_rules! assert_secret {
        ($($type:ty),+ $(,)?) => {$(
            assert_implements_none!($type:
                std::fmt::Debug,
                std::fmt::Display,
                std::fmt::LowerHex,
                Clone,
                Default,
                PartialEq,
                PartialOrd,
                std::hash::Hash,
                serde::Serialize,
                AsRef<[u8]>,
                std::ops::Deref,
                IntoIterator,
            );
            const _: fn() = || {
                fn wiped_and_shareable<T: ZeroizeOnDrop + Send + Sync>() {}
                wiped_and_shareable::<$type>();
            };
        )+};
    }

    assert_secret!(KeyMaterial, Plaintext, RootKey, RootKeyRing, BlobKeys, WrappingKey);

    // The features that make the libraries wipe their own copies are on.
    const _: fn() = || {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<aes_gcm::Aes256Gcm>();
        wiped::<xaes_256_gcm::Xaes256Gcm>();
        wiped::<sha2::block_api::Sha256VarCore>();
    };

    #[test]
    fn errors_say_nothing_but_what_is_public() {
        assert_eq!(CryptoError::Refused.to_string(), "the data could not be authenticated");
        assert_eq!(BlobError::Refused.to_string(), "the ciphertext could not be authenticated");
        assert_eq!(ImportTokenError::Invalid.to_string(), "the import token is not valid for this key and algorithm");
    }
}
