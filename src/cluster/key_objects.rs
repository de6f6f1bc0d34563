//! `CustomerMasterKey`s, as the KMS endpoint makes and changes them (design, section 5).

use std::{future::Future, sync::Arc};

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::reflector::ObjectRef,
};

use super::{ApiError, Guarded, KubeCluster, call::call};
use crate::api::{
    CustomerMasterKey,
    edit::{self, Edit},
};

/// The field manager of the KMS endpoint.
pub const ENDPOINT_MANAGER: &str = "kms-endpoint";

/// `CustomerMasterKey`s, for who changes what they declare. Every write is the field manager [`ENDPOINT_MANAGER`]'s.
pub trait KeyObjects: Send + Sync + 'static {
    /// An object with its status, from the watch.
    fn seen_key_object(&self, namespace: &str, name: &str) -> Option<Arc<Guarded<CustomerMasterKey>>>;

    /// Makes an object, and answers it as it was made. `AlreadyExists` if there is one of its name.
    fn declare_key(
        &self,
        object: &CustomerMasterKey,
    ) -> impl Future<Output = Result<CustomerMasterKey, ApiError>> + Send;

    /// Edits exactly this version of `object`, and answers what it is then. `Refused` or `Conflict` if it changed: the
    /// API server does not tell a test in a patch that fails from an object that it refuses.
    fn edit_key(
        &self,
        object: &CustomerMasterKey,
        edits: &[Edit],
    ) -> impl Future<Output = Result<CustomerMasterKey, ApiError>> + Send;
}

impl KeyObjects for KubeCluster {
    fn seen_key_object(&self, namespace: &str, name: &str) -> Option<Arc<Guarded<CustomerMasterKey>>> {
        self.views.keys.iter().find_map(|keys| keys.get(&ObjectRef::new(name).within(namespace)))
    }

    async fn declare_key(&self, object: &CustomerMasterKey) -> Result<CustomerMasterKey, ApiError> {
        let params = PostParams { field_manager: Some(ENDPOINT_MANAGER.into()), ..PostParams::default() };
        call(self.key_objects_in(object).create(&params, object)).await
    }

    async fn edit_key(&self, object: &CustomerMasterKey, edits: &[Edit]) -> Result<CustomerMasterKey, ApiError> {
        if object.uid().is_none() || object.resource_version().is_none() {
            return Err(ApiError::Conflict("the object to edit has no UID or resourceVersion".into()));
        }
        let patch = edit::patch(object, edits).and_then(serde_json::from_value);
        let patch = patch.map_err(|error| ApiError::Refused(error.to_string()))?;
        let params = PatchParams { field_manager: Some(ENDPOINT_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::<()>::Json(patch);
        call(self.key_objects_in(object).patch(&object.name_any(), &params, &patch)).await
    }
}

impl KubeCluster {
    fn key_objects_in(&self, object: &CustomerMasterKey) -> Api<CustomerMasterKey> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }
}
