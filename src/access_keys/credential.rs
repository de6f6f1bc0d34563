//! An access key as whoever verifies a signature sees it.

use std::sync::Arc;

use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::cluster::UserInfo;

/// The secret of an access key: what signatures are made with. It can't be printed, cloned, compared or serialized, and
/// is wiped when dropped.
pub struct AccessKeySecret(Zeroizing<String>);

impl ZeroizeOnDrop for AccessKeySecret {}

impl AccessKeySecret {
    /// A secret that exists already.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A valid access key, and whose identity it is.
pub struct Credential {
    /// Its public half.
    pub access_key_id: Arc<str>,
    /// Its secret half.
    pub secret: AccessKeySecret,
    /// The ServiceAccount, as the API server would authenticate its token.
    pub user: Arc<UserInfo>,
    /// The namespace of the ServiceAccount.
    pub namespace: Arc<str>,
}

/// The access keys that are valid now. One whose AccessKey or ServiceAccount was deleted is not.
pub trait Credentials: Send + Sync + 'static {
    /// The valid access key with an id. Nobody is asked: it answers from what the watches have shown.
    fn credential(&self, access_key_id: &str) -> Option<Arc<Credential>>;
}
