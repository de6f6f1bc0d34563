//! The operations that change one key: each changes its `CustomerMasterKey`, and waits until the operator has carried it
//! out (design, section 5).

use serde_json::json;

use super::{
    EndpointCluster, KeyDescription, KeyReference, Kms,
    live::{Change, Live},
};
use crate::{
    api::edit::Edit,
    kms::{Dialect, KeyRecord, Operation, Origin, limits::PendingDeletionDays},
    server::{Call, Failure, permission::Verb},
    store::KeyStore,
};

/// Whether and how often a key rotates by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationPolicy {
    /// Every so many days.
    Every(i32),
    /// Not at all.
    Never,
}

/// Every operation here fails when there is no such key or permission, when the key's state refuses it, when a manifest
/// declares a field that would change ([`Failure::Owned`]), and when the operator does not carry it out in time
/// ([`Failure::NotCarriedOut`]). What is said under Errors comes on top.
impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// EnableKey.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn enable_key(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<(), Failure> {
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::EnableKey,
            parameter: "KeyId",
            wanted: |live: &Live| Ok(vec![enabled(live, true)]),
            shows: |record: &KeyRecord| record.enabled,
        };
        self.change(call, key, change).await.map(drop)
    }

    /// DisableKey.
    ///
    /// # Errors
    /// [`Failure::ServiceManaged`].
    pub async fn disable_key(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<(), Failure> {
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::DisableKey,
            parameter: "KeyId",
            wanted: |live: &Live| {
                live.refuse_service_managed()?;
                Ok(vec![enabled(live, false)])
            },
            shows: |record: &KeyRecord| !record.enabled,
        };
        self.change(call, key, change).await.map(drop)
    }

    /// UpdateKeyDescription.
    ///
    /// # Errors
    /// [`Failure::InvalidParameter`]: it is longer than 8192 characters.
    pub async fn update_key_description(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        description: &str,
    ) -> Result<(), Failure> {
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::UpdateKeyDescription,
            parameter: "Description",
            wanted: |live: &Live| {
                let is = live.object.spec.description.as_deref().unwrap_or_default();
                Ok(vec![Edit::spec("description", Some(json!(is)), json!(description))])
            },
            shows: |record: &KeyRecord| record.description == description,
        };
        self.change(call, key, change).await.map(drop)
    }

    /// ScheduleKeyDeletion. The description shows the delete date. Without `pending_days` the window is the one that the
    /// key declares, or else the store's.
    ///
    /// # Errors
    /// [`Failure::DeletionProtected`], [`Failure::ServiceManaged`], and [`Failure::InvalidParameter`] for a window that
    /// the key store does not take.
    pub async fn schedule_key_deletion(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        pending_days: Option<i32>,
    ) -> Result<KeyDescription, Failure> {
        let limits = self.store.capabilities().pending_deletion_days;
        if let Some(days) = pending_days {
            check_window(days, limits)?;
        }
        let change = Change {
            verb: Verb::Delete,
            operation: Operation::ScheduleKeyDeletion,
            parameter: "PendingWindowInDays",
            wanted: |live: &Live| {
                live.refuse_service_managed()?;
                live.refuse_protected()?;
                Ok(scheduling(live, pending_days, limits))
            },
            shows: |record: &KeyRecord| {
                let window = record.deletion.as_ref().map(|deletion| deletion.pending_days);
                window.is_some() && (pending_days.is_none() || pending_days == window)
            },
        };
        let key = self.change(call, key, change).await?;
        Ok(self.described(key))
    }

    /// CancelKeyDeletion. It leaves the key Enabled for Alibaba, Disabled for AWS; a key without material PendingImport.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn cancel_key_deletion(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
    ) -> Result<KeyDescription, Failure> {
        let enables = call.dialect == Dialect::Alibaba;
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::CancelKeyDeletion,
            parameter: "KeyId",
            wanted: |live: &Live| {
                let is = json!(live.object.spec.schedule_deletion.unwrap_or(false));
                Ok(vec![Edit::spec("scheduleDeletion", Some(is), json!(false)), enabled(live, enables)])
            },
            shows: |record: &KeyRecord| record.deletion.is_none() && record.enabled == enables,
        };
        let key = self.change(call, key, change).await?;
        Ok(self.described(key))
    }

    /// SetDeletionProtection.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn set_deletion_protection(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        protected: bool,
    ) -> Result<(), Failure> {
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::SetDeletionProtection,
            parameter: "EnableDeletionProtection",
            wanted: |live: &Live| {
                let is = json!(live.object.spec.deletion_protection.unwrap_or(false));
                Ok(vec![Edit::spec("deletionProtection", Some(is), json!(protected))])
            },
            shows: |record: &KeyRecord| record.deletion_protection == protected,
        };
        self.change(call, key, change).await.map(drop)
    }

    /// UpdateRotationPolicy; AWS: EnableKeyRotation and DisableKeyRotation.
    ///
    /// # Errors
    /// [`Failure::UnsupportedOrigin`]: imported material never rotates. [`Failure::InvalidParameter`]: the key store does
    /// not take the interval.
    pub async fn update_rotation_policy(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        policy: RotationPolicy,
    ) -> Result<(), Failure> {
        let days = match policy {
            RotationPolicy::Every(days) => Some(days),
            RotationPolicy::Never => None,
        };
        let parameter = match call.dialect {
            Dialect::Alibaba => "RotationInterval",
            Dialect::Aws => "RotationPeriodInDays",
        };
        self.check_interval(parameter, days)?;
        let found = self.permitted_key(call, key, Verb::Patch).await?;
        // AWS looks at the origin before the state, and Alibaba at the state before the origin (kms-behaviour.md).
        if call.dialect == Dialect::Aws {
            refuse_external(found.record.origin)?;
        }
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::UpdateRotationPolicy,
            parameter,
            wanted: |live: &Live| {
                refuse_external(live.key.record.origin)?;
                let is = live.object.spec.rotation_interval_days.map(|days| json!(days));
                Ok(vec![match days {
                    Some(days) => Edit::spec("rotationIntervalDays", is, json!(days)),
                    None => Edit::removal("rotationIntervalDays", is),
                }])
            },
            shows: |record: &KeyRecord| record.rotation_interval_days == days,
        };
        self.change_key(call, &found, &super::find::not_found(key), &change).await.map(drop)
    }

    /// Whether the key store takes an interval of automatic rotation, in days.
    pub(super) fn check_interval(&self, name: &'static str, days: Option<i32>) -> Result<(), Failure> {
        let Some(days) = days else { return Ok(()) };
        let problem = match self.store.capabilities().rotation_interval_days {
            Some((min, max)) if (min..=max).contains(&days) => return Ok(()),
            Some((min, max)) => format!("{days} days, and the key store takes {min} to {max}"),
            None => "the key store does not rotate keys".into(),
        };
        Err(Failure::InvalidParameter { name, problem })
    }
}

pub(super) fn enabled(live: &Live, wanted: bool) -> Edit {
    Edit::spec("enabled", Some(json!(live.object.spec.enabled.unwrap_or(true))), json!(wanted))
}

fn scheduling(live: &Live, days: Option<i32>, limits: PendingDeletionDays) -> Vec<Edit> {
    let spec = &live.object.spec;
    let window = days.map(|days| {
        let is = spec.pending_deletion_days.unwrap_or(limits.default);
        Edit::spec("pendingDeletionDays", Some(json!(is)), json!(days))
    });
    let is = json!(spec.schedule_deletion.unwrap_or(false));
    std::iter::once(Edit::spec("scheduleDeletion", Some(is), json!(true))).chain(window).collect()
}

fn check_window(days: i32, limits: PendingDeletionDays) -> Result<(), Failure> {
    if limits.allows(days) {
        return Ok(());
    }
    let problem = format!("{days} days, and the key store takes {} to {}", limits.min, limits.max);
    Err(Failure::InvalidParameter { name: "PendingWindowInDays", problem })
}

/// Imported material never rotates (design, rule 8).
pub(super) fn refuse_external(origin: Origin) -> Result<(), Failure> {
    match origin {
        Origin::External => Err(Failure::UnsupportedOrigin("a key with origin EXTERNAL never rotates".into())),
        Origin::AliyunKms | Origin::AwsKms => Ok(()),
    }
}
