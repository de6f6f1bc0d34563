//! From what a request asks for to what it is answered, by the operations of both APIs.

use super::{
    requests::{ActionRequest, Decrypt, Encrypt, GenerateDataKey, ImportKeyMaterial, ReEncrypt, version_id},
    responses::{Listed, Response},
};
use crate::{
    server::{
        Call, Failure,
        operations::{EndpointCluster, KeyReference, Kms, MaterialToImport},
    },
    store::KeyStore,
};

/// Does what is asked.
pub(super) async fn carry_out<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    asked: &ActionRequest<'_>,
) -> Result<Response, Failure> {
    use ActionRequest as A;
    let answered = match asked {
        A::Encrypt(asked) => return encrypt(kms, call, asked).await,
        A::Decrypt(asked) => return decrypt(kms, call, asked).await,
        A::ReEncrypt(asked) => return re_encrypt(kms, call, asked).await,
        A::GenerateDataKey(asked) => return generate_data_key(kms, call, asked).await,
        A::CreateKey(new) => Response::KeyCreated(kms.create_key(call, new).await?),
        A::DescribeKey(key) => Response::KeyDescribed(kms.describe_key(call, key).await?),
        A::ListResourceTags(key) => Response::Tags(kms.describe_key(call, key).await?),
        A::ListKeys(page, filters) => {
            let mut keys = kms.list_keys(call).await?;
            keys.retain(|key| filters.take(key));
            Response::Keys(Listed::of(keys, *page))
        }
        A::ListAliases(key, page) => Response::Aliases(Listed::of(kms.list_aliases(call, key.as_ref()).await?, *page)),
        A::ListKeyVersions(key, page) => {
            Response::KeyVersions(Listed::of(kms.list_key_versions(call, key).await?, *page))
        }
        A::DescribeKeyVersion(key, version) => describe_key_version(kms, call, key, version).await?,
        A::CreateKeyVersion(key) => Response::KeyVersion(kms.rotate(call, key).await?),
        A::GetParametersForImport(key, algorithm, spec) => {
            Response::ImportParameters(kms.get_parameters_for_import(call, key, *algorithm, *spec).await?)
        }
        A::EnableKey(key) => done(kms.enable_key(call, key).await?),
        A::DisableKey(key) => done(kms.disable_key(call, key).await?),
        A::UpdateKeyDescription(key, text) => done(kms.update_key_description(call, key, text).await?),
        A::ScheduleKeyDeletion(key, days) => done(kms.schedule_key_deletion(call, key, *days).await?),
        A::CancelKeyDeletion(key) => done(kms.cancel_key_deletion(call, key).await?),
        A::SetDeletionProtection(key, protected) => done(kms.set_deletion_protection(call, key, *protected).await?),
        A::CreateAlias(alias, key) => done(kms.create_alias(call, alias, key).await?),
        A::UpdateAlias(alias, key) => done(kms.update_alias(call, alias, key).await?),
        A::DeleteAlias(alias) => done(kms.delete_alias(call, alias).await?),
        A::TagResource(key, tags) => done(kms.tag_resource(call, key, tags).await?),
        A::UntagResource(key, tag_keys) => done(kms.untag_resource(call, key, tag_keys).await?),
        A::UpdateRotationPolicy(key, policy) => done(kms.update_rotation_policy(call, key, *policy).await?),
        A::ImportKeyMaterial(ImportKeyMaterial { key, encrypted_key_material, import_token, expire_time }) => {
            let material = MaterialToImport { encrypted_key_material, import_token, expire_time: *expire_time };
            done(kms.import_key_material(call, key, material).await?)
        }
        A::DeleteKeyMaterial(key) => done(kms.delete_key_material(call, key).await?),
    };
    Ok(answered)
}

/// What the operation answers, if anything, is not shown by this API.
fn done<T>(_: T) -> Response {
    Response::Done
}

async fn encrypt<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    asked: &Encrypt<'_>,
) -> Result<Response, Failure> {
    let Encrypt { key, context, plaintext, dry_run } = asked;
    let encrypted = kms.encrypt(call, key, context, plaintext).await?;
    unless_dry(*dry_run, Response::Encrypted(encrypted))
}

async fn decrypt<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    asked: &Decrypt,
) -> Result<Response, Failure> {
    let Decrypt { context, ciphertext_blob, dry_run } = asked;
    let decrypted = kms.decrypt(call, None, context, ciphertext_blob).await?;
    unless_dry(*dry_run, Response::Decrypted(decrypted))
}

async fn re_encrypt<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    asked: &ReEncrypt<'_>,
) -> Result<Response, Failure> {
    let ReEncrypt { source, source_context, ciphertext_blob, destination, destination_context, dry_run } = asked;
    let from = (source.as_ref(), source_context, ciphertext_blob.as_slice());
    let re_encrypted = kms.re_encrypt(call, from, (destination, destination_context)).await?;
    unless_dry(*dry_run, Response::ReEncrypted(re_encrypted))
}

async fn generate_data_key<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    asked: &GenerateDataKey<'_>,
) -> Result<Response, Failure> {
    let GenerateDataKey { key, context, length, without_plaintext, dry_run } = asked;
    let generated = kms.generate_data_key(call, key, context, *length).await?;
    let shown =
        if *without_plaintext { Response::Encrypted(generated.encrypted) } else { Response::DataKey(generated) };
    unless_dry(*dry_run, shown)
}

/// A dry run does the whole work, which changes nothing, and shows nothing of it.
fn unless_dry(dry_run: bool, response: Response) -> Result<Response, Failure> {
    if dry_run { Err(Failure::DryRun) } else { Ok(response) }
}

async fn describe_key_version<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    key: &KeyReference<'_>,
    version: &str,
) -> Result<Response, Failure> {
    let asked = version_id(version);
    let versions = kms.list_key_versions(call, key).await?;
    let found = versions.into_iter().find(|known| Some(known.id) == asked);
    found.map(Response::KeyVersion).ok_or_else(|| Failure::KeyVersionNotFound(version.to_owned()))
}
