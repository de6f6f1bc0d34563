//! The KMS endpoint: who calls and what they may do, by the real API server's reviews, asked with the RBAC that the
//! operator ships.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cmk_operator::{
    api::CustomerMasterKey,
    cluster::{Guarded, KubeCluster, UserInfo, Views},
    crypto::SystemRandom,
    kms::{Dialect, EncryptionContext},
    server::{
        Call, Caller, Failure,
        auth::{AUDIENCE, bearer::BearerTokens},
        operations::{KeyReference, Kms, OperationSettings},
        permission::{Permissions, Verb},
        staleness,
    },
    store::embedded::{EmbeddedStore, root_key},
};
use jiff::SignedDuration;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::{reflector::store::Writer, watcher::Event},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{
        eventually,
        world::{SOON, World, key_id, private_bed},
    },
    users::rule,
};

const MAX_STALENESS: Duration = Duration::from_secs(300);

const VERBS: [Verb; 9] = [
    Verb::Encrypt,
    Verb::Decrypt,
    Verb::GenerateDataKey,
    Verb::ImportKeyMaterial,
    Verb::Create,
    Verb::Patch,
    Verb::Delete,
    Verb::Get,
    Verb::List,
];

/// Makes a ServiceAccount in the test's namespace, and says how an access key of it would call.
async fn account(world: &World, name: &str) -> Caller {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let made: ServiceAccount = accounts.create(&PostParams::default(), &object).await.unwrap();
    let user = UserInfo::service_account(&world.namespace, name, &made.uid().unwrap());
    Caller { user: Arc::new(user), namespace: world.namespace.as_str().into(), access_key_id: None }
}

/// Gives a caller a ClusterRole in a namespace.
async fn bind(world: &World, namespace: &str, caller: &Caller, role: &str) -> RoleBinding {
    let binding = json!({
        "metadata": {"generateName": "test-"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject(caller)],
    });
    let binding = serde_json::from_value(binding).unwrap();
    Api::namespaced(world.client.clone(), namespace).create(&PostParams::default(), &binding).await.unwrap()
}

/// Gives a caller verbs on some keys of a namespace.
async fn bind_names(world: &World, namespace: &str, caller: &Caller, verbs: &[&str], keys: &[&str]) {
    let name = format!("test-{:08x}", rand::random::<u32>());
    let role = json!({"metadata": {"name": name}, "rules": [rule(&["customermasterkeys"], verbs, keys)]});
    let role: k8s_openapi::api::rbac::v1::Role = serde_json::from_value(role).unwrap();
    Api::namespaced(world.client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [subject(caller)],
    });
    let binding: RoleBinding = serde_json::from_value(binding).unwrap();
    Api::namespaced(world.client.clone(), namespace).create(&PostParams::default(), &binding).await.unwrap();
}

fn subject(caller: &Caller) -> Value {
    let name = caller.user.username.rsplit(':').next().unwrap();
    json!({"kind": "ServiceAccount", "name": name, "namespace": &*caller.namespace})
}

async fn permissions(world: &World) -> Permissions<KubeCluster> {
    let cluster = KubeCluster::new(world.operator_client().await, Views::blind());
    Permissions::new(cluster, world.clock.clone(), MAX_STALENESS)
}

/// Lets every remembered answer become too old.
fn forget_answers(world: &World) {
    world.clock.advance(SignedDuration::from_secs(10));
}

/// The verbs that a caller has on a key, or on all of the caller's namespace.
async fn verbs(world: &World, permissions: &Permissions<KubeCluster>, caller: &Caller, key: Option<&str>) -> Vec<Verb> {
    forget_answers(world);
    let mut held = Vec::new();
    for verb in VERBS {
        let answer = eventually("the API server to answer in time", SOON, async || {
            permissions.has(caller, verb, &caller.namespace, key).await.map_err(|error| format!("{error:?}"))
        });
        if answer.await {
            held.push(verb);
        }
    }
    held
}

#[tokio::test]
async fn each_role_gives_its_verbs_and_no_others() {
    use Verb::{Create, Decrypt, Delete, Encrypt, GenerateDataKey, Get, ImportKeyMaterial, List, Patch};
    let world = World::new("perm-roles").await;
    let permissions = permissions(&world).await;
    let nobody = account(&world, "nobody").await;
    assert_eq!(verbs(&world, &permissions, &nobody, None).await, []);
    for (role, expected) in [
        ("cmk-encrypter", &[Encrypt, GenerateDataKey][..]),
        ("cmk-decrypter", &[Decrypt]),
        ("cmk-admin", &[GenerateDataKey, ImportKeyMaterial, Create, Patch, Delete, Get, List]),
        // The built-in ones, into which ours are aggregated.
        ("view", &[Get, List]),
        ("edit", &[GenerateDataKey, Create, Patch, Delete, Get, List]),
        ("admin", &[GenerateDataKey, ImportKeyMaterial, Create, Patch, Delete, Get, List]),
    ] {
        let caller = account(&world, &format!("has-{role}")).await;
        bind(&world, &world.namespace, &caller, role).await;
        eventually(&format!("{role} to give its verbs"), SOON, async || {
            let held = verbs(&world, &permissions, &caller, Some("orders")).await;
            if held == expected { Ok(()) } else { Err(format!("{held:?}")) }
        })
        .await;
        assert_eq!(verbs(&world, &permissions, &caller, None).await, expected, "{role}, without a name");
        let elsewhere = permissions.has(&caller, Get, "default", None).await.unwrap();
        assert!(!elsewhere, "{role} in another namespace");
    }
}

#[tokio::test]
async fn a_right_on_one_key_is_a_right_on_that_key() {
    let world = World::new("perm-names").await;
    let permissions = permissions(&world).await;
    let caller = account(&world, "web").await;
    bind_names(&world, &world.namespace, &caller, &["decrypt"], &["orders"]).await;
    eventually("the right to be there", SOON, async || {
        let held = verbs(&world, &permissions, &caller, Some("orders")).await;
        if held == [Verb::Decrypt] { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
    assert_eq!(verbs(&world, &permissions, &caller, Some("payroll")).await, []);
    assert_eq!(verbs(&world, &permissions, &caller, None).await, []);
    let refused = permissions.require_in_namespace(&caller, Verb::Decrypt).await.unwrap_err();
    let Failure::Denied(said) = refused else { panic!("{refused:?}") };
    for part in [&caller.user.username, "decrypt", &world.namespace, "cmk-decrypter"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_gone_when_its_answer_is_too_old() {
    let world = World::new("perm-revoke").await;
    let permissions = permissions(&world).await;
    let caller = account(&world, "web").await;
    let has = async || permissions.has(&caller, Verb::Encrypt, &world.namespace, Some("orders")).await.unwrap();
    assert!(!has().await);
    let binding = bind(&world, &world.namespace, &caller, "cmk-encrypter").await;
    eventually("a new binding to count", SOON, async || {
        world.clock.advance(SignedDuration::from_secs(1));
        if has().await { Ok(()) } else { Err("refused".to_owned()) }
    })
    .await;
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.namespace);
    bindings.delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
    eventually("a removed binding to be gone", SOON, async || {
        // From the answer that was allowed at first, and then from those that the API server gave meanwhile.
        world.clock.advance(SignedDuration::from_secs(5));
        if has().await { Err("allowed".to_owned()) } else { Ok(()) }
    })
    .await;
}

/// A token of a ServiceAccount, for an audience or the API server itself.
async fn token(world: &World, name: &str, audience: Option<&str>) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let audiences = audience.map(str::to_owned).into_iter().collect();
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences, expiration_seconds: Some(600), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
}

async fn bearer_tokens(world: &World) -> BearerTokens<KubeCluster> {
    let cluster = KubeCluster::new(world.operator_client().await, Views::blind());
    BearerTokens::new(cluster, world.clock.clone(), MAX_STALENESS)
}

#[tokio::test]
async fn a_token_for_this_endpoint_is_its_service_account() {
    let world = World::new("perm-token").await;
    let tokens = bearer_tokens(&world).await;
    let expected = account(&world, "web").await;
    let good = token(&world, "web", Some(AUDIENCE)).await;
    let caller = tokens.authenticate(&good).await.unwrap();
    assert_eq!((caller.namespace, &caller.access_key_id), (expected.namespace, &None));
    let (user, by_access_key) = (&*caller.user, &*expected.user);
    assert_eq!((&user.username, &user.uid, &user.groups), {
        let UserInfo { username, uid, groups, .. } = by_access_key;
        (username, uid, groups)
    });

    let refused = async |token: &str| match tokens.authenticate(token).await {
        Err(Failure::InvalidToken(said)) => said,
        other => panic!("{other:?}"),
    };
    for audience in [None, Some("other.example")] {
        let said = refused(&token(&world, "web", audience).await).await;
        assert!(said.contains("audience"), "{audience:?}: {said}");
    }
    // Another one's claims under the signature of this one.
    account(&world, "other").await;
    let others = token(&world, "other", Some(AUDIENCE)).await;
    let part = |token: &str, number| token.split('.').nth(number).unwrap().to_owned();
    refused(&format!("{}.{}.{}", part(&good, 0), part(&others, 1), part(&good, 2))).await;
    refused(&format!("{}.{}.{}", part(&good, 0), part(&good, 1), part(&others, 2))).await;

    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    accounts.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("the token of a deleted ServiceAccount to be refused", SOON, async || {
        forget_answers(&world);
        match tokens.authenticate(&good).await {
            Err(Failure::InvalidToken(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// The operations, with the views as they are now: of these worlds' keys.
async fn operations(worlds: &[&World]) -> Kms<KubeCluster, EmbeddedStore<KubeCluster>> {
    let world = worlds[0];
    let mut writer = Writer::<Guarded<CustomerMasterKey>>::default();
    for world in worlds {
        for object in world.keys().list(&Default::default()).await.unwrap() {
            writer.apply_watcher_event(&Event::Apply(Guarded(Ok(object))));
        }
    }
    let cluster =
        KubeCluster::new(world.operator_client().await, Views { keys: vec![writer.as_reader()], ..Views::blind() });
    let random = Arc::new(SystemRandom);
    let namespace = &world.operator_namespace;
    let ring = root_key::from_secret(&cluster, namespace, true, &*random, async || Ok(1)).await.unwrap();
    let store =
        EmbeddedStore::new(namespace, cluster.clone(), Arc::new(ring), world.clock.clone(), Arc::new(SystemRandom));
    world.records().await.iter().for_each(|secret| drop(store.note(secret)));
    Kms::new(cluster, Arc::new(store), world.clock.clone(), random, OperationSettings::default())
}

async fn encrypt(kms: &Kms<KubeCluster, EmbeddedStore<KubeCluster>>, caller: &Caller, id: Uuid) -> Result<(), Failure> {
    let mut call = Call::new(caller.clone(), Dialect::Aws);
    kms.encrypt(&mut call, &KeyReference::Id(id), &EncryptionContext::default(), b"hello").await.map(drop)
}

/// Two worlds with one operator, and a key in each.
async fn two_namespaces(name: &str) -> (World, World, [Uuid; 2]) {
    let world = World::new(name).await;
    let bank = world.another_namespace("bank").await;
    let operator = world.start_with(crate::helpers::watching(&[&world, &bank])).await;
    world.apply_key("orders", json!({})).await;
    bank.apply_key("vault", json!({})).await;
    let own = key_id(&world.key_ready("orders").await).parse().unwrap();
    let foreign = key_id(&bank.key_ready("vault").await).parse().unwrap();
    operator.stop().await.unwrap();
    (world, bank, [own, foreign])
}

#[tokio::test]
async fn nothing_is_told_about_a_key_that_one_may_not_use() {
    let (world, bank, [own, foreign]) = two_namespaces("perm-hidden").await;
    let kms = operations(&[&world, &bank]).await;
    let unknown = Uuid::from_u128(7);
    let [nobody, one, all] = ["nobody", "one", "all"].map(|name| account(&world, name));
    let (nobody, one, all) = (nobody.await, one.await, all.await);
    bind_names(&world, &world.namespace, &one, &["encrypt"], &["orders"]).await;
    bind(&world, &world.namespace, &all, "cmk-encrypter").await;
    for caller in [&one, &all] {
        eventually("the own key to be usable", SOON, async || {
            forget_answers(&world);
            encrypt(&kms, caller, own).await.map_err(|e| e.to_string())
        })
        .await;
    }
    let denied = |caller: &Caller| {
        let said = format!(
            "user {} lacks the verb encrypt on customermasterkeys.kms.cmk-operator.dev in the namespace {}: the ClusterRole \
             cmk-encrypter has it",
            caller.user.username, world.namespace
        );
        Err(Failure::Denied(said))
    };
    for id in [own, foreign, unknown] {
        assert_eq!(encrypt(&kms, &nobody, id).await, denied(&nobody));
    }
    for id in [foreign, unknown] {
        assert_eq!(encrypt(&kms, &one, id).await, denied(&one));
        assert_eq!(encrypt(&kms, &all, id).await, Err(Failure::KeyNotFound(id.to_string())));
    }
    // RBAC alone decides: with a role in the key's namespace it is usable from another one.
    bind_names(&world, &bank.namespace, &one, &["encrypt"], &["vault"]).await;
    eventually("the foreign key to be usable", SOON, async || {
        forget_answers(&world);
        encrypt(&kms, &one, foreign).await.map_err(|e| e.to_string())
    })
    .await;
    assert_eq!(encrypt(&kms, &nobody, foreign).await, denied(&nobody));
}

/// How many reviews of a kind the API server was asked for.
async fn reviews(world: &World, resource: &str) -> u64 {
    let metrics = world.bed.control_plane.apiserver_metrics().await;
    let of = format!("resource=\"{resource}\"");
    let lines = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{") && line.contains(&of));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn an_api_server_that_is_down_stops_nothing_until_max_staleness() {
    let world = World::on(private_bed().await, "perm-down").await;
    let operator = world.start().await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await).parse().unwrap();
    operator.stop().await.unwrap();
    let kms = operations(&[&world]).await;
    let cluster = KubeCluster::new(world.operator_client().await, Views::blind());
    let beat = tokio::spawn(staleness::keep(kms.contact().clone(), cluster, world.operator_namespace.clone()));
    let tokens = bearer_tokens(&world).await;
    let (web, stranger) = (account(&world, "web").await, account(&world, "stranger").await);
    let bearer = token(&world, "web", Some(AUDIENCE)).await;
    bind(&world, &world.namespace, &web, "cmk-encrypter").await;
    eventually("the key to be usable", SOON, async || {
        forget_answers(&world);
        encrypt(&kms, &web, id).await.map_err(|e| e.to_string())
    })
    .await;
    assert!(tokens.authenticate(&bearer).await.is_ok());

    // A burst is one review.
    forget_answers(&world);
    let before = [reviews(&world, "subjectaccessreviews").await, reviews(&world, "tokenreviews").await];
    let burst =
        (0..32).map(|_| async { tokens.authenticate(&bearer).await.is_ok() && encrypt(&kms, &web, id).await.is_ok() });
    assert!(futures::future::join_all(burst).await.into_iter().all(|ok| ok));
    let after = [reviews(&world, "subjectaccessreviews").await, reviews(&world, "tokenreviews").await];
    assert_eq!(after, before.map(|count| count + 1));

    world.bed.control_plane.signal_api_server("-STOP");
    // What is known goes on, and waits for no answer once it is known that there is none.
    for waited in [6, 60, 120, 60] {
        world.clock.advance(SignedDuration::from_secs(waited));
        assert_eq!(encrypt(&kms, &web, id).await, Ok(()));
        assert!(tokens.authenticate(&bearer).await.is_ok());
    }
    assert!(kms.contact().age() > Duration::from_secs(240));
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(encrypt(&kms, &web, id).await, Ok(()));
    }
    println!("100 operations took {:?} while the API server was down", began.elapsed());
    // What is not known can't be found out.
    let unavailable = |result: Result<(), Failure>| matches!(result, Err(Failure::Unavailable(_)));
    assert!(unavailable(encrypt(&kms, &stranger, id).await));
    world.clock.advance(SignedDuration::from_secs(60));
    let refused = encrypt(&kms, &web, id).await.unwrap_err();
    assert!(matches!(&refused, Failure::Unavailable(said) if said.contains("--max-staleness")), "{refused:?}");
    assert!(unavailable(tokens.authenticate(&bearer).await.map(drop)));

    world.bed.control_plane.signal_api_server("-CONT");
    eventually("all to go on", SOON, async || {
        tokens.authenticate(&bearer).await.map_err(|e| e.to_string())?;
        encrypt(&kms, &web, id).await.map_err(|e| e.to_string())
    })
    .await;
    assert!(kms.contact().age() < MAX_STALENESS);
    eventually("what was not known to be found out", SOON, async || match encrypt(&kms, &stranger, id).await {
        Err(Failure::Denied(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    beat.abort();
}
