#!/usr/bin/env python3
"""Every cell of the AWS KMS state table (symmetric keys), through boto3.

    aws_states.py [CONFIG.json]        (else the JSON is on stdin; see harness.Config)

Prints a line for each cell that is not as documented, and a summary; the exit status is 1 where there is one.
Sources: AWS KMS developer guide, "Key states of AWS KMS keys"; PyPI botocore's kms/2014-11-01/service-2.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from drivers import Answer, AwsKms
from harness import Config, wrapped
from states import OK, PLAINTEXT, Key, Refusal, Row, Stage, play, row

D = Refusal("DisabledException", 400, "{arn} is disabled.")
PD = Refusal("KMSInvalidStateException", 400, "{arn} is pending deletion.")
PI = Refusal("KMSInvalidStateException", 400, "{arn} is pending import.")
NOT_PD = Refusal("KMSInvalidStateException", 400, "{arn} is not pending deletion.")
UNSUPPORTED = Refusal("UnsupportedOperationException", 400)

TAG = {"TagKey": "stage", "TagValue": "states"}
ALL_OK = (OK, OK, OK, OK)


class AwsStage(Stage):
    alias_target = "TargetKeyId"

    def create(self, external: bool) -> Key:
        origin = "EXTERNAL" if external else "AWS_KMS"
        metadata = self.kms.call("CreateKey", Description="state table", Origin=origin, Tags=[TAG])["KeyMetadata"]
        return Key(metadata["KeyId"], metadata["Arn"], external)

    def fetch_import_parameters(self, key: Key) -> dict[str, object]:
        got = get_parameters_for_import(self, key)
        return {
            "ImportToken": got["ImportToken"],
            "EncryptedKeyMaterial": wrapped(key.material, got["PublicKey"]),
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
        }

    def encrypt(self, key: Key) -> Answer:
        return self.kms.call("Encrypt", KeyId=key.id, Plaintext=PLAINTEXT)

    def delete_material(self, key: Key) -> None:
        self.kms.call("DeleteImportedKeyMaterial", KeyId=key.id)


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
    return stage.kms.call("UpdateAlias", AliasName=key.alias, TargetKeyId=key.id)


def delete_alias(stage: Stage, key: Key) -> None:
    stage.kms.call("DeleteAlias", AliasName=key.alias)


def cryptography() -> list[Row]:
    outcomes = row((OK, D, PD, PI))
    acts: list[tuple[str, Callable[[Stage, Key], object]]] = [
        ("Encrypt", on_key("Encrypt", Plaintext=PLAINTEXT)),
        ("Decrypt", decrypt),
        ("ReEncrypt, the source", re_encrypt_from),
        ("ReEncrypt, the destination", re_encrypt_to),
        ("GenerateDataKey", on_key("GenerateDataKey", KeySpec="AES_256")),
        ("GenerateDataKeyWithoutPlaintext", on_key("GenerateDataKeyWithoutPlaintext", NumberOfBytes=24)),
    ]
    return [Row(name, act, outcomes, repeatable=True) for name, act in acts]


def life() -> list[Row]:
    schedule = on_key("ScheduleKeyDeletion", PendingWindowInDays=7)
    to_deletion = dict.fromkeys(("Enabled", "Disabled", "PendingImport"), ("PendingDeletion",))
    return [
        Row("EnableKey", on_key("EnableKey"), row((OK, OK, PD, PI)), after={"Disabled": ("Enabled",)}),
        Row("DisableKey", on_key("DisableKey"), row((OK, OK, PD, PI)), after={"Enabled": ("Disabled",)}),
        Row("ScheduleKeyDeletion", schedule, row((OK, OK, PD, OK)), after=to_deletion),
        Row(
            "CancelKeyDeletion",
            on_key("CancelKeyDeletion"),
            row((NOT_PD, NOT_PD, OK, NOT_PD)),
            after={"PendingDeletion": ("Disabled",)},
        ),
    ]


def metadata() -> list[Row]:
    outcomes = row((OK, OK, PD, OK))
    return [
        Row("CreateAlias", create_alias, outcomes, undo=delete_alias),
        Row("UpdateAlias, the target", update_alias, outcomes, prepare=alias_of_another),
        Row("TagResource", on_key("TagResource", Tags=[{"TagKey": "a", "TagValue": "b"}]), outcomes),
        Row("UntagResource", on_key("UntagResource", TagKeys=["stage"]), outcomes),
        Row("UpdateKeyDescription", on_key("UpdateKeyDescription", Description="changed"), outcomes),
    ]


def rotation() -> list[Row]:
    outcomes = row((OK, D, PD, UNSUPPORTED))
    generated = [
        Row("EnableKeyRotation", on_key("EnableKeyRotation", RotationPeriodInDays=365), outcomes),
        Row("DisableKeyRotation", on_key("DisableKeyRotation"), outcomes),
        Row("RotateKeyOnDemand", on_key("RotateKeyOnDemand"), row((OK, D, PD, PI))),
    ]
    # Keys with imported material never rotate here, also not on demand.
    of_imported = {"Enabled": UNSUPPORTED}
    imported = [
        Row(name, on_key(name), of_imported, external=True)
        for name in ("EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand")
    ]
    return generated + imported


def imports() -> list[Row]:
    outcomes = row((OK, OK, PD, OK))
    # Whether importing the same material again also enables a Disabled key is not documented.
    after_import = {"PendingImport": ("Enabled",), "Disabled": ("Disabled", "Enabled")}
    after_delete = {"Enabled": ("PendingImport",), "Disabled": ("PendingImport",)}
    delete = on_key("DeleteImportedKeyMaterial")
    external = [
        Row("GetParametersForImport", get_parameters_for_import, outcomes, external=True),
        Row("ImportKeyMaterial", Stage.import_material, outcomes, external=True, after=after_import),
        Row("DeleteImportedKeyMaterial", delete, row(ALL_OK), external=True, after=after_delete, own_key=True),
    ]
    junk = {
        "ImportToken": b"x" * 64,
        "EncryptedKeyMaterial": b"x" * 256,
        "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
    }
    generated = [
        Row("GetParametersForImport", get_parameters_for_import, {"Enabled": UNSUPPORTED}),
        Row("ImportKeyMaterial", on_key("ImportKeyMaterial", **junk), {"Enabled": UNSUPPORTED}),
        Row("DeleteImportedKeyMaterial", delete, {"Enabled": UNSUPPORTED}),
    ]
    return external + generated


def reading() -> list[Row]:
    acts: list[tuple[str, Callable[[Stage, Key], object]]] = [
        ("DescribeKey", on_key("DescribeKey")),
        ("ListKeys", lambda stage, _key: stage.kms.call("ListKeys", Limit=10)),
        ("ListAliases", on_key("ListAliases")),
        ("ListResourceTags", on_key("ListResourceTags")),
        ("ListKeyPolicies", on_key("ListKeyPolicies")),
        ("ListKeyRotations", on_key("ListKeyRotations")),
        ("GetKeyPolicy", on_key("GetKeyPolicy", PolicyName="default")),
        ("GetKeyRotationStatus", on_key("GetKeyRotationStatus")),
    ]
    delete = Row("DeleteAlias", delete_alias, row(ALL_OK), prepare=create_alias)
    return [*(Row(name, act, row(ALL_OK)) for name, act in acts), delete]


def table() -> Sequence[Row]:
    return [*cryptography(), *life(), *metadata(), *rotation(), *imports(), *reading()]


def main() -> int:
    kms = AwsKms(Config.load(sys.argv[1:]))
    return play("AWS states", [(AwsStage(kms), table())])


if __name__ == "__main__":
    sys.exit(main())
