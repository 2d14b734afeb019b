"""The published vectors of wire, lanes, lists and quarantine, read as their pages say.

The readers here follow docs/formats alone; nothing of the product's own code is used to read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import make_format_vectors

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "formats" / "vectors"


def _load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _jcs(value: Any) -> bytes:
    """RFC 8785 for what stands in these vectors: ASCII names, whole numbers."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", sorted(make_format_vectors.VECTORS))
def test_the_committed_vectors_are_what_the_product_makes(name: str) -> None:
    committed = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    remedy = "run python tests/make_format_vectors.py and read the difference"
    assert committed == make_format_vectors.text(name), remedy


def _murmur2(data: bytes) -> int:
    m, h = 0x5BD1E995, 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m % 2**32
        k = (k ^ k >> 24) * m % 2**32
        h = h * m % 2**32 ^ k
    if data[whole:]:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m % 2**32
    h = (h ^ h >> 13) * m % 2**32
    return h ^ h >> 15


def test_a_lane_is_murmur2_of_the_key() -> None:
    for each in _load("wire")["partition"]:
        hashed = _murmur2(bytes.fromhex(each["key"]))
        assert hashed == each["murmur2"]
        assert (hashed & 0x7FFFFFFF) % 6 == each["of_6"]
        assert (hashed & 0x7FFFFFFF) % 12 == each["of_12"]


def test_a_value_is_framed_by_schema_id_or_guid() -> None:
    found = _load("wire")["framing"]
    value = b"\0" + struct.pack(">I", found["schema_id"]) + bytes.fromhex(found["body"])
    assert found["value"] == value.hex()
    guid = found["guid"].replace("-", "")
    assert found["header"] == ["__value_schema_id", "01" + guid]


def test_a_schema_is_known_by_the_hash_of_its_text() -> None:
    found = _load("wire")["schema"]
    assert found["text"].encode() == _jcs(json.loads(found["text"]))
    digest = hashlib.sha256(found["text"].encode()).digest()
    assert found["digest"] == digest.hex()
    raw = bytearray(digest[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    assert found["guid"].replace("-", "") == raw.hex()


def test_a_projection_is_named_by_its_hash() -> None:
    source = json.loads(_load("wire")["schema"]["text"])
    for each in _load("wire")["projections"]:
        record = json.loads(each["text"])
        assert record["name"] == source["name"]
        plain = {**record, "namespace": source["namespace"]}
        mark = _sha(_jcs(["cases", plain]))[:8]
        assert record["namespace"] == f"{source['namespace']}.p{mark}"


def _avro_string(text: str) -> bytes:
    assert len(text) < 64
    return bytes((len(text) * 2,)) + text.encode()


def test_a_key_is_text_or_joined_encodings() -> None:
    keys = _load("wire")["keys"]
    case, step = keys["datum"]["case_no"], keys["datum"]["step"]
    zigzag = bytes((-step * 2 - 1,))
    assert bytes.fromhex(keys["case_no"]) == case.encode()
    assert bytes.fromhex(keys["step"]) == zigzag
    assert bytes.fromhex(keys["case_no,step"]) == _avro_string(case) + zigzag


def test_what_is_keyed_for_a_grant_does_not_meet_by_chance() -> None:
    found = _load("wire")
    key, mask, event = found["delivered_key"], found["mask_hash"], found["cloudevents"]
    secret = bytes.fromhex(key["secret"])
    hidden = hmac.digest(secret, b"shutong-key-v1" + bytes.fromhex(key["inbound"]), "sha256")
    assert key["hidden"] == hidden[:16].hex()
    assert key["clear"] == key["inbound"]
    masked = hmac.digest(secret, bytes.fromhex(mask["encoding"]), "sha256")[:16]
    assert mask["masked"] == base64.urlsafe_b64encode(masked).rstrip(b"=").decode()
    name = event["dataset"].encode()
    place = struct.pack(">IQ", event["partition"], event["offset"])
    label = b"shutong-ce-id-v1" + struct.pack(">I", len(name)) + name
    made = base64.urlsafe_b64encode(hmac.digest(secret, label + place, "sha256")[:16])
    assert dict(event["headers"])["ce_id"] == made.rstrip(b"=").decode()
    assert dict(event["headers"])["ce_type"] == "cases.correct"


def test_a_cursor_is_the_base64url_of_next_offsets() -> None:
    cursor = _load("wire")["cursor"]
    pairs = ",".join(f"p{partition}:{at}" for partition, at in sorted(cursor["offsets"].items()))
    made = base64.urlsafe_b64encode(f"v1;{pairs}".encode()).rstrip(b"=").decode()
    assert cursor["text"] == made


# Avro, as far as the bus's own records need it.

_EMPTY = 0xC15D213AA4D7A795
_CRC = []
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = (_value >> 1) ^ (_EMPTY & -(_value & 1))
    _CRC.append(_value)


def _fingerprint(text: bytes) -> bytes:
    value = _EMPTY
    for byte in text:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value.to_bytes(8, "little")


def _long(data: bytes, at: int) -> tuple[int, int]:
    shift = value = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value >> 1 ^ -(value & 1), at


_HASH = '{"name":"cn.shutong.bus.Hash","type":"fixed","size":32}'
_CANONICAL = {
    "head": (
        "LaneHead",
        [("sequence", '"long"'), ("header_hash", _HASH), ("audit_offset", '"long"')],
    ),
    "p": ("DatasetPosition", [("next_offset", '"long"')]),
    "g": ("GrantPosition", [("k", '"long"'), ("chain", _HASH)]),
    "l": ("LoadingPosition", [("next_offset", '"long"')]),
}


def test_rows_of_a_lane_are_single_object_encoded() -> None:
    for row in _load("lanes")["rows"]:
        name, fields = _CANONICAL[row["key"].partition("/")[0]]
        inside = ",".join(f'{{"name":"{field}","type":{kind}}}' for field, kind in fields)
        canonical = f'{{"name":"cn.shutong.bus.{name}","type":"record","fields":[{inside}]}}'
        data = bytes.fromhex(row["value"])
        assert data[:10] == b"\xc3\x01" + _fingerprint(canonical.encode())
        at, says = 10, {}
        for field, kind in fields:
            if kind == _HASH:
                says[field], at = data[at : at + 32].hex(), at + 32
            else:
                says[field], at = _long(data, at)
        assert at == len(data)
        assert says == row["says"]


def _digest(rows: dict[str, str]) -> str:
    whole = b"".join(
        struct.pack(">I", len(row.encode())) + row.encode() + bytes.fromhex(rows[row])
        for row in sorted(rows)
    )
    return _sha(whole)


def test_signed_changes_lead_from_list_to_list() -> None:
    found = _load("lists")
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found["public_key"]))
    held: dict[str, Any] = {}
    before = "0" * 64
    for text, version in zip(found["changes"], found["versions"], strict=True):
        record = json.loads(text)
        assert text.encode() == _jcs(record)
        body = record["body"]
        public.verify(base64.b64decode(record["signature"]), _jcs(body))
        assert (body["n"], body["previous"]) == (version["n"], before)
        for row in body["removals"]:
            del held[row]
        held |= {f"{row['kind']}/{row['id']}": row for row in body["upserts"]}
        assert {row_id: _sha(_jcs(row)) for row_id, row in held.items()} == version["rows"]
        before = _digest(version["rows"])
        assert before == version["digest"] == body["list_digest"]


def test_a_snapshot_repeats_the_whole_list() -> None:
    found = _load("lists")
    bodies = [json.loads(text)["body"] for text in found["snapshot"]]
    rows = {f"{row['kind']}/{row['id']}": _sha(_jcs(row)) for b in bodies for row in b["upserts"]}
    assert rows == found["versions"][-1]["rows"]
    for body in bodies:
        assert body["snapshot"]
        assert body["removals"] == []
        assert body["previous"] == body["list_digest"] == found["versions"][-1]["digest"]


def test_an_altered_change_is_not_signed() -> None:
    found = _load("lists")
    record = json.loads(found["changes"][1])
    record["body"]["removals"] = []
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found["public_key"]))
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(record["signature"]), _jcs(record["body"]))


def test_a_registration_says_its_schemas_digest_and_guid() -> None:
    found = _load("lists")["registration"]
    says = json.loads(found["value"])
    assert found["value"].encode() == _jcs(says)
    assert found["key"] == str(says["id"])
    assert says["digest"] == _sha(says["schema"].encode())


def test_a_quarantined_record_opens_at_its_own_place() -> None:
    found = _load("quarantine")
    source, sealed = found["source"], bytes.fromhex(found["sealed"])
    name = source["dataset"].encode()
    place = b"shutong-quarantine-v1" + struct.pack(">I", len(name)) + name
    place += struct.pack(">IQ", source["lane"], source["offset"])
    plain = AESGCM(bytes.fromhex(found["key"])).decrypt(sealed[:12], sealed[12:], place)
    assert plain.hex() == found["plain"]
    headers = dict(found["headers"])
    assert headers["dataset"] == source["dataset"]
    assert (headers["lane"], headers["offset"]) == ("3", "17")


def test_what_is_too_large_keeps_size_and_digest_only() -> None:
    found = _load("quarantine")
    data = bytes.fromhex(found["too_large_plain"])
    assert data[:10].hex() == found["plain"][:20]
    whole, at = data[10], 11
    size, at = _long(data, at)
    key, value = b"A-1", bytes(3 * 1024 * 1024)
    digest = hashlib.sha256(
        struct.pack(">I", len(key)) + key + struct.pack(">I", len(value)) + value
    ).digest()
    assert (whole, size, data[at : at + 32]) == (0, len(key) + len(value), digest)
    assert data[at + 32 :] == b"\0\0\0"
