//! What a user does, and waiting for what the operator makes of it.

use std::{
    collections::HashSet,
    future::Future,
    time::{Duration, Instant},
};

use cmk_operator::{
    api::{CustomerMasterKey, conditions},
    kms::KeyState,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::progress::Progress;
use crate::support::{
    eventually,
    world::{Bed, SOON, succeed},
};

/// Where the keys are made.
pub const NAMESPACE: &str = "shop";
/// Who makes them.
const USER: &str = "user";
/// The namespace, and the user's right to edit keys in it, in kubectl's words.
const SETUP: [&[&str]; 3] = [
    &["create", "namespace", NAMESPACE],
    &["create", "serviceaccount", USER, "--namespace", NAMESPACE],
    &["create", "rolebinding", USER, "--namespace", NAMESPACE, "--clusterrole=cmk-edit", "--serviceaccount=shop:user"],
];

/// Makes the namespace, and a user who may make keys in it and no more. Answers a client of theirs.
pub async fn user(bed: &Bed) -> Client {
    for args in SETUP {
        succeed(&mut bed.control_plane.kubectl(args));
    }
    let client = bed.control_plane.client_for_service_account(NAMESPACE, USER).await;
    // RBAC is cached: at first it may not have seen the binding.
    eventually("the user's rights", SOON, async || {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": "create", "group": "kms.cmk-operator.dev", "resource": "customermasterkeys",
                "namespace": NAMESPACE,
            }},
        });
        let request = hyper::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header("content-type", "application/json")
            .body(review.to_string().into_bytes())
            .map_err(|e| e.to_string())?;
        let answer: Value = client.request(request).await.map_err(|e| e.to_string())?;
        (answer["status"]["allowed"] == true).then_some(()).ok_or_else(|| answer.to_string())
    })
    .await;
    // The namespace is complete, so that nothing else is written to it while we count.
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.control_plane.admin_client().await, NAMESPACE);
    eventually("the namespace to be complete", SOON, async || accounts.get("default").await.map_err(|e| e.to_string()))
        .await;
    client
}

fn name(number: usize) -> String {
    format!("key-{number:05}")
}

/// The keys, through `client`.
pub fn keys(client: &Client) -> Api<CustomerMasterKey> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Creates keys, so many at a time, and hands on what the API server answered.
pub async fn create(
    client: Client,
    count: usize,
    concurrency: usize,
    created: Option<UnboundedSender<CustomerMasterKey>>,
) {
    each(count, concurrency, move |number| {
        let (client, created) = (client.clone(), created.clone());
        async move {
            let spec = json!({"description": format!("Orders database {number}"), "tags": {"team": "orders"}});
            let spec = serde_json::from_value(spec).expect("a spec");
            let key = CustomerMasterKey::new(&name(number), spec);
            let key = keys(&client).create(&PostParams::default(), &key).await?;
            if let Some(created) = created {
                // Who does not listen any more does not want it.
                let _ = created.send(key);
            }
            Ok(())
        }
    })
    .await;
}

/// Merges the same into every key, so many at a time.
pub async fn patch(client: Client, count: usize, concurrency: usize, patch: Value) {
    each(count, concurrency, move |number| {
        let (client, patch) = (client.clone(), patch.clone());
        async move { keys(&client).patch(&name(number), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop) }
    })
    .await;
}

/// Does something `count` times, `concurrency` at a time, on all threads.
async fn each<F>(count: usize, concurrency: usize, work: impl Fn(usize) -> F)
where
    F: Future<Output = Result<(), kube::Error>> + Send + 'static,
{
    let results = stream::iter((0..count).map(|number| tokio::spawn(work(number)))).buffer_unordered(concurrency);
    results.for_each(async |result| result.expect("no panic").expect("the user's request")).await;
}

/// The key is as declared and says so.
pub fn is_ready(key: &CustomerMasterKey) -> bool {
    key.status.as_ref().is_some_and(|status| {
        status.observed_generation == key.metadata.generation
            && conditions::find(&status.conditions, conditions::READY).is_some_and(|c| c.status == "True")
    })
}

/// The key is disabled, as declared, and says so.
pub fn is_disabled(key: &CustomerMasterKey) -> bool {
    let state = key.status.as_ref().and_then(|status| status.key_metadata.as_ref()).map(|metadata| metadata.key_state);
    is_ready(key) && state == Some(KeyState::Disabled)
}

/// Does `work`, and answers how long it took from its beginning until a watch has shown `count` keys that are as
/// they should be. The watch has shown everything that is there before `work` begins.
pub async fn until_all(
    client: &Client,
    count: usize,
    should: fn(&CustomerMasterKey) -> bool,
    work: impl Future<Output = ()> + Send + 'static,
    progress: Progress,
    within: Duration,
) -> Duration {
    let mut events = watcher(keys(client), watcher::Config::default()).default_backoff().boxed();
    let seeing = async {
        while !matches!(events.try_next().await, Ok(Some(Event::InitDone))) {}
        let (started, mut done) = (Instant::now(), HashSet::new());
        let work = tokio::spawn(work);
        while done.len() < count {
            // Failures are tried again by the watcher.
            let Ok(Some(Event::Apply(key) | Event::InitApply(key))) = events.try_next().await else { continue };
            if should(&key) {
                done.insert(key.name_any());
                progress.at(done.len());
            }
        }
        let took = started.elapsed();
        work.await.expect("the work ends");
        took
    };
    tokio::time::timeout(within, seeing).await.unwrap_or_else(|_| panic!("{count} keys in {within:?}"))
}

/// One of the keys.
pub async fn any(client: &Client) -> CustomerMasterKey {
    keys(client).list(&ListParams::default().limit(1)).await.expect("a list").items.remove(0)
}
