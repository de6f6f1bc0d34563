#!/usr/bin/env python3
"""Signs requests with botocore's SigV4Auth and prints them as vectors. See README.md."""

import base64
import datetime
import json

import botocore
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ID, SECRET = "AKIDEXAMPLE00000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TYPE = ("Content-Type", "application/x-amz-json-1.1")
TARGET = ("X-Amz-Target", "TrentService.Encrypt")
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

CASES = [
    # name, method, headers, body, region, time
    ("as sent by SDKs", "POST", [TYPE, TARGET], b'{"KeyId":"alias/orders"}', "us-east-1", "20261122T041831Z"),
    ("no body", "POST", [TYPE, TARGET], b"", "us-east-1", "20261122T041831Z"),
    ("no content type", "POST", [TARGET], b"{}", "us-east-1", "20261122T041831Z"),
    ("GET", "GET", [TARGET], b"", "us-east-1", "20261122T041831Z"),
    ("any region", "POST", [TYPE, TARGET], b"{}", "cn-hangzhou", "20261122T041831Z"),
    ("first second of a day", "POST", [TYPE, TARGET], b"{}", "us-east-1", "20270101T000000Z"),
    ("last second of a day", "POST", [TYPE, TARGET], b"{}", "us-east-1", "20261231T235959Z"),
    ("leap day", "POST", [TYPE, TARGET], b"{}", "us-east-1", "20280229T120000Z"),
    ("hash of the body in a header", "POST", [TYPE, TARGET, ("X-Amz-Content-SHA256", EMPTY)], b"", "us-east-1",
     "20261122T041831Z"),
    ("white space in values", "POST", [TYPE, TARGET, ("X-Amz-Meta", "  a   b \t c  "), ("Tabs", "a\tb")], b"{}",
     "us-east-1", "20261122T041831Z"),
    ("an empty value", "POST", [TYPE, TARGET, ("X-Amz-Meta", ""), ("X-Other", "   ")], b"{}", "us-east-1",
     "20261122T041831Z"),
    ("several values of a header", "POST", [TYPE, TARGET, ("X-Amz-Meta", "b  b"), ("X-Amz-Meta", "a"), ("X-Amz-Meta", "")],
     b"{}", "us-east-1", "20261122T041831Z"),
    ("order of names", "POST", [TYPE, TARGET, ("x-amz-a1", "1"), ("x-amz-a-1", "2"), ("X-AMZ-A", "3"), ("a.b", "4"),
                               ("a-b", "5"), ("a_b", "6"), ("zz", "7")], b"{}", "us-east-1", "20261122T041831Z"),
    ("bytes in the body", "POST", [TYPE, TARGET], bytes(range(256)), "us-east-1", "20261122T041831Z"),
    ("a long body", "POST", [TYPE, TARGET], b"x" * 10000, "us-east-1", "20261122T041831Z"),
    ("punctuation in values", "POST", [TYPE, TARGET, ("X-Amz-Meta", "a,b;c:d=\"e\" 'f' %20+/\\")], b"{}", "us-east-1",
     "20261122T041831Z"),
]


def vector(name, method, headers, body, region, time):
    signed_at = datetime.datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda: signed_at.replace(tzinfo=None)
    request = AWSRequest(method=method, url="https://kms.example.test:8443/", data=body)
    request.headers.add_header("Host", "kms.example.test:8443")
    for header in headers:
        request.headers.add_header(*header)
    botocore.auth.SigV4Auth(Credentials(ID, SECRET), "kms", region).add_auth(request)
    return {
        "name": name,
        "method": method,
        "target": "/",
        "headers": [list(header) for header in request.headers.items()],
        "bodyBase64": base64.b64encode(body).decode(),
        "accessKeyId": ID,
        "secret": SECRET,
        "time": signed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


print(json.dumps({"botocore": botocore.__version__, "vectors": [vector(*case) for case in CASES]}, indent=1))
