#!/usr/bin/env python3
"""SOPS encrypts and decrypts a file with a key of the endpoint, named by its ARN.

    sops_roundtrip.py [CONFIG.json]    (else the JSON is on stdin; see harness.Config)

SOPS is the one beside this Python (tests/clients/build). It uses the AWS SDK for Go.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from drivers import AwsKms
from harness import Config, Mismatch, Report, equal, expect, steps

SECRETS = "database:\n    password: hunter2-not-real\n    user: orders\n"


class Sops:
    def __init__(self, config: Config) -> None:
        self._environment = config.environment()
        self._program = Path(sys.executable).parent / "sops"

    def run(self, *arguments: str) -> str:
        command = [str(self._program), *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Mismatch(f"sops {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def fails(self, says: str, *arguments: str) -> None:
        try:
            out = self.run(*arguments)
        except Mismatch as error:
            expect(says in str(error), f"it does not say {says!r}: {error}")
            return
        raise Mismatch(f"sops {' '.join(arguments)} succeeded: {out!r}")


class RoundTrip:
    """The steps. Each has a key and a file of its own."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._kms, self._sops, self._folder = AwsKms(config), Sops(config), folder

    def _encrypted(self, name: str) -> tuple[str, Path]:
        arn = self._kms.call("CreateKey", Description="SOPS")["KeyMetadata"]["Arn"]
        path = self._folder / f"{name}.yaml"
        path.write_text(SECRETS, encoding="utf-8")
        context = "app:shop,stadt:Köln"
        self._sops.run("encrypt", "--in-place", "--kms", arn, "--encryption-context", context, str(path))
        return arn, path

    def encrypts_and_decrypts(self) -> None:
        arn, path = self._encrypted("round")
        sealed = path.read_text(encoding="utf-8")
        expect("hunter2" not in sealed, "the secret is in the encrypted file")
        expect(arn in sealed, "the key's ARN is not in the encrypted file")
        equal("the decrypted file", self._sops.run("decrypt", str(path)), SECRETS)

    def rotates_its_data_key(self) -> None:
        _, path = self._encrypted("rotated")
        before = path.read_text(encoding="utf-8")
        self._sops.run("rotate", "--in-place", str(path))
        expect(path.read_text(encoding="utf-8") != before, "sops rotate changed nothing")
        equal("the decrypted file", self._sops.run("decrypt", str(path)), SECRETS)

    def needs_its_encryption_context(self) -> None:
        _, path = self._encrypted("context")
        path.write_text(path.read_text(encoding="utf-8").replace("app: shop", "app: other"), encoding="utf-8")
        self._sops.fails("InvalidCiphertextException", "decrypt", str(path))

    def needs_an_enabled_key(self) -> None:
        arn, path = self._encrypted("disabled")
        self._kms.call("DisableKey", KeyId=arn)
        self._sops.fails("DisabledException", "decrypt", str(path))
        self._kms.call("EnableKey", KeyId=arn)
        equal("the decrypted file", self._sops.run("decrypt", str(path)), SECRETS)


def main() -> int:
    config, report = Config.load(sys.argv[1:]), Report("SOPS", "steps")
    with tempfile.TemporaryDirectory() as folder:
        for step in steps(RoundTrip(config, Path(folder)), report):
            step()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
