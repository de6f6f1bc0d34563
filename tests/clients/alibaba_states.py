#!/usr/bin/env python3
"""Every cell of the Alibaba Cloud KMS state table, through both of its Python SDKs.

    alibaba_states.py [CONFIG.json]    (else the JSON is on stdin; see harness.Config)

Prints a line for each cell that is not as documented, and a summary; the exit status is 1 where there is one.
Source: Alibaba Cloud KMS documentation, "Impact of CMK states on API call".
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Callable, Sequence

from drivers import AlibabaV1Kms, AlibabaV3Kms, Answer
from harness import Config, wrapped
from states import OK, PLAINTEXT, Key, Refusal, Row, Stage, play, row

D = Refusal("Rejected.Disabled", 409)
PD = Refusal("Rejected.PendingDeletion", 409)
PI = Refusal("Rejected.PendingImport", 409)
SM = Refusal("Rejected.StateModifiedFailed", 409)
ORIGIN = Refusal("Unsupported.Origin", 400)

TAGS = json.dumps([{"TagKey": "stage", "TagValue": "states"}])
TEXT = base64.b64encode(PLAINTEXT).decode()
ALL_OK = (OK, OK, OK, OK)


class AlibabaStage(Stage):
    alias_target = "KeyId"

    def create(self, external: bool) -> Key:
        origin = "EXTERNAL" if external else "Aliyun_KMS"
        metadata = self.kms.call("CreateKey", Description="state table", Origin=origin, Tags=TAGS)["KeyMetadata"]
        return Key(metadata["KeyId"], metadata["Arn"], external)

    def fetch_import_parameters(self, key: Key) -> dict[str, object]:
        got = get_parameters_for_import(self, key)
        sealed = wrapped(key.material, base64.b64decode(got["PublicKey"]))
        return {
            "ImportToken": got["ImportToken"],
            "EncryptedKeyMaterial": base64.b64encode(sealed).decode(),
            "KeyMaterialExpireUnix": 0,
        }

    def encrypt(self, key: Key) -> Answer:
        return self.kms.call("Encrypt", KeyId=key.id, Plaintext=TEXT)

    def delete_material(self, key: Key) -> None:
        self.kms.call("DeleteKeyMaterial", KeyId=key.id)


def get_parameters_for_import(stage: Stage, key: Key) -> Answer:
    algorithm = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    return stage.kms.call("GetParametersForImport", KeyId=key.id, **algorithm)


def on_key(operation: str, **parameters: object) -> Callable[[Stage, Key], object]:
    return lambda stage, key: stage.kms.call(operation, KeyId=key.id, **parameters)


def decrypt(stage: Stage, key: Key) -> object:
    return stage.kms.call("Decrypt", CiphertextBlob=key.ciphertext)


def re_encrypt_from(stage: Stage, key: Key) -> object:
    return stage.kms.call("ReEncrypt", CiphertextBlob=key.ciphertext, DestinationKeyId=stage.other().id)


def re_encrypt_to(stage: Stage, key: Key) -> object:
    return stage.kms.call("ReEncrypt", CiphertextBlob=stage.other().ciphertext, DestinationKeyId=key.id)


def create_alias(stage: Stage, key: Key) -> None:
    key.alias = stage.new_alias(key)


def alias_of_another(stage: Stage, key: Key) -> None:
    key.alias = stage.new_alias(stage.create(external=False))


def update_alias(stage: Stage, key: Key) -> object:
    return stage.kms.call("UpdateAlias", AliasName=key.alias, KeyId=key.id)


def delete_alias(stage: Stage, key: Key) -> None:
    stage.kms.call("DeleteAlias", AliasName=key.alias)


def describe_key_version(stage: Stage, key: Key) -> object:
    return stage.kms.call("DescribeKeyVersion", KeyId=key.id, KeyVersionId=key.version_id)


def protection(enabled: bool) -> Callable[[Stage, Key], object]:
    return lambda stage, key: stage.kms.call(
        "SetDeletionProtection", ProtectedResourceArn=key.arn, EnableDeletionProtection=enabled
    )


def cryptography() -> list[Row]:
    outcomes = row((OK, D, PD, PI))
    acts: list[tuple[str, Callable[[Stage, Key], object]]] = [
        ("Encrypt", on_key("Encrypt", Plaintext=TEXT)),
        ("Decrypt", decrypt),
        ("ReEncrypt, the source", re_encrypt_from),
        ("ReEncrypt, the destination", re_encrypt_to),
        ("GenerateDataKey", on_key("GenerateDataKey", KeySpec="AES_256")),
        ("GenerateDataKeyWithoutPlaintext", on_key("GenerateDataKeyWithoutPlaintext", NumberOfBytes=24)),
    ]
    return [Row(name, act, outcomes, repeatable=True) for name, act in acts]


def rotation() -> list[Row]:
    outcomes = row((OK, D, PD, PI))
    rotate = on_key("UpdateRotationPolicy", EnableAutomaticRotation=True, RotationInterval="365d")
    return [
        Row("CreateKeyVersion", on_key("CreateKeyVersion"), outcomes),
        Row("UpdateRotationPolicy", rotate, outcomes),
        # Keys with imported material never rotate.
        Row("CreateKeyVersion", on_key("CreateKeyVersion"), {"Enabled": ORIGIN}, external=True),
        Row("UpdateRotationPolicy", rotate, {"Enabled": ORIGIN}, external=True),
    ]


def life() -> list[Row]:
    to_deletion = dict.fromkeys(("Enabled", "Disabled", "PendingImport"), ("PendingDeletion",))
    schedule = on_key("ScheduleKeyDeletion", PendingWindowInDays=7)
    cancelled = {"PendingDeletion": ("Enabled",)}
    return [
        Row("EnableKey", on_key("EnableKey"), row((OK, OK, SM, SM)), after={"Disabled": ("Enabled",)}),
        Row("DisableKey", on_key("DisableKey"), row((OK, OK, SM, SM)), after={"Enabled": ("Disabled",)}),
        Row("ScheduleKeyDeletion", schedule, row((OK, OK, SM, OK)), after=to_deletion),
        Row("CancelKeyDeletion", on_key("CancelKeyDeletion"), row((SM, SM, OK, SM)), after=cancelled),
    ]


def metadata() -> list[Row]:
    outcomes = row((OK, OK, PD, OK))
    tags = json.dumps([{"TagKey": "a", "TagValue": "b"}])
    unprotect = protection(False)
    return [
        Row("CreateAlias", create_alias, row((OK, OK, SM, OK)), undo=delete_alias),
        Row("UpdateAlias, the target", update_alias, outcomes, prepare=alias_of_another),
        Row("UpdateKeyDescription", on_key("UpdateKeyDescription", Description="changed"), outcomes),
        Row("TagResource", on_key("TagResource", Tags=tags), outcomes),
        Row("UntagResource", on_key("UntagResource", TagKeys=json.dumps(["stage"])), outcomes),
        Row(
            "SetDeletionProtection", protection(True), outcomes, undo=lambda stage, key: _ignore(unprotect(stage, key))
        ),
    ]


def _ignore(_answer: object) -> None:
    """An undo answers nothing."""


def imports() -> list[Row]:
    # Whether importing the same material again also enables a Disabled key is not documented.
    after_import = {"PendingImport": ("Enabled",), "Disabled": ("Disabled", "Enabled")}
    after_delete = {"Enabled": ("PendingImport",), "Disabled": ("PendingImport",)}
    delete = on_key("DeleteKeyMaterial")
    external = [
        Row("GetParametersForImport", get_parameters_for_import, row(ALL_OK), external=True),
        Row("ImportKeyMaterial", Stage.import_material, row((OK, OK, SM, OK)), external=True, after=after_import),
        Row("DeleteKeyMaterial", delete, row(ALL_OK), external=True, after=after_delete, own_key=True),
    ]
    junk = {"ImportToken": "eHh4eA==", "EncryptedKeyMaterial": base64.b64encode(bytes(256)).decode()}
    junk_import = on_key("ImportKeyMaterial", **junk, KeyMaterialExpireUnix=0)
    generated = [
        Row("GetParametersForImport", get_parameters_for_import, {"Enabled": ORIGIN}),
        Row("ImportKeyMaterial", junk_import, {"Enabled": ORIGIN}),
        Row("DeleteKeyMaterial", delete, {"Enabled": ORIGIN}),
    ]
    return external + generated


def reading() -> list[Row]:
    page = {"PageNumber": 1, "PageSize": 10}
    acts: list[tuple[str, Callable[[Stage, Key], object]]] = [
        ("DescribeKey", on_key("DescribeKey")),
        ("ListKeys", lambda stage, _key: stage.kms.call("ListKeys", **page)),
        ("ListAliases", lambda stage, _key: stage.kms.call("ListAliases", **page)),
        ("ListAliasesByKeyId", on_key("ListAliasesByKeyId", **page)),
        ("ListResourceTags", on_key("ListResourceTags")),
        ("ListKeyVersions", on_key("ListKeyVersions", **page)),
        ("DescribeKeyVersion", describe_key_version),
    ]
    delete = Row("DeleteAlias", delete_alias, row(ALL_OK), prepare=create_alias)
    return [*(Row(name, act, row(ALL_OK)) for name, act in acts), delete]


def table() -> Sequence[Row]:
    return [*cryptography(), *rotation(), *life(), *metadata(), *imports(), *reading()]


def main() -> int:
    # The old SDK logs every error that is answered.
    logging.disable()
    config = Config.load(sys.argv[1:])
    sdks = (AlibabaV3Kms(config), AlibabaV1Kms(config))
    return play("Alibaba states", [(AlibabaStage(kms), table()) for kms in sdks])


if __name__ == "__main__":
    sys.exit(main())
