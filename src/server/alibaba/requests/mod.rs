//! What an action asks for, read from the parameters and checked against the API's limits. Pure: nothing here knows which
//! keys there are.

mod cryptography;
mod fields;
mod filters;
mod keys;
mod lists;
mod tags;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use filters::Filters;
pub use lists::Page;

use super::{Parameters, actions};
use crate::{
    kms::{EncryptionContext, WrappingAlgorithm, WrappingKeySpec},
    server::{
        Failure,
        operations::{DataKeyLength, KeyReference, NewKeyDeclaration, RotationPolicy},
    },
};

/// What a request asks for. It can't be printed: it may hold plaintext.
pub enum ActionRequest<'a> {
    /// CreateKey.
    CreateKey(NewKeyDeclaration),
    /// DescribeKey.
    DescribeKey(KeyReference<'a>),
    /// ListKeys.
    ListKeys(Page, Filters),
    /// EnableKey.
    EnableKey(KeyReference<'a>),
    /// DisableKey.
    DisableKey(KeyReference<'a>),
    /// UpdateKeyDescription: the key and its new description.
    UpdateKeyDescription(KeyReference<'a>, &'a str),
    /// ScheduleKeyDeletion: the key and its window in days. None: the store's default.
    ScheduleKeyDeletion(KeyReference<'a>, Option<i32>),
    /// CancelKeyDeletion.
    CancelKeyDeletion(KeyReference<'a>),
    /// SetDeletionProtection: the key, and whether it shall be protected.
    SetDeletionProtection(KeyReference<'a>, bool),
    /// CreateAlias: the alias with its prefix, and the key.
    CreateAlias(&'a str, KeyReference<'a>),
    /// UpdateAlias: the alias with its prefix, and the key that it shall name.
    UpdateAlias(&'a str, KeyReference<'a>),
    /// DeleteAlias.
    DeleteAlias(&'a str),
    /// ListAliases, and ListAliasesByKeyId with a key.
    ListAliases(Option<KeyReference<'a>>, Page),
    /// Encrypt.
    Encrypt(Encrypt<'a>),
    /// Decrypt.
    Decrypt(Decrypt),
    /// ReEncrypt.
    ReEncrypt(ReEncrypt<'a>),
    /// GenerateDataKey and GenerateDataKeyWithoutPlaintext.
    GenerateDataKey(GenerateDataKey<'a>),
    /// GetParametersForImport.
    GetParametersForImport(KeyReference<'a>, WrappingAlgorithm, WrappingKeySpec),
    /// ImportKeyMaterial.
    ImportKeyMaterial(ImportKeyMaterial<'a>),
    /// DeleteKeyMaterial.
    DeleteKeyMaterial(KeyReference<'a>),
    /// CreateKeyVersion.
    CreateKeyVersion(KeyReference<'a>),
    /// DescribeKeyVersion: the key and its version. An id that is none names no version.
    DescribeKeyVersion(KeyReference<'a>, &'a str),
    /// ListKeyVersions.
    ListKeyVersions(KeyReference<'a>, Page),
    /// UpdateRotationPolicy.
    UpdateRotationPolicy(KeyReference<'a>, RotationPolicy),
    /// TagResource.
    TagResource(KeyReference<'a>, BTreeMap<String, String>),
    /// UntagResource: the key and the keys of the tags to remove.
    UntagResource(KeyReference<'a>, Vec<String>),
    /// ListResourceTags.
    ListResourceTags(KeyReference<'a>),
}

/// Encrypt.
pub struct Encrypt<'a> {
    /// The key.
    pub key: KeyReference<'a>,
    /// The encryption context.
    pub context: EncryptionContext,
    /// 1 to 6144 bytes.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// Do it, and don't show the result.
    pub dry_run: bool,
}

/// Decrypt. The ciphertext names the key.
pub struct Decrypt {
    /// The encryption context.
    pub context: EncryptionContext,
    /// The ciphertext.
    pub ciphertext_blob: Zeroizing<Vec<u8>>,
    /// Do it, and don't show the result.
    pub dry_run: bool,
}

/// ReEncrypt.
pub struct ReEncrypt<'a> {
    /// The key that the ciphertext has to be under, if that is said.
    pub source: Option<KeyReference<'a>>,
    /// The encryption context that it was made with.
    pub source_context: EncryptionContext,
    /// The ciphertext.
    pub ciphertext_blob: Zeroizing<Vec<u8>>,
    /// The key that it shall be under.
    pub destination: KeyReference<'a>,
    /// The encryption context that it shall have.
    pub destination_context: EncryptionContext,
    /// Do it, and don't show the result.
    pub dry_run: bool,
}

/// GenerateDataKey and GenerateDataKeyWithoutPlaintext.
pub struct GenerateDataKey<'a> {
    /// The key.
    pub key: KeyReference<'a>,
    /// The encryption context.
    pub context: EncryptionContext,
    /// How long the data key shall be.
    pub length: DataKeyLength,
    /// Answer the ciphertext only.
    pub without_plaintext: bool,
    /// Do it, and don't show the result.
    pub dry_run: bool,
}

/// ImportKeyMaterial.
pub struct ImportKeyMaterial<'a> {
    /// The key.
    pub key: KeyReference<'a>,
    /// The material, encrypted with the public key of the import.
    pub encrypted_key_material: Zeroizing<Vec<u8>>,
    /// The token of the import, in base64.
    pub import_token: &'a str,
    /// When the material expires. None: never.
    pub expire_time: Option<Timestamp>,
}

impl<'a> ActionRequest<'a> {
    /// Reads what an action asks for. Parameters that no action has are ignored, as the API does; those that an action has
    /// and this endpoint can't honour are refused.
    ///
    /// # Errors
    /// [`Failure::UnknownOperation`], [`Failure::Unsupported`], and the failures about parameters.
    pub fn parse(action: &str, parameters: &'a Parameters<'a>) -> Result<Self, Failure> {
        let p = parameters;
        let asked = match action {
            "Encrypt" => return cryptography::encrypt(p),
            "Decrypt" => return cryptography::decrypt(p),
            "ReEncrypt" => return cryptography::re_encrypt(p),
            "GenerateDataKey" => return cryptography::generate_data_key(p, false),
            "GenerateDataKeyWithoutPlaintext" => return cryptography::generate_data_key(p, true),
            "CreateKey" => Self::CreateKey(keys::new_key(p)?),
            "DescribeKey" => Self::DescribeKey(fields::key(p)?),
            "ListKeys" => Self::ListKeys(lists::page(p)?, filters::filters(p)?),
            "EnableKey" => Self::EnableKey(fields::key_by_id(p)?),
            "DisableKey" => Self::DisableKey(fields::key_by_id(p)?),
            "UpdateKeyDescription" => Self::UpdateKeyDescription(fields::key_by_id(p)?, keys::new_description(p)?),
            "ScheduleKeyDeletion" => Self::ScheduleKeyDeletion(fields::key_by_id(p)?, keys::pending_window(p)?),
            "CancelKeyDeletion" => Self::CancelKeyDeletion(fields::key_by_id(p)?),
            "SetDeletionProtection" => keys::deletion_protection(p)?,
            "CreateAlias" => Self::CreateAlias(keys::alias(p)?, fields::key_by_id(p)?),
            "UpdateAlias" => Self::UpdateAlias(keys::alias(p)?, fields::key_by_id(p)?),
            "DeleteAlias" => Self::DeleteAlias(keys::alias(p)?),
            "ListAliases" => Self::ListAliases(None, lists::page(p)?),
            "ListAliasesByKeyId" => Self::ListAliases(Some(fields::key_by_id(p)?), lists::page(p)?),
            "GetParametersForImport" => keys::import_parameters(p)?,
            "ImportKeyMaterial" => keys::import(p)?,
            "DeleteKeyMaterial" => Self::DeleteKeyMaterial(fields::key_by_id(p)?),
            "CreateKeyVersion" => Self::CreateKeyVersion(fields::key(p)?),
            "DescribeKeyVersion" => Self::DescribeKeyVersion(fields::key(p)?, fields::required(p, "KeyVersionId")?),
            "ListKeyVersions" => Self::ListKeyVersions(fields::key(p)?, lists::page(p)?),
            "UpdateRotationPolicy" => Self::UpdateRotationPolicy(fields::key_by_id(p)?, keys::rotation_policy(p)?),
            "TagResource" => Self::TagResource(tags::resource(p)?, tags::required(p)?),
            "UntagResource" => Self::UntagResource(tags::resource(p)?, tags::keys(p)?),
            "ListResourceTags" => Self::ListResourceTags(fields::key_by_id(p)?),
            other => return Err(not_served(other)),
        };
        // The API has it for cryptography only. To change something after all would be the worst answer.
        if fields::flag(p, "DryRun")? == Some(true) {
            return Err(Failure::Unsupported(format!(
                "{action} has no dry run: DryRun is for cryptographic operations"
            )));
        }
        Ok(asked)
    }
}

fn not_served(action: &str) -> Failure {
    match actions::known(action) {
        Some(known) => Failure::Unsupported(format!(
            "{known} is not served here: this endpoint has symmetric keys, their aliases, versions and tags"
        )),
        None => Failure::UnknownOperation(action.chars().take(64).collect()),
    }
}

/// The version that a text names, if it can name one.
#[must_use]
pub fn version_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok()
}
