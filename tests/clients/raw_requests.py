"""Requests as the SDKs sign them, as bytes that can be altered before they are sent, and what comes back."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

from alibabacloud_tea_openapi.utils import Utils as TeaUtils
from aliyunsdkcore.auth.algorithm import sha_hmac1
from aliyunsdkcore.auth.composer import rpc_signature_composer
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from harness import Config, expect

JSON = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded"
VERSION = "2016-01-20"

# The names of the module that are not for others; from within a class Python would look for other ones.
_rpc_text = getattr(rpc_signature_composer, "__compose_string_to_sign")
_rpc_encoded = getattr(rpc_signature_composer, "__pop_standard_urlencode")


@dataclass(frozen=True)
class Message:
    """A request of HTTP/1.1, nothing of which is added when it is sent, except the length of its body."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    version: str = "HTTP/1.1"

    def head(self) -> bytes:
        lines = [f"{self.method} {self.target} {self.version}", *(f"{name}: {value}" for name, value in self.headers)]
        names = {name.lower() for name, _ in self.headers}
        if not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"

    def __bytes__(self) -> bytes:
        return self.head() + self.body

    def header(self, name: str) -> str:
        return next(value for known, value in self.headers if known.lower() == name.lower())

    def adding(self, *headers: tuple[str, str]) -> Message:
        return replace(self, headers=(*self.headers, *headers))

    def without(self, name: str) -> Message:
        left = tuple((known, value) for known, value in self.headers if known.lower() != name.lower())
        return replace(self, headers=left)

    def setting(self, name: str, value: str) -> Message:
        return self.without(name).adding((name, value))

    def changing(self, old: str, new: str) -> Message:
        """The same with another `Authorization`."""
        text = self.header("Authorization")
        expect(old in text, f"there is no {old!r} to change")
        return self.setting("Authorization", text.replace(old, new))


@dataclass(frozen=True)
class Key:
    """An access key."""

    id: str
    secret: str = field(repr=False)


class _SigV4(SigV4Auth):
    """botocore's signer, at any time, and without some headers."""

    def __init__(self, key: Key, service: str, region: str, unsigned: Sequence[str]) -> None:
        super().__init__(Credentials(key.id, key.secret), service, region)
        self._unsigned = unsigned

    def headers_to_sign(self, request: AWSRequest) -> object:
        headers = super().headers_to_sign(request)
        for name in self._unsigned:
            del headers[name]
        return headers

    def sign(self, request: AWSRequest, when: datetime) -> None:
        # What add_auth does, which knows no time but now.
        request.context["timestamp"] = when.strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


class Requests:
    """Makes the requests of one endpoint."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.host = urlsplit(config.endpoint).netloc
        self.key = Key(config.access_key_id, config.secret)

    def aws(
        self,
        operation: str,
        body: object,
        *,
        key: Key | None = None,
        when: datetime | None = None,
        service: str = "kms",
        unsigned: Sequence[str] = (),
        query: str = "",
        method: str = "POST",
        **headers: str,
    ) -> Message:
        """Signed by SigV4. `body` is bytes, or what becomes JSON; `headers` have _ for -."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Host": self.host, "X-Amz-Target": f"TrentService.{operation}", "Content-Type": JSON}
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        target = f"/?{query}" if query else "/"
        request = AWSRequest(method, f"{self._config.endpoint}{target}", given, data)
        signer = _SigV4(key or self.key, service, self._config.region, unsigned)
        signer.sign(request, when or datetime.now(UTC))
        return Message(method, target, tuple((str(n), _text(v)) for n, v in request.headers.items()), data)

    def presigned(self, operation: str, body: object) -> Message:
        data = json.dumps(body).encode()
        headers = {"Host": self.host, "X-Amz-Target": f"TrentService.{operation}", "Content-Type": JSON}
        request = AWSRequest("POST", f"{self._config.endpoint}/", headers, data)
        SigV4QueryAuth(Credentials(self.key.id, self.key.secret), "kms", self._config.region).add_auth(request)
        target = "/?" + urlsplit(request.url).query
        return Message("POST", target, tuple((str(n), _text(v)) for n, v in request.headers.items()), data)

    def unsigned_aws(self, operation: str, body: object, *headers: tuple[str, str]) -> Message:
        named = (("Host", self.host), ("X-Amz-Target", f"TrentService.{operation}"), ("Content-Type", JSON))
        return Message("POST", "/", (*named, *headers), json.dumps(body).encode())

    def v3(
        self,
        action: str,
        parameters: dict[str, str],
        *,
        key: Key | None = None,
        when: datetime | None = None,
        nonce: str | None = None,
        unsigned: Sequence[str] = (),
        form: bytes = b"",
        form_type: str = FORM,
        method: str = "POST",
        accept: str = "application/json",
        version: str = VERSION,
    ) -> Message:
        """Signed by ACS3-HMAC-SHA256, the parameters in the query."""
        key = key or self.key
        payload = sha256(form).hexdigest()
        headers = {
            "host": self.host,
            "accept": accept,
            "x-acs-action": action,
            "x-acs-version": version,
            "x-acs-date": (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": nonce or uuid.uuid4().hex,
            "x-acs-content-sha256": payload,
        }
        if form:
            headers["content-type"] = form_type
        signed = {name: value for name, value in headers.items() if name not in unsigned}
        request = SimpleNamespace(method=method, pathname="/", query=parameters, headers=signed)
        headers["Authorization"] = TeaUtils.get_authorization(request, "ACS3-HMAC-SHA256", payload, key.id, key.secret)
        query = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(parameters.items()))
        return Message(method, f"/?{query}" if query else "/", tuple(headers.items()), form)

    def v1(
        self,
        action: str,
        parameters: dict[str, str],
        *,
        key: Key | None = None,
        when: datetime | None = None,
        nonce: str | None = None,
        method: str = "POST",
        form: dict[str, str] | None = None,
        **common: str | None,
    ) -> Message:
        """Signed by HMAC-SHA1, `form` in the body, the rest in the query. `common` changes what each request has."""
        key, form = key or self.key, form or {}
        all_of = {
            "Action": action,
            "Version": VERSION,
            "Format": "JSON",
            "Timestamp": (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "SignatureMethod": sha_hmac1.get_signer_name(),
            "SignatureType": sha_hmac1.get_signer_type(),
            "SignatureVersion": sha_hmac1.get_signer_version(),
            "SignatureNonce": nonce or uuid.uuid4().hex,
            "AccessKeyId": key.id,
            **parameters,
            **common,
        }
        query = {name: value for name, value in all_of.items() if value is not None}
        text = _rpc_text(method, {**query, **form})
        query["Signature"] = sha_hmac1.get_sign_string(text, key.secret + "&")
        headers = (("Host", self.host),) + ((("Content-Type", FORM),) if form else ())
        return Message(method, f"/?{_encoded(query)}", headers, _encoded(form).encode())

    def bearer(self, token: str, action: str, parameters: dict[str, str]) -> Message:
        """With a token, in the Alibaba dialect: as the newer SDK, without its signature."""
        headers = (("Host", self.host), ("x-acs-action", action), ("x-acs-version", VERSION))
        return Message("POST", f"/?{_encoded(parameters)}", (*headers, ("Authorization", f"Bearer {token}")))


def _encoded(parameters: dict[str, str]) -> str:
    return "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in parameters.items())


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        return json.loads(self.body)

    def xml(self) -> dict[str, str]:
        return {child.tag: child.text or "" for child in ElementTree.fromstring(self.body)}


def exchange(config: Config, data: bytes) -> Answer:
    """Sends bytes on a connection of their own."""
    address = urlsplit(config.endpoint)
    with socket.create_connection((address.hostname, address.port), timeout=60) as plain:
        context = ssl.create_default_context(cafile=config.ca)
        with context.wrap_socket(plain, server_hostname=address.hostname) as stream:
            # It may answer before it has read all, and has to take the rest of it even so.
            stream.sendall(data)
            response = http.client.HTTPResponse(stream)
            response.begin()
            body = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, body)
