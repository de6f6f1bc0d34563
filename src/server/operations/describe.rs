//! DescribeKey, and everything that lists.

use jiff::Timestamp;
use uuid::Uuid;

use super::{EndpointCluster, KeyReference, Kms, find::preferred};
use crate::{
    kms::{
        Operation, ResourceName,
        key_record::{ImportedMaterial, RecordVersion},
    },
    server::{Call, Failure, permission::Verb},
    store::{AliasClaim, KeyStore, StoredKey},
};

/// A key, as both APIs describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDescription {
    /// The key as its store holds it.
    pub key: StoredKey,
    /// Its resource name.
    pub name: ResourceName,
    /// When it was described: the state follows from the record and the time.
    pub now: Timestamp,
}

/// An alias, as both APIs list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasDescription {
    /// The alias, with its prefix.
    pub alias: String,
    /// The key that it names.
    pub key: ResourceName,
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersionDescription {
    /// Its key.
    pub key: ResourceName,
    /// Its id.
    pub id: Uuid,
    /// When it was made.
    pub creation_date: Timestamp,
    /// Somebody asked for the rotation that made it. False: the first version, or an automatic rotation.
    pub on_demand: bool,
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// Describes a key.
    ///
    /// # Errors
    /// [`Failure`]: no such key, or no permission.
    pub async fn describe_key(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<KeyDescription, Failure> {
        let key = self.key_for(call, key, Verb::Get, Operation::DescribeKey).await?;
        Ok(self.described(key))
    }

    /// The keys of the caller's namespace, sorted by id.
    ///
    /// # Errors
    /// [`Failure`]: no permission to list them.
    pub async fn list_keys(&self, call: &mut Call) -> Result<Vec<KeyDescription>, Failure> {
        self.contact.check().await?;
        self.permissions.require_in_namespace(&call.caller, Verb::List).await?;
        let namespace = &*call.caller.namespace;
        let mut keys = self.store.keys();
        keys.retain(|key| key.record.owner.namespace == namespace && self.is_shown(key));
        keys.sort_by_key(|key| key.record.key_id);
        Ok(keys.into_iter().map(|key| self.described(key)).collect())
    }

    /// The aliases in the caller's namespace, or those of one key, sorted by name. An alias that is held in several key
    /// stores is there once, as the key that it names.
    ///
    /// # Errors
    /// [`Failure`]: no permission to list them, or to see the key, or no such key.
    pub async fn list_aliases(
        &self,
        call: &mut Call,
        key: Option<&KeyReference<'_>>,
    ) -> Result<Vec<AliasDescription>, Failure> {
        let claims = match key {
            Some(key) => {
                let key = self.permitted_key(call, key, Verb::Get).await?;
                let mut claims = self.store.aliases_of(key.record.key_id);
                // One that was adopted may have left an alias behind where it was before.
                claims.retain(|claim| claim.slot.namespace == key.record.owner.namespace);
                claims
            }
            None => {
                self.contact.check().await?;
                self.permissions.require_in_namespace(&call.caller, Verb::List).await?;
                preferred(self.store.aliases_in(&call.caller.namespace))
            }
        };
        let described = |claim: AliasClaim| {
            let key = self.key_by_id(claim.key_id)?;
            Some(AliasDescription { alias: claim.slot.alias, key: ResourceName::of(&key.record) })
        };
        let mut aliases: Vec<_> = claims.into_iter().filter_map(described).collect();
        aliases.sort_by(|a, b| a.alias.cmp(&b.alias));
        Ok(aliases)
    }

    /// The versions of a key, the oldest first.
    ///
    /// # Errors
    /// As [`describe_key`](Self::describe_key).
    pub async fn list_key_versions(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
    ) -> Result<Vec<KeyVersionDescription>, Failure> {
        let key = self.key_for(call, key, Verb::Get, Operation::DescribeKey).await?;
        let mut versions: Vec<_> =
            key.record.versions.iter().map(|version| KeyVersionDescription::of(&key, version)).collect();
        versions.extend(KeyVersionDescription::without_material(&key));
        Ok(versions)
    }

    pub(super) fn described(&self, key: StoredKey) -> KeyDescription {
        KeyDescription { name: ResourceName::of(&key.record), key, now: self.now() }
    }
}

impl KeyVersionDescription {
    /// A version of a key.
    pub(super) fn of(key: &StoredKey, version: &RecordVersion) -> Self {
        let RecordVersion { id, creation_date, on_demand, .. } = *version;
        Self { key: ResourceName::of(&key.record), id, creation_date, on_demand }
    }

    /// The version whose imported material was deleted or has expired: imported again, it is the same version.
    fn without_material(key: &StoredKey) -> Option<Self> {
        let imported = key.record.imported.as_ref().filter(|_| key.record.versions.is_empty())?;
        let ImportedMaterial { version_id: id, creation_date, .. } = *imported;
        Some(Self { key: ResourceName::of(&key.record), id, creation_date, on_demand: false })
    }
}
