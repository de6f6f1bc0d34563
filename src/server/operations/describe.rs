//! DescribeKey, and everything that lists.

use jiff::Timestamp;
use uuid::Uuid;

use super::{EndpointCluster, KeyReference, Kms};
use crate::{
    kms::ResourceName,
    server::{Call, Failure},
    store::{KeyStore, StoredKey},
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
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// Describes a key.
    pub async fn describe_key(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<KeyDescription, Failure> {
        let _ = (call, key);
        Err(Failure::Internal("DescribeKey is not built yet".into()))
    }

    /// The keys of the caller's namespace, sorted by id.
    pub async fn list_keys(&self, call: &mut Call) -> Result<Vec<KeyDescription>, Failure> {
        let _ = call;
        Err(Failure::Internal("ListKeys is not built yet".into()))
    }

    /// The aliases in the caller's namespace, or those of one key, sorted by name.
    pub async fn list_aliases(
        &self,
        call: &mut Call,
        key: Option<&KeyReference<'_>>,
    ) -> Result<Vec<AliasDescription>, Failure> {
        let _ = (call, key);
        Err(Failure::Internal("ListAliases is not built yet".into()))
    }

    /// The versions of a key, the oldest first.
    pub async fn list_key_versions(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
    ) -> Result<Vec<KeyVersionDescription>, Failure> {
        let _ = (call, key);
        Err(Failure::Internal("ListKeyVersions is not built yet".into()))
    }
}
