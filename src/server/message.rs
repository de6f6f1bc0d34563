//! A request as it came, and a reply as it goes.

use hyper::{HeaderMap, Method, StatusCode, body::Bytes};
use zeroize::Zeroizing;

/// A request, read as a whole: head and body. It can't be printed: query and body hold plaintext.
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// The path, as it came: not decoded.
    pub path: String,
    /// What stands after `?`, as it came. Empty: nothing.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// The one value of a header. None: it is absent, or there are several, or it is not visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }
}

/// What is answered. Its body may hold plaintext, and is wiped once it was sent.
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}
