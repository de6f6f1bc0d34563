#!/usr/bin/env python3
"""Writes down, byte for byte, what the KMS clients send: the files of tests/vectors/requests.

    record.py OUT                                          the clients that tests/clients/build prepares
    record.py OUT --client NAME --version V -- COMMAND     any other one

COMMAND finds the address in RECORDER_ENDPOINT (a URL) and RECORDER_PORT, and the credential in
the variables that the SDKs read. Everything is signed with a made-up credential; nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from recorder import Recorder, Reply, Request, as_text, vector

ACCESS_KEY = ("AKIDEXAMPLE00000", "example-secret-not-real")
SESSION_TOKEN = "example/session+token=="
KEY_ID = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73"
AWS_REGION = "us-east-1"
AWS_ARN = f"arn:aws:kms:{AWS_REGION}:123456789012:key/{KEY_ID}"
ALIBABA_REGION = "cn-hangzhou"
ALIBABA_ARN = f"acs:kms:{ALIBABA_REGION}:123456:key/{KEY_ID}"
VERSION_ID = "2f1a1b54-7d3c-4e51-b1a4-bd7b5a0a1c11"
DATA_KEY = bytes(range(32))
SEAL = b"recorded:"
DESCRIPTION = "Größe: 3 £, orders/“düsseldorf” ~ 100 % a+b=c&d *?"
CONTEXT = {"app": "shop + co", "stadt": "Köln/Ü~*", "empty": "", "q": 'a"b\\c&d=e'}
TAGS = [{"TagKey": "team", "TagValue": "orders & co"}, {"TagKey": "größe", "TagValue": "a+b %20"}]


# ---- answers -------------------------------------------------------------------------------------


def answer(request: Request) -> Reply:
    if request.header("x-amz-target"):
        parameters = json.loads(request.body or b"{}")
        return Reply(200, "application/x-amz-json-1.1", _json(_aws(request.operation(), parameters)))
    content = {**_alibaba(request.operation(), request.query()), "RequestId": "3455b9b4-95c1-419d-b310-db6a53b09a39"}
    if request.query().get("Format", "").upper() == "XML":
        return Reply(200, "text/xml;charset=utf-8", f"<KMS>{_xml(content)}</KMS>".encode())
    return Reply(200, "application/json;charset=utf-8", _json(content))


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _xml(content: dict[str, object]) -> str:
    def text(value: object) -> str:
        return _xml(value) if isinstance(value, dict) else str(value)

    return "".join(f"<{name}>{text(value)}</{name}>" for name, value in content.items())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _sealed(plaintext: str) -> str:
    return _text(SEAL + base64.b64decode(plaintext))


def _opened(ciphertext: str) -> str:
    return _text(base64.b64decode(ciphertext).removeprefix(SEAL))


def _aws(operation: str, request: dict[str, str]) -> dict[str, object]:
    key = {"KeyId": AWS_ARN}
    metadata = {"KeyId": KEY_ID, "Arn": AWS_ARN, "KeyState": "Enabled", "CreationDate": 1502910355.475}
    match operation:
        case "CreateKey" | "DescribeKey":
            return {"KeyMetadata": metadata}
        case "Encrypt":
            return {**key, "CiphertextBlob": _sealed(request["Plaintext"])}
        case "Decrypt":
            return {**key, "Plaintext": _opened(request["CiphertextBlob"])}
        case "GenerateDataKey":
            return {**key, "Plaintext": _text(DATA_KEY), "CiphertextBlob": _sealed(_text(DATA_KEY))}
        case "ListKeys":
            return {"Keys": [{"KeyId": KEY_ID, "KeyArn": AWS_ARN}], "Truncated": False}
        case "ScheduleKeyDeletion":
            return {**key, "DeletionDate": 1502910355.0, "KeyState": "PendingDeletion", "PendingWindowInDays": 7}
        case "GetParametersForImport":
            return {
                **key,
                "ImportToken": _text(b"token"),
                "PublicKey": _text(b"key"),
                "ParametersValidTo": 1502910355.0,
            }
        case _:
            return {}


def _alibaba(operation: str, request: dict[str, str]) -> dict[str, object]:
    sealed = {"KeyId": KEY_ID, "KeyVersionId": VERSION_ID}
    match operation:
        case "CreateKey" | "DescribeKey":
            return {"KeyMetadata": {"KeyId": KEY_ID, "Arn": ALIBABA_ARN, "KeyState": "Enabled"}}
        case "Encrypt":
            return {**sealed, "CiphertextBlob": _sealed(request["Plaintext"])}
        case "Decrypt":
            return {**sealed, "Plaintext": _opened(request["CiphertextBlob"])}
        case "GenerateDataKey":
            return {**sealed, "Plaintext": _text(DATA_KEY), "CiphertextBlob": _sealed(_text(DATA_KEY))}
        case "ListKeys":
            return {"Keys": {"Key": []}, "TotalCount": 0, "PageNumber": 2, "PageSize": 5}
        case _:
            return {}


# ---- clients: each yields the name of an operation after it has done it -----------------------------


def boto3_calls(port: int, token: str | None = None) -> Iterator[str]:
    import boto3

    kms = boto3.client(
        "kms",
        region_name=AWS_REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=ACCESS_KEY[0],
        aws_secret_access_key=ACCESS_KEY[1],
        aws_session_token=token,
    )
    if token:
        kms.describe_key(KeyId=KEY_ID)
        yield "DescribeKey"
        return
    kms.create_key(Description=DESCRIPTION)
    yield "CreateKey"
    kms.describe_key(KeyId=AWS_ARN)
    yield "DescribeKey"
    kms.encrypt(KeyId="alias/orders", Plaintext=b"\x00attack at dawn\xff", EncryptionContext=CONTEXT)
    yield "Encrypt"
    kms.decrypt(CiphertextBlob=SEAL + b"attack at dawn", EncryptionContext=CONTEXT, KeyId=KEY_ID)
    yield "Decrypt"
    kms.generate_data_key(KeyId=KEY_ID, KeySpec="AES_256", EncryptionContext=CONTEXT)
    yield "GenerateDataKey"
    kms.list_keys(Limit=5, Marker="a+b/c=")
    yield "ListKeys"
    kms.list_keys()
    yield "ListKeys-empty"
    kms.schedule_key_deletion(KeyId=KEY_ID, PendingWindowInDays=7)
    yield "ScheduleKeyDeletion"
    kms.import_key_material(
        KeyId=KEY_ID,
        ImportToken=bytes(range(256)) * 8,
        EncryptedKeyMaterial=bytes(range(255, -1, -1)),
        ValidTo=1893456000,
        ExpirationModel="KEY_MATERIAL_EXPIRES",
    )
    yield "ImportKeyMaterial"


def cli_calls(port: int) -> Iterator[str]:
    def aws(*arguments: str) -> None:
        environment = {**_environment(port), "AWS_DEFAULT_REGION": AWS_REGION, "AWS_PAGER": ""}
        command = [str(Path(sys.executable).parent / "aws"), "kms", *arguments]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    context = json.dumps(CONTEXT, ensure_ascii=False)
    with tempfile.TemporaryDirectory() as folder:
        files = {"token": b"token" * 300, "material": bytes(256), "sealed": SEAL + b"attack at dawn"}
        paths = {name: Path(folder, name) for name in files}
        for name, content in files.items():
            paths[name].write_bytes(content)
        aws("create-key", "--description", DESCRIPTION)
        yield "CreateKey"
        aws("describe-key", "--key-id", "alias/orders")
        yield "DescribeKey"
        aws("encrypt", "--key-id", KEY_ID, "--plaintext", _text(b"attack at dawn"), "--encryption-context", context)
        yield "Encrypt"
        aws("decrypt", "--ciphertext-blob", f"fileb://{paths['sealed']}", "--encryption-context", context)
        yield "Decrypt"
        aws("generate-data-key", "--key-id", KEY_ID, "--number-of-bytes", "64")
        yield "GenerateDataKey"
        aws("list-keys")
        yield "ListKeys"
        aws("schedule-key-deletion", "--key-id", KEY_ID, "--pending-window-in-days", "7")
        yield "ScheduleKeyDeletion"
        sealed = ["--encrypted-key-material", f"fileb://{paths['material']}"]
        until = ["--expiration-model", "KEY_MATERIAL_EXPIRES", "--valid-to", "2030-01-01T00:00:00Z"]
        aws("import-key-material", "--key-id", KEY_ID, "--import-token", f"fileb://{paths['token']}", *sealed, *until)
        yield "ImportKeyMaterial"


def alibaba_v3_calls(port: int, token: str | None = None, algorithm: str | None = None) -> Iterator[str]:
    from alibabacloud_kms20160120 import models
    from alibabacloud_kms20160120.client import Client
    from alibabacloud_tea_openapi.utils_models import Config

    kms = Client(
        Config(
            access_key_id=ACCESS_KEY[0],
            access_key_secret=ACCESS_KEY[1],
            security_token=token,
            region_id=ALIBABA_REGION,
            endpoint=f"127.0.0.1:{port}",
            protocol="http",
            signature_algorithm=algorithm,
        )
    )
    if token:
        kms.describe_key(models.DescribeKeyRequest(key_id=KEY_ID))
        yield "DescribeKey"
        return
    kms.create_key(models.CreateKeyRequest(description=DESCRIPTION, origin="Aliyun_KMS"))
    yield "CreateKey"
    kms.describe_key(models.DescribeKeyRequest(key_id=ALIBABA_ARN))
    yield "DescribeKey"
    encrypt = {"key_id": "alias/orders", "plaintext": _text(b"\x00attack at dawn\xff\xfe?")}
    kms.encrypt(models.EncryptRequest(**encrypt, encryption_context=CONTEXT))
    yield "Encrypt"
    kms.decrypt(models.DecryptRequest(ciphertext_blob=_text(SEAL + b"\xfb\xff\xbe"), encryption_context=CONTEXT))
    yield "Decrypt"
    kms.generate_data_key(models.GenerateDataKeyRequest(key_id=KEY_ID, number_of_bytes=64))
    yield "GenerateDataKey"
    kms.list_keys(models.ListKeysRequest(page_number=2, page_size=5))
    yield "ListKeys"
    kms.tag_resource(models.TagResourceRequest(key_id=KEY_ID, tags=json.dumps(TAGS)))
    yield "TagResource"
    kms.update_rotation_policy(
        models.UpdateRotationPolicyRequest(key_id=KEY_ID, enable_automatic_rotation=True, rotation_interval="30d")
    )
    yield "UpdateRotationPolicy"


def alibaba_v1_requests() -> dict[str, Callable[[], object]]:
    """A maker of the request of each operation, as an application writes it."""
    from aliyunsdkkms.request.v20160120 import (
        CreateKeyRequest,
        DecryptRequest,
        DescribeKeyRequest,
        EncryptRequest,
        GenerateDataKeyRequest,
        ListKeysRequest,
        TagResourceRequest,
        UpdateRotationPolicyRequest,
    )

    def filled(kind: type, **fields: object) -> Callable[[], object]:
        def make() -> object:
            request = kind()
            for name, value in fields.items():
                getattr(request, f"set_{name}")(value)
            return request

        return make

    context = json.dumps(CONTEXT, ensure_ascii=False)
    plaintext = _text(b"\x00attack at dawn\xff\xfe?")
    ciphertext = _text(SEAL + b"\xfb\xff\xbe")
    return {
        "CreateKey": filled(CreateKeyRequest.CreateKeyRequest, Description=DESCRIPTION),
        "DescribeKey": filled(DescribeKeyRequest.DescribeKeyRequest, KeyId=ALIBABA_ARN),
        "Encrypt": filled(
            EncryptRequest.EncryptRequest, KeyId="alias/orders", Plaintext=plaintext, EncryptionContext=context
        ),
        "Decrypt": filled(DecryptRequest.DecryptRequest, CiphertextBlob=ciphertext, EncryptionContext=context),
        "GenerateDataKey": filled(GenerateDataKeyRequest.GenerateDataKeyRequest, KeyId=KEY_ID, NumberOfBytes=64),
        "ListKeys": filled(ListKeysRequest.ListKeysRequest, PageNumber=2, PageSize=5),
        "TagResource": filled(TagResourceRequest.TagResourceRequest, KeyId=KEY_ID, Tags=json.dumps(TAGS)),
        "UpdateRotationPolicy": filled(
            UpdateRotationPolicyRequest.UpdateRotationPolicyRequest,
            KeyId=KEY_ID,
            EnableAutomaticRotation=True,
            RotationInterval="30d",
        ),
    }


def alibaba_v1_calls(port: int, form: str = "") -> Iterator[str]:
    """`form`: "" is what the SDK does by itself; GET; XML and no-format (through do_action, which
    sets none); body (parameters in a form)."""
    from aliyunsdkcore.client import AcsClient

    kms = AcsClient(*ACCESS_KEY, ALIBABA_REGION, port=port, auto_retry=False)
    for operation, make in alibaba_v1_requests().items():
        if form == "no-format" and operation != "DescribeKey":
            continue
        request = make()
        request.set_protocol_type("http")
        request.set_endpoint("127.0.0.1")
        if form == "GET":
            request.set_method("GET")
        if form == "body":
            request.set_body_params(request.get_query_params())
            request.set_query_params({})
        if form in ("XML", "no-format"):
            if form == "XML":
                request.set_accept_format("XML")
            kms.do_action(request)
        else:
            kms.do_action_with_exception(request)
        yield operation


def alibaba_v1_sts_calls(port: int) -> Iterator[str]:
    from aliyunsdkcore.auth.credentials import StsTokenCredential
    from aliyunsdkcore.client import AcsClient

    kms = AcsClient(region_id=ALIBABA_REGION, port=port, credential=StsTokenCredential(*ACCESS_KEY, SESSION_TOKEN))
    request = alibaba_v1_requests()["DescribeKey"]()
    request.set_protocol_type("http")
    request.set_endpoint("127.0.0.1")
    kms.do_action_with_exception(request)
    yield "DescribeKey"


def sops_calls(port: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "secrets.yaml")
        path.write_text("password: hunter2\n")
        options = ["--kms", AWS_ARN, "--encryption-context", "app:shop,stadt:Köln"]
        _sops(port, "--encrypt", "--in-place", *options, str(path))
        yield "Encrypt"
        _sops(port, "--decrypt", "--in-place", str(path))
        yield "Decrypt"


def _sops(port: int, *arguments: str) -> None:
    command = [str(Path(sys.executable).parent / "sops"), *arguments]
    subprocess.run(command, env=_environment(port), check=True, stdout=subprocess.DEVNULL)


def encryption_sdk_calls(port: int) -> Iterator[str]:
    import aws_encryption_sdk
    import botocore.session

    session = botocore.session.Session()
    session.set_credentials(*ACCESS_KEY)
    os.environ["AWS_ENDPOINT_URL_KMS"] = f"http://127.0.0.1:{port}"
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[AWS_ARN], botocore_session=session)
    client = aws_encryption_sdk.EncryptionSDKClient()
    sealed, _ = client.encrypt(source=b"attack at dawn", key_provider=provider, encryption_context=CONTEXT)
    yield "GenerateDataKey"
    client.decrypt(source=sealed, key_provider=provider)
    yield "Decrypt"


def _environment(port: int) -> dict[str, str]:
    endpoint = f"http://127.0.0.1:{port}"
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY[0],
        "AWS_SECRET_ACCESS_KEY": ACCESS_KEY[1],
        "AWS_ENDPOINT_URL_KMS": endpoint,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY[0],
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY[1],
        "RECORDER_ENDPOINT": endpoint,
        "RECORDER_PORT": str(port),
    }


# ---- the run -----------------------------------------------------------------------------------------


def prepared() -> list[tuple[str, str, Callable[[int], Iterator[str]]]]:
    """Name, version and calls of each client that tests/clients/build prepares."""
    bin_folder = Path(sys.executable).parent
    sops = subprocess.run([bin_folder / "sops", "--version", "--disable-version-check"], capture_output=True, text=True)
    v1, v3 = version("aliyun-python-sdk-kms"), version("alibabacloud_kms20160120")
    boto = version("boto3")
    return [
        ("boto3", boto, boto3_calls),
        ("boto3-session-token", boto, lambda port: boto3_calls(port, SESSION_TOKEN)),
        ("aws-cli", version("awscli"), cli_calls),
        ("alibabacloud-kms", v3, alibaba_v3_calls),
        ("alibabacloud-kms-sts", v3, lambda port: alibaba_v3_calls(port, SESSION_TOKEN)),
        ("alibabacloud-kms-signature-v1", v3, lambda port: alibaba_v3_calls(port, algorithm="v2")),
        ("aliyun-sdk-kms", v1, alibaba_v1_calls),
        ("aliyun-sdk-kms-get", v1, lambda port: alibaba_v1_calls(port, "GET")),
        ("aliyun-sdk-kms-xml", v1, lambda port: alibaba_v1_calls(port, "XML")),
        ("aliyun-sdk-kms-form", v1, lambda port: alibaba_v1_calls(port, "body")),
        ("aliyun-sdk-kms-no-format", v1, lambda port: alibaba_v1_calls(port, "no-format")),
        ("aliyun-sdk-kms-sts", v1, alibaba_v1_sts_calls),
        ("sops", sops.stdout.split()[1], sops_calls),
        ("aws-encryption-sdk", version("aws-encryption-sdk"), encryption_sdk_calls),
    ]


def record(out: Path, client: str, release: str, calls: Callable[[int], Iterator[str]]) -> None:
    """One file a request; a call that sends several of them has their numbers in the names."""
    with Recorder(answer) as recorder:
        for operation in calls(recorder.port):
            requests = recorder.take()
            if not requests:
                raise SystemExit(f"{client}: {operation} has sent nothing")
            for number, request in enumerate(requests, 1):
                name = operation if len(requests) == 1 else f"{operation}-{number}"
                save(out, request, client, release, name)


def record_command(out: Path, client: str, release: str, command: list[str]) -> None:
    with Recorder(answer) as recorder:
        subprocess.run(command, env=_environment(recorder.port), check=True)
        counts: dict[str, int] = {}
        for request in recorder.take():
            operation = request.operation()
            counts[operation] = counts.get(operation, 0) + 1
            number = counts[operation]
            save(out, request, client, release, operation if number == 1 else f"{operation}-{number}")


def save(out: Path, request: Request, client: str, release: str, operation: str) -> None:
    path = out / f"{client}-{operation}.json"
    path.write_text(as_text(vector(request, client, release, operation, ACCESS_KEY)), encoding="utf-8")
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--client")
    parser.add_argument("--version", default="")
    parser.add_argument("--only", help="only the prepared clients whose name starts so")
    arguments, command = parser.parse_args(_before_dashes()), _after_dashes()
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    if command:
        record_command(arguments.out, arguments.client, arguments.version, command)
        return
    for client, release, calls in prepared():
        if client.startswith(arguments.only or ""):
            record(arguments.out, client, release, calls)


def _before_dashes() -> list[str]:
    return sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]


def _after_dashes() -> list[str]:
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


if __name__ == "__main__":
    main()
