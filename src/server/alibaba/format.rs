//! In which form an answer is written.

use super::Parameters;
use crate::server::Request;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `Format=JSON`.
    Json,
    /// `Format=XML`, the API's default.
    Xml,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Json, Self::Xml];

    /// What a request asks for: `Format`, in any case; else the header `Accept`, which clients with header signatures send
    /// in its place; else JSON for those clients, and XML, the API's default, for all others. An unknown `Format` is none:
    /// the older Python SDK sends `Format=None`.
    #[must_use]
    pub fn of(parameters: &Parameters<'_>, request: &Request) -> Self {
        let asked = parameters.get("Format").and_then(|format| match format {
            json if json.eq_ignore_ascii_case("JSON") => Some(Self::Json),
            xml if xml.eq_ignore_ascii_case("XML") => Some(Self::Xml),
            _ => None,
        });
        let accepted = || match request.header("accept")?.trim() {
            "application/json" => Some(Self::Json),
            "application/xml" | "text/xml" => Some(Self::Xml),
            _ => None,
        };
        let default = || if in_headers(request) { Self::Json } else { Self::Xml };
        asked.or_else(accepted).unwrap_or_else(default)
    }

    /// The type of the answer's body.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }
}

/// Whether a request has its action and version in headers: it is signed in version 3, or comes with a token. Also where
/// there is more than one `Authorization`, so that it is refused in words of this API.
pub(super) fn in_headers(request: &Request) -> bool {
    request.headers.get_all("authorization").iter().any(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.starts_with(b"ACS3-") || scheme.eq_ignore_ascii_case(b"bearer")
    })
}
