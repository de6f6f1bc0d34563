//! Carries out what `plan` decides, a step at a time.

use kube::ResourceExt;
use serde_json::json;

use super::{
    describe,
    gather::{aliases, gather, slot},
    material::ImportProblem,
    plan::{Circumstances, FreshIds, Observed, Step, plan},
};
use crate::{
    api::{CustomerMasterKey, metadata},
    cluster::{Cluster, WipedSecret},
    controller::{Context, Outcome, PassError, events::announce, orphans},
    crypto::random_uuid,
    kms::KeyStep,
    store::{Freshness, KeyStore, MaterialImport, SlotView, StoreError, StoredKey},
};

/// The kind, for logs and metrics.
pub const KIND: &str = "CustomerMasterKey";

/// More steps than any object needs in one pass: a new key with an alias and imported material takes eight.
const MAX_STEPS: usize = 20;

/// One pass over an object.
///
/// # Errors
/// [`PassError`]: the pass was given up, and the next one starts anew.
pub async fn reconcile<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    object: CustomerMasterKey,
) -> Result<Outcome, PassError> {
    let mut observed = gather(context, object, Freshness::Watched).await?;
    for _ in 0..MAX_STEPS {
        let circumstances = Circumstances {
            capabilities: context.store.capabilities(),
            no_new_keys: context.no_new_keys,
            fresh: FreshIds {
                key: random_uuid(&*context.random)?,
                version: random_uuid(&*context.random)?,
                check: random_uuid(&*context.random)?,
            },
            now: context.clock.now(),
        };
        let decided = plan(&observed, &circumstances);
        if decided.step == Step::Rest {
            // Nothing tells when the user's Secret comes or changes.
            return Ok(if observed.import_problem.is_some() { Outcome::Retry } else { Outcome::Settled });
        }
        observed = carry_out(context, observed, decided.step).await?;
        announce(context, &observed.object, &decided.events).await;
    }
    Err(PassError::Endless)
}

/// Does one step, and answers what is observed after it.
async fn carry_out<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    mut observed: Observed,
    step: Step,
) -> Result<Observed, PassError> {
    match step {
        Step::Rest => {}
        Step::LookAgain => return gather(context, observed.object, Freshness::Live).await,
        Step::CreateKey(new) => {
            let key = context.store.create(&new).await?;
            observed.see(key);
        }
        Step::UpdateKey { key, steps } => {
            let abandoned = steps.contains(&KeyStep::Abandon);
            let retained = steps.contains(&KeyStep::Release)
                && !steps.iter().any(|step| matches!(step, KeyStep::ScheduleDeletion { .. }));
            let key = context.store.update(&key, &steps).await?;
            if retained {
                context.metrics.keys_retained.inc();
            }
            if abandoned {
                // The next generation may exist already: the pass may have been interrupted here before.
                return gather(context, observed.object, Freshness::Live).await;
            }
            observed.see(key);
        }
        Step::ImportMaterial { key, import } => match import_material(context, &observed, &key, &import).await? {
            Ok(key) => {
                announce(context, &observed.object, &[describe::imported(&key.record)]).await;
                observed.see(key);
            }
            Err(problem) => observed.import_problem = Some(problem),
        },
        Step::ClaimAlias { slot, key_id } => {
            context.store.claim_alias(&slot, key_id).await?;
            observed.alias = aliases(context, &observed).await?;
        }
        Step::ReleaseAlias(claim) => {
            context.store.release_alias(&claim).await?;
            observed.alias = aliases(context, &observed).await?;
        }
        Step::TakeOn { key_id } => {
            let mut finalizers = observed.object.finalizers().to_vec();
            if !observed.has_finalizer() {
                finalizers.push(metadata::FINALIZER.to_owned());
            }
            let patch = json!({
                "finalizers": finalizers,
                "annotations": {metadata::KEY_ID: key_id.to_string()},
            });
            match context.cluster.patch_metadata(&observed.object, patch).await {
                Ok(object) => {
                    context.expectations.wrote(KIND, &object);
                    observed.object = object;
                }
                Err(error) => {
                    let error = PassError::from(error);
                    if error.is_gone() {
                        let_go(context, &observed).await;
                    }
                    return Err(error);
                }
            }
        }
        Step::Release => {
            let object = &observed.object;
            let left: Vec<_> = object.finalizers().iter().filter(|f| *f != metadata::FINALIZER).cloned().collect();
            observed.object = context.cluster.patch_metadata(object, json!({ "finalizers": left })).await?;
        }
        Step::WriteStatus(status) => {
            let wanted = CustomerMasterKey { status: Some(*status), ..observed.object.clone() };
            let written: CustomerMasterKey = context.cluster.replace_status(&wanted).await?;
            context.expectations.wrote(KIND, &written);
            observed.object = written;
        }
    }
    Ok(observed)
}

/// Reads the declared Secret and imports what is in it. The Secret is only read (rule 9).
async fn import_material<C: Cluster, S: KeyStore>(
    context: &Context<C, S>,
    observed: &Observed,
    key: &StoredKey,
    import: &MaterialImport,
) -> Result<Result<StoredKey, ImportProblem>, PassError> {
    let namespace = observed.object.namespace().unwrap_or_default();
    let Some(secret) = context.cluster.get_secret(&namespace, &import.source.secret).await? else {
        return Ok(Err(ImportProblem::NoSecret));
    };
    let secret = WipedSecret::from(secret);
    let Some(material) = secret.data.as_ref().and_then(|data| data.get(&import.source.key)) else {
        return Ok(Err(ImportProblem::NoEntry));
    };
    match context.store.import(key, import, &material.0).await {
        Ok(key) => Ok(Ok(key)),
        Err(StoreError::Import(refusal)) => Ok(Err(ImportProblem::Refused(refusal))),
        Err(error) => Err(error.into()),
    }
}

impl Observed {
    /// The key as the store answered it.
    fn see(&mut self, key: StoredKey) {
        let before = self.key.as_ref().ok().cloned().unwrap_or_default();
        self.key = Ok(SlotView { current: Some(key), ..before });
    }
}

/// The object was deleted before it was finished: its key is let go.
async fn let_go<C: Cluster, S: KeyStore>(context: &Context<C, S>, observed: &Observed) {
    let Ok(SlotView { current: Some(key), .. }) = &observed.key else { return };
    if let Err(error) = orphans::let_go_if_unfinished(context, key).await {
        let slot = slot(&observed.object);
        tracing::warn!(%error, namespace = slot.namespace, name = slot.name, "left for the next sweep");
    }
}
