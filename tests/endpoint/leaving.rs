//! A replica that was told to stop goes on serving until clients have heard of it (`--shutdown-delay`): what it answers then
//! is as true as before.

use std::time::Duration;

use cmk_operator::runtime::{
    leader_election::Timing,
    operator::{Election, Settings},
};
use serde_json::json;

use crate::{
    application::{Credentials, VERBS, access_key},
    kms_http::Client,
    support::world::{Operator, World, key_id},
};

/// A replica that never leads: the Role that lets it take the lease is not in its namespace. Told to stop, it serves for as
/// long as the test goes on.
async fn follower(world: &World) -> Operator {
    let minute = Duration::from_secs(60);
    let timing = Timing { lease_duration: minute, renew_deadline: minute / 2, retry_period: minute / 6 };
    let mut settings =
        Settings { election: Some(Election { identity: "follower".into(), timing }), ..world.settings() };
    settings.kms.limits.leave = Duration::from_secs(3600);
    world.start_with(settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leaves_sees_what_the_leader_does() {
    let world = World::new("leaving").await;
    let leader = world.start().await;
    let credentials = Credentials::of(&access_key(&world, "app", &VERBS, "AWS_SECRET_ACCESS_KEY").await);
    let follower = follower(&world).await;
    let client = Client { address: follower.kms_plain.unwrap(), credentials: &credentials, clock: &world.clock };
    world.apply_key("before", json!({})).await;
    let before = key_id(&world.key_ready("before").await);
    client.encrypts(&before).await;

    follower.begin_to_stop().await;
    client.aws("DisableKey", &json!({"KeyId": before})).await.ok();
    assert_eq!(client.encrypt(&before).await.code(), "DisabledException");
    client.aws("EnableKey", &json!({"KeyId": before})).await.ok();
    client.encrypt(&before).await.ok();
    // Made here, and made through another replica.
    let made = client.aws("CreateKey", &json!({})).await.ok();
    client.encrypt(made["KeyMetadata"]["KeyId"].as_str().unwrap()).await.ok();
    world.apply_key("after", json!({})).await;
    let after = key_id(&world.key_ready("after").await);
    client.encrypts(&after).await;
    assert!(follower.metrics.render().lines().all(|line| !line.starts_with("cmk_passes_total")), "it made no pass");
    follower.crash().await;
    leader.stop().await.unwrap();
}
