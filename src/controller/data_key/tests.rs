//! `plan`, a row a branch: what is decided from what was observed.

mod history;
mod rotation;
mod sharing;
mod withheld;

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    annotations,
    ciphertext::{Ciphertext, encryption_context, unknown},
    delivery::SecretObject,
    describe,
    plan::{Found, FoundFormer, Observed, Plan, Step, plan},
};
use crate::{
    api::{
        DataKey, DataKeyStatus,
        conditions::{self, READY, RECONCILING, STALLED, reason},
        data_key::FormerDataKey,
        metadata,
    },
    cluster::{KeyObjectView, NamespaceView},
    crypto::Plaintext,
    kms::{KeyStep, key_record},
    store::{Revision, StoreError, StoredKey},
};

const BLOB: &str = "AAAA";

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn key(steps: &[KeyStep]) -> StoredKey {
    let record = key_record::tests::record().apply_all(steps, now()).unwrap();
    StoredKey { record: Arc::new(record), revision: Revision { uid: "u".into(), version: "1".into() } }
}

fn tombstone() -> StoredKey {
    let mut key = key(&[]);
    let record = Arc::make_mut(&mut key.record);
    record.versions.clear();
    record.erased_at = Some(now());
    key
}

/// A DataKey `shop/dek` with a usable key, as the first pass finds it.
struct Case {
    observed: Observed,
    plaintext: Vec<u8>,
    now: Timestamp,
    /// The ciphertexts that were generated, in this order.
    generated: Vec<String>,
}

impl Case {
    fn new(spec: Value) -> Self {
        let mut full = json!({"keyRef": {"name": "orders"}});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut object = DataKey::new("dek", serde_json::from_value(full).unwrap());
        object.metadata.namespace = Some("shop".into());
        object.metadata.uid = Some("dek-uid".into());
        object.metadata.generation = Some(1);
        let key = key(&[]);
        let observed = Observed {
            context: encryption_context(&object).unwrap(),
            object,
            namespace: Some(NamespaceView {
                uid: "ns".into(),
                terminating: false,
                adopt_keys: false,
                labels: std::collections::BTreeMap::new(),
            }),
            master_is_watched: true,
            master: Some(KeyObjectView {
                uid: key.record.owner.uid.clone(),
                key_id: Some(key.record.key_id.to_string()),
                ..KeyObjectView::default()
            }),
            key: Ok(Some(key)),
            secret: None,
            ciphertext: None,
            opened: None,
            previous: None,
            annotated: Ok(Vec::new()),
            strays: Vec::new(),
            no_new_keys: false,
            service_key_made: false,
        };
        Self { observed, plaintext: vec![7; 32], now: now(), generated: Vec::new() }
    }

    fn with(mut self, change: impl FnOnce(&mut Observed)) -> Self {
        change(&mut self.observed);
        self
    }

    fn annotated(self) -> Self {
        self.with(|o| {
            o.object.metadata.annotations.get_or_insert_default().insert(metadata::CIPHERTEXT_BLOB.into(), BLOB.into());
        })
    }

    fn stored(self) -> Self {
        self.with(|o| {
            let status = o.object.status.get_or_insert_default();
            status.ciphertext_blob = Some(BLOB.into());
        })
    }

    fn plaintext_of(mut self, length: usize) -> Self {
        self.plaintext = vec![7; length];
        self
    }

    /// Finds and opens the ciphertexts, as `gather` does. Those that begin with F are of another DataKey.
    fn gathered(mut self) -> Self {
        let plaintext = self.plaintext.clone();
        let open = |text: &str| match (text, text.as_bytes()[0]) {
            (BLOB, _) => Ok(Plaintext::from(plaintext.clone())),
            (_, b'F') => Err(StoreError::InvalidCiphertext),
            (_, first) => Ok(Plaintext::from(vec![first; 32])),
        };
        let o = &mut self.observed;
        o.ciphertext = Ciphertext::find(&o.object, o.secret.as_ref());
        o.opened = o.ciphertext.as_ref().map(|found| open(&found.text));
        let former = o.object.status.as_ref().and_then(|status| status.history.last());
        let with_plaintext = !o.object.spec.without_plaintext.unwrap_or(false);
        o.previous = former.filter(|_| with_plaintext).map(|former| open(&former.ciphertext_blob));
        let found = |former: FormerDataKey| FoundFormer { opened: open(&former.ciphertext_blob), former };
        o.annotated = annotations::history(&o.object).map(|history| history.into_iter().map(found).collect());
        let strays = o.ciphertext.as_ref().map(|current| unknown(&o.object, o.secret.as_ref(), current));
        let found = |text: String| Found { opened: open(&text), text };
        o.strays = strays.into_iter().flatten().map(found).collect();
        self
    }

    /// Delivered and Ready: done with the plans' own steps.
    fn settled(self) -> Self {
        self.annotated().stored().driven().0
    }

    /// Does what is planned until there is nothing left to do. Answers the reasons of the Events as well.
    fn driven(self) -> (Self, Vec<&'static str>) {
        let mut case = self.gathered();
        let mut events = Vec::new();
        for _ in 0..12 {
            let plan = case.plan();
            if matches!(plan.step, Step::Rest { .. }) {
                return (case, events);
            }
            events.extend(plan.events.iter().map(|event| event.reason));
            case = case.done(plan.step).gathered();
        }
        panic!("no end")
    }

    /// What is there after a step.
    fn done(mut self, step: Step) -> Self {
        let o = &mut self.observed;
        match step {
            Step::Generate(_) => {
                let text = format!("{}AAA", char::from(b'G' + u8::try_from(self.generated.len()).unwrap() % 16));
                o.object.status = Some(describe::generated(o, &text, self.now));
                self.generated.push(text);
            }
            Step::Annotate(patch) => {
                for (name, value) in patch.as_object().unwrap() {
                    match value.as_str() {
                        Some(text) => o.object.annotations_mut().insert(name.clone(), text.to_owned()),
                        None => o.object.annotations_mut().remove(name),
                    };
                }
            }
            Step::CreateSecret(secret) | Step::ReplaceSecret(secret) => o.secret = Some(secret),
            Step::WriteStatus(status) => o.object.status = Some(*status),
            _ => panic!("an unexpected step"),
        }
        self
    }

    /// Changes the Secret that is there.
    fn secret(self, change: impl FnOnce(&mut Secret)) -> Self {
        self.with(|o| {
            let mut secret = o.secret.take().unwrap().expose().clone();
            change(&mut secret);
            o.secret = Some(SecretObject::from(secret));
        })
    }

    /// Another spec, of the next generation.
    fn spec(self, template: Value) -> Self {
        self.with(|o| {
            o.object.spec.secret = Some(serde_json::from_value(template).unwrap());
            o.object.metadata.generation = Some(2);
        })
    }

    fn plan(&self) -> Plan {
        plan(&self.observed, self.now)
    }

    fn status(&self) -> DataKeyStatus {
        match self.plan().step {
            Step::WriteStatus(status) => *status,
            _ => panic!("no status is written"),
        }
    }
}

fn trio(status: &DataKeyStatus) -> [&str; 3] {
    [READY, RECONCILING, STALLED].map(|type_| conditions::find(&status.conditions, type_).unwrap().status.as_str())
}

#[test]
fn what_is_waited_for_and_what_stalls() {
    const WAITS: [&str; 3] = ["False", "True", "False"];
    const STALLS: [&str; 3] = ["False", "False", "True"];
    let new = || Case::new(json!({}));
    let keyed = |key| move |o: &mut Observed| o.key = key;
    let tampered = || Err(StoreError::Tampered { secret: "cmk-x".into() });
    let opened = |case: Case, error| case.gathered().with(|o| o.opened = Some(Err(error)));
    let given = |text: &str| Case::new(json!({"ciphertextBlob": text}));
    let of_secret = || {
        new().settled().with(|o| {
            o.object.status = None;
            o.object.metadata.annotations = None;
        })
    };
    let pending = [KeyStep::ScheduleDeletion { days: 7 }];
    let foreign_secret = || new().settled().secret(|s| s.metadata.labels = None).with(|o| o.object.status = None);
    let table = [
        ("namespace gone", new().with(|o| o.namespace = None), reason::NAMESPACE_TERMINATING, WAITS),
        (
            "namespace going",
            new().with(|o| o.namespace.as_mut().unwrap().terminating = true),
            reason::NAMESPACE_TERMINATING,
            WAITS,
        ),
        ("no object of the key", new().with(|o| o.master = None), reason::KEY_NOT_FOUND, WAITS),
        (
            "a key without object",
            new().with(|o| o.master.as_mut().unwrap().key_id = None),
            reason::KEY_NOT_READY,
            WAITS,
        ),
        (
            "a key of another id",
            new().with(|o| o.master.as_mut().unwrap().key_id = Some(Uuid::nil().to_string())),
            reason::KEY_NOT_READY,
            WAITS,
        ),
        ("no key yet", new().with(keyed(Ok(None))), reason::KEY_NOT_READY, WAITS),
        ("a key that can't be read", new().with(keyed(tampered())), reason::KEY_NOT_READY, WAITS),
        ("an erased key", new().with(keyed(Ok(Some(tombstone())))), reason::KEY_DELETED, STALLS),
        ("disabled", new().with(keyed(Ok(Some(key(&[KeyStep::Disable]))))), reason::KEY_DISABLED, WAITS),
        ("pending", new().with(keyed(Ok(Some(key(&pending))))), reason::KEY_PENDING_DELETION, WAITS),
        (
            "disabled, with a ciphertext",
            opened(
                new().stored().with(keyed(Ok(Some(key(&[KeyStep::Disable]))))),
                crate::kms::Rejected::Disabled.into(),
            ),
            reason::KEY_DISABLED,
            WAITS,
        ),
        (
            "foreign annotation",
            opened(new().annotated(), StoreError::InvalidCiphertext),
            reason::FOREIGN_CIPHERTEXT,
            STALLS,
        ),
        (
            "annotation of another key",
            opened(new().annotated(), StoreError::IncorrectKey { key_id: Uuid::nil() }),
            reason::FOREIGN_CIPHERTEXT,
            STALLS,
        ),
        ("not base64", new().annotated().gathered().with(|o| o.opened = None), reason::FOREIGN_CIPHERTEXT, STALLS),
        ("foreign status", opened(new().stored(), StoreError::InvalidCiphertext), reason::FOREIGN_CIPHERTEXT, STALLS),
        ("foreign Secret", opened(of_secret(), StoreError::InvalidCiphertext), reason::FOREIGN_CIPHERTEXT, STALLS),
        ("given, wrong", opened(given(BLOB), StoreError::InvalidCiphertext), reason::INVALID_CIPHERTEXT, STALLS),
        ("a root key is missing", opened(new().stored(), StoreError::Damaged), reason::KEY_NOT_READY, WAITS),
        ("another length", new().annotated().plaintext_of(31).gathered(), reason::FOREIGN_CIPHERTEXT, STALLS),
        (
            "given, of another length than declared",
            Case::new(json!({"ciphertextBlob": BLOB, "numberOfBytes": 16})).gathered(),
            reason::INVALID_CIPHERTEXT,
            STALLS,
        ),
        ("a Secret in the way", foreign_secret().annotated().stored().gathered(), reason::SECRET_CONFLICT, STALLS),
    ];
    for (what, case, expected, kstatus) in table {
        let plan = case.plan();
        let status = case.status();
        let ready = conditions::find(&status.conditions, READY).unwrap();
        assert_eq!((ready.reason.as_str(), trio(&status)), (expected, kstatus), "{what}: {}", ready.message);
        let [event] = &plan.events[..] else { panic!("{what}: one Event") };
        let comes_by_itself = [reason::NAMESPACE_TERMINATING, reason::KEY_NOT_FOUND, reason::KEY_NOT_READY];
        assert_eq!((event.reason, event.warning), (expected, !comes_by_itself.contains(&expected)), "{what}");

        // Said once: the same pass again writes nothing, and looks again only where nothing tells.
        let said = case.with(|o| o.object.status = Some(status));
        let again = said.plan();
        let Step::Rest { retry } = again.step else { panic!("{what}: it is written again") };
        assert_eq!((retry, again.events.len()), (expected == reason::SECRET_CONFLICT, 0), "{what}");
    }
}

#[test]
fn rule_12_first_status_then_the_annotation_then_the_secret() {
    let new = || Case::new(json!({}));
    assert!(matches!(new().gathered().plan().step, Step::Generate(k) if k == key(&[])));

    // Stored elsewhere than in status: taken over, and said where from.
    for (case, event) in [
        (new().annotated(), Some("annotation")),
        (new().settled().with(|o| (o.object.status, o.object.metadata.annotations) = (None, None)), Some("Secret")),
        (Case::new(json!({"ciphertextBlob": BLOB})), None),
    ] {
        let case = case.gathered();
        let plan = case.plan();
        assert_eq!(plan.events.first().map(|e| e.reason), event.map(|_| reason::DATA_KEY_ADOPTED));
        assert!(plan.events.iter().all(|e| !e.warning && e.message.contains(event.unwrap())));
        let status = case.status();
        assert_eq!(status.ciphertext_blob.as_deref(), Some(BLOB));
        assert_eq!(conditions::find(&status.conditions, READY).unwrap().reason, reason::DELIVERING);
        assert_eq!(status.generated_at.unwrap().0, now());
    }

    // In status: annotated. Status wins over another annotation.
    let other = |o: &mut Observed| {
        o.object.metadata.annotations = Some([(metadata::CIPHERTEXT_BLOB.to_owned(), "BBBB".to_owned())].into());
    };
    for case in [new().stored(), new().stored().with(other)] {
        assert!(
            matches!(case.gathered().plan().step, Step::Annotate(patch) if patch == json!({metadata::CIPHERTEXT_BLOB: BLOB}))
        );
    }

    // In both: delivered, and said to be.
    let case = new().stored().annotated().gathered();
    let plan = case.plan();
    assert!(matches!(plan.step, Step::CreateSecret(_)) && plan.events.is_empty());
    let settled = case.settled();
    let status = settled.observed.object.status.as_ref().unwrap();
    assert_eq!((trio(status), status.observed_generation), (["True", "False", "False"], Some(1)));
    assert_eq!(status.secret_ref.as_ref().unwrap().name, "dek");

    // A given one may have any length, if none is declared.
    let any = Case::new(json!({"ciphertextBlob": BLOB})).plaintext_of(5).settled();
    assert!(matches!(any.plan().step, Step::Rest { retry: false }));
}

#[test]
fn rule_12_what_differs_is_restored() {
    let settled = || Case::new(json!({})).settled();
    let data = |s: &mut Secret, key: &str, value: &[u8]| {
        s.data.get_or_insert_default().insert(key.into(), ByteString(value.to_vec()));
    };
    // What happened, whether the Secret is replaced (else made, or deleted to be made), and the Event.
    enum Expected {
        Create,
        Replace,
        Delete,
        Nothing,
    }
    use Expected::{Create, Delete, Nothing, Replace};
    let immutable = || Case::new(json!({"secret": {"immutable": true}})).settled();
    let renamed = |case: Case| case.spec(json!({"name": "other"}));
    let table: [(&str, Case, Expected, Option<&str>); 14] = [
        ("nothing", settled(), Nothing, None),
        ("deleted", settled().with(|o| o.secret = None), Create, Some("missing")),
        ("plaintext", settled().secret(|s| data(s, "plaintext", &[0; 32])), Replace, Some("changed")),
        ("an entry more", settled().secret(|s| data(s, "x", b"")), Replace, Some("changed")),
        ("no data", settled().secret(|s| s.data = None), Replace, Some("changed")),
        ("made immutable", settled().secret(|s| s.immutable = Some(true)), Delete, None),
        ("another type", settled().secret(|s| s.type_ = Some("x".into())), Delete, None),
        (
            "a label of others",
            settled().secret(|s| drop(s.metadata.labels.as_mut().unwrap().insert("a".into(), "b".into()))),
            Nothing,
            None,
        ),
        ("declared in hex", settled().spec(json!({"encoding": "Hex"})), Replace, None),
        ("declared immutable", settled().spec(json!({"immutable": true})), Replace, None),
        ("declared in hex, immutable", immutable().spec(json!({"encoding": "Hex", "immutable": true})), Delete, None),
        ("declared mutable", immutable().spec(json!({"immutable": false})), Delete, None),
        ("deleted by us before", immutable().spec(json!({"encoding": "Hex"})).with(|o| o.secret = None), Create, None),
        ("renamed", renamed(settled().with(|o| o.secret = None)), Create, None),
    ];
    for (what, case, expected, event) in table {
        let plan = case.plan();
        let as_expected = match expected {
            Create => matches!(plan.step, Step::CreateSecret(_)),
            Replace => matches!(plan.step, Step::ReplaceSecret(_)),
            Delete => matches!(plan.step, Step::DeleteSecret),
            Nothing => matches!(plan.step, Step::Rest { retry: false }),
        };
        assert!(as_expected, "{what}");
        assert_eq!(plan.events.len(), usize::from(event.is_some()), "{what}");
        for note in plan.events {
            assert!(note.reason == reason::SECRET_RESTORED && note.message.contains(event.unwrap()), "{what}");
        }
    }

    // Renamed and delivered: what was delivered before is dealt with.
    let moved = renamed(settled().with(|o| o.secret = None));
    let Step::CreateSecret(secret) = moved.plan().step else { panic!("it is not made") };
    let moved = moved.with(|o| o.secret = Some(secret));
    assert!(matches!(moved.plan().step, Step::DeleteFormer(name) if name == "dek"));
}

#[test]
fn an_object_that_is_being_deleted_is_left_alone() {
    let going = Case::new(json!({})).with(|o| {
        o.object.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    });
    assert!(matches!(going.gathered().plan().step, Step::Rest { retry: false }));
}

#[test]
fn encodings() {
    for (encoding, expected) in [
        ("Raw", vec![7; 32]),
        ("Base64", BASE64_STANDARD.encode([7; 32]).into_bytes()),
        ("Hex", "07".repeat(32).into_bytes()),
    ] {
        let case = Case::new(json!({"secret": {"encoding": encoding}})).stored().annotated().gathered();
        let Step::CreateSecret(secret) = case.plan().step else { panic!("{encoding}") };
        assert_eq!(secret.expose().data.as_ref().unwrap()["plaintext"].0, expected, "{encoding}");
    }
    let case = Case::new(json!({"withoutPlaintext": true})).stored().annotated().gathered();
    let Step::CreateSecret(secret) = case.plan().step else { panic!("not delivered") };
    assert!(!secret.expose().data.as_ref().unwrap().contains_key("plaintext"));
}
