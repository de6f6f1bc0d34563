//! Rule 12: a data key is generated once, and its Secret is always restored to the same bytes.

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::api::{
    DataKey,
    conditions::{READY, STALLED, reason},
    metadata,
};
use futures::StreamExt;
use k8s_openapi::ByteString;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::{
    helpers::{
        CIPHERTEXT_BLOB, PLAINTEXT, blob, complete_context, condition, conditions_of, decrypted, deleted_and_restored,
        foreign_secret, merge, secret_when,
    },
    support::world::{Operator, World, entry, gone, key_id},
};

/// A world with a key `orders` that is ready.
pub async fn with_key(name: &str) -> (World, Operator) {
    let (world, operator) = World::with_operator(name).await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    (world, operator)
}

/// A data key under `orders`, with these fields besides.
pub fn under_orders(fields: Value) -> Value {
    let mut spec = json!({"keyRef": {"name": "orders"}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec
}

#[tokio::test]
async fn rule_12_the_ciphertext_is_stored_before_any_secret_exists() {
    let (world, operator) = with_key("r12-order").await;
    let start = world.data_keys().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    world.apply_data_key("dek", under_orders(json!({}))).await;
    world.data_key_ready("dek").await;
    let secret = world.secrets().get("dek").await.unwrap();
    let delivered: u64 = secret.resource_version().unwrap().parse().unwrap();

    // The whole history of the object, as the API server recorded it.
    let api = world.data_keys();
    let params = WatchParams::default().fields("metadata.name=dek").timeout(10);
    let mut history = api.watch(&params, &start).await.unwrap().boxed();
    let (mut in_status, mut in_annotation) = (None, None);
    while let Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) = history.next().await {
        let version: u64 = object.resource_version().unwrap().parse().unwrap();
        if object.status.as_ref().is_some_and(|s| s.ciphertext_blob.is_some()) {
            in_status.get_or_insert(version);
        }
        if object.annotations().contains_key(metadata::CIPHERTEXT_BLOB) {
            in_annotation.get_or_insert(version);
            break;
        }
    }
    let (in_status, in_annotation) = (in_status.unwrap(), in_annotation.unwrap());
    assert!(in_status < in_annotation && in_annotation < delivered, "{in_status} {in_annotation} {delivered}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_the_ciphertext_is_stored_where_the_secret_can_not_be_made() {
    let (world, operator) = with_key("r12-blocked").await;
    foreign_secret(&world, "dek").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    let blocked = world.data_key_says("dek", STALLED, "True", reason::SECRET_CONFLICT).await;
    let stored = blob(&blocked);
    assert_eq!(blocked.annotations()[metadata::CIPHERTEXT_BLOB], stored);

    world.apply_data_key("dek", under_orders(json!({"secret": {"name": "elsewhere"}}))).await;
    assert_eq!(blob(&world.data_key_ready("dek").await), stored, "generated once");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_the_secret_holds_what_the_ciphertext_decrypts_to() {
    let (world, operator) = with_key("r12-decrypts").await;
    world.apply_data_key("dek", under_orders(json!({"encryptionContext": {"app": "shop", "b": "é"}}))).await;
    let data_key = world.data_key_ready("dek").await;
    let secret = world.secrets().get("dek").await.unwrap();

    let context = complete_context(&world.namespace, "dek", &[("app", "shop"), ("b", "é")]);
    assert_eq!(entry(&secret, PLAINTEXT), decrypted(&world, "orders", &context, &blob(&data_key)).await);
    assert_eq!(entry(&secret, PLAINTEXT).len(), 32);
    assert_eq!(entry(&secret, CIPHERTEXT_BLOB), blob(&data_key).into_bytes());
    assert_eq!(entry(&secret, "encryptionContext"), context.to_json().into_bytes());
    let key = world.key_ready("orders").await;
    assert_eq!(entry(&secret, "keyId"), key_id(&key).into_bytes());
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.data.as_ref().unwrap().len(), 4, "and nothing else");

    let status = data_key.status.unwrap();
    assert_eq!(status.key_id, Some(key_id(&key)));
    let versions = key.status.unwrap().key_versions;
    assert_eq!(status.key_version_id.as_ref(), versions.last().map(|v| &v.id));
    assert_eq!(status.secret_ref.unwrap().name, "dek");
    assert!(status.generated_at.is_some());
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_deleted_secret_is_restored_to_the_same_bytes() {
    let (world, operator) = with_key("r12-deleted").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    let first = blob(&world.data_key_ready("dek").await);
    let data = world.secrets().get("dek").await.unwrap().data;
    for _ in 0..3 {
        assert!(deleted_and_restored(&world, "dek").await.data == data, "the same bytes");
    }
    assert_eq!(blob(&world.data_key_ready("dek").await), first);
    let said = world.event("dek", reason::SECRET_RESTORED).await;
    assert!(said.contains("dek was missing"), "{said}");

    // Deleted while no operator runs.
    operator.stop().await.unwrap();
    world.secrets().delete("dek", &DeleteParams::default()).await.unwrap();
    let operator = world.start().await;
    assert!(secret_when(&world, "dek", "to be there", |_| true).await.data == data, "the same bytes");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_tampered_secret_is_restored_to_the_same_bytes() {
    let (world, operator) = with_key("r12-tampered").await;
    world.apply_data_key("dek", under_orders(json!({}))).await;
    let data_key = world.data_key_ready("dek").await;
    world.apply_data_key("other", under_orders(json!({}))).await;
    let other = blob(&world.data_key_ready("other").await);
    let good = world.secrets().get("dek").await.unwrap();

    let zeros = BASE64_STANDARD.encode([0; 32]);
    for (what, patch) in [
        ("plaintext", json!({"data": {"plaintext": zeros}})),
        ("no plaintext", json!({"data": {"plaintext": null}})),
        ("blob of another", json!({"data": {"ciphertextBlob": BASE64_STANDARD.encode(&other)}})),
        ("blob that is none", json!({"stringData": {"ciphertextBlob": "nonsense"}})),
        ("context", json!({"stringData": {"encryptionContext": "{}"}})),
        ("key id", json!({"stringData": {"keyId": "x"}})),
        ("one entry more", json!({"stringData": {"extra": "x"}})),
        ("nothing left", json!({"data": null})),
        ("our labels", json!({"metadata": {"labels": {metadata::MANAGED_BY_LABEL: "helm"}}})),
    ] {
        let bad = merge(&world.secrets(), "dek", patch).await;
        assert_ne!(bad.resource_version(), good.resource_version(), "{what}");
        let waited_for = format!("to be restored ({what})");
        let restored = secret_when(&world, "dek", &waited_for, |secret| {
            secret.data == good.data && secret.labels() == good.labels()
        });
        assert_eq!(restored.await.uid(), good.uid(), "{what}: it is the same object");
    }
    let said = world.event("dek", reason::SECRET_RESTORED).await;
    assert!(said.contains("changed"), "{said}");
    assert_eq!(blob(&world.data_key_ready("dek").await), blob(&data_key));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_metadata_of_others_stays_and_ours_follows_the_spec() {
    let (world, operator) = with_key("r12-metadata").await;
    let template = |labels: Value, annotations: Value| {
        under_orders(json!({"secret": {"labels": labels, "annotations": annotations}}))
    };
    world.apply_data_key("dek", template(json!({"team": "a", "tier": "1"}), json!({"note": "x"}))).await;
    world.data_key_ready("dek").await;
    merge(
        &world.secrets(),
        "dek",
        json!({"metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "2"}, "finalizers": ["a.b/c"]}}),
    )
    .await;
    world.apply_data_key("dek", template(json!({"team": "b"}), json!({"other": "y"}))).await;
    world.data_key_ready("dek").await;

    let secret = world.secrets().get("dek").await.unwrap();
    let label = |key: &str| secret.labels().get(key).map(String::as_str);
    let annotation = |key: &str| secret.annotations().get(key).map(String::as_str);
    assert_eq!((label("team"), label("tier"), label("theirs")), (Some("b"), None, Some("1")));
    assert_eq!((annotation("note"), annotation("other"), annotation("theirs")), (None, Some("y"), Some("2")));
    assert_eq!(secret.finalizers(), ["a.b/c"]);

    // A declared label that somebody changes or removes comes back.
    for value in [json!("z"), Value::Null] {
        merge(&world.secrets(), "dek", json!({"metadata": {"labels": {"team": value}}})).await;
        secret_when(&world, "dek", "to have its label", |s| s.labels().get("team").is_some_and(|v| v == "b")).await;
    }
    merge(&world.secrets(), "dek", json!({"metadata": {"finalizers": null}})).await;
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_an_immutable_secret_is_recreated_where_it_has_to_change() {
    let (world, operator) = with_key("r12-immutable").await;
    let spec = |encoding: &str, immutable: bool| {
        under_orders(json!({"secret": {"encoding": encoding, "immutable": immutable}}))
    };
    world.apply_data_key("dek", spec("Raw", true)).await;
    world.data_key_ready("dek").await;
    let raw = world.secrets().get("dek").await.unwrap();
    assert_eq!(raw.immutable, Some(true));

    let tamper = Patch::Merge(json!({"stringData": {"plaintext": "x"}}));
    let refused = world.secrets().patch("dek", &PatchParams::default(), &tamper).await.unwrap_err();
    assert!(refused.to_string().contains("immutable"), "{refused}");
    assert!(deleted_and_restored(&world, "dek").await.data == raw.data, "the same bytes");
    world.event("dek", reason::SECRET_RESTORED).await;

    world.apply_data_key("dek", spec("Base64", true)).await;
    world.data_key_ready("dek").await;
    let text = world.secrets().get("dek").await.unwrap();
    assert_ne!(text.uid(), raw.uid(), "an immutable Secret can't change");
    assert_eq!(text.immutable, Some(true));
    assert_eq!(entry(&text, PLAINTEXT), BASE64_STANDARD.encode(entry(&raw, PLAINTEXT)).into_bytes());

    world.apply_data_key("dek", spec("Base64", false)).await;
    world.data_key_ready("dek").await;
    let mutable = world.secrets().get("dek").await.unwrap();
    assert_eq!(mutable.immutable, None);
    assert!(mutable.data == text.data);
    operator.stop().await.unwrap();
}

/// What a DataKey that was declared anew, or changed by its owner, is not: restored.
#[tokio::test]
async fn rule_12_what_the_spec_changes_is_not_reported_as_tampering() {
    let (world, operator) = with_key("r12-no-alarm").await;
    for encoding in ["Raw", "Hex", "Base64"] {
        let secret = json!({"encoding": encoding, "immutable": encoding != "Base64"});
        world.apply_data_key("dek", under_orders(json!({"secret": secret}))).await;
        world.data_key_ready("dek").await;
    }
    // Events come in order: after this one, those of the above would be there.
    foreign_secret(&world, "dek-2").await;
    world.apply_data_key("dek", under_orders(json!({"secret": {"name": "dek-2"}}))).await;
    world.event("dek", reason::SECRET_CONFLICT).await;
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let all = events.list(&ListParams::default()).await.unwrap();
    let restored: Vec<_> =
        all.iter().filter(|e| e.reason.as_deref() == Some(reason::SECRET_RESTORED)).map(|e| &e.note).collect();
    assert!(restored.is_empty(), "{restored:?}");
    operator.stop().await.unwrap();
}

/// Empties the status, as a restore without the status subresource does.
pub async fn lose_status(world: &World, name: &str) {
    let api: Api<DataKey> = Api::namespaced(world.operator_client().await, &world.namespace);
    let object = DataKey { status: None, ..api.get(name).await.unwrap() };
    api.replace_status(name, &PostParams::default(), &object).await.unwrap();
}

#[tokio::test]
async fn rule_12_a_given_ciphertext_is_delivered() {
    let (world, operator) = with_key("r12-given").await;
    world
        .apply_data_key("origin", under_orders(json!({"encryptionContext": {"app": "shop"}, "numberOfBytes": 7})))
        .await;
    let given = blob(&world.data_key_ready("origin").await);
    let identity = format!("{}/origin", world.namespace);
    let context = json!({"app": "shop", metadata::DATA_KEY: identity});
    let spec = |context: &Value, more: Value| {
        let mut spec = under_orders(json!({"ciphertextBlob": given, "encryptionContext": context}));
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let plaintext = entry(&world.secrets().get("origin").await.unwrap(), PLAINTEXT);
    for (name, more) in [("free", json!({})), ("declared", json!({"numberOfBytes": 7}))] {
        world.apply_data_key(name, spec(&context, more)).await;
        let delivered = world.data_key_ready(name).await;
        assert_eq!(blob(&delivered), given);
        let secret = world.secrets().get(name).await.unwrap();
        assert_eq!(entry(&secret, PLAINTEXT), plaintext, "{name}");
        let written: Value = serde_json::from_slice(&entry(&secret, "encryptionContext")).unwrap();
        assert_eq!(written, context, "{name}");
        assert!(deleted_and_restored(&world, name).await.data == secret.data, "{name}");
    }

    world.apply_key("others", json!({})).await;
    world.key_ready("others").await;
    let mut under_others = spec(&context, json!({}));
    under_others["keyRef"]["name"] = json!("others");
    let mut flipped = BASE64_STANDARD.decode(&given).unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    let mut damaged = spec(&context, json!({}));
    damaged["ciphertextBlob"] = json!(BASE64_STANDARD.encode(flipped));
    let mut no_blob = spec(&context, json!({}));
    no_blob["ciphertextBlob"] = json!("AAAA");
    for (name, spec) in [
        ("no-context", spec(&json!({}), json!({}))),
        ("half-context", spec(&json!({"app": "shop"}), json!({}))),
        ("other-context", spec(&json!({"app": "x", metadata::DATA_KEY: identity}), json!({}))),
        ("other-length", spec(&context, json!({"numberOfBytes": 8}))),
        ("other-key", under_others),
        ("damaged", damaged),
        ("no-blob", no_blob),
    ] {
        world.apply_data_key(name, spec).await;
        let stalled = world.data_key_says(name, STALLED, "True", reason::INVALID_CIPHERTEXT).await;
        let message = &condition(conditions_of(&stalled), READY).message;
        assert!(message.contains("spec.ciphertextBlob"), "{message}");
        assert!(world.secrets().get_opt(name).await.unwrap().is_none(), "{name}: nothing is delivered");
        world.event(name, reason::INVALID_CIPHERTEXT).await;
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_a_renamed_secret_is_moved_or_left() {
    let (world, operator) = with_key("r12-renamed").await;
    for (policy, stays) in [("Retain", true), ("Delete", false)] {
        let dek = format!("dek-{}", policy.to_lowercase());
        let (old, new) = (format!("{dek}-old"), format!("{dek}-new"));
        let spec = |name: &str| under_orders(json!({"secret": {"name": name, "deletionPolicy": policy}}));
        world.apply_data_key(&dek, spec(&old)).await;
        let before = world.data_key_ready(&dek).await;
        let data = world.secrets().get(&old).await.unwrap().data;
        world.apply_data_key(&dek, spec(&new)).await;
        let after = world.data_key_ready(&dek).await;
        assert_eq!(blob(&after), blob(&before));
        assert_eq!(after.status.unwrap().secret_ref.unwrap().name, new);
        assert!(world.secrets().get(&new).await.unwrap().data == data, "{policy}");
        assert_eq!(world.secrets().get_opt(&old).await.unwrap().is_some(), stays, "{policy}");
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_encodings_and_lengths() {
    let (world, operator) = with_key("r12-forms").await;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes();
    let cases = [1, 16, 32, 1024].into_iter().flat_map(|n| ["Raw", "Base64", "Hex"].map(|e| (n, e)));
    for (length, encoding) in cases.clone() {
        let spec = under_orders(json!({"numberOfBytes": length, "secret": {"encoding": encoding}}));
        world.apply_data_key(&format!("dek-{length}-{}", encoding.to_lowercase()), spec).await;
    }
    for (length, encoding) in cases {
        let name = format!("dek-{length}-{}", encoding.to_lowercase());
        let data_key = world.data_key_ready(&name).await;
        let context = complete_context(&world.namespace, &name, &[]);
        let plaintext = decrypted(&world, "orders", &context, &blob(&data_key)).await;
        assert_eq!(plaintext.len(), length);
        let expected = match encoding {
            "Raw" => plaintext,
            "Base64" => BASE64_STANDARD.encode(plaintext).into_bytes(),
            _ => hex(&plaintext),
        };
        assert_eq!(entry(&world.secrets().get(&name).await.unwrap(), PLAINTEXT), expected, "{name}");
    }
    for (spec, length) in [("AES_256", 32), ("AES_128", 16)] {
        let name = format!("dek-{length}");
        world.apply_data_key(&name, under_orders(json!({"keySpec": spec}))).await;
        world.data_key_ready(&name).await;
        assert_eq!(entry(&world.secrets().get(&name).await.unwrap(), PLAINTEXT).len(), length, "{spec}");
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_without_plaintext() {
    let (world, operator) = with_key("r12-without").await;
    world.apply_data_key("dek", under_orders(json!({"withoutPlaintext": true}))).await;
    let data_key = world.data_key_ready("dek").await;
    let secret = world.secrets().get("dek").await.unwrap();
    assert_eq!(entry(&secret, CIPHERTEXT_BLOB), blob(&data_key).into_bytes());
    assert!(!secret.data.unwrap().contains_key(PLAINTEXT));

    // It can be asked for later, and taken away again.
    world.apply_data_key("dek", under_orders(json!({}))).await;
    world.data_key_ready("dek").await;
    let plaintext = entry(&world.secrets().get("dek").await.unwrap(), PLAINTEXT);
    let context = complete_context(&world.namespace, "dek", &[]);
    assert_eq!(plaintext, decrypted(&world, "orders", &context, &blob(&data_key)).await);
    world.apply_data_key("dek", under_orders(json!({"withoutPlaintext": true}))).await;
    world.data_key_ready("dek").await;
    assert!(!world.secrets().get("dek").await.unwrap().data.unwrap().contains_key(PLAINTEXT));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_deletion_policy_decides_whether_the_secret_goes_with_its_data_key() {
    let (world, operator) = with_key("r12-policy").await;
    for (name, policy) in [("delete", "Delete"), ("retain", "Retain"), ("changed", "Delete")] {
        world.apply_data_key(name, under_orders(json!({"secret": {"deletionPolicy": policy}}))).await;
        world.data_key_ready(name).await;
    }
    world.apply_data_key("changed", under_orders(json!({"secret": {"deletionPolicy": "Retain"}}))).await;
    world.data_key_ready("changed").await;
    let owners = async |name: &str| world.secrets().get(name).await.unwrap().owner_references().len();
    assert_eq!((owners("delete").await, owners("retain").await, owners("changed").await), (1, 0, 0));

    // `delete` last: when the garbage collector has dealt with it, it has dealt with the others.
    for name in ["retain", "changed", "delete"] {
        world.data_keys().delete(name, &DeleteParams::default()).await.unwrap();
    }
    gone(&world.secrets(), "delete").await;
    for name in ["retain", "changed"] {
        let secret = world.secrets().get(name).await.unwrap();
        assert!(secret.data.unwrap().contains_key(PLAINTEXT), "{name}");
    }
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_12_no_two_data_keys_are_the_same() {
    let (world, operator) = with_key("r12-distinct").await;
    for i in 0..8 {
        world.apply_data_key(&format!("dek-{i}"), under_orders(json!({}))).await;
    }
    let mut seen: Vec<ByteString> = Vec::new();
    for i in 0..8 {
        world.data_key_ready(&format!("dek-{i}")).await;
        seen.push(ByteString(entry(&world.secrets().get(&format!("dek-{i}")).await.unwrap(), PLAINTEXT)));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8);
    operator.stop().await.unwrap();
}
