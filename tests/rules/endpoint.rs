//! The operations of the KMS endpoint beside an operator in this process, as a replica of it serves them: over watches of
//! their own, with reviews that the test answers, and with a hand that gets in between reading and writing.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cmk_operator::{
    api::{ClusterKeyStore, CustomerMasterKey, KeyStoreRef, edit::Edit, metadata},
    cluster::{
        AccessQuestion, ApiError, Cluster, EventNote, Events, Guarded, History, KeyObjectView, KeyObjects,
        KeyStoreView, KubeCluster, NamespaceView, Objects, Reviews, Secrets, UserInfo, Views,
    },
    crypto::SystemRandom,
    kms::Dialect,
    server::{
        Call, Caller,
        operations::{KeyReference, Kms, OperationSettings},
        staleness,
    },
    store::embedded::EmbeddedStore,
};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
    core::PartialObjectMeta,
    runtime::{
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::helpers;
use crate::support::{
    clock::TestClock,
    world::{SOON, World},
};

/// What happens to the object just before a call writes it.
pub enum Meddling {
    /// Somebody merges this into it.
    Merge(Value),
    /// Somebody deletes it, and it goes.
    Delete,
}

/// What the test does to the operations.
#[derive(Default)]
pub struct Hand {
    /// Verbs that the caller lacks, everywhere.
    pub denied: HashSet<&'static str>,
    /// What happens before the next writes, one each.
    pub meddling: VecDeque<Meddling>,
    /// How many edits were sent.
    pub edits: usize,
}

/// The real cluster, with a [`Hand`] in it.
#[derive(Clone)]
pub struct Meddled {
    inner: KubeCluster,
    admin: Client,
    pub hand: Arc<Mutex<Hand>>,
}

/// The operations, and what feeds them.
pub struct Endpoint {
    pub kms: Kms<Meddled, EmbeddedStore<KubeCluster>>,
    pub hand: Arc<Mutex<Hand>>,
    caller: Caller,
    clock: Arc<TestClock>,
    /// The watch of aliases.
    aliases: AbortHandle,
    _watches: JoinSet<()>,
}

impl Endpoint {
    /// One that has seen what there is. There has to be a root key.
    pub async fn new(world: &World) -> Self {
        Self::with(world, OperationSettings::default()).await
    }

    /// One with other settings.
    pub async fn with(world: &World, settings: OperationSettings) -> Self {
        let client = world.operator_client().await;
        let mut watches = JoinSet::new();
        let (namespaces, key_stores, keys) = (Writer::default(), Writer::default(), Writer::default());
        let views = Views {
            namespaces: namespaces.as_reader(),
            scopes: vec![Some(world.namespace.clone())],
            keys: vec![keys.as_reader()],
            data_keys: vec![],
            key_stores: key_stores.as_reader(),
        };
        watches.spawn(feed(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), namespaces));
        watches.spawn(feed(Api::<Guarded<ClusterKeyStore>>::all(client.clone()), key_stores));
        watches.spawn(feed(Api::<Guarded<CustomerMasterKey>>::namespaced(client.clone(), &world.namespace), keys));
        let cluster = KubeCluster::new(client.clone(), views.clone());
        let ring = helpers::ring(world).await;
        let (clock, random) = (world.clock.clone(), Arc::new(SystemRandom));
        let store = Arc::new(EmbeddedStore::new(
            &world.operator_namespace,
            cluster.clone(),
            Arc::new(ring),
            clock.clone(),
            random.clone(),
        ));
        let mut noting = Vec::new();
        for type_ in [metadata::KEY_RECORD_TYPE, metadata::ALIAS_TYPE] {
            let (listed, mut is_listed) = watch::channel(false);
            let api = Api::namespaced(client.clone(), &world.operator_namespace);
            noting.push(watches.spawn(note(api, type_, store.clone(), listed)));
            is_listed.wait_for(|listed| *listed).await.unwrap();
        }
        views.keys[0].wait_until_ready().await.unwrap();
        views.namespaces.wait_until_ready().await.unwrap();
        views.key_stores.wait_until_ready().await.unwrap();
        let hand = Arc::new(Mutex::new(Hand::default()));
        let cluster = Meddled { inner: cluster, admin: world.client.clone(), hand: hand.clone() };
        let user = UserInfo::service_account(&world.namespace, "api", "uid-of-api");
        let caller = Caller { user: Arc::new(user), namespace: (*world.namespace).into(), access_key_id: None };
        let kms = Kms::new(cluster.clone(), store, clock.clone(), random, settings);
        let (contact, namespace) = (kms.contact().clone(), world.operator_namespace.clone());
        watches.spawn(staleness::keep(contact, cluster, namespace));
        Self { kms, hand, caller, clock, aliases: noting.remove(1), _watches: watches }
    }

    /// A call of the Alibaba dialect.
    pub fn alibaba(&self) -> Call {
        Call::new(self.caller.clone(), Dialect::Alibaba)
    }

    /// A call of the AWS dialect.
    pub fn aws(&self) -> Call {
        Call::new(self.caller.clone(), Dialect::Aws)
    }

    /// Takes verbs from the caller, and gives back all others: long enough ago that no answer of before counts.
    pub fn deny(&self, verbs: &[&'static str]) {
        self.hand.lock().unwrap().denied = verbs.iter().copied().collect();
        self.clock.advance(SignedDuration::from_secs(6));
    }

    /// Has something happen before the next write.
    pub fn meddle(&self, meddling: Meddling) {
        self.hand.lock().unwrap().meddling.push_back(meddling);
    }

    /// Has it see no alias any more that is claimed elsewhere.
    pub fn stop_watching_aliases(&self) {
        self.aliases.abort();
    }

    /// How many edits were sent so far.
    pub fn edits(&self) -> usize {
        self.hand.lock().unwrap().edits
    }
}

/// Settings of an endpoint that does not wait long.
pub fn impatient() -> OperationSettings {
    OperationSettings { wait: Duration::from_millis(300), ..OperationSettings::default() }
}

/// A key by its id.
pub fn by_id(id: &str) -> KeyReference<'_> {
    KeyReference::parse(id)
}

async fn feed<K>(api: Api<K>, mut writer: Writer<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        if let Ok(event) = event {
            writer.apply_watcher_event(&event);
        }
    }
}

async fn note(api: Api<Secret>, type_: &str, store: Arc<EmbeddedStore<KubeCluster>>, listed: watch::Sender<bool>) {
    let config = watcher::Config::default().fields(&format!("type={type_}"));
    let mut events = std::pin::pin!(watcher(api, config));
    let see = |secret: &Secret| match type_ {
        metadata::ALIAS_TYPE => store.note_alias(secret),
        _ => drop(store.note(secret)),
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(secret) | Event::InitApply(secret)) => see(&secret),
            Ok(Event::Delete(secret)) if type_ == metadata::ALIAS_TYPE => {
                store.note_alias_deleted(&secret.name_any());
            }
            Ok(Event::Delete(secret)) => store.note_deleted(&secret.name_any()),
            Ok(Event::InitDone) => drop(listed.send_replace(true)),
            Ok(Event::Init) | Err(_) => {}
        }
    }
}

impl Reviews for Meddled {
    async fn review_access(&self, _: &UserInfo, question: AccessQuestion<'_>) -> Result<bool, ApiError> {
        Ok(!self.hand.lock().unwrap().denied.contains(question.verb))
    }

    async fn review_token(&self, token: &str, audience: &str) -> Result<Result<UserInfo, String>, ApiError> {
        self.inner.review_token(token, audience).await
    }
}

impl KeyObjects for Meddled {
    fn seen_key_object(&self, namespace: &str, name: &str) -> Option<Arc<Guarded<CustomerMasterKey>>> {
        self.inner.seen_key_object(namespace, name)
    }

    async fn declare_key(&self, object: &CustomerMasterKey) -> Result<CustomerMasterKey, ApiError> {
        self.inner.declare_key(object).await
    }

    async fn edit_key(&self, object: &CustomerMasterKey, edits: &[Edit]) -> Result<CustomerMasterKey, ApiError> {
        let meddling = {
            let mut hand = self.hand.lock().unwrap();
            hand.edits += 1;
            hand.meddling.pop_front()
        };
        let api: Api<CustomerMasterKey> = Api::namespaced(self.admin.clone(), &object.namespace().unwrap());
        match meddling {
            None => {}
            Some(Meddling::Merge(patch)) => {
                api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            }
            Some(Meddling::Delete) => {
                api.delete(&object.name_any(), &DeleteParams::default()).await.unwrap();
                // Not `gone`: an async closure in it is not Send for every lifetime (rust-lang/rust#110338).
                let deadline = Instant::now() + SOON;
                while api.get_opt(&object.name_any()).await.unwrap().is_some() {
                    assert!(Instant::now() < deadline, "waited for the object to be gone");
                    tokio::task::yield_now().await;
                }
            }
        }
        self.inner.edit_key(object, edits).await
    }
}

impl Secrets for Meddled {
    async fn get_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        self.inner.get_secret(namespace, name).await
    }

    async fn list_secrets(&self, namespace: &str, type_: &str) -> Result<Vec<Secret>, ApiError> {
        self.inner.list_secrets(namespace, type_).await
    }

    async fn create_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        self.inner.create_secret(secret).await
    }

    async fn replace_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        self.inner.replace_secret(secret).await
    }

    async fn delete_secret(&self, secret: &Secret) -> Result<(), ApiError> {
        self.inner.delete_secret(secret).await
    }
}

impl<K> Objects<K> for Meddled
where
    KubeCluster: Objects<K>,
    K: Send + Sync + 'static,
{
    async fn get_object(&self, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
        self.inner.get_object(namespace, name).await
    }

    async fn patch_metadata(&self, object: &K, metadata: Value) -> Result<K, ApiError> {
        self.inner.patch_metadata(object, metadata).await
    }

    async fn replace_status(&self, object: &K) -> Result<K, ApiError> {
        self.inner.replace_status(object).await
    }

    async fn get_raw(&self, metadata: &ObjectMeta) -> Result<Option<Value>, ApiError> {
        Objects::<K>::get_raw(&self.inner, metadata).await
    }

    async fn patch_raw_status(&self, metadata: &ObjectMeta, status: Value) -> Result<(), ApiError> {
        Objects::<K>::patch_raw_status(&self.inner, metadata, status).await
    }
}

impl Cluster for Meddled {
    async fn namespace(&self, name: &str) -> Result<Option<NamespaceView>, ApiError> {
        self.inner.namespace(name).await
    }

    async fn namespace_now(&self, name: &str) -> Result<Option<NamespaceView>, ApiError> {
        self.inner.namespace_now(name).await
    }

    fn is_watched(&self, namespace: &str) -> bool {
        self.inner.is_watched(namespace)
    }

    fn watched_key(&self, namespace: &str, name: &str) -> Option<KeyObjectView> {
        self.inner.watched_key(namespace, name)
    }

    fn key_store(&self, store: &KeyStoreRef) -> Option<KeyStoreView> {
        self.inner.key_store(store)
    }

    fn data_keys_under(&self, namespace: &str, name: &str) -> Vec<(String, String)> {
        self.inner.data_keys_under(namespace, name)
    }

    async fn create_key_object(&self, object: &CustomerMasterKey) -> Result<(), ApiError> {
        self.inner.create_key_object(object).await
    }

    async fn history(&self, namespace: &str, name: &str, uid: &str, since: &str) -> Result<History, ApiError> {
        self.inner.history(namespace, name, uid, since).await
    }

    async fn count_keys_with_status(&self) -> Result<usize, ApiError> {
        self.inner.count_keys_with_status().await
    }

    async fn server_time(&self, namespace: &str) -> Result<Timestamp, ApiError> {
        self.inner.server_time(namespace).await
    }
}

impl Events for Meddled {
    async fn publish<K>(&self, about: &K, note: &EventNote)
    where
        K: kube::Resource<DynamicType = ()> + Sync,
    {
        self.inner.publish(about, note).await;
    }
}
