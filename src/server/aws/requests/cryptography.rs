//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey and GenerateRandom.

use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{Blob, Text, members};
use crate::{
    kms::EncryptionContext,
    server::{
        Failure,
        aws::{
            action::Action,
            limits::{self, CIPHERTEXT_BYTES, NUMBER_OF_BYTES, PLAINTEXT_BYTES},
        },
        operations::DataKeyLength,
    },
};

/// The one algorithm of the keys here.
const SYMMETRIC_DEFAULT: &str = "SYMMETRIC_DEFAULT";

/// What a cryptographic operation is asked to do.
pub(in crate::server::aws) enum CryptographyInput<'a> {
    Encrypt(Encrypt<'a>),
    Decrypt(Decrypt<'a>),
    ReEncrypt(ReEncrypt<'a>),
    GenerateDataKey { request: GenerateDataKey<'a>, with_plaintext: bool },
    GenerateRandom(usize),
}

pub(in crate::server::aws) struct Encrypt<'a> {
    pub key_id: Text<'a>,
    pub context: EncryptionContext,
    pub plaintext: Zeroizing<Vec<u8>>,
    pub dry_run: bool,
}

pub(in crate::server::aws) struct Decrypt<'a> {
    pub key_id: Option<Text<'a>>,
    pub context: EncryptionContext,
    pub ciphertext_blob: Zeroizing<Vec<u8>>,
    pub dry_run: bool,
}

pub(in crate::server::aws) struct ReEncrypt<'a> {
    pub source_key_id: Option<Text<'a>>,
    pub source_context: EncryptionContext,
    pub ciphertext_blob: Zeroizing<Vec<u8>>,
    pub destination_key_id: Text<'a>,
    pub destination_context: EncryptionContext,
    pub dry_run: bool,
}

pub(in crate::server::aws) struct GenerateDataKey<'a> {
    pub key_id: Text<'a>,
    pub context: EncryptionContext,
    pub length: DataKeyLength,
    pub dry_run: bool,
}

/// All members of these operations.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members<'a> {
    #[serde(borrow)]
    key_id: Option<Text<'a>>,
    source_key_id: Option<Text<'a>>,
    destination_key_id: Option<Text<'a>>,
    plaintext: Option<Blob>,
    ciphertext_blob: Option<Blob>,
    encryption_context: Option<EncryptionContext>,
    source_encryption_context: Option<EncryptionContext>,
    destination_encryption_context: Option<EncryptionContext>,
    encryption_algorithm: Option<Text<'a>>,
    source_encryption_algorithm: Option<Text<'a>>,
    destination_encryption_algorithm: Option<Text<'a>>,
    key_spec: Option<Text<'a>>,
    number_of_bytes: Option<i64>,
    recipient: Option<IgnoredAny>,
    custom_key_store_id: Option<IgnoredAny>,
    dry_run: Option<bool>,
    dry_run_modifiers: Option<Vec<Text<'a>>>,
}

pub(super) fn read(action: Action, body: &[u8]) -> Result<CryptographyInput<'_>, Failure> {
    let members: Members<'_> = members(body)?;
    members.refuse_unsupported()?;
    let body_len = body.len();
    match action {
        Action::Encrypt => members.encrypt(body_len).map(CryptographyInput::Encrypt),
        Action::Decrypt => members.decrypt(body_len).map(CryptographyInput::Decrypt),
        Action::ReEncrypt => members.re_encrypt(body_len).map(CryptographyInput::ReEncrypt),
        Action::GenerateDataKey | Action::GenerateDataKeyWithoutPlaintext => {
            let with_plaintext = action == Action::GenerateDataKey;
            let request = members.generate_data_key(body_len)?;
            Ok(CryptographyInput::GenerateDataKey { request, with_plaintext })
        }
        Action::GenerateRandom => members.generate_random().map(CryptographyInput::GenerateRandom),
        _ => Err(Failure::UnknownOperation(action.as_str().to_owned())),
    }
}

impl<'a> Members<'a> {
    fn refuse_unsupported(&self) -> Result<(), Failure> {
        if self.recipient.is_some() {
            return Err(unsupported("Recipient is not supported: attestation documents are not verified here."));
        }
        if self.custom_key_store_id.is_some() {
            return Err(unsupported("CustomKeyStoreId is not supported: there are no custom key stores here."));
        }
        if self.dry_run_modifiers.as_ref().is_some_and(|modifiers| !modifiers.is_empty()) {
            return Err(unsupported("DryRunModifiers is not supported: a dry run does all but answer."));
        }
        for (parameter, algorithm) in [
            ("EncryptionAlgorithm", &self.encryption_algorithm),
            ("SourceEncryptionAlgorithm", &self.source_encryption_algorithm),
            ("DestinationEncryptionAlgorithm", &self.destination_encryption_algorithm),
        ] {
            if let Some(algorithm) = algorithm {
                check_algorithm(parameter, algorithm)?;
            }
        }
        Ok(())
    }

    fn encrypt(self, body_len: usize) -> Result<Encrypt<'a>, Failure> {
        let Blob(plaintext) = limits::required(self.plaintext, "Plaintext")?;
        limits::length("Plaintext", plaintext.len(), PLAINTEXT_BYTES, None)?;
        Ok(Encrypt {
            key_id: key("KeyId", self.key_id)?,
            context: context("EncryptionContext", self.encryption_context, body_len)?,
            plaintext,
            dry_run: self.dry_run.unwrap_or(false),
        })
    }

    fn decrypt(self, body_len: usize) -> Result<Decrypt<'a>, Failure> {
        Ok(Decrypt {
            key_id: optional_key("KeyId", self.key_id)?,
            context: context("EncryptionContext", self.encryption_context, body_len)?,
            ciphertext_blob: ciphertext(self.ciphertext_blob)?,
            dry_run: self.dry_run.unwrap_or(false),
        })
    }

    fn re_encrypt(self, body_len: usize) -> Result<ReEncrypt<'a>, Failure> {
        let (source, destination) = (self.source_encryption_context, self.destination_encryption_context);
        Ok(ReEncrypt {
            source_key_id: optional_key("SourceKeyId", self.source_key_id)?,
            source_context: context("SourceEncryptionContext", source, body_len)?,
            ciphertext_blob: ciphertext(self.ciphertext_blob)?,
            destination_key_id: key("DestinationKeyId", self.destination_key_id)?,
            destination_context: context("DestinationEncryptionContext", destination, body_len)?,
            dry_run: self.dry_run.unwrap_or(false),
        })
    }

    fn generate_data_key(self, body_len: usize) -> Result<GenerateDataKey<'a>, Failure> {
        let length = match (self.key_spec.as_deref(), self.number_of_bytes) {
            (Some(spec), None) => limits::one_of("KeySpec", spec, &[("AES_256", 32), ("AES_128", 16)])?,
            (None, Some(number)) => number_of_bytes(number)?,
            (Some(_), Some(_)) | (None, None) => {
                return Err(Failure::Validation("Please specify either number of bytes or key spec.".into()));
            }
        };
        Ok(GenerateDataKey {
            key_id: key("KeyId", self.key_id)?,
            context: context("EncryptionContext", self.encryption_context, body_len)?,
            length: DataKeyLength(length),
            dry_run: self.dry_run.unwrap_or(false),
        })
    }

    fn generate_random(self) -> Result<usize, Failure> {
        number_of_bytes(limits::required(self.number_of_bytes, "NumberOfBytes")?)
    }
}

fn unsupported(sentence: &str) -> Failure {
    Failure::Unsupported(sentence.to_owned())
}

/// The algorithms of asymmetric keys exist, and no key here has them.
fn check_algorithm(parameter: &str, algorithm: &str) -> Result<(), Failure> {
    let all = [SYMMETRIC_DEFAULT, "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"].map(|name| (name, name));
    match limits::one_of(parameter, algorithm, &all)? {
        SYMMETRIC_DEFAULT => Ok(()),
        other => Err(Failure::Unsupported(format!(
            "{parameter} {other} is not supported: only symmetric encryption keys (SYMMETRIC_DEFAULT) are served here."
        ))),
    }
}

fn key<'a>(parameter: &'static str, key_id: Option<Text<'a>>) -> Result<Text<'a>, Failure> {
    let key_id = limits::required(key_id, parameter)?;
    limits::key_id(parameter, &key_id)?;
    Ok(key_id)
}

fn optional_key<'a>(parameter: &'static str, key_id: Option<Text<'a>>) -> Result<Option<Text<'a>>, Failure> {
    key_id.map(|key_id| key(parameter, Some(key_id))).transpose()
}

fn context(
    parameter: &'static str,
    context: Option<EncryptionContext>,
    body_len: usize,
) -> Result<EncryptionContext, Failure> {
    limits::context(parameter, context.unwrap_or_default(), body_len)
}

fn ciphertext(blob: Option<Blob>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let Blob(blob) = limits::required(blob, "CiphertextBlob")?;
    limits::length("CiphertextBlob", blob.len(), CIPHERTEXT_BYTES, None)?;
    Ok(blob)
}

fn number_of_bytes(number: i64) -> Result<usize, Failure> {
    let number = limits::range("NumberOfBytes", number, NUMBER_OF_BYTES)?;
    usize::try_from(number).map_err(|_| Failure::MissingParameter("NumberOfBytes"))
}
