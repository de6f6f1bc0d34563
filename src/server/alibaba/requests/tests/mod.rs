macro_rules! look {
    ($pattern:pat => $value:expr) => {
        |asked: ActionRequest<'_>| match asked {
            $pattern => Some($value),
            _ => None,
        }
    };
}

mod cryptography;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    kms::Origin,
    server::alibaba::{SERVED, UNSERVED},
};

const ID: &str = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";
const ARN: &str = "acs:kms:cn-hangzhou:123456:key/08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";

fn key() -> KeyReference<'static> {
    KeyReference::parse(ID)
}

/// A query of decoded pairs.
fn query(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// Reads a request and looks at what it asks for.
fn read<T>(
    action: &str,
    pairs: &[(&str, &str)],
    look: impl FnOnce(ActionRequest<'_>) -> Option<T>,
) -> Result<T, Failure> {
    let query = query(pairs);
    let parameters = Parameters::parse(&query, "").unwrap();
    let asked = ActionRequest::parse(action, &parameters)?;
    Ok(look(asked).unwrap_or_else(|| panic!("{action} is read as another action")))
}

fn failure(action: &str, pairs: &[(&str, &str)]) -> Failure {
    read(action, pairs, |_| Some(())).expect_err(&format!("{action} {pairs:?} is accepted"))
}

/// What is wrong with a parameter, and that the message does not repeat its value.
fn assert_invalid(action: &str, pairs: &[(&str, &str)], parameter: &'static str) {
    match failure(action, pairs) {
        Failure::InvalidParameter { name, .. } => assert_eq!(name, parameter, "{action} {pairs:?}"),
        other => panic!("{action} {pairs:?}: {other:?}"),
    }
}

/// What every action needs: without any of them it is MissingParameter.
const REQUIRED: [(&str, &[(&str, &str)]); 29] = [
    ("CancelKeyDeletion", &[("KeyId", ID)]),
    ("CreateAlias", &[("AliasName", "alias/a"), ("KeyId", ID)]),
    ("CreateKey", &[]),
    ("CreateKeyVersion", &[("KeyId", ID)]),
    ("Decrypt", &[("CiphertextBlob", "AAAA")]),
    ("DeleteAlias", &[("AliasName", "alias/a")]),
    ("DeleteKeyMaterial", &[("KeyId", ID)]),
    ("DescribeKey", &[("KeyId", ID)]),
    ("DescribeKeyVersion", &[("KeyId", ID), ("KeyVersionId", ID)]),
    ("DisableKey", &[("KeyId", ID)]),
    ("EnableKey", &[("KeyId", ID)]),
    ("Encrypt", &[("KeyId", ID), ("Plaintext", "AAAA")]),
    ("GenerateDataKey", &[("KeyId", ID)]),
    ("GenerateDataKeyWithoutPlaintext", &[("KeyId", ID)]),
    (
        "GetParametersForImport",
        &[("KeyId", ID), ("WrappingAlgorithm", "RSAES_OAEP_SHA_1"), ("WrappingKeySpec", "RSA_2048")],
    ),
    ("ImportKeyMaterial", &[("KeyId", ID), ("EncryptedKeyMaterial", "AAAA"), ("ImportToken", "AAAA")]),
    ("ListAliases", &[]),
    ("ListAliasesByKeyId", &[("KeyId", ID)]),
    ("ListKeyVersions", &[("KeyId", ID)]),
    ("ListKeys", &[]),
    ("ListResourceTags", &[("KeyId", ID)]),
    ("ReEncrypt", &[("CiphertextBlob", "AAAA"), ("DestinationKeyId", ID)]),
    ("ScheduleKeyDeletion", &[("KeyId", ID)]),
    ("SetDeletionProtection", &[("ProtectedResourceArn", ARN), ("EnableDeletionProtection", "true")]),
    ("TagResource", &[("KeyId", ID), ("Tags", "[]")]),
    ("UntagResource", &[("KeyId", ID), ("TagKeys", "a")]),
    ("UpdateAlias", &[("AliasName", "alias/a"), ("KeyId", ID)]),
    ("UpdateKeyDescription", &[("KeyId", ID), ("Description", "")]),
    ("UpdateRotationPolicy", &[("KeyId", ID), ("EnableAutomaticRotation", "false")]),
];

#[test]
fn every_action_says_which_parameter_is_missing() {
    assert_eq!(REQUIRED.map(|(action, _)| action), SERVED);
    for (action, pairs) in REQUIRED {
        assert!(read(action, pairs, |_| Some(())).is_ok(), "{action}");
        for (missing, _) in pairs {
            let rest: Vec<_> = pairs.iter().filter(|(name, _)| name != missing).copied().collect();
            assert_eq!(failure(action, &rest), Failure::MissingParameter(missing), "{action}");
            // Empty is missing, except a description, which may be empty.
            let emptied: Vec<_> =
                pairs.iter().map(|(name, value)| (*name, if name == missing { "" } else { value })).collect();
            if *missing != "Description" {
                assert_eq!(failure(action, &emptied), Failure::MissingParameter(missing), "{action}");
            }
        }
    }
}

#[test]
fn aliases_stand_for_keys_only_where_the_api_takes_them() {
    let welcome = [
        "CreateKeyVersion",
        "DescribeKey",
        "DescribeKeyVersion",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "ListKeyVersions",
    ];
    for (action, pairs) in REQUIRED.into_iter().filter(|(_, pairs)| pairs.iter().any(|(name, _)| *name == "KeyId")) {
        for alias in ["alias/orders", "acs:kms:cn-hangzhou:123456:alias/orders"] {
            let pairs: Vec<_> =
                pairs.iter().map(|(name, value)| (*name, if *name == "KeyId" { alias } else { value })).collect();
            let done = read(action, &pairs, |_| Some(()));
            let expected = if welcome.contains(&action) { Ok(()) } else { Err(Failure::UnsupportedAlias("KeyId")) };
            assert_eq!(done, expected, "{action}");
        }
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| (*name, if *name == "KeyId" { ARN } else { value })).collect();
        assert!(read(action, &pairs, |_| Some(())).is_ok(), "{action}");
    }
}

#[test]
fn other_actions_are_refused() {
    for action in UNSERVED {
        assert!(matches!(failure(action, &[]), Failure::Unsupported(text) if text.starts_with(action)), "{action}");
    }
    for action in ["", "encrypt", "DropDatabase"] {
        assert_eq!(failure(action, &[]), Failure::UnknownOperation(action.into()));
    }
    assert_eq!(failure(&"x".repeat(1000), &[]), Failure::UnknownOperation("x".repeat(64)));
}

#[test]
fn create_key() {
    let new = |pairs: &[_]| read("CreateKey", pairs, look!(ActionRequest::CreateKey(new) => new));
    assert_eq!(new(&[]).unwrap(), NewKeyDeclaration::default());
    let long = "é".repeat(8192);
    let full = [
        ("Origin", "Aliyun_KMS"),
        ("Description", long.as_str()),
        ("KeyUsage", "ENCRYPT/DECRYPT"),
        ("KeySpec", "Aliyun_AES_256"),
        ("ProtectionLevel", "SOFTWARE"),
        ("EnableAutomaticRotation", "True"),
        ("RotationInterval", "604800s"),
        ("Tags", r#"[{"TagKey":"team","TagValue":"orders"},{"TagKey":"empty"}]"#),
    ];
    let expected = NewKeyDeclaration {
        origin: Origin::AliyunKms,
        description: Some(long.clone()),
        tags: BTreeMap::from([("team".into(), "orders".into()), ("empty".into(), String::new())]),
        rotation_interval_days: Some(7),
        deletion_protection: false,
    };
    assert_eq!(new(&full).unwrap(), expected);
    assert_eq!(new(&[("Origin", "EXTERNAL")]).unwrap().origin, Origin::External);
    assert_eq!(new(&[("RotationInterval", "7d")]).unwrap().rotation_interval_days, None);
    let too_long = format!("{long}é");
    let wrong = [
        ("Origin", "aliyun_kms"),
        ("Origin", "AWS_KMS"),
        ("KeyUsage", "SIGN/VERIFY"),
        ("KeySpec", "RSA_2048"),
        ("ProtectionLevel", "HSM"),
        ("Description", too_long.as_str()),
        ("EnableAutomaticRotation", "1"),
        ("Tags", "{}"),
    ];
    wrong.into_iter().for_each(|(name, value)| assert_invalid("CreateKey", &[(name, value)], name));
    for name in ["DKMSInstanceId", "KeyStorageMechanism", "Policy"] {
        assert!(matches!(failure("CreateKey", &[(name, "x")]), Failure::Unsupported(text) if text.contains(name)));
    }
    let rotating = [("EnableAutomaticRotation", "true"), ("RotationInterval", "7d"), ("Origin", "EXTERNAL")];
    assert_eq!(failure("CreateKey", &rotating[..1]), Failure::MissingParameter("RotationInterval"));
    assert!(matches!(failure("CreateKey", &rotating), Failure::UnsupportedOrigin(_)));
}

#[test]
fn rotation_intervals_are_whole_days_from_7_to_730() {
    let policy = |enabled, interval| {
        let pairs = [("KeyId", ID), ("EnableAutomaticRotation", enabled), ("RotationInterval", interval)];
        read("UpdateRotationPolicy", &pairs, look!(ActionRequest::UpdateRotationPolicy(_, policy) => policy))
    };
    let good = [("7d", 7), ("604800s", 7), ("168h", 7), ("10080m", 7), ("730d", 730), ("31536000s", 365)];
    for (text, days) in good {
        assert_eq!(policy("true", text), Ok(RotationPolicy::Every(days)), "{text}");
        assert_eq!(policy("false", text), Ok(RotationPolicy::Never));
    }
    for text in ["6d", "731d", "604801s", "7", "d", "7D", "-7d", "+7d", "7.0d", "7 d", "9223372036854775807d", "7é"] {
        let pairs = [("KeyId", ID), ("EnableAutomaticRotation", "true"), ("RotationInterval", text)];
        assert_invalid("UpdateRotationPolicy", &pairs, "RotationInterval");
    }
    assert_eq!(policy("true", ""), Err(Failure::MissingParameter("RotationInterval")));
}

#[test]
fn windows_have_7_to_366_days() {
    let days = |text| {
        let asked = [("KeyId", ID), ("PendingWindowInDays", text)];
        read("ScheduleKeyDeletion", &asked, look!(ActionRequest::ScheduleKeyDeletion(_, days) => days))
    };
    for (text, expected) in [("", None), ("7", Some(7)), ("30", Some(30)), ("366", Some(366))] {
        assert_eq!(days(text), Ok(expected));
    }
    for text in ["6", "367", "0", "-7", "7.5", "x", "99999999999999999999", "٧"] {
        let pairs = [("KeyId", ID), ("PendingWindowInDays", text)];
        assert_invalid("ScheduleKeyDeletion", &pairs, "PendingWindowInDays");
    }
}

#[test]
fn descriptions_may_be_empty() {
    let text = |pairs: &[(&str, &str)]| {
        let look = look!(ActionRequest::UpdateKeyDescription(_, text) => text.to_owned());
        read("UpdateKeyDescription", pairs, look)
    };
    assert_eq!(text(&[("KeyId", ID), ("Description", "")]), Ok(String::new()));
    assert_eq!(text(&[("KeyId", ID), ("Description", "x")]), Ok("x".into()));
    assert_invalid("UpdateKeyDescription", &[("KeyId", ID), ("Description", &"x".repeat(8193))], "Description");
}

#[test]
fn protection_names_the_key_by_arn_or_id() {
    for (name, value) in [("ProtectedResourceArn", ARN), ("ProtectedResourceArn", ID), ("KeyId", ID), ("KeyId", ARN)] {
        for (flag, expected) in [("true", true), ("false", false)] {
            let pairs = [(name, value), ("EnableDeletionProtection", flag), ("DeletionProtectionDescription", "why")];
            let look = look!(ActionRequest::SetDeletionProtection(key, on) => (key == KeyReference::parse(value), on));
            assert_eq!(read("SetDeletionProtection", &pairs, look), Ok((true, expected)));
        }
    }
    let alias = [("ProtectedResourceArn", "alias/a"), ("EnableDeletionProtection", "true")];
    assert_eq!(failure("SetDeletionProtection", &alias), Failure::UnsupportedAlias("ProtectedResourceArn"));
    let instance = [("ProtectedResourceArn", ARN), ("EnableDeletionProtection", "true"), ("KmsInstanceId", "kst-1")];
    assert!(matches!(failure("SetDeletionProtection", &instance), Failure::Unsupported(_)));
}

#[test]
fn aliases_have_a_prefix_and_reserved_names() {
    let longest = format!("alias/{}", "a".repeat(249));
    for alias in ["alias/orders", "alias/a/b_c-D9", "alias/acsx", "alias/awsome", longest.as_str()] {
        let read = read("DeleteAlias", &[("AliasName", alias)], look!(ActionRequest::DeleteAlias(a) => a.to_owned()));
        assert_eq!(read, Ok(alias.to_owned()));
    }
    let too_long = format!("{longest}a");
    let wrong = ["orders", "alias/", "alias", "Alias/a", "alias/a b", "alias/ä", "alias/acs", "alias/acs/DataKey"];
    for alias in wrong.into_iter().chain(["alias/aws", "alias/aws/s3", too_long.as_str()]) {
        for action in ["CreateAlias", "UpdateAlias", "DeleteAlias"] {
            assert_invalid(action, &[("AliasName", alias), ("KeyId", ID)], "AliasName");
        }
    }
}

#[test]
fn imports() {
    let parameters = |algorithm, spec| {
        let pairs = [("KeyId", ID), ("WrappingAlgorithm", algorithm), ("WrappingKeySpec", spec)];
        let look = look!(ActionRequest::GetParametersForImport(_, algorithm, spec) => (algorithm, spec));
        read("GetParametersForImport", &pairs, look)
    };
    let sha_256 = (WrappingAlgorithm::RsaesOaepSha256, WrappingKeySpec::Rsa2048);
    assert_eq!(parameters("RSAES_OAEP_SHA_256", "RSA_2048"), Ok(sha_256));
    let sha_1 = (WrappingAlgorithm::RsaesOaepSha1, WrappingKeySpec::Rsa2048);
    assert_eq!(parameters("RSAES_OAEP_SHA_1", "RSA_2048"), Ok(sha_1));
    // Known to the API, and refused here with a sentence.
    assert!(matches!(parameters("RSAES_PKCS1_V1_5", "RSA_2048"), Err(Failure::Unsupported(_))));
    // That one is of AWS KMS only, and larger keys too.
    assert!(matches!(parameters("RSA_AES_KEY_WRAP_SHA_256", "RSA_2048"), Err(Failure::InvalidParameter { .. })));
    assert!(matches!(parameters("RSAES_OAEP_SHA_1", "RSA_4096"), Err(Failure::InvalidParameter { .. })));

    let expires = |text| {
        let token = [("KeyId", ID), ("ImportToken", "dG9rZW4="), ("EncryptedKeyMaterial", "AQID")];
        let pairs: Vec<_> = token.into_iter().chain([("KeyMaterialExpireUnix", text)]).collect();
        let look = look!(ActionRequest::ImportKeyMaterial(asked) => {
            assert_eq!((asked.import_token, asked.encrypted_key_material.as_slice()), ("dG9rZW4=", &[1, 2, 3][..]));
            asked.expire_time
        });
        read("ImportKeyMaterial", &pairs, look)
    };
    assert_eq!((expires("0"), expires("")), (Ok(None), Ok(None)));
    assert_eq!(expires("1893456000"), Ok(Some(Timestamp::from_second(1_893_456_000).unwrap())));
    for text in ["-1", "1e9", "99999999999999999", "2030-01-01T00:00:00Z"] {
        assert!(matches!(expires(text), Err(Failure::InvalidParameter { name: "KeyMaterialExpireUnix", .. })));
    }
}

#[test]
fn pages() {
    let page = |pairs: &[_]| read("ListKeys", pairs, look!(ActionRequest::ListKeys(page, _) => page));
    assert_eq!(page(&[]), Ok(Page { number: 1, size: 10 }));
    let last = [("PageNumber", "2147483647"), ("PageSize", "100")];
    assert_eq!(page(&last), Ok(Page { number: 2_147_483_647, size: 100 }));
    for (name, value) in [("PageNumber", "0"), ("PageNumber", "x"), ("PageSize", "0"), ("PageSize", "101")] {
        for action in ["ListKeys", "ListAliases", "ListAliasesByKeyId", "ListKeyVersions"] {
            assert_invalid(action, &[("KeyId", ID), (name, value)], name);
        }
    }
    let all: Vec<_> = (0..25).collect();
    let cut = |number, size| Page { number, size }.cut(all.clone());
    assert_eq!(cut(1, 10), (0..10).collect::<Vec<_>>());
    assert_eq!(cut(3, 10), (20..25).collect::<Vec<_>>());
    assert_eq!((cut(4, 10), cut(usize::MAX, 100)), (vec![], vec![]));
}

#[test]
fn tags() {
    let tags = |text: &str| {
        let pairs = [("KeyId", ID), ("Tags", text)];
        read("TagResource", &pairs, look!(ActionRequest::TagResource(_, tags) => tags))
    };
    let list = |count: usize| {
        let tags: Vec<_> = (0..count).map(|i| format!(r#"{{"TagKey":"{i}","TagValue":"v"}}"#)).collect();
        format!("[{}]", tags.join(","))
    };
    assert_eq!(tags(&list(20)).unwrap().len(), 20);
    let longest = "é".repeat(128);
    let tag = |key: &str, value: &str| format!(r#"[{{"TagKey":"{key}","TagValue":"{value}"}}]"#);
    assert!(tags(&tag(&longest, &longest)).is_ok());
    let too_long = format!("{longest}é");
    let wrong = [
        list(21),
        tag("", "v"),
        tag(&too_long, "v"),
        tag("k", &too_long),
        tag("aliyun-x", "v"),
        tag("acs:x", "v"),
        tag("aws:x", "v"),
        r#"[{"TagKey":"a"},{"TagKey":"a"}]"#.into(),
        r#"[{"TagValue":"a"}]"#.into(),
        r#"{"a":"b"}"#.into(),
    ];
    wrong.iter().for_each(|text| assert_invalid("TagResource", &[("KeyId", ID), ("Tags", text)], "Tags"));

    let keys = |text: &str| {
        let pairs = [("KeyId", ID), ("TagKeys", text)];
        read("UntagResource", &pairs, look!(ActionRequest::UntagResource(_, keys) => keys))
    };
    for text in ["a,b", "a, b", r#"["a","b"]"#] {
        assert_eq!(keys(text), Ok(vec!["a".to_owned(), "b".to_owned()]));
    }
    let many = ["k"; 21].join(",");
    for text in [",", "a,", "[1]", "[", many.as_str(), too_long.as_str()] {
        assert_invalid("UntagResource", &[("KeyId", ID), ("TagKeys", text)], "TagKeys");
    }
    for (name, action) in [("SecretName", "TagResource"), ("CertificateId", "UntagResource")] {
        assert!(matches!(failure(action, &[(name, "x"), ("KeyId", ID)]), Failure::Unsupported(_)));
    }
}

#[test]
fn filters_have_known_properties() {
    let filters = |text: &str| {
        let look = look!(ActionRequest::ListKeys(_, filters) => filters);
        read("ListKeys", &[("Filters", text)], look)
    };
    assert_eq!(filters("[]"), Ok(Filters::default()));
    let one = filters(r#"[{"Key":"KeyState","Values":["Enabled"]},{"Key":"KeyState","Values":["Disabled"]}]"#);
    assert_eq!(one, filters(r#"[{"Key":"KeyState","Values":["Enabled","Disabled"]}]"#));
    let pair = r#"{"Key":"KeyState","Values":[]}"#;
    let values = [r#""x""#; 11].join(",");
    let wrong = [
        r#"[{"Key":"Colour","Values":["red"]}]"#.to_owned(),
        pair.to_owned(),
        format!("[{}]", [pair; 11].join(",")),
        format!(r#"[{{"Key":"KeyState","Values":[{values}]}}]"#),
    ];
    wrong.iter().for_each(|text| assert_invalid("ListKeys", &[("Filters", text)], "Filters"));
}

#[test]
fn versions_are_named_by_uuids() {
    assert_eq!(version_id(ID), Some(Uuid::parse_str(ID).unwrap()));
    assert_eq!(version_id("1"), None);
}

const NAMES: [&str; 29] = [
    "KeyId",
    "AliasName",
    "Description",
    "Origin",
    "KeyUsage",
    "KeySpec",
    "ProtectionLevel",
    "EnableAutomaticRotation",
    "RotationInterval",
    "Tags",
    "TagKeys",
    "Plaintext",
    "CiphertextBlob",
    "EncryptionContext",
    "SourceEncryptionContext",
    "DestinationEncryptionContext",
    "SourceKeyId",
    "DestinationKeyId",
    "NumberOfBytes",
    "PageNumber",
    "PageSize",
    "Filters",
    "PendingWindowInDays",
    "KeyMaterialExpireUnix",
    "EncryptedKeyMaterial",
    "ImportToken",
    "KeyVersionId",
    "EnableDeletionProtection",
    "DryRun",
];

proptest! {
    /// Whatever values come, reading ends in a request or a failure.
    #[test]
    fn any_values_are_read_or_refused(
        action in proptest::sample::select(SERVED.to_vec()),
        values in proptest::collection::vec(prop_oneof![
            any::<String>(),
            "[0-9]{1,25}[dhms]?",
            "[A-Za-z0-9+/]{0,40}={0,2}",
            Just(ID.to_owned()),
            "alias/[a-z/é]{0,5}",
            "[\\[\\]{}:,\"a-zA-Z\\\\]{0,30}",
            Just("true".to_owned()),
        ], NAMES.len()),
    ) {
        let pairs: Vec<_> = NAMES.into_iter().zip(values.iter().map(String::as_str)).collect();
        let query = query(&pairs);
        let parameters = Parameters::parse(&query, "").unwrap();
        if let Err(failure) = ActionRequest::parse(action, &parameters) {
            prop_assert!(!matches!(failure, Failure::UnknownOperation(_) | Failure::Internal(_)), "{failure:?}");
        }
    }

    /// Whatever comes as query and form ends in parameters or an error, and decodes to what was encoded.
    #[test]
    fn any_query_is_read_or_refused(query in any::<String>(), form in any::<String>(), text in any::<String>()) {
        let _ = Parameters::parse(&query, &form);
        let encoded = super::tests::query(&[("name", text.as_str())]);
        let parameters = Parameters::parse(&encoded, "").unwrap();
        prop_assert_eq!(parameters.get("name"), Some(text.as_str()));
    }
}
