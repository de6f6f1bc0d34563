//! Two replicas on one control plane, each with a listener of its own: what becomes true on one becomes true on the other.
//! How long that takes is printed: `cargo test --test endpoint replicas -- --nocapture --test-threads 1`.

use std::time::{Duration, Instant};

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    application::{Credentials, VERBS, access_key},
    kms_http::{Answer, Client},
    support::{
        eventually,
        world::{Operator, SOON, World, key_id},
    },
};

const ROUNDS: usize = 10;

/// So many more have to be refused after the first refusal.
const STILL: usize = 20;

/// Two operators, and an application that may do everything on both.
struct Replicas {
    world: World,
    operators: [Operator; 2],
    credentials: Credentials,
}

impl Replicas {
    async fn start(name: &str) -> Self {
        let world = World::new(name).await;
        let operators = [world.start().await, world.start().await];
        let secret = access_key(&world, "app", &VERBS, "AWS_SECRET_ACCESS_KEY").await;
        let replicas = Self { world, operators, credentials: Credentials::of(&secret) };
        for client in replicas.clients() {
            eventually("the access key to be known", SOON, async || {
                expect(client.aws("ListKeys", &json!({})).await, "")
            })
            .await;
        }
        replicas
    }

    fn clients(&self) -> [Client<'_>; 2] {
        [0, 1].map(|index| Client {
            address: self.operators[index].kms_plain.unwrap(),
            credentials: &self.credentials,
            clock: &self.world.clock,
        })
    }

    /// Waits until a key encrypts on both.
    async fn encrypts(&self, id: &str) {
        for client in self.clients() {
            client.encrypts(id).await;
        }
    }

    async fn stop(self) {
        for operator in self.operators {
            operator.stop().await.unwrap();
        }
    }
}

/// Whether the answer has this code; empty: whether it is a success.
fn expect(answer: Answer, code: &str) -> Result<(), String> {
    if answer.code() == code && (answer.status == 200) == code.is_empty() { Ok(()) } else { Err(format!("{answer:?}")) }
}

/// Encrypts as fast as it can until that is refused with a code, and answers when the refusal came. Then it stays refused.
async fn refused(client: &Client<'_>, id: &str, code: &str) -> Instant {
    let deadline = Instant::now() + SOON;
    let refused = loop {
        let answer = client.encrypt(id).await;
        let now = Instant::now();
        match expect(answer, code) {
            Ok(()) => break now,
            Err(answer) => assert!(now < deadline, "waited {SOON:?} for {code}: {answer}"),
        }
    };
    for _ in 0..STILL {
        expect(client.encrypt(id).await, code).unwrap();
    }
    refused
}

/// Times of a replica.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn print(mut self, what: &str) {
        self.0.sort_unstable();
        let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
        let (median, max) = (ms(&self.0[self.0.len() / 2]), ms(self.0.last().unwrap()));
        println!("{what}: median {median:.1} ms, max {max:.1} ms, {} rounds", self.0.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_disabled_anywhere_stops_encrypting_on_both_replicas() {
    let replicas = Replicas::start("replicas-disable").await;
    let [a, b] = replicas.clients();
    let keys = replicas.world.keys();
    replicas.world.apply_key("orders", json!({})).await;
    let id = key_id(&replicas.world.key_ready("orders").await);
    let patch = async |enabled: bool| {
        let patch = Patch::Merge(json!({"spec": {"enabled": enabled}}));
        keys.patch("orders", &PatchParams::default(), &patch).await.unwrap();
        Instant::now()
    };
    let mut patched = <[Times; 2]>::default();
    for _ in 0..ROUNDS {
        replicas.encrypts(&id).await;
        let (acknowledged, on_a, on_b) =
            tokio::join!(patch(false), refused(&a, &id, "DisabledException"), refused(&b, &id, "DisabledException"));
        patched[0].0.push(on_a.saturating_duration_since(acknowledged));
        patched[1].0.push(on_b.saturating_duration_since(acknowledged));
        patch(true).await;
    }
    let disable = async || {
        a.aws("DisableKey", &json!({"KeyId": id})).await.ok();
        Instant::now()
    };
    let mut called = <[Times; 3]>::default();
    for _ in 0..ROUNDS {
        replicas.encrypts(&id).await;
        let sent = Instant::now();
        let (answered, on_a, on_b) =
            tokio::join!(disable(), refused(&a, &id, "DisabledException"), refused(&b, &id, "DisabledException"));
        for (times, at) in called.iter_mut().zip([answered, on_a, on_b]) {
            times.0.push(at - sent);
        }
        a.aws("EnableKey", &json!({"KeyId": id})).await.ok();
    }
    for (name, times) in ["A", "B"].into_iter().zip(patched) {
        times.print(&format!(
            "disabled by a patch of the object: replica {name} refuses, after the patch is acknowledged"
        ));
    }
    for (what, times) in ["answered", "replica A refuses", "replica B refuses"].into_iter().zip(called) {
        times.print(&format!("disabled by DisableKey on A: {what}, after it is sent"));
    }
    replicas.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_makes_the_other_uses() {
    let replicas = Replicas::start("replicas-make").await;
    let [a, b] = replicas.clients();
    let mut usable = Times::default();
    let mut id = String::new();
    for _ in 0..ROUNDS {
        let made = a.aws("CreateKey", &json!({})).await.ok();
        let answered = Instant::now();
        id = made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
        a.encrypts(&id).await;
        b.encrypts(&id).await;
        usable.0.push(answered.elapsed());
    }
    usable.print("made by CreateKey on A: usable on B after its answer");

    // What one encrypted the other decrypts, and a new version of it too.
    a.aws("RotateKeyOnDemand", &json!({"KeyId": id})).await.ok();
    let sealed = a.encrypt(&id).await.ok();
    eventually("the new version to be known on B", SOON, async || {
        let opened = b.aws("Decrypt", &json!({"CiphertextBlob": sealed["CiphertextBlob"]})).await;
        if opened.status == 200 {
            assert_eq!(opened.body["Plaintext"], STANDARD.encode("hello"))
        }
        expect(opened, "")
    })
    .await;
    replicas.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_that_is_deleted_stops_on_both_replicas() {
    let replicas = Replicas::start("replicas-revoke").await;
    let [a, b] = replicas.clients();
    let id = a.aws("CreateKey", &json!({})).await.ok()["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    replicas.encrypts(&id).await;
    let delete = async || {
        replicas.world.access_keys().delete("app", &DeleteParams::default()).await.unwrap();
        Instant::now()
    };
    let unknown = "UnrecognizedClientException";
    let (deleted, on_a, on_b) = tokio::join!(delete(), refused(&a, &id, unknown), refused(&b, &id, unknown));
    for (name, refused) in [("A", on_a), ("B", on_b)] {
        let times = Times(vec![refused.saturating_duration_since(deleted)]);
        times.print(&format!("access key deleted: replica {name} refuses it after the acknowledgement"));
    }
    let code = a.alibaba("DescribeKey", &[("KeyId", &id)]).await;
    assert_eq!((code.status, code.code()), (404, "InvalidAccessKeyId.NotFound"));
    replicas.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_token_of_one_replica_is_taken_by_the_other() {
    let replicas = Replicas::start("replicas-import").await;
    let [a, b] = replicas.clients();
    let made = a.aws("CreateKey", &json!({"Origin": "EXTERNAL"})).await.ok();
    let id = made["KeyMetadata"]["KeyId"].as_str().unwrap();
    let asked = json!({"KeyId": id, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"});
    let parameters = a.aws("GetParametersForImport", &asked).await.ok();
    let material = STANDARD.encode(wrapped(&parameters, &[7; 32]));
    let import = json!({
        "KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": material,
        "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
    });
    eventually("the key to be known on B", SOON, async || {
        expect(b.aws("DescribeKey", &json!({"KeyId": id})).await, "")
    })
    .await;
    b.aws("ImportKeyMaterial", &import).await.ok();
    replicas.encrypts(id).await;
    replicas.stop().await;
}

fn wrapped(parameters: &Value, material: &[u8]) -> Vec<u8> {
    let public = STANDARD.decode(parameters["PublicKey"].as_str().unwrap()).unwrap();
    let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&public).unwrap()).unwrap();
    let mut encrypted = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA256_MGF1SHA256, material, &mut encrypted, None).unwrap();
    encrypted
}
