#!/usr/bin/env python3
"""Writes the test vectors in this directory.

A second implementation of docs/formats.md, sharing no code with the program: written from the
document, on top of the Python package `cryptography` (`pip install cryptography`). XAES-256-GCM
is built from AES and AES-GCM as in https://c2sp.org/XAES-256-GCM.

    python3 tests/vectors/generate.py            # rewrites the files
    python3 tests/vectors/generate.py --check    # fails if a file would change
"""

import hashlib
import hmac
import json
import pathlib
import struct
import sys
import uuid

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = pathlib.Path(__file__).parent


# --- building blocks -------------------------------------------------------------------------


def hkdf(secret: bytes, label: str, length: int = 32) -> bytes:
    return HKDF(hashes.SHA256(), length, salt=None, info=label.encode()).derive(secret)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def aes_block(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def xaes_subkey(key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """The AES-256-GCM key and nonce for a message."""
    l = int.from_bytes(aes_block(key, bytes(16)))
    k1 = ((l << 1) & ((1 << 128) - 1)) ^ (0b10000111 if l >> 127 else 0)
    k1 = k1.to_bytes(16)
    m1 = b"\x00\x01X\x00" + nonce[:12]
    m2 = b"\x00\x02X\x00" + nonce[:12]
    return aes_block(key, xor(m1, k1)) + aes_block(key, xor(m2, k1)), nonce[12:]


def xaes_seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    subkey, subnonce = xaes_subkey(key, nonce)
    return AESGCM(subkey).encrypt(subnonce, plaintext, aad)


def xaes_open(key: bytes, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    subkey, subnonce = xaes_subkey(key, nonce)
    return AESGCM(subkey).decrypt(subnonce, ciphertext, aad)


def self_test() -> None:
    """The two vectors of the C2SP specification."""
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    assert xaes_seal(b"\x01" * 32, nonce, b"XAES-256-GCM", b"").hex() == (
        "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
    )
    assert xaes_seal(b"\x03" * 32, nonce, b"XAES-256-GCM", b"c2sp.org/XAES-256-GCM").hex() == (
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"
    )


def prefixed(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


# --- the formats -----------------------------------------------------------------------------


def encode_context(context: dict[str, str]) -> bytes:
    pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    out = struct.pack(">I", len(pairs))
    for key, value in pairs:
        out += prefixed(key) + prefixed(value)
    return out


def blob_keys(material: bytes) -> tuple[bytes, bytes]:
    return (
        hkdf(material, "cmk-operator/v1/blob/encryption"),
        hkdf(material, "cmk-operator/v1/blob/commitment"),
    )


def blob_prefix(material, key_id, version_id, nonce, context: bytes) -> tuple[bytes, bytes]:
    header = b"\x63\x6d\x6b\x01" + key_id.bytes + version_id.bytes + nonce
    assert len(header) == 60
    return header, hmac_sha256(blob_keys(material)[1], header + context)


def seal_blob(material, key_id, version_id, nonce, context: bytes, plaintext) -> bytes:
    header, commitment = blob_prefix(material, key_id, version_id, nonce, context)
    aad = header + commitment + context
    blob = header + commitment + xaes_seal(blob_keys(material)[0], nonce, plaintext, aad)
    assert len(blob) == len(plaintext) + 108
    return blob


def root_key_id(root_key: bytes) -> uuid.UUID:
    raw = bytearray(hkdf(root_key, "cmk-operator/v1/root-key/id", 16))
    raw[6] = raw[6] & 0x0F | 0x80  # version 8
    raw[8] = raw[8] & 0x3F | 0x80  # variant of RFC 9562
    return uuid.UUID(bytes=bytes(raw))


def wrap_aad(root_key, store: str, key_id, version_id) -> bytes:
    return (
        struct.pack(">I", 1)
        + prefixed(store.encode())
        + key_id.bytes
        + version_id.bytes
        + root_key_id(root_key).bytes
    )


def wrap(root_key, store, key_id, version_id, nonce, material) -> bytes:
    key = hkdf(root_key, "cmk-operator/v1/root-key/wrap")
    return nonce + AESGCM(key).encrypt(
        nonce, material, wrap_aad(root_key, store, key_id, version_id)
    )


def record_mac(root_key: bytes, name: str, record: bytes) -> bytes:
    key = hkdf(root_key, "cmk-operator/v1/root-key/record-mac")
    message = prefixed(b"cmk-operator/v1/record") + prefixed(name.encode()) + prefixed(record)
    return hmac_sha256(key, message)


# --- an attack: one ciphertext under two keys ------------------------------------------------
# AES-GCM authenticates with a polynomial over GF(2^128) that whoever knows the key can solve for.
# The bits of a block are the coefficients, the first bit the lowest (NIST SP 800-38D 6.3).


def gf_multiply(x: int, y: int) -> int:
    product = 0
    for i in range(128):
        if y >> (127 - i) & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def gf_inverse(x: int) -> int:
    result, exponent = 1 << 127, (1 << 128) - 2
    while exponent:
        if exponent & 1:
            result = gf_multiply(result, x)
        x, exponent = gf_multiply(x, x), exponent >> 1
    return result


def ghash(h: int, blocks: list[int]) -> int:
    state = 0
    for block in blocks:
        state = gf_multiply(state ^ block, h)
    return state


def two_key_ciphertext(keys, nonce: bytes, aad: bytes) -> bytes:
    """One block of ciphertext and a tag that XAES-256-GCM accepts under both keys."""
    padded = aad + bytes(-len(aad) % 16)
    blocks = [int.from_bytes(padded[i : i + 16]) for i in range(0, len(padded), 16)]
    lengths = len(aad) * 8 << 64 | 16 * 8
    hashes_of_zero, squares = [], []
    for key in keys:
        subkey, subnonce = xaes_subkey(key, nonce)
        h = int.from_bytes(aes_block(subkey, bytes(16)))
        mask = int.from_bytes(aes_block(subkey, subnonce + b"\0\0\0\1"))
        hashes_of_zero.append(ghash(h, blocks + [0, lengths]) ^ mask)
        squares.append(gf_multiply(h, h))
    # tag = hash_of_zero ^ block * h^2, equal under both keys:
    block = gf_multiply(
        hashes_of_zero[0] ^ hashes_of_zero[1], gf_inverse(squares[0] ^ squares[1])
    )
    tags = [hashes_of_zero[i] ^ gf_multiply(block, squares[i]) for i in range(2)]
    assert tags[0] == tags[1]
    return block.to_bytes(16) + tags[0].to_bytes(16)


# --- the vectors -----------------------------------------------------------------------------


def fixed(seed: str, length: int) -> bytes:
    """Bytes that look random and are the same at every run."""
    return hashlib.shake_128(seed.encode()).digest(length)


KEY_ID = uuid.UUID("08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73")
VERSION_ID = uuid.UUID("6f1ed0d5-31a4-4a0b-9d0e-6c3d0d3f5a11")

CONTEXTS = {
    "empty": {},
    "one entry": {"app": "shop"},
    "boundary, first": {"ab": "c"},
    "boundary, second": {"a": "bc"},
    "empty strings": {"": ""},
    "of a data key": {"app": "shop", "cmk-operator.dev/data-key": "shop/orders"},
    # UTF-8 and UTF-16 sort U+FF5E and U+1F511 differently; the accent comes in two forms.
    "unicode": {"Z": "1", "a": "2", "é": "composed", "e\u0301": "decomposed", "～": "3", "🔑": "ключ"},
    "many entries": {f"key-{i}": fixed(f"value {i}", i % 7).hex() for i in range(100)},
    "control characters": {"a\u0000b": "\n", "quote\"": "\\"},
}


def encryption_context():
    return [
        {"name": name, "context": context, "encoded": encode_context(context).hex()}
        for name, context in CONTEXTS.items()
    ]


def ciphertext_blob():
    cases = [
        ("a data key", "of a data key", 32),
        ("empty plaintext, empty context", "empty", 0),
        ("one byte", "one entry", 1),
        ("boundary, first", "boundary, first", 32),
        ("boundary, second", "boundary, second", 32),
        ("unicode context", "unicode", 32),
        ("many entries", "many entries", 32),
        ("4096 bytes", "one entry", 4096),
    ]
    vectors = []
    for name, context_name, length in cases:
        material, nonce = fixed(f"material {name}", 32), fixed(f"nonce {name}", 24)
        plaintext = fixed(f"plaintext {name}", length)
        context = CONTEXTS[context_name]
        encoded = encode_context(context)
        encryption_key, commitment_key = blob_keys(material)
        blob = seal_blob(material, KEY_ID, VERSION_ID, nonce, encoded, plaintext)
        assert xaes_open(encryption_key, nonce, blob[92:], blob[:92] + encoded) == plaintext
        vectors.append(
            {
                "name": name,
                "material": material.hex(),
                "keyId": str(KEY_ID),
                "keyVersionId": str(VERSION_ID),
                "nonce": nonce.hex(),
                "context": context,
                "plaintext": plaintext.hex(),
                "encryptionKey": encryption_key.hex(),
                "commitmentKey": commitment_key.hex(),
                "commitment": blob[60:92].hex(),
                "blob": blob.hex(),
            }
        )
    return vectors


def two_keys():
    """A blob whose ciphertext and tag are right under two materials, its commitment under one."""
    materials = [fixed("two keys, first", 32), fixed("two keys, second", 32)]
    nonce, encoded = fixed("two keys, nonce", 24), encode_context({})
    header, commitment = blob_prefix(materials[0], KEY_ID, VERSION_ID, nonce, encoded)
    aad = header + commitment + encoded
    keys = [blob_keys(material)[0] for material in materials]
    sealed = two_key_ciphertext(keys, nonce, aad)
    plaintexts = [xaes_open(key, nonce, sealed, aad) for key in keys]
    assert plaintexts[0] != plaintexts[1]
    return {
        "committedTo": {"material": materials[0].hex(), "plaintext": plaintexts[0].hex()},
        "other": {
            "material": materials[1].hex(),
            "encryptionKey": keys[1].hex(),
            "plaintext": plaintexts[1].hex(),
        },
        "nonce": nonce.hex(),
        "authenticatedData": aad.hex(),
        "context": {},
        "blob": (header + commitment + sealed).hex(),
    }


def wraps():
    vectors = []
    for name, store in [
        ("cluster key store", "ClusterKeyStore/default"),
        ("empty store", ""),
        ("unicode store", "KeyStore/größe/🔑"),
    ]:
        root_key, nonce = fixed(f"root key {name}", 32), fixed(f"nonce {name}", 12)
        material = fixed(f"wrapped material {name}", 32)
        wrapped = wrap(root_key, store, KEY_ID, VERSION_ID, nonce, material)
        assert len(wrapped) == 60
        vectors.append(
            {
                "name": name,
                "rootKey": root_key.hex(),
                "rootKeyId": str(root_key_id(root_key)),
                "checkValue": hkdf(root_key, "cmk-operator/v1/root-key/check-value", 16).hex(),
                "wrappingKey": hkdf(root_key, "cmk-operator/v1/root-key/wrap").hex(),
                "store": store,
                "keyId": str(KEY_ID),
                "versionId": str(VERSION_ID),
                "nonce": nonce.hex(),
                "authenticatedData": wrap_aad(root_key, store, KEY_ID, VERSION_ID).hex(),
                "material": material.hex(),
                "wrapped": wrapped.hex(),
            }
        )
    return vectors


def record_macs():
    vectors = []
    for name, record in [
        ("cmk-4be7f4d2", b'{"format":1}'),
        ("cmk-4be7f4d2", b""),
        ("", b"\x00\xff" * 100),
        ("cmk-4be7f4d", b'2{"format":1}'),
    ]:
        root_key = fixed("root key of records", 32)
        vectors.append(
            {
                "rootKey": root_key.hex(),
                "macKey": hkdf(root_key, "cmk-operator/v1/root-key/record-mac").hex(),
                "name": name,
                "record": record.hex(),
                "mac": record_mac(root_key, name, record).hex(),
            }
        )
    return vectors


def main() -> int:
    self_test()
    files = {
        "encryption_context.json": {"vectors": encryption_context()},
        "ciphertext_blob.json": {"vectors": ciphertext_blob(), "twoKeys": two_keys()},
        "wrap.json": {"vectors": wraps()},
        "record_mac.json": {"vectors": record_macs()},
    }
    changed = []
    for name, content in files.items():
        note = "Made by generate.py, a second implementation of docs/formats.md. Bytes are in hex."
        text = json.dumps({"note": note} | content, indent=2, ensure_ascii=True) + "\n"
        path = HERE / name
        if not path.exists() or path.read_text() != text:
            changed.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(text)
    print("changed:", ", ".join(changed) or "nothing")
    return 1 if changed and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
