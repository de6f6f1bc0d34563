//! Requests as a file says them, and an authenticator that knows one access key.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::FutureExt;
use hyper::{HeaderMap, Method, header::HeaderName};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    access_keys::{AccessKeySecret, Credential, Credentials},
    clock::Clock,
    cluster::{AccessQuestion, ApiError, Reviews, UserInfo},
    server::{Caller, Failure, Request, alibaba::Parameters, auth::Authenticator},
};

/// A request that was signed, as it stands in a file.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(super) struct Recorded {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body_base64: String,
    pub(super) access_key_id: String,
    pub(super) secret: String,
    pub(super) time: Timestamp,
}

impl Recorded {
    /// One of `tests/vectors/requests`.
    pub(super) fn named(name: &str) -> Self {
        let path = format!("{}/tests/vectors/requests/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// All of `tests/vectors/requests`.
    pub(super) fn all() -> Vec<(String, Self)> {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/requests")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), Self::named(&name))).collect()
    }

    pub(super) fn request(&self) -> Request {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Request {
            method: Method::from_bytes(self.method.as_bytes()).unwrap(),
            path: path.into(),
            query: query.into(),
            headers,
            body: STANDARD.decode(&self.body_base64).unwrap().into(),
        }
    }

    pub(super) fn is_aws(&self) -> bool {
        self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-amz-target"))
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::new(&self.access_key_id, &self.secret, self.time)
    }
}

/// A clock that shows what it is set to.
pub(super) struct SetClock(pub(super) Mutex<Timestamp>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct One(Arc<Credential>);

impl Credentials for One {
    fn credential(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (*self.0.access_key_id == *access_key_id).then(|| self.0.clone())
    }
}

/// An API server that nobody may ask.
#[derive(Clone)]
struct Nobody;

impl Reviews for Nobody {
    async fn review_access(&self, _: &UserInfo, _: AccessQuestion<'_>) -> Result<bool, ApiError> {
        panic!("authentication asks for no permission")
    }

    async fn review_token(&self, _: &str, _: &str) -> Result<Result<UserInfo, String>, ApiError> {
        panic!("there is no token")
    }
}

/// An authenticator with one access key, and its clock.
pub(super) struct Endpoint {
    authenticator: Authenticator<Nobody>,
    pub(super) clock: Arc<SetClock>,
}

impl Endpoint {
    pub(super) fn new(access_key_id: &str, secret: &str, now: Timestamp) -> Self {
        let user = UserInfo::service_account("shop", "orders", "uid");
        let credential = Credential {
            access_key_id: access_key_id.into(),
            secret: AccessKeySecret::new(Zeroizing::new(secret.into())),
            user: Arc::new(user),
            namespace: "shop".into(),
        };
        let clock = Arc::new(SetClock(Mutex::new(now)));
        let authenticator =
            Authenticator::new(Nobody, Arc::new(One(Arc::new(credential))), clock.clone(), Duration::ZERO);
        Self { authenticator, clock }
    }

    pub(super) fn aws(&self, request: &Request) -> Result<Caller, Failure> {
        self.authenticator.aws(request).now_or_never().expect("a signature needs nobody else")
    }

    pub(super) fn alibaba(&self, request: &Request) -> Result<Caller, Failure> {
        let is_form = request.header("content-type").is_some_and(|kind| kind.contains("x-www-form-urlencoded"));
        let form = if is_form { std::str::from_utf8(&request.body).unwrap_or("%") } else { "" };
        let parameters = Parameters::parse(&request.query, form);
        let parameters = parameters.map_err(|error| Failure::Malformed(error.to_string()))?;
        self.authenticator.alibaba(request, &parameters).now_or_never().expect("a signature needs nobody else")
    }

    pub(super) fn either(&self, is_aws: bool, request: &Request) -> Result<Caller, Failure> {
        if is_aws { self.aws(request) } else { self.alibaba(request) }
    }
}
