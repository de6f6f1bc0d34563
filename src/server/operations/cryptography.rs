//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey and GenerateRandom.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{EndpointCluster, KeyReference, Kms, find::from_store};
use crate::{
    api::metadata::RESERVED_PREFIX,
    crypto::{Plaintext, parse_header},
    kms::{EncryptionContext, Operation, ResourceName},
    server::{Call, Failure, permission::Verb},
    store::{KeyStore, StoredKey},
};

/// How long a data key shall be, in bytes: 1 to 1024, which the dialects check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataKeyLength(pub usize);

/// What Encrypt answers.
pub struct Encrypted {
    /// The key.
    pub key: ResourceName,
    /// The version that encrypted.
    pub key_version_id: Uuid,
    /// The ciphertext.
    pub ciphertext_blob: Vec<u8>,
}

/// What Decrypt answers.
pub struct Decrypted {
    /// The key.
    pub key: ResourceName,
    /// The version that the ciphertext is under.
    pub key_version_id: Uuid,
    /// The plaintext.
    pub plaintext: Plaintext,
}

/// What ReEncrypt answers.
pub struct ReEncrypted {
    /// The key that the ciphertext was under.
    pub source: ResourceName,
    /// The version that it was under.
    pub source_version_id: Uuid,
    /// The key that it is under now.
    pub destination: Encrypted,
}

/// What GenerateDataKey answers.
pub struct GeneratedKey {
    /// The encrypted data key.
    pub encrypted: Encrypted,
    /// The data key.
    pub plaintext: Plaintext,
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// Encrypts under the newest version of a key.
    ///
    /// # Errors
    /// [`Failure`]: no such key or permission, its state, or an encryption context that uses the reserved prefix.
    pub async fn encrypt(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Encrypted, Failure> {
        refuse_reserved(context)?;
        let key = self.key_for(call, key, Verb::Encrypt, Operation::Encrypt).await?;
        self.seal(&key, context, plaintext).await
    }

    /// Decrypts, with the key that the ciphertext names. Where a key is named as well, it has to be that one.
    ///
    /// # Errors
    /// [`Failure`]: no such key or permission, its state, [`Failure::IncorrectKey`] and [`Failure::InvalidCiphertext`].
    pub async fn decrypt(
        &self,
        call: &mut Call,
        key: Option<&KeyReference<'_>>,
        context: &EncryptionContext,
        ciphertext_blob: &[u8],
    ) -> Result<Decrypted, Failure> {
        let Ok(header) = parse_header(ciphertext_blob) else {
            return Err(self.undecipherable(call, key).await);
        };
        let named = match key {
            Some(reference) => Some(self.permitted_key(call, reference, Verb::Decrypt).await?),
            None => None,
        };
        if named.is_some_and(|key| key.record.key_id != header.key_id) {
            return Err(Failure::IncorrectKey);
        }
        let key = self.key_for(call, &KeyReference::Id(header.key_id), Verb::Decrypt, Operation::Decrypt).await?;
        let plaintext = self.store.decrypt(&key, context, ciphertext_blob).await.map_err(|error| from_store(&error))?;
        Ok(Decrypted { key: ResourceName::of(&key.record), key_version_id: header.key_version_id, plaintext })
    }

    /// Decrypts under one key, and encrypts under another, without showing the plaintext.
    ///
    /// # Errors
    /// As [`decrypt`](Self::decrypt) and [`encrypt`](Self::encrypt). Both permissions and both states are checked before
    /// anything is decrypted.
    pub async fn re_encrypt(
        &self,
        call: &mut Call,
        source: (Option<&KeyReference<'_>>, &EncryptionContext, &[u8]),
        destination: (&KeyReference<'_>, &EncryptionContext),
    ) -> Result<ReEncrypted, Failure> {
        let (source_key, source_context, ciphertext_blob) = source;
        let (destination_key, destination_context) = destination;
        refuse_reserved(destination_context)?;
        let to = self.key_for(&mut call.clone(), destination_key, Verb::Encrypt, Operation::Encrypt).await?;
        let Decrypted { key, key_version_id, plaintext } =
            self.decrypt(call, source_key, source_context, ciphertext_blob).await?;
        call.key_id = Some(to.record.key_id);
        let destination = self.seal(&to, destination_context, plaintext.expose()).await?;
        Ok(ReEncrypted { source: key, source_version_id: key_version_id, destination })
    }

    /// Generates a data key, and encrypts it.
    ///
    /// # Errors
    /// As [`encrypt`](Self::encrypt).
    pub async fn generate_data_key(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        context: &EncryptionContext,
        length: DataKeyLength,
    ) -> Result<GeneratedKey, Failure> {
        refuse_reserved(context)?;
        let key = self.key_for(call, key, Verb::GenerateDataKey, Operation::GenerateDataKey).await?;
        let plaintext = self.random_bytes(length.0)?;
        let encrypted = self.seal(&key, context, plaintext.expose()).await?;
        Ok(GeneratedKey { encrypted, plaintext })
    }

    /// Random bytes. No key is used, so every caller may.
    ///
    /// # Errors
    /// [`Failure::Internal`]: there is no randomness.
    pub fn generate_random(&self, length: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
        Ok(Zeroizing::new(self.random_bytes(length)?.expose().to_vec()))
    }

    fn random_bytes(&self, length: usize) -> Result<Plaintext, Failure> {
        Plaintext::generate(&*self.random, length).map_err(|error| Failure::Internal(error.to_string()))
    }

    async fn seal(&self, key: &StoredKey, context: &EncryptionContext, plaintext: &[u8]) -> Result<Encrypted, Failure> {
        let sealed = self.store.encrypt(key, context, plaintext).await.map_err(|error| from_store(&error))?;
        Ok(Encrypted {
            key: ResourceName::of(&key.record),
            key_version_id: sealed.key_version_id,
            ciphertext_blob: sealed.ciphertext_blob,
        })
    }

    /// What to answer about bytes that are no ciphertext: who may decrypt nothing learns nothing else.
    async fn undecipherable(&self, call: &mut Call, key: Option<&KeyReference<'_>>) -> Failure {
        match key {
            Some(reference) => match self.permitted_key(call, reference, Verb::Decrypt).await {
                Ok(_) => Failure::InvalidCiphertext,
                Err(failure) => failure,
            },
            None => self.permissions.hidden(&call.caller, Verb::Decrypt, Failure::InvalidCiphertext).await,
        }
    }
}

/// Only the operator encrypts with entries under its prefix: they say that a data key is a DataKey's (design, rule 12).
fn refuse_reserved(context: &EncryptionContext) -> Result<(), Failure> {
    match context.iter().find(|(key, _)| key.starts_with(RESERVED_PREFIX)) {
        Some((key, _)) => Err(Failure::InvalidParameter {
            name: "EncryptionContext",
            problem: format!("the entry {key:?} begins with {RESERVED_PREFIX}, which is reserved for the operator"),
        }),
        None => Ok(()),
    }
}
