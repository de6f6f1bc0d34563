#!/usr/bin/env python3
"""Writes model.json: what the AWS KMS API has, as far as the tests of the AWS dialect compare with it.

Taken from the service model that the Python package `botocore` ships (Apache-2.0): the names of all operations, and of
those that the endpoint serves the shapes of input and output (members, which of them are required, enumerations, lengths
and ranges) and the exceptions. No documentation text.

    pip install botocore
    python3 tests/vectors/aws/generate.py            # rewrites model.json
    python3 tests/vectors/aws/generate.py --check    # fails if it would change
"""

import gzip
import json
import pathlib
import sys

import botocore

HERE = pathlib.Path(__file__).parent
MODEL = pathlib.Path(botocore.__file__).parent / "data/kms/2014-11-01/service-2.json.gz"

SERVED = """
    CancelKeyDeletion CreateAlias CreateKey Decrypt DeleteAlias DeleteImportedKeyMaterial DescribeKey DisableKey
    DisableKeyRotation EnableKey EnableKeyRotation Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateRandom
    GetKeyPolicy GetKeyRotationStatus GetParametersForImport ImportKeyMaterial ListAliases ListKeyPolicies
    ListKeyRotations ListKeys ListResourceTags ReEncrypt RotateKeyOnDemand ScheduleKeyDeletion TagResource UntagResource
    UpdateAlias UpdateKeyDescription
""".split()

KEPT = ("type", "required", "enum", "min", "max", "pattern", "sensitive")


def main() -> None:
    model = json.loads(gzip.decompress(MODEL.read_bytes()))
    shapes = model["shapes"]
    kept: dict[str, dict] = {}

    def keep(name: str) -> None:
        if name in kept:
            return
        shape = shapes[name]
        kept[name] = entry = {key: shape[key] for key in KEPT if key in shape}
        if "members" in shape:
            entry["members"] = {member: target["shape"] for member, target in shape["members"].items()}
        for part in ("member", "key", "value"):
            if part in shape:
                entry[part] = shape[part]["shape"]
        for target in [*entry.get("members", {}).values(), *(entry[p] for p in ("member", "key", "value") if p in entry)]:
            keep(target)

    operations = {}
    for name in SERVED:
        operation = model["operations"][name]
        entry = {"input": operation["input"]["shape"], "output": operation.get("output", {}).get("shape")}
        entry["errors"] = sorted(error["shape"] for error in operation.get("errors", []))
        for target in filter(None, (entry["input"], entry["output"])):
            keep(target)
        operations[name] = entry

    written = {
        "source": f"botocore {botocore.__version__}, kms/2014-11-01/service-2.json",
        "names": sorted(model["operations"]),
        "exceptions": {name: shape.get("fault", False) for name, shape in sorted(shapes.items()) if shape.get("exception")},
        "operations": operations,
        "shapes": dict(sorted(kept.items())),
    }
    text = json.dumps(written, indent=1) + "\n"
    path = HERE / "model.json"
    if "--check" in sys.argv:
        if path.read_text() != text:
            sys.exit(f"{path} would change")
    else:
        path.write_text(text)


if __name__ == "__main__":
    main()
