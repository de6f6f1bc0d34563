#!/usr/bin/env python3
"""Every operation of the Alibaba Cloud KMS dialect through both Python SDKs: answers, limits, pages, names and errors.

    alibaba_tour.py [CONFIG.json]      (else the JSON is on stdin; see harness.Config)

The old SDK goes on the tour twice, with POST and with GET, and also asks for XML. Prints a line for each check that
fails, and a summary; the exit status is 1 where one does. Keys stay behind.
Sources: Alibaba Cloud's "CreateKey" (2016-01-20); the docstrings of PyPI alibabacloud_kms20160120.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from alibaba_checks import CONTEXT, MISSING, b64, check_in_days, check_metadata, check_sealed, check_version
from alibaba_xml import XmlTour
from drivers import AlibabaV1Kms, AlibabaV3Kms, Answer, Kms
from harness import ApiError, Config, Mismatch, Report, equal, eventually, expect, in_parallel, refused, steps, wrapped


class Tour:
    """The steps. Each makes the keys that it needs, so they may run at the same time."""

    def __init__(self, kms: Kms) -> None:
        self.kms = kms
        self.call = kms.call

    def _new_key(self, **parameters: object) -> Answer:
        return self.call("CreateKey", **parameters)["KeyMetadata"]

    def _new_id(self) -> str:
        return self._new_key()["KeyId"]

    def _metadata(self, key_id: str) -> Answer:
        return self.call("DescribeKey", KeyId=key_id)["KeyMetadata"]

    def _new_alias(self, key_id: str) -> str:
        alias = f"alias/tour-{uuid.uuid4().hex[:12]}"
        self.call("CreateAlias", AliasName=alias, KeyId=key_id)
        return alias

    def _refused(self, status: int, code: str, operation: str, **parameters: object) -> None:
        refused(partial(self.call, operation, **parameters), code, status)

    def _pages(self, operation: str, outer: str, inner: str, **parameters: object) -> Iterator[Answer]:
        """The entries of all pages of two."""
        number, seen, total = 1, 0, 1
        while seen < total:
            page = self.call(operation, PageNumber=number, PageSize=2, **parameters)
            equal("PageNumber, PageSize", (page["PageNumber"], page["PageSize"]), (number, 2))
            entries, total = page[outer][inner], page["TotalCount"]
            # It may be empty where somebody deleted what the page before it counted.
            wanted = range(1, 3) if seen < total else range(1)
            expect(len(entries) in wanted, f"page {number} of {operation} has {len(entries)} of {total}")
            yield from entries
            number, seen = number + 1, seen + len(entries)

    # ---- keys ----------------------------------------------------------------------------------

    def create_and_describe(self) -> None:
        description = "Größe: 3 £ “orders” a+b=c&d *?~ %20"
        tags = json.dumps([{"TagKey": "a", "TagValue": "b"}])
        created = self._new_key(Description=description, Origin="Aliyun_KMS", Tags=tags)
        check_metadata(created, Description=description, KeyState="Enabled", Origin="Aliyun_KMS")
        made = datetime.fromisoformat(created["CreationDate"])
        expect(abs(datetime.now(UTC) - made) < timedelta(minutes=10), f"CreationDate {made} is not now")
        described = self._metadata(created["KeyId"])
        for name in created:
            equal(f"{name} of DescribeKey", described.get(name), created[name])
        equal("DeletionProtection", described.get("DeletionProtection"), "Disabled")
        check_metadata(self._new_key(), Description="", KeyState="Enabled", Origin="Aliyun_KMS")

    def create_refusals(self) -> None:
        for bad in ({"Origin": "aliyun_kms"}, {"Description": "x" * 8193}, {"KeyUsage": "x"}, {"KeySpec": "x"}):
            self._refused(400, "InvalidParameter", "CreateKey", **bad)

    def rotating_key(self) -> None:
        for interval, seconds in (("7d", 604800), ("604800s", 604800), ("730d", 63072000)):
            key = self._new_key(EnableAutomaticRotation=True, RotationInterval=interval)
            equal("AutomaticRotation", key["AutomaticRotation"], "Enabled")
            equal("RotationInterval", key["RotationInterval"], f"{seconds}s")
        for bad in ("6d", "731d", "7", "x"):
            self._refused(400, "InvalidParameter", "CreateKey", EnableAutomaticRotation=True, RotationInterval=bad)

    def list_keys(self) -> None:
        made = {self._new_id() for _ in range(3)}
        found = {entry["KeyId"]: entry["KeyArn"] for entry in self._pages("ListKeys", "Keys", "Key")}
        # Keys that other steps make meanwhile may push one over the edge of a page: it is looked for again.
        if not made <= found.keys():
            found = {entry["KeyId"]: entry["KeyArn"] for entry in self._pages("ListKeys", "Keys", "Key")}
        expect(made <= found.keys(), f"of the keys made, {made - found.keys()} are not listed")
        for key_id, arn in found.items():
            expect(bool(re.fullmatch(rf"acs:kms:[\w-]+:\d+:key/{key_id}", arn)), f"KeyArn is {arn}")
        default = self.call("ListKeys")
        equal("the first page", (default["PageNumber"], default["PageSize"]), (1, 10))
        beyond = self.call("ListKeys", PageNumber=10_000, PageSize=100)
        equal("a page beyond the last", beyond["Keys"]["Key"], [])
        for bad in ({"PageSize": 0}, {"PageSize": 101}, {"PageNumber": 0}, {"PageNumber": "x"}):
            self._refused(400, "InvalidParameter", "ListKeys", **bad)

    def enabling(self) -> None:
        key_id = self._new_id()
        for _ in range(2):
            self.call("DisableKey", KeyId=key_id)
            equal("KeyState", self._metadata(key_id)["KeyState"], "Disabled")
        for _ in range(2):
            self.call("EnableKey", KeyId=key_id)
            equal("KeyState", self._metadata(key_id)["KeyState"], "Enabled")

    def description(self) -> None:
        key_id = self._new_id()
        for text in ("ü" * 300, ""):
            self.call("UpdateKeyDescription", KeyId=key_id, Description=text)
            equal("Description", self._metadata(key_id)["Description"], text)
        self._refused(400, "InvalidParameter", "UpdateKeyDescription", KeyId=key_id, Description="x" * 8193)

    def deletion(self) -> None:
        key_id = self._new_id()
        for days in (7, 366):
            self.call("ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=days)
            described = self._metadata(key_id)
            equal("KeyState", described["KeyState"], "PendingDeletion")
            check_in_days("DeleteDate", described["DeleteDate"], days)
            self.call("CancelKeyDeletion", KeyId=key_id)
            described = self._metadata(key_id)
            equal("KeyState, DeleteDate after it", (described["KeyState"], described["DeleteDate"]), ("Enabled", ""))
        for days in (6, 367, 0, -1):
            self._refused(400, "InvalidParameter", "ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=days)

    def deletion_protection(self) -> None:
        key = self._new_key()
        protect = partial(self.call, "SetDeletionProtection", ProtectedResourceArn=key["Arn"])
        protect(EnableDeletionProtection=True)
        equal("DeletionProtection", self._metadata(key["KeyId"])["DeletionProtection"], "Enabled")
        self._rejected("ScheduleKeyDeletion", KeyId=key["KeyId"], PendingWindowInDays=7)
        equal("KeyState", self._metadata(key["KeyId"])["KeyState"], "Enabled")
        protect(EnableDeletionProtection=False)
        equal("DeletionProtection", self._metadata(key["KeyId"])["DeletionProtection"], "Disabled")
        self.call("ScheduleKeyDeletion", KeyId=key["KeyId"], PendingWindowInDays=7)

    def _rejected(self, operation: str, **parameters: object) -> None:
        """Alibaba Cloud has published no code for a protected key; ours has the style of the others."""
        try:
            self.call(operation, **parameters)
        except ApiError as error:
            fits = error.status == 409 and error.code.startswith("Rejected.") and error.message
            expect(bool(fits), f"got {error}, wanted 409 Rejected.…")
            return
        raise Mismatch(f"{operation} succeeded on a protected key")

    # ---- names of keys ---------------------------------------------------------------------------

    def key_names(self) -> None:
        key = self._new_key()
        alias = self._new_alias(key["KeyId"])
        for name in (key["KeyId"], key["Arn"], alias):
            equal(f"DescribeKey of {name}", self._metadata(name)["KeyId"], key["KeyId"])
            for operation, more in (
                ("Encrypt", {"Plaintext": b64(b"x")}),
                ("GenerateDataKey", {}),
                ("GenerateDataKeyWithoutPlaintext", {}),
            ):
                equal(
                    f"KeyId of {operation} with {name}", self.call(operation, KeyId=name, **more)["KeyId"], key["KeyId"]
                )

    def unknown_keys(self) -> None:
        arn = self._new_key()["Arn"].rpartition("/")[0]
        for name in (MISSING, f"{arn}/{MISSING}"):
            self._refused(404, "Forbidden.KeyNotFound", "DescribeKey", KeyId=name)
            self._refused(404, "Forbidden.KeyNotFound", "Encrypt", KeyId=name, Plaintext=b64(b"x"))
            self._refused(404, "Forbidden.KeyNotFound", "DisableKey", KeyId=name)
        self._refused(404, "Forbidden.AliasNotFound", "DescribeKey", KeyId="alias/no-such-alias")
        self._refused(404, "Forbidden.AliasNotFound", "Encrypt", KeyId="alias/no-such-alias", Plaintext=b64(b"x"))
        for operation in ("DescribeKey", "EnableKey", "ListKeyVersions", "ScheduleKeyDeletion", "GenerateDataKey"):
            self._refused(400, "MissingParameter", operation)

    # ---- cryptography ----------------------------------------------------------------------------

    def encrypt_and_decrypt(self) -> None:
        key = self._new_key()
        for length in (1, 1024, 4097, 6144):
            plaintext = b64(os.urandom(length))
            sealed = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=plaintext, EncryptionContext=CONTEXT)
            check_sealed(sealed, key)
            opened = self.call("Decrypt", CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=CONTEXT)
            expect(opened["Plaintext"] == plaintext, f"{length} bytes came back otherwise")
            equal("KeyId", opened["KeyId"], key["KeyId"])
            equal("KeyVersionId", opened["KeyVersionId"], sealed["KeyVersionId"])
        twice = [self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b64(b"x"))["CiphertextBlob"] for _ in range(2)]
        expect(twice[0] != twice[1], "the same plaintext encrypts to the same ciphertext")

    def plaintext_limits(self) -> None:
        key_id = self._new_id()
        self._refused(400, "MissingParameter", "Encrypt", KeyId=key_id)
        for plaintext in (b64(b"x" * 6145), "not base64!", "eA"):
            self._refused(400, "InvalidParameter", "Encrypt", KeyId=key_id, Plaintext=plaintext)
        self._refused(400, "MissingParameter", "Decrypt")
        self._refused(400, "InvalidParameter", "Decrypt", CiphertextBlob="not base64!")

    def encryption_context(self) -> None:
        key_id = self._new_id()
        context = {"ab": "c", "d": "e"}
        blob = self.call("Encrypt", KeyId=key_id, Plaintext=b64(b"x"), EncryptionContext=context)["CiphertextBlob"]
        self.call("Decrypt", CiphertextBlob=blob, EncryptionContext={"d": "e", "ab": "c"})
        codes = set()
        for other in (None, {"ab": "c"}, {"a": "bc", "d": "e"}, {"AB": "c", "d": "e"}, {"ab": "c", "d": "e", "f": ""}):
            given = {} if other is None else {"EncryptionContext": other}
            codes.add(self._bad_ciphertext("Decrypt", CiphertextBlob=blob, **given))
        broken = base64.b64decode(blob)
        for bad in (broken[:-1] + bytes([broken[-1] ^ 1]), broken[:-1], broken + b"\0", b"not a ciphertext"):
            codes.add(self._bad_ciphertext("Decrypt", CiphertextBlob=b64(bad), EncryptionContext=context))
        equal("the number of codes for what does not decrypt", len(codes), 1)
        plain = self.call("Encrypt", KeyId=key_id, Plaintext=b64(b"x"))["CiphertextBlob"]
        self.call("Decrypt", CiphertextBlob=plain, EncryptionContext={})

    def _bad_ciphertext(self, operation: str, **parameters: object) -> str:
        """Alibaba Cloud has published no code for a ciphertext that does not decrypt."""
        try:
            self.call(operation, **parameters)
        except ApiError as error:
            expect(error.status == 400 and bool(error.code and error.message), f"got {error}, wanted a 400")
            return error.code
        raise Mismatch(f"{operation} succeeded with a ciphertext or context that is wrong")

    def long_context(self) -> None:
        key_id = self._new_id()
        encrypt = partial(self.call, "Encrypt", KeyId=key_id, Plaintext=b64(b"x"))
        encrypt(EncryptionContext={"k": "v" * 8000})
        refused(partial(encrypt, EncryptionContext={"k": "v" * 8192}), "InvalidParameter", 400)

    def re_encrypt(self) -> None:
        source, target = self._new_key(), self._new_key()
        plaintext = b64(b"moved")
        sealed = self.call("Encrypt", KeyId=source["KeyId"], Plaintext=plaintext, EncryptionContext=CONTEXT)
        moved = self.call(
            "ReEncrypt",
            CiphertextBlob=sealed["CiphertextBlob"],
            SourceEncryptionContext=CONTEXT,
            DestinationKeyId=target["KeyId"],
            DestinationEncryptionContext={"new": "context"},
        )
        # KeyId and KeyVersionId are those of the ciphertext that was given.
        check_sealed(moved, source)
        context = {"EncryptionContext": {"new": "context"}}
        opened = self.call("Decrypt", CiphertextBlob=moved["CiphertextBlob"], **context)
        equal("the plaintext and its key", (opened["Plaintext"], opened["KeyId"]), (plaintext, target["KeyId"]))
        blob = sealed["CiphertextBlob"]
        self._bad_ciphertext("ReEncrypt", CiphertextBlob=blob, DestinationKeyId=target["KeyId"])

    def data_keys(self) -> None:
        key = self._new_key()
        both = {"KeySpec": "AES_128", "NumberOfBytes": 64}
        for length, wanted in (
            (32, {}),
            (16, {"KeySpec": "AES_128"}),
            (32, {"KeySpec": "AES_256"}),
            (1, {"NumberOfBytes": 1}),
            (1024, {"NumberOfBytes": 1024}),
            (64, both),
        ):
            made = self.call("GenerateDataKey", KeyId=key["KeyId"], EncryptionContext=CONTEXT, **wanted)
            check_sealed(made, key)
            equal(f"the length of a data key of {wanted}", len(base64.b64decode(made["Plaintext"])), length)
            opened = self.call("Decrypt", CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
            expect(opened["Plaintext"] == made["Plaintext"], "the data key decrypts to something else")
        without = self.call("GenerateDataKeyWithoutPlaintext", KeyId=key["KeyId"], NumberOfBytes=24)
        check_sealed(without, key)
        expect("Plaintext" not in without, "GenerateDataKeyWithoutPlaintext shows the plaintext")
        opened = self.call("Decrypt", CiphertextBlob=without["CiphertextBlob"])
        equal("its length", len(base64.b64decode(opened["Plaintext"])), 24)
        for wrong in ({"NumberOfBytes": 0}, {"NumberOfBytes": 1025}, {"KeySpec": "aes_256"}, {"NumberOfBytes": "x"}):
            for operation in ("GenerateDataKey", "GenerateDataKeyWithoutPlaintext"):
                self._refused(400, "InvalidParameter", operation, KeyId=key["KeyId"], **wrong)

    def dry_run(self) -> None:
        """DryRun fails always: of a call that would have worked with a code of its own, else as the call does.

        Its HTTP status is not published.
        """
        key_id = self._new_id()
        try:
            self.call("Encrypt", KeyId=key_id, Plaintext=b64(b"x"), DryRun="true")
        except ApiError as error:
            equal("the code", error.code, "DryRunOperationError")
        else:
            raise Mismatch("Encrypt with DryRun answers a ciphertext")
        self.call("Encrypt", KeyId=key_id, Plaintext=b64(b"x"), DryRun="false")
        self._refused(404, "Forbidden.KeyNotFound", "Encrypt", KeyId=MISSING, Plaintext=b64(b"x"), DryRun="true")

    # ---- aliases and tags ------------------------------------------------------------------------

    def aliases(self) -> None:
        first, second = self._new_key(), self._new_key()
        alias = self._new_alias(first["KeyId"])
        listed = self.call("ListAliasesByKeyId", KeyId=first["KeyId"])
        equal("TotalCount", listed["TotalCount"], 1)
        arn = first["Arn"].rpartition(":key/")[0] + ":" + alias
        wanted = {"KeyId": first["KeyId"], "AliasName": alias, "AliasArn": arn}
        equal("the alias of the key", listed["Aliases"]["Alias"], [wanted])
        self._refused(400, "AliasAlreadyExists", "CreateAlias", AliasName=alias, KeyId=second["KeyId"])
        self.call("UpdateAlias", AliasName=alias, KeyId=second["KeyId"])
        equal("the key of the alias", self._metadata(alias)["KeyId"], second["KeyId"])
        equal("TotalCount of the first", self.call("ListAliasesByKeyId", KeyId=first["KeyId"])["TotalCount"], 0)
        self.call("DeleteAlias", AliasName=alias)
        self._refused(404, "Forbidden.AliasNotFound", "DescribeKey", KeyId=alias)
        self._refused(404, "Forbidden.AliasNotFound", "DeleteAlias", AliasName=alias)
        self._refused(404, "Forbidden.AliasNotFound", "UpdateAlias", AliasName=alias, KeyId=first["KeyId"])

    def alias_names(self) -> None:
        key_id = self._new_id()
        for name in ("orders", "alias/", "alias/a b", "alias/" + "a" * 250):
            self._refused(400, "InvalidParameter", "CreateAlias", AliasName=name, KeyId=key_id)
        self._refused(400, "InvalidParameter", "CreateAlias", AliasName="alias/acs/x", KeyId=key_id)

    def alias_pages(self) -> None:
        made = {self._new_alias(self._new_id()) for _ in range(3)}
        # One that others delete meanwhile moves the next ones to the page that was read.
        eventually("all are listed", lambda: made <= self._names(), 60)

    def _names(self) -> set[str]:
        return {str(entry["AliasName"]) for entry in self._pages("ListAliases", "Aliases", "Alias")}

    def tags(self) -> None:
        key_id = self._new_key(Tags=json.dumps([{"TagKey": "team", "TagValue": "orders"}]))["KeyId"]
        tags = [{"TagKey": "team", "TagValue": "shop + co/ü"}, {"TagKey": "größe", "TagValue": ""}]
        self.call("TagResource", KeyId=key_id, Tags=json.dumps(tags))
        listed = self.call("ListResourceTags", KeyId=key_id)["Tags"]["Tag"]
        equal("the tags", sorted(listed, key=str), sorted([{"KeyId": key_id, **tag} for tag in tags], key=str))
        self.call("UntagResource", KeyId=key_id, TagKeys=json.dumps(["team", "none"]))
        left = [entry["TagKey"] for entry in self.call("ListResourceTags", KeyId=key_id)["Tags"]["Tag"]]
        equal("the tags left", left, ["größe"])
        many = [{"TagKey": f"k{number}", "TagValue": ""} for number in range(20)]
        # One and twenty: over the limit, in whichever of the two codes.
        try:
            self.call("TagResource", KeyId=key_id, Tags=json.dumps(many))
        except ApiError as error:
            expect(error.code in ("Rejected.LimitExceeded", "InvalidParameter"), f"got {error} for 21 tags")
        else:
            raise Mismatch("a key takes 21 tags")
        for bad in ("not json", "{}", '[{"TagKey":"a"', json.dumps([{"TagValue": "b"}])):
            self._refused(400, "InvalidParameter", "TagResource", KeyId=key_id, Tags=bad)

    # ---- versions and rotation -----------------------------------------------------------------------

    def versions(self) -> None:
        key = self._new_key()
        old = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b64(b"old"))
        version = self.call("CreateKeyVersion", KeyId=key["KeyId"])["KeyVersion"]
        check_version(version, key)
        equal("PrimaryKeyVersion", self._metadata(key["KeyId"])["PrimaryKeyVersion"], version["KeyVersionId"])
        new = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b64(b"new"))
        equal("the version that encrypts", new["KeyVersionId"], version["KeyVersionId"])
        opened = self.call("Decrypt", CiphertextBlob=old["CiphertextBlob"])
        equal(
            "the old plaintext and version",
            (opened["Plaintext"], opened["KeyVersionId"]),
            (b64(b"old"), old["KeyVersionId"]),
        )
        self.call("CreateKeyVersion", KeyId=key["KeyId"])
        listed = list(self._pages("ListKeyVersions", "KeyVersions", "KeyVersion", KeyId=key["KeyId"]))
        equal("the number of versions", len({entry["KeyVersionId"] for entry in listed}), 3)
        for entry in listed:
            check_version(entry, key)
        named = {"KeyId": key["KeyId"], "KeyVersionId": version["KeyVersionId"]}
        equal("DescribeKeyVersion", self.call("DescribeKeyVersion", **named)["KeyVersion"], version)
        named["KeyVersionId"] = MISSING
        self._refused(404, "Forbidden.KeyVersionNotFound", "DescribeKeyVersion", **named)

    def rotation_policy(self) -> None:
        key_id = self._new_id()
        update = partial(self.call, "UpdateRotationPolicy", KeyId=key_id)
        update(EnableAutomaticRotation=True, RotationInterval="30d")
        described = self._metadata(key_id)
        rotation = (described["AutomaticRotation"], described["RotationInterval"])
        equal("AutomaticRotation, RotationInterval", rotation, ("Enabled", "2592000s"))
        check_in_days("NextRotationDate", described["NextRotationDate"], 30)
        self.call("DisableKey", KeyId=key_id)
        equal("AutomaticRotation of a disabled key", self._metadata(key_id)["AutomaticRotation"], "Suspended")
        self.call("EnableKey", KeyId=key_id)
        update(EnableAutomaticRotation=False)
        equal("AutomaticRotation", self._metadata(key_id)["AutomaticRotation"], "Disabled")
        for bad in ("6d", "731d", "x"):
            refused(partial(update, EnableAutomaticRotation=True, RotationInterval=bad), "InvalidParameter", 400)
        refused(update, "MissingParameter", 400)

    # ---- import ----------------------------------------------------------------------------------------

    def imported(self) -> None:
        key = self._new_key(Origin="EXTERNAL")
        check_metadata(key, Description="", KeyState="PendingImport", Origin="EXTERNAL")
        material = os.urandom(32)
        self._import(key["KeyId"], material, "RSAES_OAEP_SHA_256")
        described = self._metadata(key["KeyId"])
        equal("KeyState, expiry", (described["KeyState"], described["MaterialExpireTime"]), ("Enabled", ""))
        blob = self.call("Encrypt", KeyId=key["KeyId"], Plaintext=b64(b"kept"))["CiphertextBlob"]
        self.call("DeleteKeyMaterial", KeyId=key["KeyId"])
        equal("KeyState", self._metadata(key["KeyId"])["KeyState"], "PendingImport")
        refused(lambda: self._import(key["KeyId"], os.urandom(32), "RSAES_OAEP_SHA_256"), "InvalidKeyMaterial", 400)
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=500)
        self._import(key["KeyId"], material, "RSAES_OAEP_SHA_1", int(until.timestamp()))
        expiry = self._metadata(key["KeyId"])["MaterialExpireTime"]
        equal("MaterialExpireTime", expiry, until.strftime("%Y-%m-%dT%H:%M:%SZ"))
        equal("the old ciphertext", self.call("Decrypt", CiphertextBlob=blob)["Plaintext"], b64(b"kept"))

    def _import(self, key_id: str, material: bytes, algorithm: str, until: int = 0) -> None:
        wrapping = {"WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"}
        parameters = self.call("GetParametersForImport", KeyId=key_id, **wrapping)
        equal("KeyId", parameters["KeyId"], key_id)
        check_in_days("TokenExpireTime", parameters["TokenExpireTime"], 1)
        sealed = wrapped(material, base64.b64decode(parameters["PublicKey"]), algorithm)
        self.call(
            "ImportKeyMaterial",
            KeyId=key_id,
            ImportToken=parameters["ImportToken"],
            EncryptedKeyMaterial=b64(sealed),
            KeyMaterialExpireUnix=until,
        )

    def import_refusals(self) -> None:
        key_id, other = (self._new_key(Origin="EXTERNAL")["KeyId"] for _ in range(2))
        wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
        parameters = self.call("GetParametersForImport", KeyId=key_id, **wrapping)
        public_key = base64.b64decode(parameters["PublicKey"])

        def submit(code: str, **changed: object) -> None:
            usual = {
                "KeyId": key_id,
                "ImportToken": parameters["ImportToken"],
                "EncryptedKeyMaterial": b64(wrapped(os.urandom(32), public_key)),
                "KeyMaterialExpireUnix": 0,
            }
            self._refused(400, code, "ImportKeyMaterial", **{**usual, **changed})

        submit("InvalidImportToken", KeyId=other)
        token = base64.b64decode(parameters["ImportToken"])
        submit("InvalidImportToken", ImportToken=b64(token[:-1] + bytes([token[-1] ^ 1])))
        submit("InvalidKeyMaterial", EncryptedKeyMaterial=b64(os.urandom(256)))
        for length in (16, 31, 33):
            submit("InvalidKeyMaterial", EncryptedKeyMaterial=b64(wrapped(os.urandom(length), public_key)))
        submit("InvalidParameter", KeyMaterialExpireUnix=1_500_000_000)
        equal("the state", self._metadata(key_id)["KeyState"], "PendingImport")
        for wrong in ({"WrappingAlgorithm": "RSAES"}, {"WrappingKeySpec": "RSA_1024"}):
            self._refused(400, "InvalidParameter", "GetParametersForImport", KeyId=key_id, **{**wrapping, **wrong})

    # ---- what is not served --------------------------------------------------------------------------------

    def unsupported(self) -> None:
        """The code for an action that is not served is not published for KMS."""
        try:
            self.call("ListSecrets")
        except ApiError as error:
            expect(400 <= error.status < 500 and bool(error.message), f"got {error}, wanted a 4xx with a sentence")
            return
        raise Mismatch("ListSecrets succeeded")


def main() -> int:
    # The old SDK logs every error that is answered.
    logging.disable()
    config = Config.load(sys.argv[1:])
    old = AlibabaV1Kms(config)
    tours = [(kms.name, Tour(kms)) for kms in (AlibabaV3Kms(config), old, AlibabaV1Kms(config, "GET"))]
    reports, tasks = [], []
    for name, tour in [*tours, (f"{old.name} XML", XmlTour(old))]:
        reports.append(Report(f"Alibaba tour, {name}", "steps"))
        tasks += steps(tour, reports[-1])
    in_parallel(12, tasks)
    return max(report.finish() for report in reports)


if __name__ == "__main__":
    sys.exit(main())
