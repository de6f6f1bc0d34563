#!/usr/bin/env python3
"""`aws kms` makes a key, encrypts and decrypts with it, and describes it as seed 003 shows.

    aws_cli_roundtrip.py [CONFIG.json]     (else the JSON is on stdin; see harness.Config)

The CLI is the one beside this Python (tests/clients/build).
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from harness import Config, Mismatch, Report, equal, expect, in_parallel, steps

SEED_003_FIELDS = {
    "Origin",
    "KeyId",
    "Description",
    "KeyManager",
    "Enabled",
    "KeyUsage",
    "KeyState",
    "CreationDate",
    "Arn",
    "AWSAccountId",
}


class RoundTrip:
    """The steps. Each has a key of its own."""

    def __init__(self, config: Config) -> None:
        self._environment = config.environment()
        self._program = Path(sys.executable).parent / "aws"

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._program), "--output", "json", "kms", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=False)

    def _aws(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode:
            raise Mismatch(f"aws kms {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def _new_id(self) -> str:
        return json.loads(self._aws("create-key", "--description", "AWS CLI"))["KeyMetadata"]["KeyId"]

    def encrypts_and_decrypts(self) -> None:
        key_id, alias = self._new_id(), f"alias/cli-{uuid.uuid4().hex[:12]}"
        self._aws("create-alias", "--alias-name", alias, "--target-key-id", key_id)
        context = ("--encryption-context", '{"app": "shop + co", "stadt": "Köln"}')
        with tempfile.TemporaryDirectory() as folder:
            plain, sealed = Path(folder, "plain"), Path(folder, "sealed")
            plain.write_bytes(b"attack at dawn\x00\xff")
            out = self._aws("encrypt", "--key-id", alias, "--plaintext", f"fileb://{plain}", *context)
            sealed.write_bytes(base64.b64decode(json.loads(out)["CiphertextBlob"]))
            out = self._aws("decrypt", "--ciphertext-blob", f"fileb://{sealed}", *context)
            equal("the plaintext", base64.b64decode(json.loads(out)["Plaintext"]), plain.read_bytes())
            self._fails("InvalidCiphertextException", "decrypt", "--ciphertext-blob", f"fileb://{sealed}")

    def describes_as_seed_003(self) -> None:
        key_id = self._new_id()
        for operation, enabled in (("disable-key", False), ("enable-key", True)):
            equal(f"the output of {operation}", self._aws(operation, "--key-id", key_id), "")
            got = json.loads(self._aws("describe-key", "--key-id", key_id))["KeyMetadata"]
            expect(got.keys() >= SEED_003_FIELDS, f"{SEED_003_FIELDS - got.keys()} are missing")
            state = "Enabled" if enabled else "Disabled"
            equal("Enabled, KeyState", (got["Enabled"], got["KeyState"]), (enabled, state))

    def says_why_not(self) -> None:
        key_id = self._new_id()
        self._aws("disable-key", "--key-id", key_id)
        plaintext = ("--plaintext", base64.b64encode(b"x").decode())
        self._fails(f"{key_id} is disabled.", "encrypt", "--key-id", key_id, *plaintext)
        self._fails("NotFoundException", "describe-key", "--key-id", "alias/no-such-alias")

    def _fails(self, says: str, *arguments: str) -> None:
        done = self._run(*arguments)
        expect(done.returncode != 0, f"aws kms {' '.join(arguments)} succeeded: {done.stdout!r}")
        expect(says in done.stderr, f"it does not say {says!r}: {done.stderr.strip()!r}")


def main() -> int:
    config, report = Config.load(sys.argv[1:]), Report("aws kms", "steps")
    in_parallel(3, steps(RoundTrip(config), report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
