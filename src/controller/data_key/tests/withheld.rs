//! What only the Secret has is delivered only if the plaintext is in it: it may have been put there by anybody (rule 18).

use super::{
    rotation::{entry, history, old, ready_reason, status},
    *,
};

/// An entry of a Secret.
type Entry<'a> = (&'a str, &'a [u8]);

/// Rotated once, G before H; then status and annotations are lost, and the Secret has these entries.
fn restored(spec: Value, entries: &[Entry<'_>]) -> Case {
    let mut full = json!({"rotationIntervalDays": 30});
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let (case, _) = old(full).driven();
    case.secret(|s| {
        let data = entries.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.to_vec())));
        s.data = Some(data.collect());
    })
    .with(|o| (o.object.status, o.object.metadata.annotations) = (None, None))
}

#[test]
fn rule_18_a_data_key_of_the_secret_alone_is_delivered_only_if_it_was() {
    let (g, h) = ([b'G'; 32], [b'H'; 32]);
    let (hex, base64) = ("48".repeat(32), BASE64_STANDARD.encode(h));
    let blob = ("ciphertextBlob", &b"HAAA"[..]);
    let previous = ("previous-ciphertextBlob", &b"GAAA"[..]);
    let table: [(&str, Vec<Entry<'_>>, bool); 11] = [
        ("delivered", vec![blob, ("plaintext", &h)], true),
        ("in hex", vec![blob, ("plaintext", hex.as_bytes())], true),
        ("in base64", vec![blob, ("plaintext", base64.as_bytes())], true),
        ("with the one before", vec![blob, ("plaintext", &h), previous, ("previous-plaintext", &g)], true),
        ("in the other's place", vec![blob, ("plaintext", &g), previous, ("previous-plaintext", &h)], true),
        ("its ciphertext alone", vec![blob], false),
        ("another plaintext", vec![blob, ("plaintext", &g)], false),
        ("a part of it", vec![blob, ("plaintext", &h[..31])], false),
        ("no plaintext", vec![blob, ("plaintext", b"")], false),
        ("the one before as a ciphertext alone", vec![blob, ("plaintext", &h), previous], false),
        ("both as ciphertexts", vec![blob, previous], false),
    ];
    for (what, entries, delivered) in table {
        let (case, events) = restored(json!({}), &entries).driven();
        if delivered {
            assert_eq!((ready_reason(&case), &events[0]), (reason::AS_DECLARED, &reason::DATA_KEY_ADOPTED), "{what}");
            assert_eq!(entry(&case, "plaintext"), Some(h.to_vec()), "{what}");
        } else {
            assert_eq!((ready_reason(&case), events), (reason::PLAINTEXT_WITHHELD, vec![reason::PLAINTEXT_WITHHELD]));
            assert_eq!(trio(status(&case)), ["False", "False", "True"], "{what}");
            assert!(status(&case).ciphertext_blob.is_none() && history(&case).is_empty(), "{what}: not taken over");
            let left: Vec<_> =
                entries.iter().map(|(name, value)| entry(&case, name).as_deref() == Some(*value)).collect();
            assert!(left.iter().all(|same| *same), "{what}: left as it is");
        }
        // Where no plaintext is asked for, there is none to withhold.
        let (case, _) = restored(json!({"withoutPlaintext": true}), &entries).driven();
        assert_eq!((ready_reason(&case), entry(&case, "plaintext")), (reason::AS_DECLARED, None), "{what}");
        assert_eq!(status(&case).ciphertext_blob.as_deref(), Some("HAAA"), "{what}");
        assert_eq!(history(&case).len(), usize::from(entries.contains(&previous)), "{what}");
    }
}

/// Status is there, and older than what is in the Secret, or so it seems.
#[test]
fn rule_18_a_data_key_that_status_does_not_know_is_not_decrypted_into_the_history() {
    let planted = |with_plaintext: bool| {
        Case::new(json!({})).settled().secret(|s| {
            let data = s.data.as_mut().unwrap();
            data.insert("previous-ciphertextBlob".into(), ByteString(b"MAAA".to_vec()));
            if with_plaintext {
                data.insert("previous-plaintext".into(), ByteString(vec![b'M'; 32]));
            }
        })
    };
    let (case, events) = planted(false).driven();
    assert_eq!((ready_reason(&case), events), (reason::PLAINTEXT_WITHHELD, vec![reason::PLAINTEXT_WITHHELD]));
    assert!(history(&case).is_empty() && entry(&case, "previous-plaintext").is_none());
    let (case, _) = planted(true).driven();
    assert_eq!((ready_reason(&case), history(&case)), (reason::AS_DECLARED, vec!["MAAA".to_owned()]));
}
