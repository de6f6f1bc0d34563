//! Access keys: a ServiceAccount's identity as an id and a secret, for the clients of the KMS endpoint (design, section 1).

mod credential;
mod generate;
mod record;
mod view;
#[cfg(test)]
mod view_tests;

pub use credential::{AccessKeySecret, Credential, Credentials};
pub use generate::{NewAccessKey, generate};
pub use record::{
    AccessKeyOwner, AccessKeyRecord, FormerAccessKey, RecordError, SealedAccessKey, ServiceAccountIdentity,
};
pub use view::{AccessKeyView, Listed, OpenedAccessKeys, Subject};
