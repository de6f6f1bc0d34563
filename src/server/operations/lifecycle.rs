//! The operations that change a key: each changes its `CustomerMasterKey`, and waits until the operator has carried it out
//! (design, section 5).

use std::collections::BTreeMap;

use super::{EndpointCluster, KeyDescription, KeyReference, KeyVersionDescription, Kms};
use crate::{
    kms::Origin,
    server::{Call, Failure},
    store::KeyStore,
};

/// A key to be made. What is not said is as the `CustomerMasterKey` has it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKeyDeclaration {
    /// Where the material comes from.
    pub origin: Origin,
    /// The description.
    pub description: Option<String>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
    /// Days between automatic rotations.
    pub rotation_interval_days: Option<i32>,
    /// Refuse deletion.
    pub deletion_protection: bool,
}

/// Whether and how often a key rotates by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationPolicy {
    /// Every so many days.
    Every(i32),
    /// Not at all.
    Never,
}

macro_rules! not_built {
    ($($used:expr),*) => {{
        let _ = ($($used),*);
        Err(Failure::Internal("this operation is not built yet".into()))
    }};
}

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// Makes a key: an object in the caller's namespace.
    pub async fn create_key(&self, call: &mut Call, new: &NewKeyDeclaration) -> Result<KeyDescription, Failure> {
        not_built!(call, new)
    }

    /// EnableKey.
    pub async fn enable_key(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<(), Failure> {
        not_built!(call, key)
    }

    /// DisableKey.
    pub async fn disable_key(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<(), Failure> {
        not_built!(call, key)
    }

    /// UpdateKeyDescription.
    pub async fn update_key_description(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        description: &str,
    ) -> Result<(), Failure> {
        not_built!(call, key, description)
    }

    /// ScheduleKeyDeletion. The description shows the delete date.
    pub async fn schedule_key_deletion(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        pending_days: Option<i32>,
    ) -> Result<KeyDescription, Failure> {
        not_built!(call, key, pending_days)
    }

    /// CancelKeyDeletion. It leaves the key Enabled for Alibaba, Disabled for AWS.
    pub async fn cancel_key_deletion(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
    ) -> Result<KeyDescription, Failure> {
        not_built!(call, key)
    }

    /// SetDeletionProtection.
    pub async fn set_deletion_protection(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        protected: bool,
    ) -> Result<(), Failure> {
        not_built!(call, key, protected)
    }

    /// CreateAlias. The alias has its prefix.
    pub async fn create_alias(&self, call: &mut Call, alias: &str, key: &KeyReference<'_>) -> Result<(), Failure> {
        not_built!(call, alias, key)
    }

    /// UpdateAlias: lets an alias name another key.
    pub async fn update_alias(&self, call: &mut Call, alias: &str, key: &KeyReference<'_>) -> Result<(), Failure> {
        not_built!(call, alias, key)
    }

    /// DeleteAlias.
    pub async fn delete_alias(&self, call: &mut Call, alias: &str) -> Result<(), Failure> {
        not_built!(call, alias)
    }

    /// TagResource.
    pub async fn tag_resource(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        not_built!(call, key, tags)
    }

    /// UntagResource.
    pub async fn untag_resource(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        tag_keys: &[String],
    ) -> Result<(), Failure> {
        not_built!(call, key, tag_keys)
    }

    /// UpdateRotationPolicy; AWS: EnableKeyRotation and DisableKeyRotation.
    pub async fn update_rotation_policy(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        policy: RotationPolicy,
    ) -> Result<(), Failure> {
        not_built!(call, key, policy)
    }

    /// CreateKeyVersion; AWS: RotateKeyOnDemand. Answers the new version.
    pub async fn rotate(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<KeyVersionDescription, Failure> {
        not_built!(call, key)
    }
}
