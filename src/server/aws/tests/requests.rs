use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::model::model;
use crate::{
    kms::{Origin, WrappingAlgorithm},
    server::{
        Failure,
        aws::{
            Action,
            requests::{CryptographyInput, Family, ImportInput, Input, KeyInput},
        },
        operations::{DataKeyLength, NewKeyDeclaration, RotationPolicy},
    },
};

const ID: &str = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";

fn parse(action: Action, body: &[u8]) -> Result<Family<'_>, Failure> {
    Input::parse(action, body).map(|input| input.0)
}

fn refusal(action: Action, body: &Value) -> Option<Failure> {
    parse(action, body.to_string().as_bytes()).err()
}

/// The message of a ValidationException.
fn validation(action: Action, body: &Value) -> String {
    match refusal(action, body) {
        Some(Failure::Validation(message)) => message,
        Some(other) => panic!("{action:?} {body}: {other:?}"),
        None => panic!("{action:?} takes {body}"),
    }
}

/// Members of the API that have no meaning here and refuse nothing: there are no grants, and no key policy that could
/// lock anybody out.
const IGNORED: [&str; 2] = ["GrantTokens", "BypassPolicyLockoutSafetyCheck"];

#[test]
fn every_member_of_the_api_is_read_or_known_to_be_ignored() {
    let model = model();
    for action in Action::ALL {
        let shape = model["operations"][action.as_str()]["input"].as_str().unwrap();
        for member in model["shapes"][shape]["members"].as_object().unwrap().keys() {
            // No member has a value like this, and none that is unsupported takes any.
            let failure = refusal(*action, &json!({member: [[1]]}));
            let read = matches!(failure, Some(Failure::Malformed(_) | Failure::Unsupported(_)));
            assert_eq!(read, !IGNORED.contains(&member.as_str()), "{action:?} {member}: {failure:?}");
        }
    }
}

#[test]
fn what_the_api_requires_is_required() {
    let model = model();
    for action in Action::ALL {
        let shape = model["operations"][action.as_str()]["input"].as_str().unwrap();
        let required = model["shapes"][shape]["required"].as_array().cloned().unwrap_or_default();
        for empty in [&b"{}"[..], b"", br#"{"Unknown":[{}],"KeyId":null}"#] {
            match parse(*action, empty).err() {
                Some(Failure::MissingParameter(name)) => {
                    // The model does not require what a dry run could do without.
                    let extra = matches!(
                        (action, name),
                        (Action::Decrypt | Action::ReEncrypt, "CiphertextBlob")
                            | (Action::GenerateRandom, "NumberOfBytes")
                    );
                    assert!(extra || required.iter().any(|required| required == name), "{action:?} {name}");
                }
                Some(Failure::Validation(message)) => {
                    let of_data_keys = message == "Please specify either number of bytes or key spec.";
                    assert!(of_data_keys || *action == Action::ImportKeyMaterial, "{action:?}: {message}");
                }
                Some(other) => panic!("{action:?}: {other:?}"),
                None => assert!(required.is_empty(), "{action:?} needs {required:?}"),
            }
        }
    }
}

#[test]
fn limits_are_broken_in_the_words_of_aws() {
    let blob = |bytes: usize| BASE64_STANDARD.encode(vec![7; bytes]);
    let at = |value: &str, member: &str, constraint: &str| {
        let value = if value.is_empty() { "Value".to_owned() } else { format!("Value '{value}'") };
        format!("1 validation error detected: {value} at '{member}' failed to satisfy constraint: {constraint}")
    };
    let length = |bound: &str, number: u32| format!("Member must have length {bound} than or equal to {number}");
    let value = |bound: &str, number: u32| format!("Member must have value {bound} than or equal to {number}");
    let rows: &[(Action, Value, String)] = &[
        (Action::Encrypt, json!({"KeyId": ID, "Plaintext": ""}), at("", "plaintext", &length("greater", 1))),
        (Action::Encrypt, json!({"KeyId": ID, "Plaintext": blob(4097)}), at("", "plaintext", &length("less", 4096))),
        (Action::Decrypt, json!({"CiphertextBlob": blob(6145)}), at("", "ciphertextBlob", &length("less", 6144))),
        (
            Action::Encrypt,
            json!({"KeyId": "", "Plaintext": "AA=="}),
            format!(
                "1 validation error detected: Value '' at 'keyId' failed to satisfy constraint: {}",
                length("greater", 1)
            ),
        ),
        (
            Action::Encrypt,
            json!({"KeyId": "k".repeat(2049), "Plaintext": "AA=="}),
            at("", "keyId", &length("less", 2048)),
        ),
        (Action::GenerateRandom, json!({"NumberOfBytes": 0}), at("0", "numberOfBytes", &value("greater", 1))),
        (Action::GenerateRandom, json!({"NumberOfBytes": 1025}), at("1025", "numberOfBytes", &value("less", 1024))),
        (
            Action::GenerateDataKey,
            json!({"KeyId": ID, "KeySpec": "AES_512"}),
            at("AES_512", "keySpec", "Member must satisfy enum value set: [AES_256, AES_128]"),
        ),
        (
            Action::GenerateDataKey,
            json!({"KeyId": ID, "KeySpec": "AES_256", "NumberOfBytes": 32}),
            "Please specify either number of bytes or key spec.".into(),
        ),
        (
            Action::ScheduleKeyDeletion,
            json!({"KeyId": ID, "PendingWindowInDays": 6}),
            at("6", "pendingWindowInDays", &value("greater", 7)),
        ),
        (
            Action::ScheduleKeyDeletion,
            json!({"KeyId": ID, "PendingWindowInDays": 31}),
            at("31", "pendingWindowInDays", &value("less", 30)),
        ),
        (
            Action::EnableKeyRotation,
            json!({"KeyId": ID, "RotationPeriodInDays": 89}),
            at("89", "rotationPeriodInDays", &value("greater", 90)),
        ),
        (
            Action::EnableKeyRotation,
            json!({"KeyId": ID, "RotationPeriodInDays": 2561}),
            at("2561", "rotationPeriodInDays", &value("less", 2560)),
        ),
        (
            Action::UpdateKeyDescription,
            json!({"KeyId": ID, "Description": "x".repeat(8193)}),
            at("", "description", &length("less", 8192)),
        ),
        (
            Action::TagResource,
            json!({"KeyId": ID, "Tags": [{"TagKey": "k", "TagValue": "v".repeat(257)}]}),
            at("", "tagValue", &length("less", 256)),
        ),
        (
            Action::CreateAlias,
            json!({"AliasName": "alias/a b", "TargetKeyId": ID}),
            at("alias/a b", "aliasName", "Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"),
        ),
        (
            Action::CreateAlias,
            json!({"AliasName": "orders", "TargetKeyId": ID}),
            "Alias must start with the prefix \"alias/\".".into(),
        ),
        (
            Action::CreateAlias,
            json!({"AliasName": "alias/a:b", "TargetKeyId": ID}),
            "alias/a:b contains invalid characters for an alias".into(),
        ),
        (
            Action::GetParametersForImport,
            json!({"KeyId": ID, "WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_2048"}),
            at(
                "RSAES_PKCS1_V1_5",
                "wrappingAlgorithm",
                "Member must satisfy enum value set: [RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1, RSA_AES_KEY_WRAP_SHA_256, \
                 RSA_AES_KEY_WRAP_SHA_1]",
            ),
        ),
        (
            Action::GetParametersForImport,
            json!({"KeyId": ID, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "SM2"}),
            at("SM2", "wrappingKeySpec", "Member must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096]"),
        ),
        (Action::ListAliases, json!({"Limit": 101}), at("101", "limit", &value("less", 100))),
        (
            Action::ImportKeyMaterial,
            json!({"KeyId": ID, "ImportToken": "AAAA", "EncryptedKeyMaterial": "AAAA"}),
            "A ValidTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES.".into(),
        ),
    ];
    for (action, body, message) in rows {
        assert_eq!(&validation(*action, body), message, "{action:?}");
    }
}

#[test]
fn rule_19_encrypt_takes_4096_bytes() {
    let body = |bytes: usize| json!({"KeyId": ID, "Plaintext": BASE64_STANDARD.encode(vec![7; bytes])});
    assert_eq!(refusal(Action::Encrypt, &body(4096)), None);
    assert!(matches!(refusal(Action::Encrypt, &body(4097)), Some(Failure::Validation(_))));
}

#[test]
fn what_is_within_the_limits_is_taken() {
    let blob = |bytes: usize| BASE64_STANDARD.encode(vec![7; bytes]);
    let rows: &[(Action, Value)] = &[
        (Action::Encrypt, json!({"KeyId": "k".repeat(2048), "Plaintext": blob(4096), "GrantTokens": ["x"]})),
        (
            Action::Encrypt,
            json!({"KeyId": "alias/a", "Plaintext": blob(1), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}),
        ),
        (Action::Decrypt, json!({"CiphertextBlob": blob(6144), "KeyId": null})),
        (Action::GenerateDataKey, json!({"KeyId": ID, "NumberOfBytes": 1024})),
        (Action::UpdateKeyDescription, json!({"KeyId": ID, "Description": ""})),
        (Action::UpdateKeyDescription, json!({"KeyId": ID, "Description": "é".repeat(8192)})),
        (Action::CreateAlias, json!({"AliasName": format!("alias/{}", "a".repeat(250)), "TargetKeyId": ID})),
        (Action::ListKeys, json!({"Limit": 1000, "ResourceOwners": ["SELF", "OTHER_ACCOUNTS_VIA_RAM"]})),
        (Action::DeleteImportedKeyMaterial, json!({"KeyId": ID})),
    ];
    for (action, body) in rows {
        assert_eq!(refusal(*action, body), None, "{action:?}");
    }
}

#[test]
fn what_the_api_has_and_this_endpoint_has_not_is_refused_with_a_sentence() {
    let rows: &[(Action, Value)] = &[
        (Action::CreateKey, json!({"KeySpec": "RSA_2048"})),
        (Action::CreateKey, json!({"CustomerMasterKeySpec": "RSA_2048"})),
        (Action::CreateKey, json!({"KeyUsage": "SIGN_VERIFY"})),
        (Action::CreateKey, json!({"Origin": "AWS_CLOUDHSM"})),
        (Action::CreateKey, json!({"MultiRegion": true})),
        (Action::CreateKey, json!({"CustomKeyStoreId": "cks"})),
        (Action::CreateKey, json!({"XksKeyId": "x"})),
        (Action::CreateKey, json!({"Policy": "{}"})),
        (Action::Decrypt, json!({"CiphertextBlob": "AA==", "Recipient": {}})),
        (Action::Decrypt, json!({"CiphertextBlob": "AA==", "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"})),
        (Action::Decrypt, json!({"DryRun": true, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]})),
        (Action::GenerateRandom, json!({"NumberOfBytes": 1, "CustomKeyStoreId": "cks"})),
        (Action::DeleteImportedKeyMaterial, json!({"KeyId": ID, "KeyMaterialId": "0"})),
    ];
    for (action, body) in rows {
        let refused = refusal(*action, body);
        assert!(matches!(&refused, Some(Failure::Unsupported(why)) if why.ends_with('.')), "{action:?} {refused:?}");
    }
}

#[test]
fn only_what_aws_takes_as_a_name_of_a_key_is_one() {
    for alias in ["alias/orders", "arn:aws:kms:r:000000000001:alias/orders"] {
        let body = json!({"KeyId": alias, "Plaintext": "AA==", "Description": "", "AliasName": "alias/a",
            "TargetKeyId": alias, "CiphertextBlob": "AA==", "KeySpec": "AES_256"});
        for action in [Action::Encrypt, Action::Decrypt, Action::DescribeKey, Action::GenerateDataKey] {
            let body = if action == Action::GenerateDataKey { body.clone() } else { without(&body, "KeySpec") };
            assert_eq!(refusal(action, &body), None, "{action:?} takes aliases");
        }
        for action in [Action::EnableKey, Action::ScheduleKeyDeletion, Action::ListKeyPolicies, Action::CreateAlias] {
            assert_eq!(refusal(action, &body), Some(Failure::KeyNotFound(alias.into())), "{action:?}");
        }
    }
    let reserved = refusal(Action::CreateAlias, &json!({"AliasName": "alias/aws/s3", "TargetKeyId": ID}));
    assert!(matches!(reserved, Some(Failure::InvalidParameter { name: "AliasName", .. })), "{reserved:?}");
}

fn without(body: &Value, member: &str) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove(member);
    body
}

#[test]
fn members_become_what_they_say() {
    let body = json!({"Origin": "EXTERNAL", "Description": "d", "Tags": [{"TagKey": "k", "TagValue": ""}]}).to_string();
    let Ok(Family::Key(KeyInput::CreateKey(new))) = parse(Action::CreateKey, body.as_bytes()) else { panic!() };
    let tags = [("k".to_owned(), String::new())].into();
    let expected =
        NewKeyDeclaration { origin: Origin::External, description: Some("d".into()), tags, ..Default::default() };
    assert_eq!(new, expected);
    let Ok(Family::Key(KeyInput::CreateKey(new))) = parse(Action::CreateKey, b"") else { panic!() };
    assert_eq!(new, NewKeyDeclaration { origin: Origin::AwsKms, ..Default::default() });

    let body = json!({ "KeyId": ID }).to_string();
    let Ok(Family::Key(KeyInput::ScheduleKeyDeletion(_, days))) = parse(Action::ScheduleKeyDeletion, body.as_bytes())
    else {
        panic!()
    };
    assert_eq!(days, 30);
    let Ok(Family::Key(KeyInput::SetRotation(_, policy))) = parse(Action::EnableKeyRotation, body.as_bytes()) else {
        panic!()
    };
    assert_eq!(policy, RotationPolicy::Every(365));

    let body = json!({"KeyId": ID, "KeySpec": "AES_128", "EncryptionContext": {"a": "b"}, "DryRun": true}).to_string();
    let parsed = parse(Action::GenerateDataKeyWithoutPlaintext, body.as_bytes());
    let Ok(Family::Cryptography(CryptographyInput::GenerateDataKey { request, with_plaintext })) = parsed else {
        panic!()
    };
    assert_eq!((request.length, request.dry_run, with_plaintext), (DataKeyLength(16), true, false));
    assert_eq!((&*request.key_id, request.context.get("a")), (ID, Some("b")));

    let body = json!({"KeyId": ID, "ImportToken": "AAAA", "EncryptedKeyMaterial": "AQI=", "ValidTo": 1_893_456_000.5});
    let body = body.to_string();
    let Ok(Family::Import(ImportInput::ImportKeyMaterial(import))) = parse(Action::ImportKeyMaterial, body.as_bytes())
    else {
        panic!()
    };
    assert_eq!(import.encrypted_key_material.as_slice(), [1, 2]);
    assert_eq!(import.valid_to.unwrap().as_second(), 1_893_456_000);
    for algorithm in WrappingAlgorithm::ALL {
        let body = json!({"KeyId": ID, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_4096"});
        assert_eq!(refusal(Action::GetParametersForImport, &body), None, "{algorithm}");
    }
}

/// Escapes mean the characters that they stand for: some clients escape every slash.
#[test]
fn escapes_are_undone() {
    let body = br#"{"KeyId":"alias\/\u006frders","Plaintext":"\/w=="}"#;
    let Ok(Family::Cryptography(CryptographyInput::Encrypt(request))) = parse(Action::Encrypt, body) else { panic!() };
    assert_eq!((&*request.key_id, request.plaintext.as_slice()), ("alias/orders", &[0xff][..]));
}

#[test]
fn what_is_malformed_is_refused_and_not_repeated() {
    let bodies = [
        r#"["08c3", "c2VjcmV0"]"#,
        r#""c2VjcmV0""#,
        r#"{"KeyId":"a","Plaintext":"c2VjcmV0""#,
        r#"{"KeyId":"a","Plaintext":"c2VjcmV0"} x"#,
        r#"{"KeyId":"a","KeyId":"b","Plaintext":"c2VjcmV0"}"#,
        r#"{"KeyId":"a","Plaintext":"c2VjcmV0","EncryptionContext":{"a":"b","a":"b"}}"#,
        r#"{"KeyId":"a","Plaintext":"c2VjcmV0","EncryptionContext":{"a":1}}"#,
        r#"{"KeyId":"a","Plaintext":"c2VjcmV0!"}"#,
        r#"{"KeyId":"a","Plaintext":"c2VjcmV0YQ"}"#,
        r#"{"KeyId":"a","Plaintext":["c2VjcmV0"]}"#,
        r#"{"KeyId":"a","NumberOfBytes":"c2VjcmV0"}"#,
        "{\"KeyId\":\"\u{7f}\\ud800\",\"Plaintext\":\"c2VjcmV0\"}",
    ];
    for body in bodies {
        match parse(Action::Encrypt, body.as_bytes()).err() {
            Some(Failure::Malformed(message)) => assert!(!message.contains("c2VjcmV0"), "{message}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    assert!(matches!(parse(Action::Encrypt, b"{\"KeyId\":\"\xff\"}"), Err(Failure::Malformed(_))));
    let tag = json!({"KeyId": ID, "Tags": [["k", "v"]]});
    assert!(matches!(refusal(Action::TagResource, &tag), Some(Failure::Malformed(_))), "a tag is an object");
    let twice = json!({"KeyId": ID, "Tags": [{"TagKey": "k", "TagValue": "1"}, {"TagKey": "k", "TagValue": "2"}]});
    assert!(matches!(refusal(Action::TagResource, &twice), Some(Failure::InvalidTag(_))));
    let reserved = json!({"KeyId": ID, "Tags": [{"TagKey": "aws:x", "TagValue": "1"}]});
    assert!(matches!(refusal(Action::TagResource, &reserved), Some(Failure::InvalidTag(_))));
}

#[test]
fn a_context_that_is_too_long_is_refused() {
    let body =
        |length: usize| json!({"KeyId": ID, "Plaintext": "AA==", "EncryptionContext": {"k": "v".repeat(length)}});
    // {"k":"…"} has eight characters around the value.
    assert_eq!(refusal(Action::Encrypt, &body(8192 - 8)), None);
    let refused = refusal(Action::Encrypt, &body(8192 - 7));
    assert!(matches!(refused, Some(Failure::InvalidParameter { name: "EncryptionContext", .. })), "{refused:?}");
}

fn any_action() -> impl Strategy<Value = Action> {
    proptest::sample::select(Action::ALL.to_vec())
}

fn any_member() -> impl Strategy<Value = String> {
    let model = model();
    let mut names: Vec<String> = Vec::new();
    for action in Action::ALL {
        let shape = model["operations"][action.as_str()]["input"].as_str().unwrap();
        names.extend(model["shapes"][shape]["members"].as_object().unwrap().keys().cloned());
    }
    proptest::sample::select(names)
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| BASE64_STANDARD.encode(bytes).into()),
        Just(json!([{"TagKey": "k", "TagValue": "v"}])),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,5}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_is_too_strange(action in any_action(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(action, &body);
    }

    #[test]
    fn no_object_is_too_strange(
        action in any_action(),
        members in proptest::collection::btree_map(any_member(), any_value(), 0..8),
    ) {
        let body = Value::from_iter(members).to_string();
        if let Err(failure) = parse(action, body.as_bytes()) {
            let reply = crate::server::aws::refuse(&failure, uuid::Uuid::nil());
            prop_assert_eq!(reply.status.as_u16(), 400);
        }
    }
}
