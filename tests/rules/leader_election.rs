//! Of several replicas one leads (design, section 3): the lease expires by what each replica saw, never by comparing
//! clocks, and one that was given up is taken at once.

use std::time::Duration;

use cmk_operator::runtime::leader_election::{Candidate, LEASE, Timing};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use crate::support::{
    eventually,
    world::{SOON, World},
};

/// Shorter than in use, so that the test is.
const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(3),
    renew_deadline: Duration::from_secs(2),
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
        let candidate = Candidate::new(client, &world.operator_namespace, identity.into(), TIMING, leads);
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
    let taken = json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3}});
    let api: Api<Lease> = Api::namespaced(world.client.clone(), &world.operator_namespace);
    api.patch(LEASE, &PatchParams::default(), &Patch::Merge(taken)).await.unwrap();
    leader.is_leader(false).await;
    // Nobody renews it, so that it comes back.
    leader.is_leader(true).await;
    leader.task.abort();
}
