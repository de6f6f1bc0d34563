//! What makes an access key valid, and what makes it invalid.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    AccessKeyRecord, AccessKeySecret, AccessKeyView, Credentials, Listed, OpenedAccessKeys, ServiceAccountIdentity,
    Subject::{AccessKey, ServiceAccount},
    record::tests::{at, key, record},
};
use crate::clock::Clock;

struct Settable(Mutex<i64>);

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        at(*self.0.lock().unwrap())
    }
}

fn opened(record: AccessKeyRecord, version: &str) -> Option<OpenedAccessKeys> {
    let secret = |text: &str| AccessKeySecret::new(Zeroizing::new(text.to_owned()));
    let previous = record.previous.as_ref().map(|former| secret(&format!("of {}", former.key.access_key_id)));
    let current = secret(&format!("of {}", record.current.access_key_id));
    Some(OpenedAccessKeys { record: Arc::new(record), version: version.into(), current, previous })
}

fn view_at(second: i64) -> (AccessKeyView, Arc<Settable>) {
    let clock = Arc::new(Settable(Mutex::new(second)));
    (AccessKeyView::new(clock.clone()), clock)
}

/// A view that knows the record, its `AccessKey` and its ServiceAccount.
fn complete() -> (AccessKeyView, Arc<Settable>) {
    let (view, clock) = view_at(1000);
    view.record("secret", opened(record(), "1"));
    view.object(AccessKey, "shop", "orders", Some("ak-uid"));
    view.object(ServiceAccount, "shop", "orders-api", Some("sa-uid"));
    view.begin();
    (view, clock)
}

fn answers(view: &AccessKeyView, id: &str) -> bool {
    view.credential(id).is_some()
}

#[test]
fn a_valid_access_key_is_its_service_account() {
    let (view, _) = complete();
    let credential = view.credential("CMKA1").unwrap();
    assert_eq!(&*credential.access_key_id, "CMKA1");
    assert_eq!(credential.secret.expose(), "of CMKA1");
    assert_eq!(&*credential.namespace, "shop");
    assert_eq!(credential.user.username, "system:serviceaccount:shop:orders-api");
    assert_eq!(credential.user.uid, "sa-uid");
    assert!(credential.user.groups.contains(&"system:serviceaccounts:shop".to_owned()));
    assert!(!answers(&view, "CMKA2") && !answers(&view, ""));
}

#[test]
fn nothing_is_valid_before_everything_was_listed() {
    let (view, _) = view_at(1000);
    view.record("secret", opened(record(), "1"));
    view.object(AccessKey, "shop", "orders", Some("ak-uid"));
    view.object(ServiceAccount, "shop", "orders-api", Some("sa-uid"));
    assert!(!answers(&view, "CMKA1"));
    view.begin();
    assert!(answers(&view, "CMKA1"));
}

/// Each of the three is needed, and the UIDs in the record count.
#[test]
fn what_is_gone_or_made_anew_revokes_at_once() {
    type Change = fn(&AccessKeyView);
    let changes: [(&str, Change); 8] = [
        ("the record is gone", |view| view.record("secret", None)),
        ("the record is not listed", |view| view.records_exactly(&HashSet::new())),
        ("the AccessKey is gone", |view| {
            view.object(AccessKey, "shop", "orders", None);
        }),
        ("the AccessKey is another", |view| {
            view.object(AccessKey, "shop", "orders", Some("new"));
        }),
        ("the ServiceAccount is gone", |view| {
            view.object(ServiceAccount, "shop", "orders-api", None);
        }),
        ("the ServiceAccount is another", |view| {
            view.object(ServiceAccount, "shop", "orders-api", Some("new"));
        }),
        ("the AccessKey is not listed", |view| drop(view.objects_exactly(AccessKey, None, Listed::new()))),
        ("the ServiceAccount is not listed", |view| {
            view.objects_exactly(ServiceAccount, Some("shop"), Listed::new());
        }),
    ];
    for (what, change) in changes {
        let (view, _) = complete();
        let before = view.credential("CMKA1").unwrap();
        change(&view);
        assert!(!answers(&view, "CMKA1"), "{what}");
        assert_eq!(before.secret.expose(), "of CMKA1", "a request under way goes on");
    }
}

#[test]
fn what_concerns_others_changes_nothing() {
    let (view, _) = complete();
    view.record("another", None);
    view.object(AccessKey, "shop", "sales", None);
    view.object(AccessKey, "other", "orders", None);
    view.object(ServiceAccount, "other", "orders-api", Some("x"));
    assert_eq!(view.objects_exactly(ServiceAccount, Some("other"), Listed::new()).len(), 1, "in its scope only");
    assert!(answers(&view, "CMKA1"));
}

#[test]
fn a_service_account_made_anew_gets_the_access_key_of_its_record_only() {
    let (view, _) = complete();
    assert!(view.object(ServiceAccount, "shop", "orders-api", Some("new")));
    let account = ServiceAccountIdentity { name: "orders-api".into(), uid: "new".into() };
    let anew = AccessKeyRecord::new(record().owner, account, key("CMKA2", 2000), None);
    view.record("secret", opened(anew, "2"));
    assert!(!answers(&view, "CMKA1") && answers(&view, "CMKA2"));
    assert_eq!(view.credential("CMKA2").unwrap().user.uid, "new");
}

#[test]
fn the_access_key_before_works_until_it_expires() {
    let (view, clock) = complete();
    view.record("secret", opened(record().rotated(key("CMKA2", 1000), at(2000), None), "2"));
    assert!(answers(&view, "CMKA1") && answers(&view, "CMKA2"));
    assert_eq!(view.credential("CMKA1").unwrap().secret.expose(), "of CMKA1");
    *clock.0.lock().unwrap() = 1999;
    assert!(answers(&view, "CMKA1"));
    *clock.0.lock().unwrap() = 2000;
    assert!(!answers(&view, "CMKA1") && answers(&view, "CMKA2"), "nobody has to write for it");
}

#[test]
fn what_is_news_is_told() {
    let (view, _) = complete();
    assert!(!view.object(ServiceAccount, "shop", "orders-api", Some("sa-uid")), "shown again");
    assert!(view.object(ServiceAccount, "shop", "orders-api", None));
    assert!(!view.object(ServiceAccount, "shop", "orders-api", None));
    let place = |name: &str| ("shop".to_owned(), name.to_owned());
    let listed = Listed::from([(place("a"), "1".into()), (place("b"), "2".into())]);
    view.objects_exactly(ServiceAccount, None, listed);
    let listed = Listed::from([(place("b"), "3".into()), (place("c"), "4".into())]);
    let mut news = view.objects_exactly(ServiceAccount, None, listed);
    news.sort();
    assert_eq!(news, ["a", "b", "c"].map(place));
}
