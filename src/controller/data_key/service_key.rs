//! The key of the DataKeys of a namespace that name none: `alias/acs/DataKey` (design, section 1 and rule 7).

use kube::ResourceExt;

use super::ciphertext::{Ciphertext, Source};
use crate::{
    api::{CustomerMasterKey, CustomerMasterKeySpec, DataKey, metadata},
    crypto::parse_header,
};

const DESCRIPTION: &str = "The service key of this namespace: made by cmk-operator for DataKeys without keyRef.";

/// The `CustomerMasterKey` to make for `object`.
///
/// Where there is a ciphertext of this DataKey already, its key existed before: the object names it, so that the key is
/// taken back, or missed (rule 1), and never replaced by a new one that decrypts nothing. One in the spec proves nothing:
/// it may be of any key.
pub fn service_key(object: &DataKey, ciphertext: Option<&Ciphertext>) -> CustomerMasterKey {
    let spec = CustomerMasterKeySpec {
        alias: Some(metadata::SERVICE_KEY_ALIAS.into()),
        description: Some(DESCRIPTION.into()),
        ..CustomerMasterKeySpec::default()
    };
    let mut key = CustomerMasterKey::new(metadata::SERVICE_KEY, spec);
    key.metadata.namespace = object.namespace();
    key.labels_mut().insert(metadata::MANAGED_BY_LABEL.into(), metadata::MANAGER.into());
    let ciphertext = ciphertext.filter(|found| found.source != Source::Spec);
    let header = ciphertext.and_then(Ciphertext::bytes).and_then(|blob| parse_header(&blob).ok());
    if let Some(header) = header {
        key.annotations_mut().insert(metadata::KEY_ID.into(), header.key_id.to_string());
    }
    key
}
