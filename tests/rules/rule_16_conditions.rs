//! Rule 16: every condition at every pass, written when it changed; a failure is a condition and an Event.

use std::collections::BTreeMap;

use cmk_operator::api::{
    conditions::{READY, RECONCILING, STALLED, reason},
    metadata,
};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        core::v1::Namespace,
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::{
    helpers::{another_pass, condition, conditions_of, foreign_secret, merge, passes},
    support::{
        eventually,
        world::{SOON, World},
    },
};

const KEY: &str = "CustomerMasterKey";
const DATA_KEY: &str = "DataKey";

/// The versions of everything that the operator could write.
async fn versions(world: &World) -> BTreeMap<String, String> {
    fn of<K: Resource<DynamicType = ()>>(all: impl IntoIterator<Item = K>) -> Vec<(String, String)> {
        let name = |object: &K| format!("{} {}", K::kind(&()), object.name_any());
        all.into_iter().map(|object| (name(&object), object.resource_version().unwrap())).collect()
    }
    let list = ListParams::default();
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut all = of(world.keys().list(&list).await.unwrap());
    all.extend(of(world.data_keys().list(&list).await.unwrap()));
    all.extend(of(world.secrets().list(&list).await.unwrap()));
    all.extend(of(world.operator_secrets().list(&list).await.unwrap()));
    all.extend(of(events.list(&list).await.unwrap()));
    all.into_iter().collect()
}

#[tokio::test]
async fn rule_16_a_pass_that_changes_nothing_writes_nothing() {
    let (world, operator) = World::with_operator("r16-no-op").await;
    world.apply_key("orders", json!({"description": "d", "tags": {"a": "b"}})).await;
    let template = json!({"labels": {"a": "b"}, "annotations": {"c": "d"}, "deletionPolicy": "Delete"});
    let spec = json!({"keyRef": {"name": "orders"}, "encryptionContext": {"x": "y"}, "secret": template});
    world.apply_data_key("dek", spec).await;
    world.apply_key("doomed", json!({"scheduleDeletion": true, "pendingDeletionDays": 7, "enabled": false})).await;
    world.apply_data_key("waiting", json!({"keyRef": {"name": "nothing"}})).await;
    world.apply_data_key("refused", json!({"keyRef": {"name": "doomed"}})).await;
    world.key_ready("orders").await;
    world.key_ready("doomed").await;
    world.data_key_ready("dek").await;
    world.data_key_says("waiting", READY, "False", reason::KEY_NOT_FOUND).await;
    world.data_key_says("refused", READY, "False", reason::KEY_PENDING_DELETION).await;
    world.event("waiting", reason::KEY_NOT_FOUND).await;
    world.event("refused", reason::KEY_PENDING_DELETION).await;

    // Each touch is by somebody else, to something that the operator does not care about.
    let touch = |n: u32| json!({"metadata": {"annotations": {"touched": n.to_string()}}});
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    for round in 0..3 {
        let before = (passes(&operator.metrics, KEY), passes(&operator.metrics, DATA_KEY));
        let mut expected = versions(&world).await;
        match round {
            0 => {
                let key = merge(&world.keys(), "orders", touch(round)).await;
                let data_key = merge(&world.data_keys(), "dek", touch(round)).await;
                expected.insert(format!("{KEY} orders"), key.resource_version().unwrap());
                expected.insert(format!("{DATA_KEY} dek"), data_key.resource_version().unwrap());
            }
            1 => {
                let secret = merge(&world.secrets(), "dek", touch(round)).await;
                expected.insert("Secret dek".into(), secret.resource_version().unwrap());
                merge(&namespaces, &world.namespace, touch(round)).await;
            }
            _ => {
                // Everything in it is looked at again.
                merge(&namespaces, &world.namespace, touch(round)).await;
            }
        }
        another_pass(&operator.metrics, KEY, before.0).await;
        another_pass(&operator.metrics, DATA_KEY, before.1).await;
        assert_eq!(versions(&world).await, expected, "round {round}");
    }

    // Nor does one that begins anew, and looks at everything.
    let before = versions(&world).await;
    operator.stop().await.unwrap();
    let operator = world.start().await;
    another_pass(&operator.metrics, KEY, 1).await;
    another_pass(&operator.metrics, DATA_KEY, 2).await;
    assert_eq!(versions(&world).await, before, "after a restart");

    // Months later, a key that is not to be deleted is as it was.
    world.apply_key("doomed", json!({"enabled": true})).await;
    world.key_ready("doomed").await;
    world.data_key_ready("refused").await;
    world.event("doomed", reason::DELETION_CANCELLED).await;
    let before = versions(&world).await;
    let counted = passes(&operator.metrics, KEY);
    world.clock.advance_days(400);
    merge(&namespaces, &world.namespace, touch(4)).await;
    another_pass(&operator.metrics, KEY, counted).await;
    assert_eq!(versions(&world).await, before, "after 400 days");
    operator.stop().await.unwrap();
}

/// Ready, Reconciling and Stalled, each with its status and reason.
fn trio(conditions: &[Condition]) -> [(String, String); 3] {
    [READY, RECONCILING, STALLED].map(|type_| {
        let condition = condition(conditions, type_);
        (condition.status.clone(), condition.reason.clone())
    })
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn rule_16_conditions_are_as_kstatus_reads_them_and_no_failure_stays() {
    let (world, operator) = World::with_operator("r16-kstatus").await;
    let ready = [is("True", reason::AS_DECLARED), is("False", reason::IDLE), is("False", reason::NOT_STALLED)];
    let waiting = |why| [is("False", why), is("True", why), is("False", reason::NOT_STALLED)];
    let stalled = |why| [is("False", why), is("False", reason::IDLE), is("True", why)];
    let spec = |encoding: &str| json!({"keyRef": {"name": "orders"}, "secret": {"encoding": encoding}});

    world.apply_data_key("dek", spec("Raw")).await;
    let object = world.data_key_says("dek", READY, "False", reason::KEY_NOT_FOUND).await;
    assert_eq!(trio(conditions_of(&object)), waiting(reason::KEY_NOT_FOUND));
    world.event("dek", reason::KEY_NOT_FOUND).await;

    foreign_secret(&world, "dek").await;
    world.apply_key("orders", json!({})).await;
    let object = world.data_key_says("dek", READY, "False", reason::SECRET_CONFLICT).await;
    assert_eq!(trio(conditions_of(&object)), stalled(reason::SECRET_CONFLICT));
    world.event("dek", reason::SECRET_CONFLICT).await;

    world.secrets().delete("dek", &DeleteParams::default()).await.unwrap();
    // A new generation, so that it looks at once.
    world.apply_data_key("dek", spec("Hex")).await;
    let object = world.data_key_ready("dek").await;
    assert_eq!(trio(conditions_of(&object)), ready, "nothing of the failures is left");
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, object.metadata.generation);
    assert!(object.metadata.generation > Some(1));
    assert!(status.conditions.iter().all(|c| c.observed_generation == object.metadata.generation));
    assert_eq!(status.conditions.len(), 3, "one of each");

    // The same of a key.
    let key = world.key_ready("orders").await;
    let status = key.status.as_ref().unwrap();
    assert_eq!(trio(&status.conditions), ready);
    assert_eq!(status.observed_generation, key.metadata.generation);
    world.annotate_key("orders", json!({metadata::KEY_ID: "4b1f0a2c-0000-4000-8000-000000000000"})).await;
    let key = world.key_says("orders", READY, "False", reason::KEY_RECORD_MISSING).await;
    assert_eq!(trio(&key.status.as_ref().unwrap().conditions), stalled(reason::KEY_RECORD_MISSING));
    world.event("orders", reason::KEY_RECORD_MISSING).await;
    let id = key.status.unwrap().key_metadata.unwrap().key_id;
    world.annotate_key("orders", json!({metadata::KEY_ID: id})).await;
    let key = world.key_ready("orders").await;
    assert_eq!(trio(&key.status.unwrap().conditions), ready);
    operator.stop().await.unwrap();
}

/// A failure that lasts is said once; one that comes back is said again.
#[tokio::test]
async fn rule_16_transition_times_move_with_the_status() {
    let (world, operator) = World::with_operator("r16-times").await;
    world.apply_key("orders", json!({})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let first = world.data_key_ready("dek").await;
    let since = |object: &cmk_operator::api::DataKey, type_: &str| {
        condition(conditions_of(object), type_).last_transition_time.0
    };
    world.clock.advance_days(3);
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}, "secret": {"encoding": "Hex"}})).await;
    let second = world.data_key_ready("dek").await;
    assert_eq!(since(&first, READY), since(&second, READY), "Ready before and after");

    world.apply_key("orders", json!({"enabled": false})).await;
    let third = world.data_key_says("dek", READY, "False", reason::KEY_DISABLED).await;
    assert!(since(&third, READY).duration_since(since(&first, READY)).as_hours() >= 71);
    assert_eq!(since(&third, STALLED), since(&first, STALLED), "Stalled was False all the time");
    operator.stop().await.unwrap();
}

/// It once depended on which of two tasks asked last whether the keys have been listed.
#[tokio::test]
async fn rule_16_every_start_gets_ready_and_every_stop_is_orderly() {
    let (world, mut operator) = World::with_operator("r16-start").await;
    world.apply_key("orders", json!({})).await;
    world.key_ready("orders").await;
    for _ in 0..20 {
        operator.stop().await.unwrap();
        operator = world.start().await;
    }
    operator.stop().await.unwrap();
}

/// A write that the cluster does not let through, here by somebody's admission policy.
#[tokio::test]
async fn rule_16_a_refused_write_is_a_condition_and_goes_on_by_itself() {
    let (world, operator) = World::with_operator("r16-refused").await;
    let name = format!("no-secrets.{}", world.namespace);
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let of = |spec: serde_json::Value| json!({"metadata": {"name": name}, "spec": spec});
    let policy = of(json!({
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]},
        ]},
        "validations": [{"expression": "false", "message": "no Secrets here"}],
    }));
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}});
    let binding = of(json!({
        "policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here},
    }));
    let create = PostParams::default();
    policies.create(&create, &serde_json::from_value(policy).unwrap()).await.unwrap();
    bindings.create(&create, &serde_json::from_value(binding).unwrap()).await.unwrap();
    let probe = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the policy to be in force", SOON, async || {
        let secret = serde_json::from_value(json!({"metadata": {"name": "probe"}})).unwrap();
        world.secrets().create(&probe, &secret).await.err().map(drop).ok_or_else(|| "it is not".to_owned())
    })
    .await;

    world.apply_key("orders", json!({})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    let refused = world.data_key_says("dek", READY, "False", reason::RECONCILE_ERROR).await;
    assert!(condition(conditions_of(&refused), READY).message.contains("no Secrets here"));
    let stored = refused.status.as_ref().unwrap().ciphertext_blob.clone();
    assert!(stored.is_some(), "what was reached before stays");
    assert!(world.event("dek", reason::RECONCILE_ERROR).await.contains("no Secrets here"));

    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    let delivered = world.data_key_ready("dek").await;
    assert_eq!(delivered.status.unwrap().ciphertext_blob, stored);
    operator.stop().await.unwrap();
}
