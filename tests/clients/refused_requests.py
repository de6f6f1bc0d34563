"""The table of what the KMS endpoint refuses, and with which error. refusals.py sends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from alibaba_checks import b64
from raw_requests import Key, Message, Requests

PLAINTEXT = b"a plaintext that no refusal may show"
UNKNOWN = Key("AKIDUNKNOWN000000000", "x" * 40)
# docs/endpoint.md, "Limits".
MAX_BODY, MAX_HEAD = 192 * 1024, 96 * 1024


class Form(Enum):
    """What an answer looks like."""

    OK = "a result"
    AWS = "__type and message"
    JSON = "Code, Message and so on in JSON"
    XML = "the same in XML"
    TEXT = "a sentence: it is in neither dialect"
    BARE = "a status: it is no HTTP, or too large to look at"


@dataclass(frozen=True)
class Expected:
    status: int
    code: str
    form: Form

    @staticmethod
    def ok() -> Expected:
        return Expected(200, "", Form.OK)


@dataclass(frozen=True)
class Case:
    """One row: what is sent, one after the other, of which all but the last succeeds, and the answer to the last."""

    name: str
    sent: tuple[Message | bytes, ...]
    expected: Expected
    says: str = ""


def aws_cases(make: Requests, key_id: str) -> Iterator[Case]:
    now = datetime.now(UTC)
    body = {"KeyId": key_id, "Plaintext": b64(PLAINTEXT)}
    good = make.aws("Encrypt", body)
    date = f"{good.header('X-Amz-Date')[:8]}"
    incomplete, mismatch = "IncompleteSignatureException", "InvalidSignatureException"
    unreadable = "SerializationException"

    def signed(**options: object) -> Message:
        return make.aws("Encrypt", body, **options)

    def raw(text: bytes) -> Message:
        return make.aws("Encrypt", text)

    def row(name: str, code: str, *sent: Message, status: int = 400, says: str = "") -> Case:
        return Case(f"AWS: {name}", sent, Expected(status, code, Form.AWS), says)

    yield Case("AWS: a good request, and the same again", (good, good), Expected.ok())
    signature = good.header("Authorization")[-64:]
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    yield row("wrong signature", mismatch, good.changing(signature, flipped))
    yield row("no hexadecimal signature", incomplete, good.changing(signature, "x" * 64))
    yield row("cut signature", incomplete, good.changing(signature, signature[:-2]))
    yield row("wrong secret", mismatch, signed(key=Key(make.key.id, "x" * 40)))
    yield row("unknown access key", "UnrecognizedClientException", signed(key=UNKNOWN))
    yield row("the operation not signed", incomplete, signed(unsigned=["x-amz-target"]), says="x-amz-target")
    yield row("host not signed", incomplete, signed(unsigned=["host"]), says="host")
    yield row("the type not signed", incomplete, signed(unsigned=["content-type"]), says="content-type")
    yield row("the date not signed", incomplete, signed(unsigned=["x-amz-date"]), says="x-amz-date")
    yield row("another X-Amz- header added", incomplete, good.adding(("X-Amz-Extra", "1")), says="x-amz-extra")
    yield row("another operation than was signed", mismatch, good.setting("X-Amz-Target", "TrentService.Decrypt"))
    yield row("another host than was signed", mismatch, good.setting("Host", "kms.cn-hangzhou.aliyuncs.com"))
    yield row("no host", incomplete, replace(good.without("Host"), version="HTTP/1.0"))
    two = good.adding(("X-Amz-Target", "TrentService.Decrypt"))
    yield Case("AWS: two operations", (two,), Expected(400, "", Form.TEXT))
    yield row("two dates", incomplete, good.adding(("X-Amz-Date", good.header("X-Amz-Date"))))
    yield row("signed six minutes ago", mismatch, signed(when=now - timedelta(minutes=6)), says="expired")
    yield row("signed for in half an hour", mismatch, signed(when=now + timedelta(minutes=30)), says="not yet")
    yield row("signed a year ago", mismatch, signed(when=now - timedelta(days=365)))
    yield row("scope of another date", incomplete, good.changing(f"/{date}/", "/20200101/"), says="date")
    yield row("scope of another region", mismatch, good.changing("/kms/", "x/kms/"))
    yield row("scope of another service", incomplete, signed(service="s3"), says="service")
    yield row("scope with another end", incomplete, good.changing("/aws4_request", "/aws5_request"))
    yield row("no X-Amz-Date", incomplete, good.without("X-Amz-Date"))
    yield row("a date of another form", incomplete, good.setting("X-Amz-Date", "2026-01-02T03:04:05Z"))
    yield row("presigned URL", incomplete, make.presigned("Encrypt", body), says="Presigned URLs")
    yield row("presigned URL that is signed as well", incomplete, signed(query="X-Amz-Signature=00"))
    yield row("a query", incomplete, signed(query="x=1"))
    yield row("UNSIGNED-PAYLOAD", incomplete, signed(X_Amz_Content_SHA256="UNSIGNED-PAYLOAD"), says="body")
    streaming = signed(X_Amz_Content_SHA256="STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    yield row("streamed payload", incomplete, streaming)
    yield row("a session token", incomplete, signed(X_Amz_Security_Token="x"), says="session")
    yield row("body altered", mismatch, replace(good, body=good.body.replace(b"Plaintext", b"plaintext")))
    yield row("body cut", mismatch, replace(good, body=good.body[:-1]))
    yield row("body that another was signed for", mismatch, replace(good, body=b"{}"))

    twice = good.adding(("Authorization", good.header("Authorization")))
    yield row("Authorization twice", incomplete, twice, says="more than once")
    yield row("a signature and a token", incomplete, good.adding(("Authorization", "Bearer a.b.c")))
    v3 = make.v3("Encrypt", body).header("Authorization")
    yield row("the other dialect's scheme", incomplete, good.setting("Authorization", v3))
    for scheme in ("Basic dXNlcjpwYXNz", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256 x", "", "Bearer"):
        yield row(f"the scheme {scheme!r}", incomplete, good.setting("Authorization", scheme))
    signed_headers = good.changing("SignedHeaders=", "SignedHeaders=;")
    yield row("headers that are no names", incomplete, signed_headers)
    yield row("a signed header that is not there", incomplete, good.changing(";host;", ";hosa;host;"))
    yield row("no authentication", "MissingAuthenticationTokenException", make.unsigned_aws("Encrypt", body))

    deep = b'{"KeyId":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    twice_named = b'{"KeyId":"a","KeyId":"b","Plaintext":"YQ=="}'
    for name, text in {
        "no JSON": b"{",
        "text after the JSON": b"{} x",
        "a JSON array": b"[]",
        "a JSON null": b"null",
        "a member twice": twice_named,
        "a member of another type": b'{"KeyId":1,"Plaintext":"YQ=="}',
        "invalid UTF-8": b'{"KeyId":"\xff\xfe","Plaintext":"YQ=="}',
        "half a surrogate": b'{"KeyId":"\\ud800","Plaintext":"YQ=="}',
        "deep nesting": deep,
        "a NUL": b'{"KeyId":"a\x00","Plaintext":"YQ=="}',
        "a byte order mark": b"\xef\xbb\xbf{}",
    }.items():
        yield row(name, unreadable, raw(text))
    for name, members in {
        "no plaintext": {"KeyId": key_id},
        "a plaintext that is too long": {"KeyId": key_id, "Plaintext": b64(b"x" * 4097)},
        "a key id that is too long": {"KeyId": "x" * 2049, "Plaintext": "YQ=="},
    }.items():
        yield row(name, "ValidationException", make.aws("Encrypt", members))
    yield row("a body that is too large", "RequestEntityTooLargeException", raw(b"x" * (MAX_BODY + 1)), status=413)

    yield row("an unknown operation", "UnknownOperationException", make.aws("Encipher", body))
    yield row("an operation in lower case", "UnknownOperationException", make.aws("encrypt", body))
    yield row("an operation of the real API", "UnsupportedOperationException", make.aws("Sign", body), says="Sign")
    yield row("another one", "UnsupportedOperationException", make.aws("CreateGrant", body), says="RBAC")
    for method in ("GET", "PUT", "DELETE"):
        yield row(f"the method {method}", "UnknownOperationException", signed(method=method))


def alibaba_cases(make: Requests, key_id: str) -> Iterator[Case]:
    now = datetime.now(UTC)
    body = {"KeyId": key_id, "Plaintext": b64(PLAINTEXT)}
    v3, v1 = make.v3("Encrypt", body), make.v1("Encrypt", body)
    form = make.v1("Encrypt", {"KeyId": key_id}, form={"Plaintext": b64(PLAINTEXT)}, Format="XML")
    incomplete, mismatch, invalid = "IncompleteSignature", "SignatureDoesNotMatch", "InvalidParameter"

    def row(name: str, code: str, *sent: Message, status: int = 400, form: Form = Form.JSON, says: str = "") -> Case:
        return Case(f"Alibaba: {name}", sent, Expected(status, code, form), says)

    def xml(name: str, code: str, *sent: Message, status: int = 400, says: str = "") -> Case:
        return row(name, code, *sent, status=status, form=Form.XML, says=says)

    def with_v3(**options: object) -> Message:
        return make.v3("Encrypt", body, **options)

    def with_v1(action: str = "Encrypt", parameters: dict[str, str] = body, **options: object) -> Message:
        return make.v1(action, parameters, **{"Format": "XML", **options})

    for name, message in {"v3": v3, "v1": v1, "v1 with a form": form, "v1 by GET": with_v1(method="GET")}.items():
        yield Case(f"Alibaba: {name} is good", (message,), Expected.ok())
    yield row("v3 again", "SignatureNonceUsed", *[with_v3()] * 2)
    yield xml("v1 again", "SignatureNonceUsed", *[with_v1()] * 2)
    yield row("a nonce of v3 again", "SignatureNonceUsed", with_v3(nonce="once-v3"), with_v3(nonce="once-v3"))
    yield xml("a nonce of v3 in v1", "SignatureNonceUsed", with_v3(nonce="once"), with_v1(nonce="once"))
    yield row("a nonce that is too long", incomplete, with_v3(nonce="x" * 129))

    signature = v3.header("Authorization")[-64:]
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    yield row("v3 wrong signature", mismatch, with_v3().setting("Authorization", v3.header("Authorization")))
    yield row("v3 altered signature", mismatch, v3.changing(signature, flipped))
    wrong = Key(make.key.id, "x" * 40)
    yield row("v3 wrong secret", mismatch, with_v3(key=wrong))
    yield xml("v1 wrong secret", mismatch, with_v1(key=wrong))
    yield xml(
        "v1 wrong signature", mismatch, replace(with_v1(), target=with_v1().target.replace("Action=", "X=1&Action="))
    )
    yield row("v3 unknown access key", "InvalidAccessKeyId.NotFound", with_v3(key=UNKNOWN), status=404)
    yield xml("v1 unknown access key", "InvalidAccessKeyId.NotFound", with_v1(key=UNKNOWN), status=404)
    for header in ("host", "x-acs-action", "x-acs-version", "x-acs-signature-nonce", "x-acs-content-sha256"):
        yield row(f"v3 without a signed {header}", incomplete, with_v3(unsigned=[header]), says=header)
    yield row("v3 x-acs-date not signed", incomplete, with_v3(unsigned=["x-acs-date"]), says="x-acs-date")
    yield row("v3 another x-acs- header added", incomplete, with_v3().adding(("x-acs-extra", "1")), says="x-acs-extra")
    yield row("v3 a session token", incomplete, with_v3().adding(("x-acs-security-token", "1")))
    yield xml("v1 a session token", incomplete, with_v1(SecurityToken="x"))
    yield row("v3 another action than was signed", mismatch, with_v3().setting("x-acs-action", "Decrypt"))
    yield row(
        "v3 another query than was signed", mismatch, replace(with_v3(), target=with_v3().target + "&DryRun=true")
    )
    for name, off in {"16 minutes ago": timedelta(minutes=-16), "for in an hour": timedelta(hours=1)}.items():
        when = now + off
        yield row(f"v3 signed {name}", "IllegalTimestamp", with_v3(when=when))
        yield xml(f"v1 signed {name}", "IllegalTimestamp", with_v1(when=when))
    yield xml("v1 a time of another form", incomplete, with_v1(Timestamp="20260102T030405Z"))
    yield xml("v1 another method of signatures", incomplete, with_v1(SignatureMethod="SHA256withRSA"))
    yield xml("v1 another version of signatures", incomplete, with_v1(SignatureVersion="2.0"))
    for name in ("SignatureNonce", "AccessKeyId", "Timestamp", "SignatureMethod"):
        yield xml(f"v1 without {name}", incomplete, with_v1(**{name: None}))
    scheme = "ACS3-HMAC-SM3"
    yield row("v3 with SM3", incomplete, with_v3().changing("ACS3-HMAC-SHA256", scheme))

    payload = make.v3("Encrypt", {"KeyId": key_id}, form=b"Plaintext=YQ%3D%3D")
    yield Case("Alibaba: v3 with a form is good", (payload,), Expected.ok())
    payload = make.v3("Encrypt", {"KeyId": key_id}, form=b"Plaintext=YQ%3D%3D")
    yield row("v3 body altered", incomplete, replace(payload, body=b"Plaintext=Yg%3D%3D"), says="hash")
    unsigned = payload.setting("x-acs-content-sha256", "UNSIGNED-PAYLOAD")
    yield row("v3 body not signed", incomplete, unsigned)
    altered = replace(form, body=b"Plaintext=Yg%3D%3D")
    yield xml("v1 body altered", mismatch, altered)
    yield xml(
        "v1 a body that is no form", incomplete, replace(with_v1().adding(("Content-Type", "text/plain")), body=b"x")
    )
    of_json = make.v3("Encrypt", {}, form=b'{"KeyId":"x"}', form_type="application/json")
    yield row("v3 parameters in JSON", "MissingParameter", of_json)

    twice = with_v3()
    twice = twice.adding(("Authorization", twice.header("Authorization")))
    yield row("v3 Authorization twice", incomplete, twice, says="more than once")
    yield row("v3 a signature and a token", incomplete, with_v3().adding(("Authorization", "Bearer a.b.c")))
    both = with_v1().adding(("Authorization", with_v3().header("Authorization")))
    yield xml("v3 and v1", incomplete, both)
    sigv4 = make.aws("Encrypt", body).header("Authorization")
    yield xml("v1 with the other dialect's scheme", incomplete, with_v1().adding(("Authorization", sigv4)))
    yield Case(
        "both dialects", (with_v1().adding(("X-Amz-Target", "TrentService.Encrypt")),), Expected(400, "", Form.TEXT)
    )
    aws = make.aws("Encrypt", body, query="Action=Encrypt")
    yield Case("both dialects, signed for AWS", (aws,), Expected(400, "", Form.TEXT))
    aws = make.aws("Encrypt", body).adding(
        *[pair for pair in with_v3().headers if pair[0] in ("x-acs-action", "Authorization")]
    )
    yield Case("both dialects by headers", (aws,), Expected(400, "", Form.TEXT))
    bare = Message("POST", "/?Action=ListKeys&Version=2016-01-20", (("Host", make.host),))
    yield xml("no authentication", incomplete, bare)
    yield row("no authentication, JSON", incomplete, replace(bare, target=bare.target + "&Format=JSON"))

    target = with_v1().target
    yield xml("v1 a parameter twice", invalid, replace(v1, target=target + f"&KeyId={key_id}"), says="KeyId")
    yield xml("v1 a parameter in query and form", invalid, replace(form, body=form.body + b"&KeyId=x"), says="KeyId")
    yield xml("v1 two signatures", invalid, replace(v1, target=target + "&Signature=x"))
    yield row("v3 a parameter twice", invalid, replace(v3, target=v3.target + f"&Key%49d={key_id}"), says="KeyId")
    for name, text in {
        "no digits": "%zz",
        "a cut escape": "%4",
        "invalid UTF-8": "%ff%fe",
        "half a surrogate": "%ed%a0%80",
    }.items():
        yield xml(f"v1 {name}", invalid, replace(v1, target=target + f"&X={text}"))
        yield row(f"v3 {name}", invalid, replace(v3, target=v3.target + f"&X={text}"))
        yield xml(f"v1 {name} in a form", invalid, replace(form, body=form.body + f"&X={text}".encode()))
    yield xml("v1 invalid UTF-8 as it is, in a form", invalid, replace(form, body=form.body + b"&X=\xff"))
    many = "".join(f"&p{number}=" for number in range(130))
    yield xml("v1 too many parameters", invalid, replace(v1, target=target + many))
    deep = '{"a":' + "[" * 2000 + "]" * 2000 + "}"
    for name, context in {
        "deep": deep,
        "no object": "[]",
        "numbers": '{"a":1}',
        "cut": '{"a"',
        "twice": '{"a":"1","a":"2"}',
    }.items():
        yield xml(
            f"v1 an encryption context: {name}", invalid, with_v1(parameters={**body, "EncryptionContext": context})
        )
    yield xml("v1 no base64", invalid, with_v1(parameters={**body, "Plaintext": "***"}))
    yield xml("v1 a plaintext that is too long", invalid, with_v1(parameters={**body, "Plaintext": b64(b"x" * 6145)}))
    large = make.v3("Encrypt", body, form=b"x" * (MAX_BODY + 1))
    yield row("v3 a body that is too large", "RequestTooLarge", large, status=413)
    large = make.v1("Encrypt", body, form={"X": "x" * MAX_BODY}, Format="XML")
    yield xml("v1 a body that is too large", "RequestTooLarge", large, status=413)

    yield xml("v1 an unknown action", "InvalidAction.NotFound", with_v1("Encipher"), status=404)
    yield row("v3 an unknown action", "InvalidAction.NotFound", make.v3("Encipher", body), status=404)
    yield xml("v1 an action of the real API", "UnsupportedOperation", with_v1("CreateSecret"))
    yield row("v3 an action of the real API", "UnsupportedOperation", make.v3("AsymmetricSign", body))
    yield xml("v1 another version", "InvalidVersion", with_v1(Version="2015-01-01"))
    yield row("v3 another version", "InvalidVersion", with_v3(version="2015-01-01"))
    yield xml("v1 without a version", "MissingParameter", with_v1(Version=None))
    yield xml("v1 without a format", incomplete, with_v1(Format=None, SignatureVersion="2.0"))
    yield xml("v1 without a parameter", "MissingParameter", with_v1("Encrypt", {"KeyId": key_id}), says="Plaintext")
    for method in ("PUT", "DELETE", "OPTIONS"):
        yield xml(f"v1 the method {method}", "UnsupportedHTTPMethod", with_v1(method=method), status=403)
        yield row(f"v3 the method {method}", "UnsupportedHTTPMethod", with_v3(method=method), status=403)


def http_cases(make: Requests, key_id: str) -> Iterator[Case]:
    """What is wrong, or unusual, about the HTTP."""
    body = {"KeyId": key_id, "Plaintext": b64(PLAINTEXT)}
    good = make.aws("Encrypt", body)
    unreadable = Expected(400, "SerializationException", Form.AWS)
    text = Expected(400, "", Form.TEXT)
    bare = Expected(400, "", Form.BARE)

    def row(name: str, expected: Expected, *sent: Message | bytes) -> Case:
        return Case(f"HTTP: {name}", sent, expected)

    size = len(good.body)
    chunked = good.without("Content-Length").setting("Transfer-Encoding", "chunked")

    def chunks(*parts: bytes) -> bytes:
        return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)

    end = b"0\r\n\r\n"
    both = good.without("Content-Length").adding(("Content-Length", str(size)), ("Transfer-Encoding", "chunked"))
    # The connection is closed after it: src/server/listener/tests.rs.
    yield row("chunks and a length", Expected.ok(), both.head() + chunks(good.body) + end)
    yield row("1.0", Expected.ok(), replace(good, version="HTTP/1.0"))
    yield row("in chunks", Expected.ok(), chunked.head() + chunks(good.body[:10], good.body[10:]) + end)
    yield row("Expect: 100-continue", Expected.ok(), good.adding(("Expect", "100-continue")))
    yield row("with a URL for a path", Expected.ok(), replace(good, target=f"https://{make.host}/"))
    yield row("a chunk without a size", unreadable, chunked.head() + b"zz\r\n" + good.body + b"\r\n" + end)
    yield row("a chunk with a huge size", unreadable, chunked.head() + b"f" * 17 + b"\r\n" + good.body)
    yield row("a body that does not come", unreadable, good.setting("Content-Length", str(size + 1)))
    yield row("chunks that do not end", unreadable, chunked.head() + chunks(good.body))
    too_large = Expected(413, "RequestEntityTooLargeException", Form.AWS)
    yield row(
        "chunks that are too large", too_large, chunked.head() + b"%x\r\n" % (MAX_BODY + 1) + b"x" * (MAX_BODY + 1)
    )
    announced = good.setting("Content-Length", str(1 << 40))
    yield row("a body that is announced as too large", too_large, announced)
    # More than the operating system takes for a connection that nobody reads from.
    far = 16 << 20
    sent_first = replace(good.setting("Content-Length", str(far)), body=b"x" * far)
    yield row("a body that is far too large", too_large, sent_first)
    yield row("a compressed body", bare, good.setting("Transfer-Encoding", "gzip"))
    yield row("lengths that differ", bare, good.adding(("Content-Length", str(size)), ("Content-Length", "0")))
    for length in ("-1", "x", "1e3", "9" * 30):
        yield row(f"the length {length}", bare, good.setting("Content-Length", length))
    for version in ("HTTP/1.2", "HTTP/3", "SIP/2.0"):
        yield row(f"the version {version}", bare, replace(good, version=version))
    yield row("no request line", bare, b"\x16\x03\x01\x00\x00\r\n\r\n")
    yield row("0.9", bare, b"GET /\r\n\r\n")
    yield row("a header without a name", bare, good.adding(("", "x")))
    yield row("a header with a space in its name", bare, good.adding(("X Y", "x")))
    yield row("a header with a NUL", bare, good.adding(("X-Y", "a\0b")))
    yield row("65 headers", Expected(431, "", Form.BARE), good.adding(*[(f"X-{n}", "x") for n in range(60)]))
    too_long = good.adding(*[(f"X-{n}", "x" * 8000) for n in range(13)])
    yield row("a head that is too long", Expected(431, "", Form.BARE), too_long.head()[: MAX_HEAD + 1])
    long_line = replace(good, target="/?x=" + "x" * 65_536)
    yield row("a request line that is too long", Expected(414, "", Form.BARE), long_line)
    yield row(
        "a long query",
        Expected(400, "IncompleteSignatureException", Form.AWS),
        replace(good, target="/?x=" + "x" * 60_000),
    )

    for target in ("/x", "//", "/%2e", "/../", "*"):
        name, method = f"the path {target}", "OPTIONS" if target == "*" else "POST"
        yield row(name, Expected(404, "", Form.TEXT), replace(good, target=target, method=method))
    yield row("nothing", text, Message("GET", "/", (("Host", make.host),)))
    yield row("a JSON that is for nobody", text, replace(good.without("X-Amz-Target"), method="POST"))
    for operation in ("TrentService", "Encrypt", "DynamoDB_20120810.ListTables", "TrentService.Encr\xff"):
        yield row(f"the target {operation!r}", text, good.setting("X-Amz-Target", operation))
    yield row("signed with a wrong type", Expected.ok(), make.aws("Encrypt", body, Content_Type="text/plain"))
