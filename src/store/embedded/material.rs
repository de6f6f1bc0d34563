//! Importing material: from what the user brings to a wrapped version (design, rule 9).

use uuid::Uuid;

use super::{EmbeddedStore, crypto, not_unwrapped};
use crate::{
    cluster::Secrets,
    crypto::{self as primitives, KeyMaterial, WrapContext, Wrapped},
    kms::{
        KeyRecord, KeyStep, WrappingAlgorithm,
        key_record::{ImportedMaterial, MaterialCheck, RecordVersion, to_seconds},
    },
    store::{ImportRefusal, MaterialImport, StoreError},
};

impl<S: Secrets> EmbeddedStore<S> {
    /// The step that imports what was given, if it is exactly 32 bytes, and the same that the key had before.
    pub(super) fn import_step(
        &self,
        record: &KeyRecord,
        import: &MaterialImport,
        given: &[u8],
    ) -> Result<KeyStep, StoreError> {
        let material = self.opened(record.key_id, import, given)?;
        let now = to_seconds(self.clock.now());
        let before = match &record.imported {
            Some(before) if !self.is_same(record, before, &material)? => return Err(ImportRefusal::Different.into()),
            before => before.clone(),
        };
        let [version_id, check_id] = import.fresh;
        let (version_id, creation_date) =
            before.as_ref().map_or((version_id, now), |before| (before.version_id, before.creation_date));
        let check = match before {
            Some(before) => before.check,
            None => self.new_check(record, check_id, &material)?,
        };
        let context = Self::wrap_context(record, version_id);
        let Wrapped { root_key_id, bytes } = self.ring.wrap(&*self.random, &context, &material).map_err(crypto)?;
        Ok(KeyStep::ImportMaterial {
            imported: ImportedMaterial {
                version_id,
                creation_date,
                source: import.source.clone(),
                expire_time: import.expire_time,
                check,
            },
            version: RecordVersion {
                id: version_id,
                creation_date,
                root_key_id: root_key_id.into(),
                wrapped: bytes,
                on_demand: false,
            },
        })
    }

    /// Whether material could be imported, and the algorithm that its token is for.
    pub(super) fn checked(
        &self,
        record: &KeyRecord,
        token: &str,
        encrypted: &[u8],
    ) -> Result<WrappingAlgorithm, StoreError> {
        let key_id = record.key_id;
        let algorithm = self.ring.import_token_algorithm(token, key_id).map_err(ImportRefusal::from)?;
        let key = self.ring.open_import_token(token, key_id, algorithm, self.clock.now());
        let material = key.map_err(ImportRefusal::from)?.unwrap(encrypted).map_err(|_| ImportRefusal::Invalid)?;
        match &record.imported {
            Some(before) if !self.is_same(record, before, &material)? => Err(ImportRefusal::Different.into()),
            _ => Ok(algorithm),
        }
    }

    /// The material itself, decrypted if need be.
    fn opened(&self, key_id: Uuid, import: &MaterialImport, given: &[u8]) -> Result<KeyMaterial, ImportRefusal> {
        match &import.wrapping {
            None => KeyMaterial::from_bytes(given).map_err(|_| ImportRefusal::Invalid),
            Some((algorithm, token)) => {
                let key = self.ring.open_import_token(token, key_id, *algorithm, self.clock.now())?;
                key.unwrap(given).map_err(|_| ImportRefusal::Invalid)
            }
        }
    }

    fn new_check(&self, record: &KeyRecord, id: Uuid, material: &KeyMaterial) -> Result<MaterialCheck, StoreError> {
        let context = Self::wrap_context(record, id);
        let check = self.ring.new_material_check(&*self.random, &context, material).map_err(crypto)?;
        Ok(MaterialCheck {
            id,
            root_key_id: check.check_key.root_key_id.into(),
            wrapped_key: check.check_key.bytes,
            value: check.value.to_vec(),
        })
    }

    fn is_same(
        &self,
        record: &KeyRecord,
        before: &ImportedMaterial,
        material: &KeyMaterial,
    ) -> Result<bool, StoreError> {
        let MaterialCheck { id, root_key_id, wrapped_key, value } = &before.check;
        let context: WrapContext<'_> = Self::wrap_context(record, *id);
        let check = primitives::MaterialCheck {
            check_key: Wrapped { root_key_id: (*root_key_id).into(), bytes: wrapped_key.clone() },
            value: value.as_slice().try_into().map_err(|_| StoreError::Damaged)?,
        };
        self.ring.is_same_material(&context, &check, material).map_err(not_unwrapped)
    }
}
