//! Of several replicas one leads (design, section 3): the lease expires by what each replica saw, never by comparing
//! clocks, and one that was given up is taken at once. What a replica that does not lead does is serve, and watch.

use std::{collections::BTreeMap, time::Duration};

use cmk_operator::{
    cluster::{KubeCluster, Views},
    runtime::{
        leader_election::{Candidate, LEASE, Timing},
        operator::{Election, Settings},
    },
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{
    Api, Resource,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use crate::support::{
    eventually,
    world::{Operator, SOON, World, key_id, key_state, record_json},
};

/// Shorter than in use, so that the test is, and long enough for a machine that is busy.
const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(12),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_millis(200),
};

/// A world in whose operator namespace the operator has the rights that it ships with in its own.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    let shipped: Vec<serde_json::Value> = serde_yaml_ng::Deserializer::from_str(include_str!("../../deploy/rbac.yaml"))
        .map(|document| serde_json::Value::deserialize(document).unwrap())
        .collect();
    install::<Role>(&world, &shipped, "Role").await;
    install::<RoleBinding>(&world, &shipped, "RoleBinding").await;
    world
}

async fn install<K>(world: &World, shipped: &[serde_json::Value], kind: &str)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let api: Api<K> = Api::namespaced(world.client.clone(), &world.operator_namespace);
    for document in shipped.iter().filter(|document| document["kind"] == kind) {
        let mut object: K = serde_json::from_value(document.clone()).unwrap();
        object.meta_mut().namespace = Some(world.operator_namespace.clone());
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

struct Replica {
    leads: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(world: &World, identity: &str) -> Self {
        let (leads, watched) = watch::channel(false);
        let (stop, mut stopped) = watch::channel(false);
        let client = world.operator_client().await;
        let reach = (client.clone(), KubeCluster::new(client, Views::blind()));
        let candidate = Candidate::new(reach, &world.operator_namespace, identity.into(), TIMING, leads);
        let task = tokio::spawn(candidate.run(async move {
            stopped.wait_for(|stop| *stop).await.unwrap();
        }));
        Self { leads: watched, stop, task }
    }

    async fn is_leader(&mut self, wanted: bool) {
        tokio::time::timeout(SOON, self.leads.wait_for(|leads| *leads == wanted)).await.unwrap().unwrap();
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }
}

async fn lease(world: &World) -> (Api<Lease>, Lease) {
    let api: Api<Lease> = Api::namespaced(world.operator_client().await, &world.operator_namespace);
    let lease = api.get(LEASE).await.unwrap();
    (api, lease)
}

/// What `kubectl describe lease` shows.
async fn is_announced(world: &World, lease: &ObjectMeta, leader: &str) {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.operator_namespace);
    eventually("the Event about the leader", SOON, async || {
        let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let about_lease = |event: &&Event| event.regarding.as_ref().is_some_and(|about| about.uid == lease.uid);
        let notes: Vec<_> = all.iter().filter(about_lease).map(|event| (&event.reason, &event.note)).collect();
        let expected = (&Some("LeaderElection".to_owned()), &Some(format!("{leader} became leader")));
        if notes.contains(&expected) { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_leads_and_another_follows_it() {
    let world = world("lease").await;
    let mut first = Replica::start(&world, "first").await;
    first.is_leader(true).await;
    let mut second = Replica::start(&world, "second").await;
    // It has looked at the lease more than once when this has been renewed twice.
    let (api, before) = lease(&world).await;
    eventually("the lease to be renewed", SOON, async || {
        let now = api.get(LEASE).await.map_err(|e| e.to_string())?;
        let renewed = |lease: &Lease| lease.spec.as_ref().unwrap().renew_time.as_ref().unwrap().0;
        let gap = renewed(&now).duration_since(renewed(&before));
        if gap > jiff::SignedDuration::from_secs(1) { Ok(()) } else { Err(format!("{gap}")) }
    })
    .await;
    assert!(first.leads() && !second.leads(), "one of two leads");

    // Killed: it gives nothing up, and is replaced when its lease has expired.
    first.task.abort();
    second.is_leader(true).await;
    let (_, taken) = lease(&world).await;
    let spec = taken.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("second"));
    assert_eq!(spec.lease_transitions, Some(2));
    for leader in ["first", "second"] {
        is_announced(&world, &taken.metadata, leader).await;
    }

    // Stopped: it gives the lease up, and leads no more by then.
    let mut third = Replica::start(&world, "third").await;
    second.stop.send_replace(true);
    second.task.await.unwrap();
    assert!(!*second.leads.borrow());
    let (_, given_up) = lease(&world).await;
    assert_ne!(given_up.spec.unwrap().holder_identity.as_deref(), Some("second"));
    third.is_leader(true).await;
    third.stop.send_replace(true);
    third.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_taken_leads_no_more() {
    let world = world("lease-taken").await;
    let mut leader = Replica::start(&world, "leader").await;
    leader.is_leader(true).await;
    let taken = json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 10}});
    let api: Api<Lease> = Api::namespaced(world.client.clone(), &world.operator_namespace);
    api.patch(LEASE, &PatchParams::default(), &Patch::Merge(taken)).await.unwrap();
    leader.is_leader(false).await;
    // Nobody renews it, so that it comes back.
    leader.is_leader(true).await;
    leader.task.abort();
}

/// A replica of the operator. It is ready, and may lead or not.
async fn replica(world: &World, identity: &str, timing: Timing) -> Operator {
    let election = Some(Election { identity: identity.into(), timing });
    world.start_with(Settings { election, ..world.settings() }).await
}

async fn leads(operator: &Operator) {
    eventually("it to lead", SOON, async || match operator.metrics.leader.get() {
        1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

fn passes(operator: &Operator) -> usize {
    operator.metrics.render().lines().filter(|line| line.starts_with("cmk_passes_total")).count()
}

/// How often the record of each key was written, by the name of the key.
async fn revisions(world: &World) -> BTreeMap<String, u64> {
    let records = world.records().await;
    let owner_and_revision = |record: &Secret| {
        let record = record_json(record);
        (record["owner"]["name"].as_str().unwrap().to_owned(), record["revision"].as_u64().unwrap())
    };
    let all: BTreeMap<_, _> = records.iter().map(owner_and_revision).collect();
    assert_eq!(all.len(), records.len(), "one record a key: {all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_is_replaced_and_nothing_is_done_twice() {
    let world = world("failover").await;
    let first = replica(&world, "first", TIMING).await;
    leads(&first).await;
    let second = replica(&world, "second", TIMING).await;
    world.apply_key("before", json!({})).await;
    let before = world.key_ready("before").await;
    let revision = revisions(&world).await["before"];

    // In the middle of its work.
    for number in 0..20 {
        world.apply_key(&format!("key-{number}"), json!({})).await;
    }
    assert_eq!(passes(&second), 0, "one that does not lead makes no pass");
    first.crash().await;
    leads(&second).await;
    for number in 0..20 {
        world.key_ready(&format!("key-{number}")).await;
    }
    assert_eq!(key_id(&world.key_ready("before").await), key_id(&before));
    let revisions = revisions(&world).await;
    assert_eq!(revisions.len(), 21);
    for (name, written) in revisions {
        assert_eq!(written, revision, "the record of {name} was written as often as without a failure");
    }
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_the_lease_writes_nothing() {
    let world = world("lost-lease").await;
    let operator = replica(&world, "operator", TIMING).await;
    leads(&operator).await;
    world.apply_key("before", json!({})).await;
    world.key_ready("before").await;

    let api: Api<Lease> = Api::namespaced(world.client.clone(), &world.operator_namespace);
    let taken = json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3600}});
    api.patch(LEASE, &PatchParams::default(), &Patch::Merge(taken)).await.unwrap();
    eventually("it to lead no more", SOON, async || match operator.metrics.leader.get() {
        0 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let made = passes(&operator);
    world.apply_key("while-lost", json!({})).await;
    world.apply_key("before", json!({"enabled": false})).await;
    // It has heard of the change: its endpoint knows the keys from the same watch as its passes do. What was asked for is
    // not done, although nothing but the lease is in the way.
    assert_eq!(passes(&operator), made);
    let status = world.keys().get("while-lost").await.unwrap().status;
    assert!(status.is_none_or(|status| status.key_metadata.is_none() && status.conditions.is_empty()));
    assert_eq!(revisions(&world).await.len(), 1);

    let given_up = json!({"spec": {"holderIdentity": null}});
    api.patch(LEASE, &PatchParams::default(), &Patch::Merge(given_up)).await.unwrap();
    let (late, changed) = (world.key_ready("while-lost").await, world.key_ready("before").await);
    assert_eq!(key_state(&changed), "Disabled");
    let acquired = api.get(LEASE).await.unwrap().spec.unwrap().acquire_time.unwrap().0;
    let created = late.status.unwrap().key_metadata.unwrap().creation_date.0;
    assert!(created.as_second() >= acquired.as_second(), "{created}: not before {acquired}");
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_hands_over_at_once() {
    let world = world("handover").await;
    // Nobody waits for this to expire.
    let hour = Duration::from_secs(3600);
    let timing = Timing { lease_duration: hour, ..TIMING };
    let first = replica(&world, "first", timing).await;
    leads(&first).await;
    let second = replica(&world, "second", timing).await;
    first.stop().await.unwrap();
    leads(&second).await;
    world.apply_key("after", json!({})).await;
    world.key_ready("after").await;
    second.stop().await.unwrap();
}
