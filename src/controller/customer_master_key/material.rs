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
            true if record.deletion_protection => MaterialStep::Protected,
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
    MaterialStep::Import(MaterialImport { source, expire_time, wrapping, fresh })
}
