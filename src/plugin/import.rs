//! `kubectl cmk import`: key material from a file, by way of a Secret.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde_json::json;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{
    arguments::ImportArguments,
    change::{Changed, Edit, change, described, permitted},
    failure::Failure,
    lifecycle::{answered, refuse_deleted},
    output::{note, print},
    session::{FIELD_MANAGER, Session},
};
use crate::{
    api::{
        CustomerMasterKey, CustomerMasterKeyStatus,
        conditions::{self, READY, reason},
        customer_master_key::{ImportedKeyMaterial, SecretKeyRef},
        metadata,
    },
    cluster::WipedSecret,
    kms::{KeyState, Origin},
};

/// The length of key material, in bytes.
const MATERIAL_LENGTH: usize = 32;
/// The entry of the Secret.
const ENTRY: &str = "material";

/// Puts the material into a Secret, declares it, and waits until it is imported.
pub async fn import(session: &Session, arguments: &ImportArguments) -> Result<ExitCode, Failure> {
    let name = &arguments.change.name;
    let material = read_material(&arguments.from_file)?;
    let secret_name = arguments.secret_name.clone().unwrap_or_else(|| format!("{name}-material"));
    let edits = |key: &CustomerMasterKey| declaration(key, &secret_name, arguments);
    // Before there is a Secret for nothing.
    let key = session.key(name).await?;
    permitted(&key, edits(&key)?, &arguments.change.how)?;
    let made = deliver(session, &key, &secret_name, &material).await?;
    drop(material);
    let changed = match change(session, name, &arguments.change.how, edits).await {
        Ok(changed) => changed,
        Err(error) => {
            take_back(session, made).await;
            return Err(error);
        }
    };
    let (Changed::Nothing(key) | Changed::Written(key)) = changed;
    match answered(session, &arguments.change.how, &key, is_imported).await? {
        None => print(&format!("{} is to import the material in Secret {secret_name}.\n", described(&key))),
        Some(key) => print(&format!(
            "{} has its material: it is {}.\nSecret {secret_name} holds the material in plaintext, and is not needed \
             while the key has it. Keep a copy outside the cluster, and delete the Secret.\n",
            described(&key),
            state(&key)
        )),
    }
}

/// The key has material, and nothing is wrong with what is declared: one that had material before keeps it when other
/// material is refused.
fn is_imported(status: &CustomerMasterKeyStatus) -> bool {
    const ABOUT_MATERIAL: [&str; 3] =
        [reason::MATERIAL_NOT_FOUND, reason::INVALID_KEY_MATERIAL, reason::MATERIAL_EXPIRED];
    let has_material = status.key_metadata.as_ref().is_some_and(|m| m.key_state != KeyState::PendingImport);
    let ready = conditions::find(&status.conditions, READY);
    has_material && ready.is_some_and(|ready| !ABOUT_MATERIAL.contains(&ready.reason.as_str()))
}

fn state(key: &CustomerMasterKey) -> &'static str {
    let metadata = key.status.as_ref().and_then(|status| status.key_metadata.as_ref());
    metadata.map(|metadata| metadata.key_state.as_str()).unwrap_or_default()
}

/// The change that declares the material.
fn declaration(key: &CustomerMasterKey, secret: &str, arguments: &ImportArguments) -> Result<Vec<Edit>, Failure> {
    refuse_deleted(key)?;
    if key.spec.origin != Some(Origin::External) {
        return Err(Failure::Impossible(format!(
            "{} has origin {}, which gets its material from the key store. Material is imported into keys with \
             spec.origin EXTERNAL; the origin can't change, so make a new CustomerMasterKey.",
            described(key),
            key.spec.origin.unwrap_or_default().as_str()
        )));
    }
    let declared = ImportedKeyMaterial {
        secret_ref: SecretKeyRef { name: secret.to_owned(), key: ENTRY.into() },
        expire_time: arguments.expire_time.map(Time),
        wrapping: None,
    };
    let is = key.spec.imported_key_material.as_ref().map(|declared| json!(declared));
    Ok(vec![Edit::spec("importedKeyMaterial", is, json!(declared))])
}

/// The material in a file, or on standard input.
fn read_material(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = path.display().to_string();
    let mut source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(|error| Failure::Io { what: shown.clone(), error })?),
    };
    // Of the size that it may have, so that it is not moved, and copies are not left behind.
    let mut material = Zeroizing::new(vec![0; MATERIAL_LENGTH]);
    let mut length = 0;
    loop {
        let rest = &mut material[length.min(MATERIAL_LENGTH)..];
        let mut spill = Zeroizing::new([0_u8; 256]);
        let into = if rest.is_empty() { &mut spill[..] } else { rest };
        match source.read(into) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Io { what: shown, error }),
        }
    }
    if length == MATERIAL_LENGTH {
        return Ok(material);
    }
    let hint = match length {
        33 => ": is there a line end behind it? Write it without, as `head -c 32` does",
        44 | 45 => ": is it base64? Decode it first (base64 -d)",
        64 | 65 => ": is it hexadecimal? Decode it first (xxd -r -p)",
        _ => "",
    };
    Err(Failure::MaterialLength { path: shown, length, hint })
}

/// Makes the Secret, and answers it if it is new. One of that name that is there already has to hold the same: no
/// Secret is overwritten.
async fn deliver(
    session: &Session,
    key: &CustomerMasterKey,
    name: &str,
    material: &[u8],
) -> Result<Option<Secret>, Failure> {
    let api: Api<Secret> = Api::namespaced(session.client.clone(), &session.namespace);
    let secret = WipedSecret::from(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(BTreeMap::from([(
                metadata::MATERIAL_OF.to_owned(),
                format!("{}/{}", session.namespace, key.name_any()),
            )])),
            labels: Some(BTreeMap::from([(metadata::MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(ENTRY.to_owned(), ByteString(material.to_vec()))])),
        ..Secret::default()
    });
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    match api.create(&params, &secret).await {
        Ok(created) => Ok(Some(wiped(created))),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let there = WipedSecret::from(api.get(name).await?);
            let is_same = there
                .data
                .as_ref()
                .and_then(|data| data.get(ENTRY))
                .is_some_and(|entry| bool::from(entry.0.as_slice().ct_eq(material)));
            if is_same {
                return Ok(None);
            }
            Err(Failure::Impossible(format!(
                "Secret {}/{name} exists and does not hold this material under {ENTRY}: choose another name with \
                 --secret-name",
                session.namespace
            )))
        }
        Err(error) => Err(error.into()),
    }
}

/// A Secret without what is in it.
fn wiped(mut secret: Secret) -> Secret {
    for value in secret.data.iter_mut().flat_map(|data| data.values_mut()) {
        value.0.zeroize();
    }
    Secret { data: None, ..secret }
}

/// Deletes the Secret that was made for nothing.
async fn take_back(session: &Session, made: Option<Secret>) {
    let Some(secret) = made else { return };
    let api: Api<Secret> = Api::namespaced(session.client.clone(), &session.namespace);
    let preconditions = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    if let Err(error) = api.delete(&secret.name_any(), &params).await {
        let failure = Failure::from(error);
        note(&format!("warning: Secret {} with the material is left behind: {failure}", secret.name_any()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        read_material(file.path()).map(|material| material.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn rule_9_material_has_exactly_32_bytes() {
        assert_eq!(read(&[7; 32]).unwrap(), [7; 32]);
        for (length, hint) in [(0, "0 bytes"), (31, "31 bytes"), (33, "line end"), (44, "base64"), (64, "hexadecimal")]
        {
            let error = read(&vec![7; length]).unwrap_err();
            assert!(error.contains(hint) && error.contains("exactly 32 bytes"), "{length}: {error}");
        }
        assert!(read(&vec![7; 100_000]).unwrap_err().contains("100000 bytes"));
        assert!(read_material(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
