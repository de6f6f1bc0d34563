//! Encrypt, Decrypt, ReEncrypt and GenerateDataKey.

use super::{
    ActionRequest, Decrypt, Encrypt, GenerateDataKey, ReEncrypt,
    fields::{bytes, flag, invalid, key, number, one_of, optional, refuse, required},
};
use crate::{
    kms::{EncryptionContext, encryption_context::MAX_JSON_CHARS},
    server::{
        Failure,
        alibaba::Parameters,
        operations::{DataKeyLength, KeyReference},
    },
};

/// The most bytes that Encrypt takes: 6 KB (design, rule 19).
pub(super) const MAX_PLAINTEXT: usize = 6 * 1024;

pub(super) fn encrypt<'a>(p: &'a Parameters<'_>) -> Result<ActionRequest<'a>, Failure> {
    let (key, context, plaintext) = (key(p)?, context(p, "EncryptionContext")?, bytes(p, "Plaintext")?);
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(invalid("Plaintext", format!("it has more than {MAX_PLAINTEXT} bytes")));
    }
    Ok(ActionRequest::Encrypt(Encrypt { key, context, plaintext, dry_run: dry_run(p)? }))
}

pub(super) fn decrypt<'a>(p: &'a Parameters<'_>) -> Result<ActionRequest<'a>, Failure> {
    refuse_recipient(p)?;
    let (context, ciphertext_blob) = (context(p, "EncryptionContext")?, bytes(p, "CiphertextBlob")?);
    Ok(ActionRequest::Decrypt(Decrypt { context, ciphertext_blob, dry_run: dry_run(p)? }))
}

pub(super) fn re_encrypt<'a>(p: &'a Parameters<'_>) -> Result<ActionRequest<'a>, Failure> {
    for name in ["SourceEncryptionAlgorithm", "SourceKeyVersionId"] {
        refuse(p, name, "it is for ciphertexts of asymmetric keys")?;
    }
    Ok(ActionRequest::ReEncrypt(ReEncrypt {
        source: optional(p, "SourceKeyId").map(KeyReference::parse),
        source_context: context(p, "SourceEncryptionContext")?,
        ciphertext_blob: bytes(p, "CiphertextBlob")?,
        destination: KeyReference::parse(required(p, "DestinationKeyId")?),
        destination_context: context(p, "DestinationEncryptionContext")?,
        dry_run: dry_run(p)?,
    }))
}

pub(super) fn generate_data_key<'a>(
    p: &'a Parameters<'_>,
    without_plaintext: bool,
) -> Result<ActionRequest<'a>, Failure> {
    refuse_recipient(p)?;
    let (key, context, length) = (key(p)?, context(p, "EncryptionContext")?, length(p)?);
    let dry_run = dry_run(p)?;
    Ok(ActionRequest::GenerateDataKey(GenerateDataKey { key, context, length, without_plaintext, dry_run }))
}

/// `NumberOfBytes` outweighs `KeySpec`; with neither it is 32 bytes.
fn length(p: &Parameters<'_>) -> Result<DataKeyLength, Failure> {
    let by_number = number(p, "NumberOfBytes", 1..=1024)?.and_then(|number| usize::try_from(number).ok());
    let length = match by_number {
        Some(number) => number,
        None => one_of(p, "KeySpec", &[("AES_256", 32), ("AES_128", 16)])?.unwrap_or(32),
    };
    Ok(DataKeyLength(length))
}

/// A JSON object of texts. Its length counts in the compact form; a text as given is never shorter than that.
fn context(p: &Parameters<'_>, name: &'static str) -> Result<EncryptionContext, Failure> {
    let Some(text) = optional(p, name) else { return Ok(EncryptionContext::new()) };
    let context: EncryptionContext = serde_json::from_str(text)
        .map_err(|_| invalid(name, "it must be a JSON object whose values are texts, with no name twice"))?;
    if text.len() > MAX_JSON_CHARS {
        context.check_size().map_err(|error| invalid(name, error.to_string()))?;
    }
    Ok(context)
}

fn dry_run(p: &Parameters<'_>) -> Result<bool, Failure> {
    Ok(flag(p, "DryRun")?.unwrap_or(false))
}

fn refuse_recipient(p: &Parameters<'_>) -> Result<(), Failure> {
    refuse(p, "Recipient", "there are no attested recipients here")
}
