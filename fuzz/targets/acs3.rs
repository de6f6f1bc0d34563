use cmk_operator::server::auth::acs3::parse;
use jiff::Timestamp;

use super::request;

/// A request with Alibaba Cloud's signature v3.
pub fn run(data: &[u8]) {
    let Some(request) = request::request(data) else { return };
    let Ok(signed) = parse(&request) else { return };
    assert!(!signed.access_key_id().is_empty());
    assert!(signed.check_time(Timestamp::MIN).is_err() || signed.check_time(Timestamp::MAX).is_err());
    assert!(signed.check_time(signed.valid_until()).is_ok());
    request::at_most_one_verifies(|secret| signed.verify(&request, secret).is_ok());
}
