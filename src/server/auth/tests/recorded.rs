//! What the official clients sent (`tests/vectors/requests`): accepted as it is, refused with any signed byte changed.

use hyper::{Method, body::Bytes, header::HeaderValue};
use jiff::SignedDuration;

use super::support::{Endpoint, Recorded};
use crate::server::{Failure, Request};

type Named = Vec<(String, Recorded)>;

/// The requests without a session token, and those with one.
fn by_session() -> (Named, Named) {
    Recorded::all().into_iter().partition(|(name, _)| !name.contains("-sts-") && !name.contains("session-token"))
}

#[test]
fn every_client_is_authenticated() {
    let (requests, _) = by_session();
    assert!(requests.len() >= 70, "{}", requests.len());
    for (name, recorded) in requests {
        let caller = recorded.endpoint().either(recorded.is_aws(), &recorded.request());
        let caller = caller.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert_eq!(caller.access_key_id.as_deref(), Some(&*recorded.access_key_id), "{name}");
        assert_eq!((&*caller.namespace, &*caller.user.username), ("shop", "system:serviceaccount:shop:orders"));
    }
}

#[test]
fn session_tokens_are_refused_in_words() {
    let (_, sessions) = by_session();
    assert!(sessions.len() >= 3);
    for (name, recorded) in sessions {
        let refused = recorded.endpoint().either(recorded.is_aws(), &recorded.request());
        let Err(Failure::IncompleteSignature(sentence)) = refused else { panic!("{name}") };
        assert!(sentence.contains("have no session"), "{name}: {sentence}");
    }
}

#[test]
fn another_secret_another_id_and_another_time_are_told_apart() {
    for (name, recorded) in by_session().0 {
        let (request, is_aws) = (recorded.request(), recorded.is_aws());
        let Recorded { access_key_id, secret, time, .. } = &recorded;
        let ask = |id: &str, secret: &str, time| Endpoint::new(id, secret, time).either(is_aws, &request);
        assert_eq!(ask(access_key_id, "another", *time), Err(Failure::SignatureMismatch), "{name}");
        assert_eq!(ask("another", secret, *time), Err(Failure::UnknownAccessKey), "{name}");
        let tolerance = SignedDuration::from_mins(if is_aws { 5 } else { 15 }) + SignedDuration::from_secs(2);
        for time in [*time - tolerance, *time + tolerance] {
            let refused = ask(access_key_id, secret, time);
            assert!(matches!(refused, Err(Failure::IllegalTimestamp { .. })), "{name}: {refused:?}");
        }
    }
}

/// The headers that the signature covers, beyond the parameters. The body's type counts where there is a body.
fn is_signed(header: &str, request: &Request) -> bool {
    let authorization = request.header("authorization");
    let counts = || header == "content-type" && !request.body.is_empty();
    let Some(authorization) = authorization else { return counts() };
    let names = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    header == "authorization" || names.split(';').any(|name| name == header)
}

/// Every request that differs in one byte, or in the method or the path, with what differs and whether that is signed.
fn changed(recorded: &Recorded) -> Vec<(String, bool, Request)> {
    let original = recorded.request();
    let mut all = Vec::new();
    for method in [Method::GET, Method::POST, Method::PUT].into_iter().filter(|method| *method != original.method) {
        all.push((format!("method {method}"), true, Request { method, ..recorded.request() }));
    }
    for path in ["", "//", "/x", "/."] {
        all.push((format!("path {path}"), true, Request { path: path.into(), ..recorded.request() }));
    }
    for at in 0..original.query.len() {
        let mut query = original.query.clone().into_bytes();
        query[at] ^= 1;
        let query = String::from_utf8(query).unwrap();
        all.push((format!("query at {at}"), true, Request { query, ..recorded.request() }));
    }
    for at in 0..original.body.len() {
        let mut body = original.body.to_vec();
        body[at] ^= 1;
        all.push((format!("body at {at}"), true, Request { body: Bytes::from(body), ..recorded.request() }));
    }
    for (name, value) in &original.headers {
        for at in 0..value.len() {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] ^= 1;
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { continue };
            let mut request = recorded.request();
            request.headers.insert(name, value);
            all.push((format!("{name} at {at}"), is_signed(name.as_str(), &original), request));
        }
        let mut request = recorded.request();
        request.headers.remove(name);
        all.push((format!("without {name}"), is_signed(name.as_str(), &original), request));
    }
    let mut longer = original.body.to_vec();
    longer.push(b' ');
    all.push(("a longer body".into(), true, Request { body: longer.into(), ..recorded.request() }));
    let query = format!("{}{}DryRun=true", original.query, if original.query.is_empty() { "" } else { "&" });
    all.push(("one parameter more".into(), true, Request { query, ..recorded.request() }));
    all
}

#[test]
fn any_signed_byte_that_is_changed_is_refused() {
    let mut seen = std::collections::HashSet::new();
    for (name, recorded) in by_session().0 {
        // Of each client and shape of request one: the others differ in parameters only.
        let (client, _) = name.split_once(char::is_uppercase).unwrap();
        if !seen.insert((client.to_owned(), recorded.body_base64.is_empty())) {
            continue;
        }
        let endpoint = recorded.endpoint();
        for (what, is_signed, request) in changed(&recorded) {
            let fresh;
            let endpoint = if is_signed {
                &endpoint
            } else {
                fresh = recorded.endpoint();
                &fresh
            };
            let answer = endpoint.either(recorded.is_aws(), &request);
            assert_eq!(answer.is_err(), is_signed, "{name}, {what}: {answer:?}");
        }
        // None of these has used the nonce.
        assert!(endpoint.either(recorded.is_aws(), &recorded.request()).is_ok(), "{name}");
    }
    assert!(seen.len() >= 12, "{seen:?}");
}

#[test]
fn an_identical_retry_is_legal_with_sigv4_and_a_replay_with_the_others() {
    for (name, recorded) in by_session().0 {
        let endpoint = recorded.endpoint();
        let is_aws = recorded.is_aws();
        endpoint.either(is_aws, &recorded.request()).unwrap();
        let again = endpoint.either(is_aws, &recorded.request());
        assert_eq!(again.err(), (!is_aws).then_some(Failure::NonceUsed), "{name}");
        // Up to the last moment at which the timestamp would do.
        *endpoint.clock.0.lock().unwrap() += SignedDuration::from_secs(if is_aws { 290 } else { 895 });
        let again = endpoint.either(is_aws, &recorded.request());
        assert_eq!(again.err(), (!is_aws).then_some(Failure::NonceUsed), "{name}");
    }
}
