use cmk_operator::server::auth::sigv4::{SigningKey, parse};
use jiff::Timestamp;

use super::request;

/// A request with SigV4.
pub fn run(data: &[u8]) {
    let Some(request) = request::request(data) else { return };
    let Ok(signed) = parse(&request) else { return };
    assert!(!signed.access_key_id().is_empty());
    assert!(signed.check_time(Timestamp::MIN).is_err() || signed.check_time(Timestamp::MAX).is_err());
    let scope = signed.scope();
    request::at_most_one_verifies(|secret| signed.verify(&request, &SigningKey::derive(secret, scope)).is_ok());
}
