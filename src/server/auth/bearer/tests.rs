use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::cluster::{AccessQuestion, ApiError};

const NOW: i64 = 1_800_000_000;

#[derive(Default)]
struct Settable(Mutex<u64>);

impl Settable {
    fn set(&self, seconds: u64) {
        *self.0.lock().unwrap() = seconds;
    }
}

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOW + i64::try_from(*self.0.lock().unwrap()).unwrap()).unwrap()
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(*self.0.lock().unwrap())
    }
}

type Said = Result<Result<UserInfo, String>, ApiError>;

/// An API server that says the same about every token.
#[derive(Clone)]
struct Issuer(Arc<(Mutex<Said>, AtomicUsize)>);

impl Issuer {
    fn say(&self, verdict: Said) {
        *self.0.0.lock().unwrap() = verdict;
    }

    fn reviews(&self) -> usize {
        self.0.1.swap(0, Ordering::Relaxed)
    }
}

impl Reviews for Issuer {
    async fn review_access(&self, _: &UserInfo, _: AccessQuestion<'_>) -> Result<bool, ApiError> {
        Err(ApiError::NotFound)
    }

    async fn review_token(&self, _: &str, audience: &str) -> Said {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        assert_eq!(audience, "kms.cmk-operator.dev");
        self.0.0.lock().unwrap().clone()
    }
}

fn web() -> UserInfo {
    UserInfo::service_account("shop", "web", "u1")
}

fn setup() -> (Arc<Settable>, Issuer, BearerTokens<Issuer>) {
    let clock = Arc::new(Settable::default());
    let issuer = Issuer(Arc::new((Mutex::new(Ok(Ok(web()))), AtomicUsize::new(0))));
    (clock.clone(), issuer.clone(), BearerTokens::new(issuer, clock, Duration::from_secs(300)))
}

/// A token with these claims, and a signature that nobody looks at here.
fn token(claims: &str) -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part("{\"alg\":\"RS256\"}"), part(claims), part("signature"))
}

fn lasting(seconds: i64) -> String {
    token(&format!("{{\"exp\":{},\"sub\":\"x\"}}", NOW + seconds))
}

#[tokio::test]
async fn an_accepted_token_is_its_service_account() {
    let (_, issuer, tokens) = setup();
    let caller = tokens.authenticate(&lasting(600)).await.unwrap();
    assert_eq!((&*caller.namespace, caller.access_key_id), ("shop", None));
    assert_eq!(*caller.user, web());
    let burst = (0..32).map(|_| async { tokens.authenticate(&lasting(601)).await });
    assert!(futures::future::join_all(burst).await.iter().all(Result::is_ok));
    assert_eq!(issuer.reviews(), 2);
}

#[tokio::test]
async fn what_can_be_no_service_accounts_token_is_refused_without_asking() {
    let (_, issuer, tokens) = setup();
    let long = format!("a.{}.c", "b".repeat(MAX_LENGTH));
    for token in ["", "secret", "a.b", "a..c", "a.b.", "a.b.c.d", "a.b.c d", "a.b.ü", "a.b=.c", &long] {
        let refused = tokens.authenticate(token).await.unwrap_err();
        let Failure::InvalidToken(said) = refused else { panic!("{refused:?}") };
        assert!(token.len() < 4 || !said.contains(token), "{said}");
    }
    assert_eq!(issuer.reviews(), 0);
    let longest = format!("a.{}.c", "b".repeat(MAX_LENGTH - 4));
    assert!(tokens.authenticate(&longest).await.is_ok());
}

#[tokio::test]
async fn only_service_accounts_are_callers() {
    for (username, groups) in [
        ("alice", vec![]),
        ("system:serviceaccount:shop", vec![]),
        ("system:serviceaccount::web", vec!["system:serviceaccounts:"]),
        ("system:serviceaccount:shop:", vec!["system:serviceaccounts:shop"]),
        ("system:serviceaccount:shop:web:x", vec!["system:serviceaccounts:shop"]),
        ("system:serviceaccount:shop:web", vec!["system:serviceaccounts:bank"]),
        ("system:node:web", vec!["system:nodes"]),
    ] {
        let groups = groups.into_iter().map(str::to_owned).collect();
        let refused = caller(UserInfo { username: username.into(), groups, ..UserInfo::default() });
        assert!(refused.is_err(), "{username}");
    }
    let (_, issuer, tokens) = setup();
    issuer.say(Ok(Ok(UserInfo { username: "alice".into(), ..UserInfo::default() })));
    let refused = tokens.authenticate(&lasting(600)).await;
    assert_eq!(refused, Err(Failure::InvalidToken("alice is not a ServiceAccount".into())));
}

#[tokio::test]
async fn an_answer_counts_for_seconds() {
    let (clock, issuer, tokens) = setup();
    let token = lasting(600);
    assert!(tokens.authenticate(&token).await.is_ok());
    issuer.say(Ok(Err("it was revoked".into())));
    clock.set(7);
    assert!(tokens.authenticate(&token).await.is_ok());
    clock.set(10);
    assert_eq!(tokens.authenticate(&token).await, Err(Failure::InvalidToken("it was revoked".into())));
    issuer.say(Ok(Ok(web())));
    assert!(tokens.authenticate(&token).await.is_err());
    clock.set(11);
    assert!(tokens.authenticate(&token).await.is_ok());
    assert_eq!(issuer.reviews(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_token_counts_beyond_its_expiry() {
    let (clock, issuer, tokens) = setup();
    let (short, long, endless) = (lasting(4), lasting(100), token("{}"));
    for token in [&short, &long, &endless] {
        assert!(tokens.authenticate(token).await.is_ok());
    }
    issuer.say(Err(ApiError::Unavailable("down".into())));
    let unavailable = |result: Result<Caller, Failure>| matches!(result, Err(Failure::Unavailable(_)));
    for (now, short_is, long_is, endless_is) in
        [(3, true, true, true), (4, false, true, true), (10, false, true, false), (99, false, true, false)]
    {
        clock.set(now);
        for (token, is_good) in [(&short, short_is), (&long, long_is), (&endless, endless_is)] {
            let answer = tokens.authenticate(token).await;
            assert!(answer.is_ok() == is_good && unavailable(answer) != is_good, "{token} at {now}");
        }
    }
    clock.set(100);
    assert!(unavailable(tokens.authenticate(&long).await));
    // By our clock it has expired, by the API server's it has not: it counts now, and is asked about every time.
    issuer.say(Ok(Ok(web())));
    clock.set(200);
    issuer.reviews();
    for _ in 0..2 {
        assert!(tokens.authenticate(&long).await.is_ok());
    }
    assert_eq!(issuer.reviews(), 2);
}

#[test]
fn an_expiry_is_read_or_there_is_none() {
    assert_eq!(expiry(&lasting(0)), Timestamp::from_second(NOW).ok());
    for token in
        [token("{}"), token("[]"), token("{\"exp\":\"1\"}"), token("{\"exp\":1e300}"), "a.b.c".into(), "a".into()]
    {
        assert_eq!(expiry(&token), None, "{token}");
    }
    assert_eq!(expiry(&token(&format!("{{\"exp\":{}}}", i64::MAX))), None);
}
