//! Forms of requests that are refused, with the sentence that says why, before any signature is looked at.

use hyper::{HeaderMap, header::HeaderName};

use super::support::Recorded;
use crate::server::{Failure, Request};

enum Change {
    Set(&'static str, &'static str),
    Add(&'static str, &'static str),
    Remove(&'static str),
    /// Replaces a part of a header.
    Edit(&'static str, &'static str, &'static str),
    /// Replaces a part of the query.
    Query(&'static str, &'static str),
    Body(&'static str),
}
use Change::{Add, Body, Edit, Query, Remove, Set};

fn name(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

fn change(request: &mut Request, change: &Change) {
    let headers: &mut HeaderMap = &mut request.headers;
    match *change {
        Set(header, value) => drop(headers.insert(name(header), value.parse().unwrap())),
        Add(header, value) => drop(headers.append(name(header), value.parse().unwrap())),
        Remove(header) => drop(headers.remove(header).unwrap()),
        Edit(header, from, to) => {
            let value = headers[header].to_str().unwrap();
            assert!(value.contains(from), "{value}");
            let value = value.replace(from, to).parse().unwrap();
            headers.insert(name(header), value);
        }
        Query("", added) => request.query.push_str(added),
        Query(from, to) => {
            assert!(request.query.contains(from), "{}", request.query);
            request.query = request.query.replace(from, to);
        }
        Body(body) => request.body = body.into(),
    }
}

/// Each change makes the recorded request refused with a sentence that contains the text.
fn refused(recorded: &str, table: &[(&[Change], &str)]) {
    let recorded = Recorded::named(recorded);
    let endpoint = recorded.endpoint();
    for (changes, expected) in table {
        let mut request = recorded.request();
        changes.iter().for_each(|one| change(&mut request, one));
        match endpoint.either(recorded.is_aws(), &request) {
            Err(Failure::IncompleteSignature(sentence)) => {
                assert!(sentence.contains(expected), "{expected}: {sentence}")
            }
            Err(Failure::Malformed(problem)) => assert!(problem.contains(expected), "{expected}: {problem}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(endpoint.either(recorded.is_aws(), &recorded.request()).is_ok());
}

#[test]
fn sigv4() {
    const A: &str = "authorization";
    const DATE: &str = "SignedHeaders=content-type;host;x-amz-date;x-amz-target";
    refused(
        "boto3-Encrypt",
        &[
            (&[Add(A, "AWS4-HMAC-SHA256 x")], "authorization is given more than once"),
            (&[Add(A, "Bearer x")], "authorization is given more than once"),
            (&[Set(A, "AWS4-HMAC-SHA256")], "scheme"),
            (&[Set(A, "aws4-hmac-sha256 Credential=x")], "scheme"),
            (&[Set(A, "Basic eDp5")], "scheme"),
            (&[Edit(A, "AWS4-HMAC-SHA256", "ACS3-HMAC-SHA256")], "scheme"),
            (&[Edit(A, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")], "scheme"),
            (&[Edit(A, "Credential=", "credential=")], "a name known here"),
            (&[Edit(A, "Signature=", "Signature=1,Signature=")], "Signature more than once"),
            (&[Edit(A, "Signature=", "Signature=a")], "64 lower-case"),
            (&[Edit(A, "SignedHeaders=", "SignedHeaders=a,SignedHeaders=")], "SignedHeaders more than once"),
            (&[Set(A, "AWS4-HMAC-SHA256 Credential=a/b/c/d/e")], "no Signature"),
            (&[Edit(A, "/kms/", "/s3/")], "another service"),
            (&[Edit(A, "aws4_request", "aws4")], "not of the form ID/DATE"),
            (&[Edit(A, "aws4_request", "aws4_request/x")], "not of the form ID/DATE"),
            (&[Edit(A, "/20261122/", "/20261121/")], "not the one of X-Amz-Date"),
            (&[Edit(A, "/20261122/", "/2026112/")], "not of the form ID/DATE"),
            (&[Edit(A, "us-east-1", "")], "not of the form ID/DATE"),
            (&[Edit(A, "AKIDEXAMPLE00000", "")], "not of the form ID/DATE"),
            (&[Edit(A, DATE, "SignedHeaders=content-type;x-amz-date;x-amz-target")], "host has to be signed"),
            (&[Edit(A, DATE, "SignedHeaders=content-type;host;x-amz-target")], "x-amz-date has to be signed"),
            (&[Edit(A, DATE, "SignedHeaders=content-type;host;x-amz-date")], "x-amz-target has to be signed"),
            (&[Edit(A, DATE, "SignedHeaders=host;x-amz-date;x-amz-target")], "content-type has to be signed"),
            (&[Edit(A, "content-type;host", "host;content-type")], "sorted"),
            (&[Edit(A, "content-type;host", "content-type;host;host")], "sorted"),
            (&[Edit(A, "content-type;host", "Content-Type;host")], "lower case"),
            (&[Edit(A, "content-type;host", "content-type;;host")], "lower case"),
            (&[Edit(A, "content-type;host", "absent;content-type;host")], "is not in the request"),
            (&[Add("x-amz-meta", "x")], "x-amz-meta has to be signed"),
            (&[Add("x-amz-date", "20261122T041831Z")], "x-amz-date is given more than once"),
            (&[Add("x-amz-target", "TrentService.Decrypt")], "x-amz-target is given more than once"),
            (&[Add("host", "other")], "host is given more than once"),
            (&[Add("content-type", "text/plain")], "content-type is given more than once"),
            (&[Remove("x-amz-date")], "x-amz-date is missing"),
            (&[Remove("x-amz-date"), Add("date", "Sun, 22 Nov 2026 04:18:31 GMT")], "x-amz-date is missing"),
            (&[Remove("host")], "host is missing"),
            (&[Set("x-amz-date", "2026-11-22T04:18:31Z")], "X-Amz-Date is not of the form"),
            (&[Add("x-amz-security-token", "x")], "have no session"),
            (&[Query("", "X-Amz-Signature=00")], "presigned"),
            (&[Remove(A), Query("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00")], "presigned"),
            (&[Query("", "Action=Encrypt&Signature=x")], "no query"),
        ],
    );
}

/// These are signed, so that what is refused is what they say.
#[test]
fn payloads_that_are_not_signed() {
    for value in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", ""] {
        let edit = Edit("authorization", "host;", "host;x-amz-content-sha256;");
        refused("boto3-Encrypt", &[(&[Add("x-amz-content-sha256", value), edit], "is not the hash of the body")]);
    }
}

#[test]
fn acs3() {
    const A: &str = "authorization";
    refused(
        "alibabacloud-kms-Encrypt",
        &[
            (&[Add(A, "ACS3-HMAC-SHA256 x")], "authorization is given more than once"),
            (&[Edit(A, "ACS3-HMAC-SHA256", "AWS4-HMAC-SHA256")], "scheme"),
            (&[Edit(A, "ACS3-HMAC-SHA256", "ACS3-HMAC-SM3")], "scheme"),
            (&[Edit(A, "ACS3-HMAC-SHA256", "ACS3-RSA-SHA256")], "scheme"),
            (&[Edit(A, "ACS3-HMAC-SHA256", "ACS4-HMAC-SHA256")], "scheme"),
            (&[Edit(A, "AKIDEXAMPLE00000", "")], "Credential is empty"),
            (&[Edit(A, "host;", "")], "host has to be signed"),
            (&[Edit(A, "x-acs-action;", "")], "x-acs-action has to be signed"),
            (&[Edit(A, "x-acs-content-sha256;", "")], "x-acs-content-sha256 has to be signed"),
            (&[Edit(A, "x-acs-signature-nonce;", "")], "x-acs-signature-nonce has to be signed"),
            (&[Edit(A, ";x-acs-version", "")], "x-acs-version has to be signed"),
            (&[Add("x-acs-meta", "x")], "x-acs-meta has to be signed"),
            (&[Add("x-acs-action", "Decrypt")], "x-acs-action is given more than once"),
            (&[Add("x-acs-date", "2026-11-22T04:18:36Z")], "x-acs-date is given more than once"),
            (&[Add("host", "x")], "host is given more than once"),
            (&[Remove("x-acs-action")], "x-acs-action is missing"),
            (&[Remove("x-acs-date")], "x-acs-date is missing"),
            (&[Remove("x-acs-signature-nonce")], "x-acs-signature-nonce is missing"),
            (&[Set("x-acs-signature-nonce", "")], "1 to 128"),
            (&[Set("x-acs-date", "20261122T041836Z")], "x-acs-date is not of the form"),
            (&[Set("x-acs-content-sha256", "UNSIGNED-PAYLOAD")], "not the hash of the body"),
            (&[Add("x-acs-security-token", "x")], "have no session"),
            (&[Body("Plaintext=x")], "not the hash of the body"),
            (&[Body("A=x"), Add("content-type", "application/x-www-form-urlencoded")], "content-type has to be signed"),
            (&[Query("", "&Signature=x")], "both"),
            (&[Query("", "&AccessKeyId=x")], "both"),
            (&[Query("", "&KeyId=x")], "more than once"),
            (&[Query("", "&x=%zz")], "two hexadecimal digits"),
        ],
    );
}

#[test]
fn rpc_v1() {
    refused(
        "aliyun-sdk-kms-Encrypt",
        &[
            (&[Query("&SignatureMethod=HMAC-SHA1", "")], "SignatureMethod is missing"),
            (&[Query("=HMAC-SHA1", "=HMAC-SHA256")], "has to be HMAC-SHA1"),
            (&[Query("SignatureVersion=1.0", "SignatureVersion=2.0")], "and the SignatureVersion 1.0"),
            (&[Query("SignatureType=", "SignatureType=PRIVATEKEY")], "SignatureType has to be empty"),
            (&[Query("SignatureType=", "SignatureType=BEARERTOKEN")], "SignatureType has to be empty"),
            (&[Query("", "&SecurityToken=x")], "have no session"),
            (&[Query("&Signature=", "&Signatur=")], "Signature is missing"),
            (&[Query("&Signature=", "&Signature=AA")], "20 bytes in base64"),
            (&[Query("&AccessKeyId=", "&AccessKey=")], "AccessKeyId is missing"),
            (&[Query("&SignatureNonce=", "&Nonce=")], "SignatureNonce is missing"),
            (&[Query("&Timestamp=", "&Time=")], "Timestamp is missing"),
            (&[Query("&Timestamp=2026-", "&Timestamp=26-")], "Timestamp is not of the form"),
            (&[Query("", "&Action=Decrypt")], "more than once"),
            (&[Query("", "&%41ction=Decrypt")], "more than once"),
            (&[Add("authorization", "Bearer x")], "both"),
            (&[Add("authorization", "ACS3-HMAC-SHA256 x")], "both"),
            (&[Add("authorization", "AWS4-HMAC-SHA256 x")], "both"),
            (&[Body("{}")], "not signed"),
            (&[Body("{}"), Set("content-type", "application/json")], "not signed"),
        ],
    );
}

#[test]
fn nothing_that_proves_anything_is_not_authenticated() {
    for (recorded, is_aws) in [("boto3-Encrypt", true), ("alibabacloud-kms-Encrypt", false)] {
        let recorded = Recorded::named(recorded);
        let mut request = recorded.request();
        request.headers.remove("authorization");
        assert_eq!(recorded.endpoint().either(is_aws, &request), Err(Failure::NotAuthenticated));
    }
}

#[test]
fn headers_of_acs3_do_not_count_without_its_authorization() {
    let recorded = Recorded::named("aliyun-sdk-kms-Encrypt");
    let mut request = recorded.request();
    for (header, value) in [("x-acs-action", "Decrypt"), ("x-acs-security-token", "x"), ("x-acs-date", "x")] {
        change(&mut request, &Set(header, value));
    }
    assert!(recorded.endpoint().alibaba(&request).is_ok());
}
