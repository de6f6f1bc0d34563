//! Puts everything under the first root key that is under another one (design, section 4): in the background, from
//! when the operator begins, and for as long as it runs, since a restored backup may bring back what is under an older
//! root key. Every write is one record or alias, whole; so it can be interrupted anywhere, and what is left is what
//! the next one finds.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::sleep;

use crate::{
    cluster::Secrets,
    store::{
        StoreError,
        embedded::{EmbeddedStore, RootKeyUse, Stale},
    },
};

/// Writes at a time. Few, so that the reconcilers have the API server for themselves.
const AT_A_TIME: usize = 4;
/// How often to look when the watch shows nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long to wait after a failure of the API server.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The least time between two rounds.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);
/// The most, while another operator works against this one.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A line of progress each time that so much more of all is done, in percent.
const PROGRESS_PERCENT: usize = 10;

/// Rewraps for ever what is stale. Begins when all records, aliases and access keys were listed.
pub async fn rewrap<S: Secrets>(store: Arc<EmbeddedStore<S>>) {
    let mut rewrapper = Rewrapper::new(store);
    if rewrapper.store.has_other_root_keys() && rewrapper.left().is_empty() {
        rewrapper.say_result();
    }
    loop {
        let pause = rewrapper.round().await;
        sleep(pause).await;
        tokio::select! {
            () = rewrapper.store.stale_shown() => {}
            // Something is left that may succeed now: there was a failure, or it was changed meanwhile.
            () = std::future::ready(()), if !rewrapper.left().is_empty() => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

/// The UID and the resource version of a Secret: one state of it.
type State = (String, String);

struct Rewrapper<S> {
    store: Arc<EmbeddedStore<S>>,
    /// What does not unwrap: said once, and left as it is.
    given_up: HashSet<State>,
    /// The UIDs of what was rewrapped already. One that comes again was put back by somebody.
    rewrapped: HashSet<String>,
    pause: Duration,
}

/// How a round ended.
#[derive(Debug, Default)]
struct Round {
    /// Why it was cut short.
    failure: Option<StoreError>,
    /// How many were put back under another root key since they were rewrapped.
    put_back: usize,
}

impl<S: Secrets> Rewrapper<S> {
    fn new(store: Arc<EmbeddedStore<S>>) -> Self {
        let (given_up, rewrapped) = (HashSet::new(), HashSet::new());
        Self { store, given_up, rewrapped, pause: BETWEEN_ROUNDS }
    }

    /// What is to be done. What was given up and is no longer there is forgotten.
    fn todo(&mut self) -> Vec<Stale> {
        let stale = self.store.stale();
        let states: HashSet<_> = stale.iter().map(state).collect();
        self.given_up.retain(|state| states.contains(state));
        self.left()
    }

    /// What may still be done.
    fn left(&self) -> Vec<Stale> {
        let mut stale = self.store.stale();
        stale.retain(|stale| !self.given_up.contains(&state(stale)));
        stale
    }

    /// Rewraps what is stale now, and answers how long to wait before the next round.
    async fn round(&mut self) -> Duration {
        let todo = self.todo();
        if todo.is_empty() {
            return BETWEEN_ROUNDS;
        }
        let first = self.store.first_root_key();
        let count = todo.len();
        tracing::info!(root_key_id = %first, count, "records, aliases or access keys are under another root key: rewrapping them");
        let Round { failure, put_back } = self.rewrap_all(todo).await;
        if let Some(error) = failure {
            tracing::warn!(%error, "rewrapping under root key {first} is interrupted, and goes on in a moment");
            return AFTER_FAILURE;
        }
        if self.left().is_empty() {
            self.say_result();
        }
        self.pause = if put_back == 0 { BETWEEN_ROUNDS } else { (self.pause * 2).min(LONGEST_PAUSE) };
        if put_back > 0 {
            tracing::warn!(
                root_key_id = %first, put_back, pause = ?self.pause,
                "records that were rewrapped came back under another root key. If no backup was restored, another \
                 operator runs with other --root-key-file arguments, or in another order: give all the same"
            );
        }
        self.pause
    }

    async fn rewrap_all(&mut self, todo: Vec<Stale>) -> Round {
        let (store, total) = (self.store.clone(), todo.len());
        let mut results = stream::iter(todo)
            .map(|stale| {
                let store = &store;
                async move {
                    let result = store.rewrap(&stale).await;
                    (stale, result)
                }
            })
            .buffer_unordered(AT_A_TIME);
        let (mut round, mut done) = (Round::default(), 0);
        while let Some((stale, result)) = results.next().await {
            match result {
                Ok(()) => {
                    round.put_back += usize::from(!self.rewrapped.insert(stale.revision().uid.clone()));
                }
                // It is looked at again, as it is now.
                Err(StoreError::Conflict) => {}
                Err(error @ (StoreError::Unavailable(_) | StoreError::Crypto(_))) => {
                    round.failure = Some(error);
                    return round;
                }
                Err(error) => {
                    let secret = stale.secret_name();
                    tracing::error!(%error, secret, "it can't be rewrapped, and stays as it is: keep every root key");
                    self.given_up.insert(state(&stale));
                }
            }
            done += 1;
            if let Some(percent) = reached(done, total) {
                tracing::info!(done, total, "rewrapping: {percent} %");
            }
        }
        round
    }

    /// Says what a person waits for: whether the other root keys can go.
    fn say_result(&self) {
        let used = self.store.root_key_use();
        let RootKeyUse { records, aliases, access_keys, stale, unknown } = used;
        let first = self.store.first_root_key();
        if used.under_others() == 0 {
            tracing::info!(
                "all {records} records, {aliases} aliases and {access_keys} access keys are under root key {first}; the \
                 other root keys can be removed once `cmk-operator verify` with this one alone says so too"
            );
        } else {
            tracing::warn!(
                "{stale} records, aliases or access keys can't be rewrapped under root key {first}, and {unknown} records can't be \
                 read: keep every root key. `cmk-operator verify` names them"
            );
        }
    }
}

fn state(stale: &Stale) -> State {
    let revision = stale.revision();
    (revision.uid.clone(), revision.version.clone())
}

/// The percentage to report, if the last one done was the one that reached it. None at the end, which is said otherwise.
fn reached(done: usize, total: usize) -> Option<usize> {
    let step = |done: usize| done * 100 / total / PROGRESS_PERCENT;
    (done < total && step(done) > step(done - 1)).then(|| step(done) * PROGRESS_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::metadata,
        crypto::RootKeyRing,
        kms::KeyStep,
        store::{
            KeyStore,
            embedded::testing::{Bench, Memory, NAMESPACE, root},
        },
    };

    async fn list(bench: &Bench, store: &EmbeddedStore<Memory>) {
        for secret in bench.memory.list_secrets(NAMESPACE, metadata::KEY_RECORD_TYPE).await.unwrap() {
            store.note(&secret);
        }
    }

    /// Some keys under the old root key, and who is to rewrap them.
    async fn rewrapper(count: usize) -> (Bench, Rewrapper<Memory>) {
        let bench = Bench::new();
        for index in 0..count {
            bench.create(&format!("key-{index}")).await;
        }
        let store = Arc::new(bench.another(RootKeyRing::new(root(2), [root(1)])));
        list(&bench, &store).await;
        (bench, Rewrapper::new(store))
    }

    fn under_others(rewrapper: &Rewrapper<Memory>) -> usize {
        rewrapper.store.root_key_use().under_others()
    }

    #[tokio::test]
    async fn a_round_rewraps_everything() {
        let (_bench, mut rewrapper) = rewrapper(25).await;
        assert_eq!(under_others(&rewrapper), 25);
        assert_eq!(rewrapper.round().await, BETWEEN_ROUNDS);
        assert_eq!(under_others(&rewrapper), 0);
        assert!(rewrapper.left().is_empty());
    }

    #[tokio::test]
    async fn what_does_not_unwrap_is_tried_once_a_revision_and_holds_nothing_up() {
        let (bench, mut rewrapper) = rewrapper(3).await;
        let stale = rewrapper.todo();
        let Stale::Key(key) = &stale[0] else { panic!() };
        // Changed under the new root key, with versions under the old one, which is then taken away.
        rewrapper.store.update(key, &[KeyStep::Disable]).await.unwrap();
        let store = Arc::new(bench.another(RootKeyRing::new(root(2), [])));
        list(&bench, &store).await;
        let mut alone = Rewrapper::new(store);
        assert_eq!(alone.todo().len(), 1);
        alone.round().await;
        assert!(alone.todo().is_empty() && alone.given_up.len() == 1);
        assert_eq!(under_others(&alone), 3, "it, and two that can't be read");

        // Changed, it is tried again; rewrapped by somebody who can, it is forgotten.
        let key = alone.store.keys().remove(0);
        alone.store.update(&key, &[KeyStep::Enable]).await.unwrap();
        assert_eq!(alone.todo().len(), 1);
        alone.round().await;
        list(&bench, &rewrapper.store).await;
        rewrapper.round().await;
        list(&bench, &alone.store).await;
        assert!(alone.todo().is_empty() && alone.given_up.is_empty());
        assert_eq!((under_others(&alone), under_others(&rewrapper)), (0, 0));
    }

    /// Two operators whose root keys are in another order each: they get slower, and lose nothing.
    #[tokio::test]
    async fn against_another_operator_it_slows_down() {
        let (bench, mut one) = rewrapper(2).await;
        let store = Arc::new(bench.another(RootKeyRing::new(root(1), [root(2)])));
        list(&bench, &store).await;
        let mut other = Rewrapper::new(store);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(one.round().await);
            list(&bench, &other.store).await;
            other.round().await;
            list(&bench, &one.store).await;
        }
        assert!(pauses[0] == BETWEEN_ROUNDS && pauses.is_sorted(), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(one.store.keys().len(), 2);
    }

    #[test]
    fn progress_is_told_at_every_tenth_and_not_at_the_end() {
        let told = |total| (1..=total).filter_map(|done| reached(done, total)).collect::<Vec<_>>();
        let tenths: Vec<_> = (1..10).map(|tenth| tenth * 10).collect();
        assert_eq!(told(1000), tenths);
        assert_eq!(told(10), tenths);
        assert_eq!(told(3), [30, 60]);
        assert!(told(1).is_empty());
    }
}
