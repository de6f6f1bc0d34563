//! Whatever a request says, it is answered, and nobody is authenticated by chance.

use hyper::header::{HeaderName, HeaderValue};
use proptest::{collection::vec, prelude::*};

use super::support::Recorded;

const KNOWN: &[&str] = &[
    "AWS4-HMAC-SHA256 ",
    "ACS3-HMAC-SHA256 ",
    "Bearer ",
    "Credential=",
    "SignedHeaders=",
    "Signature=",
    ", ",
    ",",
    "AKIDEXAMPLE00000",
    "/20261122/us-east-1/kms/aws4_request",
    "content-type;host;x-amz-date;x-amz-target",
    "host",
    ";",
    "/",
    "=",
    "&",
    "%",
    "+",
    "00",
    "SignatureMethod=HMAC-SHA1",
    "SignatureVersion=1.0",
    "SignatureNonce=1",
    "Timestamp=2026-11-22T04%3A18%3A37Z",
    "AccessKeyId=AKIDEXAMPLE00000",
    "20261122T041831Z",
    "2026-11-22T04:18:36Z",
];

/// Pieces of which `Authorization` headers and queries are made, and some of which none is.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::sample::select(KNOWN).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
        1 => Just(vec![b'0'; 64]),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

fn name() -> impl Strategy<Value = &'static str> {
    let names =
        ["authorization", "host", "x-amz-date", "x-amz-target", "x-amz-content-sha256", "content-type", "x-acs-date"];
    proptest::sample::select(
        [&names[..], &["x-acs-signature-nonce", "x-acs-content-sha256", "x-acs-action", "x-amz-x"]].concat(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_in_headers_query_and_body_authenticate_or_panic(
        base in proptest::sample::select(vec!["boto3-Encrypt", "alibabacloud-kms-Encrypt", "aliyun-sdk-kms-form-Encrypt"]),
        headers in vec((name(), bytes(), any::<bool>()), 0..4),
        query in proptest::option::of(bytes()),
        body in bytes(),
    ) {
        let recorded = Recorded::named(base);
        let mut request = recorded.request();
        for (name, value, replace) in headers {
            let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
            let name = HeaderName::from_static(name);
            if replace {
                request.headers.insert(name, value);
            } else {
                request.headers.append(name, value);
            }
        }
        if let Some(query) = query {
            request.query = String::from_utf8_lossy(&query).into_owned();
        }
        // Something that is signed differs in any case.
        request.body = [&request.body[..], b"&x=1&", &body].concat().into();
        let endpoint = recorded.endpoint();
        prop_assert!(endpoint.aws(&request).is_err());
        prop_assert!(endpoint.alibaba(&request).is_err());
    }
}
