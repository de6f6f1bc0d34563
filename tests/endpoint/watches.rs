//! What the endpoint answers from, when a watch fails while all else goes on, and after an outage.

use cmk_operator::api::policies::PolicyOptions;
use jiff::SignedDuration;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::{
    Api, Client as KubeClient,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    application::{Credentials, VERBS, access_key},
    kms_http::Client,
    outage::{round_trips, unavailable},
    support::{
        eventually,
        wire::Wire,
        world::{OPERATOR_NAMESPACE, Operator, SOON, World, gone, key_id, private_bed},
    },
};

/// An operator that reaches the API server over a wire, a key, and who uses it.
struct Wired {
    wire: Wire,
    operator: Operator,
    credentials: Credentials,
    key: String,
}

impl Wired {
    async fn start(world: &World) -> Self {
        let wire = Wire::to(world.bed.control_plane.url()).await;
        let client = world.operator_client_at(Some(&wire.url())).await;
        let operator = world.start_over(client, world.settings()).await;
        let credentials = Credentials::of(&access_key(world, "app", &VERBS, "AWS_SECRET_ACCESS_KEY").await);
        world.apply_key("orders", json!({})).await;
        let key = key_id(&world.key_ready("orders").await);
        let wired = Self { wire, operator, credentials, key };
        wired.serves(world).await;
        wired
    }

    fn client<'a>(&'a self, world: &'a World) -> Client<'a> {
        Client { address: self.operator.kms_plain.unwrap(), credentials: &self.credentials, clock: &world.clock }
    }

    async fn serves(&self, world: &World) {
        eventually("the endpoint to serve", SOON, async || {
            round_trips(&self.client(world), &self.key).await.map_err(|refused| format!("{refused:?}"))
        })
        .await;
        eventually("the replica to be ready", SOON, async || self.is_ready().then_some(()).ok_or_else(String::new))
            .await;
    }

    async fn refuses(&self, world: &World) {
        eventually("the endpoint to refuse", SOON, async || match round_trips(&self.client(world), &self.key).await {
            refused if refused == unavailable() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert!(!self.is_ready(), "clients are not sent here");
    }

    fn is_ready(&self) -> bool {
        self.operator.readiness.get()
    }

    /// `cmk_kms_staleness_seconds`
    fn staleness(&self) -> f64 {
        let metrics = self.operator.metrics.render();
        let line = metrics.lines().find_map(|line| line.strip_prefix("cmk_kms_staleness_seconds ")).unwrap();
        line.parse().unwrap()
    }
}

/// Takes the right to read Secrets from the operator, and returns how to give it back.
async fn without_secrets(client: &KubeClient) -> impl AsyncFnOnce() {
    let roles: Api<Role> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    let is_other = |rule: &PolicyRule| rule.resources.as_deref() != Some(&["secrets".to_owned()]);
    let mut role = roles.get("cmk-operator").await.unwrap();
    let mut cluster_role = cluster_roles.get("cmk-operator").await.unwrap();
    let rules = (role.rules.clone(), cluster_role.rules.clone());
    role.rules.iter_mut().for_each(|rules| rules.retain(is_other));
    cluster_role.rules.iter_mut().for_each(|rules| rules.retain(is_other));
    assert!(rules.1 != cluster_role.rules);
    let params = PostParams::default();
    let mut role = roles.replace("cmk-operator", &params, &role).await.unwrap();
    let mut cluster_role = cluster_roles.replace("cmk-operator", &params, &cluster_role).await.unwrap();
    async move || {
        (role.rules, cluster_role.rules) = rules;
        roles.replace("cmk-operator", &params, &role).await.unwrap();
        cluster_roles.replace("cmk-operator", &params, &cluster_role).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_fails_while_all_else_goes_on_is_heeded_after_max_staleness() {
    let world = World::on(private_bed().await, "watch-lost").await;
    let wired = Wired::start(&world).await;
    wired.wire.break_connections();
    wired.serves(&world).await;

    let give_back = without_secrets(&world.client).await;
    eventually("the right to be gone", SOON, async || {
        let operator = PolicyOptions::DEFAULT_USER;
        let may = world.bed.control_plane.may(operator, "watch", "secrets", OPERATOR_NAMESPACE);
        (!may).then_some(()).ok_or_else(|| format!("{operator} may still watch Secrets"))
    })
    .await;
    // What is open goes on. Nothing is to be begun anew.
    wired.wire.break_connections();
    eventually("the watches to be missed", SOON, async || match wired.staleness() {
        age if age > 0.0 => Ok(()),
        age => Err(age.to_string()),
    })
    .await;
    world.clock.advance(SignedDuration::from_secs(200));
    wired.serves(&world).await;
    world.clock.advance(SignedDuration::from_secs(101));
    wired.refuses(&world).await;
    let plaintext = json!({"KeyId": wired.key, "Plaintext": "aGVsbG8="});
    let refused = wired.client(&world).aws("Encrypt", &plaintext).await;
    assert!(refused.body["message"].as_str().unwrap().contains("watch"), "it is in contact: {refused:?}");

    give_back().await;
    wired.serves(&world).await;
    eventually("the watches to be current", SOON, async || match wired.staleness() {
        age if age < 200.0 => Ok(()),
        age => Err(age.to_string()),
    })
    .await;
    wired.operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_during_an_outage_is_never_served_after_it() {
    let world = World::new("revoked").await;
    let wired = Wired::start(&world).await;
    wired.wire.cut();
    eventually("an outage", SOON, async || match wired.wire.refused() {
        refused if refused > 150 => Ok(()),
        refused => Err(refused.to_string()),
    })
    .await;
    world.clock.advance(SignedDuration::from_secs(301));
    wired.refuses(&world).await;
    world.access_keys().delete("app", &DeleteParams::default()).await.unwrap();
    gone(&world.access_keys(), "app").await;

    wired.wire.mend();
    let refused = eventually("the access key to be refused", SOON, async || {
        match round_trips(&wired.client(&world), &wired.key).await {
            Ok(()) => panic!("a revoked access key was served"),
            refused if refused == unavailable() => Err("it is behind".to_owned()),
            Err(refused) => Ok(refused),
        }
    })
    .await;
    assert!((400..500).contains(&refused.0), "{refused:?}");
    wired.operator.stop().await.unwrap();
}
