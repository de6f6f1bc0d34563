//! The traits of this folder over a real API server.

use std::{fmt::Debug, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, ObjectReference, Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams},
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::{
        events::{Event, EventType, Recorder, Reporter},
        reflector::{ObjectRef, Store, store::Writer},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ApiError, Cluster, ClusterKeyStores, EventMetrics, EventNote, Events, Guarded, History, KeyObjectView,
    KeyStoreView, NamespaceView, Objects, Secrets, ServiceAccounts, call::call,
};
use crate::api::{
    ClusterKeyStore, ClusterKeyStoreSpec, CustomerMasterKey, DataKey, KeyStoreRef, cluster_key_store::DEFAULT_STORE,
    metadata,
};

/// Objects a page when listing: a page of 500 answers in 60 ms where all 10,000 take seconds.
const PAGE: u32 = 500;

/// How long to collect the recorded history of an object. All of it is sent at once, from the API server's
/// watch cache; what comes later is not history.
const HISTORY_SECONDS: u32 = 3;

/// What the watches have seen.
#[derive(Clone)]
pub struct Views {
    /// Namespaces, without their contents.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// What is watched: one namespace each, or all.
    pub scopes: Vec<Option<String>>,
    /// Every `CustomerMasterKey` watched, also those that could not be read; one store a scope.
    pub keys: Vec<Store<Guarded<CustomerMasterKey>>>,
    /// Every `DataKey` watched; one store a scope.
    pub data_keys: Vec<Store<Guarded<DataKey>>>,
    /// The key stores.
    pub key_stores: Store<Guarded<ClusterKeyStore>>,
}

impl Views {
    /// Views that nothing feeds: for who reads past them.
    #[must_use]
    pub fn blind() -> Self {
        Self {
            namespaces: Writer::default().as_reader(),
            scopes: vec![None],
            keys: Vec::new(),
            data_keys: Vec::new(),
            key_stores: Writer::default().as_reader(),
        }
    }
}

/// A real API server.
#[derive(Clone)]
pub struct KubeCluster {
    pub(super) client: Client,
    pub(super) views: Views,
    recorder: Recorder,
    events: EventMetrics,
}

impl KubeCluster {
    /// The API server behind `client`; `views` are fed by whoever runs the watches.
    #[must_use]
    pub fn new(client: Client, views: Views) -> Self {
        let reporter = Reporter { controller: metadata::MANAGER.into(), instance: std::env::var("POD_NAME").ok() };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, views, recorder, events: EventMetrics::default() }
    }

    /// The same, with Events counted there.
    #[must_use]
    pub fn counting(self, events: EventMetrics) -> Self {
        Self { events, ..self }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// How many objects of a kind, where objects are watched, have something. One that can't be read may well have it.
    async fn count<K>(&self, has: impl Fn(&K) -> bool) -> Result<usize, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let mut count = 0;
        for scope in &self.views.scopes {
            let api: Api<Guarded<K>> = match scope {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            let mut params = ListParams::default().limit(PAGE);
            loop {
                let page = call(api.list(&params)).await?;
                count += page.items.iter().filter(|item| item.0.as_ref().map_or(true, &has)).count();
                match page.metadata.continue_ {
                    Some(token) if !token.is_empty() => params = params.continue_token(&token),
                    _ => break,
                }
            }
        }
        Ok(count)
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(metadata::MANAGER.into()), ..PostParams::default() }
}

fn namespace_of<K: ResourceExt>(object: &K) -> String {
    object.namespace().unwrap_or_default()
}

/// A write without a precondition is a bug of ours, not an answer of the API server: refuse to send it.
fn precondition<K: ResourceExt>(object: &K) -> Result<Preconditions, ApiError> {
    match (object.uid(), object.resource_version()) {
        (Some(uid), Some(version)) => Ok(Preconditions { uid: Some(uid), resource_version: Some(version) }),
        _ => Err(ApiError::Conflict("the object to write has no UID or resourceVersion".into())),
    }
}

impl Secrets for KubeCluster {
    async fn get_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        call(self.api::<Secret>(namespace).get_opt(name)).await
    }

    async fn list_secrets(&self, namespace: &str, type_: &str) -> Result<Vec<Secret>, ApiError> {
        let api = self.api::<Secret>(namespace);
        let mut params = ListParams::default().fields(&format!("type={type_}")).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = call(api.list(&params)).await?;
            all.extend(page.items);
            match page.metadata.continue_ {
                Some(token) if !token.is_empty() => params = params.continue_token(&token),
                _ => return Ok(all),
            }
        }
    }

    async fn create_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        call(self.api::<Secret>(&namespace_of(secret)).create(&post(), secret)).await
    }

    async fn replace_secret(&self, secret: &Secret) -> Result<Secret, ApiError> {
        precondition(secret)?;
        call(self.api::<Secret>(&namespace_of(secret)).replace(&secret.name_any(), &post(), secret)).await
    }

    async fn delete_secret(&self, secret: &Secret) -> Result<(), ApiError> {
        let params = DeleteParams { preconditions: Some(precondition(secret)?), ..DeleteParams::default() };
        call(self.api::<Secret>(&namespace_of(secret)).delete(&secret.name_any(), &params)).await.map(drop)
    }
}

impl ServiceAccounts for KubeCluster {
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<String>, ApiError> {
        let found = call(self.api::<ServiceAccount>(namespace).get_metadata_opt(name)).await?;
        Ok(found.filter(|account| account.metadata.deletion_timestamp.is_none()).and_then(|account| account.uid()))
    }
}

impl<K> Objects<K> for KubeCluster
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync,
{
    async fn get_object(&self, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
        call(self.api::<K>(namespace).get_opt(name)).await
    }

    async fn patch_metadata(&self, object: &K, patch: Value) -> Result<K, ApiError> {
        let on = precondition(object)?;
        let mut metadata = json!({"uid": on.uid, "resourceVersion": on.resource_version});
        if let (Value::Object(into), Value::Object(from)) = (&mut metadata, patch) {
            into.extend(from);
        }
        let params = PatchParams { field_manager: Some(metadata::MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        call(self.api::<K>(&namespace_of(object)).patch(&object.name_any(), &params, &patch)).await
    }

    async fn replace_status(&self, object: &K) -> Result<K, ApiError> {
        precondition(object)?;
        call(self.api::<K>(&namespace_of(object)).replace_status(&object.name_any(), &post(), object)).await
    }

    async fn get_raw(&self, metadata: &ObjectMeta) -> Result<Option<Value>, ApiError> {
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &ApiResource::erase::<K>(&()));
        let found = call(api.get_opt(&metadata.name.clone().unwrap_or_default())).await?;
        Ok(found.map(|object| object.data))
    }

    async fn patch_raw_status(&self, metadata: &ObjectMeta, status: Value) -> Result<(), ApiError> {
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &ApiResource::erase::<K>(&()));
        let patch = Patch::Merge(json!({
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "status": status,
        }));
        let params = PatchParams { field_manager: Some(metadata::MANAGER.into()), ..PatchParams::default() };
        let name = metadata.name.clone().unwrap_or_default();
        call(api.patch_status(&name, &params, &patch)).await.map(drop)
    }
}

impl Cluster for KubeCluster {
    async fn namespace(&self, name: &str) -> Result<Option<NamespaceView>, ApiError> {
        if let Some(seen) = self.views.namespaces.get(&ObjectRef::new(name)) {
            return Ok(Some(NamespaceView::from(&*seen)));
        }
        self.namespace_now(name).await
    }

    async fn namespace_now(&self, name: &str) -> Result<Option<NamespaceView>, ApiError> {
        let read = call(Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name)).await?;
        Ok(read.as_ref().map(NamespaceView::from))
    }

    fn is_watched(&self, namespace: &str) -> bool {
        self.views.scopes.iter().any(|scope| scope.as_deref().is_none_or(|scope| scope == namespace))
    }

    fn watched_key(&self, namespace: &str, name: &str) -> Option<KeyObjectView> {
        let seen = self.views.keys.iter().find_map(|keys| keys.get(&ObjectRef::new(name).within(namespace)))?;
        Some(KeyObjectView::from(&*seen))
    }

    fn shows_key(&self, namespace: &str, name: &str, uid: &str, key_id: Uuid) -> bool {
        let object = ObjectRef::new(name).within(namespace);
        let Some(seen) = self.views.keys.iter().find_map(|keys| keys.get(&object)) else { return false };
        let meta = seen.meta();
        let shown = meta.annotations.as_ref().and_then(|annotations| annotations.get(metadata::KEY_ID));
        let shown = shown.and_then(|id| Uuid::try_parse(id).ok());
        meta.uid.as_deref() == Some(uid) && shown == Some(key_id)
    }

    fn key_store(&self, store: &KeyStoreRef) -> Option<KeyStoreView> {
        match self.views.key_stores.get(&ObjectRef::new(&store.name)) {
            Some(seen) => seen.0.as_ref().ok().and_then(|object| KeyStoreView::declared(&object.spec)),
            None => (store.name == DEFAULT_STORE).then(|| KeyStoreView::from(&ClusterKeyStoreSpec::default())),
        }
    }

    fn data_keys_under(&self, namespace: &str, name: &str) -> Vec<(String, String)> {
        let refers = |object: &Guarded<DataKey>| {
            let own = object.namespace().unwrap_or_default();
            object.0.as_ref().is_ok_and(|data_key| data_key.spec.master(&own) == (namespace, name))
        };
        let identity = |object: &Guarded<DataKey>| (object.namespace().unwrap_or_default(), object.name_any());
        let found = self.views.data_keys.iter().flat_map(|store| store.state_filter(refers));
        found.map(|object| identity(&object)).collect()
    }

    async fn create_key_object(&self, object: &CustomerMasterKey) -> Result<(), ApiError> {
        call(self.api::<CustomerMasterKey>(&namespace_of(object)).create(&post(), object)).await.map(drop)
    }

    async fn history(&self, namespace: &str, name: &str, uid: &str, since: &str) -> Result<History, ApiError> {
        let api: Api<Guarded<CustomerMasterKey>> = Api::namespaced(self.client.clone(), namespace);
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(HISTORY_SECONDS);
        let events = call(api.watch(&params, since)).await?;
        let events = call(events.take_while(|e| std::future::ready(e.is_ok())).try_collect::<Vec<_>>()).await?;
        tracing::debug!(namespace, name, uid, since, events = ?summary(&events), "the history of an object");
        Ok(judge_history(&events, uid))
    }

    async fn count_keys_with_status(&self) -> Result<usize, ApiError> {
        let keys = self.count(|key: &CustomerMasterKey| {
            key.annotations().contains_key(metadata::KEY_ID)
                || key.status.as_ref().is_some_and(|status| status.key_metadata.is_some())
        });
        let data_keys = self.count(|data_key: &DataKey| {
            let kept = [metadata::CIPHERTEXT_BLOB, metadata::CIPHERTEXT_HISTORY];
            kept.iter().any(|name| data_key.annotations().contains_key(*name))
                || data_key.status.as_ref().is_some_and(|status| status.ciphertext_blob.is_some())
        });
        Ok(keys.await? + data_keys.await?)
    }

    async fn server_time(&self, namespace: &str) -> Result<Timestamp, ApiError> {
        let probe: Secret = serde_json::from_value(json!({
            "metadata": {"generateName": "cmk-clock-", "namespace": namespace},
        }))
        .map_err(|e| ApiError::Unavailable(e.to_string()))?;
        let params = PostParams { dry_run: true, ..post() };
        let answer = call(self.api::<Secret>(namespace).create(&params, &probe)).await?;
        let time = answer.creation_timestamp().map(|t| t.0);
        time.ok_or_else(|| ApiError::Unavailable("a dry-run create without creationTimestamp".into()))
    }
}

impl Events for KubeCluster {
    async fn publish<K>(&self, about: &K, note: &EventNote)
    where
        K: Resource<DynamicType = ()> + Sync,
    {
        // Without the resource version, so that repetitions are counted in one Event.
        let about = ObjectReference { resource_version: None, ..about.object_ref(&()) };
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.into(),
            action: note.action.into(),
            note: Some(note.message.chars().take(1000).collect()),
            secondary: None,
        };
        match call(self.recorder.publish(&event, &about)).await {
            Ok(()) => self.events.written(&K::kind(&()), note),
            Err(error) => {
                let object = about.name.unwrap_or_default();
                tracing::warn!(%error, object, reason = note.reason, "an Event could not be written");
            }
        }
    }
}

impl ClusterKeyStores for KubeCluster {
    fn key_store_objects(&self) -> Vec<Arc<Guarded<ClusterKeyStore>>> {
        self.views.key_stores.state()
    }

    async fn replace_key_store_status(&self, object: &ClusterKeyStore) -> Result<ClusterKeyStore, ApiError> {
        precondition(object)?;
        let api = Api::<ClusterKeyStore>::all(self.client.clone());
        call(api.replace_status(&object.name_any(), &post(), object)).await
    }

    async fn get_raw_key_store(&self, name: &str) -> Result<Option<Value>, ApiError> {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &ApiResource::erase::<ClusterKeyStore>(&()));
        Ok(call(api.get_opt(name)).await?.map(|object| object.data))
    }

    async fn patch_raw_key_store_status(&self, metadata: &ObjectMeta, status: Value) -> Result<(), ApiError> {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &ApiResource::erase::<ClusterKeyStore>(&()));
        let patch = Patch::Merge(json!({
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "status": status,
        }));
        let params = PatchParams { field_manager: Some(metadata::MANAGER.into()), ..PatchParams::default() };
        call(api.patch_status(metadata.name.as_deref().unwrap_or_default(), &params, &patch)).await.map(drop)
    }
}

type HistoryEvent = WatchEvent<Guarded<CustomerMasterKey>>;

/// What a log line says about a history.
fn summary(events: &[HistoryEvent]) -> Vec<String> {
    let line = |event: &HistoryEvent| match event {
        WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => {
            format!("{event:?} {} at {}", o.uid().unwrap_or_default(), o.resource_version().unwrap_or_default())
        }
        other => format!("{other:?}"),
    };
    events.iter().map(line).collect()
}

/// What a complete history shows about the object with `uid`, if it was deleted, and no object of its name was
/// finished after it. An error event (410, compacted) or a missing deletion proves nothing.
fn judge_history(events: &[HistoryEvent], uid: &str) -> History {
    let has_finalizer = |o: &Guarded<CustomerMasterKey>| o.finalizers().iter().any(|f| f == metadata::FINALIZER);
    let finished = |o: &Guarded<CustomerMasterKey>| has_finalizer(o) || o.annotations().contains_key(metadata::KEY_ID);
    let (mut was_finished, mut last_state) = (false, None);
    for event in events {
        match event {
            WatchEvent::Deleted(o) if o.uid().as_deref() == Some(uid) => last_state = Some(o),
            WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) if finished(o) => {
                if last_state.is_some() {
                    return History::Unknown;
                }
                was_finished = true;
            }
            WatchEvent::Error(_) => return History::Unknown,
            _ => {}
        }
    }
    let Some((deleted, Ok(object))) = last_state.map(|deleted| (deleted, &deleted.0)) else { return History::Unknown };
    let object = Box::new(object.clone());
    if has_finalizer(deleted) && deleted.meta().deletion_timestamp.is_none() {
        History::DeletedAtOnce(object)
    } else if was_finished || finished(deleted) {
        History::Unknown
    } else {
        History::NeverFinished(object)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn object(uid: &str, finished: bool) -> Guarded<CustomerMasterKey> {
        let finalizers = if finished { json!([metadata::FINALIZER]) } else { json!([]) };
        serde_json::from_value(json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {"name": "orders", "uid": uid, "finalizers": finalizers}, "spec": {},
        }))
        .unwrap()
    }

    /// Deleted after its finalizers were taken away.
    fn stripped(uid: &str) -> Guarded<CustomerMasterKey> {
        let mut object = object(uid, false);
        object.meta_mut().annotations = Some([(metadata::KEY_ID.to_owned(), "x".to_owned())].into());
        object
    }

    #[test]
    fn rule_1_a_deletion_that_overtook_the_finalizer_is_a_deletion() {
        use WatchEvent::{Added, Deleted, Error, Modified};
        let finished = || object("a", true);
        let terminating = || {
            let mut object = finished();
            object.meta_mut().deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
            object
        };
        let cases = [
            ("deleted with the finalizer on it", vec![Modified(finished()), Deleted(finished())], true),
            ("the same, with nothing before", vec![Deleted(finished())], true),
            ("deleted in order", vec![Modified(terminating()), Deleted(terminating())], false),
            ("stripped", vec![Modified(finished()), Modified(stripped("a")), Deleted(stripped("a"))], false),
            ("another object", vec![Deleted(object("b", true))], false),
            ("its successor was finished", vec![Deleted(finished()), Added(object("b", true))], false),
            ("history cut off", vec![Deleted(finished()), Error(Box::default())], false),
        ];
        for (name, events, expected) in cases {
            let judged = judge_history(&events, "a");
            assert_eq!(matches!(judged, History::DeletedAtOnce(_)), expected, "{name}");
            assert!(!matches!(judged, History::NeverFinished(_)), "{name}");
        }
    }

    #[test]
    fn rule_1_only_a_proof_says_never_finished() {
        use WatchEvent::{Added, Deleted, Error, Modified};
        let new = || object("a", false);
        let cases = [
            ("nothing known", vec![], false),
            ("deleted unfinished", vec![Modified(new()), Deleted(new())], true),
            ("still there", vec![Modified(new())], false),
            ("was finished", vec![Modified(object("a", true)), Deleted(new())], false),
            ("another object", vec![Deleted(object("b", false))], false),
            ("its successor was finished", vec![Deleted(new()), Added(object("b", true))], false),
            ("its successor is unfinished too", vec![Deleted(new()), Added(object("b", false))], true),
            ("history compacted", vec![Error(Box::default())], false),
            ("history cut off", vec![Deleted(new()), Error(Box::default())], false),
        ];
        for (name, events, expected) in cases {
            let proven = matches!(judge_history(&events, "a"), History::NeverFinished(_));
            assert_eq!(proven, expected, "{name}");
        }
    }
}
