//! A request out of bytes: much like HTTP, so that seeds can be read and mutations make sense.
//!
//! ```text
//! METHOD PATH?QUERY
//! name: value
//!
//! body
//! ```

use cmk_operator::{access_keys::AccessKeySecret, server::Request};
use hyper::{HeaderMap, Method, header::HeaderName, http::HeaderValue};
use zeroize::Zeroizing;

/// What the seeds are signed with.
pub const SECRET: &str = "example-secret-not-real";

/// The request; None: not even that much of HTTP.
pub fn request(data: &[u8]) -> Option<Request> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = (std::str::from_utf8(&data[..end]).ok()?, &data[end + 2..]);
    let mut lines = head.split('\n');
    let (method, target) = lines.next()?.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        headers.try_append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?).ok()?;
    }
    let method = Method::try_from(method).ok()?;
    Some(Request { method, path: path.into(), query: query.into(), headers, body: body.to_vec().into() })
}

/// Secrets that the seeds are, and are not, signed with.
pub fn secrets() -> [AccessKeySecret; 2] {
    [SECRET, "another"].map(|text| AccessKeySecret::new(Zeroizing::new(text.into())))
}

/// What holds for a signature over whatever request: what one secret signs, another one does not.
pub fn at_most_one_verifies(verify: impl Fn(&AccessKeySecret) -> bool) {
    let [secret, another] = secrets();
    assert!(!(verify(&secret) && verify(&another)));
}
