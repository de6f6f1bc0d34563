//! The cryptographic operations. They are the many: nothing is written twice, and plaintext goes from the base64 of the
//! request to the base64 of the reply through buffers that are wiped.

use super::Body;
use crate::{
    kms::{Dialect, ResourceName},
    server::{
        Call, Failure,
        aws::{
            json::{Member, object},
            requests::{CryptographyInput, Decrypt, Encrypt, GenerateDataKey, ReEncrypt},
            responses::{SYMMETRIC_DEFAULT, key_material_id},
        },
        operations::{Decrypted, Encrypted, EndpointCluster, GeneratedKey, KeyReference, Kms, ReEncrypted},
    },
    store::KeyStore,
};

pub(super) async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    input: CryptographyInput<'_>,
) -> Result<Body, Failure> {
    match input {
        CryptographyInput::Encrypt(request) => encrypt(kms, call, request).await,
        CryptographyInput::Decrypt(request) => decrypt(kms, call, request).await,
        CryptographyInput::ReEncrypt(request) => re_encrypt(kms, call, request).await,
        CryptographyInput::GenerateDataKey { request, with_plaintext } => {
            generate_data_key(kms, call, request, with_plaintext).await
        }
        CryptographyInput::GenerateRandom(length) => {
            let random = kms.generate_random(length)?;
            Ok(object(&[("Plaintext", Member::Blob(&random))]))
        }
    }
}

async fn encrypt<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    request: Encrypt<'_>,
) -> Result<Body, Failure> {
    let Encrypt { key_id, context, plaintext, dry_run } = request;
    let answer = kms.encrypt(call, &KeyReference::parse(&key_id), &context, &plaintext).await?;
    unless(dry_run, || encrypted(&answer))
}

async fn decrypt<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    request: Decrypt<'_>,
) -> Result<Body, Failure> {
    let Decrypt { key_id, context, ciphertext_blob, dry_run } = request;
    let key = key_id.as_deref().map(KeyReference::parse);
    let answer = kms.decrypt(call, key.as_ref(), &context, &ciphertext_blob).await?;
    unless(dry_run, || decrypted(&answer))
}

async fn re_encrypt<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    request: ReEncrypt<'_>,
) -> Result<Body, Failure> {
    let source_key = request.source_key_id.as_deref().map(KeyReference::parse);
    let destination_key = KeyReference::parse(&request.destination_key_id);
    let source = (source_key.as_ref(), &request.source_context, request.ciphertext_blob.as_slice());
    let answer = kms.re_encrypt(call, source, (&destination_key, &request.destination_context)).await?;
    unless(request.dry_run, || re_encrypted(&answer))
}

async fn generate_data_key<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    request: GenerateDataKey<'_>,
    with_plaintext: bool,
) -> Result<Body, Failure> {
    let GenerateDataKey { key_id, context, length, dry_run } = request;
    let answer = kms.generate_data_key(call, &KeyReference::parse(&key_id), &context, length).await?;
    unless(dry_run, || generated(&answer, with_plaintext))
}

/// The answer, unless it is a dry run: one that has come this far would have worked.
fn unless(dry_run: bool, answer: impl FnOnce() -> Body) -> Result<Body, Failure> {
    if dry_run { Err(Failure::DryRun) } else { Ok(answer()) }
}

/// What Encrypt answers.
pub(in crate::server::aws) fn encrypted(answer: &Encrypted) -> Body {
    object(&[
        ("CiphertextBlob", Member::Blob(&answer.ciphertext_blob)),
        ("KeyId", Member::Text(&arn(&answer.key))),
        ("EncryptionAlgorithm", Member::Text(SYMMETRIC_DEFAULT)),
    ])
}

/// What Decrypt answers.
pub(in crate::server::aws) fn decrypted(answer: &Decrypted) -> Body {
    object(&[
        ("KeyId", Member::Text(&arn(&answer.key))),
        ("Plaintext", Member::Blob(answer.plaintext.expose())),
        ("EncryptionAlgorithm", Member::Text(SYMMETRIC_DEFAULT)),
        ("KeyMaterialId", Member::Text(&key_material_id(answer.key_version_id))),
    ])
}

/// What ReEncrypt answers.
pub(in crate::server::aws) fn re_encrypted(answer: &ReEncrypted) -> Body {
    let destination = &answer.destination;
    object(&[
        ("CiphertextBlob", Member::Blob(&destination.ciphertext_blob)),
        ("SourceKeyId", Member::Text(&arn(&answer.source))),
        ("KeyId", Member::Text(&arn(&destination.key))),
        ("SourceEncryptionAlgorithm", Member::Text(SYMMETRIC_DEFAULT)),
        ("DestinationEncryptionAlgorithm", Member::Text(SYMMETRIC_DEFAULT)),
        ("SourceKeyMaterialId", Member::Text(&key_material_id(answer.source_version_id))),
        ("DestinationKeyMaterialId", Member::Text(&key_material_id(destination.key_version_id))),
    ])
}

/// What GenerateDataKey and GenerateDataKeyWithoutPlaintext answer.
pub(in crate::server::aws) fn generated(answer: &GeneratedKey, with_plaintext: bool) -> Body {
    let GeneratedKey { encrypted, plaintext } = answer;
    let key_id = arn(&encrypted.key);
    let key_material_id = key_material_id(encrypted.key_version_id);
    let members = [
        ("CiphertextBlob", Member::Blob(&encrypted.ciphertext_blob)),
        ("KeyId", Member::Text(&key_id)),
        ("KeyMaterialId", Member::Text(&key_material_id)),
        ("Plaintext", Member::Blob(plaintext.expose())),
    ];
    let shown = if with_plaintext { members.len() } else { members.len() - 1 };
    object(&members[..shown])
}

fn arn(key: &ResourceName) -> String {
    key.arn(Dialect::Aws)
}
