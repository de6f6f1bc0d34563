use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::{check_output, model};
use crate::{
    crypto::Plaintext,
    kms::{
        KeyRecord, Origin, ResourceName,
        key_record::{
            Deletion, ImportedMaterial, MaterialCheck, MaterialSource, RecordVersion,
            tests::{at, record},
        },
    },
    server::{
        aws::{
            answers::cryptography::{decrypted, encrypted, generated, re_encrypted},
            json::{Member, object},
            policy,
            responses::{
                AliasEntry, Aliases, DescribedKey, ImportParameters, KeyEntry, KeyMetadata, KeyPolicy, KeyWithMaterial,
                Keys, NamedKey, PolicyNames, RotationEntry, RotationStatus, Rotations, ScheduledDeletion, TagEntry,
                Tags,
            },
        },
        operations::{
            AliasDescription, Decrypted, Encrypted, GeneratedKey, ImportParameters as Parameters, KeyDescription,
            KeyVersionDescription, ReEncrypted,
        },
    },
    store::{Revision, StoredKey},
};

const ID: &str = "00000000-0000-0000-0000-000000000001";
const ARN: &str = "arn:aws:kms:cn-hangzhou:000000123456:key/00000000-0000-0000-0000-000000000001";
const MATERIAL: &str = "0000000000000000000000000000000000000000000000000000000000000002";

fn described(record: KeyRecord, now: Timestamp) -> KeyDescription {
    let revision = Revision { uid: "uid".into(), version: "1".into() };
    let name = ResourceName::of(&record);
    KeyDescription { key: StoredKey { record: Arc::new(record), revision }, name, now }
}

fn external(expire_time: Option<Timestamp>) -> KeyRecord {
    let source = MaterialSource { secret: "s".into(), key: "k".into() };
    let check = MaterialCheck { id: Uuid::nil(), root_key_id: Uuid::nil(), wrapped_key: vec![1], value: vec![2] };
    let (version_id, creation_date) = (Uuid::from_u128(2), at(1000));
    let imported = ImportedMaterial { version_id, creation_date, source, expire_time, check };
    KeyRecord { origin: Origin::External, imported: Some(imported), ..record() }
}

/// A response as it is sent, which has AWS's shape.
fn sent(operation: &str, response: &impl Serialize) -> Value {
    let body = serde_json::to_vec(response).unwrap();
    check_output(&model(), operation, &body);
    serde_json::from_slice(&body).unwrap()
}

fn metadata(record: KeyRecord, now: Timestamp) -> Value {
    let response = DescribedKey { key_metadata: KeyMetadata::from(&described(record, now)) };
    sent("CreateKey", &response);
    sent("DescribeKey", &response)["KeyMetadata"].clone()
}

#[test]
fn a_key_is_described_as_aws_does() {
    let plain = json!({
        "AWSAccountId": "000000123456",
        "KeyId": ID,
        "Arn": ARN,
        "CreationDate": 1000.0,
        "Enabled": true,
        "Description": "",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": false,
        "CurrentKeyMaterialId": MATERIAL,
    });
    assert_eq!(metadata(record(), at(2000)), plain);

    let differs = |record: KeyRecord, now: i64, changes: Value| {
        let mut expected = plain.clone();
        for (member, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => expected.as_object_mut().unwrap().remove(member),
                value => expected.as_object_mut().unwrap().insert(member.clone(), value.clone()),
            };
        }
        assert_eq!(metadata(record, at(now)), expected, "{changes}");
    };
    differs(KeyRecord { origin: Origin::AwsKms, ..record() }, 0, json!({}));
    differs(KeyRecord { enabled: false, ..record() }, 0, json!({"Enabled": false, "KeyState": "Disabled"}));
    let deletion = Some(Deletion { pending_days: 7, delete_date: at(9000) });
    let pending = json!({"Enabled": false, "KeyState": "PendingDeletion", "DeletionDate": 9000.0});
    differs(KeyRecord { deletion, ..record() }, 0, pending);
    let service = KeyRecord { alias: Some("alias/acs/DataKey".into()), ..record() };
    differs(service, 0, json!({"KeyManager": "AWS"}));

    let kept = json!({"Origin": "EXTERNAL", "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"});
    differs(external(None), 0, kept);
    let expires = json!({"Origin": "EXTERNAL", "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": 5000.0});
    differs(external(Some(at(5000))), 4999, expires);
    // Expired, but not erased yet; and erased.
    let empty = json!({"Origin": "EXTERNAL", "Enabled": false, "KeyState": "PendingImport"});
    differs(external(Some(at(5000))), 5000, empty.clone());
    let mut erased = empty;
    erased["CurrentKeyMaterialId"] = Value::Null;
    differs(KeyRecord { versions: vec![], ..external(None) }, 0, erased);
}

#[test]
fn changes_are_answered_as_aws_does() {
    let deletion = Some(Deletion { pending_days: 7, delete_date: at(9000) });
    let pending = described(KeyRecord { deletion, ..record() }, at(0));
    let scheduled = sent("ScheduleKeyDeletion", &ScheduledDeletion::from(&pending));
    let expected =
        json!({"KeyId": ARN, "DeletionDate": 9000.0, "KeyState": "PendingDeletion", "PendingWindowInDays": 7});
    assert_eq!(scheduled, expected);
    let named = NamedKey::from(&ResourceName::of(&record()));
    assert_eq!(sent("CancelKeyDeletion", &named), json!({"KeyId": ARN}));
    assert_eq!(sent("RotateKeyOnDemand", &named), json!({"KeyId": ARN}));

    let with_material = json!({"KeyId": ARN, "KeyMaterialId": MATERIAL});
    assert_eq!(sent("ImportKeyMaterial", &KeyWithMaterial::from(&described(external(None), at(0)))), with_material);
    let emptied = KeyRecord { versions: vec![], ..external(None) };
    assert_eq!(sent("DeleteImportedKeyMaterial", &KeyWithMaterial::deleted(&emptied)), with_material);
    let never = KeyRecord { versions: vec![], imported: None, ..external(None) };
    assert_eq!(sent("DeleteImportedKeyMaterial", &KeyWithMaterial::deleted(&never)), json!({"KeyId": ARN}));

    let key = ResourceName::of(&record());
    let parameters = Parameters { key, public_key: vec![1, 2, 3], import_token: "AAAA".into(), valid_to: at(7) };
    let expected = json!({"KeyId": ARN, "ImportToken": "AAAA", "PublicKey": "AQID", "ParametersValidTo": 7.0});
    assert_eq!(sent("GetParametersForImport", &ImportParameters::from(parameters)), expected);
}

#[test]
fn the_rotation_status_follows_the_state() {
    let status = |record: KeyRecord| sent("GetKeyRotationStatus", &RotationStatus::from(&described(record, at(2000))));
    assert_eq!(status(record()), json!({"KeyRotationEnabled": false, "KeyId": ARN}));
    let rotating = KeyRecord { rotation_interval_days: Some(90), ..record() };
    let next = 1000.0 + 90.0 * 86_400.0;
    let on = json!({"KeyRotationEnabled": true, "KeyId": ARN, "RotationPeriodInDays": 90, "NextRotationDate": next});
    assert_eq!(status(rotating.clone()), on);
    let disabled = json!({"KeyRotationEnabled": true, "KeyId": ARN, "RotationPeriodInDays": 90});
    assert_eq!(status(KeyRecord { enabled: false, ..rotating.clone() }), disabled);
    let deletion = Some(Deletion { pending_days: 7, delete_date: at(9000) });
    assert_eq!(status(KeyRecord { deletion, ..rotating }), json!({"KeyRotationEnabled": false, "KeyId": ARN}));
}

#[test]
fn lists_have_the_shapes_of_aws() {
    let key = ResourceName::of(&record());
    let keys = Keys { keys: vec![KeyEntry::from(&key)], end: None.into() };
    assert_eq!(sent("ListKeys", &keys), json!({"Keys": [{"KeyId": ID, "KeyArn": ARN}], "Truncated": false}));

    let alias = AliasDescription { alias: "alias/orders".into(), key: key.clone() };
    let aliases = Aliases { aliases: vec![AliasEntry::from(alias)], end: Some("next".to_owned()).into() };
    let arn = "arn:aws:kms:cn-hangzhou:000000123456:alias/orders";
    let entry = json!({"AliasName": "alias/orders", "AliasArn": arn, "TargetKeyId": ID});
    let expected = json!({"Aliases": [entry], "NextMarker": "next", "Truncated": true});
    assert_eq!(sent("ListAliases", &aliases), expected);

    let tags = BTreeMap::from([("team", "orders")]);
    let tags = tags.iter().map(|(k, v)| TagEntry { tag_key: (*k).into(), tag_value: (*v).into() }).collect();
    let expected = json!({"Tags": [{"TagKey": "team", "TagValue": "orders"}], "Truncated": false});
    assert_eq!(sent("ListResourceTags", &Tags { tags, end: None.into() }), expected);

    let names = PolicyNames { policy_names: vec![policy::NAME], end: None.into() };
    assert_eq!(sent("ListKeyPolicies", &names), json!({"PolicyNames": ["default"], "Truncated": false}));
    let policy = KeyPolicy { policy: policy::document("123456").to_string(), policy_name: policy::NAME };
    let shown = sent("GetKeyPolicy", &policy);
    assert!(serde_json::from_str::<Value>(shown["Policy"].as_str().unwrap()).unwrap()["Statement"].is_array());

    let later = |id, time, on_demand| {
        let id = Uuid::from_u128(id);
        RecordVersion { id, creation_date: at(time), on_demand, ..record().versions[0].clone() }
    };
    let all = [record().versions[0].clone(), later(3, 5000, false), later(4, 6000, true)];
    let versions = all.map(|version| KeyVersionDescription {
        key: key.clone(),
        id: version.id,
        creation_date: version.creation_date,
        on_demand: version.on_demand,
    });
    let [second, third] = [3, 4].map(|last| format!("{}{last}", &MATERIAL[..63]));
    let expected = json!({"Truncated": false, "Rotations": [
        {"KeyId": ID, "KeyMaterialId": MATERIAL, "KeyMaterialState": "NON_CURRENT"},
        {"KeyId": ID, "KeyMaterialId": second, "KeyMaterialState": "NON_CURRENT", "RotationDate": 5000.0,
            "RotationType": "AUTOMATIC"},
        {"KeyId": ID, "KeyMaterialId": third, "KeyMaterialState": "CURRENT", "RotationDate": 6000.0,
            "RotationType": "ON_DEMAND"},
    ]});
    let rotations = Rotations { rotations: RotationEntry::of(&versions), end: None.into() };
    assert_eq!(sent("ListKeyRotations", &rotations), expected);
}

#[test]
fn cryptography_is_answered_as_aws_does() {
    let encrypt = || Encrypted {
        key: ResourceName::of(&record()),
        key_version_id: Uuid::from_u128(2),
        ciphertext_blob: vec![1, 2, 3, 4],
    };
    let checked = |operation: &str, body: &[u8]| -> Value {
        check_output(&model(), operation, body);
        serde_json::from_slice(body).unwrap()
    };
    let expected = json!({"CiphertextBlob": "AQIDBA==", "KeyId": ARN, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"});
    assert_eq!(checked("Encrypt", &encrypted(&encrypt())), expected);

    let answer = Decrypted {
        key: ResourceName::of(&record()),
        key_version_id: Uuid::from_u128(2),
        plaintext: Plaintext::from(vec![0xff]),
    };
    let expected = json!({
        "KeyId": ARN, "Plaintext": "/w==", "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "KeyMaterialId": MATERIAL,
    });
    assert_eq!(checked("Decrypt", &decrypted(&answer)), expected);

    let source = ResourceName { key_id: Uuid::from_u128(9), ..ResourceName::of(&record()) };
    let source_arn = format!("{}9", &ARN[..ARN.len() - 1]);
    let moved = ReEncrypted { source, source_version_id: Uuid::from_u128(2), destination: encrypt() };
    let expected = json!({
        "CiphertextBlob": "AQIDBA==", "SourceKeyId": source_arn, "KeyId": ARN,
        "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "SourceKeyMaterialId": MATERIAL, "DestinationKeyMaterialId": MATERIAL,
    });
    assert_eq!(checked("ReEncrypt", &re_encrypted(&moved)), expected);

    let data_key = GeneratedKey { encrypted: encrypt(), plaintext: Plaintext::from(vec![7]) };
    let mut expected =
        json!({"CiphertextBlob": "AQIDBA==", "KeyId": ARN, "KeyMaterialId": MATERIAL, "Plaintext": "Bw=="});
    assert_eq!(checked("GenerateDataKey", &generated(&data_key, true)), expected);
    expected.as_object_mut().unwrap().remove("Plaintext");
    assert_eq!(checked("GenerateDataKeyWithoutPlaintext", &generated(&data_key, false)), expected);
    checked("GenerateRandom", &object(&[("Plaintext", Member::Blob(&[1]))]));
}
