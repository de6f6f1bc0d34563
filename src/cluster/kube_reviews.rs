//! Reviews over a real API server: TokenReview and SubjectAccessReview.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, api::PostParams};

use super::{AccessQuestion, ApiError, KubeCluster, Reviews, UserInfo, call::call_within};
use crate::api::GROUP;

/// How long a review may take, retries of the client included: a request waits for it.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(2);

impl Reviews for KubeCluster {
    async fn review_access(&self, user: &UserInfo, question: AccessQuestion<'_>) -> Result<bool, ApiError> {
        let api: Api<SubjectAccessReview> = Api::all(self.client());
        let answer =
            call_within(REVIEW_TIMEOUT, api.create(&PostParams::default(), &access_review(user, question))).await?;
        let status = answer.status.unwrap_or_default();
        if let Some(error) = status.evaluation_error {
            // Such as a binding to a role that does not exist. The answer counts all the same.
            tracing::debug!(user = user.username, %error, "a SubjectAccessReview met an error");
        }
        Ok(status.allowed && status.denied != Some(true))
    }

    async fn review_token(&self, token: &str, audience: &str) -> Result<Result<UserInfo, String>, ApiError> {
        let api: Api<TokenReview> = Api::all(self.client());
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = call_within(REVIEW_TIMEOUT, api.create(&PostParams::default(), &review)).await?;
        Ok(whose(answer.status.unwrap_or_default(), audience))
    }
}

/// The question as the API server takes it.
fn access_review(user: &UserInfo, question: AccessQuestion<'_>) -> SubjectAccessReview {
    let UserInfo { username, uid, groups, extra } = user.clone();
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some(question.resource.to_owned()),
        verb: Some(question.verb.to_owned()),
        namespace: Some(question.namespace.to_owned()),
        name: question.name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(username),
        uid: (!uid.is_empty()).then_some(uid),
        groups: Some(groups),
        extra: (!extra.is_empty()).then_some(extra),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

/// Whose token it is. An API server that does not know audiences answers without any, and the token would be one for
/// the API server itself: whoever accepted it could use it there in its owner's name.
fn whose(status: TokenReviewStatus, audience: &str) -> Result<UserInfo, String> {
    let TokenReviewStatus { audiences, authenticated, error, user } = status;
    if authenticated != Some(true) {
        return Err(error.unwrap_or_else(|| "the API server does not accept it".to_owned()));
    }
    if !audiences.unwrap_or_default().iter().any(|valid| valid == audience) {
        return Err(format!("it is not for the audience {audience}"));
    }
    let user = user.unwrap_or_default();
    let (Some(username), uid) = (user.username, user.uid.unwrap_or_default()) else {
        return Err("the API server does not say whose it is".to_owned());
    };
    Ok(UserInfo { username, uid, groups: user.groups.unwrap_or_default(), extra: user.extra.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn all_that_is_known_about_a_user_is_asked_about() {
        let mut user = UserInfo::service_account("shop", "web", "u1");
        user.extra = [("a.example/b".to_owned(), vec!["c".to_owned()])].into();
        let question =
            AccessQuestion { verb: "decrypt", resource: "customermasterkeys", namespace: "shop", name: Some("orders") };
        let spec = serde_json::to_value(access_review(&user, question)).unwrap()["spec"].clone();
        let attributes = json!({
            "group": "kms.cmk-operator.dev", "resource": "customermasterkeys", "verb": "decrypt",
            "namespace": "shop", "name": "orders",
        });
        assert_eq!(
            spec,
            json!({
                "user": "system:serviceaccount:shop:web", "uid": "u1", "extra": {"a.example/b": ["c"]},
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                "resourceAttributes": attributes,
            })
        );
        let nameless = access_review(&UserInfo::default(), AccessQuestion { name: None, ..question });
        let spec = serde_json::to_value(nameless).unwrap()["spec"].clone();
        assert_eq!(spec["resourceAttributes"]["name"], Value::Null);
        assert_eq!((&spec["uid"], &spec["extra"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn only_an_accepted_token_for_our_audience_is_somebodys() {
        let judged = |status: Value| whose(serde_json::from_value(status).unwrap(), "kms");
        let user = json!({"username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}});
        let good = judged(json!({"authenticated": true, "audiences": ["other", "kms"], "user": user})).unwrap();
        assert_eq!((good.username.as_str(), good.uid.as_str(), good.groups), ("u", "1", vec!["g".to_owned()]));
        assert_eq!(good.extra["k"], ["v"]);
        for (status, said) in [
            (json!({"authenticated": true, "user": user}), "audience"),
            (json!({"authenticated": true, "audiences": [], "user": user}), "audience"),
            (json!({"authenticated": true, "audiences": ["KMS"], "user": user}), "audience"),
            (json!({"authenticated": false, "audiences": ["kms"], "user": user}), "does not accept"),
            (json!({"audiences": ["kms"], "user": user, "error": "it has expired"}), "it has expired"),
            (json!({}), "does not accept"),
            (json!({"authenticated": true, "audiences": ["kms"], "user": {}}), "whose"),
        ] {
            let refused = judged(status.clone()).unwrap_err();
            assert!(refused.contains(said), "{status}: {refused}");
        }
    }
}
