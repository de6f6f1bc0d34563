//! What to do about the material of a key with origin EXTERNAL (design, rules 3 and 9).

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    api::CustomerMasterKeySpec,
    kms::{
        Dialect, KeyRecord, Operation, Origin,
        key_record::{MaterialSource, to_seconds},
    },
    store::{ImportRefusal, MaterialImport},
};

/// Why declared material could not be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportProblem {
    /// The Secret does not exist.
    NoSecret,
    /// The Secret does not have that entry.
    NoEntry,
    /// What is in it is refused.
    Refused(ImportRefusal),
}

/// What is next for the material of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaterialStep {
    /// It is as declared.
    Settled,
    /// Import it.
    Import(MaterialImport),
    /// Delete it.
    Delete,
    /// It is to be deleted, and the key is protected.
    Protected,
    /// The declared expiry has passed.
    Expired,
    /// The key is to be deleted, and nothing is imported meanwhile.
    Blocked,
}

/// Decides what is next. `fresh` are the identifiers that new material would get.
pub fn next(spec: &CustomerMasterKeySpec, record: &KeyRecord, fresh: [Uuid; 2], now: Timestamp) -> MaterialStep {
    if record.origin != Origin::External {
        return MaterialStep::Settled;
    }
    let is_there = !record.versions.is_empty();
    let Some(declared) = &spec.imported_key_material else {
        return match is_there {
            false => MaterialStep::Settled,
            // Also when it is protected from now on: the two may come in one change.
            true if record.deletion_protection || spec.deletion_protection == Some(true) => MaterialStep::Protected,
            true => MaterialStep::Delete,
        };
    };
    let source = MaterialSource { secret: declared.secret_ref.name.clone(), key: declared.secret_ref.key.clone() };
    let expire_time = declared.expire_time.as_ref().map(|time| to_seconds(time.0));
    let as_imported =
        |r: &KeyRecord| r.imported.as_ref().is_some_and(|i| i.source == source && i.expire_time == expire_time);
    if expire_time.is_some_and(|time| time <= now) {
        return MaterialStep::Expired;
    }
    if is_there && as_imported(record) {
        return MaterialStep::Settled;
    }
    if Operation::ImportKeyMaterial.check(record.state(now), Dialect::Alibaba).is_err() {
        return MaterialStep::Blocked;
    }
    let wrapping = declared.wrapping.as_ref().map(|w| (w.algorithm, w.import_token.clone()));
    MaterialStep::Import(MaterialImport { source, expire_time, wrapping, fresh, enabled: spec.enabled.unwrap_or(true) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kms::{
        KeyStep,
        key_record::{
            ImportedMaterial, MaterialCheck,
            tests::{at, record},
        },
    };

    const FRESH: [Uuid; 2] = [Uuid::from_u128(5), Uuid::from_u128(6)];

    fn spec(secret: &str, expire: Option<i64>) -> CustomerMasterKeySpec {
        let expire = expire.map(|t| at(t).to_string());
        let declared = json!({"secretRef": {"name": secret, "key": "k"}, "expireTime": expire});
        serde_json::from_value(json!({"origin": "EXTERNAL", "importedKeyMaterial": declared})).unwrap()
    }

    /// With the material of Secret `s`, which expires at 1000.
    fn filled() -> KeyRecord {
        let source = MaterialSource { secret: "s".into(), key: "k".into() };
        let check = MaterialCheck { id: Uuid::nil(), root_key_id: Uuid::nil(), wrapped_key: vec![], value: vec![] };
        let (version_id, creation_date) = (Uuid::from_u128(2), at(0));
        let expire_time = Some(at(1000));
        let imported = ImportedMaterial { version_id, creation_date, source, expire_time, check };
        KeyRecord { origin: Origin::External, imported: Some(imported), ..record() }
    }

    fn import(secret: &str, expire: Option<i64>) -> MaterialStep {
        let source = MaterialSource { secret: secret.into(), key: "k".into() };
        MaterialStep::Import(MaterialImport {
            source,
            expire_time: expire.map(at),
            wrapping: None,
            fresh: FRESH,
            enabled: true,
        })
    }

    #[test]
    fn rule_9_what_is_next_for_the_material() {
        let empty = || KeyRecord { versions: vec![], ..filled() };
        let never = || KeyRecord { imported: None, ..empty() };
        let protected = || KeyRecord { deletion_protection: true, ..filled() };
        let pending = |r: KeyRecord| r.apply_all(&[KeyStep::ScheduleDeletion { days: 7 }], at(0)).unwrap();
        let none: fn() -> CustomerMasterKeySpec =
            || serde_json::from_value::<CustomerMasterKeySpec>(json!({"origin": "EXTERNAL"})).unwrap();
        let protecting = || CustomerMasterKeySpec { deletion_protection: Some(true), ..none() };
        let cases = [
            ("nothing declared, nothing there", none(), never(), 0, MaterialStep::Settled),
            ("declared for the first time", spec("s", None), never(), 0, import("s", None)),
            ("as declared", spec("s", Some(1000)), filled(), 0, MaterialStep::Settled),
            ("another Secret", spec("t", Some(1000)), filled(), 0, import("t", Some(1000))),
            ("another expiry", spec("s", Some(2000)), filled(), 0, import("s", Some(2000))),
            ("no expiry any more", spec("s", None), filled(), 0, import("s", None)),
            ("removed", none(), filled(), 0, MaterialStep::Delete),
            ("removed while protected", none(), protected(), 0, MaterialStep::Protected),
            ("removed and protected in one change", protecting(), filled(), 0, MaterialStep::Protected),
            ("removed before", none(), empty(), 0, MaterialStep::Settled),
            ("declared again", spec("s", Some(1000)), empty(), 0, import("s", Some(1000))),
            ("expired", spec("s", Some(1000)), empty(), 1000, MaterialStep::Expired),
            ("an expiry in the past", spec("s", Some(500)), filled(), 600, MaterialStep::Expired),
            ("while it is to be deleted", spec("s", None), pending(filled()), 0, MaterialStep::Blocked),
            ("removed while it is to be deleted", none(), pending(filled()), 0, MaterialStep::Delete),
        ];
        for (name, spec, record, now, expected) in cases {
            assert_eq!(next(&spec, &record, FRESH, at(now)), expected, "{name}");
        }
        let generated: Value = json!({});
        let generated = serde_json::from_value(generated).unwrap();
        assert_eq!(next(&generated, &record(), FRESH, at(0)), MaterialStep::Settled, "a key with another origin");
    }
}
