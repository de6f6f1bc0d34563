//! The life of a key.

use super::{Body, json, nothing};
use crate::{
    server::{
        Call, Failure,
        aws::{
            policy,
            requests::{KeyInput, NewAlias},
            responses::{DescribedKey, KeyMetadata, KeyPolicy, NamedKey, RotationStatus, ScheduledDeletion},
        },
        operations::{EndpointCluster, KeyReference, Kms},
    },
    store::KeyStore,
};

pub(super) async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    input: KeyInput<'_>,
) -> Result<Body, Failure> {
    match input {
        KeyInput::CreateKey(new) => {
            let key = kms.create_key(call, &new).await?;
            json(&DescribedKey { key_metadata: KeyMetadata::from(&key) })
        }
        KeyInput::DescribeKey(key) => {
            let key = kms.describe_key(call, &KeyReference::parse(&key)).await?;
            json(&DescribedKey { key_metadata: KeyMetadata::from(&key) })
        }
        KeyInput::ScheduleKeyDeletion(key, days) => {
            let key = kms.schedule_key_deletion(call, &KeyReference::parse(&key), Some(days)).await?;
            json(&ScheduledDeletion::from(&key))
        }
        KeyInput::CancelKeyDeletion(key) => {
            let key = kms.cancel_key_deletion(call, &KeyReference::parse(&key)).await?;
            json(&NamedKey::from(&key.name))
        }
        KeyInput::RotateKeyOnDemand(key) => {
            let version = kms.rotate(call, &KeyReference::parse(&key)).await?;
            json(&NamedKey::from(&version.key))
        }
        KeyInput::GetKeyRotationStatus(key) => {
            let key = kms.describe_key(call, &KeyReference::parse(&key)).await?;
            json(&RotationStatus::from(&key))
        }
        KeyInput::GetKeyPolicy(key) => {
            let key = kms.describe_key(call, &KeyReference::parse(&key)).await?;
            let policy = policy::document(&key.name.account_id).to_string();
            json(&KeyPolicy { policy, policy_name: policy::NAME })
        }
        silent => change(kms, call, silent).await.map(|()| nothing()),
    }
}

/// The operations that answer nothing.
async fn change<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    input: KeyInput<'_>,
) -> Result<(), Failure> {
    match input {
        KeyInput::EnableKey(key) => kms.enable_key(call, &KeyReference::parse(&key)).await,
        KeyInput::DisableKey(key) => kms.disable_key(call, &KeyReference::parse(&key)).await,
        KeyInput::UpdateKeyDescription(key, description) => {
            kms.update_key_description(call, &KeyReference::parse(&key), &description).await
        }
        KeyInput::CreateAlias(NewAlias { alias, target }) => {
            kms.create_alias(call, &alias, &KeyReference::parse(&target)).await
        }
        KeyInput::UpdateAlias(NewAlias { alias, target }) => {
            kms.update_alias(call, &alias, &KeyReference::parse(&target)).await
        }
        KeyInput::DeleteAlias(alias) => kms.delete_alias(call, &alias).await,
        KeyInput::TagResource(key, tags) => kms.tag_resource(call, &KeyReference::parse(&key), &tags).await,
        KeyInput::UntagResource(key, keys) => kms.untag_resource(call, &KeyReference::parse(&key), &keys).await,
        KeyInput::SetRotation(key, policy) => {
            kms.update_rotation_policy(call, &KeyReference::parse(&key), policy).await
        }
        KeyInput::CreateKey(_)
        | KeyInput::DescribeKey(_)
        | KeyInput::ScheduleKeyDeletion(..)
        | KeyInput::CancelKeyDeletion(_)
        | KeyInput::GetKeyRotationStatus(_)
        | KeyInput::RotateKeyOnDemand(_)
        | KeyInput::GetKeyPolicy(_) => {
            Err(Failure::Internal("an operation with an answer was taken for one without".into()))
        }
    }
}
