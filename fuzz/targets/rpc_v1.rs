use cmk_operator::server::{alibaba::Parameters, auth::rpc_v1::parse};
use jiff::Timestamp;

use super::request;

/// A request with Alibaba Cloud's signature v1.
pub fn run(data: &[u8]) {
    let Some(request) = request::request(data) else { return };
    let Ok(form) = std::str::from_utf8(&request.body) else { return };
    let Ok(parameters) = Parameters::parse(&request.query, form) else { return };
    let Ok(signed) = parse(&request, &parameters) else { return };
    assert!(signed.check_time(Timestamp::MIN).is_err() || signed.check_time(Timestamp::MAX).is_err());
    assert!(signed.check_time(signed.valid_until()).is_ok());
    request::at_most_one_verifies(|secret| signed.verify(&request, &parameters, secret).is_ok());
}
