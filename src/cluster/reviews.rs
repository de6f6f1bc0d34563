//! Asking the API server who somebody is, and what they may do.

use std::{collections::BTreeMap, future::Future};

use super::ApiError;

/// Somebody, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserInfo {
    /// `system:serviceaccount:NAMESPACE:NAME` for a ServiceAccount.
    pub username: String,
    /// Tells them from an earlier one of the same name.
    pub uid: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// What else authenticators say.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A ServiceAccount, as the API server authenticates its token.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            username: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
            extra: BTreeMap::new(),
        }
    }
}

/// What somebody wants to do with `CustomerMasterKey`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessQuestion<'a> {
    /// The verb.
    pub verb: &'a str,
    /// The resource, in the group `kms.cmk-operator.dev`.
    pub resource: &'a str,
    /// The namespace. Empty for resources that are in none.
    pub namespace: &'a str,
    /// The object. None: any object of the namespace.
    pub name: Option<&'a str>,
}

/// TokenReviews and SubjectAccessReviews.
pub trait Reviews: Send + Sync + 'static {
    /// Whether RBAC, and whatever else authorizes in the cluster, allows something.
    fn review_access(
        &self,
        user: &UserInfo,
        question: AccessQuestion<'_>,
    ) -> impl Future<Output = Result<bool, ApiError>> + Send;

    /// Whose token it is. `Err` in the inner result: nobody's that is valid for the audience, and why.
    fn review_token(
        &self,
        token: &str,
        audience: &str,
    ) -> impl Future<Output = Result<Result<UserInfo, String>, ApiError>> + Send;
}
