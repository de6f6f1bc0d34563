//! Keys of other namespaces, and the namespace's service key.

use kube::ResourceExt;

use super::*;
use crate::api::allowed_namespaces::AllowedNamespaces;

/// A DataKey under the key `vault/orders`, which allows these namespaces.
fn shared(allowed: Value) -> Case {
    Case::new(json!({"keyRef": {"name": "orders", "namespace": "vault"}})).with(|o| allow(o, allowed))
}

fn allow(o: &mut Observed, allowed: Value) {
    let allowed: Option<AllowedNamespaces> = serde_json::from_value(allowed).unwrap();
    o.master.as_mut().unwrap().allowed_namespaces = allowed;
}

fn team(o: &mut Observed) {
    o.namespace.as_mut().unwrap().labels.insert("team".into(), "shop".into());
}

#[test]
fn rule_15_only_who_is_allowed_gets_a_data_key() {
    let selector = || json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}});
    let own = Case::new(json!({"keyRef": {"name": "orders", "namespace": "shop"}}));
    let table = [
        ("nothing declared", shared(Value::Null), false),
        ("Same", shared(json!({"from": "Same"})), false),
        ("All", shared(json!({"from": "All"})), true),
        ("not selected", shared(selector()), false),
        ("selected", shared(selector()).with(team), true),
        ("the own namespace, by name", own, true),
        ("the own namespace", Case::new(json!({})).with(|o| allow(o, json!({"from": "Same"}))), true),
    ];
    for (what, case, allowed) in table {
        let case = case.gathered();
        assert_eq!(matches!(case.plan().step, Step::Generate(_)), allowed, "{what}");
        if !allowed {
            let status = case.status();
            let ready = conditions::find(&status.conditions, READY).unwrap();
            assert_eq!(ready.reason, reason::KEY_NOT_SHARED, "{what}");
            let names = ["vault/orders", "allowedNamespaces", "the namespace shop"];
            assert!(names.iter().all(|name| ready.message.contains(name)), "{}", ready.message);
            assert!(case.plan().events.iter().all(|event| event.warning));
        }
    }
}

#[test]
fn rule_15_withdrawn_nothing_is_restored_or_rotated_and_the_secret_stays() {
    let delivered = shared(json!({"from": "All"})).driven().0.with(|o| {
        o.object.spec.rotation_interval_days = Some(1);
        o.object.metadata.annotations.as_mut().unwrap().insert(metadata::ROTATE_REQUESTED_AT.into(), "x".into());
        allow(o, Value::Null);
    });
    let (case, events) = delivered.with(|o| o.secret = None).driven();
    let status = case.observed.object.status.as_ref().unwrap();
    assert_eq!((events, trio(status)), (vec![reason::KEY_NOT_SHARED], ["False", "True", "False"]));
    let ready = conditions::find(&status.conditions, READY).unwrap();
    assert!(ready.message.ends_with("Secret dek stays as delivered."), "{}", ready.message);
    assert!(case.observed.secret.is_none() && status.history.is_empty());

    // Granted again: both are made up for.
    let (granted, _) = case.with(|o| allow(o, json!({"from": "All"}))).driven();
    let status = granted.observed.object.status.as_ref().unwrap();
    assert_eq!((trio(status), status.history.len()), (["True", "False", "False"], 1));
}

/// In a namespace made anew anybody can write an object of the former name, with the annotation that names the former key.
#[test]
fn rule_5_an_object_that_says_it_has_the_key_of_another_gets_no_data_key() {
    let case = Case::new(json!({})).with(|o| o.master.as_mut().unwrap().uid = "another".into()).gathered();
    let ready = conditions::find(&case.status().conditions, READY).unwrap().clone();
    assert_eq!(ready.reason, reason::KEY_NOT_READY);
    assert!(!matches!(case.plan().step, Step::Generate(_)));
}

#[test]
fn a_key_in_a_namespace_that_is_not_watched_is_not_called_missing() {
    let case = shared(Value::Null).with(|o| (o.master, o.master_is_watched) = (None, false));
    let status = case.status();
    let ready = conditions::find(&status.conditions, READY).unwrap();
    assert_eq!(ready.reason, reason::KEY_NOT_FOUND);
    assert!(ready.message.contains("--watch-namespaces"), "{}", ready.message);
}

#[test]
fn the_service_key_is_made_on_demand() {
    let without_ref = || {
        Case::new(json!({})).with(|o| {
            o.object.spec.key_ref = None;
            o.master = None;
        })
    };
    let Step::CreateServiceKey(key) = without_ref().plan().step else { panic!("it is not made") };
    assert_eq!((key.name_any(), key.namespace()), ("acs-datakey".into(), Some("shop".into())));
    assert_eq!(key.spec.alias.as_deref(), Some("alias/acs/DataKey"));
    assert!(key.validate_cel().is_ok() && key.metadata.annotations.is_none());

    // Asked for in this pass: waited for, as any key that is not there yet.
    for (case, expected) in [
        (without_ref().with(|o| o.service_key_made = true), reason::KEY_NOT_READY),
        (without_ref().with(|o| o.no_new_keys = true), reason::CREATION_PAUSED),
        (without_ref().with(|o| o.namespace.as_mut().unwrap().terminating = true), reason::NAMESPACE_TERMINATING),
    ] {
        let status = case.status();
        assert_eq!(conditions::find(&status.conditions, READY).unwrap().reason, expected);
    }
}

/// A DataKey that has a ciphertext already never gets another key than the one that it was made under.
#[test]
fn a_service_key_made_for_an_old_ciphertext_names_its_key() {
    use crate::crypto::{BlobHeader, BlobKeys, KeyMaterial, SystemRandom};
    let material = KeyMaterial::generate(&SystemRandom).unwrap();
    let header = BlobHeader { key_id: Uuid::from_u128(9), key_version_id: Uuid::from_u128(10) };
    let blob = BlobKeys::derive(&material).seal(header, b"", b"x", &SystemRandom).unwrap();
    let text = BASE64_STANDARD.encode(&blob);
    let stored =
        Case::new(json!({})).with(|o| o.object.status.get_or_insert_default().ciphertext_blob = Some(text.clone()));
    let history = json!([{"ciphertextBlob": text, "generatedAt": now().to_string()}]).to_string();
    let former = Case::new(json!({}))
        .with(|o| drop(o.object.annotations_mut().insert(metadata::CIPHERTEXT_HISTORY.into(), history.clone())));
    let given = Case::new(json!({"ciphertextBlob": text}));
    let id = Some(Uuid::from_u128(9).to_string());
    for (case, expected) in [(stored, id.clone()), (former, id), (given, None)] {
        let case = case.with(|o| (o.object.spec.key_ref, o.master) = (None, None)).gathered();
        let Step::CreateServiceKey(key) = case.plan().step else { panic!("no service key is made") };
        assert_eq!(key.annotations().get(metadata::KEY_ID), expected.as_ref());
    }
}
