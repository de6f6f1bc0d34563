//! Where the root key comes from: files, or a Secret that the operator generates once (design, section 4).

use std::{collections::BTreeMap, future::Future, path::PathBuf};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    api::metadata,
    cluster::{ApiError, Secrets, WipedSecret},
    crypto::{Random, RandomError, RootKey, RootKeyFormatError, RootKeyRing},
};

const KEY: &str = "key";
const ID: &str = "id";
const CHECK: &str = "check";

/// Why there is no root key. The operator does not start without one.
#[derive(Debug, Error)]
pub enum RootKeyError {
    /// A file can't be read.
    #[error("the root-key file {path} can't be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("the root-key file {path} is not usable: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RootKeyFormatError,
    },
    /// The Secret holds something else.
    #[error(
        "the Secret {namespace}/{} is not a root key, or was changed: restore it from a backup; \
         no key can be used until then",
        metadata::ROOT_KEY_SECRET
    )]
    SecretDamaged {
        /// The operator's namespace.
        namespace: String,
    },
    /// The Secret is gone though keys were made under it.
    #[error(
        "the Secret {namespace}/{} is missing, but {evidence}: restore the root key from a backup, or give it \
         with --root-key-file; a new one could not decrypt any existing key, so none is made",
        metadata::ROOT_KEY_SECRET
    )]
    Missing {
        /// The operator's namespace.
        namespace: String,
        /// What shows that keys exist.
        evidence: String,
    },
    /// None is there, and none may be made.
    #[error(
        "CreationPaused: the Secret {namespace}/{} is missing and --no-new-keys forbids making one: restore the \
         root key first, then the records, then the objects",
        metadata::ROOT_KEY_SECRET
    )]
    CreationPaused {
        /// The operator's namespace.
        namespace: String,
    },
    /// The API server did not answer.
    #[error("the root key can't be read: {0}")]
    Api(#[from] ApiError),
    /// No randomness.
    #[error("the root key can't be generated: {0}")]
    Random(#[from] RandomError),
}

/// Reads root keys from files: the first wraps, all unwrap.
///
/// # Errors
/// [`RootKeyError::File`] and [`RootKeyError::Format`]; `Ok(None)` when no file is given.
pub fn from_files(paths: &[PathBuf]) -> Result<Option<RootKeyRing>, RootKeyError> {
    let mut keys = Vec::with_capacity(paths.len());
    for path in paths {
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|source| RootKeyError::File { path: path.clone(), source })?;
        let key =
            RootKey::from_base64_line(&text).map_err(|source| RootKeyError::Format { path: path.clone(), source })?;
        keys.push(key);
    }
    let mut keys = keys.into_iter();
    Ok(keys.next().map(|first| RootKeyRing::new(first, keys)))
}

/// Reads the root key from its Secret, if there is one.
///
/// # Errors
/// [`RootKeyError::SecretDamaged`] and [`RootKeyError::Api`].
pub async fn stored<S: Secrets>(secrets: &S, namespace: &str) -> Result<Option<RootKeyRing>, RootKeyError> {
    let secret = secrets.get_secret(namespace, metadata::ROOT_KEY_SECRET).await?;
    secret.map(|secret| decode(&WipedSecret::from(secret), namespace)).transpose()
}

/// Reads the root key from its Secret, or generates it if there is no sign of any key yet.
///
/// `keys_with_status` counts objects, past every cache, that had a key: also restored ones, which have lost their
/// status.
///
/// # Errors
/// [`RootKeyError`]; in particular when the Secret is missing and keys exist.
pub async fn from_secret<S, F>(
    secrets: &S,
    namespace: &str,
    no_new_keys: bool,
    random: &dyn Random,
    keys_with_status: impl FnOnce() -> F,
) -> Result<RootKeyRing, RootKeyError>
where
    S: Secrets,
    F: Future<Output = Result<usize, ApiError>>,
{
    if let Some(ring) = stored(secrets, namespace).await? {
        return Ok(ring);
    }
    if no_new_keys {
        return Err(RootKeyError::CreationPaused { namespace: namespace.to_owned() });
    }
    let missing = |evidence: String| RootKeyError::Missing { namespace: namespace.to_owned(), evidence };
    let signs = [
        (metadata::KEY_RECORD_TYPE, "key records"),
        (metadata::ALIAS_TYPE, "aliases of keys"),
        (metadata::ACCESS_KEY_TYPE, "records of access keys"),
    ];
    for (type_, what) in signs {
        let found = secrets.list_secrets(namespace, type_).await?.len();
        if found > 0 {
            return Err(missing(format!("{found} {what} exist")));
        }
    }
    let objects = keys_with_status().await?;
    if objects > 0 {
        return Err(missing(format!("{objects} CustomerMasterKeys or DataKeys had a key before")));
    }
    match secrets.create_secret(&encode(&RootKey::generate(random)?, namespace)).await {
        Ok(created) => drop(WipedSecret::from(created)),
        Err(ApiError::AlreadyExists) => {}
        Err(error) => return Err(error.into()),
    }
    // Read back: what counts is what is stored, by us or by somebody faster.
    stored(secrets, namespace).await?.ok_or_else(|| missing("it was deleted right after it was made".into()))
}

/// Writes the root key back if its Secret is gone (design, rule 20). Answers whether it was.
///
/// # Errors
/// The API server's.
pub async fn restore<S: Secrets>(secrets: &S, namespace: &str, ring: &RootKeyRing) -> Result<bool, ApiError> {
    match secrets.create_secret(&encode(ring.primary(), namespace)).await {
        Ok(created) => {
            drop(WipedSecret::from(created));
            Ok(true)
        }
        Err(ApiError::AlreadyExists) => Ok(false),
        Err(error) => Err(error),
    }
}

fn encode(key: &RootKey, namespace: &str) -> WipedSecret {
    WipedSecret::from(Secret {
        metadata: ObjectMeta {
            name: Some(metadata::ROOT_KEY_SECRET.into()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([
                (metadata::MANAGED_BY_LABEL.into(), metadata::MANAGER.into()),
                (metadata::COMPONENT_LABEL.into(), metadata::COMPONENT_ROOT_KEY.into()),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some(metadata::ROOT_KEY_TYPE.into()),
        immutable: Some(true),
        data: Some(BTreeMap::from([
            (KEY.into(), ByteString(key.expose().to_vec())),
            (ID.into(), ByteString(key.id().to_string().into_bytes())),
            (CHECK.into(), ByteString(key.check_value().to_vec())),
        ])),
        ..Secret::default()
    })
}

/// The root key in its Secret, checked.
///
/// # Errors
/// [`RootKeyError::SecretDamaged`].
pub fn decode(secret: &Secret, namespace: &str) -> Result<RootKeyRing, RootKeyError> {
    let damaged = || RootKeyError::SecretDamaged { namespace: namespace.to_owned() };
    let field = |name: &str| secret.data.as_ref().and_then(|d| d.get(name)).map(|b| b.0.as_slice());
    let key = RootKey::from_bytes(field(KEY).ok_or_else(damaged)?).map_err(|_| damaged())?;
    let id_matches = field(ID).is_some_and(|id| id == key.id().to_string().as_bytes());
    if !id_matches || !key.verify_check_value(field(CHECK).ok_or_else(damaged)?) {
        return Err(damaged());
    }
    Ok(RootKeyRing::new(key, []))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn a_stored_root_key_is_checked() {
        let key = RootKey::generate(&SystemRandom).unwrap();
        let secret = encode(&key, "cmk-system");
        assert!(decode(&secret, "cmk-system").unwrap().primary_id() == key.id());

        for field in [KEY, ID, CHECK] {
            let mut bad = Secret::clone(&secret);
            bad.data.as_mut().unwrap().get_mut(field).unwrap().0[0] ^= 1;
            assert!(matches!(decode(&bad, "x"), Err(RootKeyError::SecretDamaged { .. })), "{field} flipped");
            bad.data.as_mut().unwrap().remove(field);
            assert!(matches!(decode(&bad, "x"), Err(RootKeyError::SecretDamaged { .. })), "{field} missing");
        }
    }

    #[test]
    fn the_first_file_wraps_and_all_unwrap() {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let line = |byte| format!("{}\n", BASE64_STANDARD.encode([byte; 32]));
        let ring = from_files(&[write("new", line(1)), write("old", line(2))]).unwrap().unwrap();
        let id = |byte| RootKey::from_bytes(&[byte; 32]).unwrap().id();
        assert!(ring.primary_id() == id(1) && ring.contains(id(2)));

        assert!(from_files(&[]).unwrap().is_none());
        let short = from_files(&[write("short", BASE64_STANDARD.encode([1; 31]))]).err().unwrap().to_string();
        assert!(short.contains("short") && short.contains("31"), "{short}");
        assert!(matches!(from_files(&[dir.path().join("none")]), Err(RootKeyError::File { .. })));
    }
}
