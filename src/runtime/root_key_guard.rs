//! Watches the Secret with the generated root key, and writes it back if it is deleted (design, rule 20): the
//! operator still has it, and without it nothing could be decrypted after the next restart.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, core::PartialObjectMeta, runtime::watcher::Event};
use tokio::time::{Instant, sleep_until};

use super::{list_watch::list_and_watch, watches::selection};
use crate::{
    api::{conditions::reason, metadata},
    cluster::{ApiError, EventNote, Events, Secrets, WipedSecret},
    crypto::RootKeyRing,
    server::freshness::WatchFreshness,
    store::embedded::root_key,
};

/// How long to wait after a failure; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest wait between two tries. Short: a restart of all replicas meanwhile would lose the root key.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Guards the root key for ever.
pub async fn guard<C: Secrets + Events>(client: Client, namespace: String, cluster: C, ring: Arc<RootKeyRing>) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, &namespace);
    let selected = selection().fields(&format!("metadata.name={}", metadata::ROOT_KEY_SECRET));
    let events = list_and_watch("the root key", api, selected, WatchFreshness::unasked());
    Guard { cluster, namespace, ring }.follow(events).await;
}

/// What is to be done about the Secret.
#[derive(Clone, Copy)]
enum Task {
    /// It is there: is it ours?
    Check,
    /// It is gone.
    WriteBack,
}

struct Guard<C> {
    cluster: C,
    namespace: String,
    ring: Arc<RootKeyRing>,
}

impl<C: Secrets + Events> Guard<C> {
    /// Does what `events` ask for, for as long as some come. What fails is tried again: a Secret that is gone has no events.
    async fn follow(&self, events: impl Stream<Item = Event<PartialObjectMeta<Secret>>>) {
        let mut events = pin!(events);
        let mut listed = false;
        // What failed, how long to wait for the next try, and until when.
        let mut failed: Option<(Task, Duration, Instant)> = None;
        loop {
            let again = async {
                match failed {
                    Some((task, _, at)) => {
                        sleep_until(at).await;
                        task
                    }
                    None => pending().await,
                }
            };
            let task = tokio::select! {
                event = events.next() => match event {
                    None => return,
                    Some(Event::Init) => {
                        listed = false;
                        continue;
                    }
                    Some(Event::InitApply(_)) => {
                        listed = true;
                        continue;
                    }
                    Some(Event::InitDone) if !listed => Task::WriteBack,
                    Some(Event::InitDone | Event::Apply(_)) => Task::Check,
                    Some(Event::Delete(_)) => Task::WriteBack,
                },
                task = again => task,
            };
            failed = self.carry_out(task).await.is_err().then(|| {
                let wait = failed.map_or(FIRST_RETRY, |(_, wait, _)| (wait * 2).min(LAST_RETRY));
                (task, wait, Instant::now() + wait)
            });
        }
    }

    /// Failures are logged here.
    async fn carry_out(&self, task: Task) -> Result<(), ApiError> {
        match task {
            Task::Check => self.check().await,
            Task::WriteBack => self.write_back().await,
        }
    }

    async fn write_back(&self) -> Result<(), ApiError> {
        let namespace = &*self.namespace;
        match root_key::restore(&self.cluster, namespace, &self.ring).await {
            Ok(true) => {
                let message = "The root key was deleted while the operator runs, and was written back. Keep a copy of \
                               it outside the cluster.";
                tracing::error!(namespace, "{message}");
                if let Ok(Some(secret)) = self.cluster.get_secret(namespace, metadata::ROOT_KEY_SECRET).await {
                    let note = EventNote::warning(reason::ROOT_KEY_RESTORED, "Restore", message);
                    self.cluster.publish(&*WipedSecret::from(secret), &note).await;
                }
                Ok(())
            }
            Ok(false) => self.check().await,
            Err(error) => {
                tracing::error!(
                    %error, namespace,
                    "the root key was deleted and can't be written back yet; it is tried again: do not stop the \
                     operator before it is restored"
                );
                Err(error)
            }
        }
    }

    /// A root key that was put in place of ours would be found out only at the next restart.
    async fn check(&self) -> Result<(), ApiError> {
        let namespace = &*self.namespace;
        let stored = match self.cluster.get_secret(namespace, metadata::ROOT_KEY_SECRET).await {
            Ok(Some(secret)) => WipedSecret::from(secret),
            // The watch tells of it.
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, namespace, "the root key can't be looked at; it is tried again");
                return Err(error);
            }
        };
        if root_key::decode(&stored, namespace).ok().is_none_or(|stored| stored.primary_id() != self.ring.primary_id())
        {
            tracing::error!(
                namespace,
                secret = stored.name_any(),
                "the root key in the cluster is not the one in use: do not stop the operator, delete that Secret, and \
                 the one in use is written back"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::stream;
    use kube::Resource;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        crypto::{RootKey, SystemRandom},
        store::embedded::testing::{Memory, NAMESPACE},
    };

    /// An API server that refuses some writes, and what it was told in Events.
    #[derive(Default)]
    struct Unreliable {
        secrets: Memory,
        /// How many of the next writes fail.
        failures: Mutex<u32>,
        said: watch::Sender<Vec<&'static str>>,
    }

    impl Secrets for Arc<Unreliable> {
        async fn get_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
            self.secrets.get_secret(namespace, name).await
        }

        async fn list_secrets(&self, namespace: &str, type_: &str) -> Result<Vec<Secret>, ApiError> {
            self.secrets.list_secrets(namespace, type_).await
        }

        async fn create_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
            {
                let mut failures = self.failures.lock().unwrap();
                if *failures > 0 {
                    *failures -= 1;
                    return Err(ApiError::Unavailable("no answer".into()));
                }
            }
            self.secrets.create_secret(secret).await
        }

        async fn replace_secret(&self, _: &Secret) -> Result<Secret, ApiError> {
            panic!("the root key is never replaced")
        }

        async fn delete_secret(&self, _: &Secret) -> Result<(), ApiError> {
            panic!("the root key is never deleted")
        }
    }

    impl Events for Arc<Unreliable> {
        async fn publish<K: Resource<DynamicType = ()> + Sync>(&self, _: &K, note: &EventNote) {
            self.said.send_modify(|said| said.push(note.reason));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_20_a_deleted_root_key_is_written_back_however_often_that_fails() {
        let ring = Arc::new(RootKeyRing::new(RootKey::generate(&SystemRandom).unwrap(), []));
        let server = Arc::new(Unreliable { failures: Mutex::new(7), ..Unreliable::default() });
        let guard = Guard { cluster: server.clone(), namespace: NAMESPACE.to_owned(), ring: ring.clone() };
        // It is deleted, and nothing happens to it any more; that a watch begins anew changes nothing.
        let deleted = [Event::Delete(PartialObjectMeta::default()), Event::Init];
        let events = stream::iter(deleted).chain(stream::pending());
        let mut said = server.said.subscribe();
        tokio::select! {
            () = guard.follow(events) => panic!("it ended"),
            told = tokio::time::timeout(Duration::from_secs(60), said.changed()) => told.unwrap().unwrap(),
        }
        let stored = server.secrets.get_secret(NAMESPACE, metadata::ROOT_KEY_SECRET).await.unwrap().unwrap();
        assert!(root_key::decode(&stored, NAMESPACE).unwrap().primary_id() == ring.primary_id());
        assert_eq!(*said.borrow(), [reason::ROOT_KEY_RESTORED]);
    }
}
