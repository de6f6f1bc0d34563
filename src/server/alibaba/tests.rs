use hyper::{HeaderMap, Method, StatusCode, body::Bytes, header::HeaderName};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{writer::Writer, *};
use crate::kms::{Operation, Rejected, ResourceName};

const REQUEST_ID: Uuid = Uuid::from_u128(0x3455_b9b4_95c1_419d_b310_db6a_53b0_9a39);

fn request(headers: &[(&'static str, &str)]) -> Request {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    Request { method: Method::POST, path: "/".into(), query: String::new(), headers, body: Bytes::new() }
}

fn name() -> ResourceName {
    ResourceName { region: "cn-hangzhou".into(), account_id: "123456".into(), key_id: Uuid::from_u128(1) }
}

/// Every failure, with what it is called here.
fn failures() -> Vec<(Failure, u16, &'static str)> {
    let rejected = |rejected| Failure::Rejected { key: name(), operation: Operation::Encrypt, rejected };
    let invalid = |name| Failure::InvalidParameter { name, problem: "x".into() };
    let text = || "x".to_owned();
    vec![
        (Failure::NotAuthenticated, 400, "IncompleteSignature"),
        (Failure::IncompleteSignature(text()), 400, "IncompleteSignature"),
        (Failure::UnknownAccessKey, 404, "InvalidAccessKeyId.NotFound"),
        (Failure::InvalidToken(text()), 403, "InvalidBearerToken"),
        (Failure::SignatureMismatch, 400, "SignatureDoesNotMatch"),
        (Failure::IllegalTimestamp { signed: text(), now: text() }, 400, "IllegalTimestamp"),
        (Failure::NonceUsed, 400, "SignatureNonceUsed"),
        (Failure::UnsupportedMethod(text()), 403, "UnsupportedHTTPMethod"),
        (Failure::UnknownOperation(text()), 404, "InvalidAction.NotFound"),
        (Failure::Unsupported(text()), 400, "UnsupportedOperation"),
        (Failure::UnsupportedAlias("KeyId"), 400, "Unsupported.Alias"),
        (Failure::Malformed(text()), 400, "InvalidParameter"),
        (Failure::TooLarge(text()), 413, "RequestTooLarge"),
        (Failure::MissingParameter("KeyId"), 400, "MissingParameter"),
        (invalid("KeyId"), 400, "InvalidParameter"),
        (invalid("Version"), 400, "InvalidVersion"),
        (Failure::InvalidMarker, 400, "InvalidParameter"),
        (Failure::InvalidTag(text()), 400, "InvalidParameter"),
        (Failure::DryRun, 400, "DryRunOperationError"),
        (Failure::Denied(text()), 403, "Forbidden.NoPermission"),
        (Failure::KeyNotFound(text()), 404, "Forbidden.KeyNotFound"),
        (Failure::AliasNotFound(text()), 404, "Forbidden.AliasNotFound"),
        (Failure::KeyVersionNotFound(text()), 404, "Forbidden.KeyVersionNotFound"),
        (Failure::AliasExists(text()), 400, "AliasAlreadyExists"),
        (Failure::LimitExceeded(text()), 400, "Rejected.LimitExceeded"),
        (Failure::Throttled(text()), 400, "Throttling"),
        (rejected(Rejected::Disabled), 409, "Rejected.Disabled"),
        (rejected(Rejected::PendingDeletion), 409, "Rejected.PendingDeletion"),
        (rejected(Rejected::PendingImport), 409, "Rejected.PendingImport"),
        (rejected(Rejected::StateModifiedFailed), 409, "Rejected.StateModifiedFailed"),
        (Failure::UnsupportedOrigin(text()), 400, "Unsupported.Origin"),
        (Failure::DeletionProtected(name()), 409, "Rejected.DeletionProtected"),
        (Failure::ServiceManaged(name()), 409, "Rejected.ServiceManaged"),
        (Failure::Owned(text()), 409, "Rejected.StateModifiedFailed"),
        (Failure::Conflict, 409, "Rejected.StateModifiedFailed"),
        (Failure::NotCarriedOut(text()), 503, "ServiceUnavailableTemporary"),
        (Failure::InvalidCiphertext, 400, "InvalidCiphertext"),
        (Failure::IncorrectKey, 400, "IncorrectKey"),
        (Failure::InvalidImportToken, 400, "InvalidImportToken"),
        (Failure::ExpiredImportToken, 400, "ExpiredImportToken"),
        (Failure::InvalidKeyMaterial, 400, "InvalidKeyMaterial"),
        (Failure::IncorrectKeyMaterial, 400, "InvalidKeyMaterial"),
        (Failure::Unavailable(text()), 503, "ServiceUnavailableTemporary"),
        (Failure::Internal(text()), 500, "InternalFailure"),
    ]
}

#[test]
fn every_failure_has_its_code_and_status_in_both_forms() {
    // A variant that is missing above differs from all of these; errors.rs, which matches each, is the other half.
    let kinds: std::collections::HashSet<_> =
        failures().iter().map(|(failure, ..)| std::mem::discriminant(failure)).collect();
    assert_eq!(kinds.len(), 40, "Failure has changed");
    for (failure, status, code) in failures() {
        let json = refuse(&failure, Format::Json, "kms.example", REQUEST_ID);
        let xml = refuse(&failure, Format::Xml, "kms.example", REQUEST_ID);
        assert_eq!((json.status.as_u16(), xml.status.as_u16()), (status, status), "{failure:?}");
        assert_eq!(json.content_type, "application/json;charset=utf-8");
        assert_eq!(xml.content_type, "text/xml;charset=utf-8");
        let read: Value = serde_json::from_slice(&json.body).unwrap();
        let message = read["Message"].as_str().unwrap();
        let expected = json!({
            "HttpStatus": status, "Code": code, "Message": message, "HostId": "kms.example",
            "RequestId": REQUEST_ID.to_string(),
        });
        assert_eq!(read, expected);
        let text = std::str::from_utf8(&xml.body).unwrap();
        let document = roxmltree::Document::parse(text).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "KMS");
        let fields: Vec<_> =
            root.children().map(|node| (node.tag_name().name(), node.text().unwrap_or_default())).collect();
        let request_id = REQUEST_ID.to_string();
        let status = status.to_string();
        let expected = [
            ("HttpStatus", status.as_str()),
            ("Code", code),
            ("Message", message),
            ("HostId", "kms.example"),
            ("RequestId", &request_id),
        ];
        assert_eq!(fields, expected);
    }
}

#[test]
fn messages_suit_the_clients() {
    let message = |failure| {
        let reply = refuse(&failure, Format::Json, "", REQUEST_ID);
        let read: Value = serde_json::from_slice(&reply.body).unwrap();
        read["Message"].as_str().unwrap().to_owned()
    };
    // aliyun-python-sdk-core takes the second part of this one.
    assert!(message(Failure::SignatureMismatch).split(':').nth(1).is_some());
    assert!(!message(Failure::Internal("the record of key 7 is damaged".into())).contains("damaged"));
    assert_eq!(message(Failure::Denied("bob may not".into())), "bob may not");
}

#[test]
fn parameters_that_cannot_be_read_are_invalid() {
    for error in [ParameterError::NotUtf8, ParameterError::Duplicate("KeyId".into()), ParameterError::TooMany] {
        let text = error.to_string();
        let reply = refuse(&Failure::from(error), Format::Json, "", REQUEST_ID);
        let read: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, read["Code"].as_str()), (StatusCode::BAD_REQUEST, Some("InvalidParameter")));
        assert!(read["Message"].as_str().unwrap().contains(&text));
    }
}

#[test]
fn the_form_of_an_answer() {
    const ACS3: (&str, &str) = ("authorization", "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=b");
    const BEARER: (&str, &str) = ("authorization", "Bearer token");
    type Row<'a> = (&'a str, &'a [(&'static str, &'a str)], Format);
    let rows: [Row<'_>; 12] = [
        ("Format=JSON", &[], Format::Json),
        ("Format=json", &[("accept", "text/xml")], Format::Json),
        ("Format=XML", &[("accept", "application/json")], Format::Xml),
        ("Format=xml", &[ACS3], Format::Xml),
        ("", &[], Format::Xml),
        ("Format=None", &[("accept", "*/*")], Format::Xml),
        ("Format=None", &[("accept", "application/json")], Format::Json),
        ("", &[("accept", "application/xml")], Format::Xml),
        ("", &[ACS3], Format::Json),
        ("", &[ACS3, ("accept", "text/xml")], Format::Xml),
        ("", &[BEARER, ("accept", "*/*")], Format::Json),
        ("", &[("authorization", "acs something else")], Format::Xml),
    ];
    for (query, headers, expected) in rows {
        let parameters = Parameters::parse(query, "").unwrap();
        assert_eq!(Format::of(&parameters, &request(headers)), expected, "{query} {headers:?}");
    }
}

#[test]
fn action_and_version_come_from_what_is_signed() {
    const ACS3: (&str, &str) = ("authorization", "ACS3-HMAC-SHA256 Credential=a");
    const ACTION: (&str, &str) = ("x-acs-action", "Encrypt");
    const VERSION: (&str, &str) = ("x-acs-version", "2016-01-20");
    let old = Failure::InvalidParameter { name: "Version", problem: "it must be 2016-01-20".into() };
    type Row<'a> = (&'a str, &'a [(&'static str, &'a str)], Option<&'a str>, Result<(), Failure>);
    let missing = || Err(Failure::MissingParameter("Version"));
    let rows: [Row<'_>; 10] = [
        ("Action=Decrypt&Version=2016-01-20", &[ACTION, VERSION], Some("Decrypt"), Ok(())),
        ("Action=Decrypt&Version=2015-01-20", &[ACTION, VERSION], Some("Decrypt"), Err(old)),
        ("", &[ACTION, VERSION], None, missing()),
        ("", &[ACTION, VERSION, ACS3], Some("Encrypt"), Ok(())),
        ("", &[ACTION, VERSION, ("authorization", "Bearer x")], Some("Encrypt"), Ok(())),
        ("", &[ACTION, VERSION, ("authorization", "AWS4-HMAC-SHA256 x")], None, missing()),
        ("", &[ACTION, ACS3], Some("Encrypt"), missing()),
        ("", &[ACTION, VERSION, ("authorization", "bearer x")], Some("Encrypt"), Ok(())),
        // To be refused by whoever authenticates, in words of this API.
        ("", &[ACTION, VERSION, ACS3, ACS3], Some("Encrypt"), Ok(())),
        ("", &[ACTION, VERSION, ("authorization", "Bearer")], Some("Encrypt"), Ok(())),
    ];
    for (query, headers, action, version) in rows {
        let (parameters, request) = (Parameters::parse(query, "").unwrap(), request(headers));
        assert_eq!(action_of(&request, &parameters), action, "{query} {headers:?}");
        assert_eq!(check_version(&request, &parameters), version, "{query} {headers:?}");
    }
}

#[test]
fn actions_are_known_by_their_one_spelling() {
    assert_eq!(known("Encrypt"), Some("Encrypt"));
    assert_eq!(known("GetSecretValue"), Some("GetSecretValue"));
    assert_eq!((known("encrypt"), known("")), (None, None));
    assert!(SERVED.is_sorted() && UNSERVED.is_sorted() && SERVED.iter().all(|action| !UNSERVED.contains(action)));
}

/// What XML 1.0 can say of a text.
fn sayable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => c,
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

proptest! {
    /// Whatever text and bytes are in an answer, both forms are well-formed and say them.
    #[test]
    fn any_answer_is_read_back(
        texts in proptest::collection::vec(prop_oneof![any::<String>(), "[<>&'\"\\]\r\n\t\0\u{7f}-\u{9f}a ]{0,20}"], 0..4),
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let encoded = STANDARD.encode(&bytes);
        let reply = |format| Writer::answer(format, StatusCode::OK, REQUEST_ID, |writer| {
            writer.base64("Blob", &bytes);
            writer.number("Count", texts.len());
            writer.list("Texts", "Text", &texts, |writer, text| {
                writer.text("Value", text);
                writer.object("Same", |writer| writer.text("Value", text));
            });
            writer.text("Last", "x");
        });
        let json: Value = serde_json::from_slice(&reply(Format::Json).body).unwrap();
        let list: Vec<_> = texts.iter().map(|text| json!({"Value": text, "Same": {"Value": text}})).collect();
        prop_assert_eq!(json, json!({
            "Blob": encoded, "Count": texts.len(), "Texts": {"Text": list}, "Last": "x",
            "RequestId": REQUEST_ID.to_string(),
        }));
        let xml = reply(Format::Xml);
        let document = roxmltree::Document::parse(std::str::from_utf8(&xml.body).unwrap()).unwrap();
        let values: Vec<_> = document.descendants().filter(|node| node.has_tag_name("Value"))
            .map(|node| node.text().unwrap_or_default().to_owned()).collect();
        let expected: Vec<_> = texts.iter().flat_map(|text| [sayable(text), sayable(text)]).collect();
        prop_assert_eq!(values, expected);
        let blob = document.descendants().find(|node| node.has_tag_name("Blob")).unwrap();
        prop_assert_eq!(blob.text().unwrap_or_default(), encoded);
    }
}
