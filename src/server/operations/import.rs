//! GetParametersForImport, ImportKeyMaterial and DeleteKeyMaterial.

use jiff::Timestamp;

use super::{EndpointCluster, KeyDescription, KeyReference, Kms};
use crate::{
    kms::{ResourceName, WrappingAlgorithm, WrappingKeySpec},
    server::{Call, Failure},
    store::KeyStore,
};

/// What GetParametersForImport answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportParameters {
    /// The key that material may be imported for.
    pub key: ResourceName,
    /// The public key, as DER of a SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// The token: base64 of bytes that only this operator reads.
    pub import_token: String,
    /// When the token expires.
    pub valid_to: Timestamp,
}

/// What ImportKeyMaterial is given.
#[derive(Clone, Copy, Debug)]
pub struct MaterialToImport<'a> {
    /// The material, encrypted with the public key.
    pub encrypted_key_material: &'a [u8],
    /// The token, base64.
    pub import_token: &'a str,
    /// When the material expires. None: never.
    pub expire_time: Option<Timestamp>,
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// GetParametersForImport.
    pub async fn get_parameters_for_import(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        algorithm: WrappingAlgorithm,
        key_spec: WrappingKeySpec,
    ) -> Result<ImportParameters, Failure> {
        let _ = (call, key, algorithm, key_spec);
        Err(Failure::Internal("GetParametersForImport is not built yet".into()))
    }

    /// ImportKeyMaterial. Answers the key with its material.
    pub async fn import_key_material(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        material: MaterialToImport<'_>,
    ) -> Result<KeyDescription, Failure> {
        let _ = (call, key, material);
        Err(Failure::Internal("ImportKeyMaterial is not built yet".into()))
    }

    /// DeleteKeyMaterial; AWS: DeleteImportedKeyMaterial.
    pub async fn delete_key_material(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<(), Failure> {
        let _ = (call, key);
        Err(Failure::Internal("DeleteKeyMaterial is not built yet".into()))
    }
}
