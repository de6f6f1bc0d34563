"""What the client programs share: their configuration, errors in one form, and the report."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding


@dataclass(frozen=True)
class Config:
    """Where the endpoint is, and as whom to call it.

    {"endpoint": "https://127.0.0.1:8443", "region": "cn-hangzhou", "ca": "/path/ca.crt" or null,
     "credentials": {"accessKeyId": "…", "secret": "…"}}
    """

    endpoint: str
    region: str
    access_key_id: str
    secret: str = field(repr=False)
    ca: str | None

    @staticmethod
    def load(arguments: Sequence[str]) -> Config:
        """Reads the JSON from the file named, or from stdin."""
        return Config.of(Config.content(arguments))

    @staticmethod
    def content(arguments: Sequence[str]) -> dict[str, Any]:
        """The JSON from the file named, or from stdin."""
        return json.loads(Path(arguments[0]).read_text() if arguments else sys.stdin.read())

    @staticmethod
    def of(content: dict[str, Any]) -> Config:
        credentials = content["credentials"]
        return Config(
            content["endpoint"].rstrip("/"),
            content["region"],
            credentials["accessKeyId"],
            credentials["secret"],
            content.get("ca"),
        )

    def environment(self) -> dict[str, str]:
        """The variables with which a program on an AWS SDK finds the endpoint, on top of this one's."""
        ca = {"AWS_CA_BUNDLE": self.ca, "SSL_CERT_FILE": self.ca} if self.ca else {}
        return {
            **os.environ,
            **ca,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL_KMS": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }


class ApiError(Exception):
    """An error that the endpoint answered, as its SDK shows it."""

    def __init__(self, code: str, status: int, message: str, request_id: str | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.code, self.status, self.message, self.request_id = code, status, message, request_id


class Mismatch(AssertionError):
    """An answer that is not the documented one."""


def expect(condition: bool, problem: str) -> None:
    if not condition:
        raise Mismatch(problem)


def equal(what: str, got: object, wanted: object) -> None:
    expect(got == wanted, f"{what} is {got!r}, wanted {wanted!r}")


def refused(
    call: Callable[[], object], code: str, status: int, message: str | None = None, contains: str | None = None
) -> ApiError:
    """Demands the error: `message` is the whole of it, `contains` a part. Without either it is not empty."""
    try:
        answer = call()
    except ApiError as error:
        got = (error.status, error.code)
        expect(got == (status, code), f"got {got[0]} {got[1]} ({error.message!r}), wanted {status} {code}")
        if message is not None:
            equal("the error's message", error.message, message)
        elif contains is not None:
            expect(contains in error.message, f"the message {error.message!r} does not say {contains!r}")
        else:
            expect(bool(error.message), f"{code} has no message")
        return error
    raise Mismatch(f"succeeded with {summary(answer)}, wanted {status} {code}")


def summary(answer: object) -> str:
    """An answer in a line, long or binary values cut: none of it is secret in a test, much of it is long."""
    text = repr(answer)
    return text if len(text) <= 300 else text[:297] + "..."


class Report:
    """Collects results from any thread. Prints a line for each failure, when it happens."""

    def __init__(self, name: str, noun: str) -> None:
        self._name, self._noun = name, noun
        self._lock = threading.Lock()
        self._passed = self._failed = 0
        self._notes: list[str] = []
        self._started = time.monotonic()

    def run(self, what: str, step: Callable[[], None]) -> bool:
        """Runs one step; its failure, of whatever kind, is a line and not the end."""
        try:
            step()
        except Exception as error:  # the report is where failures of every kind go
            self.failed(what, error)
            return False
        with self._lock:
            self._passed += 1
        return True

    def failed(self, what: str, error: Exception) -> None:
        with self._lock:
            self._failed += 1
            print(f"FAIL {self._name}: {what}: {described(error)}", flush=True)

    def note(self, text: str) -> None:
        """Something to know that is no failure: it stands under the summary."""
        with self._lock:
            self._notes.append(text)

    def finish(self) -> int:
        """Prints the summary, and gives the exit status."""
        seconds = time.monotonic() - self._started
        total = self._passed + self._failed
        print(
            f"{self._name}: {self._passed} of {total} {self._noun} as documented, {self._failed} not, {seconds:.1f} s"
        )
        for note in self._notes:
            print(f"{self._name}: note: {note}")
        if total == 0:
            print(f"{self._name}: nothing was checked")
        return 0 if self._failed == 0 and total > 0 else 1


def described(error: Exception) -> str:
    """The error, and for one that no check raised also where."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, Mismatch):
        return text
    here = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/clients/" in frame.filename]
    where = f" at {Path(here[-1].filename).name}:{here[-1].lineno}" if here else ""
    return f"{type(error).__name__}: {text}{where}"


def steps(tour: object, report: Report) -> list[Callable[[], None]]:
    """The public methods of a tour, each run as a step of the report."""
    names = [name for name in vars(type(tour)) if not name.startswith("_")]
    return [partial(report.run, name, getattr(tour, name)) for name in names]


def in_parallel(threads: int, tasks: Sequence[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


def eventually(what: str, probe: Callable[[], bool], seconds: float = 10.0) -> float:
    """Waits until `probe` holds, and says how long it took."""
    started = time.monotonic()
    while not probe():
        if time.monotonic() - started > seconds:
            raise Mismatch(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
    return time.monotonic() - started


def throttled(call: Callable[[], object], codes: tuple[str, ...], seconds: float = 180.0) -> object:
    """Calls again while the answer is to come again later: importers share a limited RSA generator, and an API server on a
    busy machine does not always answer a SubjectAccessReview in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except ApiError as error:
            if error.code not in codes or time.monotonic() > deadline:
                raise
        time.sleep(0.25)


def wrapped(material: bytes, public_key_der: bytes, algorithm: str = "RSAES_OAEP_SHA_256") -> bytes:
    """Key material encrypted to the public key (DER SubjectPublicKeyInfo) of GetParametersForImport."""
    key = serialization.load_der_public_key(public_key_der)
    expect(isinstance(key, RSAPublicKey), f"the public key is a {type(key).__name__}, wanted RSA")
    digest = hashes.SHA256() if algorithm.endswith("SHA_256") else hashes.SHA1()
    scheme = padding.OAEP(padding.MGF1(digest), digest, None)
    if not algorithm.startswith("RSA_AES_KEY_WRAP"):
        return key.encrypt(material, scheme)
    wrapping_key = os.urandom(32)
    return key.encrypt(wrapping_key, scheme) + aes_key_wrap_with_padding(wrapping_key, material)
