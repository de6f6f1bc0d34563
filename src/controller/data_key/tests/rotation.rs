//! Rotation: when, and that nothing is lost on the way.

use std::collections::BTreeSet;

use super::*;
use crate::controller::data_key::{
    next_event,
    rotation::{MAX_HISTORY, Refusal, Rotation},
};

const DAY: i64 = 24 * 60 * 60;

/// A delivered data key, of which 30 days pass.
pub(super) fn old(spec: Value) -> Case {
    later(Case::new(spec).driven().0, 30)
}

pub(super) fn later(mut case: Case, days: i64) -> Case {
    case.now = Timestamp::from_second(case.now.as_second() + days * DAY).unwrap();
    case
}

pub(super) fn requested(case: Case, at: &str) -> Case {
    case.with(|o| {
        let annotations = o.object.metadata.annotations.get_or_insert_default();
        annotations.insert(metadata::ROTATE_REQUESTED_AT.into(), at.into());
    })
}

pub(super) fn status(case: &Case) -> &DataKeyStatus {
    case.observed.object.status.as_ref().unwrap()
}

pub(super) fn history(case: &Case) -> Vec<String> {
    status(case).history.iter().map(|former| former.ciphertext_blob.clone()).collect()
}

pub(super) fn entry(case: &Case, name: &str) -> Option<Vec<u8>> {
    case.observed.secret.as_ref().unwrap().expose().data.as_ref().unwrap().get(name).map(|value| value.0.clone())
}

pub(super) fn ready_reason(case: &Case) -> &str {
    &conditions::find(&status(case).conditions, READY).unwrap().reason
}

#[test]
fn rule_12_when_a_data_key_rotates() {
    let full = |case: Case| {
        case.with(|o| {
            let former = describe::former(BLOB, now());
            o.object.status.as_mut().unwrap().history = vec![former; MAX_HISTORY];
        })
    };
    let crowded = |case: Case, bytes: usize| {
        case.with(|o| drop(o.object.annotations_mut().insert("example.com/notes".into(), "x".repeat(bytes))))
    };
    let immutable = json!({"secret": {"immutable": true}});
    let table = [
        ("no interval", old(json!({})), Rotation::NotNow),
        ("a longer interval", old(json!({"rotationIntervalDays": 31})), Rotation::NotNow),
        ("to the second", old(json!({"rotationIntervalDays": 30})), Rotation::Now),
        ("overdue", later(old(json!({"rotationIntervalDays": 1})), 400), Rotation::Now),
        ("requested", requested(old(json!({})), "x"), Rotation::Now),
        ("requested before it was generated", requested(Case::new(json!({})), "x").driven().0, Rotation::NotNow),
        ("immutable", old(immutable.clone()), Rotation::NotNow),
        ("immutable, requested", requested(old(immutable), "x"), Rotation::Refused(Refusal::ImmutableSecret)),
        ("given, requested", requested(old(json!({"ciphertextBlob": BLOB})), "x"), Rotation::Refused(Refusal::Given)),
        ("full", full(old(json!({"rotationIntervalDays": 31}))), Rotation::NotNow),
        ("full, due", full(old(json!({"rotationIntervalDays": 30}))), Rotation::HistoryFull),
        (
            "no room for annotations",
            crowded(old(json!({"rotationIntervalDays": 30})), 262_000),
            Rotation::AnnotationsFull,
        ),
        ("just room for annotations", crowded(old(json!({"rotationIntervalDays": 30})), 261_000), Rotation::Now),
        ("no room, and not due", crowded(old(json!({"rotationIntervalDays": 31})), 262_000), Rotation::NotNow),
        ("full, requested", full(requested(old(json!({})), "x")), Rotation::HistoryFull),
    ];
    for (what, case, expected) in table {
        assert_eq!(Rotation::of(&case.observed.object, case.now), expected, "{what}");
    }
}

#[test]
fn rule_12_a_rotation_keeps_the_one_before() {
    let (rotated, events) = old(json!({"rotationIntervalDays": 30})).driven();
    assert_eq!(events, [reason::DATA_KEY_ROTATED], "and not that the Secret was restored");
    assert_eq!((status(&rotated).ciphertext_blob.as_deref(), history(&rotated)), (Some("HAAA"), vec!["GAAA".into()]));
    assert_eq!(rotated.observed.object.annotations()[metadata::CIPHERTEXT_BLOB], "HAAA");
    assert_eq!(status(&rotated).generated_at.as_ref().unwrap().0, rotated.now);
    assert_eq!(status(&rotated).history[0].generated_at.0, now());
    assert_eq!(next_event(&rotated.observed.object), Some(later(Case::new(json!({})), 60).now));
    for (name, value) in [
        ("plaintext", vec![b'H'; 32]),
        ("ciphertextBlob", b"HAAA".to_vec()),
        ("previous-plaintext", vec![b'G'; 32]),
        ("previous-ciphertextBlob", b"GAAA".to_vec()),
    ] {
        assert_eq!(entry(&rotated, name), Some(value), "{name}");
    }

    // Again: the one before that leaves the Secret, and stays in the history.
    let (again, _) = later(rotated, 30).driven();
    assert_eq!(history(&again), ["GAAA", "HAAA"]);
    assert_eq!(entry(&again, "previous-plaintext"), Some(vec![b'H'; 32]));

    // Deleted and tampered with, it comes back with both.
    let data = again.observed.secret.as_ref().unwrap().expose().data.clone();
    let (restored, events) = again.with(|o| o.secret = None).driven();
    assert_eq!(events, [reason::SECRET_RESTORED]);
    assert!(restored.observed.secret.as_ref().unwrap().expose().data == data);
    let (restored, events) = restored.secret(|s| drop(s.data.as_mut().unwrap().remove("previous-plaintext"))).driven();
    assert_eq!(events, [reason::SECRET_RESTORED]);
    assert!(restored.observed.secret.as_ref().unwrap().expose().data == data);
}

#[test]
fn rule_12_the_previous_one_is_written_as_declared() {
    let spec = |more: Value| {
        let mut spec = json!({"rotationIntervalDays": 30});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        old(spec).driven().0
    };
    let hex = spec(json!({"secret": {"encoding": "Hex"}}));
    assert_eq!(entry(&hex, "previous-plaintext"), Some("47".repeat(32).into_bytes()));
    let base64 = spec(json!({"secret": {"encoding": "Base64"}}));
    assert_eq!(entry(&base64, "previous-plaintext"), Some(BASE64_STANDARD.encode([b'G'; 32]).into_bytes()));
    let without = spec(json!({"withoutPlaintext": true}));
    assert_eq!(entry(&without, "previous-ciphertextBlob"), Some(b"GAAA".to_vec()));
    assert!(entry(&without, "previous-plaintext").is_none() && entry(&without, "plaintext").is_none());
    assert!(without.observed.previous.is_none(), "what is not delivered is not decrypted");
}

#[test]
fn rule_12_a_request_is_answered_once() {
    let (rotated, _) = requested(old(json!({})), "first").driven();
    assert_eq!((history(&rotated).len(), status(&rotated).last_handled_rotation.as_deref()), (1, Some("first")));
    let (same, events) = later(rotated, 30).driven();
    assert!(events.is_empty() && history(&same).len() == 1, "no other one without another request");
    let (withdrawn, _) = same.with(|o| drop(o.object.annotations_mut().remove(metadata::ROTATE_REQUESTED_AT))).driven();
    assert_eq!(history(&withdrawn).len(), 1);
    let (second, _) = requested(withdrawn, "second").driven();
    assert_eq!((history(&second).len(), status(&second).last_handled_rotation.as_deref()), (2, Some("second")));
}

#[test]
fn rule_12_the_next_rotation_follows_the_interval() {
    let case = Case::new(json!({"rotationIntervalDays": 30})).driven().0;
    let next = |case: &Case| status(case).next_rotation.as_ref().map(|t| (t.0.as_second() - now().as_second()) / DAY);
    assert_eq!(next(&case), Some(30));
    let with_interval = |case: Case, days| {
        case.with(|o| {
            o.object.spec.rotation_interval_days = days;
            *o.object.metadata.generation.as_mut().unwrap() += 1;
        })
        .driven()
        .0
    };
    let longer = with_interval(case, Some(50));
    assert_eq!((next(&longer), history(&longer).len()), (Some(50), 0));
    let never = with_interval(longer, None);
    assert_eq!((next(&never), next_event(&never.observed.object)), (None, None));
    let shorter = with_interval(later(never, 10), Some(5));
    assert_eq!((next(&shorter), history(&shorter).len()), (Some(15), 1), "overdue by the new interval: at once");
}

/// The alarm never asks for a pass that has nothing to do: that would be asked for again at once.
#[test]
fn what_is_overdue_and_can_not_rotate_is_not_asked_for_again() {
    let due = || old(json!({"rotationIntervalDays": 30}));
    let full = due().with(|o| {
        o.object.status.as_mut().unwrap().history = vec![describe::former("MAAA", now()); MAX_HISTORY];
    });
    assert!(next_event(&full.observed.object).is_some_and(|next| next <= full.now));
    let (full, _) = full.driven();
    assert_eq!((ready_reason(&full), next_event(&full.observed.object)), (reason::HISTORY_FULL, None));

    let disabled = due().with(|o| o.key = Ok(Some(key(&[KeyStep::Disable])))).gathered();
    let disabled = disabled.with(|o| o.opened = Some(Err(crate::kms::Rejected::Disabled.into())));
    let step = disabled.plan().step;
    let waiting = disabled.done(step);
    assert_eq!((ready_reason(&waiting), next_event(&waiting.observed.object)), (reason::KEY_DISABLED, None));
    assert_eq!(history(&waiting).len(), 0);

    // And at once when the key is enabled again.
    let (rotated, events) = waiting.with(|o| o.key = Ok(Some(key(&[])))).driven();
    assert_eq!((history(&rotated).len(), events), (1, vec![reason::DATA_KEY_ROTATED]));
}

#[test]
fn rule_12_a_rotation_that_can_not_be_made_is_said() {
    let immutable = requested(old(json!({"secret": {"immutable": true}})), "x");
    let given = requested(old(json!({"ciphertextBlob": BLOB})), "x");
    let both = old(json!({"rotationIntervalDays": 30, "secret": {"immutable": true}}));
    for case in [immutable, given, both] {
        let (case, _) = case.driven();
        assert_eq!((ready_reason(&case), trio(status(&case))), (reason::ROTATION_REFUSED, ["False", "False", "True"]));
        assert_eq!(history(&case).len(), 0);
        assert!(case.observed.secret.is_some(), "it stays delivered");
        assert_eq!(next_event(&case.observed.object), None);
    }
}

/// Interrupted after any step of a rotation: what goes on from there, also where status is lost, has every data key
/// that was ever delivered.
#[test]
fn rule_12_interrupted_anywhere_a_rotation_loses_nothing() {
    let start = || old(json!({"rotationIntervalDays": 30})).driven().0;
    for steps in 0..5 {
        for (lost, secret_lost) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut case = later(start(), 30).gathered();
            for _ in 0..steps {
                let step = case.plan().step;
                if !matches!(step, Step::Rest { .. }) {
                    case = case.done(step).gathered();
                }
            }
            let delivered: BTreeSet<_> = ["previous-ciphertextBlob", "ciphertextBlob"]
                .into_iter()
                .filter_map(|name| entry(&case, name))
                .map(|text| String::from_utf8(text).unwrap())
                .collect();
            if lost {
                case = case.with(|o| o.object.status = None);
            }
            if secret_lost {
                case = case.with(|o| o.secret = None);
            }
            let (case, _) = case.driven();
            let what = format!("after {steps} steps, status lost: {lost}, Secret lost: {secret_lost}");
            let mut known: BTreeSet<_> = history(&case).into_iter().collect();
            known.extend(status(&case).ciphertext_blob.clone());
            assert!(delivered.is_subset(&known), "{what}: {delivered:?} {known:?}");
            assert_eq!(ready_reason(&case), reason::AS_DECLARED, "{what}");
            let previous = history(&case).last().cloned();
            assert_eq!(entry(&case, "previous-ciphertextBlob"), previous.map(String::into_bytes), "{what}");
            if !lost {
                assert_eq!(history(&case), ["GAAA", "HAAA"], "{what}: once");
            }
        }
    }
}

#[test]
fn rule_12_status_lost_the_previous_one_is_taken_over_from_the_secret() {
    let rotated = || old(json!({"rotationIntervalDays": 30})).driven().0;
    for annotation in [true, false] {
        let (case, events) = rotated()
            .with(|o| {
                o.object.status = None;
                if !annotation {
                    o.object.metadata.annotations = None;
                }
            })
            .driven();
        assert_eq!(events, [reason::DATA_KEY_ADOPTED], "all in one write");
        assert_eq!((status(&case).ciphertext_blob.as_deref(), history(&case)), (Some("HAAA"), vec!["GAAA".into()]));
        assert_eq!(entry(&case, "previous-plaintext"), Some(vec![b'G'; 32]));
    }
    // An older status or annotation beside a newer Secret: the Secret's data key is kept.
    let (case, _) = rotated()
        .with(|o| {
            o.object.status = None;
            o.object.annotations_mut().insert(metadata::CIPHERTEXT_BLOB.into(), "GAAA".into());
            o.object.annotations_mut().remove(metadata::CIPHERTEXT_HISTORY);
        })
        .driven();
    assert_eq!((status(&case).ciphertext_blob.as_deref(), history(&case)), (Some("GAAA"), vec!["HAAA".into()]));

    // What is not this DataKey's is no history of it.
    let foreign = |s: &mut Secret| {
        s.data.as_mut().unwrap().insert("previous-ciphertextBlob".into(), ByteString(b"FAAA".to_vec()));
    };
    let (case, events) = rotated().secret(foreign).driven();
    assert_eq!((events, history(&case)), (vec![reason::SECRET_RESTORED], vec!["GAAA".into()]));
    // Nor where the data key was given: anybody may have encrypted under its context.
    let (given, _) = Case::new(json!({"ciphertextBlob": BLOB}))
        .settled()
        .secret(|s| {
            s.data.as_mut().unwrap().insert("previous-ciphertextBlob".into(), ByteString(b"MAAA".to_vec()));
        })
        .driven();
    assert!(history(&given).is_empty() && entry(&given, "previous-ciphertextBlob").is_none());
}

#[test]
fn rule_12_no_room_for_what_the_secret_alone_has() {
    let full = old(json!({})).with(|o| {
        o.object.status.as_mut().unwrap().history = vec![describe::former("MAAA", now()); MAX_HISTORY];
    });
    let full = full.driven().0.secret(|s| {
        s.data.as_mut().unwrap().insert("ciphertextBlob".into(), ByteString(b"NAAA".to_vec()));
        s.data.as_mut().unwrap().insert("plaintext".into(), ByteString(vec![b'N'; 32]));
    });
    let (case, _) = full.driven();
    assert_eq!(ready_reason(&case), reason::HISTORY_FULL);
    assert_eq!(entry(&case, "ciphertextBlob"), Some(b"NAAA".to_vec()), "the Secret is left as it is");
}

#[test]
fn rule_12_a_foreign_history_is_never_delivered() {
    let (case, _) = old(json!({}))
        .with(|o| o.object.status.as_mut().unwrap().history = vec![describe::former("FAAA", now())])
        .driven();
    assert_eq!(ready_reason(&case), reason::FOREIGN_CIPHERTEXT);
    assert!(entry(&case, "previous-ciphertextBlob").is_none());
}
