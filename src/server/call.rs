//! Who calls, and what is noted about the call for the audit line.

use std::sync::Arc;

use uuid::Uuid;

use crate::{access_keys::Credential, cluster::UserInfo, kms::Dialect};

/// A caller that was authenticated: a ServiceAccount, by an access key or a token. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// As Kubernetes knows the caller: what a SubjectAccessReview is asked about.
    pub user: Arc<UserInfo>,
    /// The namespace of the ServiceAccount: where its keys and aliases are looked up.
    pub namespace: Arc<str>,
    /// The access key that signed. None: a token.
    pub access_key_id: Option<Arc<str>>,
}

impl From<&Credential> for Caller {
    fn from(credential: &Credential) -> Self {
        let Credential { access_key_id, user, namespace, .. } = credential;
        Self { user: user.clone(), namespace: namespace.clone(), access_key_id: Some(access_key_id.clone()) }
    }
}

/// One call, from authentication to the audit line.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// Whose tables and limits count.
    pub dialect: Dialect,
    /// The key that it was about, once that is known. ReEncrypt: the destination.
    pub key_id: Option<Uuid>,
    /// A key of the caller's own namespace that was asked for, and is to be deleted because its object is gone: for others
    /// it is not there.
    pub deleted_key_id: Option<Uuid>,
}

impl Call {
    /// A call that has just been authenticated.
    #[must_use]
    pub fn new(caller: Caller, dialect: Dialect) -> Self {
        Self { caller, dialect, key_id: None, deleted_key_id: None }
    }
}
