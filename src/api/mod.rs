//! The custom resources: types, the CEL rules in their schemas, condition types and reasons, and the
//! ValidatingAdmissionPolicies that go with them. Nothing here talks to a cluster.

pub mod access_key;
pub mod allowed_namespaces;
pub mod cluster_key_store;
pub mod conditions;
pub mod crds;
pub mod customer_master_key;
pub mod data_key;
pub mod edit;
pub mod field_ownership;
pub mod metadata;
mod names;
pub mod policies;
#[cfg(test)]
mod testing;

pub use access_key::{AccessKey, AccessKeySpec, AccessKeyStatus};
pub use cluster_key_store::{ClusterKeyStore, ClusterKeyStoreSpec, ClusterKeyStoreStatus, KeyStoreRef};
pub use customer_master_key::{CustomerMasterKey, CustomerMasterKeySpec, CustomerMasterKeyStatus};
pub use data_key::{DataKey, DataKeySpec, DataKeyStatus};

/// The API group of all our kinds.
pub const GROUP: &str = "kms.cmk-operator.dev";
/// The one version served.
pub const VERSION: &str = "v1alpha1";
