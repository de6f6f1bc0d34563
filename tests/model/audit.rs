//! What must hold at every moment, also right after a crash.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use cmk_operator::{
    kms::{EncryptionContext, KeyRecord, KeyState, Origin},
    store::{KeyStore, StoredKey},
};
use uuid::Uuid;

use crate::{
    cluster::{ALIASES, secrets_of},
    world::{OPERATOR, World},
};

/// What was seen of a key so far.
#[derive(Default)]
struct Trace {
    versions: Vec<Uuid>,
    /// What was sealed under each version, and is still to be opened.
    sealed: BTreeMap<Uuid, (Vec<u8>, Vec<u8>)>,
    /// The record as it was seen last.
    last: Option<KeyRecord>,
}

/// Everything that was seen.
#[derive(Default)]
pub struct Audit {
    keys: BTreeMap<Uuid, Trace>,
}

impl Audit {
    /// Looks at everything.
    ///
    /// # Errors
    /// What does not hold.
    pub fn look(&mut self, world: &World) -> Result<(), String> {
        let records = world.records();
        one_living_key_a_name(&records)?;
        self.nothing_went(&records)?;
        for key in &records {
            let trace = self.keys.entry(key.record.key_id).or_default();
            trace.versions_stay(world, &key.record)?;
            trace.everything_opens(world, key)?;
            trace.last = Some((*key.record).clone());
        }
        aliases(world, &records)
    }

    /// A record goes only as it was made, before its object was finished.
    fn nothing_went(&mut self, records: &[StoredKey]) -> Result<(), String> {
        let there: BTreeSet<_> = records.iter().map(|key| key.record.key_id).collect();
        for (id, trace) in &mut self.keys {
            if there.contains(id) {
                continue;
            }
            if let Some(last) = trace.last.take()
                && last.revision != 0
            {
                return Err(format!("the record of key {id}, revision {}, is gone", last.revision));
            }
        }
        Ok(())
    }
}

impl Trace {
    /// No version is lost, and nothing is erased before its date.
    fn versions_stay(&mut self, world: &World, record: &KeyRecord) -> Result<(), String> {
        let id = record.key_id;
        let now: Vec<_> = record.versions.iter().map(|version| version.id).collect();
        if let Some(erased) = record.erased_at {
            let date = record.deletion.as_ref().map(|deletion| deletion.delete_date);
            if date.is_none_or(|date| date > erased) || !now.is_empty() || erased > world.now() {
                return Err(format!("key {id} was erased at {erased}, and its date is {date:?}"));
            }
            return Ok(());
        }
        if record.origin == Origin::External {
            // One version, always the same; whether it may be away is for the reference to say.
            if now.iter().any(|version| *self.versions.first().unwrap_or(version) != *version) || now.len() > 1 {
                return Err(format!("key {id} has the imported versions {now:?} after {:?}", self.versions));
            }
        } else if !now.starts_with(&self.versions) {
            return Err(format!("key {id} has the versions {now:?}, and had {:?}", self.versions));
        }
        if now.len() > self.versions.len() {
            self.versions = now;
        }
        Ok(())
    }

    /// What was sealed under any version opens while the key is Enabled. New versions seal something first.
    fn everything_opens(&mut self, world: &World, key: &StoredKey) -> Result<(), String> {
        let record = &key.record;
        let context = EncryptionContext::new();
        if record.state(world.now()) != KeyState::Enabled {
            if world.block_on(world.auditor.generate_data_key(key, &context, 32)).is_ok() {
                return Err(format!("key {} generates while it is not Enabled", record.key_id));
            }
            return Ok(());
        }
        let open = |blob: &[u8]| {
            world.block_on(world.auditor.decrypt(key, &context, blob)).map(|plaintext| plaintext.expose().to_vec())
        };
        let primary = record.primary_version().map(|version| version.id).ok_or("an Enabled key has a version")?;
        if let Entry::Vacant(unsealed) = self.sealed.entry(primary) {
            let made = world.block_on(world.auditor.generate_data_key(key, &context, 32)).map_err(|e| e.to_string())?;
            let plaintext = open(&made.ciphertext_blob).map_err(|error| error.to_string())?;
            unsealed.insert((made.ciphertext_blob, plaintext));
        }
        for (version, (blob, plaintext)) in &self.sealed {
            match open(blob) {
                Ok(opened) if opened == *plaintext => {}
                Ok(_) => return Err(format!("another plaintext under version {version} of {}", record.key_id)),
                Err(error) => return Err(format!("version {version} of key {}: {error}", record.key_id)),
            }
        }
        Ok(())
    }
}

fn one_living_key_a_name(records: &[StoredKey]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let living = records.iter().filter(|key| !key.record.abandoned);
    for StoredKey { record, .. } in living {
        if !names.insert((&record.owner.namespace, &record.owner.name)) {
            return Err(format!("{} has two keys", record.owner.name));
        }
    }
    Ok(())
}

/// A key that has an alias has claimed it, and no two have the same.
fn aliases(world: &World, records: &[StoredKey]) -> Result<(), String> {
    let claims = world.server.etcd(|etcd| secrets_of(etcd, OPERATOR, ALIASES));
    let claims: Vec<serde_json::Value> = claims
        .iter()
        .map(|secret| serde_json::from_slice(&secret.data.as_ref().unwrap()["claim"].0).unwrap())
        .collect();
    let uses = |record: &&KeyRecord| !record.owner.released && !record.abandoned && !record.is_tombstone();
    for record in records.iter().map(|key| &*key.record).filter(uses) {
        let id = record.key_id.to_string();
        let Some(alias) = &record.alias else { continue };
        if !claims.iter().any(|claim| claim["alias"] == alias.as_str() && claim["keyId"] == id.as_str()) {
            return Err(format!("key {id} has {alias}, which is not claimed for it"));
        }
    }
    Ok(())
}
