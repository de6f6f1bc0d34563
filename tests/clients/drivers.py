"""The SDKs behind one call form: an operation and its parameters in the API's spelling, the answer as a dict."""

from __future__ import annotations

import importlib
import json
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from alibabacloud_kms20160120 import models
from alibabacloud_kms20160120.client import Client as TeaClient
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.utils_models import Config as TeaConfig
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.http import protocol_type
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError

from harness import ApiError, Config, Mismatch, throttled

Answer = dict[str, Any]


class Kms(Protocol):
    name: str

    def call(self, operation: str, **parameters: object) -> Answer: ...


def snake(operation: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()


class AwsKms:
    """boto3. It neither retries nor checks parameters: what the endpoint answers is what is compared."""

    name = "boto3"

    def __init__(self, config: Config) -> None:
        self._client = boto3.client(
            "kms",
            region_name=config.region,
            endpoint_url=config.endpoint,
            aws_access_key_id=config.access_key_id,
            aws_secret_access_key=config.secret,
            verify=config.ca,
            config=BotoConfig(
                retries={"total_max_attempts": 1},
                parameter_validation=False,
                max_pool_connections=64,
                read_timeout=30,
            ),
        )

    def call(self, operation: str, **parameters: object) -> Answer:
        return throttled(lambda: self._call(operation, parameters), ("ThrottlingException", "ServiceUnavailableException"))

    def _call(self, operation: str, parameters: dict[str, object]) -> Answer:
        try:
            answer = getattr(self._client, snake(operation))(**parameters)
        except ClientError as error:
            inner = error.response["Error"]
            metadata = error.response["ResponseMetadata"]
            raise ApiError(
                inner["Code"], metadata["HTTPStatusCode"], inner["Message"], metadata.get("RequestId")
            ) from error
        metadata = answer.pop("ResponseMetadata")
        if metadata["HTTPStatusCode"] != 200:
            raise Mismatch(f"{operation} answers HTTP {metadata['HTTPStatusCode']}")
        return answer


class AlibabaV3Kms:
    """alibabacloud_kms20160120, which signs with ACS3-HMAC-SHA256."""

    name = "alibabacloud_kms20160120"

    def __init__(self, config: Config) -> None:
        address = urlsplit(config.endpoint)
        self._client = TeaClient(
            TeaConfig(
                access_key_id=config.access_key_id,
                access_key_secret=config.secret,
                region_id=config.region,
                endpoint=address.netloc,
                protocol=address.scheme,
                ca=config.ca,
                connect_timeout=30_000,
                read_timeout=30_000,
                max_idle_conns=64,
            )
        )

    def call(self, operation: str, **parameters: object) -> Answer:
        return throttled(lambda: self._call(operation, parameters), ("Throttling", "ServiceUnavailableTemporary"))

    def _call(self, operation: str, parameters: dict[str, object]) -> Answer:
        request = getattr(models, f"{operation}Request")().from_map(parameters)
        try:
            response = getattr(self._client, snake(operation))(request)
        except AlibabaCloudException as error:
            raise _tea_error(error) from error
        if response.status_code != 200:
            raise Mismatch(f"{operation} answers HTTP {response.status_code}")
        return _with_request_id(operation, response.body.to_map())


def _tea_error(error: AlibabaCloudException) -> ApiError:
    body = error.data
    if body.get("HttpStatus") != error.status_code:
        raise Mismatch(f"HttpStatus is {body.get('HttpStatus')!r} in the body of an HTTP {error.status_code}: {body}")
    if not body.get("RequestId"):
        raise Mismatch(f"{error.code} has no RequestId")
    return ApiError(error.code, error.status_code, body.get("Message", ""), body["RequestId"])


class AlibabaV1Kms:
    """aliyun-python-sdk-kms, which signs with HMAC-SHA1. By POST or GET."""

    def __init__(self, config: Config, method: str = "POST") -> None:
        address = urlsplit(config.endpoint)
        self.name = "aliyun-python-sdk-kms" if method == "POST" else f"aliyun-python-sdk-kms {method}"
        self._address, self._method = address, method
        self._client = AcsClient(
            config.access_key_id,
            config.secret,
            config.region,
            port=address.port or (443 if address.scheme == "https" else 80),
            verify=config.ca,
            connect_timeout=30,
            timeout=30,
            pool_size=64,
            auto_retry=False,
        )

    def call(self, operation: str, **parameters: object) -> Answer:
        return throttled(lambda: self._call(operation, parameters), ("Throttling", "ServiceUnavailableTemporary"))

    def _call(self, operation: str, parameters: dict[str, object]) -> Answer:
        try:
            body = self._client.do_action_with_exception(self.request(operation, **parameters))
        except ServerException as error:
            status, code = error.get_http_status(), error.get_error_code()
            raise ApiError(code, status, error.get_error_msg(), error.get_request_id()) from error
        return _with_request_id(operation, json.loads(body))

    def call_xml(self, operation: str, **parameters: object) -> ElementTree.Element:
        """The answer's root element, of a success or a failure alike."""
        request = self.request(operation, **parameters)
        request.set_accept_format("XML")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return ElementTree.fromstring(self._client.do_action(request))

    def request(self, operation: str, **parameters: object) -> Any:
        module = importlib.import_module(f"aliyunsdkkms.request.v20160120.{operation}Request")
        request = getattr(module, f"{operation}Request")()
        # The SDK compares it by identity, so it has to be this very string.
        request.set_protocol_type(protocol_type.HTTPS if self._address.scheme == "https" else protocol_type.HTTP)
        request.set_endpoint(self._address.hostname)
        request.set_method(self._method)
        for name, value in parameters.items():
            setter: Callable[[object], None] = getattr(request, f"set_{name}")
            setter(_as_text(value))
        return request


def _as_text(value: object) -> object:
    """The old SDK's setters take JSON as text; all else it turns into text itself (a boolean into `True`)."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def _with_request_id(operation: str, answer: Answer) -> Answer:
    if not answer.get("RequestId"):
        raise Mismatch(f"the answer to {operation} has no RequestId")
    return answer
