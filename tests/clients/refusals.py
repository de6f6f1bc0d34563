#!/usr/bin/env python3
"""What the KMS endpoint refuses: each request is signed by an official SDK's own signer, and then altered.

    refusals.py [CONFIG.json]      (else the JSON is on stdin)

Beside what harness.Config reads: `encrypter` (`accessKeyId`, `secret` and `user` of somebody who may encrypt and not
decrypt), `tokens` (`good`, `otherAudience`, `apiServer`) of one who may do everything, and `foreignKeyId`, a key of
another namespace. Prints a line for each answer that is not the documented one, and a summary; the exit status is 1
where there is one. Makes one key. The table is in refused_requests.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from alibaba_checks import MISSING, UUID, b64
from harness import Config, Report, equal, expect, in_parallel
from raw_requests import Answer, Key, Message, Requests, exchange
from refused_requests import PLAINTEXT, Case, Expected, Form, alibaba_cases, aws_cases, http_cases

# What begins the error of each form.
AWS_TYPE = "application/x-amz-json-1.1"
ALIBABA_TYPES = {Form.JSON: "application/json;charset=utf-8", Form.XML: "text/xml;charset=utf-8"}


def check(config: Config, answer: Answer, expected: Expected) -> str:
    """Demands the answer, and gives the message of the error."""
    said = f"{answer.status} {answer.body[:300]!r}"
    equal(f"the status of {said}", answer.status, expected.status)
    if expected.form is Form.OK:
        return ""
    for secret in (config.secret, b64(PLAINTEXT), PLAINTEXT.decode()):
        expect(secret not in answer.body.decode(), f"the refusal has what was secret: {said}")
    match expected.form:
        case Form.AWS:
            return check_aws(answer, expected)
        case Form.JSON | Form.XML:
            return check_alibaba(answer, expected)
        case Form.TEXT:
            equal("the type", answer.headers.get("content-type"), "text/plain; charset=utf-8")
            expect(len(answer.body) > 10, f"there is no sentence: {said}")
        case Form.BARE:
            equal("the body", answer.body, b"")
    return answer.body.decode()


def check_aws(answer: Answer, expected: Expected) -> str:
    equal("the type", answer.headers.get("content-type"), AWS_TYPE)
    expect(bool(UUID.fullmatch(answer.headers.get("x-amzn-requestid", ""))), "there is no x-amzn-RequestId")
    body = answer.json()
    equal("the members", sorted(body), ["__type", "message"])
    equal(f"__type, beside {body['message']!r},", body["__type"], expected.code)
    return str(body["message"])


def check_alibaba(answer: Answer, expected: Expected) -> str:
    equal("the type", answer.headers.get("content-type"), ALIBABA_TYPES[expected.form])
    body = answer.json() if expected.form is Form.JSON else answer.xml()
    equal("the fields", sorted(body), ["Code", "HostId", "HttpStatus", "Message", "RequestId"])
    equal(f"Code, beside {body['Message']!r},", body["Code"], expected.code)
    equal("HttpStatus", str(body["HttpStatus"]), str(expected.status))
    equal("x-acs-request-id", answer.headers.get("x-acs-request-id"), body["RequestId"])
    expect(bool(UUID.fullmatch(str(body["RequestId"]))), "RequestId is no UUID")
    return str(body["Message"])


def run(config: Config, case: Case) -> None:
    *before, last = case.sent
    for message in before:
        check(config, exchange(config, bytes(message)), Expected.ok())
    message = check(config, exchange(config, bytes(last)), case.expected)
    expect(case.says in message, f"the message {message!r} does not say {case.says!r}")


@dataclass(frozen=True)
class Strangers:
    """What is refused for whose key it is, or for who calls."""

    config: Config
    requests: Requests
    content: dict[str, Any]
    key_id: str

    def _refused(self, message: Message, status: int, code: str, form: Form) -> str:
        return check(self.config, exchange(self.config, bytes(message)), Expected(status, code, form))

    def a_foreign_key_is_as_one_that_does_not_exist(self) -> None:
        make, plaintext = self.requests, b64(PLAINTEXT)
        for operation, members in (("DescribeKey", {}), ("Encrypt", {"Plaintext": plaintext}), ("DisableKey", {})):
            answers = set()
            for key_id in (self.content["foreignKeyId"], MISSING):
                aws = make.aws(operation, {"KeyId": key_id, **members})
                v3 = make.v3(operation, {"KeyId": key_id, **members})
                v1 = make.v1(operation, {"KeyId": key_id, **members}, Format="XML")
                said = (
                    self._refused(aws, 400, "NotFoundException", Form.AWS),
                    self._refused(v3, 404, "Forbidden.KeyNotFound", Form.JSON),
                    self._refused(v1, 404, "Forbidden.KeyNotFound", Form.XML),
                )
                answers.add(tuple(text.replace(key_id, "KEY") for text in said))
            equal(f"the number of different answers to {operation}", len(answers), 1)

    def who_lacks_a_verb_is_told_which_and_nothing_of_the_key(self) -> None:
        encrypter = self.content["encrypter"]
        make, key = self.requests, Key(encrypter["accessKeyId"], encrypter["secret"])
        body = {"KeyId": self.key_id, "Plaintext": b64(PLAINTEXT)}
        sealed = exchange(self.config, bytes(make.aws("Encrypt", body, key=key)))
        check(self.config, sealed, Expected.ok())
        blob = str(sealed.json()["CiphertextBlob"])
        answers = set()
        for ciphertext in (blob, b64(b"this is no ciphertext")):
            given = {"CiphertextBlob": ciphertext}
            aws, v3 = make.aws("Decrypt", given, key=key), make.v3("Decrypt", given, key=key)
            v1 = make.v1("Decrypt", given, key=key, Format="XML")
            answers |= {
                self._refused(aws, 400, "AccessDeniedException", Form.AWS).rstrip(".").lower(),
                self._refused(v3, 403, "Forbidden.NoPermission", Form.JSON).lower(),
                self._refused(v1, 403, "Forbidden.NoPermission", Form.XML).lower(),
            }
        for key_id in (self.key_id, MISSING, self.content["foreignKeyId"]):
            aws = make.aws("DisableKey", {"KeyId": key_id}, key=key)
            said = self._refused(aws, 400, "AccessDeniedException", Form.AWS).rstrip(".").lower()
            answers.add(said.replace("verb patch", "verb decrypt").replace("cmk-edit", "cmk-decrypter"))
        equal("the number of different answers", len(answers), 1)
        (said,) = answers
        for part in (encrypter["user"], "the verb decrypt", "customermasterkeys", "cmk-decrypter"):
            expect(part in said, f"{said!r} does not say {part!r}")
        expect(self.key_id not in said, f"{said!r} names the key")

    def tokens(self) -> None:
        make, tokens = self.requests, self.content["tokens"]
        described = {"KeyId": self.key_id}

        def aws(token: str) -> Message:
            return make.unsigned_aws("DescribeKey", described, ("Authorization", f"Bearer {token}"))

        def alibaba(token: str) -> Message:
            return make.bearer(token, "DescribeKey", described)

        for message in (aws(tokens["good"]), alibaba(tokens["good"])):
            check(self.config, exchange(self.config, bytes(message)), Expected.ok())
        lower = alibaba(tokens["good"]).changing("Bearer", "bearer")
        check(self.config, exchange(self.config, bytes(lower)), Expected.ok())
        parts = tokens["good"].split(".")
        forged = ".".join([*parts[:2], parts[2][:-8] + ("AAAAAAAA" if parts[2][-8:] != "AAAAAAAA" else "BBBBBBBB")])
        unsigned = f"{parts[0]}.{parts[1]}."
        bad = [tokens["otherAudience"], tokens["apiServer"], forged, unsigned, "garbage", "a.b.c", "x" * 20_000]
        for token in bad:
            self._refused(aws(token), 400, "UnrecognizedClientException", Form.AWS)
            self._refused(alibaba(token), 403, "InvalidBearerToken", Form.JSON)
        self._refused(aws(""), 400, "IncompleteSignatureException", Form.AWS)
        self._refused(alibaba(""), 400, "IncompleteSignature", Form.JSON)
        for message in (aws(tokens["otherAudience"]), alibaba(tokens["otherAudience"])):
            answer = exchange(self.config, bytes(message))
            expect(b"audience" in answer.body, f"{answer} does not say that it is the audience")


def new_key(config: Config, requests: Requests) -> str:
    answer = exchange(config, bytes(requests.aws("CreateKey", {})))
    check(config, answer, Expected.ok())
    metadata: Any = answer.json()["KeyMetadata"]
    return str(metadata["KeyId"])


def steps(content: dict[str, Any], report: Report) -> Iterator[Callable[[], None]]:
    config = Config.of(content)
    requests = Requests(config)
    key_id = new_key(config, requests)
    for case in [*aws_cases(requests, key_id), *alibaba_cases(requests, key_id), *http_cases(requests, key_id)]:
        yield partial(report.run, case.name, partial(run, config, case))
    strangers = Strangers(config, requests, content, key_id)
    for name in [name for name in vars(Strangers) if name.startswith(("a_", "who_", "tokens"))]:
        yield partial(report.run, name, getattr(strangers, name))


def main() -> int:
    content = Config.content(sys.argv[1:])
    report = Report("refusals", "requests answered")
    in_parallel(6, list(steps(content, report)))
    # After all of that it serves as before.
    config = Config.of(content)
    requests = Requests(config)
    for message in (requests.aws("ListKeys", {}), requests.v3("ListKeys", {}), requests.v1("ListKeys", {})):
        case = Case("a good request after all others", (message,), Expected.ok())
        report.run(case.name, partial(run, config, case))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
