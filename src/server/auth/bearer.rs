//! ServiceAccount tokens: who calls with `Authorization: Bearer …`, by TokenReview.
//!
//! A token counts for up to 10 seconds after the API server accepted it, so that is how long one goes on working whose
//! ServiceAccount, Pod or Secret was deleted. A refusal counts for one second. Tokens themselves are not kept: what is
//! remembered is found by their SHA-256.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::AUDIENCE;
use crate::{
    clock::Clock,
    cluster::{Reviews, UserInfo},
    server::{
        Caller, Failure,
        review_cache::{Answer, CacheLimits, ReviewCache},
    },
};

/// How long an accepted token counts, if it does not expire before.
const VALID_FOR: Duration = Duration::from_secs(10);

/// How long a refusal counts.
const INVALID_FOR: Duration = Duration::from_secs(1);

/// How long a token may be, in bytes. Those of ServiceAccounts have about 1,000.
const MAX_LENGTH: usize = 16 << 10;

/// How much of the API server's reason is passed on, in characters.
const MAX_REASON: usize = 200;

/// How many answers to remember: one a token in use. About 1 KiB each.
const ENTRIES: usize = 4_000;

/// How many reviews at a time. Few, as anybody can send tokens that were never seen.
const REVIEWS: usize = 8;

/// Authenticates tokens, and remembers whose they are for a short while.
pub struct BearerTokens<C> {
    cluster: C,
    clock: Arc<dyn Clock>,
    answers: ReviewCache<Verdict>,
}

/// Whose a token is, or why it is nobody's.
type Verdict = Result<Caller, Arc<str>>;

impl<C: Reviews + Clone> BearerTokens<C> {
    /// Tokens as the API server judges them. While it does not answer, what it said before counts for up to
    /// `max_staleness`, but for no token beyond its own expiry.
    #[must_use]
    pub fn new(cluster: C, clock: Arc<dyn Clock>, max_staleness: Duration) -> Self {
        let limits = CacheLimits { entries: ENTRIES, questions: REVIEWS, max_staleness };
        Self { cluster, answers: ReviewCache::new(clock.clone(), limits), clock }
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// [`Failure::InvalidToken`]: no ServiceAccount's, or not one for the audience [`AUDIENCE`], or expired.
    /// [`Failure::Unavailable`]: the API server does not say.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, Failure> {
        if let Some(problem) = problem_of(token) {
            return Err(Failure::InvalidToken(problem));
        }
        let ask = || {
            let (cluster, clock, token) = (self.cluster.clone(), self.clock.clone(), Zeroizing::new(token.to_owned()));
            async move {
                let verdict = cluster.review_token(&token, AUDIENCE).await?;
                Ok(answer(verdict, expiry(&token), clock.now()))
            }
        };
        match self.answers.answer(Sha256::digest(token).into(), ask).await {
            Ok(Ok(caller)) => Ok(caller),
            Ok(Err(reason)) => Err(Failure::InvalidToken(reason.to_string())),
            Err(error) => {
                tracing::debug!(%error, "a token can't be reviewed");
                Err(Failure::Unavailable("the API server does not say now whose the token is: try again".into()))
            }
        }
    }
}

/// What is wrong with a token by its form alone: it can't be a ServiceAccount's, and nobody is asked. Three parts in
/// base64url, as every signed JWT has.
fn problem_of(token: &str) -> Option<String> {
    if token.len() > MAX_LENGTH {
        return Some(format!("it has more than {MAX_LENGTH} bytes"));
    }
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let mut parts = 0;
    let well_formed = token.split('.').all(|part| {
        parts += 1;
        !part.is_empty() && part.bytes().all(is_base64url)
    });
    (!well_formed || parts != 3).then(|| "it is not a signed JWT".to_owned())
}

/// What the API server's verdict on a token means, and for how long it counts.
fn answer(verdict: Result<UserInfo, String>, expiry: Option<Timestamp>, now: Timestamp) -> Answer<Verdict> {
    match verdict.and_then(caller) {
        Ok(caller) => {
            let left = expiry.map(|expiry| Duration::try_from(expiry.duration_since(now)).unwrap_or_default());
            let fresh_for = left.map_or(VALID_FOR, |left| left.min(VALID_FOR));
            // Where it does not say when it expires, only the API server knows.
            Answer { value: Ok(caller), fresh_for, usable_for: left.unwrap_or(VALID_FOR), is_good: true }
        }
        Err(reason) => {
            let reason: String = reason.chars().take(MAX_REASON).collect();
            Answer { value: Err(reason.into()), fresh_for: INVALID_FOR, usable_for: Duration::MAX, is_good: false }
        }
    }
}

/// The ServiceAccount that a user is. Nobody else has a namespace whose keys could be meant.
fn caller(user: UserInfo) -> Result<Caller, String> {
    let parts = user.username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let namespace: Arc<str> = match parts {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains(':') => namespace.into(),
        _ => return Err(format!("{} is not a ServiceAccount", user.username)),
    };
    let group = format!("system:serviceaccounts:{namespace}");
    if !user.groups.contains(&group) {
        return Err(format!("{} is not in the group {group}", user.username));
    }
    Ok(Caller { user: Arc::new(user), namespace, access_key_id: None })
}

/// When an accepted token expires, by itself. It is not verified here: the API server has done that.
fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?);
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Timestamp::from_second(claims.exp).ok()
}
