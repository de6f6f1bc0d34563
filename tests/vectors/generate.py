#!/usr/bin/env python3
"""Writes the test vectors in this directory.

A second implementation of docs/formats.md, sharing no code with the program: written from the
document, on top of the Python package `cryptography` (`pip install cryptography`). XAES-256-GCM
is built from AES and AES-GCM as in https://c2sp.org/XAES-256-GCM.

    python3 tests/vectors/generate.py            # rewrites the files
    python3 tests/vectors/generate.py --check    # fails if a file would change
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys
import uuid

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

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


def access_key_secret(root_key, record_name: str, access_key_id: str, nonce, secret: bytes) -> bytes:
    key = hkdf(root_key, "cmk-operator/v1/root-key/access-key")
    aad = (
        struct.pack(">I", 1)
        + prefixed(record_name.encode())
        + prefixed(access_key_id.encode())
        + root_key_id(root_key).bytes
    )
    return nonce + xaes_seal(key, nonce, secret, aad)


def access_key_name(namespace: str, name: str, uid: str) -> str:
    parts = b"".join(prefixed(part.encode()) for part in (namespace, name, uid))
    digest = hashlib.sha256(b"cmk-operator access key name 1" + parts).hexdigest()
    return f"cmk-access-key-{digest}"


def record_mac(root_key: bytes, name: str, record: bytes) -> bytes:
    key = hkdf(root_key, "cmk-operator/v1/root-key/record-mac")
    message = prefixed(b"cmk-operator/v1/record") + prefixed(name.encode()) + prefixed(record)
    return hmac_sha256(key, message)


def material_check(check_key: bytes, material: bytes) -> bytes:
    return hmac_sha256(check_key, prefixed(b"cmk-operator/v1/material-check") + material)


ALGORITHMS = {
    "RSAES_OAEP_SHA_256": 1,
    "RSAES_OAEP_SHA_1": 2,
    "RSA_AES_KEY_WRAP_SHA_256": 3,
    "RSA_AES_KEY_WRAP_SHA_1": 4,
}
KEY_SPECS = {"RSA_2048": 1, "RSA_3072": 2, "RSA_4096": 3}


def import_token(root_key, key_id, algorithm, key_spec, expiry: int, nonce, private_key) -> str:
    numbers = bytes([ALGORITHMS[algorithm], KEY_SPECS[key_spec]])
    header = b"\x63\x6d\x69\x01" + root_key_id(root_key).bytes + struct.pack(">q", expiry) + numbers
    assert len(header) == 30
    key = hkdf(root_key, "cmk-operator/v1/root-key/import-token")
    sealed = xaes_seal(key, nonce, private_key, header + key_id.bytes)
    return base64.b64encode(header + nonce + sealed).decode()


# --- what an importer does -------------------------------------------------------------------


def mgf1(hash_name: str, seed: bytes, length: int) -> bytes:
    blocks = (
        hashlib.new(hash_name, seed + struct.pack(">I", i)).digest()
        for i in range(length // hashlib.new(hash_name).digest_size + 1)
    )
    return b"".join(blocks)[:length]


def oaep_encrypt(key: rsa.RSAPrivateKey, hash_name: str, message: bytes, random: bytes) -> bytes:
    """RFC 8017 section 7.1.1 with an empty label, and a seed that can be chosen."""
    numbers = key.public_key().public_numbers()
    length = key.key_size // 8
    label_hash = hashlib.new(hash_name).digest()
    seed = random[: len(label_hash)]
    zeros = bytes(length - len(message) - 2 * len(label_hash) - 2)
    block = label_hash + zeros + b"\x01" + message
    block = xor(block, mgf1(hash_name, seed, len(block)))
    seed = xor(seed, mgf1(hash_name, block, len(seed)))
    encoded = int.from_bytes(b"\x00" + seed + block)
    ciphertext = pow(encoded, numbers.e, numbers.n).to_bytes(length)
    algorithm = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}[hash_name]
    assert key.decrypt(ciphertext, padding.OAEP(padding.MGF1(algorithm), algorithm, None)) == message
    return ciphertext


def encrypt_material(key, algorithm: str, material: bytes, random: bytes, aes_key: bytes) -> bytes:
    hash_name = "sha256" if algorithm.endswith("SHA_256") else "sha1"
    if algorithm.startswith("RSA_AES_KEY_WRAP"):
        wrapped = aes_key_wrap_with_padding(aes_key, material)
        return oaep_encrypt(key, hash_name, aes_key, random) + wrapped
    return oaep_encrypt(key, hash_name, material, random)


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


def prime(seed: str, bits: int) -> int:
    """The first prime after random bits whose two highest are set."""
    candidate = int.from_bytes(fixed(seed, bits // 8)) | 3 << bits - 2 | 1
    small = [p for p in range(3, 10_000, 2) if pow(2, p - 1, p) == 1]
    while any(candidate % p == 0 for p in small) or pow(2, candidate - 1, candidate) != 1:
        candidate += 2
    return candidate


def rsa_key(seed: str, bits: int) -> rsa.RSAPrivateKey:
    p, q, e = prime(f"{seed} p", bits // 2), prime(f"{seed} q", bits // 2), 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *crt, rsa.RSAPublicNumbers(e, p * q)).private_key()


def import_tokens():
    vectors = []
    for algorithm, key_spec in [
        ("RSAES_OAEP_SHA_256", "RSA_2048"),
        ("RSAES_OAEP_SHA_1", "RSA_2048"),
        ("RSA_AES_KEY_WRAP_SHA_256", "RSA_3072"),
        ("RSA_AES_KEY_WRAP_SHA_1", "RSA_2048"),
    ]:
        name = f"{algorithm} {key_spec}"
        key = rsa_key(f"wrapping key {name}", int(key_spec[4:]))
        private_key = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        root_key, nonce = fixed(f"root key {name}", 32), fixed(f"nonce {name}", 24)
        material, aes_key = fixed(f"material {name}", 32), fixed(f"AES key {name}", 32)
        random, expiry = fixed(f"OAEP seed {name}", 32), 1_800_000_000
        vectors.append(
            {
                "name": name,
                "rootKey": root_key.hex(),
                "tokenKey": hkdf(root_key, "cmk-operator/v1/root-key/import-token").hex(),
                "keyId": str(KEY_ID),
                "algorithm": algorithm,
                "keySpec": key_spec,
                "expiry": expiry,
                "nonce": nonce.hex(),
                "privateKey": private_key.hex(),
                "token": import_token(
                    root_key, KEY_ID, algorithm, key_spec, expiry, nonce, private_key
                ),
                "material": material.hex(),
                "encrypted": encrypt_material(key, algorithm, material, random, aes_key).hex(),
            }
        )
    return vectors


def access_keys():
    vectors = []
    for namespace, name, access_key_id, secret in [
        ("shop", "orders", "CMKAAAAABBBBCCCCDDDD", "0123456789abcdefghijABCDEFGHIJ0123456789"),
        ("shop", "orders", "CMKAAAAABBBBCCCCDDDE", "0123456789abcdefghijABCDEFGHIJ0123456789"),
        ("s", "hoporders", "CMKA2345672345672345", "x"),
    ]:
        root_key, nonce = fixed("root key of access keys", 32), fixed(f"nonce {access_key_id}", 24)
        record_name = access_key_name(namespace, name, str(KEY_ID))
        vectors.append(
            {
                "rootKey": root_key.hex(),
                "sealingKey": hkdf(root_key, "cmk-operator/v1/root-key/access-key").hex(),
                "namespace": namespace,
                "name": name,
                "uid": str(KEY_ID),
                "recordName": record_name,
                "accessKeyId": access_key_id,
                "nonce": nonce.hex(),
                "secret": secret,
                "sealed": access_key_secret(
                    root_key, record_name, access_key_id, nonce, secret.encode()
                ).hex(),
            }
        )
    return vectors


def material_checks():
    root_key, nonce = fixed("root key of checks", 32), fixed("nonce of checks", 12)
    check_key, material = fixed("check key", 32), fixed("checked material", 32)
    return [
        {
            "rootKey": root_key.hex(),
            "store": "ClusterKeyStore/default",
            "keyId": str(KEY_ID),
            "versionId": str(VERSION_ID),
            "checkKey": check_key.hex(),
            "nonce": nonce.hex(),
            "wrapped": wrap(
                root_key, "ClusterKeyStore/default", KEY_ID, VERSION_ID, nonce, check_key
            ).hex(),
            "material": material.hex(),
            "value": material_check(check_key, material).hex(),
        }
    ]


def main() -> int:
    self_test()
    files = {
        "encryption_context.json": {"vectors": encryption_context()},
        "ciphertext_blob.json": {"vectors": ciphertext_blob(), "twoKeys": two_keys()},
        "wrap.json": {"vectors": wraps()},
        "record_mac.json": {"vectors": record_macs()},
        "import_token.json": {"vectors": import_tokens()},
        "material_check.json": {"vectors": material_checks()},
        "access_key.json": {"vectors": access_keys()},
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
