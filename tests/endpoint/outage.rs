//! The API server is down: what the endpoint answers over HTTP, in both dialects, until `--max-staleness` and after it.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    application::{Credentials, VERBS, access_key},
    kms_http::{Answer, Client},
    support::{
        eventually,
        world::{SOON, World, key_id, private_bed},
    },
};

/// What the application does all day with a key: encrypt and decrypt, in both dialects. Or the status and the codes with
/// which that is refused; a code is empty where only the other dialect was refused, which happens at the moment of a change.
pub async fn round_trips(client: &Client<'_>, id: &str) -> Result<(), (u16, [String; 2])> {
    let plaintext = STANDARD.encode("hello");
    let encrypted = both([
        client.aws("Encrypt", &json!({"KeyId": id, "Plaintext": plaintext})).await,
        client.alibaba("Encrypt", &[("KeyId", id), ("Plaintext", &plaintext)]).await,
    ])?;
    let [aws, alibaba] = encrypted.each_ref().map(|body| body["CiphertextBlob"].as_str().unwrap());
    let opened = both([
        client.aws("Decrypt", &json!({"CiphertextBlob": aws})).await,
        client.alibaba("Decrypt", &[("CiphertextBlob", alibaba)]).await,
    ])?;
    opened.iter().for_each(|opened| assert_eq!(opened["Plaintext"], plaintext));
    Ok(())
}

/// Waits until a key answers so. An API server that has just woken up may not say in time who may use it.
async fn answers(client: &Client<'_>, id: &str, expected: Result<(), (u16, [String; 2])>) {
    eventually("the key to answer as it should", SOON, async || match round_trips(client, id).await {
        answer if answer == expected => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
}

/// The bodies of two successes.
fn both(answers: [Answer; 2]) -> Result<[Value; 2], (u16, [String; 2])> {
    match answers.iter().rfind(|answer| answer.status != 200) {
        None => Ok(answers.map(Answer::ok)),
        Some(refused) => Err((refused.status, answers.each_ref().map(|answer| answer.code().to_owned()))),
    }
}

fn disabled() -> Result<(), (u16, [String; 2])> {
    Err((409, ["DisabledException", "Rejected.Disabled"].map(str::to_owned)))
}

pub fn unavailable() -> Result<(), (u16, [String; 2])> {
    Err((503, ["ServiceUnavailableException", "ServiceUnavailableTemporary"].map(str::to_owned)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_down_stops_nothing_until_max_staleness() {
    let world = World::on(private_bed().await, "outage").await;
    let operator = world.start().await;
    let credentials = Credentials::of(&access_key(&world, "app", &VERBS, "AWS_SECRET_ACCESS_KEY").await);
    let client = Client { address: operator.kms_plain.unwrap(), credentials: &credentials, clock: &world.clock };
    let mut ids = Vec::new();
    for name in ["orders", "closed"] {
        world.apply_key(name, json!({})).await;
        ids.push(key_id(&world.key_ready(name).await));
    }
    let [orders, closed] = [&*ids[0], &*ids[1]];
    for id in [orders, closed] {
        eventually("the key to be usable", SOON, async || {
            round_trips(&client, id).await.map_err(|refused| format!("{refused:?}"))
        })
        .await;
    }
    client.aws("DisableKey", &json!({"KeyId": closed})).await.ok();
    assert_eq!(round_trips(&client, closed).await, disabled());

    world.bed.control_plane.signal_api_server("-STOP");
    // Past what a permission counts for, and then to just before five minutes.
    for waited in [6, 60, 120, 60] {
        world.clock.advance(SignedDuration::from_secs(waited));
        assert_eq!(round_trips(&client, orders).await, Ok(()));
        assert_eq!(round_trips(&client, closed).await, disabled());
    }
    // A right that was never looked up can't be now.
    let unknown = client.alibaba("DescribeKey", &[("KeyId", orders)]).await;
    assert_eq!((unknown.status, unknown.code()), (503, "ServiceUnavailableTemporary"));
    world.clock.advance(SignedDuration::from_secs(90));
    for id in [orders, closed] {
        assert_eq!(round_trips(&client, id).await, unavailable());
    }
    let refused = client.aws("Encrypt", &json!({"KeyId": orders, "Plaintext": "aGVsbG8="})).await;
    assert_eq!(refused.status, 503);
    assert!(refused.body["message"].as_str().unwrap().contains("--max-staleness"), "{refused:?}");

    world.bed.control_plane.signal_api_server("-CONT");
    eventually("the endpoint to serve again", SOON, async || {
        round_trips(&client, orders).await.map_err(|refused| format!("{refused:?}"))
    })
    .await;
    answers(&client, closed, disabled()).await;
    eventually("keys to be changed again", SOON, async || {
        match client.aws("EnableKey", &json!({"KeyId": closed})).await {
            answer if answer.status == 200 => Ok(()),
            refused => Err(format!("{refused:?}")),
        }
    })
    .await;
    answers(&client, closed, Ok(())).await;

    // The other way to be down: nobody listens any more.
    world.bed.control_plane.signal_api_server("-KILL");
    for waited in [0, 6, 200] {
        world.clock.advance(SignedDuration::from_secs(waited));
        assert_eq!(round_trips(&client, orders).await, Ok(()));
    }
    world.clock.advance(SignedDuration::from_secs(120));
    assert_eq!(round_trips(&client, orders).await, unavailable());
    operator.crash().await;
}
