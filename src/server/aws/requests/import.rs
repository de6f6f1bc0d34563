//! GetParametersForImport, ImportKeyMaterial and DeleteImportedKeyMaterial.

use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{Blob, Text, members};
use crate::{
    kms::{WrappingAlgorithm, WrappingKeySpec},
    server::{
        Failure,
        aws::{
            action::Action,
            limits::{self, CIPHERTEXT_BYTES},
        },
    },
};

/// What an operation about imported material is asked to do.
pub(in crate::server::aws) enum ImportInput<'a> {
    GetParametersForImport(GetParametersForImport<'a>),
    ImportKeyMaterial(ImportKeyMaterial<'a>),
    DeleteImportedKeyMaterial(Text<'a>),
}

pub(in crate::server::aws) struct GetParametersForImport<'a> {
    pub key_id: Text<'a>,
    pub algorithm: WrappingAlgorithm,
    pub key_spec: WrappingKeySpec,
}

pub(in crate::server::aws) struct ImportKeyMaterial<'a> {
    pub key_id: Text<'a>,
    /// Base64.
    pub import_token: Text<'a>,
    pub encrypted_key_material: Zeroizing<Vec<u8>>,
    /// None: never.
    pub valid_to: Option<Timestamp>,
}

/// All members of these operations.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members<'a> {
    #[serde(borrow)]
    key_id: Option<Text<'a>>,
    wrapping_algorithm: Option<Text<'a>>,
    wrapping_key_spec: Option<Text<'a>>,
    import_token: Option<Text<'a>>,
    encrypted_key_material: Option<Blob>,
    valid_to: Option<f64>,
    expiration_model: Option<Text<'a>>,
    import_type: Option<Text<'a>>,
    key_material_description: Option<Text<'a>>,
    key_material_id: Option<IgnoredAny>,
}

pub(super) fn read(action: Action, body: &[u8]) -> Result<ImportInput<'_>, Failure> {
    let members: Members<'_> = members(body)?;
    members.refuse_unsupported()?;
    match action {
        Action::GetParametersForImport => members.parameters().map(ImportInput::GetParametersForImport),
        Action::ImportKeyMaterial => members.material().map(ImportInput::ImportKeyMaterial),
        Action::DeleteImportedKeyMaterial => key(members.key_id).map(ImportInput::DeleteImportedKeyMaterial),
        other => Err(Failure::UnknownOperation(other.as_str().to_owned())),
    }
}

impl<'a> Members<'a> {
    fn refuse_unsupported(&self) -> Result<(), Failure> {
        let unsupported = |sentence: &str| Err(Failure::Unsupported(sentence.to_owned()));
        if self.key_material_id.is_some() {
            return unsupported("KeyMaterialId is not supported: a key has one imported material at most.");
        }
        if self.key_material_description.as_deref().is_some_and(|description| !description.is_empty()) {
            return unsupported("KeyMaterialDescription is not supported.");
        }
        Ok(())
    }

    fn parameters(self) -> Result<GetParametersForImport<'a>, Failure> {
        let key_id = key(self.key_id)?;
        let algorithm = limits::required(self.wrapping_algorithm, "WrappingAlgorithm")?;
        let key_spec = limits::required(self.wrapping_key_spec, "WrappingKeySpec")?;
        Ok(GetParametersForImport {
            key_id,
            algorithm: wrapping_algorithm(&algorithm)?,
            key_spec: wrapping_key_spec(&key_spec)?,
        })
    }

    fn material(self) -> Result<ImportKeyMaterial<'a>, Failure> {
        if let Some(import_type) = &self.import_type {
            limits::one_of("ImportType", import_type, &[("NEW_KEY_MATERIAL", ()), ("EXISTING_KEY_MATERIAL", ())])?;
        }
        let valid_to = valid_to(self.expiration_model.as_deref(), self.valid_to)?;
        let Blob(material) = limits::required(self.encrypted_key_material, "EncryptedKeyMaterial")?;
        limits::length("EncryptedKeyMaterial", material.len(), CIPHERTEXT_BYTES, None)?;
        let import_token = limits::required(self.import_token, "ImportToken")?;
        let most = CIPHERTEXT_BYTES.end().div_ceil(3) * 4;
        limits::length("ImportToken", import_token.len(), 1..=most, None)?;
        Ok(ImportKeyMaterial { key_id: key(self.key_id)?, import_token, encrypted_key_material: material, valid_to })
    }
}

fn key(key_id: Option<Text<'_>>) -> Result<Text<'_>, Failure> {
    let key_id = limits::required(key_id, "KeyId")?;
    limits::key_only("KeyId", &key_id)?;
    Ok(key_id)
}

/// RSAES_PKCS1_V1_5 is retired in AWS as well, and SM2 is of its regions in China: neither is a value here.
fn wrapping_algorithm(name: &str) -> Result<WrappingAlgorithm, Failure> {
    limits::one_of("WrappingAlgorithm", name, &WrappingAlgorithm::ALL.map(|algorithm| (algorithm.as_str(), algorithm)))
}

fn wrapping_key_spec(name: &str) -> Result<WrappingKeySpec, Failure> {
    limits::one_of("WrappingKeySpec", name, &WrappingKeySpec::ALL.map(|spec| (spec.as_str(), spec)))
}

/// When the material expires. It does, unless the request says that it does not.
fn valid_to(model: Option<&str>, valid_to: Option<f64>) -> Result<Option<Timestamp>, Failure> {
    let models = [("KEY_MATERIAL_EXPIRES", true), ("KEY_MATERIAL_DOES_NOT_EXPIRE", false)];
    let expires = limits::one_of("ExpirationModel", model.unwrap_or("KEY_MATERIAL_EXPIRES"), &models)?;
    match (expires, valid_to) {
        (true, Some(seconds)) => epoch_seconds(seconds)
            .map(Some)
            .ok_or_else(|| Failure::Validation("ValidTo must be a time, in seconds since 1970.".into())),
        (true, None) => Err(Failure::Validation(
            "A ValidTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES.".into(),
        )),
        (false, Some(_)) => Err(Failure::Validation(
            "A ValidTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE.".into(),
        )),
        (false, None) => Ok(None),
    }
}

/// A time, to the second.
fn epoch_seconds(seconds: f64) -> Option<Timestamp> {
    // A float becomes the nearest integer that there is, and what is no time is refused then.
    #[allow(clippy::cast_possible_truncation)]
    let whole = seconds.is_finite().then_some(seconds.trunc() as i64)?;
    Timestamp::from_second(whole).ok()
}
