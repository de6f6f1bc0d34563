"""Decrypts a CiphertextBlob (base64, on standard input) with Alibaba Cloud's SDK: pip install alibabacloud_kms20160120

All that it needs is in the Secret of an AccessKey, as a pod gets it with `envFrom` (docs/access-keys.md).
"""

import base64
import os
import sys
from urllib.parse import urlsplit

from alibabacloud_kms20160120 import models
from alibabacloud_kms20160120.client import Client
from alibabacloud_tea_openapi.models import Config

kms = Client(
    Config(
        access_key_id=os.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"],
        access_key_secret=os.environ["ALIBABA_CLOUD_ACCESS_KEY_SECRET"],
        # No SDK of Alibaba Cloud reads these from the environment.
        endpoint=urlsplit(os.environ["AWS_ENDPOINT_URL_KMS"]).netloc,
        region_id=os.environ["AWS_REGION"],
        ca=os.environ.get("AWS_CA_BUNDLE"),
    )
)
answer = kms.decrypt(models.DecryptRequest(ciphertext_blob=sys.stdin.read().strip()))
print("Plaintext:", base64.b64decode(answer.body.plaintext).decode())
print("KeyId:", answer.body.key_id)
