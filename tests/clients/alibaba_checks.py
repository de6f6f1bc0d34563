"""What every answer of the Alibaba Cloud dialect has to look like."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta

from drivers import Answer
from harness import equal, expect

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CONTEXT = {"app": "shop + co", "stadt": "Köln/Ü~*", "empty": ""}
MISSING = "00000000-0000-4000-8000-000000000000"
# What the example of CreateKey shows, in its order, and what newer versions of the API add.
FIRST_FIELDS = (
    "CreationDate",
    "Description",
    "KeyId",
    "KeyState",
    "KeyUsage",
    "DeleteDate",
    "Creator",
    "Arn",
    "Origin",
    "MaterialExpireTime",
)
NEWER_FIELDS = {"KeySpec": "Aliyun_AES_256", "ProtectionLevel": "SOFTWARE", "AutomaticRotation": "Disabled"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def check_metadata(got: Answer, **wanted: object) -> None:
    for name in FIRST_FIELDS:
        expect(name in got, f"{name} is missing in the metadata {sorted(got)}")
    for name, value in {"KeyUsage": "ENCRYPT/DECRYPT", "DeleteDate": "", "MaterialExpireTime": "", **wanted}.items():
        equal(name, got[name], value)
    for name, value in NEWER_FIELDS.items():
        equal(name, got.get(name), value)
    if got["KeyState"] != "PendingImport":
        expect(bool(UUID.fullmatch(got["PrimaryKeyVersion"])), f"PrimaryKeyVersion is {got['PrimaryKeyVersion']!r}")
    expect(bool(UUID.fullmatch(got["KeyId"])), f"KeyId is {got['KeyId']}, which is no UUID")
    expect(bool(TIME.fullmatch(got["CreationDate"])), f"CreationDate is {got['CreationDate']}")
    arn = rf"acs:kms:[a-z0-9-]+:{re.escape(got['Creator'])}:key/{got['KeyId']}"
    expect(bool(re.fullmatch(arn, got["Arn"])), f"Arn is {got['Arn']}, wanted {arn}")


def check_sealed(got: Answer, key: Answer) -> None:
    equal("KeyId", got["KeyId"], key["KeyId"])
    expect(bool(UUID.fullmatch(got["KeyVersionId"])), f"KeyVersionId is {got['KeyVersionId']}")
    expect(len(base64.b64decode(got["CiphertextBlob"], validate=True)) > 16, "CiphertextBlob is too short for one")


def check_version(got: Answer, key: Answer) -> None:
    equal("KeyId", got["KeyId"], key["KeyId"])
    expect(bool(UUID.fullmatch(got["KeyVersionId"])), f"KeyVersionId is {got['KeyVersionId']}")
    expect(bool(TIME.fullmatch(got["CreationDate"])), f"CreationDate is {got['CreationDate']}")


def check_in_days(what: str, got: str, days: int) -> None:
    """Within ten minutes, for the clocks of two machines."""
    expect(bool(TIME.fullmatch(got)), f"{what} is {got!r}, which is no time")
    off = abs(datetime.fromisoformat(got) - datetime.now(UTC) - timedelta(days=days))
    expect(off < timedelta(minutes=10), f"{what} is {got}, wanted {days} days from now")
