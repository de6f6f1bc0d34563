//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey, and what a dry run is for.

use super::*;

/// Encrypt takes at most 6 KB, counted after decoding.
#[test]
fn rule_19_encrypt_takes_6_kb_in_the_alibaba_dialect() {
    let zeros = |groups: usize| "AAAA".repeat(groups);
    let length = |text: &str| {
        let look = look!(ActionRequest::Encrypt(asked) => asked.plaintext.len());
        read("Encrypt", &[("KeyId", ID), ("Plaintext", text)], look)
    };
    assert_eq!(length(&zeros(2048)), Ok(6144));
    assert_eq!(length("AA=="), Ok(1));
    assert_invalid("Encrypt", &[("KeyId", ID), ("Plaintext", &format!("{}AA==", zeros(2048)))], "Plaintext");
    assert_invalid("Encrypt", &[("KeyId", ID), ("Plaintext", &zeros(2049))], "Plaintext");
    for text in ["AAA", "AA", "A", "AAAA=", "AA-_", "AA AA", "AB==", "é"] {
        assert_invalid("Encrypt", &[("KeyId", ID), ("Plaintext", text)], "Plaintext");
        assert_invalid("Decrypt", &[("CiphertextBlob", text)], "CiphertextBlob");
    }
}

#[test]
fn encryption_contexts_are_objects_of_texts() {
    let context = |text: &str| {
        let pairs = [("KeyId", ID), ("Plaintext", "AAAA"), ("EncryptionContext", text)];
        read("Encrypt", &pairs, look!(ActionRequest::Encrypt(asked) => asked.context))
    };
    assert_eq!(context(""), Ok(EncryptionContext::new()));
    assert_eq!(context("{}"), Ok(EncryptionContext::new()));
    let pair = EncryptionContext::try_from_pairs([("a".into(), "é".into())]).unwrap();
    assert_eq!(context(r#" { "a" : "\u00e9" } "#), Ok(pair));
    // {"k":"…"} is eight characters and the value; spaces around do not count.
    let fits = format!(r#"  {{"k":  "{}"}}"#, "é".repeat(8184));
    assert!(context(&fits).is_ok());
    let too_long = format!(r#"{{"k":"{}"}}"#, "é".repeat(8185));
    let wrong = ["[]", "null", r#""a""#, r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":"1","a":"1"}"#, "{", r#"{"a":"1"}x"#];
    for text in wrong.into_iter().chain([too_long.as_str()]) {
        let pairs = [("KeyId", ID), ("Plaintext", "AAAA"), ("CiphertextBlob", "AAAA"), ("DestinationKeyId", ID)];
        for action in ["Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"] {
            let pairs: Vec<_> = pairs.into_iter().chain([("EncryptionContext", text)]).collect();
            assert_invalid(action, &pairs, "EncryptionContext");
        }
        for name in ["SourceEncryptionContext", "DestinationEncryptionContext"] {
            let pairs: Vec<_> = pairs.into_iter().chain([(name, text)]).collect();
            assert_invalid("ReEncrypt", &pairs, name);
        }
    }
}

#[test]
fn data_keys_have_a_length() {
    let length = |pairs: &[(&str, &str)]| {
        let pairs: Vec<_> = [("KeyId", "alias/orders")].into_iter().chain(pairs.iter().copied()).collect();
        let look = look!(ActionRequest::GenerateDataKey(asked) => (asked.length.0, asked.without_plaintext));
        read("GenerateDataKey", &pairs, look).unwrap()
    };
    let rows: [(&[(&str, &str)], usize); 6] = [
        (&[], 32),
        (&[("KeySpec", "AES_256")], 32),
        (&[("KeySpec", "AES_128")], 16),
        (&[("NumberOfBytes", "1")], 1),
        (&[("NumberOfBytes", "1024"), ("KeySpec", "AES_128")], 1024),
        (&[("NumberOfBytes", "24"), ("KeySpec", "nonsense")], 24),
    ];
    rows.into_iter().for_each(|(pairs, expected)| assert_eq!(length(pairs), (expected, false)));
    let look = look!(ActionRequest::GenerateDataKey(asked) => asked.without_plaintext);
    assert_eq!(read("GenerateDataKeyWithoutPlaintext", &[("KeyId", ID)], look), Ok(true));
    for (name, value) in [("NumberOfBytes", "0"), ("NumberOfBytes", "1025"), ("KeySpec", "aes_256")] {
        assert_invalid("GenerateDataKey", &[("KeyId", ID), (name, value)], name);
    }
    let recipient = [("KeyId", ID), ("Recipient", "{}")];
    assert!(matches!(failure("GenerateDataKey", &recipient), Failure::Unsupported(_)));
}

#[test]
fn re_encrypt_names_both_keys() {
    let both = [
        ("CiphertextBlob", "AQID"),
        ("SourceKeyId", "alias/from"),
        ("SourceEncryptionContext", r#"{"a":"1"}"#),
        ("DestinationKeyId", ID),
        ("DestinationEncryptionContext", r#"{"b":"2"}"#),
    ];
    let look = look!(ActionRequest::ReEncrypt(asked) => (
        asked.source == Some(KeyReference::Alias("alias/from")),
        asked.destination == key(),
        asked.ciphertext_blob.to_vec(),
        asked.source_context.to_json(),
        asked.destination_context.to_json(),
    ));
    let expected = (true, true, vec![1, 2, 3], r#"{"a":"1"}"#.into(), r#"{"b":"2"}"#.into());
    assert_eq!(read("ReEncrypt", &both, look), Ok(expected));
    for name in ["SourceEncryptionAlgorithm", "SourceKeyVersionId"] {
        let with: Vec<_> = both.into_iter().chain([(name, "x")]).collect();
        assert!(matches!(failure("ReEncrypt", &with), Failure::Unsupported(_)));
    }
}

#[test]
fn dry_runs_are_for_cryptography() {
    let cryptographic = ["Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"];
    for (action, pairs) in REQUIRED {
        for (value, dry) in [("true", true), ("True", true), ("false", false), ("", false)] {
            let with: Vec<_> = pairs.iter().copied().chain([("DryRun", value)]).collect();
            let done = read(action, &with, |asked| {
                Some(match asked {
                    ActionRequest::Encrypt(Encrypt { dry_run, .. })
                    | ActionRequest::Decrypt(Decrypt { dry_run, .. })
                    | ActionRequest::ReEncrypt(ReEncrypt { dry_run, .. })
                    | ActionRequest::GenerateDataKey(GenerateDataKey { dry_run, .. }) => dry_run,
                    _ => false,
                })
            });
            if dry && !cryptographic.contains(&action) {
                assert!(matches!(done, Err(Failure::Unsupported(_))), "{action}");
            } else {
                assert_eq!(done, Ok(dry), "{action} {value}");
            }
        }
        let with: Vec<_> = pairs.iter().copied().chain([("DryRun", "yes")]).collect();
        assert_invalid(action, &with, "DryRun");
    }
}
