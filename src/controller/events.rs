//! Telling people: which Events a pass writes, and writing them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};

use super::Context;
use crate::{
    api::conditions::{self, READY, Standing, reason},
    cluster::{Cluster, EventNote},
};

/// The Event about a failure, once: not while the object fails for the reason that `before` gives already. And that about
/// its end, if somebody had to look. A new object that is Ready has none: its status says it all.
pub fn news(standing: &Standing, before: &[Condition]) -> Vec<EventNote> {
    let known = conditions::find(before, READY);
    let note = match standing {
        Standing::Ready { message } => {
            let failed = |ready: &&Condition| ready.status == "False" && !conditions::comes_by_itself(&ready.reason);
            known.filter(failed).map(|ready| {
                let message = format!("No longer {}. {message}", ready.reason);
                EventNote::normal(reason::RECOVERED, "Reconcile", message)
            })
        }
        Standing::Waiting { reason, message } | Standing::Stalled { reason, message } => {
            let is_new = known.is_none_or(|ready| ready.reason != *reason);
            is_new.then(|| EventNote {
                warning: standing.needs_attention(),
                ..EventNote::warning(reason, "Reconcile", message)
            })
        }
    };
    note.into_iter().collect()
}

/// Writes Events about an object, and logs them.
pub async fn announce<C, S, K>(context: &Context<C, S>, object: &K, notes: &[EventNote])
where
    C: Cluster,
    S: Send + Sync,
    K: Resource<DynamicType = ()> + Sync,
{
    for note in notes {
        let (namespace, name) = (object.namespace(), object.name_any());
        tracing::info!(kind = %K::kind(&()), namespace, name, reason = note.reason, "{}", note.message);
        context.cluster.publish(object, note).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::conditions::conditions, kms::key_record::tests::at};

    /// Every way from one standing to another, and the Event about it: whether it is a warning, and its reason.
    #[test]
    fn rule_16_every_transition_is_an_event_once() {
        let ready = || Standing::Ready { message: "Enabled".into() };
        let tampered = || Standing::stalled(reason::RECORD_TAMPERED, "");
        let missing = || Standing::stalled(reason::KEY_RECORD_MISSING, "");
        let failing = || Standing::waiting(reason::KEY_STORE_ERROR, "");
        let waiting = || Standing::waiting(reason::KEY_NOT_FOUND, "");
        let recovered = Some((false, reason::RECOVERED));
        let table = [
            (None, ready(), None),
            (None, tampered(), Some((true, reason::RECORD_TAMPERED))),
            (None, waiting(), Some((false, reason::KEY_NOT_FOUND))),
            (Some(ready()), ready(), None),
            (Some(ready()), failing(), Some((true, reason::KEY_STORE_ERROR))),
            (Some(tampered()), tampered(), None),
            (Some(tampered()), missing(), Some((true, reason::KEY_RECORD_MISSING))),
            (Some(tampered()), ready(), recovered),
            (Some(failing()), ready(), recovered),
            (Some(waiting()), ready(), None),
            (Some(waiting()), waiting(), None),
        ];
        for (before, now, expected) in table {
            let said = before.as_ref().map(|before| conditions(&before.findings(), &[], Some(1), at(0)));
            let notes = news(&now, &said.unwrap_or_default());
            let seen: Vec<_> = notes.iter().map(|note| (note.warning, note.reason)).collect();
            assert_eq!(seen, expected.into_iter().collect::<Vec<_>>(), "{before:?} -> {now:?}");
        }
    }
}
