//! Rule 18: `generatedatakey` is the right to new data keys. It discloses none that exists, by whichever way.

use cmk_operator::api::{
    DataKey,
    conditions::{READY, STALLED, reason},
    metadata,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{
        CIPHERTEXT_BLOB, PLAINTEXT, blob, complete_context, condition, conditions_of, decrypted, later_event, merge,
    },
    rule_12_data_keys::{under_orders, with_key},
    rule_12_rotation::{PREVIOUS_CIPHERTEXT_BLOB, history, request, rotated},
    support::world::{World, apply, entry, gone},
    users::{WRITE, allowed, refused, rule, user},
};

/// Who may change DataKeys, generate data keys under `orders`, write Secrets, and do this besides with any key.
async fn editor(world: &World, name: &str, verbs: &[&str]) -> (Api<DataKey>, Api<Secret>) {
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": WRITE});
    let verbs = [&["generatedatakey"], verbs].concat();
    let rules = json!([rule(&["datakeys"], &WRITE, &[]), rule(&["customermasterkeys"], &verbs, &[]), secrets]);
    let client = user(world, &world.namespace, name, rules).await;
    (Api::namespaced(client.clone(), &world.namespace), Api::namespaced(client, &world.namespace))
}

async fn has_plaintext(world: &World, name: &str) -> bool {
    world.secrets().get(name).await.unwrap().data.unwrap().contains_key(PLAINTEXT)
}

/// What the message about the current data key, and about one beside it, tells people.
const CURRENT: [&str; 3] = [metadata::CIPHERTEXT_BLOB, "verb decrypt", "spec.withoutPlaintext: true"];
const FORMER: [&str; 3] = ["another data key", "Take it out of the Secret", "spec.ciphertextBlob"];

/// The DataKey is Stalled as its plaintext is withheld, its Secret is as it was, and nothing was taken over.
async fn withheld(world: &World, name: &str, secret: &Secret, says: [&str; 3]) {
    let stalled = world.data_key_says(name, STALLED, "True", reason::PLAINTEXT_WITHHELD).await;
    let message = &condition(conditions_of(&stalled), READY).message;
    assert!(message.contains(&format!("Secret {name} has")), "{message}");
    for part in says {
        assert!(message.contains(part), "{part}: {message}");
    }
    world.event(name, reason::PLAINTEXT_WITHHELD).await;
    later_event(world, "orders").await;
    let now = world.secrets().get(name).await.unwrap();
    assert!(now.metadata == secret.metadata && now.data == secret.data, "{name}: the Secret is not touched");
    let status = world.data_keys().get(name).await.unwrap().status.unwrap();
    assert!(status.ciphertext_blob.is_none() && status.history.is_empty(), "{name}: nothing is taken over");
}

#[tokio::test]
async fn rule_18_asking_for_a_withheld_plaintext_needs_decrypt() {
    let (world, operator) = with_key("r18-withheld").await;
    let (maker, _) = editor(&world, "maker", &[]).await;
    let (decrypter, _) = editor(&world, "decrypter", &["decrypt"]).await;
    let sealed = |fields: Value| {
        let mut spec = json!({"withoutPlaintext": true});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec
    };

    // Generated, brought by who may decrypt, and under the service key.
    let orders = json!({"keyRef": {"name": "orders"}});
    allowed("a data key", async || apply(&maker, "made", "DataKey", sealed(orders.clone())).await).await;
    let given = blob(&world.data_key_ready("made").await);
    let context = json!({metadata::DATA_KEY: format!("{}/made", world.namespace)});
    let brought = json!({"keyRef": {"name": "orders"}, "ciphertextBlob": given, "encryptionContext": context});
    allowed("a ciphertext", async || apply(&decrypter, "brought", "DataKey", sealed(brought.clone())).await).await;
    allowed("a data key", async || apply(&maker, "own", "DataKey", sealed(json!({}))).await).await;

    let params = PatchParams::default();
    for (name, key) in [("made", "orders"), ("brought", "orders"), ("own", metadata::SERVICE_KEY)] {
        world.data_key_ready(name).await;
        for value in [json!(false), Value::Null] {
            let disclose = Patch::Merge(json!({"spec": {"withoutPlaintext": value}}));
            let said = refused(name, async || maker.patch(name, &params, &disclose).await).await;
            let key = format!("{}/{key}", world.namespace);
            for part in ["spec.withoutPlaintext", "decrypt", "maker", &key, "cmk-decrypter"] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        // Everything else about it may be changed, as before.
        let hex = Patch::Merge(json!({"spec": {"secret": {"encoding": "Hex"}}}));
        allowed("a change", async || maker.patch(name, &params, &hex).await).await;
        world.data_key_ready(name).await;
        assert!(!has_plaintext(&world, name).await, "{name}");

        let disclose = Patch::Merge(json!({"spec": {"withoutPlaintext": false}}));
        allowed(name, async || decrypter.patch(name, &params, &disclose).await).await;
        world.data_key_ready(name).await;
        assert!(has_plaintext(&world, name).await, "{name}");
        // Taking it away needs nothing more; having it back does.
        let take = Patch::Merge(json!({"spec": {"withoutPlaintext": true}}));
        allowed(name, async || maker.patch(name, &params, &take).await).await;
        refused(name, async || maker.patch(name, &params, &disclose).await).await;
    }
    operator.stop().await.unwrap();
}

/// The Secret of a DataKey without plaintext outlives it, and has its ciphertext.
#[tokio::test]
async fn rule_18_a_withheld_plaintext_is_not_had_by_making_the_data_key_anew() {
    let (world, operator) = with_key("r18-anew").await;
    let (maker, _) = editor(&world, "maker", &[]).await;
    let sealed = under_orders(json!({"withoutPlaintext": true}));
    allowed("a data key", async || apply(&maker, "dek", "DataKey", sealed.clone()).await).await;
    let before = blob(&world.data_key_ready("dek").await);
    let secret = world.secrets().get("dek").await.unwrap();

    let anew = async |spec: Value| {
        maker.delete("dek", &DeleteParams::default()).await.unwrap();
        gone(&world.data_keys(), "dek").await;
        allowed("a data key", async || apply(&maker, "dek", "DataKey", spec.clone()).await).await;
    };
    anew(under_orders(json!({}))).await;
    withheld(&world, "dek", &secret, CURRENT).await;
    // As the message says: without plaintext it is the same data key.
    allowed("a change", async || apply(&maker, "dek", "DataKey", sealed.clone()).await).await;
    assert_eq!(blob(&world.data_key_ready("dek").await), before);
    assert!(!has_plaintext(&world, "dek").await);

    // With it, who may decrypt says so.
    anew(under_orders(json!({}))).await;
    withheld(&world, "dek", &world.secrets().get("dek").await.unwrap(), CURRENT).await;
    let annotate = json!({"metadata": {"annotations": {metadata::CIPHERTEXT_BLOB: before}}});
    let patch = Patch::Merge(annotate.clone());
    refused("the annotation", async || maker.patch("dek", &PatchParams::default(), &patch).await).await;
    merge(&world.data_keys(), "dek", annotate).await;
    assert_eq!(blob(&world.data_key_ready("dek").await), before);
    assert!(has_plaintext(&world, "dek").await);
    operator.stop().await.unwrap();
}

/// Whoever may write Secrets can make one that looks like the operator's. What a ciphertext in it decrypts to is delivered only
/// where it is in the Secret already: so that who put it there knew it.
#[tokio::test]
async fn rule_18_a_planted_ciphertext_is_not_delivered() {
    let (world, operator) = with_key("r18-planted").await;
    let (maker, secrets) = editor(&world, "maker", &[]).await;
    allowed("a data key", async || apply(&maker, "dek", "DataKey", under_orders(json!({}))).await).await;
    world.data_key_ready("dek").await;
    for times in 1..=3 {
        request(&world, "dek", &times.to_string()).await;
        rotated(&world, "dek", times).await;
    }
    let before = world.data_keys().get("dek").await.unwrap();
    let oldest = history(&before).remove(0);
    let delivered = world.secrets().get("dek").await.unwrap();
    let current = entry(&delivered, PLAINTEXT);

    let lost = async || {
        maker.delete("dek", &DeleteParams::default()).await.unwrap();
        gone(&world.data_keys(), "dek").await;
        secrets.delete("dek", &DeleteParams::default()).await.unwrap();
        gone(&world.secrets(), "dek").await;
    };
    let planted = |entries: &[(&str, &[u8])]| {
        let mut secret = Secret { data: Some(Default::default()), ..Secret::default() };
        secret.metadata.name = Some("dek".into());
        secret.metadata.labels = Some(delivered.labels().clone());
        secret.metadata.annotations = Some(delivered.annotations().clone());
        for (name, value) in entries {
            let value = k8s_openapi::ByteString(value.to_vec());
            secret.data.as_mut().unwrap().insert((*name).to_owned(), value);
        }
        secret
    };
    let now = blob(&before);
    for (what, says, entries) in [
        ("the oldest one", CURRENT, vec![(CIPHERTEXT_BLOB, oldest.as_bytes())]),
        ("with another's plaintext", CURRENT, vec![(CIPHERTEXT_BLOB, oldest.as_bytes()), (PLAINTEXT, &current)]),
        (
            "behind the current one",
            FORMER,
            vec![
                (CIPHERTEXT_BLOB, now.as_bytes()),
                (PLAINTEXT, &current),
                (PREVIOUS_CIPHERTEXT_BLOB, oldest.as_bytes()),
            ],
        ),
    ] {
        eprintln!("{what}");
        lost().await;
        let create = PostParams::default();
        let secret = planted(&entries);
        let secret = allowed("a Secret", async || secrets.create(&create, &secret).await).await;
        allowed("a data key", async || apply(&maker, "dek", "DataKey", under_orders(json!({}))).await).await;
        withheld(&world, "dek", &secret, says).await;
    }

    // What was delivered is, also written in another way: whoever restores it need not have any right to the key.
    lost().await;
    let hex: String = current.iter().map(|byte| format!("{byte:02x}")).collect();
    let restored = planted(&[(CIPHERTEXT_BLOB, now.as_bytes()), (PLAINTEXT, hex.as_bytes())]);
    let create = PostParams::default();
    allowed("a Secret", async || secrets.create(&create, &restored).await).await;
    allowed("a data key", async || apply(&maker, "dek", "DataKey", under_orders(json!({}))).await).await;
    assert_eq!(blob(&world.data_key_ready("dek").await), now);
    let plaintext = entry(&world.secrets().get("dek").await.unwrap(), PLAINTEXT);
    let context = complete_context(&world.namespace, "dek", &[]);
    assert!(plaintext == current && plaintext == decrypted(&world, "orders", &context, &now).await);
    operator.stop().await.unwrap();
}
