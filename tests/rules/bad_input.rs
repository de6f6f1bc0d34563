//! Bad input gets a clear error at once and changes nothing; what is damaged stops nobody else (design, rule 16).

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::api::{
    CustomerMasterKey,
    conditions::{READY, STALLED, reason},
    metadata,
};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};

use crate::{
    bad_manifests::message,
    helpers::{
        another_pass, blob, complete_context, condition, conditions_of, decrypted, later_event, merge,
        operator_cluster, passes,
    },
    support::{
        eventually,
        world::{SOON, World, apply, entry, key_id, private_bed, record_json},
    },
};

#[tokio::test]
async fn bad_input_that_changes_what_is_immutable_is_refused() {
    let (world, operator) = World::with_operator("bad-change").await;
    world.apply_key("default", json!({})).await;
    world.apply_key("aws", json!({"origin": "AWS_KMS"})).await;
    let (default, aws) = (world.key_ready("default").await, world.key_ready("aws").await);
    for (name, spec) in [
        ("default", json!({"origin": "AWS_KMS"})),
        ("aws", json!({"origin": "Aliyun_KMS"})),
        ("aws", json!({"description": "d"})),
    ] {
        let said = message(apply(&world.keys(), name, "CustomerMasterKey", spec).await.unwrap_err());
        assert!(said.contains("spec.origin is immutable"), "{said}");
    }
    // Absent means the default, so this changes nothing.
    world.apply_key("default", json!({"origin": "Aliyun_KMS", "keyUsage": "ENCRYPT/DECRYPT"})).await;
    assert_eq!(key_id(&world.key_ready("default").await), key_id(&default));
    assert_eq!(world.keys().get("aws").await.unwrap(), aws);

    let spec = |fields: Value| {
        let mut spec = json!({"keyRef": {"name": "default"}, "encryptionContext": {"a": "b"}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec
    };
    world.apply_data_key("dek", spec(json!({}))).await;
    let data_key = world.data_key_ready("dek").await;
    let secret = world.secrets().get("dek").await.unwrap();
    for (fields, field) in [
        (json!({"keyRef": {"name": "aws"}}), "spec.keyRef is immutable"),
        (json!({"numberOfBytes": 16}), "the length of a data key"),
        (json!({"keySpec": "AES_128"}), "the length of a data key"),
        (json!({"encryptionContext": {"a": "c"}}), "spec.encryptionContext is immutable"),
        (json!({"ciphertextBlob": "AAAA"}), "spec.ciphertextBlob is immutable"),
    ] {
        let said = message(apply(&world.data_keys(), "dek", "DataKey", spec(fields)).await.unwrap_err());
        assert!(said.contains(field), "{said}");
    }
    later_event(&world, "default").await;
    assert_eq!(world.data_keys().get("dek").await.unwrap(), data_key, "nothing was changed");
    assert_eq!(world.secrets().get("dek").await.unwrap(), secret, "nothing was changed");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn bad_input_with_unknown_fields_is_refused_by_kubectl() {
    let world = World::new("bad-field").await;
    for (kind, spec) in [
        ("CustomerMasterKey", json!({"pendingDeletionDay": 7})),
        ("DataKey", json!({"keyRef": {"name": "orders"}, "secret": {"encodings": "Hex"}})),
    ] {
        let manifest = json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": kind, "metadata": {"name": "bad"}, "spec": spec,
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), manifest.to_string()).unwrap();
        // kubectl's default is strict.
        let output = world.kubectl(&["apply", "-f", file.path().to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("unknown field \"spec."), "{said}");
    }
    assert!(world.keys().get_opt("bad").await.unwrap().is_none());
    assert!(world.data_keys().get_opt("bad").await.unwrap().is_none());
}

/// A world with an operator, the key `victim` with the data key `dek`, and the key `bystander`.
async fn with_victim(name: &str) -> (World, crate::support::world::Operator) {
    let (world, operator) = World::with_operator(name).await;
    for key in ["victim", "bystander"] {
        world.apply_key(key, json!({})).await;
        world.key_ready(key).await;
    }
    world.apply_data_key("dek", json!({"keyRef": {"name": "victim"}})).await;
    world.data_key_ready("dek").await;
    (world, operator)
}

async fn record_of(world: &World, name: &str) -> Secret {
    let records = world.records().await;
    records.into_iter().find(|r| record_json(r)["owner"]["name"] == name).unwrap()
}

/// Puts these bytes into the record.
async fn put(world: &World, record: &Secret, data: &[(&str, Vec<u8>)]) {
    let data: serde_json::Map<_, _> =
        data.iter().map(|(key, bytes)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(bytes)))).collect();
    merge(&world.operator_secrets(), &record.name_any(), json!({"data": data})).await;
}

#[tokio::test]
async fn bad_input_a_corrupt_record_stalls_its_key_and_no_other() {
    let (world, operator) = with_victim("bad-record").await;
    let good = record_of(&world, "victim").await;
    let other = record_of(&world, "bystander").await;
    let id = key_id(&world.key_ready("victim").await);
    let plaintext = entry(&world.secrets().get("dek").await.unwrap(), "plaintext");
    let (record, mac) = (entry(&good, "record"), entry(&good, "mac"));
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let edited = String::from_utf8(record.clone()).unwrap().replace("\"enabled\":true", "\"enabled\":false");
    let newer = String::from_utf8(record.clone()).unwrap().replace("\"format\":1", "\"format\":2");
    for (what, data) in [
        ("a bit of the record", vec![("record", flipped(&record, record.len() / 2))]),
        ("a bit of the MAC", vec![("mac", flipped(&mac, 0))]),
        ("edited", vec![("record", edited.into_bytes())]),
        ("truncated", vec![("record", record[..record.len() / 2].to_vec())]),
        ("empty", vec![("record", vec![]), ("mac", vec![])]),
        ("swapped", vec![("record", entry(&other, "record")), ("mac", entry(&other, "mac"))]),
        ("a newer format under an old MAC", vec![("record", newer.into_bytes())]),
    ] {
        put(&world, &good, &data).await;
        let bad = world.operator_secrets().get(&good.name_any()).await.unwrap();
        let stalled = world.key_says("victim", STALLED, "True", reason::RECORD_TAMPERED).await;
        let said = &condition(&stalled.status.as_ref().unwrap().conditions, READY).message;
        assert!(said.contains(&good.name_any()) && said.contains("backup"), "{what}: {said}");
        assert_eq!(key_id(&stalled), id, "{what}: the id last seen is still there to look for");
        world.data_key_says("dek", READY, "False", reason::KEY_NOT_READY).await;
        // All others go on, and nothing is done to the record.
        later_event(&world, "bystander").await;
        let now = world.operator_secrets().get(&good.name_any()).await.unwrap();
        assert_eq!(now.resource_version(), bad.resource_version(), "{what}: not rewritten");

        put(&world, &good, &[("record", record.clone()), ("mac", mac.clone())]).await;
        assert_eq!(key_id(&world.key_ready("victim").await), id, "{what}: Ready again by itself");
        world.data_key_ready("dek").await;
        assert_eq!(entry(&world.secrets().get("dek").await.unwrap(), "plaintext"), plaintext, "{what}");
    }
    world.event("victim", reason::RECORD_TAMPERED).await;
    assert_eq!(world.records().await.len(), 2, "and no new key was made");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn bad_input_a_corrupt_record_is_found_at_start_and_its_object_can_be_deleted() {
    let (world, operator) = with_victim("bad-start").await;
    operator.stop().await.unwrap();
    let good = record_of(&world, "victim").await;
    let mut mac = entry(&good, "mac");
    mac[31] ^= 0x80;
    put(&world, &good, &[("mac", mac)]).await;
    let operator = world.start().await;
    world.key_says("victim", STALLED, "True", reason::RECORD_TAMPERED).await;
    world.key_ready("bystander").await;
    later_event(&world, "bystander").await;

    let bad = world.operator_secrets().get(&good.name_any()).await.unwrap();
    world.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    world.delete_key("victim").await;
    let said = world.event("victim", reason::KEY_RETAINED).await;
    assert!(said.contains("left as it is"), "{said}");
    let kept = world.operator_secrets().get(&good.name_any()).await.unwrap();
    assert_eq!(kept.resource_version(), bad.resource_version(), "the record stays as it is");
    operator.stop().await.unwrap();
}

/// With its MAC made by the same root key, as a newer operator would.
#[tokio::test]
async fn bad_input_a_record_of_a_newer_format_is_refused_and_not_rewritten() {
    let (world, operator) = with_victim("bad-format").await;
    let good = record_of(&world, "victim").await;
    let root = world.operator_secrets().get(metadata::ROOT_KEY_SECRET).await.unwrap();
    let ring = cmk_operator::store::embedded::root_key::decode(&root, &world.operator_namespace).unwrap();
    let text = String::from_utf8(entry(&good, "record")).unwrap();
    for newer in [text.replace("\"format\":1", "\"format\":2"), text.replace("\"format\":1", "\"format\":1,\"new\":1")]
    {
        let mac = ring.record_mac(&good.name_any(), newer.as_bytes()).to_vec();
        put(&world, &good, &[("record", newer.into_bytes()), ("mac", mac)]).await;
        let bad = world.operator_secrets().get(&good.name_any()).await.unwrap();
        let stalled = world.key_says("victim", STALLED, "True", reason::RECORD_FORMAT_UNKNOWN).await;
        let said = &condition(&stalled.status.as_ref().unwrap().conditions, READY).message;
        assert!(said.contains(&good.name_any()), "{said}");
        later_event(&world, "bystander").await;
        let now = world.operator_secrets().get(&good.name_any()).await.unwrap();
        assert_eq!(now.resource_version(), bad.resource_version(), "not rewritten");

        let data = [("record", entry(&good, "record")), ("mac", entry(&good, "mac"))];
        put(&world, &good, &data).await;
        world.key_ready("victim").await;
    }
    operator.stop().await.unwrap();
}

/// A CRD that an older or a newer version installed, or that somebody loosened, lets through what this version
/// can't read.
#[tokio::test]
async fn bad_input_an_unreadable_object_is_reported_and_stops_nobody() {
    let world = World::on(private_bed().await, "bad-object").await;
    let operator = world.start().await;
    for key in ["victim", "bystander"] {
        world.apply_key(key, json!({})).await;
    }
    let before = world.key_ready("victim").await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "victim"}})).await;
    let data_key = world.data_key_ready("dek").await;
    world.key_ready("bystander").await;

    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for (crd, path) in [
        ("customermasterkeys.kms.cmk-operator.dev", vec!["deletionPolicy"]),
        ("datakeys.kms.cmk-operator.dev", vec!["secret", "encoding"]),
    ] {
        let mut object = serde_json::to_value(crds.get(crd).await.unwrap()).unwrap();
        let mut schema = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        for field in path {
            schema = &mut schema["properties"][field];
        }
        schema.as_object_mut().unwrap().remove("enum").unwrap();
        crds.replace(crd, &PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let raw = |kind: &ApiResource| -> Api<DynamicObject> {
        Api::namespaced_with(world.client.clone(), &world.namespace, kind)
    };
    let keys = raw(&ApiResource::erase::<CustomerMasterKey>(&()));
    let data_keys = raw(&ApiResource::erase::<cmk_operator::api::DataKey>(&()));
    let encoding = |value: &str| json!({"keyRef": {"name": "bystander"}, "secret": {"encoding": value}});
    eventually("the loose schemas to be in force", SOON, async || {
        apply(&keys, "new", "CustomerMasterKey", json!({"deletionPolicy": "Bogus"}))
            .await
            .map_err(|e| e.to_string())?;
        apply(&keys, "victim", "CustomerMasterKey", json!({"deletionPolicy": "Bogus"}))
            .await
            .map_err(|e| e.to_string())?;
        apply(&data_keys, "new", "DataKey", encoding("Bogus")).await.map_err(|e| e.to_string())
    })
    .await;

    for (api, name) in [(&keys, "new"), (&keys, "victim"), (&data_keys, "new")] {
        let reported = eventually(&format!("{name} to be reported"), SOON, async || {
            let object = api.get(name).await.map_err(|e| e.to_string())?;
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let says = |c: &Value| c["type"] == STALLED && c["status"] == "True" && c["reason"] == reason::UNREADABLE;
            if conditions.iter().any(says) { Ok(object) } else { Err(format!("{conditions:?}")) }
        })
        .await;
        let ready = &reported.data["status"]["conditions"][0];
        assert!(ready["message"].as_str().unwrap().contains("Bogus"), "{ready}");
        assert_eq!(reported.data["status"]["observedGeneration"], json!(reported.metadata.generation));
    }
    for name in ["new", "victim"] {
        let said = world.event(name, reason::UNREADABLE).await;
        assert!(said.contains("Bogus"), "{said}");
    }
    // All others go on, also data keys under the key whose object can't be read; nothing was done to keys.
    later_event(&world, "bystander").await;
    later_event(&world, "victim").await;
    assert_eq!(world.records().await.len(), 2, "no key for what can't be read");

    // Having said so once, it is not said again at every pass.
    let version = keys.get("new").await.unwrap().resource_version();
    let events = async || {
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), &world.namespace);
        let all = api.list(&ListParams::default()).await.unwrap();
        let mut versions: Vec<_> = all.iter().map(|e| (e.name_any(), e.resource_version())).collect();
        versions.retain(|(name, _)| name.starts_with("new") || name.starts_with("victim"));
        versions.sort();
        versions
    };
    let before_passes = events().await;
    for round in 0..3 {
        let counted = passes(&operator.metrics, "CustomerMasterKey");
        let touch = json!({"metadata": {"annotations": {"touched": round.to_string()}}});
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
        merge(&namespaces, &world.namespace, touch).await;
        another_pass(&operator.metrics, "CustomerMasterKey", counted).await;
        later_event(&world, "bystander").await;
    }
    assert_eq!(keys.get("new").await.unwrap().resource_version(), version, "a no-op pass writes nothing");
    assert_eq!(events().await, before_passes, "nor an Event");

    // Corrected, it goes on as if nothing had been.
    apply(&keys, "victim", "CustomerMasterKey", json!({"enabled": true})).await.unwrap();
    assert_eq!(key_id(&world.key_ready("victim").await), key_id(&before));
    assert_eq!(blob(&world.data_key_ready("dek").await), blob(&data_key));
    apply(&keys, "new", "CustomerMasterKey", json!({"enabled": true})).await.unwrap();
    world.key_ready("new").await;
    apply(&data_keys, "new", "DataKey", encoding("Hex")).await.unwrap();
    let made = world.data_key_ready("new").await;
    let context = complete_context(&world.namespace, "new", &[]);
    assert_eq!(decrypted(&world, "bystander", &context, &blob(&made)).await.len(), 32);
    assert_eq!(condition(conditions_of(&made), STALLED).status, "False");
    operator.stop().await.unwrap();
}

/// A Secret of the record's type that is no record at all, next to the records.
#[tokio::test]
async fn bad_input_a_secret_that_only_looks_like_a_record_is_ignored() {
    use cmk_operator::cluster::Secrets;
    let (world, operator) = with_victim("bad-stray").await;
    let stray = Secret {
        type_: Some(metadata::KEY_RECORD_TYPE.into()),
        data: Some([("record".to_owned(), ByteString(b"{}".to_vec()))].into()),
        metadata: kube::api::ObjectMeta {
            name: Some("cmk-stray".into()),
            namespace: Some(world.operator_namespace.clone()),
            ..Default::default()
        },
        ..Secret::default()
    };
    let stray = operator_cluster(&world).await.create_secret(&stray).await.unwrap();
    later_event(&world, "victim").await;
    operator.stop().await.unwrap();
    let operator = world.start().await;
    later_event(&world, "victim").await;
    let now = world.operator_secrets().get("cmk-stray").await.unwrap();
    assert_eq!(now.resource_version(), stray.resource_version(), "left alone");
    operator.stop().await.unwrap();
}
