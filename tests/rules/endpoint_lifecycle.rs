//! What the lifecycle calls of the KMS endpoint do to keys, on a real API server with an operator that carries it out.

use cmk_operator::{
    api::{ClusterKeyStore, metadata},
    kms::{EncryptionContext, KeyState, Operation, Origin, Rejected},
    server::{
        Failure,
        operations::{KeyDescription, KeyReference, NewKeyDeclaration, OperationSettings, RotationPolicy},
    },
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::endpoint::{Endpoint, by_id};
use crate::helpers::{external, merge, recreate_namespace};
use crate::support::{
    eventually,
    world::{SOON, World, key_id},
};

fn state(description: &KeyDescription) -> KeyState {
    description.key.record.state(description.now)
}

fn rejected<T: std::fmt::Debug>(expected: Rejected, result: Result<T, Failure>) {
    assert!(matches!(&result, Err(Failure::Rejected { rejected, .. }) if *rejected == expected), "{result:?}");
}

#[tokio::test]
async fn a_call_reads_what_the_one_before_wrote() {
    let (world, operator) = World::with_operator("ep-states").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    let (kms, call, key) = (&endpoint.kms, &mut endpoint.alibaba(), by_id(&id));
    let context = EncryptionContext::default();
    for _ in 0..3 {
        kms.disable_key(call, &key).await.unwrap();
        assert_eq!(state(&kms.describe_key(call, &key).await.unwrap()), KeyState::Disabled);
        rejected(Rejected::Disabled, kms.encrypt(call, &key, &context, b"x").await.map(drop));
        kms.enable_key(call, &key).await.unwrap();
        assert_eq!(state(&kms.describe_key(call, &key).await.unwrap()), KeyState::Enabled);
        kms.encrypt(call, &key, &context, b"x").await.unwrap();
    }
    kms.update_key_description(call, &key, "orders of the shop").await.unwrap();
    let tags = [("team".to_owned(), "a".to_owned()), ("cost/centre".to_owned(), "é~1".to_owned())];
    kms.tag_resource(call, &key, &tags.clone().into()).await.unwrap();
    kms.untag_resource(call, &key, &["team".into(), "never there".into()]).await.unwrap();
    kms.update_rotation_policy(call, &key, RotationPolicy::Every(30)).await.unwrap();
    let described = kms.describe_key(call, &key).await.unwrap();
    let record = &described.key.record;
    assert_eq!((record.description.as_str(), record.rotation_interval_days), ("orders of the shop", Some(30)));
    assert_eq!(record.tags, tags[1..].iter().cloned().collect());
    kms.update_rotation_policy(call, &key, RotationPolicy::Never).await.unwrap();
    assert_eq!(kms.describe_key(call, &key).await.unwrap().key.record.rotation_interval_days, None);
    assert_eq!(call.key_id.map(|id| id.to_string()), Some(id.clone()));

    let too_long = kms.update_key_description(call, &key, &"x".repeat(8193)).await;
    assert!(
        matches!(&too_long, Err(Failure::InvalidParameter { name: "Description", problem }) if problem.contains("8192")),
        "{too_long:?}"
    );
    let refused = kms.update_rotation_policy(call, &key, RotationPolicy::Every(3)).await;
    assert!(matches!(refused, Err(Failure::InvalidParameter { name: "RotationInterval", .. })), "{refused:?}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_deletion_leaves_what_each_api_says() {
    let (world, operator) = World::with_operator("ep-cancel").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    let (kms, key) = (&endpoint.kms, by_id(&id));
    for (mut call, expected) in [(endpoint.aws(), KeyState::Disabled), (endpoint.alibaba(), KeyState::Enabled)] {
        let call = &mut call;
        rejected(Rejected::StateModifiedFailed, kms.cancel_key_deletion(call, &key).await);
        let scheduled = kms.schedule_key_deletion(call, &key, Some(30)).await.unwrap();
        assert_eq!(state(&scheduled), KeyState::PendingDeletion);
        assert_eq!(scheduled.key.record.deletion.as_ref().unwrap().pending_days, 30);
        rejected(Rejected::StateModifiedFailed, kms.schedule_key_deletion(call, &key, Some(7)).await);
        rejected(Rejected::PendingDeletion, kms.update_key_description(call, &key, "no").await);
        rejected(Rejected::PendingDeletion, kms.set_deletion_protection(call, &key, true).await);
        assert_eq!(state(&kms.cancel_key_deletion(call, &key).await.unwrap()), expected);
        assert_eq!(state(&kms.describe_key(call, &key).await.unwrap()), expected);
    }
    let scheduled = kms.schedule_key_deletion(&mut endpoint.alibaba(), &key, None).await.unwrap();
    assert_eq!(scheduled.key.record.deletion.as_ref().unwrap().pending_days, 30, "as the key has declared it by now");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_7_protection_counts_for_callers() {
    let (world, operator) = World::with_operator("ep-rule7").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    world.apply_data_key("dek", json!({})).await;
    world.data_key_ready("dek").await;
    let service = key_id(&world.key_ready(metadata::SERVICE_KEY).await);
    let endpoint = Endpoint::new(&world).await;
    let (kms, call, key) = (&endpoint.kms, &mut endpoint.alibaba(), by_id(&id));

    kms.set_deletion_protection(call, &key, true).await.unwrap();
    let refused = kms.schedule_key_deletion(call, &key, Some(7)).await;
    assert!(matches!(refused, Err(Failure::DeletionProtected(_))), "{refused:?}");
    kms.set_deletion_protection(call, &key, false).await.unwrap();
    kms.schedule_key_deletion(call, &key, Some(7)).await.unwrap();

    let service = by_id(&service);
    let before = endpoint.edits();
    let all = [
        kms.disable_key(call, &service).await,
        kms.schedule_key_deletion(call, &service, None).await.map(drop),
        kms.delete_alias(call, metadata::SERVICE_KEY_ALIAS).await,
    ];
    for result in all {
        assert!(matches!(result, Err(Failure::ServiceManaged(_))), "{result:?}");
    }
    assert_eq!(endpoint.edits(), before);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_11_what_the_store_can_not_do_is_not_asked_for() {
    let (world, operator) = World::with_operator("ep-rule11").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    for days in [6, 367] {
        let refused = endpoint.kms.schedule_key_deletion(&mut endpoint.aws(), &by_id(&id), Some(days)).await;
        let Err(Failure::InvalidParameter { name: "PendingWindowInDays", problem }) = refused else {
            panic!("{refused:?}")
        };
        assert!(problem.contains("7 to 366"), "{problem}");
    }
    assert_eq!(endpoint.edits(), 0);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn a_rotation_answers_its_version() {
    let (world, operator) = World::with_operator("ep-rotate").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    let (kms, call, key) = (&endpoint.kms, &mut endpoint.aws(), by_id(&id));
    let context = EncryptionContext::default();
    let old = kms.encrypt(call, &key, &context, b"before").await.unwrap();
    let version = kms.rotate(call, &key).await.unwrap();
    assert!(version.on_demand);
    let versions = kms.list_key_versions(call, &key).await.unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!((versions[0].on_demand, &versions[1]), (false, &version));
    assert_eq!(kms.encrypt(call, &key, &context, b"x").await.unwrap().key_version_id, version.id);
    let opened = kms.decrypt(call, None, &context, &old.ciphertext_blob).await.unwrap();
    assert_eq!(opened.plaintext.expose(), b"before");

    kms.disable_key(call, &key).await.unwrap();
    rejected(Rejected::Disabled, kms.rotate(call, &key).await);
    kms.enable_key(call, &key).await.unwrap();
    for _ in 1..25 {
        kms.rotate(call, &key).await.unwrap();
    }
    let refused = kms.rotate(call, &key).await;
    assert!(matches!(refused, Err(Failure::LimitExceeded(_))), "{refused:?}");
    kms.rotate(&mut endpoint.alibaba(), &key).await.unwrap();
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn every_create_makes_one_key() {
    let (world, operator) = World::with_operator("ep-create").await;
    let endpoint = Endpoint::new(&world).await;
    let (kms, call) = (&endpoint.kms, &mut endpoint.aws());
    let new = NewKeyDeclaration {
        origin: Origin::AwsKms,
        description: Some("made by a call".into()),
        tags: [("team".into(), "a".into())].into(),
        deletion_protection: true,
        ..NewKeyDeclaration::default()
    };
    let first = kms.create_key(call, &new).await.unwrap();
    let second = kms.create_key(call, &new).await.unwrap();
    assert_ne!(first.name.key_id, second.name.key_id, "a call is not recognised");
    assert_eq!(state(&first), KeyState::Enabled);
    assert_eq!((first.key.record.origin, first.key.record.deletion_protection), (Origin::AwsKms, true));
    let external = NewKeyDeclaration { origin: Origin::External, ..NewKeyDeclaration::default() };
    assert_eq!(state(&kms.create_key(call, &external).await.unwrap()), KeyState::PendingImport);

    let objects = world.keys().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(objects.len(), 3);
    for object in &objects {
        assert!(object.name_any().starts_with("key-"), "{}", object.name_any());
        let user = object.annotations().get(metadata::REQUESTED_BY).cloned();
        assert_eq!(user, Some(format!("system:serviceaccount:{}:api", world.namespace)));
    }
    let listed: Vec<_> = kms.list_keys(call).await.unwrap().iter().map(|key| key.name.key_id).collect();
    assert!(listed.is_sorted() && listed.len() == 3 && listed.contains(&first.name.key_id));

    // Nothing is made of what is refused.
    let too_long = NewKeyDeclaration { description: Some("x".repeat(8193)), ..NewKeyDeclaration::default() };
    let refused = kms.create_key(call, &too_long).await;
    assert!(matches!(refused, Err(Failure::InvalidParameter { .. })), "{refused:?}");
    let reserved = NewKeyDeclaration { tags: [("aws:x".into(), "a".into())].into(), ..NewKeyDeclaration::default() };
    assert!(matches!(kms.create_key(call, &reserved).await, Err(Failure::InvalidTag(_))));
    endpoint.deny(&["create"]);
    let refused = kms.create_key(call, &NewKeyDeclaration::default()).await;
    assert!(matches!(&refused, Err(Failure::Denied(text)) if text.contains("create")), "{refused:?}");
    let paused = Endpoint::with(&world, OperationSettings { no_new_keys: true, ..OperationSettings::default() }).await;
    let refused = paused.kms.create_key(call, &NewKeyDeclaration::default()).await;
    assert!(matches!(refused, Err(Failure::Unsupported(_))), "{refused:?}");
    assert_eq!(world.keys().list(&ListParams::default()).await.unwrap().items.len(), 3);
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn who_lacks_a_verb_learns_nothing_about_keys() {
    let (world, operator) = World::with_operator("ep-denied").await;
    world.apply_key("orders", json!({"alias": "alias/orders"})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    let (kms, call) = (&endpoint.kms, &mut endpoint.alibaba());
    endpoint.deny(&["get", "list", "patch", "delete"]);
    let missing = uuid::Uuid::nil().to_string();
    let mut answers = Vec::new();
    for key in [&*id, &*missing, "alias/orders", "alias/none"].map(KeyReference::parse) {
        answers.push(kms.describe_key(call, &key).await.map(drop).unwrap_err());
    }
    answers.push(kms.list_aliases(call, Some(&by_id(&id))).await.map(drop).unwrap_err());
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    let Failure::Denied(sentence) = &answers[0] else { panic!("{answers:?}") };
    assert!(sentence.contains("get") && !sentence.contains(&id) && !sentence.contains("orders"), "{sentence}");
    assert!(matches!(kms.list_keys(call).await, Err(Failure::Denied(_))));
    assert!(matches!(kms.enable_key(call, &by_id(&id)).await, Err(Failure::Denied(_))));
    let scheduled = kms.schedule_key_deletion(call, &by_id(&id), None).await.unwrap_err();
    assert!(matches!(&scheduled, Failure::Denied(text) if text.contains("delete")), "{scheduled:?}");

    endpoint.deny(&[]);
    let record = kms.describe_key(call, &by_id(&id)).await.unwrap();
    let arn = |region: &str, account: &str| format!("acs:kms:{region}:{account}:key/{id}");
    kms.describe_key(call, &by_id(&arn("cn-hangzhou", "123456"))).await.unwrap();
    for elsewhere in [arn("cn-beijing", "123456"), arn("cn-hangzhou", "7")] {
        let result = kms.describe_key(call, &by_id(&elsewhere)).await;
        assert!(matches!(result, Err(Failure::KeyNotFound(_))), "{elsewhere}");
    }
    assert_eq!(record.name.key_id.to_string(), id);
    operator.stop().await.unwrap();
}

/// Rule 5: a key of an earlier namespace is nobody's in a new one of that name, whatever an object there says.
#[tokio::test]
async fn rule_5_an_annotation_gives_nobody_a_key() {
    let (world, operator) = World::with_operator("ep-rule5").await;
    world.apply_key("orders", json!({"deletionPolicy": "Retain"})).await;
    let id = key_id(&world.key_ready("orders").await);
    recreate_namespace(&world).await;
    let forged = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
        "metadata": {"name": "orders", "annotations": {metadata::KEY_ID: id}}, "spec": {},
    });
    world.keys().create(&PostParams::default(), &serde_json::from_value(forged).unwrap()).await.unwrap();
    world.key_says("orders", "Stalled", "True", "NamespaceRecreated").await;
    let endpoint = Endpoint::new(&world).await;
    let (kms, call) = (&endpoint.kms, &mut endpoint.alibaba());
    assert_eq!(kms.describe_key(call, &by_id(&id)).await.unwrap_err(), Failure::KeyNotFound(id.clone()));
    assert_eq!(kms.enable_key(call, &by_id(&id)).await.unwrap_err(), Failure::KeyNotFound(id));
    assert_eq!(kms.list_keys(call).await.unwrap(), []);
    // Neither does a DataKey get at it.
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_says("dek", "Ready", "False", "KeyNotReady").await;
    operator.stop().await.unwrap();
}

/// Rule 12: nobody but the operator encrypts with the prefix that says whose a data key is.
#[tokio::test]
async fn rule_12_the_reserved_prefix_is_refused() {
    let (world, operator) = World::with_operator("ep-rule12").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    let (kms, call, key) = (&endpoint.kms, &mut endpoint.alibaba(), by_id(&id));
    let pairs = [(metadata::DATA_KEY.to_owned(), format!("{}/dek", world.namespace))];
    let forged = EncryptionContext::try_from_pairs(pairs).unwrap();
    let length = cmk_operator::server::operations::DataKeyLength(32);
    let plain = kms.encrypt(call, &key, &EncryptionContext::default(), b"x").await.unwrap();
    let source = (None, &EncryptionContext::default(), &*plain.ciphertext_blob);
    let all = [
        kms.encrypt(call, &key, &forged, b"x").await.map(drop),
        kms.generate_data_key(call, &key, &forged, length).await.map(drop),
        kms.re_encrypt(call, source, (&key, &forged)).await.map(drop),
    ];
    for result in all {
        assert!(matches!(result, Err(Failure::InvalidParameter { name: "EncryptionContext", .. })), "{result:?}");
    }
    operator.stop().await.unwrap();
}

/// Rule 11: a store that takes no keys of the namespace leaves no object behind.
#[tokio::test]
async fn rule_11_a_store_that_is_closed_leaves_nothing_behind() {
    let bed = crate::support::world::private_bed().await;
    let world = World::on(bed, "ep-closed").await;
    let operator = world.start().await;
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "nobody"}}});
    let store = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "ClusterKeyStore", "metadata": {"name": "default"},
        "spec": {"embedded": {}, "allowedNamespaces": selector},
    });
    let stores: Api<ClusterKeyStore> = Api::all(world.client.clone());
    stores.create(&PostParams::default(), &serde_json::from_value(store).unwrap()).await.unwrap();
    let endpoint = Endpoint::new(&world).await;
    let refused = endpoint.kms.create_key(&mut endpoint.alibaba(), &NewKeyDeclaration::default()).await;
    assert!(matches!(&refused, Err(Failure::Unsupported(text)) if text.contains("takes no keys")), "{refused:?}");
    assert_eq!(world.keys().list(&ListParams::default()).await.unwrap().items, []);
    operator.stop().await.unwrap();
}

/// What a key waits for otherwise holds no change up.
#[tokio::test]
async fn a_key_that_waits_for_something_else_is_changed() {
    let (world, operator) = World::with_operator("ep-waiting").await;
    world.apply_key("orders", external("missing")).await;
    let key = world.key_says("orders", "Ready", "False", "MaterialNotFound").await;
    world.apply_key("taken", json!({"alias": "alias/taken"})).await;
    world.key_ready("taken").await;
    world.apply_key("conflicting", json!({"alias": "alias/taken"})).await;
    let conflicting = world.key_says("conflicting", "Ready", "False", "AliasConflict").await;
    let endpoint = Endpoint::new(&world).await;
    for id in [key_id(&key), key_id(&conflicting)] {
        let (kms, call, key) = (&endpoint.kms, &mut endpoint.alibaba(), by_id(&id));
        kms.update_key_description(call, &key, "changed").await.unwrap();
        assert_eq!(kms.describe_key(call, &key).await.unwrap().key.record.description, "changed");
    }
    operator.stop().await.unwrap();
}

/// What the operator refuses is answered at once, and not when the time is up.
#[tokio::test]
async fn what_the_operator_refuses_is_said() {
    let (world, operator) = World::with_operator("ep-refused").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    let (kms, call, key) = (&endpoint.kms, &mut endpoint.alibaba(), by_id(&id));
    // The record says so before the object does: a change of both is in the making.
    merge(&world.keys(), "orders", json!({"spec": {"scheduleDeletion": true}})).await;
    eventually("the deletion to be seen", SOON, async || {
        match kms.describe_key(call, &key).await.map(|key| state(&key)) {
            Ok(KeyState::PendingDeletion) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let result = kms.tag_resource(call, &key, &[("a".into(), "b".into())].into()).await;
    let Err(Failure::Rejected { operation: Operation::TagResource, rejected: Rejected::PendingDeletion, .. }) = result
    else {
        panic!("{result:?}")
    };
    world.keys().delete("orders", &DeleteParams::default()).await.unwrap();
    operator.stop().await.unwrap();
}
