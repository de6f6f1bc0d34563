//! What is decided, as tables: observed, declared, now -> step, status, Events.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    delivery::{Endpoint, SecretObject},
    next_event,
    plan::{Change, Observed, Plan, Step, plan},
};
use crate::{
    access_keys::{
        AccessKeyOwner, AccessKeyRecord, AccessKeySecret, FormerAccessKey, SealedAccessKey, ServiceAccountIdentity,
    },
    api::{
        AccessKey,
        conditions::{self, READY, STALLED, reason},
        metadata,
    },
    cluster::NamespaceView,
    store::{Revision, StoreError, StoredAccessKey},
};

const DAY: i64 = 86_400;
/// When the access key was made.
const MADE: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(id: &str, created_at: i64) -> SealedAccessKey {
    let (root_key_id, sealed) = (Uuid::nil(), vec![1]);
    SealedAccessKey { access_key_id: id.into(), created_at: at(created_at), root_key_id, sealed }
}

fn account(uid: &str) -> ServiceAccountIdentity {
    ServiceAccountIdentity { name: "orders-api".into(), uid: uid.into() }
}

fn record() -> AccessKeyRecord {
    let owner = AccessKeyOwner { namespace: "shop".into(), name: "orders".into(), uid: "ak".into() };
    AccessKeyRecord::new(owner, account("sa"), key("CMKA1", MADE), None)
}

fn record_with(change: impl FnOnce(&mut AccessKeyRecord)) -> AccessKeyRecord {
    let mut record = record();
    change(&mut record);
    record
}

fn stored(record: AccessKeyRecord) -> StoredAccessKey {
    StoredAccessKey { record: Arc::new(record), revision: Revision { uid: "r".into(), version: "1".into() } }
}

/// A new object, in a namespace and with a ServiceAccount that are there.
fn new() -> Observed {
    let mut object =
        AccessKey::new("orders", serde_json::from_value(json!({"serviceAccountName": "orders-api"})).unwrap());
    object.metadata.namespace = Some("shop".into());
    object.metadata.uid = Some("ak".into());
    object.metadata.generation = Some(1);
    Observed {
        object,
        namespace: Some(NamespaceView {
            uid: "ns".into(),
            terminating: false,
            adopt_keys: false,
            labels: std::collections::BTreeMap::new(),
        }),
        service_account: Some("sa".into()),
        record: Ok(None),
        secret_half: None,
        secret: None,
        endpoint: Some(Endpoint { url: "https://kms".into(), region: "cn-hangzhou".into(), ca: None }),
    }
}

fn with_record(record: AccessKeyRecord) -> Observed {
    let secret_half = Some(Ok(AccessKeySecret::new(Zeroizing::new(format!("of {}", record.current.access_key_id)))));
    Observed { record: Ok(Some(stored(record))), secret_half, ..new() }
}

/// The Secret that the plan creates or replaces.
fn secret_of(plan: Plan) -> SecretObject {
    match plan.step {
        Step::CreateSecret(secret) | Step::ReplaceSecret(secret) => secret,
        _ => panic!("no Secret"),
    }
}

/// As the controller leaves it.
fn delivered_with(record: AccessKeyRecord, change: impl Fn(&mut Observed)) -> Observed {
    let mut o = with_record(record);
    change(&mut o);
    o.secret = Some(secret_of(plan(&o, at(MADE))));
    if let Step::WriteStatus(status) = plan(&o, at(MADE)).step {
        o.object.status = Some(*status);
    }
    o
}

fn delivered() -> Observed {
    delivered_with(record(), |_| {})
}

fn rotating(days: i32) -> Observed {
    delivered_with(record(), |o| o.object.spec.rotation_interval_days = Some(days))
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.events.iter().map(|event| event.reason).collect()
}

/// The condition that the plan writes into status.
fn says(plan: &Plan, type_: &str) -> (String, String) {
    let Step::WriteStatus(status) = &plan.step else { panic!("no status") };
    let condition = conditions::find(&status.conditions, type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn change(plan: &Plan) -> &Change {
    match &plan.step {
        Step::Change(_, change) => change,
        _ => panic!("no change of the record"),
    }
}

fn entry(secret: &SecretObject, name: &str) -> String {
    secret.text(name).unwrap_or_else(|| panic!("no {name}"))
}

/// A crash after any of them leaves what the next pass goes on from.
#[test]
fn a_new_object_gets_a_record_then_a_secret_then_a_status() {
    let first = plan(&new(), at(MADE));
    assert!(matches!(&first.step, Step::Create(made_for) if *made_for == account("sa")));
    assert_eq!(reasons(&first), [reason::ACCESS_KEY_CREATED]);

    let mut o = with_record(record());
    let second = plan(&o, at(MADE));
    assert!(matches!(second.step, Step::CreateSecret(_)) && second.events.is_empty());
    o.secret = Some(secret_of(second));
    let third = plan(&o, at(MADE));
    assert_eq!(says(&third, READY), ("True".into(), reason::AS_DECLARED.into()));
    let Step::WriteStatus(status) = third.step else { panic!() };
    assert_eq!(status.access_key_id.as_deref(), Some("CMKA1"));
    assert_eq!(status.created_at, Some(Time(at(MADE))));
    assert_eq!((status.previous_access_key_id, status.next_rotation), (None, None));
    assert_eq!(status.secret_ref.unwrap().name, "orders");
    assert!(matches!(plan(&delivered(), at(MADE)).step, Step::Rest { retry: false }), "and then nothing");
}

#[test]
fn the_secret_has_what_the_clients_of_both_clouds_read() {
    let secret = secret_of(plan(&with_record(record()), at(MADE)));
    let expected = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "CMKA1"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "of CMKA1"),
        ("AWS_ACCESS_KEY_ID", "CMKA1"),
        ("AWS_DEFAULT_REGION", "cn-hangzhou"),
        ("AWS_ENDPOINT_URL_KMS", "https://kms"),
        ("AWS_REGION", "cn-hangzhou"),
        ("AWS_SECRET_ACCESS_KEY", "of CMKA1"),
    ];
    let data = secret.expose().data.as_ref().unwrap();
    let found: Vec<_> =
        data.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(&value.0).unwrap())).collect();
    assert_eq!(found, expected);
    let owners = secret.expose().metadata.owner_references.as_ref().unwrap();
    assert_eq!((owners[0].kind.as_str(), owners[0].uid.as_str()), ("AccessKey", "ak"));

    let mut o = with_record(record());
    o.endpoint.as_mut().unwrap().ca = Some("-----BEGIN".into());
    let secret = secret_of(plan(&o, at(MADE)));
    assert_eq!(entry(&secret, "ca.crt"), "-----BEGIN");
    assert_eq!(entry(&secret, "AWS_CA_BUNDLE"), "/etc/cmk-kms/ca.crt");
}

#[test]
fn no_access_key_is_made_where_it_can_not_be() {
    type Case = (&'static str, fn(&mut Observed), &'static str, bool);
    let cases: [Case; 5] = [
        ("no ServiceAccount", |o| o.service_account = None, reason::SERVICE_ACCOUNT_NOT_FOUND, false),
        ("no namespace", |o| o.namespace = None, reason::NAMESPACE_TERMINATING, false),
        (
            "a terminating namespace",
            |o| o.namespace.as_mut().unwrap().terminating = true,
            reason::NAMESPACE_TERMINATING,
            false,
        ),
        ("somebody else's Secret", |o| o.secret = Some(Secret::default().into()), reason::SECRET_CONFLICT, true),
        ("no region", |o| o.endpoint = None, reason::KEY_STORE_NOT_FOUND, false),
    ];
    for (what, change, reason, stalled) in cases {
        for mut o in [new(), with_record(record())] {
            change(&mut o);
            let plan = plan(&o, at(MADE));
            assert_eq!(says(&plan, READY), ("False".into(), reason.into()), "{what}");
            assert_eq!(says(&plan, STALLED).0 == "True", stalled, "{what}");
            assert_eq!(reasons(&plan), [reason], "{what}");
        }
    }
    let mut deleted = new();
    deleted.object.metadata.deletion_timestamp = Some(Time(at(MADE)));
    assert!(matches!(plan(&deleted, at(MADE)).step, Step::Rest { retry: false }));
}

#[test]
fn a_record_that_can_not_be_used_is_never_replaced_by_itself() {
    let secret = String::from("cmk-access-key-x");
    for (error, reason) in [
        (StoreError::Tampered { secret: secret.clone() }, reason::RECORD_TAMPERED),
        (StoreError::Unreadable { secret, problem: "p".into() }, reason::RECORD_FORMAT_UNKNOWN),
        (StoreError::RootKeyMissing { root_key_id: Uuid::nil() }, reason::ROOT_KEY_MISSING),
    ] {
        let plan = plan(&Observed { record: Err(error), ..new() }, at(MADE));
        assert_eq!(says(&plan, STALLED), ("True".into(), reason.into()));
    }
    let damaged = Observed { secret_half: Some(Err(StoreError::Damaged)), ..with_record(record()) };
    assert_eq!(says(&plan(&damaged, at(MADE)), STALLED), ("True".into(), reason::RECORD_FORMAT_UNKNOWN.into()));
}

#[test]
fn a_service_account_made_anew_gets_a_new_access_key() {
    let mut o = delivered();
    o.service_account = Some("new".into());
    let anew = plan(&o, at(MADE));
    assert_eq!(change(&anew), &Change::Anew(account("new")));
    assert_eq!(reasons(&anew), [reason::ACCESS_KEY_REPLACED]);

    // Gone, the access key in the Secret is dead, and said to be.
    o.service_account = None;
    let gone = plan(&o, at(MADE));
    assert_eq!(says(&gone, READY), ("False".into(), reason::SERVICE_ACCOUNT_NOT_FOUND.into()));
    let Step::WriteStatus(status) = gone.step else { panic!() };
    assert!(conditions::find(&status.conditions, READY).unwrap().message.contains("works no more"));
}

#[test]
fn a_lost_record_is_made_again_with_another_access_key() {
    let lost = Observed { record: Ok(None), secret_half: None, ..delivered() };
    let made = plan(&lost, at(MADE));
    assert!(matches!(made.step, Step::Create(_)));
    assert_eq!(reasons(&made), [reason::ACCESS_KEY_REPLACED]);
    // The Secret is ours, and gets the new one.
    let o = Observed {
        object: lost.object,
        secret: lost.secret,
        ..with_record(record_with(|record| record.current = key("CMKA2", MADE)))
    };
    assert_eq!(entry(&secret_of(plan(&o, at(MADE))), "AWS_ACCESS_KEY_ID"), "CMKA2");
}

fn changed(o: &Observed, change: impl FnOnce(&mut Secret)) -> SecretObject {
    let mut secret = o.secret.as_ref().unwrap().expose().clone();
    change(&mut secret);
    secret.into()
}

#[test]
fn a_secret_that_was_deleted_or_changed_is_restored() {
    let missing = plan(&Observed { secret: None, ..delivered() }, at(MADE));
    assert!(matches!(missing.step, Step::CreateSecret(_)));
    assert_eq!(reasons(&missing), [reason::SECRET_RESTORED]);

    type Tampering = fn(&mut Secret);
    let tamperings: [(&str, Tampering); 4] = [
        ("a value", |s| drop(s.data.as_mut().unwrap().insert("AWS_ACCESS_KEY_ID".into(), ByteString(vec![1])))),
        ("an entry less", |s| drop(s.data.as_mut().unwrap().remove("AWS_REGION"))),
        ("an entry more", |s| drop(s.data.as_mut().unwrap().insert("MORE".into(), ByteString(vec![1])))),
        ("its owner", |s| s.metadata.owner_references = None),
    ];
    for (what, tamper) in tamperings {
        let o = delivered();
        let secret = Some(changed(&o, tamper));
        let restored = plan(&Observed { secret, ..o }, at(MADE));
        assert!(matches!(restored.step, Step::ReplaceSecret(_)), "{what}");
        assert_eq!(reasons(&restored), [reason::SECRET_RESTORED], "{what}");
    }
    let o = delivered();
    let secret = Some(changed(&o, |s| (s.immutable, s.data) = (Some(true), None)));
    assert!(matches!(plan(&Observed { secret, ..o }, at(MADE)).step, Step::DeleteSecret));
    // What others add to its metadata stays.
    let o = delivered();
    let secret = Some(changed(&o, |s| {
        s.metadata.labels.as_mut().unwrap().insert("team".into(), "x".into());
    }));
    assert!(matches!(plan(&Observed { secret, ..o }, at(MADE)).step, Step::Rest { .. }));
}

#[test]
fn a_secret_without_our_mark_is_somebody_elses() {
    for take in [metadata::COMPONENT_LABEL, metadata::ACCESS_KEY] {
        let o = delivered();
        let secret = Some(changed(&o, |s| {
            s.metadata.labels.as_mut().unwrap().remove(take);
            s.metadata.annotations.as_mut().unwrap().remove(take);
        }));
        let plan = plan(&Observed { secret, ..o }, at(MADE));
        assert_eq!(says(&plan, STALLED), ("True".into(), reason::SECRET_CONFLICT.into()), "{take}");
    }
    // It is looked at again, as nothing tells when it goes.
    let mut o = Observed { secret: Some(Secret::default().into()), ..new() };
    let Step::WriteStatus(status) = plan(&o, at(MADE)).step else { panic!() };
    o.object.status = Some(*status);
    assert!(matches!(plan(&o, at(MADE)).step, Step::Rest { retry: true }));
}

#[test]
fn another_secret_name_moves_the_secret() {
    let mut o = delivered();
    o.object.spec.secret = Some(serde_json::from_value(json!({"name": "orders-kms"})).unwrap());
    o.object.metadata.generation = Some(2);
    o.secret = None;
    let made = plan(&o, at(MADE));
    assert!(made.events.is_empty(), "nobody deleted it");
    o.secret = Some(secret_of(made));
    assert!(matches!(plan(&o, at(MADE)).step, Step::DeleteFormer(name) if name == "orders"));
}

#[test]
fn an_access_key_rotates_by_its_interval_and_the_one_before_works_for_half_of_it() {
    let o = rotating(30);
    assert_eq!(o.object.status.as_ref().unwrap().next_rotation, Some(Time(at(MADE + 30 * DAY))));
    assert_eq!(next_event(&o.object), Some(at(MADE + 30 * DAY)));
    assert!(matches!(plan(&o, at(MADE + 30 * DAY - 1)).step, Step::Rest { .. }));
    let due = plan(&o, at(MADE + 30 * DAY));
    assert_eq!(change(&due), &Change::Rotate { expires: at(MADE + 45 * DAY) });
    assert_eq!(reasons(&due), [reason::ACCESS_KEY_ROTATED]);
    assert!(due.events[0].message.contains("CMKA1"));
}

#[test]
fn a_request_rotates_once() {
    let ask = |o: &mut Observed| {
        o.object.metadata.annotations = Some([(metadata::ROTATE_REQUESTED_AT.to_owned(), "now".to_owned())].into());
    };
    for (mut o, overlap) in [(delivered(), DAY), (rotating(30), 15 * DAY)] {
        ask(&mut o);
        assert_eq!(change(&plan(&o, at(MADE + 5))), &Change::Rotate { expires: at(MADE + 5 + overlap) });
    }
    let answered = record_with(|record| record.last_handled_rotation = Some("now".into()));
    let o = delivered_with(answered, ask);
    assert!(matches!(plan(&o, at(MADE + 5)).step, Step::Rest { .. }));
    assert_eq!(o.object.status.unwrap().last_handled_rotation.as_deref(), Some("now"));
}

/// Every access key that is replaced was delivered.
#[test]
fn nothing_rotates_before_it_is_delivered() {
    let due = Observed { secret: None, ..rotating(1) };
    assert!(matches!(plan(&due, at(MADE + 10 * DAY)).step, Step::CreateSecret(_)));
    let conflict = Observed { secret: Some(Secret::default().into()), ..rotating(1) };
    assert!(matches!(plan(&conflict, at(MADE + 10 * DAY)).step, Step::WriteStatus(_)));
}

#[test]
fn the_access_key_before_is_dropped_when_it_expires() {
    let previous = Some(FormerAccessKey { key: key("CMKA0", 0), expires: at(MADE + DAY) });
    let o = delivered_with(record_with(|record| record.previous = previous), |_| {});
    let status = o.object.status.clone().unwrap();
    assert_eq!(status.previous_access_key_id.as_deref(), Some("CMKA0"));
    assert_eq!(status.previous_expires_at, Some(Time(at(MADE + DAY))));
    assert_eq!(next_event(&o.object), Some(at(MADE + DAY)));
    assert!(matches!(plan(&o, at(MADE + DAY - 1)).step, Step::Rest { .. }));
    assert_eq!(change(&plan(&o, at(MADE + DAY))), &Change::DropPrevious);

    let dropped = Observed { object: o.object, secret: o.secret, ..with_record(record()) };
    let Step::WriteStatus(status) = plan(&dropped, at(MADE + DAY)).step else { panic!() };
    assert_eq!((status.previous_access_key_id, status.previous_expires_at), (None, None));
}

#[test]
fn a_new_certificate_of_a_private_ca_is_delivered_without_an_alarm_about_another_access_key() {
    let mut o = delivered();
    o.endpoint.as_mut().unwrap().ca = Some("-----BEGIN".into());
    let secret = secret_of(plan(&o, at(MADE)));
    assert_eq!((entry(&secret, "ca.crt"), entry(&secret, "AWS_ACCESS_KEY_ID")), ("-----BEGIN".into(), "CMKA1".into()));
}

#[test]
fn the_status_never_has_the_secret_half() {
    let o = delivered();
    let text = serde_json::to_string(&o.object.status.unwrap_or_default()).unwrap();
    assert!(text.contains("CMKA1") && !text.contains("of CMKA1"), "{text}");
}
