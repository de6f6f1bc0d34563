#!/usr/bin/env python3
"""Every operation of the AWS KMS dialect through boto3: answers, limits, pages, names of keys, and errors.

    aws_tour.py [CONFIG.json]          (else the JSON is on stdin; see harness.Config)

Prints a line for each check that fails, and a summary; the exit status is 1 where one does. Keys stay behind.
Sources: PyPI botocore's kms/2014-11-01/service-2.json; AWS KMS developer guide.
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial

from drivers import Answer, AwsKms
from harness import Config, Report, equal, expect, in_parallel, refused, steps, wrapped

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CONTEXT = {"app": "shop + co", "stadt": "Köln/Ü~*", "empty": ""}
MISSING = "00000000-0000-4000-8000-000000000000"
INVALID = ("ValidationException", 400)


class Tour:
    """The steps. Each makes the keys that it needs, so they may run at the same time."""

    def __init__(self, kms: AwsKms) -> None:
        self.kms = kms
        self.call = kms.call

    def _new_key(self, **parameters: object) -> Answer:
        return self.call("CreateKey", **parameters)["KeyMetadata"]

    def _metadata(self, key_id: str) -> Answer:
        return self.call("DescribeKey", KeyId=key_id)["KeyMetadata"]

    def _new_alias(self, key_id: str) -> str:
        alias = f"alias/tour/{uuid.uuid4().hex[:12]}"
        self.call("CreateAlias", AliasName=alias, TargetKeyId=key_id)
        return alias

    def _refused(self, code: str, operation: str, contains: str | None = None, **parameters: object) -> None:
        refused(partial(self.call, operation, **parameters), code, 400, contains=contains)

    # ---- keys ----------------------------------------------------------------------------------

    def create_and_describe(self) -> None:
        before = datetime.now(UTC) - timedelta(minutes=5)
        created = self._new_key(Description="Größe: 3 £ “orders”", Tags=[{"TagKey": "a", "TagValue": "b"}])
        described = self._metadata(created["KeyId"])
        equal("what DescribeKey answers after CreateKey", described, created)
        check_metadata(created, Description="Größe: 3 £ “orders”", KeyState="Enabled", Enabled=True, Origin="AWS_KMS")
        expect(before < created["CreationDate"] < datetime.now(UTC) + timedelta(minutes=5), "CreationDate is not now")
        for absent in ("DeletionDate", "ValidTo", "ExpirationModel", "PendingDeletionWindowInDays"):
            expect(absent not in created, f"{absent} is in the metadata of an Enabled key: {created.get(absent)!r}")
        check_metadata(self._new_key(), Description="", KeyState="Enabled", Enabled=True, Origin="AWS_KMS")

    def describe_as_seed_003(self) -> None:
        key_id = self._new_key()["KeyId"]
        equal("what DisableKey answers", self.call("DisableKey", KeyId=key_id), {})
        check_metadata(self._metadata(key_id), Description="", KeyState="Disabled", Enabled=False, Origin="AWS_KMS")
        equal("what EnableKey answers", self.call("EnableKey", KeyId=key_id), {})
        check_metadata(self._metadata(key_id), Description="", KeyState="Enabled", Enabled=True, Origin="AWS_KMS")
        self.call("EnableKey", KeyId=key_id)

    def create_refusals(self) -> None:
        self._refused("ValidationException", "CreateKey", Origin="aws_kms")
        self._refused("ValidationException", "CreateKey", Description="x" * 8193)
        self._refused("TagException", "CreateKey", Tags=[{"TagKey": "aws:x", "TagValue": "b"}])
        self._refused("UnsupportedOperationException", "CreateKey", KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
        self._refused("UnsupportedOperationException", "CreateKey", MultiRegion=True)

    def list_keys(self) -> None:
        made = {self._new_key()["KeyId"] for _ in range(3)}
        pages, found = 0, {}
        marker: dict[str, object] = {}
        while True:
            page = self.call("ListKeys", Limit=2, **marker)
            pages += 1
            expect(len(page["Keys"]) <= 2, f"a page of Limit 2 has {len(page['Keys'])} keys")
            found.update({key["KeyId"]: key["KeyArn"] for key in page["Keys"]})
            equal("whether NextMarker is there", "NextMarker" in page, page["Truncated"])
            if not page["Truncated"]:
                break
            marker = {"Marker": page["NextMarker"]}
        expect(made <= found.keys(), f"of the keys made, {made - found.keys()} are not listed")
        expect(pages > 1, "three keys are on one page of Limit 2")
        for key_id, arn in found.items():
            expect(arn.endswith(f":key/{key_id}"), f"KeyArn is {arn}")
        equal("Truncated of a page of 1000", self.call("ListKeys", Limit=1000)["Truncated"], False)
        self._refused("ValidationException", "ListKeys", Limit=0)
        self._refused("ValidationException", "ListKeys", Limit=1001)
        self._refused("InvalidMarkerException", "ListKeys", Marker="not a marker")

    def description(self) -> None:
        key_id = self._new_key()["KeyId"]
        equal("the answer", self.call("UpdateKeyDescription", KeyId=key_id, Description="ü" * 8192), {})
        equal("the description", self._metadata(key_id)["Description"], "ü" * 8192)
        self.call("UpdateKeyDescription", KeyId=key_id, Description="")
        equal("the description", self._metadata(key_id)["Description"], "")
        self._refused("ValidationException", "UpdateKeyDescription", KeyId=key_id, Description="x" * 8193)

    def deletion(self) -> None:
        key = self._new_key()
        answer = self.call("ScheduleKeyDeletion", KeyId=key["KeyId"], PendingWindowInDays=7)
        equal("KeyId", answer["KeyId"], key["Arn"])
        equal("KeyState", answer["KeyState"], "PendingDeletion")
        equal("PendingWindowInDays", answer["PendingWindowInDays"], 7)
        check_in_days("DeletionDate", answer["DeletionDate"], 7)
        described = self._metadata(key["KeyId"])
        equal("DeletionDate of DescribeKey", described["DeletionDate"], answer["DeletionDate"])
        equal("KeyState, Enabled", (described["KeyState"], described["Enabled"]), ("PendingDeletion", False))
        equal("CancelKeyDeletion", self.call("CancelKeyDeletion", KeyId=key["KeyId"])["KeyId"], key["Arn"])
        described = self._metadata(key["KeyId"])
        equal("the state after it", described["KeyState"], "Disabled")
        expect("DeletionDate" not in described, "DeletionDate is still there")
        default = self.call("ScheduleKeyDeletion", KeyId=key["KeyId"])
        equal("the default window", default["PendingWindowInDays"], 30)
        check_in_days("DeletionDate", default["DeletionDate"], 30)
        other = self._new_key()["KeyId"]
        for days in (6, 31, 0):
            self._refused("ValidationException", "ScheduleKeyDeletion", KeyId=other, PendingWindowInDays=days)

    # ---- names of keys ---------------------------------------------------------------------------

    def key_names(self) -> None:
        key = self._new_key()
        alias = self._new_alias(key["KeyId"])
        alias_arn = key["Arn"].rpartition(":key/")[0] + ":" + alias
        for name in (key["KeyId"], key["Arn"], alias, alias_arn):
            equal(f"DescribeKey of {name}", self._metadata(name)["KeyId"], key["KeyId"])
            sealed = self.call("Encrypt", KeyId=name, Plaintext=b"x")
            equal(f"KeyId of Encrypt with {name}", sealed["KeyId"], key["Arn"])
            opened = self.call("Decrypt", KeyId=name, CiphertextBlob=sealed["CiphertextBlob"])
            equal(f"KeyId of Decrypt with {name}", opened["KeyId"], key["Arn"])
            data_key = self.call("GenerateDataKey", KeyId=name, KeySpec="AES_128")
            equal(f"KeyId of GenerateDataKey with {name}", data_key["KeyId"], key["Arn"])

    def unknown_keys(self) -> None:
        arn = self._new_key()["Arn"].rpartition("/")[0]
        for name in (MISSING, f"{arn}/{MISSING}", "alias/no-such-alias", "orders"):
            self._refused("NotFoundException", "DescribeKey", KeyId=name)
            self._refused("NotFoundException", "Encrypt", KeyId=name, Plaintext=b"x")
            self._refused("NotFoundException", "EnableKey", KeyId=name)
        for operation in ("DescribeKey", "DisableKey", "CancelKeyDeletion", "ListResourceTags", "GetKeyRotationStatus"):
            refused(partial(self.call, operation), *INVALID)

    # ---- cryptography ----------------------------------------------------------------------------

    def encrypt_and_decrypt(self) -> None:
        key = self._new_key()
        for length in (1, 1024, 4096):
            plaintext = os.urandom(length)
            sealed = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=plaintext, EncryptionContext=CONTEXT)
            equal("EncryptionAlgorithm", sealed["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT")
            expect(len(sealed["CiphertextBlob"]) <= 6144, f"CiphertextBlob has {len(sealed['CiphertextBlob'])} bytes")
            opened = self.call("Decrypt", CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=CONTEXT)
            expect(opened["Plaintext"] == plaintext, f"{length} bytes came back otherwise")
            equal("KeyId", opened["KeyId"], key["Arn"])
            equal("EncryptionAlgorithm", opened["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT")
        twice = [self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"] for _ in range(2)]
        expect(twice[0] != twice[1], "the same plaintext encrypts to the same ciphertext")

    def plaintext_limits(self) -> None:
        key_id = self._new_key()["KeyId"]
        for plaintext in (b"", b"x" * 4097, b"x" * 6144, b"x" * 6145):
            self._refused("ValidationException", "Encrypt", KeyId=key_id, Plaintext=plaintext)
        self._refused("ValidationException", "Decrypt", CiphertextBlob=b"")
        self._refused("ValidationException", "Decrypt", CiphertextBlob=b"x" * 6145)

    def encryption_context(self) -> None:
        key_id = self._new_key()["KeyId"]
        sealed = self.call("Encrypt", KeyId=key_id, Plaintext=b"x", EncryptionContext={"ab": "c", "d": "e"})
        blob = sealed["CiphertextBlob"]
        self.call("Decrypt", CiphertextBlob=blob, EncryptionContext={"d": "e", "ab": "c"})
        for other in ({}, {"ab": "c"}, {"a": "bc", "d": "e"}, {"AB": "c", "d": "e"}, {"ab": "c", "d": "e", "f": ""}):
            call = partial(self.call, "Decrypt", CiphertextBlob=blob, EncryptionContext=other)
            refused(call, "InvalidCiphertextException", 400, message="")
        plain = self.call("Encrypt", KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
        self.call("Decrypt", CiphertextBlob=plain, EncryptionContext={})

    def ciphertexts(self) -> None:
        key, other = self._new_key(), self._new_key()
        blob = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b"attack")["CiphertextBlob"]
        self._refused("IncorrectKeyException", "Decrypt", CiphertextBlob=blob, KeyId=other["KeyId"])
        broken = bytes([*blob[:-1], blob[-1] ^ 1])
        for bad in (broken, blob[:-1], blob + b"\0", b"not a ciphertext"):
            refused(partial(self.call, "Decrypt", CiphertextBlob=bad), "InvalidCiphertextException", 400, message="")

    def re_encrypt(self) -> None:
        source, target = self._new_key(), self._new_key()
        blob = self.call("Encrypt", KeyId=source["KeyId"], Plaintext=b"moved", EncryptionContext=CONTEXT)[
            "CiphertextBlob"
        ]
        contexts = {"SourceEncryptionContext": CONTEXT, "DestinationEncryptionContext": {"new": "context"}}
        moved = self.call("ReEncrypt", CiphertextBlob=blob, DestinationKeyId=target["KeyId"], **contexts)
        equal("KeyId, SourceKeyId", (moved["KeyId"], moved["SourceKeyId"]), (target["Arn"], source["Arn"]))
        for algorithm in ("SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm"):
            equal(algorithm, moved[algorithm], "SYMMETRIC_DEFAULT")
        opened = self.call("Decrypt", CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"new": "context"})
        equal("the plaintext and its key", (opened["Plaintext"], opened["KeyId"]), (b"moved", target["Arn"]))
        to = {"CiphertextBlob": blob, "DestinationKeyId": target["KeyId"]}
        self._refused("IncorrectKeyException", "ReEncrypt", SourceKeyId=target["KeyId"], **to, **contexts)
        refused(partial(self.call, "ReEncrypt", **to), "InvalidCiphertextException", 400, message="")

    def data_keys(self) -> None:
        key = self._new_key()
        for length, wanted in ((16, {"KeySpec": "AES_128"}), (32, {"KeySpec": "AES_256"}), (1, {"NumberOfBytes": 1})):
            self._data_key(key, length, wanted)
        self._data_key(key, 1024, {"NumberOfBytes": 1024})
        without = self.call("GenerateDataKeyWithoutPlaintext", KeyId=key["KeyId"], NumberOfBytes=24)
        expect("Plaintext" not in without, "GenerateDataKeyWithoutPlaintext shows the plaintext")
        equal("KeyId", without["KeyId"], key["Arn"])
        equal("its length", len(self.call("Decrypt", CiphertextBlob=without["CiphertextBlob"])["Plaintext"]), 24)
        both = {"KeySpec": "AES_256", "NumberOfBytes": 32}
        for wrong in ({}, both, {"NumberOfBytes": 0}, {"NumberOfBytes": 1025}, {"KeySpec": "aes_256"}):
            for operation in ("GenerateDataKey", "GenerateDataKeyWithoutPlaintext"):
                self._refused("ValidationException", operation, KeyId=key["KeyId"], **wrong)

    def _data_key(self, key: Answer, length: int, wanted: dict[str, object]) -> None:
        made = self.call("GenerateDataKey", KeyId=key["KeyId"], EncryptionContext=CONTEXT, **wanted)
        equal(f"the length of a data key of {wanted}", len(made["Plaintext"]), length)
        equal("KeyId", made["KeyId"], key["Arn"])
        opened = self.call("Decrypt", CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
        expect(opened["Plaintext"] == made["Plaintext"], "the data key decrypts to something else")

    def random(self) -> None:
        for length in (1, 32, 1024):
            equal("the length", len(self.call("GenerateRandom", NumberOfBytes=length)["Plaintext"]), length)
        for wrong in ({}, {"NumberOfBytes": 0}, {"NumberOfBytes": 1025}):
            self._refused("ValidationException", "GenerateRandom", **wrong)

    # ---- aliases and tags ------------------------------------------------------------------------

    def aliases(self) -> None:
        first, second = self._new_key(), self._new_key()
        alias = self._new_alias(first["KeyId"])
        listed = self.call("ListAliases", KeyId=first["KeyId"])
        equal("Truncated", listed["Truncated"], False)
        entry = listed["Aliases"][0]
        equal("AliasName, TargetKeyId", (entry["AliasName"], entry["TargetKeyId"]), (alias, first["KeyId"]))
        equal("AliasArn", entry["AliasArn"], first["Arn"].rpartition(":key/")[0] + ":" + alias)
        self._refused("AlreadyExistsException", "CreateAlias", AliasName=alias, TargetKeyId=second["KeyId"])
        equal("UpdateAlias", self.call("UpdateAlias", AliasName=alias, TargetKeyId=second["KeyId"]), {})
        equal("the key of the alias", self._metadata(alias)["KeyId"], second["KeyId"])
        equal("the aliases of the first key", self.call("ListAliases", KeyId=first["KeyId"])["Aliases"], [])
        equal("DeleteAlias", self.call("DeleteAlias", AliasName=alias), {})
        self._refused("NotFoundException", "DescribeKey", KeyId=alias)
        for operation in ("DeleteAlias", "UpdateAlias"):
            target = {"TargetKeyId": first["KeyId"]} if operation == "UpdateAlias" else {}
            self._refused("NotFoundException", operation, AliasName=alias, **target)
        self.call("CreateAlias", AliasName=alias, TargetKeyId=first["KeyId"])

    def alias_names(self) -> None:
        key_id = self._new_key()["KeyId"]
        for name in ("orders", "alias/", "alias/a b", "alias/ä", "alias/a:b", "alias/" + "a" * 251):
            self._refused("ValidationException", "CreateAlias", AliasName=name, TargetKeyId=key_id)
        self._refused("InvalidAliasNameException", "CreateAlias", AliasName="alias/aws/x", TargetKeyId=key_id)
        self.call("CreateAlias", AliasName=f"alias/{uuid.uuid4().hex}".ljust(256, "-"), TargetKeyId=key_id)

    def alias_pages(self) -> None:
        made = [self._new_alias(self._new_key()["KeyId"]) for _ in range(3)]
        found, marker = [], {}
        while True:
            page = self.call("ListAliases", Limit=2, **marker)
            found += [entry["AliasName"] for entry in page["Aliases"]]
            if not page["Truncated"]:
                break
            marker = {"Marker": page["NextMarker"]}
        expect(set(made) <= set(found), f"of {made}, {found} are listed")
        equal("duplicates", len(found), len(set(found)))
        self._refused("ValidationException", "ListAliases", Limit=101)

    def tags(self) -> None:
        key_id = self._new_key(Tags=[{"TagKey": "team", "TagValue": "orders"}])["KeyId"]
        more = [{"TagKey": f"k{number}", "TagValue": ""} for number in range(3)]
        changed = {"TagKey": "team", "TagValue": "shop + co/ü"}
        equal("TagResource", self.call("TagResource", KeyId=key_id, Tags=[changed, *more]), {})
        equal("the tags", self._tags(key_id, 2), {"team": "shop + co/ü", "k0": "", "k1": "", "k2": ""})
        equal("UntagResource", self.call("UntagResource", KeyId=key_id, TagKeys=["k0", "none"]), {})
        equal("the tags", self._tags(key_id, 50), {"team": "shop + co/ü", "k1": "", "k2": ""})
        for bad in (
            {"TagKey": "", "TagValue": ""},
            {"TagKey": "x" * 129, "TagValue": ""},
            {"TagKey": "x", "TagValue": "x" * 257},
        ):
            self._refused("ValidationException", "TagResource", KeyId=key_id, Tags=[bad])
        double = [{"TagKey": "x", "TagValue": value} for value in "ab"]
        self._refused("TagException", "TagResource", KeyId=key_id, Tags=double)
        self._refused("ValidationException", "ListResourceTags", KeyId=key_id, Limit=51)

    def _tags(self, key_id: str, limit: int) -> dict[str, str]:
        tags: dict[str, str] = {}
        marker: dict[str, object] = {}
        while True:
            page = self.call("ListResourceTags", KeyId=key_id, Limit=limit, **marker)
            expect(len(page["Tags"]) <= limit, f"a page of Limit {limit} has {len(page['Tags'])} tags")
            tags |= {tag["TagKey"]: tag["TagValue"] for tag in page["Tags"]}
            if not page["Truncated"]:
                return tags
            marker = {"Marker": page["NextMarker"]}

    # ---- rotation, policies ------------------------------------------------------------------------

    def automatic_rotation(self) -> None:
        key = self._new_key()
        status = self.call("GetKeyRotationStatus", KeyId=key["KeyId"])
        equal("KeyRotationEnabled of a new key", status["KeyRotationEnabled"], False)
        equal("EnableKeyRotation", self.call("EnableKeyRotation", KeyId=key["KeyId"]), {})
        status = self.call("GetKeyRotationStatus", KeyId=key["KeyId"])
        equal("enabled, period", (status["KeyRotationEnabled"], status["RotationPeriodInDays"]), (True, 365))
        check_names(status["KeyId"], key)
        check_in_days("NextRotationDate", status["NextRotationDate"], 365)
        self.call("EnableKeyRotation", KeyId=key["KeyId"], RotationPeriodInDays=90)
        equal("the period", self.call("GetKeyRotationStatus", KeyId=key["KeyId"])["RotationPeriodInDays"], 90)
        equal("DisableKeyRotation", self.call("DisableKeyRotation", KeyId=key["KeyId"]), {})
        status = self.call("GetKeyRotationStatus", KeyId=key["KeyId"])
        equal("enabled", status["KeyRotationEnabled"], False)
        expect("NextRotationDate" not in status, "NextRotationDate is there without rotation")
        for days in (89, 2561, 0):
            self._refused("ValidationException", "EnableKeyRotation", KeyId=key["KeyId"], RotationPeriodInDays=days)

    def rotation_on_demand(self) -> None:
        key = self._new_key()
        blob = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
        check_names(self.call("RotateKeyOnDemand", KeyId=key["KeyId"])["KeyId"], key)
        equal("old ciphertext", self.call("Decrypt", CiphertextBlob=blob)["Plaintext"], b"old")
        new = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b"new")["CiphertextBlob"]
        equal("new ciphertext", self.call("Decrypt", CiphertextBlob=new)["Plaintext"], b"new")
        rotations = self.call("ListKeyRotations", KeyId=key["KeyId"])
        equal("the number of rotations", len(rotations["Rotations"]), 1)
        entry = rotations["Rotations"][0]
        check_names(entry["KeyId"], key)
        # The model has RotationType as optional.
        equal("RotationType", entry.get("RotationType", "ON_DEMAND"), "ON_DEMAND")
        check_in_days("RotationDate", entry["RotationDate"], 0)
        equal("Truncated", rotations["Truncated"], False)

    def policies(self) -> None:
        key_id = self._new_key()["KeyId"]
        listed = self.call("ListKeyPolicies", KeyId=key_id)
        equal("PolicyNames, Truncated", (listed["PolicyNames"], listed["Truncated"]), (["default"], False))
        policy = self.call("GetKeyPolicy", KeyId=key_id)
        equal("PolicyName", policy["PolicyName"], "default")
        equal("the policy's Version", json.loads(policy["Policy"])["Version"], "2012-10-17")
        expect("RBAC" in policy["Policy"], f"the policy does not say that RBAC decides: {policy['Policy']}")
        self._refused("NotFoundException", "GetKeyPolicy", KeyId=key_id, PolicyName="other")

    # ---- import --------------------------------------------------------------------------------------

    def imported(self) -> None:
        key = self._new_key(Origin="EXTERNAL")
        check_metadata(key, Description="", KeyState="PendingImport", Enabled=False, Origin="EXTERNAL")
        material = os.urandom(32)
        self._import(key["KeyId"], material, "RSAES_OAEP_SHA_256", "RSA_2048")
        described = self._metadata(key["KeyId"])
        equal("KeyState", described["KeyState"], "Enabled")
        equal("ExpirationModel", described["ExpirationModel"], "KEY_MATERIAL_DOES_NOT_EXPIRE")
        blob = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b"kept")["CiphertextBlob"]
        self.call("DeleteImportedKeyMaterial", KeyId=key["KeyId"])
        equal("KeyState", self._metadata(key["KeyId"])["KeyState"], "PendingImport")
        refused(
            lambda: self._import(key["KeyId"], os.urandom(32), "RSAES_OAEP_SHA_256", "RSA_2048"),
            "IncorrectKeyMaterialException",
            400,
        )
        self._import(key["KeyId"], material, "RSAES_OAEP_SHA_1", "RSA_3072")
        self._import(key["KeyId"], material, "RSA_AES_KEY_WRAP_SHA_256", "RSA_4096")
        equal("the old ciphertext", self.call("Decrypt", CiphertextBlob=blob)["Plaintext"], b"kept")

    def imported_until(self) -> None:
        key_id = self._new_key(Origin="EXTERNAL")["KeyId"]
        until = (datetime.now(UTC) + timedelta(days=100)).replace(microsecond=0)
        expires = {"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": until}
        self._import(key_id, os.urandom(32), "RSAES_OAEP_SHA_256", "RSA_2048", **expires)
        described = self._metadata(key_id)
        equal("ExpirationModel", described["ExpirationModel"], "KEY_MATERIAL_EXPIRES")
        equal("ValidTo", described["ValidTo"], until)

    def _import(self, key_id: str, material: bytes, algorithm: str, spec: str, **expiry: object) -> None:
        wrapping = {"WrappingAlgorithm": algorithm, "WrappingKeySpec": spec}
        parameters = self.call("GetParametersForImport", KeyId=key_id, **wrapping)
        expect(parameters["KeyId"].endswith(f":key/{key_id}"), f"KeyId is {parameters['KeyId']}")
        check_in_days("ParametersValidTo", parameters["ParametersValidTo"], 1)
        self.call(
            "ImportKeyMaterial",
            KeyId=key_id,
            ImportToken=parameters["ImportToken"],
            EncryptedKeyMaterial=wrapped(material, parameters["PublicKey"], algorithm),
            **(expiry or {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}),
        )

    def import_refusals(self) -> None:
        key_id, other = (self._new_key(Origin="EXTERNAL")["KeyId"] for _ in range(2))
        wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
        parameters = self.call("GetParametersForImport", KeyId=key_id, **wrapping)
        token = parameters["ImportToken"]

        def submit(code: str, **changed: object) -> None:
            usual = {
                "KeyId": key_id,
                "ImportToken": token,
                "EncryptedKeyMaterial": wrapped(os.urandom(32), parameters["PublicKey"]),
                "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
            }
            self._refused(code, "ImportKeyMaterial", **{**usual, **changed})

        submit("InvalidImportTokenException", KeyId=other)
        submit("InvalidImportTokenException", ImportToken=bytes([token[0] ^ 1]) + token[1:])
        submit("InvalidCiphertextException", EncryptedKeyMaterial=os.urandom(256))
        for length in (16, 31, 33):
            short = wrapped(os.urandom(length), parameters["PublicKey"])
            submit("InvalidCiphertextException", EncryptedKeyMaterial=short)
        expires = "KEY_MATERIAL_EXPIRES"
        submit("ValidationException", ExpirationModel=expires)
        past, far = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 366))
        submit("ValidationException", ExpirationModel=expires, ValidTo=past)
        submit("ValidationException", ExpirationModel=expires, ValidTo=far)
        equal("the state", self._metadata(key_id)["KeyState"], "PendingImport")
        for wrong in ({"WrappingAlgorithm": "RSAES_PKCS1_V1_5"}, {"WrappingKeySpec": "RSA_1024"}):
            refused(partial(self.call, "GetParametersForImport", KeyId=key_id, **{**wrapping, **wrong}), *INVALID)

    # ---- what is not served ------------------------------------------------------------------------------

    def unsupported(self) -> None:
        key_id = self._new_key()["KeyId"]
        calls = {
            "Sign": {"Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256"},
            "GenerateMac": {"Message": b"x", "MacAlgorithm": "HMAC_SHA_256"},
            "GetPublicKey": {},
            "ListGrants": {},
            "PutKeyPolicy": {"Policy": "{}"},
        }
        for operation, parameters in calls.items():
            self._refused("UnsupportedOperationException", operation, KeyId=key_id, **parameters)


def check_metadata(got: Answer, **wanted: object) -> None:
    """The fields that every key has, and those of seed 003."""
    always = {
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": False,
    }
    for name, value in {**always, **wanted}.items():
        expect(name in got, f"{name} is missing in the metadata {sorted(got)}")
        equal(name, got[name], value)
    key_id, account = got["KeyId"], got["AWSAccountId"]
    expect(bool(UUID.fullmatch(key_id)), f"KeyId is {key_id}, which is no UUID")
    expect(bool(re.fullmatch(r"[0-9]{12}", account)), f"AWSAccountId is {account}, not 12 digits")
    arn = rf"arn:aws:kms:[a-z0-9-]+:{account}:key/{key_id}"
    expect(bool(re.fullmatch(arn, got["Arn"])), f"Arn is {got['Arn']}, wanted {arn}")


def check_names(got: str, key: Answer) -> None:
    """For rotations the documentation says only that KeyId identifies the key: by id or by ARN."""
    expect(got in (key["KeyId"], key["Arn"]), f"KeyId is {got}, wanted {key['KeyId']} or {key['Arn']}")


def check_in_days(what: str, got: datetime, days: float) -> None:
    """Within ten minutes, for the clocks of two machines."""
    off = abs(got - datetime.now(UTC) - timedelta(days=days))
    expect(off < timedelta(minutes=10), f"{what} is {got}, wanted {days} days from now")


def main() -> int:
    kms = AwsKms(Config.load(sys.argv[1:]))
    tour, report = Tour(kms), Report(f"AWS tour, {kms.name}", "steps")
    in_parallel(8, steps(tour, report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
