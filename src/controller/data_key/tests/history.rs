//! The history in the annotation: what is written there, and what counts of it where status was lost.

use super::{
    rotation::{entry, history, later, old, ready_reason, requested, status},
    *,
};
use crate::controller::data_key::rotation::MAX_HISTORY;

/// Rotated three times, 30 days apart: G, H and I before J.
fn thrice() -> Case {
    let mut case = old(json!({"rotationIntervalDays": 30})).driven().0;
    for _ in 0..2 {
        case = later(case, 30).driven().0;
    }
    assert_eq!(history(&case), ["GAAA", "HAAA", "IAAA"]);
    case
}

fn annotation(case: &Case, name: &str) -> Option<String> {
    case.observed.object.annotations().get(name).cloned()
}

/// With another annotation, or none.
fn annotate(case: Case, name: &str, value: Option<&str>) -> Case {
    case.with(|o| {
        match value {
            Some(value) => o.object.annotations_mut().insert(name.into(), value.into()),
            None => o.object.annotations_mut().remove(name),
        };
    })
}

/// As Velero restores it: without status and, where that is said, without its Secret.
fn restored(case: Case, with_secret: bool) -> Case {
    case.with(|o| {
        o.object.status = None;
        if !with_secret {
            o.secret = None;
        }
    })
}

fn list(texts: &[&str]) -> String {
    let former = |text: &&str| json!({"ciphertextBlob": text, "generatedAt": "1970-01-12T13:46:40Z"});
    json!(texts.iter().map(former).collect::<Vec<_>>()).to_string()
}

#[test]
fn rule_12_the_annotation_has_the_history_of_status() {
    let first = Case::new(json!({"rotationIntervalDays": 30})).driven().0;
    assert_eq!(annotation(&first, metadata::CIPHERTEXT_HISTORY), None);
    assert_eq!(annotation(&first, metadata::GENERATED_AT).as_deref(), Some("1970-01-12T13:46:40Z"));

    let case = thrice();
    let text = annotation(&case, metadata::CIPHERTEXT_HISTORY).unwrap();
    assert_eq!(text, serde_json::to_string(&status(&case).history).unwrap());
    assert!(text.starts_with(r#"[{"ciphertextBlob":"GAAA","generatedAt":"1970-01-12T13:46:40Z"},"#), "{text}");

    // All in the one write that a rotation took before.
    let mut due = later(thrice(), 30).gathered();
    let mut patches = Vec::new();
    for _ in 0..5 {
        let step = due.plan().step;
        if let Step::Annotate(patch) = &step {
            patches.push(patch.as_object().unwrap().keys().cloned().collect::<Vec<_>>());
        }
        if !matches!(step, Step::Rest { .. }) {
            due = due.done(step).gathered();
        }
    }
    assert_eq!(patches, [[metadata::CIPHERTEXT_BLOB, metadata::CIPHERTEXT_HISTORY, metadata::GENERATED_AT]]);
}

#[test]
fn rule_12_status_wins_over_the_annotated_history() {
    let wanted = thrice().observed.object.annotations().clone();
    for (name, value) in [
        (metadata::CIPHERTEXT_HISTORY, None),
        (metadata::CIPHERTEXT_HISTORY, Some("nonsense")),
        (metadata::CIPHERTEXT_HISTORY, Some("[]")),
        (metadata::CIPHERTEXT_HISTORY, Some(&*list(&["FAAA"]))),
        (metadata::GENERATED_AT, None),
        (metadata::GENERATED_AT, Some("2001-01-01T00:00:00Z")),
    ] {
        let changed = annotate(thrice(), name, value).gathered();
        let Step::Annotate(patch) = changed.plan().step else { panic!("{name}: {value:?}") };
        assert_eq!(patch, json!({name: wanted[name]}), "{value:?}");
        let (case, events) = changed.driven();
        assert_eq!((events.len(), case.observed.object.annotations()), (0, &wanted), "{name}: {value:?}");
        assert_eq!(history(&case), ["GAAA", "HAAA", "IAAA"]);
    }
    // Brought where there is no history, and where there never is one: it goes.
    let brought = |case| annotate(case, metadata::CIPHERTEXT_HISTORY, Some(&list(&["MAAA"])));
    let (none, events) = brought(Case::new(json!({})).driven().0).driven();
    assert_eq!((events.len(), history(&none).len()), (0, 0));
    assert_eq!(annotation(&none, metadata::CIPHERTEXT_HISTORY), None);
    let (given, _) = brought(Case::new(json!({"ciphertextBlob": BLOB}))).driven();
    assert_eq!((ready_reason(&given), history(&given).len()), (reason::AS_DECLARED, 0));
    assert_eq!(annotation(&given, metadata::CIPHERTEXT_HISTORY), None);
    let given = annotate(Case::new(json!({"ciphertextBlob": BLOB})), metadata::CIPHERTEXT_HISTORY, Some("[1]"));
    let (given, _) = given.driven();
    assert_eq!((ready_reason(&given), history(&given).len()), (reason::AS_DECLARED, 0));
    assert_eq!(annotation(&given, metadata::CIPHERTEXT_HISTORY), None);
}

#[test]
fn rule_12_status_lost_the_history_is_taken_over_from_the_annotation() {
    for with_secret in [true, false] {
        let before = thrice();
        let (dates, next) = (status(&before).history.clone(), status(&before).next_rotation.clone());
        let case = restored(later(before, 3), with_secret).gathered();
        let plan = case.plan();
        assert!(plan.events[0].message.contains("status.history: 3"), "{}", plan.events[0].message);
        let Step::WriteStatus(taken) = plan.step else { panic!("nothing is taken over") };
        assert_eq!((taken.ciphertext_blob.as_deref(), &taken.history), (Some("JAAA"), &dates), "all in one write");
        let (case, events) = case.driven();
        assert_eq!(events, [reason::DATA_KEY_ADOPTED]);
        assert_eq!((ready_reason(&case), &status(&case).history), (reason::AS_DECLARED, &dates));
        assert_eq!(entry(&case, "plaintext"), Some(vec![b'J'; 32]));
        assert_eq!(entry(&case, "previous-plaintext"), Some(vec![b'I'; 32]));
        assert_eq!(status(&case).next_rotation, next, "the interval goes on");
        let (rotated, _) = later(case, 27).driven();
        assert_eq!(history(&rotated), ["GAAA", "HAAA", "IAAA", "JAAA"]);
    }
}

/// What is in the annotations and the Secret is put together, the oldest first, each once.
#[test]
fn rule_12_what_is_left_of_a_history_is_put_together() {
    let (blob, former) = (metadata::CIPHERTEXT_BLOB, metadata::CIPHERTEXT_HISTORY);
    let lost = |with_secret| restored(thrice(), with_secret);
    let older = |case| annotate(annotate(case, blob, Some("GAAA")), former, None);
    let middle = |case| annotate(annotate(case, blob, Some("HAAA")), former, Some(&list(&["GAAA"])));
    let table = [
        ("older annotations beside the Secret", older(lost(true)), "GAAA", vec!["IAAA", "JAAA"]),
        ("the same in the middle", middle(lost(true)), "HAAA", vec!["GAAA", "IAAA", "JAAA"]),
        ("older annotations alone", middle(lost(false)), "HAAA", vec!["GAAA"]),
        ("history gone", annotate(lost(true), former, None), "JAAA", vec!["IAAA"]),
        ("current gone", annotate(lost(true), blob, None), "JAAA", vec!["GAAA", "HAAA", "IAAA"]),
        (
            "twice, and the current one in it",
            annotate(lost(true), former, Some(&list(&["GAAA", "HAAA", "GAAA", "JAAA", "IAAA"]))),
            "JAAA",
            vec!["GAAA", "HAAA", "IAAA"],
        ),
        ("empty", annotate(lost(false), former, Some("[]")), "JAAA", vec![]),
    ];
    for (what, case, current, expected) in table {
        let (case, events) = case.driven();
        assert_eq!(
            (status(&case).ciphertext_blob.as_deref(), history(&case)),
            (Some(current), strings(&expected)),
            "{what}"
        );
        assert_eq!((ready_reason(&case), events), (reason::AS_DECLARED, vec![reason::DATA_KEY_ADOPTED]), "{what}");
        let text = expected.last().map(|text| text.as_bytes().to_vec());
        assert_eq!(entry(&case, "previous-ciphertextBlob"), text, "{what}");
    }

    // The current one is nowhere: a new one, and the history stays.
    let (case, events) = annotate(lost(false), blob, None).driven();
    assert_eq!(events, [reason::DATA_KEY_ADOPTED]);
    assert_eq!((status(&case).ciphertext_blob.as_deref(), history(&case).len()), (Some("KAAA"), 3));
    assert_eq!(entry(&case, "previous-plaintext"), Some(vec![b'I'; 32]));
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn rule_12_a_foreign_or_malformed_annotated_history_stalls() {
    let many: Vec<String> = (0..=MAX_HISTORY).map(|n| format!("M{n:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let table = [
        ("last", list(&["GAAA", "FAAA"]), "Entry 2"),
        ("first", list(&["FAAA", "GAAA", "HAAA", "IAAA"]), "Entry 1"),
        ("no JSON", "GAAA".into(), "JSON list"),
        ("no list", "{}".into(), "JSON list"),
        ("no date", r#"[{"ciphertextBlob": "GAAA"}]"#.into(), "JSON list"),
        ("no time", r#"[{"ciphertextBlob": "GAAA", "generatedAt": "x"}]"#.into(), "JSON list"),
        ("too many", list(&many), "at most 64"),
    ];
    for (what, text, says) in table {
        for (blob, with_secret) in [(true, true), (true, false), (false, true), (false, false)] {
            let case = annotate(restored(thrice(), with_secret), metadata::CIPHERTEXT_HISTORY, Some(&text));
            let case = if blob { case } else { annotate(case, metadata::CIPHERTEXT_BLOB, None) };
            let secret = case.observed.secret.as_ref().map(|secret| secret.expose().clone());
            let (case, events) = case.driven();
            assert_eq!((ready_reason(&case), trio(status(&case))[2]), (reason::FOREIGN_CIPHERTEXT, "True"), "{what}");
            assert_eq!(events, [reason::FOREIGN_CIPHERTEXT], "{what}");
            let message = &conditions::find(&status(&case).conditions, READY).unwrap().message;
            assert!(message.contains(metadata::CIPHERTEXT_HISTORY) && message.contains(says), "{what}: {message}");
            assert!(
                status(&case).ciphertext_blob.is_none() && history(&case).is_empty(),
                "{what}: nothing is taken over"
            );
            let now = case.observed.secret.as_ref().map(|secret| secret.expose().clone());
            assert!(now == secret, "{what}: nor delivered");
            assert_eq!(annotation(&case, metadata::CIPHERTEXT_HISTORY), Some(text.clone()), "{what}: nor removed");

            // As the message says.
            let (case, _) = annotate(case, metadata::CIPHERTEXT_HISTORY, Some(&list(&["GAAA"]))).driven();
            assert_eq!((ready_reason(&case), &*history(&case)[0]), (reason::AS_DECLARED, "GAAA"), "{what}");
        }
    }
    // Of another length than this DataKey's: not made for it.
    let case = restored(thrice(), false).gathered().with(|o| {
        o.annotated.as_mut().unwrap()[1].opened = Ok(Plaintext::from(vec![7; 31]));
    });
    assert_eq!(conditions::find(&case.status().conditions, READY).unwrap().reason, reason::FOREIGN_CIPHERTEXT);
    // The key can't be used now: waited for.
    let case = restored(thrice(), false).gathered().with(|o| {
        o.key = Ok(Some(key(&[KeyStep::Disable])));
        o.annotated.as_mut().unwrap()[0].opened = Err(crate::kms::Rejected::Disabled.into());
    });
    assert_eq!(conditions::find(&case.status().conditions, READY).unwrap().reason, reason::KEY_DISABLED);
}

#[test]
fn rule_12_a_full_history_comes_back_and_has_no_room_for_what_the_secret_alone_has() {
    let texts: Vec<String> = (0..MAX_HISTORY).map(|n| format!("M{n:03}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let full = || annotate(restored(old(json!({})), true), metadata::CIPHERTEXT_HISTORY, Some(&list(&texts)));
    let (case, _) = full().driven();
    assert_eq!((ready_reason(&case), history(&case)), (reason::AS_DECLARED, strings(&texts)));
    let stray = |s: &mut Secret| {
        s.data.as_mut().unwrap().insert("previous-ciphertextBlob".into(), ByteString(b"NAAA".to_vec()));
        s.data.as_mut().unwrap().insert("previous-plaintext".into(), ByteString(vec![b'N'; 32]));
    };
    let (case, _) = full().secret(stray).driven();
    assert_eq!((ready_reason(&case), history(&case)), (reason::HISTORY_FULL, strings(&texts)));
    assert_eq!(entry(&case, "previous-ciphertextBlob"), Some(b"NAAA".to_vec()), "the Secret is left as it is");
}

#[test]
fn rule_12_the_annotated_date_never_puts_a_rotation_off() {
    let generated_at = |text: Option<&str>| {
        let case = later(Case::new(json!({"rotationIntervalDays": 300})).driven().0, 30);
        let (case, _) = annotate(restored(case, false), metadata::GENERATED_AT, text).driven();
        (status(&case).generated_at.as_ref().unwrap().0, case.now)
    };
    assert_eq!(generated_at(Some("1970-01-12T13:46:40Z")).0, now());
    for text in [None, Some("soon"), Some("2999-01-01T00:00:00Z")] {
        let (at, restored_at) = generated_at(text);
        assert_eq!(at, restored_at, "{text:?}: from the restore on");
    }
    // That of another data key says nothing.
    let case = later(Case::new(json!({})).driven().0, 30);
    let (case, _) = annotate(restored(case, true), metadata::CIPHERTEXT_BLOB, None).driven();
    assert_eq!(status(&case).generated_at.as_ref().unwrap().0, case.now);
    // Overdue at the restore: it rotates, once it is delivered.
    let case = later(Case::new(json!({"rotationIntervalDays": 30})).driven().0, 40);
    let (case, events) = restored(case, false).driven();
    assert_eq!((history(&case).len(), events), (1, vec![reason::DATA_KEY_ADOPTED, reason::DATA_KEY_ROTATED]));
    // And what was asked for before is not made again.
    let (case, _) = restored(requested(old(json!({})), "x").driven().0, false).driven();
    assert_eq!(history(&case), ["GAAA"]);
}
