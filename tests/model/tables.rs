//! The two state tables, word for word as `shared/reference/kms-behaviour.md` has them, against the state machine:
//! every row in every state, for the operations and for the steps that the reconciler takes.

use std::collections::{BTreeMap, BTreeSet};

use cmk_operator::kms::{
    Dialect, KeyRecord, KeyState, KeyStep, KeyUsage, Operation, Origin, Owner, Rejected, StepError,
    key_record::{Deletion, RECORD_FORMAT, RecordVersion},
};
use jiff::Timestamp;
use uuid::Uuid;

/// Section 1, and the sentence below its table on SetDeletionProtection (whose code is not published: as the other
/// changes of a key's metadata).
const ALIBABA: &str = "\
| API | Enabled | Disabled | PendingDeletion | PendingImport |
|---|---|---|---|---|
| Encrypt, Decrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, CreateKeyVersion, UpdateRotationPolicy | ok | D | PD | PI |
| EnableKey, DisableKey | ok | ok | SM | SM |
| ScheduleKeyDeletion, CreateAlias, ImportKeyMaterial (EXTERNAL only) | ok | ok | SM | ok |
| CancelKeyDeletion | SM | SM | ok | SM |
| UpdateKeyDescription, TagResource, UntagResource, UpdateAlias (target key only) | ok | ok | PD | ok |
| DescribeKey, List*, DeleteAlias, DescribeKeyVersion, GetParametersForImport and DeleteKeyMaterial (EXTERNAL only) | ok | ok | ok | ok |
| SetDeletionProtection | ok | ok | PD | ok |
";

/// Section 2.
const AWS: &str = "\
| API | Enabled | Disabled | PendingDeletion | PendingImport |
|---|---|---|---|---|
| Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext | ok | DisabledException | KMSInvalidStateException | KMSInvalidStateException |
| EnableKey, DisableKey | ok | ok | KMSInvalidStateException | KMSInvalidStateException |
| ScheduleKeyDeletion | ok | ok | KMSInvalidStateException | ok |
| CancelKeyDeletion | KMSInvalidStateException | KMSInvalidStateException | ok | KMSInvalidStateException |
| CreateAlias, UpdateAlias (target), TagResource, UntagResource, UpdateKeyDescription | ok | ok | KMSInvalidStateException | ok |
| EnableKeyRotation, DisableKeyRotation (EXTERNAL: UnsupportedOperationException) | ok | DisabledException | KMSInvalidStateException | UnsupportedOperationException |
| RotateKeyOnDemand | ok | DisabledException | KMSInvalidStateException | KMSInvalidStateException |
| GetParametersForImport, ImportKeyMaterial (others than EXTERNAL: UnsupportedOperationException) | ok | ok | KMSInvalidStateException | ok |
| DeleteImportedKeyMaterial | ok | ok | ok | no-op |
| DescribeKey, List*, DeleteAlias, GetKeyPolicy, PutKeyPolicy, GetKeyRotationStatus | ok | ok | ok | ok |
";

/// By API: what its table says, in the order of [`KeyState::ALL`].
fn table(text: &'static str) -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = text.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let mut rows = rows.filter(|cells| !cells[0].starts_with('-'));
    let states: Vec<_> = KeyState::ALL.iter().map(|state| state.as_str()).collect();
    assert_eq!(rows.next().unwrap()[1..], states[..]);
    let apis = |cell: &'static str| {
        let words = cell.split(", ").flat_map(|part| part.split(" and "));
        words.map(|word| word.split(" (").next().unwrap())
    };
    rows.flat_map(|cells| apis(cells[0]).map(move |api| (api, cells[1..].to_vec())).collect::<Vec<_>>()).collect()
}

/// The rows of the tables that an operation stands for: Alibaba, AWS.
fn rows(operation: Operation) -> (&'static [&'static str], &'static [&'static str]) {
    use Operation as O;
    match operation {
        O::Encrypt => (&["Encrypt"], &["Encrypt", "ReEncrypt"]),
        O::Decrypt => (&["Decrypt"], &["Decrypt", "ReEncrypt"]),
        O::GenerateDataKey => (
            &["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"],
            &["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"],
        ),
        O::CreateKeyVersion => (&["CreateKeyVersion"], &["RotateKeyOnDemand"]),
        O::UpdateRotationPolicy => (&["UpdateRotationPolicy"], &["EnableKeyRotation", "DisableKeyRotation"]),
        O::EnableKey => (&["EnableKey"], &["EnableKey"]),
        O::DisableKey => (&["DisableKey"], &["DisableKey"]),
        O::ScheduleKeyDeletion => (&["ScheduleKeyDeletion"], &["ScheduleKeyDeletion"]),
        O::CancelKeyDeletion => (&["CancelKeyDeletion"], &["CancelKeyDeletion"]),
        O::CreateAlias => (&["CreateAlias"], &["CreateAlias"]),
        O::UpdateAlias => (&["UpdateAlias"], &["UpdateAlias"]),
        O::DeleteAlias => (&["DeleteAlias"], &["DeleteAlias"]),
        O::UpdateKeyDescription => (&["UpdateKeyDescription"], &["UpdateKeyDescription"]),
        O::TagResource => (&["TagResource", "UntagResource"], &["TagResource", "UntagResource"]),
        O::GetParametersForImport => (&["GetParametersForImport"], &["GetParametersForImport"]),
        O::ImportKeyMaterial => (&["ImportKeyMaterial"], &["ImportKeyMaterial"]),
        O::DeleteKeyMaterial => (&["DeleteKeyMaterial"], &["DeleteImportedKeyMaterial"]),
        // AWS has none.
        O::SetDeletionProtection => (&["SetDeletionProtection"], &[]),
        O::DescribeKey => (
            &["DescribeKey", "List*", "DescribeKeyVersion"],
            &["DescribeKey", "List*", "GetKeyPolicy", "PutKeyPolicy", "GetKeyRotationStatus"],
        ),
    }
}

const OPERATIONS: [Operation; 19] = [
    Operation::Encrypt,
    Operation::Decrypt,
    Operation::GenerateDataKey,
    Operation::CreateKeyVersion,
    Operation::UpdateRotationPolicy,
    Operation::EnableKey,
    Operation::DisableKey,
    Operation::ScheduleKeyDeletion,
    Operation::CancelKeyDeletion,
    Operation::CreateAlias,
    Operation::UpdateAlias,
    Operation::DeleteAlias,
    Operation::UpdateKeyDescription,
    Operation::TagResource,
    Operation::GetParametersForImport,
    Operation::ImportKeyMaterial,
    Operation::DeleteKeyMaterial,
    Operation::SetDeletionProtection,
    Operation::DescribeKey,
];

fn alibaba_code(result: Result<(), Rejected>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(Rejected::Disabled) => "D",
        Err(Rejected::PendingDeletion) => "PD",
        Err(Rejected::PendingImport) => "PI",
        Err(Rejected::StateModifiedFailed) => "SM",
    }
}

fn aws_code(result: Result<(), Rejected>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(Rejected::Disabled) => "DisabledException",
        Err(_) => "KMSInvalidStateException",
    }
}

#[test]
fn every_row_of_both_tables_in_every_state() {
    let (alibaba, aws) = (table(ALIBABA), table(AWS));
    let mut checked = (BTreeSet::new(), BTreeSet::new());
    for operation in OPERATIONS {
        let rows = rows(operation);
        for (index, state) in KeyState::ALL.into_iter().enumerate() {
            for api in rows.0 {
                let code = alibaba_code(operation.check(state, Dialect::Alibaba));
                assert_eq!(code, alibaba[api][index], "{api} in {state} (Alibaba)");
                checked.0.insert(*api);
            }
            for api in rows.1 {
                let code = aws_code(operation.check(state, Dialect::Aws));
                match aws[api][index] {
                    // It is there, and does nothing: below.
                    "no-op" => assert_eq!(code, "ok", "{api} in {state} (AWS)"),
                    // Only a key of origin EXTERNAL is PendingImport, and that is refused for its origin: below.
                    "UnsupportedOperationException" => assert_ne!(code, "ok", "{api} in {state} (AWS)"),
                    said => assert_eq!(code, said, "{api} in {state} (AWS)"),
                }
                checked.1.insert(*api);
            }
        }
    }
    assert_eq!(checked.0, alibaba.keys().copied().collect(), "every row is some operation's");
    assert_eq!(checked.1, aws.keys().copied().collect(), "every row is some operation's");
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A key in a state.
fn key(state: KeyState, origin: Origin) -> KeyRecord {
    let version = RecordVersion {
        id: Uuid::from_u128(2),
        creation_date: at(0),
        root_key_id: Uuid::from_u128(3),
        wrapped: vec![1],
        on_demand: false,
    };
    let key = KeyRecord {
        format: RECORD_FORMAT,
        store: "ClusterKeyStore/default".into(),
        key_id: Uuid::from_u128(1),
        revision: 0,
        generation: 0,
        owner: Owner {
            namespace: "shop".into(),
            namespace_uid: "n".into(),
            name: "orders".into(),
            uid: "u".into(),
            resource_version: "1".into(),
            released: false,
        },
        region: "cn-hangzhou".into(),
        account_id: "123456".into(),
        creation_date: at(0),
        origin,
        key_usage: KeyUsage::EncryptDecrypt,
        description: String::new(),
        alias: None,
        tags: BTreeMap::new(),
        enabled: state != KeyState::Disabled,
        deletion_protection: false,
        rotation_interval_days: None,
        last_handled_rotation: None,
        imported: None,
        deletion: (state == KeyState::PendingDeletion).then_some(Deletion { pending_days: 7, delete_date: at(9_000) }),
        erased_at: None,
        abandoned: false,
        home: None,
        versions: if state == KeyState::PendingImport { vec![] } else { vec![version] },
    };
    assert_eq!(key.state(at(1)), state);
    key
}

/// The steps of the reconciler, by the row of the Alibaba table that they follow.
fn steps() -> Vec<(&'static str, KeyStep)> {
    vec![
        ("CreateKeyVersion", KeyStep::Rotate { version_id: Uuid::from_u128(4), request: None }),
        ("UpdateRotationPolicy", KeyStep::SetRotationInterval(Some(30))),
        ("EnableKey", KeyStep::Enable),
        ("DisableKey", KeyStep::Disable),
        ("ScheduleKeyDeletion", KeyStep::ScheduleDeletion { days: 7 }),
        ("CancelKeyDeletion", KeyStep::CancelDeletion),
        ("CreateAlias", KeyStep::SetAlias(Some("alias/a".into()))),
        ("DeleteAlias", KeyStep::SetAlias(None)),
        ("UpdateKeyDescription", KeyStep::SetDescription("d".into())),
        ("TagResource", KeyStep::SetTags(BTreeMap::new())),
        ("SetDeletionProtection", KeyStep::SetDeletionProtection(true)),
        ("DeleteKeyMaterial", KeyStep::DeleteMaterial),
    ]
}

/// What is possible with one origin only.
fn needs(api: &str) -> Option<Origin> {
    match api {
        "CreateKeyVersion" | "UpdateRotationPolicy" => Some(Origin::AliyunKms),
        "DeleteKeyMaterial" => Some(Origin::External),
        _ => None,
    }
}

#[test]
fn every_step_follows_its_row_in_every_state() {
    let alibaba = table(ALIBABA);
    for (api, step) in steps() {
        for (index, state) in KeyState::ALL.into_iter().enumerate() {
            for origin in [Origin::AliyunKms, Origin::External] {
                let mut record = key(state, origin);
                let code = match record.apply(&step, at(1)) {
                    Ok(()) => "ok",
                    Err(StepError::Rejected(rejected)) => alibaba_code(Err(rejected)),
                    Err(StepError::UnsupportedOrigin(_)) => "origin",
                    Err(other) => panic!("{api} in {state}: {other}"),
                };
                let is_possible = needs(api).is_none_or(|needed| needed == origin);
                let said = if is_possible { alibaba[api][index] } else { "origin" };
                assert_eq!(code, said, "{api} in {state}, {origin:?}");
                if code != "ok" {
                    assert_eq!(record, key(state, origin), "a refused step changes nothing");
                }
            }
        }
    }
}

/// The transitions below the table of section 1.
#[test]
fn what_the_steps_lead_to() {
    let after = |state, step: KeyStep| {
        let mut record = key(state, Origin::External);
        record.apply(&step, at(1)).unwrap();
        record
    };
    let cancelled = after(KeyState::PendingDeletion, KeyStep::CancelDeletion);
    assert_eq!(cancelled.state(at(1)), KeyState::Enabled);
    for state in [KeyState::Enabled, KeyState::Disabled, KeyState::PendingImport] {
        assert_eq!(after(state, KeyStep::DeleteMaterial).state(at(1)), KeyState::PendingImport);
    }
    let before = key(KeyState::PendingDeletion, Origin::External);
    let pending = after(KeyState::PendingDeletion, KeyStep::DeleteMaterial);
    assert_eq!((pending.state(at(1)), pending.deletion), (KeyState::PendingDeletion, before.deletion));
    let nothing = after(KeyState::PendingImport, KeyStep::DeleteMaterial);
    assert_eq!(nothing, key(KeyState::PendingImport, Origin::External), "AWS: no-op");
}
