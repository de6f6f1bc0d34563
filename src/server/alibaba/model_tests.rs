//! The answers against the documents and the SDK's models.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Format, SERVED,
    requests::Page,
    responses::{Listed, Response, render},
};
use crate::{
    crypto::Plaintext,
    kms::{KeyRecord, ResourceName},
    server::operations::{
        AliasDescription, Decrypted, Encrypted, GeneratedKey, ImportParameters, KeyDescription, KeyVersionDescription,
        ReEncrypted,
    },
    store::{Revision, StoredKey},
};

const KEY: &str = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";
const REQUEST: &str = "3455b9b4-95c1-419d-b310-db6a53b09a39";
const VERSION: Uuid = Uuid::from_u128(2);

/// The key of the seed's example, changed.
fn key(change: impl FnOnce(&mut Value)) -> KeyDescription {
    let mut record = json!({
        "format": 1, "store": "ClusterKeyStore/default", "keyId": KEY, "revision": 0, "generation": 0,
        "owner": {"namespace": "shop", "namespaceUid": "n", "name": "orders", "uid": "u", "resourceVersion": "7",
                  "released": false},
        "region": "cn-hangzhou", "accountId": "123456", "creationDate": "2016-03-25T10:42:40Z",
        "origin": "Aliyun_KMS", "keyUsage": "ENCRYPT/DECRYPT", "description": "key description example",
        "tags": {"team": "orders"}, "enabled": true,
        "versions": [{"id": VERSION, "creationDate": "2016-03-25T10:42:40Z", "rootKeyId": VERSION, "wrapped": "AQID"}],
    });
    change(&mut record);
    let record = KeyRecord::decode(record.to_string().as_bytes()).unwrap();
    KeyDescription {
        name: ResourceName::of(&record),
        now: "2020-01-01T00:00:00.5Z".parse().unwrap(),
        key: StoredKey { record: record.into(), revision: Revision { uid: String::new(), version: String::new() } },
    }
}

fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&render(response, Format::Json, Uuid::parse_str(REQUEST).unwrap()).body).unwrap()
}

fn xml_of(response: &Response) -> String {
    let body = render(response, Format::Xml, Uuid::parse_str(REQUEST).unwrap()).body;
    String::from_utf8(body.to_vec()).unwrap()
}

/// The document "CreateKey" (shared/seeds/002), its JSON example.
const EXAMPLE_JSON: &str = r#"{
        "KeyMetadata": {
                "CreationDate": "2016-03-25T10:42:40Z",
                "Description": "key description example",
                "KeyId": "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73",
                "KeyState": "Enabled",
                "KeyUsage": "ENCRYPT/DECRYPT",
                "DeleteDate": "",
                "Creator":"123456",
                "Arn":"acs:kms:cn-hangzhou:123456:key/08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73",
                "Origin":"Aliyun_KMS",
                "MaterialExpireTime":""
        },
        "RequestId": "3455b9b4-95c1-419d-b310-db6a53b09a39"
}"#;

/// Its XML example, with the time and the request id of the JSON one.
const EXAMPLE_XML: &str = "<KMS>
 <KeyMetadata>
        <CreationDate>2016-03-25T10:42:40Z</CreationDate>
        <Description>key description example</Description>
        <KeyId>08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73</KeyId>
        <KeyState>Enabled</KeyState>
        <KeyUsage>ENCRYPT/DECRYPT</KeyUsage>
        <DeleteDate></DeleteDate>
        <Creator>123456</Creator>
        <Arn>acs:kms:cn-hangzhou:123456:key/08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73</Arn>
        <Origin>Aliyun_KMS</Origin>
        <MaterialExpireTime></MaterialExpireTime>
 </KeyMetadata>
 <RequestId>3455b9b4-95c1-419d-b310-db6a53b09a39</RequestId>
</KMS>";

#[test]
fn create_key_answers_the_ten_fields_of_the_example_in_both_forms() {
    let answer = Response::KeyCreated(key(|_| {}));
    let expected: Value = serde_json::from_str(EXAMPLE_JSON).unwrap();
    let got = json_of(&answer);
    assert_eq!(got["RequestId"], expected["RequestId"]);
    let ten = expected["KeyMetadata"].as_object().unwrap();
    assert_eq!(ten.len(), 10);
    ten.iter().for_each(|(name, value)| assert_eq!(&got["KeyMetadata"][name], value, "{name}"));

    let got = xml_of(&answer);
    let (got, expected) = (roxmltree::Document::parse(&got).unwrap(), roxmltree::Document::parse(EXAMPLE_XML).unwrap());
    let fields = |document: &roxmltree::Document<'_>| -> Vec<(String, String)> {
        assert_eq!(document.root_element().tag_name().name(), "KMS");
        let metadata = document.descendants().find(|node| node.has_tag_name("KeyMetadata")).unwrap();
        let request_id = document.root_element().children().find(|node| node.has_tag_name("RequestId"));
        metadata
            .children()
            .filter(roxmltree::Node::is_element)
            .take(10)
            .chain(request_id)
            .map(|node| (node.tag_name().name().to_owned(), node.text().unwrap_or_default().to_owned()))
            .collect()
    };
    assert_eq!(fields(&got), fields(&expected));
}

#[test]
fn metadata_follows_the_record() {
    let metadata = |change: fn(&mut Value)| json_of(&Response::KeyDescribed(key(change)))["KeyMetadata"].take();
    let check = |change, expected: Value| {
        let got = metadata(change);
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&got[name], value, "{name} of {got}");
        }
    };
    check(
        |_| {},
        json!({"KeySpec": "Aliyun_AES_256", "ProtectionLevel": "SOFTWARE", "PrimaryKeyVersion": VERSION,
               "LastRotationDate": "2016-03-25T10:42:40Z", "AutomaticRotation": "Disabled",
               "RotationInterval": null, "NextRotationDate": null, "DeletionProtection": "Disabled"}),
    );
    check(
        |record| {
            record["rotationIntervalDays"] = json!(365);
            record["deletionProtection"] = json!(true);
        },
        json!({"AutomaticRotation": "Enabled", "RotationInterval": "31536000s",
               "NextRotationDate": "2017-03-25T10:42:40Z", "DeletionProtection": "Enabled"}),
    );
    check(
        |record| {
            record["rotationIntervalDays"] = json!(7);
            record["enabled"] = json!(false);
        },
        json!({"KeyState": "Disabled", "AutomaticRotation": "Suspended", "NextRotationDate": "2016-04-01T10:42:40Z"}),
    );
    check(
        |record| record["deletion"] = json!({"pendingDays": 7, "deleteDate": "2020-01-08T00:00:00Z"}),
        json!({"KeyState": "PendingDeletion", "DeleteDate": "2020-01-08T00:00:00Z"}),
    );
    check(|record| record["origin"] = json!("AWS_KMS"), json!({"Origin": "Aliyun_KMS"}));
    check(
        |record| {
            record["origin"] = json!("EXTERNAL");
            record["versions"] = json!([]);
        },
        json!({"Origin": "EXTERNAL", "KeyState": "PendingImport", "PrimaryKeyVersion": "", "LastRotationDate": "",
               "MaterialExpireTime": ""}),
    );
    check(
        |record| {
            record["origin"] = json!("EXTERNAL");
            record["imported"] = json!({
                "versionId": VERSION, "creationDate": "2016-03-25T10:42:40Z",
                "source": {"secret": "s", "key": "k"}, "expireTime": "2030-01-01T00:00:00Z",
                "check": {"id": VERSION, "rootKeyId": VERSION, "wrappedKey": "AQID", "value": "AQID"},
            });
        },
        json!({"KeyState": "Enabled", "MaterialExpireTime": "2030-01-01T00:00:00Z"}),
    );
}

fn encrypted() -> Encrypted {
    Encrypted { key: key(|_| {}).name, key_version_id: VERSION, ciphertext_blob: vec![1, 2, 3] }
}

fn version() -> KeyVersionDescription {
    KeyVersionDescription { key: key(|_| {}).name, id: VERSION, creation_date: Timestamp::UNIX_EPOCH, on_demand: false }
}

fn listed<T>(item: T) -> Listed<T> {
    Listed::of(vec![item], Page { number: 1, size: 10 })
}

/// What an action answers, with a value for every field that it can have.
fn answer(action: &str) -> Response {
    let rotating = || key(|record| record["rotationIntervalDays"] = json!(365));
    let name = key(|_| {}).name;
    let alias = || AliasDescription { alias: "alias/orders".into(), key: key(|_| {}).name };
    let plaintext = || Plaintext::from(vec![4, 5, 6]);
    match action {
        "CreateKey" => Response::KeyCreated(rotating()),
        "DescribeKey" => Response::KeyDescribed(rotating()),
        "ListKeys" => Response::Keys(listed(rotating())),
        "ListAliases" | "ListAliasesByKeyId" => Response::Aliases(listed(alias())),
        "ListKeyVersions" => Response::KeyVersions(listed(version())),
        "CreateKeyVersion" | "DescribeKeyVersion" => Response::KeyVersion(version()),
        "ListResourceTags" => Response::Tags(rotating()),
        "Encrypt" | "GenerateDataKeyWithoutPlaintext" => Response::Encrypted(encrypted()),
        "Decrypt" => Response::Decrypted(Decrypted { key: name, key_version_id: VERSION, plaintext: plaintext() }),
        "ReEncrypt" => Response::ReEncrypted(ReEncrypted {
            source: name,
            source_version_id: Uuid::from_u128(9),
            destination: encrypted(),
        }),
        "GenerateDataKey" => Response::DataKey(GeneratedKey { encrypted: encrypted(), plaintext: plaintext() }),
        "GetParametersForImport" => Response::ImportParameters(ImportParameters {
            key: name,
            public_key: vec![7, 8, 9],
            import_token: "dG9rZW4=".into(),
            valid_to: Timestamp::UNIX_EPOCH,
        }),
        _ => Response::Done,
    }
}

/// The paths of a JSON value's fields, as in fields.json.
fn paths(value: &Value, before: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let dot = if before.is_empty() { "" } else { "." };
            fields.iter().for_each(|(name, value)| paths(value, &format!("{before}{dot}{name}"), found));
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, &format!("{before}[]"), found)),
        _ => drop(found.insert(before.to_owned())),
    }
}

#[test]
fn answers_have_the_fields_of_the_sdks_models() {
    let models: BTreeMap<String, BTreeSet<String>> =
        serde_json::from_str(include_str!("../../../tests/vectors/alibaba/fields.json")).unwrap();
    assert_eq!(models.keys().map(String::as_str).collect::<Vec<_>>(), SERVED);
    // What there is nothing to say about: KMS instances, a reason for a protection, attested recipients.
    let absent = ["DKMSInstanceId", "DeletionProtectionDescription", "CiphertextForRecipient"];
    for (action, mut expected) in models {
        expected.retain(|path| !absent.iter().any(|name| path.ends_with(name)));
        let mut got = BTreeSet::new();
        paths(&json_of(&answer(&action)), "", &mut got);
        assert_eq!(got, expected, "{action}");
        // And the XML form has as many leaves by the same names.
        let xml = xml_of(&answer(&action));
        let document = roxmltree::Document::parse(&xml).unwrap();
        let leaves = document.descendants().filter(|node| node.is_element() && !node.has_children());
        let texts = document.descendants().filter(|node| node.is_element() && node.children().all(|c| c.is_text()));
        let named: BTreeSet<_> = leaves.chain(texts).map(|node| node.tag_name().name()).collect();
        let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
        assert_eq!(named.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected.iter().map(last).collect());
    }
}

#[test]
fn values_are_in_their_forms() {
    let ids = json!({"KeyId": KEY, "KeyVersionId": VERSION, "RequestId": REQUEST});
    let with = |more: Value| {
        let mut all = ids.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    assert_eq!(json_of(&answer("Encrypt")), with(json!({"CiphertextBlob": "AQID"})));
    assert_eq!(json_of(&answer("Decrypt")), with(json!({"Plaintext": "BAUG"})));
    assert_eq!(json_of(&answer("GenerateDataKey")), with(json!({"CiphertextBlob": "AQID", "Plaintext": "BAUG"})));
    // The version that decrypted.
    let re_encrypted = json!({"CiphertextBlob": "AQID", "KeyVersionId": Uuid::from_u128(9)});
    assert_eq!(json_of(&answer("ReEncrypt")), with(re_encrypted));
    assert_eq!(
        json_of(&answer("GetParametersForImport")),
        json!({"KeyId": KEY, "ImportToken": "dG9rZW4=", "PublicKey": "BwgJ", "TokenExpireTime": "1970-01-01T00:00:00Z",
               "RequestId": REQUEST})
    );
    assert_eq!(
        json_of(&answer("ListAliases"))["Aliases"],
        json!({"Alias": [{"KeyId": KEY, "AliasName": "alias/orders",
                          "AliasArn": "acs:kms:cn-hangzhou:123456:alias/orders"}]})
    );
    assert_eq!(json_of(&answer("EnableKey")), json!({"RequestId": REQUEST}));
    let xml = xml_of(&answer("ListResourceTags"));
    let tag = format!("<Tags><Tag><KeyId>{KEY}</KeyId><TagKey>team</TagKey><TagValue>orders</TagValue></Tag></Tags>");
    assert!(xml.contains(&tag), "{xml}");
}

#[test]
fn lists_count_all_and_show_a_page() {
    let keys = |page| Response::Keys(Listed::of(vec![key(|_| {}), key(|_| {}), key(|_| {})], page));
    let second = json_of(&keys(Page { number: 2, size: 2 }));
    assert_eq!((&second["TotalCount"], &second["PageNumber"], &second["PageSize"]), (&json!(3), &json!(2), &json!(2)));
    assert_eq!(second["Keys"]["Key"].as_array().unwrap().len(), 1);
    let beyond = json_of(&keys(Page { number: 3, size: 2 }));
    assert_eq!((&beyond["TotalCount"], &beyond["Keys"]), (&json!(3), &json!({"Key": []})));
    assert!(xml_of(&keys(Page { number: 3, size: 2 })).contains("<Keys></Keys>"));
}

#[test]
fn filters_take_keys_by_their_properties() {
    let takes = |filters: &str, key: &KeyDescription| {
        let query = format!("Filters={filters}");
        let parameters = super::Parameters::parse(&query, "").unwrap();
        match super::requests::ActionRequest::parse("ListKeys", &parameters).unwrap() {
            super::requests::ActionRequest::ListKeys(_, filters) => filters.take(key),
            _ => panic!("not ListKeys"),
        }
    };
    let plain = key(|_| {});
    let service = key(|record| record["alias"] = json!("alias/acs/DataKey"));
    let rows = [
        ("KeyState", r#"["Enabled","Disabled"]"#, true),
        ("KeyState", r#"["Disabled"]"#, false),
        ("KeyState", "[]", true),
        ("KeySpec", r#"["Aliyun_AES_256"]"#, true),
        ("KeyUsage", r#"["SIGN/VERIFY"]"#, false),
        ("ProtectionLevel", r#"["HSM","SOFTWARE"]"#, true),
        ("CreatorType", r#"["User"]"#, true),
        ("CreatorType", r#"["Service"]"#, false),
        ("keyId", r#"["08C33A6F-4e0a-4a1b-a3fa-7ddfa1d4fb73"]"#, true),
        ("AliasName", r#"["alias/orders"]"#, false),
        ("Creator", r#"["123456"]"#, true),
        ("TagKey", r#"["team"]"#, true),
        ("TagValue", r#"["shop"]"#, false),
        ("DKMSInstanceId", r#"["kst-1"]"#, false),
    ];
    for (name, values, expected) in rows {
        let filter = format!(r#"[{{"Key":"{name}","Values":{values}}}]"#);
        assert_eq!(takes(&filter, &plain), expected, "{filter}");
    }
    let both = r#"[{"Key":"CreatorType","Values":["Service"]},{"Key":"KeyState","Values":["Enabled"]}]"#;
    assert!(takes(both, &service) && !takes(both, &plain));
}
