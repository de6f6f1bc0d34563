//! A Secret that may hold key material.

use std::ops::Deref;

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroize;

/// A Secret whose data is wiped when it is dropped. It can't be printed or cloned: the kube type can, with all
/// that is in it.
///
/// Wiping is best effort: what the HTTP client serializes on the way to the API server is out of reach.
pub struct WipedSecret(Secret);

impl From<Secret> for WipedSecret {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl Deref for WipedSecret {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0
    }
}

impl Drop for WipedSecret {
    fn drop(&mut self) {
        for value in self.0.data.iter_mut().flat_map(|data| data.values_mut()) {
            value.0.zeroize();
        }
    }
}
