//! Carries out what `plan` decides, a step at a time.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tokio::sync::watch;

use super::{
    delivery::{SecretObject, is_of},
    gather::{gather, owner},
    plan::{Change, Observed, Step, plan},
    rotation,
};
use crate::{
    access_keys::AccessKeyRecord,
    api::{AccessKey, AccessKeyStatus},
    cluster::{ApiError, Cluster, Objects, ServiceAccounts},
    controller::{Context, Outcome, PassError, events::announce},
    store::{AccessKeyStore, StoredAccessKey},
};

/// The kind, for logs and metrics.
pub const KIND: &str = "AccessKey";

/// More steps than any object needs in one pass: a new access key takes three, one that rotates at once two more.
const MAX_STEPS: usize = 10;

/// What is delivered with every access key.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The address of the KMS endpoint (`--kms-url`).
    pub url: String,
    /// The certificate (PEM) of the authority that the endpoint's own is from, where that is a private one.
    pub ca: watch::Receiver<Option<String>>,
}

/// One pass over an object.
///
/// # Errors
/// [`PassError`]: the pass was given up, and the next one starts anew.
pub async fn reconcile<C, S>(
    context: &Context<C, S>,
    delivery: &Delivery,
    object: AccessKey,
) -> Result<Outcome, PassError>
where
    C: Cluster + Objects<AccessKey> + ServiceAccounts,
    S: AccessKeyStore,
{
    let mut object = object;
    for _ in 0..MAX_STEPS {
        let observed = gather(context, delivery, object).await?;
        let decided = plan(&observed, context.clock.now());
        if let Step::Rest { retry } = decided.step {
            return Ok(if retry { Outcome::Retry } else { Outcome::Settled });
        }
        object = carry_out(context, observed, decided.step).await?;
        announce(context, &object, &decided.events).await;
    }
    Err(PassError::Endless)
}

/// Does one step, and answers the object after it.
async fn carry_out<C, S>(context: &Context<C, S>, observed: Observed, step: Step) -> Result<AccessKey, PassError>
where
    C: Cluster + Objects<AccessKey>,
    S: AccessKeyStore,
{
    let Observed { object, .. } = &observed;
    match step {
        Step::Rest { .. } => {}
        Step::Create(account) => {
            let (owner, request) = (owner(object), rotation::request(object).cloned());
            let key = context.store.new_access_key(&owner)?;
            context.store.create_access_key(&AccessKeyRecord::new(owner, account, key, request)).await?;
        }
        Step::Change(stored, change) => {
            let record = changed(context, object, &stored, change)?;
            context.store.replace_access_key(&stored, &record).await?;
        }
        Step::WriteStatus(status) => return write_status(context, object, *status).await,
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
            let former = context.cluster.get_secret(&object.namespace().unwrap_or_default(), &name).await?;
            if let Some(former) = former.map(SecretObject::from).filter(|former| is_of(former, object)) {
                delete(context, &former).await?;
            }
            let status = AccessKeyStatus { secret_ref: None, ..object.status.clone().unwrap_or_default() };
            return write_status(context, object, status).await;
        }
    }
    Ok(observed.object)
}

/// The record after a change. A new access key answers the request for a rotation that there is.
fn changed<C, S: AccessKeyStore>(
    context: &Context<C, S>,
    object: &AccessKey,
    stored: &StoredAccessKey,
    change: Change,
) -> Result<AccessKeyRecord, PassError> {
    let record = &stored.record;
    let request = rotation::request(object).cloned();
    let fresh = || context.store.new_access_key(&record.owner);
    Ok(match change {
        Change::Anew(account) => AccessKeyRecord::new(record.owner.clone(), account, fresh()?, request),
        Change::Rotate { expires } => record.rotated(fresh()?, expires, request),
        Change::DropPrevious => record.without_previous(),
    })
}

async fn write_status<C: Cluster + Objects<AccessKey>, S: Send + Sync>(
    context: &Context<C, S>,
    object: &AccessKey,
    status: AccessKeyStatus,
) -> Result<AccessKey, PassError> {
    let wanted = AccessKey { status: Some(status), ..object.clone() };
    let written = context.cluster.replace_status(&wanted).await?;
    context.expectations.wrote(KIND, &written);
    Ok(written)
}

/// What was written is of no use, and neither is losing a race that the next look settles.
fn discard(written: Result<Secret, ApiError>, race: ApiError) -> Result<(), PassError> {
    match written {
        Ok(secret) => {
            drop(SecretObject::from(secret));
            Ok(())
        }
        Err(error) if error == race => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn delete<C: Cluster, S: Send + Sync>(context: &Context<C, S>, secret: &SecretObject) -> Result<(), PassError> {
    match context.cluster.delete_secret(secret.expose()).await {
        Ok(()) | Err(ApiError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
