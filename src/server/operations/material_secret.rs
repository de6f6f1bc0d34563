//! The Secret that holds material as it was handed to ImportKeyMaterial: encrypted to the key pair of its import token.

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

use super::{
    MaterialToImport,
    live::{Live, from_api},
};
use crate::{
    api::{
        CustomerMasterKey,
        customer_master_key::{ImportedKeyMaterial, SecretKeyRef, Wrapping},
        metadata,
    },
    cluster::{ApiError, Secrets},
    kms::{KeyRecord, WrappingAlgorithm, key_record::MaterialSource},
    server::Failure,
};

/// The entry of the Secret.
const ENTRY: &str = "material";

/// What is to be written for an import.
pub struct Prepared {
    /// The Secret.
    secret: Secret,
    /// What the object is to declare.
    pub declared: ImportedKeyMaterial,
}

impl Prepared {
    /// The Secret's name is made of all that is in it, so that one of that name that is ours holds the same, and every
    /// import is another Secret, which the operator reads.
    pub fn new(
        live: &Live,
        algorithm: WrappingAlgorithm,
        material: &MaterialToImport<'_>,
        expire_time: Option<jiff::Timestamp>,
    ) -> Self {
        let MaterialToImport { encrypted_key_material, import_token, .. } = *material;
        let import_token = import_token.trim_ascii();
        let name = secret_name(&live.key.record, import_token, encrypted_key_material);
        let object = &live.object;
        let (namespace, key_name) = (object.namespace().unwrap_or_default(), object.name_any());
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            annotations: Some([(metadata::MATERIAL_OF.to_owned(), format!("{namespace}/{key_name}"))].into()),
            namespace: Some(namespace),
            labels: Some(
                [
                    (metadata::MANAGED_BY_LABEL.to_owned(), metadata::MANAGER.to_owned()),
                    (metadata::COMPONENT_LABEL.to_owned(), metadata::COMPONENT_IMPORTED_MATERIAL.to_owned()),
                ]
                .into(),
            ),
            owner_references: object.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        let secret = Secret {
            metadata,
            type_: Some("Opaque".into()),
            data: Some([(ENTRY.to_owned(), ByteString(encrypted_key_material.to_vec()))].into()),
            ..Secret::default()
        };
        let wrapping = Wrapping { algorithm, import_token: import_token.to_owned() };
        let declared = ImportedKeyMaterial {
            secret_ref: SecretKeyRef { name, key: ENTRY.into() },
            expire_time: expire_time.map(Time),
            wrapping: Some(wrapping),
        };
        Self { secret, declared }
    }

    /// Whether a key has this material.
    pub fn is_imported(&self, record: &KeyRecord) -> bool {
        let SecretKeyRef { name: secret, key } = self.declared.secret_ref.clone();
        let source = MaterialSource { secret, key };
        !record.versions.is_empty() && record.imported.as_ref().is_some_and(|imported| imported.source == source)
    }
}

/// Of ciphertext, a sealed token and a public id: nothing that is hashed here says anything about the material.
fn secret_name(record: &KeyRecord, import_token: &str, encrypted: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [record.key_id.as_bytes(), import_token.as_bytes(), encrypted] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("cmk-material-{digest}")
}

/// Whether a Secret is one of ours for the key of this object.
fn is_ours(secret: &Secret, object: &CustomerMasterKey) -> bool {
    let label = |name: &str| secret.labels().get(name).map(String::as_str);
    let mut owners = secret.owner_references().iter().map(|owner| &owner.uid);
    label(metadata::MANAGED_BY_LABEL) == Some(metadata::MANAGER)
        && label(metadata::COMPONENT_LABEL) == Some(metadata::COMPONENT_IMPORTED_MATERIAL)
        && owners.any(|uid| Some(uid) == object.uid().as_ref())
}

/// Makes the Secret, and answers it if it is new. One of that name that holds anything else is left as it is.
pub async fn deliver<C: Secrets>(cluster: &C, prepared: &Prepared) -> Result<Option<Secret>, Failure> {
    let Prepared { secret, .. } = prepared;
    match cluster.create_secret(secret).await {
        Ok(made) => Ok(Some(made)),
        Err(ApiError::AlreadyExists) => {
            let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
            let there = cluster.get_secret(&namespace, &name).await.map_err(|error| from_api(&error))?;
            if there.is_some_and(|there| there.data == secret.data) {
                return Ok(None);
            }
            Err(Failure::Owned(format!("Secret {namespace}/{name} exists and does not hold this material")))
        }
        Err(error) => Err(from_api(&error)),
    }
}

/// Deletes a Secret that was made for nothing.
pub async fn take_back<C: Secrets>(cluster: &C, made: Option<Secret>) {
    if let Some(secret) = made {
        delete(cluster, &secret).await;
    }
}

/// Deletes the Secret that `before`, the object as it was, names, if an earlier call made it and it is not the one of
/// `now`. What a person made is left alone.
pub async fn remove_former<C: Secrets>(cluster: &C, before: &CustomerMasterKey, now: Option<&Prepared>) {
    let Some(declared) = &before.spec.imported_key_material else { return };
    let name = &declared.secret_ref.name;
    if now.is_some_and(|now| now.declared.secret_ref.name == *name) {
        return;
    }
    match cluster.get_secret(&before.namespace().unwrap_or_default(), name).await {
        Ok(Some(secret)) if is_ours(&secret, before) => delete(cluster, &secret).await,
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, secret = name, "a Secret with former material is left behind"),
    }
}

/// Nothing depends on it: what is in the Secret is encrypted, and goes with its `CustomerMasterKey` at the latest.
async fn delete<C: Secrets>(cluster: &C, secret: &Secret) {
    match cluster.delete_secret(secret).await {
        Ok(()) | Err(ApiError::NotFound) => {}
        Err(error) => tracing::warn!(%error, secret = secret.name_any(), "a Secret with material is left behind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::key_record::tests::record;

    #[test]
    fn a_name_is_of_all_that_is_in_it() {
        let name = |token: &str, encrypted: &[u8]| secret_name(&record(), token, encrypted);
        assert_eq!(name("token", b"material"), name("token", b"material"));
        assert_eq!(name("", b"").len(), "cmk-material-".len() + 32);
        for (token, encrypted) in [("token", &b"other"[..]), ("other", b"material"), ("tokenm", b"aterial")] {
            assert_ne!(name("token", b"material"), name(token, encrypted));
        }
        let other = KeyRecord { key_id: uuid::Uuid::from_u128(77), ..record() };
        assert_ne!(name("token", b"material"), secret_name(&other, "token", b"material"));
    }
}
