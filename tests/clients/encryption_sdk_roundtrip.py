#!/usr/bin/env python3
"""The AWS Encryption SDK encrypts and decrypts a message under keys of the endpoint.

encryption_sdk_roundtrip.py [CONFIG.json]      (else the JSON is on stdin; see harness.Config)
"""

from __future__ import annotations

import logging
import os
import sys

import aws_encryption_sdk
import botocore.session
from aws_encryption_sdk.exceptions import DecryptKeyError

from drivers import AwsKms
from harness import Config, Mismatch, Report, equal, expect, steps

CONTEXT = {"app": "shop + co", "stadt": "Köln/Ü~*"}
MESSAGE = b"attack at dawn\x00" * 1000


class RoundTrip:
    """The steps. Each has keys of its own."""

    def __init__(self, config: Config) -> None:
        self._kms = AwsKms(config)
        # The SDK makes its own clients, and finds the endpoint where all AWS SDKs do.
        os.environ.update(config.environment())
        self._client = aws_encryption_sdk.EncryptionSDKClient()

    def _new_arn(self) -> str:
        return self._kms.call("CreateKey", Description="AWS Encryption SDK")["KeyMetadata"]["Arn"]

    def _provider(self, *arns: str) -> aws_encryption_sdk.StrictAwsKmsMasterKeyProvider:
        session = botocore.session.get_session()
        return aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=list(arns), botocore_session=session)

    def _encrypted(self, *arns: str) -> bytes:
        provider = self._provider(*arns)
        sealed, _ = self._client.encrypt(source=MESSAGE, key_provider=provider, encryption_context=CONTEXT)
        return sealed

    def _decrypted(self, sealed: bytes, *arns: str) -> bytes:
        plaintext, header = self._client.decrypt(source=sealed, key_provider=self._provider(*arns))
        expect(CONTEXT.items() <= header.encryption_context.items(), "the encryption context came back otherwise")
        return plaintext

    def encrypts_and_decrypts(self) -> None:
        arn = self._new_arn()
        sealed = self._encrypted(arn)
        expect(MESSAGE[:15] not in sealed, "the message is in the ciphertext")
        expect(self._decrypted(sealed, arn) == MESSAGE, "the message came back otherwise")

    def any_of_two_keys_decrypts(self) -> None:
        first, second = self._new_arn(), self._new_arn()
        sealed = self._encrypted(first, second)
        for arn in (first, second):
            expect(self._decrypted(sealed, arn) == MESSAGE, f"{arn} does not give the message")

    def another_key_does_not_decrypt(self) -> None:
        sealed = self._encrypted(self._new_arn())
        self._fails(sealed, self._new_arn())

    def a_disabled_key_does_not_decrypt(self) -> None:
        arn = self._new_arn()
        sealed = self._encrypted(arn)
        self._kms.call("DisableKey", KeyId=arn)
        self._fails(sealed, arn)
        self._kms.call("EnableKey", KeyId=arn)
        equal("the message's length", len(self._decrypted(sealed, arn)), len(MESSAGE))

    def _fails(self, sealed: bytes, arn: str) -> None:
        try:
            self._decrypted(sealed, arn)
        except DecryptKeyError:
            return
        raise Mismatch(f"{arn} decrypts the message")


def main() -> int:
    # It logs the failures that are expected here, with their stacks.
    logging.disable()
    config, report = Config.load(sys.argv[1:]), Report("AWS Encryption SDK", "steps")
    for step in steps(RoundTrip(config), report):
        step()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
