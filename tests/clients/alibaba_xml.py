"""What the old Alibaba Cloud SDK gets where it asks for XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from alibaba_checks import CONTEXT, MISSING, UUID, b64, check_metadata
from drivers import AlibabaV1Kms
from harness import equal, expect


class XmlTour:
    """What the old SDK gets where it asks for XML."""

    def __init__(self, kms: AlibabaV1Kms) -> None:
        self.kms = kms

    def create_key(self) -> None:
        root = self.kms.call_xml("CreateKey", Description="a < b & “c”")
        equal("the root", root.tag, "KMS")
        expect(bool(UUID.fullmatch(root.findtext("RequestId", ""))), "RequestId is no UUID")
        metadata = {child.tag: child.text or "" for child in root.find("KeyMetadata") or []}
        check_metadata(metadata, Description="a < b & “c”", KeyState="Enabled", Origin="Aliyun_KMS")

    def round_trip(self) -> None:
        key_id = self.kms.call("CreateKey")["KeyMetadata"]["KeyId"]
        sealed = self.kms.call_xml("Encrypt", KeyId=key_id, Plaintext=b64(b"xml"), EncryptionContext=CONTEXT)
        blob = sealed.findtext("CiphertextBlob", "")
        opened = self.kms.call_xml("Decrypt", CiphertextBlob=blob, EncryptionContext=CONTEXT)
        equal("Plaintext", opened.findtext("Plaintext"), b64(b"xml"))
        listed = self.kms.call_xml("ListKeys", PageSize=100)
        expect(len(listed.findall("Keys/Key/KeyId")) > 0, f"ListKeys is {ElementTree.tostring(listed)!r:.200}")

    def error(self) -> None:
        root = self.kms.call_xml("DescribeKey", KeyId=MISSING)
        got = (root.tag, root.findtext("HttpStatus"), root.findtext("Code"))
        equal("the error", got, ("KMS", "404", "Forbidden.KeyNotFound"))
        expect(bool(root.findtext("Message") and root.findtext("RequestId")), "Message or RequestId is missing")
