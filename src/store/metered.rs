//! Counts and times the calls of a key store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use uuid::Uuid;

use super::{
    AccessKeyStore, AliasClaim, AliasSlot, Capabilities, Freshness, KeySlot, KeyStore, MaterialImport, NewKey, Sealed,
    SlotView, StoreError, StoredAccessKey, StoredKey,
};
use crate::{
    access_keys::{AccessKeyOwner, AccessKeyRecord, AccessKeySecret, SealedAccessKey},
    crypto::{ImportParameters, Plaintext},
    kms::{EncryptionContext, KeyStep, WrappingAlgorithm, WrappingKeySpec},
    trace::{self, Span},
};

/// Labels of a call.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct CallLabels {
    /// What was asked.
    pub operation: &'static str,
    /// `ok`, or [`StoreError::name`].
    pub result: &'static str,
}

/// Labels of how long calls took.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct OperationLabels {
    /// What was asked.
    pub operation: &'static str,
}

/// What is counted of the calls to key stores. Reads of what the watch has shown are none.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram =
            || Histogram::new([0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0]);
        Self { calls: Family::default(), seconds: Family::new_with_constructor(seconds) }
    }
}

impl StoreMetrics {
    /// Has them shown with `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("store_calls", "Calls to the key store by operation and result", self.calls.clone());
        registry.register("store_call_duration_seconds", "Duration of calls to the key store", self.seconds.clone());
    }

    fn note(&self, operation: &'static str, result: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabels { operation, result }).inc();
        self.seconds.get_or_create(&OperationLabels { operation }).observe(took.as_secs_f64());
    }

    fn call<T>(&self, operation: &'static str, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let started = Instant::now();
        let done = call();
        self.note(operation, done.as_ref().map_or_else(StoreError::name, |_| "ok"), started.elapsed());
        done
    }

    /// As [`compute`](Self::compute), of what takes the API server or another service, which is worth a span.
    /// Boxed for the reason that the calls of the API server are: who waits for it, and copies it, is deep already.
    fn reach<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let Some(span) = Span::begin(|| format!("store {operation}")) else {
                return self.compute(operation, call).await;
            };
            let done = trace::within(Some(&span), self.compute(operation, call)).await;
            let is_failure = done.as_ref().is_err_and(|error| !matches!(error, StoreError::Conflict));
            span.end(done.as_ref().map_or_else(StoreError::name, |_| "ok"), is_failure);
            done
        })
    }

    async fn compute<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let done = call.await;
        self.note(operation, done.as_ref().map_or_else(StoreError::name, |_| "ok"), started.elapsed());
        done
    }
}

/// A key store whose calls are counted, and those that go beyond this process traced.
pub struct Metered<S> {
    store: Arc<S>,
    metrics: StoreMetrics,
}

impl<S> Metered<S> {
    /// This store, counted there.
    #[must_use]
    pub fn new(store: Arc<S>, metrics: StoreMetrics) -> Self {
        Self { store, metrics }
    }
}

impl<S: KeyStore> KeyStore for Metered<S> {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn find_by_id(
        &self,
        store: &str,
        key_id: Uuid,
        freshness: Freshness,
    ) -> Result<Option<StoredKey>, StoreError> {
        let found = self.store.find_by_id(store, key_id, freshness);
        match freshness {
            Freshness::Watched => found.await,
            Freshness::Live => self.metrics.reach("find", found).await,
        }
    }

    async fn find(&self, slot: &KeySlot, freshness: Freshness) -> Result<SlotView, StoreError> {
        let found = self.store.find(slot, freshness);
        match freshness {
            Freshness::Watched => found.await,
            Freshness::Live => self.metrics.reach("find", found).await,
        }
    }

    async fn create(&self, new: &NewKey) -> Result<StoredKey, StoreError> {
        self.metrics.reach("create", self.store.create(new)).await
    }

    async fn update(&self, key: &StoredKey, steps: &[KeyStep]) -> Result<StoredKey, StoreError> {
        self.metrics.reach("update", self.store.update(key, steps)).await
    }

    async fn import(&self, key: &StoredKey, import: &MaterialImport, material: &[u8]) -> Result<StoredKey, StoreError> {
        self.metrics.reach("import", self.store.import(key, import, material)).await
    }

    fn import_parameters(
        &self,
        key_id: Uuid,
        algorithm: WrappingAlgorithm,
        key_spec: WrappingKeySpec,
    ) -> Result<ImportParameters, StoreError> {
        self.metrics.call("import_parameters", || self.store.import_parameters(key_id, algorithm, key_spec))
    }

    fn check_material(&self, key: &StoredKey, token: &str, encrypted: &[u8]) -> Result<WrappingAlgorithm, StoreError> {
        self.metrics.call("check_material", || self.store.check_material(key, token, encrypted))
    }

    async fn alias(&self, slot: &AliasSlot, freshness: Freshness) -> Result<Option<AliasClaim>, StoreError> {
        let found = self.store.alias(slot, freshness);
        match freshness {
            Freshness::Watched => found.await,
            Freshness::Live => self.metrics.reach("find_alias", found).await,
        }
    }

    fn aliases_of(&self, key_id: Uuid) -> Vec<AliasClaim> {
        self.store.aliases_of(key_id)
    }

    async fn claim_alias(&self, slot: &AliasSlot, key_id: Uuid) -> Result<AliasClaim, StoreError> {
        self.metrics.reach("claim_alias", self.store.claim_alias(slot, key_id)).await
    }

    async fn release_alias(&self, claim: &AliasClaim) -> Result<(), StoreError> {
        self.metrics.reach("release_alias", self.store.release_alias(claim)).await
    }

    async fn forget_unfinished(&self, key: &StoredKey) -> Result<(), StoreError> {
        self.metrics.reach("forget", self.store.forget_unfinished(key)).await
    }

    fn key(&self, key_id: Uuid) -> Option<StoredKey> {
        self.store.key(key_id)
    }

    fn aliases_in(&self, namespace: &str) -> Vec<AliasClaim> {
        self.store.aliases_in(namespace)
    }

    fn keys(&self) -> Vec<StoredKey> {
        self.store.keys()
    }

    fn is_in_use(&self, store: &str) -> bool {
        self.store.is_in_use(store)
    }

    async fn generate_data_key(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        length: usize,
    ) -> Result<Sealed, StoreError> {
        self.metrics.compute("generate_data_key", self.store.generate_data_key(key, context, length)).await
    }

    async fn encrypt(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Sealed, StoreError> {
        self.metrics.compute("encrypt", self.store.encrypt(key, context, plaintext)).await
    }

    async fn decrypt(
        &self,
        key: &StoredKey,
        context: &EncryptionContext,
        ciphertext_blob: &[u8],
    ) -> Result<Plaintext, StoreError> {
        self.metrics.compute("decrypt", self.store.decrypt(key, context, ciphertext_blob)).await
    }
}

impl<S: AccessKeyStore> AccessKeyStore for Metered<S> {
    fn new_access_key(&self, owner: &AccessKeyOwner) -> Result<SealedAccessKey, StoreError> {
        self.store.new_access_key(owner)
    }

    async fn access_key(&self, owner: &AccessKeyOwner) -> Result<Option<StoredAccessKey>, StoreError> {
        self.metrics.reach("find_access_key", self.store.access_key(owner)).await
    }

    async fn create_access_key(&self, record: &AccessKeyRecord) -> Result<StoredAccessKey, StoreError> {
        self.metrics.reach("create_access_key", self.store.create_access_key(record)).await
    }

    async fn replace_access_key(
        &self,
        stored: &StoredAccessKey,
        record: &AccessKeyRecord,
    ) -> Result<StoredAccessKey, StoreError> {
        self.metrics.reach("update_access_key", self.store.replace_access_key(stored, record)).await
    }

    async fn delete_access_key(&self, stored: &StoredAccessKey) -> Result<(), StoreError> {
        self.metrics.reach("delete_access_key", self.store.delete_access_key(stored)).await
    }

    fn open_access_key(&self, record: &AccessKeyRecord, key: &SealedAccessKey) -> Result<AccessKeySecret, StoreError> {
        self.store.open_access_key(record, key)
    }

    fn access_keys(&self) -> Vec<StoredAccessKey> {
        self.store.access_keys()
    }
}
