//! Imported material.

use jiff::Timestamp;

use super::{Body, json};
use crate::{
    kms::key_record::add_days,
    server::{
        Call, Failure,
        aws::{
            limits::MAX_VALID_DAYS,
            requests::{ImportInput, ImportKeyMaterial},
            responses::{ImportParameters, KeyWithMaterial},
        },
        operations::{EndpointCluster, KeyReference, Kms, MaterialToImport},
    },
    store::KeyStore,
};

pub(super) async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    input: ImportInput<'_>,
) -> Result<Body, Failure> {
    match input {
        ImportInput::GetParametersForImport(request) => {
            let key = KeyReference::parse(&request.key_id);
            let parameters = kms.get_parameters_for_import(call, &key, request.algorithm, request.key_spec).await?;
            json(&ImportParameters::from(parameters))
        }
        ImportInput::ImportKeyMaterial(request) => {
            let ImportKeyMaterial { key_id, import_token, encrypted_key_material, valid_to } = request;
            check_valid_to(valid_to, kms.now())?;
            let material = MaterialToImport {
                encrypted_key_material: &encrypted_key_material,
                import_token: &import_token,
                expire_time: valid_to,
            };
            let key = kms.import_key_material(call, &KeyReference::parse(&key_id), material).await?;
            json(&KeyWithMaterial::from(&key))
        }
        ImportInput::DeleteImportedKeyMaterial(key) => {
            kms.delete_key_material(call, &KeyReference::parse(&key)).await?;
            let key = kms.key_of(call).ok_or_else(|| Failure::Internal("the key is gone".into()))?;
            json(&KeyWithMaterial::deleted(&key.record))
        }
    }
}

/// Imported material expires within a year, if it does.
pub(super) fn check_valid_to(valid_to: Option<Timestamp>, now: Timestamp) -> Result<(), Failure> {
    let refused = |message: &str| Err(Failure::Validation(message.to_owned()));
    match valid_to {
        Some(time) if time <= now => refused("ValidTo must be in the future."),
        Some(time) if add_days(now, MAX_VALID_DAYS).is_some_and(|latest| time > latest) => {
            refused("ValidTo must be at most 365 days from now.")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn material_expires_within_a_year() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let after = |seconds: i64| Some(Timestamp::from_second(1_000_000_i64 + seconds).unwrap());
        let year = 365 * 86_400;
        for allowed in [None, after(1), after(year)] {
            assert_eq!(check_valid_to(allowed, now), Ok(()), "{allowed:?}");
        }
        for refused in [after(0), after(-1), after(year + 1)] {
            assert!(matches!(check_valid_to(refused, now), Err(Failure::Validation(_))), "{refused:?}");
        }
    }
}
