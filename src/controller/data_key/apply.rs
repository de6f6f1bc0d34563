//! Carries out what `plan` decides, a step at a time.

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::ResourceExt;
use serde_json::json;

use super::{
    delivery::SecretObject,
    describe,
    gather::gather,
    plan::{Observed, Step, plan},
};
use crate::{
    api::{DataKey, data_key::SecretDeletionPolicy},
    cluster::{ApiError, Cluster},
    controller::{Context, Outcome, PassError, events::announce},
    store::KeyStore,
};

/// The kind, for logs and metrics.
pub const KIND: &str = "DataKey";

/// More steps than any object needs in one pass: a new data key takes five, and one that rotates at once four more.
const MAX_STEPS: usize = 12;

/// One pass over an object.
///
/// # Errors
/// [`PassError`]: the pass was given up, and the next one starts anew.
pub async fn reconcile<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    object: DataKey,
) -> Result<Outcome, PassError> {
    let mut object = object;
    let mut service_key_made = false;
    for _ in 0..MAX_STEPS {
        let observed = Observed { service_key_made, ..gather(context, object).await? };
        let decided = plan(&observed, context.clock.now());
        if let Step::Rest { retry } = decided.step {
            return Ok(if retry { Outcome::Retry } else { Outcome::Settled });
        }
        service_key_made |= matches!(decided.step, Step::CreateServiceKey(_));
        object = carry_out(context, observed, decided.step).await?;
        announce(context, &object, &decided.events).await;
    }
    Err(PassError::Endless)
}

/// Does one step, and answers the object after it.
async fn carry_out<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    observed: Observed,
    step: Step,
) -> Result<DataKey, PassError> {
    let Observed { object, .. } = &observed;
    match step {
        Step::Rest { .. } => {}
        Step::Generate(key) => {
            let length = object.spec.length();
            let generated = context.store.generate_data_key(&key, &observed.context, length).await?;
            let text = BASE64_STANDARD.encode(&generated.ciphertext_blob);
            let status = describe::generated(&observed, &text, context.clock.now());
            // On this version of the object only: of two operators at once, one writes, and the other reads it.
            return write_status(context, object, status).await;
        }
        Step::CreateServiceKey(key) => match context.cluster.create_key_object(&key).await {
            Ok(()) => announce(context, object, &[describe::service_key_made()]).await,
            // Another DataKey asked for it first.
            Err(ApiError::AlreadyExists) => {}
            Err(error) => return Err(error.into()),
        },
        Step::WriteStatus(status) => return write_status(context, object, *status).await,
        Step::Annotate(annotations) => {
            let written = context.cluster.patch_metadata(object, json!({ "annotations": annotations })).await?;
            context.expectations.wrote(KIND, &written);
            return Ok(written);
        }
        Step::CreateSecret(secret) => {
            discard(context.cluster.create_secret(secret.expose()).await, ApiError::AlreadyExists)?;
        }
        Step::ReplaceSecret(secret) => {
            discard(context.cluster.replace_secret(secret.expose()).await, ApiError::NotFound)?;
        }
        Step::DeleteSecret => {
            if let Some(secret) = &observed.secret {
                delete(context, secret).await?;
            }
        }
        Step::DeleteFormer(name) => {
            remove_former(context, object, &name).await?;
            let mut status = object.status.clone().unwrap_or_default();
            status.secret_ref = None;
            return write_status(context, object, status).await;
        }
    }
    Ok(observed.object)
}

async fn write_status<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    object: &DataKey,
    status: crate::api::DataKeyStatus,
) -> Result<DataKey, PassError> {
    let wanted = DataKey { status: Some(status), ..object.clone() };
    let written = context.cluster.replace_status(&wanted).await?;
    context.expectations.wrote(KIND, &written);
    Ok(written)
}

/// What was written is of no use, and neither is losing a race that the next look settles.
fn discard(written: Result<k8s_openapi::api::core::v1::Secret, ApiError>, race: ApiError) -> Result<(), PassError> {
    match written {
        Ok(secret) => {
            drop(SecretObject::from(secret));
            Ok(())
        }
        Err(error) if error == race => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn delete<C: Cluster, S: KeyStore>(context: &Context<C, S>, secret: &SecretObject) -> Result<(), PassError> {
    match context.cluster.delete_secret(secret.expose()).await {
        Ok(()) | Err(ApiError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The Secret under its former name goes if it is ours and the DataKey says Delete; else it stays.
async fn remove_former<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    object: &DataKey,
    name: &str,
) -> Result<(), PassError> {
    let policy = object.spec.secret.as_ref().and_then(|s| s.deletion_policy).unwrap_or_default();
    if policy != SecretDeletionPolicy::Delete {
        return Ok(());
    }
    let former = context.cluster.get_secret(&object.namespace().unwrap_or_default(), name).await?;
    match former.map(SecretObject::from) {
        Some(secret) if secret.is_of(object) => delete(context, &secret).await,
        _ => Ok(()),
    }
}
