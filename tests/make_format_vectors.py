"""Writes the vectors of docs/formats other than the audit's: wire, lanes, lists, quarantine.

Run it after a change of a format, then read the difference. Usage:
python tests/make_format_vectors.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit_samples import PUBLISHER, filled
from shutong_broker.policy.masks import keyed_hash
from shutong_broker.state import ChainHead, Changes
from shutong_broker.statecodec import StateCodec
from shutong_core.domain.changes import difference, encode_change, make_change, make_snapshot
from shutong_core.domain.grants import Hash, Keep, Purpose
from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import AnyRow, ListVersion
from shutong_core.wire.busrecords import LoadingPosition, loading_key
from shutong_core.wire.cursor import encode_cursor
from shutong_core.wire.framing import frame, guid_header
from shutong_core.wire.headers import CloudEventsHeaders
from shutong_core.wire.keys import delivered_key, key_bytes, murmur2, partition_of
from shutong_core.wire.projection import project_schema
from shutong_core.wire.quarantine import (
    QuarantineHeaders,
    Source,
    quarantine_headers,
    refused_record,
    seal,
)
from shutong_core.wire.schemarecords import Registration, encode_registration
from shutong_core.wire.schemas import Schema
from unit import bus_schemas
from unit.listing_fixtures import bus
from unit.schema_examples import field, schema

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "formats" / "vectors"
SIGNING_SEED = bytes(range(32))
AT_MS = 1_790_000_000_000
EVENT_ID = "D-2026-000017"


def sample_schema() -> Schema:
    """Three items of three types, two of which can be keys."""
    return schema(field("case_no", "string"), field("step", "int"), field("town", "string"))


def wire() -> dict[str, Any]:
    """Partition, framing, keys, masks, headers, schema identity, projection, cursor."""
    source, secret = sample_schema(), filled("grant", 32)
    datum = {"case_no": "A-1", "step": -3, "town": "441424100000"}
    projected = project_schema(
        source, {"case_no": "clear", "town": Keep(mask="keep", first=4)}, "cases"
    )
    hashed = project_schema(source, {"town": Hash(mask="hash")}, "cases")
    events = CloudEventsHeaders("cases", PUBLISHER.partition("/")[0], secret)
    return {
        "partition": [
            {
                "key": key.encode().hex(),
                "murmur2": murmur2(key.encode()),
                "of_6": partition_of(key.encode(), 6),
                "of_12": partition_of(key.encode(), 12),
            }
            for key in ("", "A", "A-1", "440100", "关键字")
        ],
        "framing": {
            "schema_id": 258,
            "body": b"\x06A-1".hex(),
            "value": frame(258, b"\x06A-1").hex(),
            "guid": source.guid,
            "header": [guid_header(source.guid)[0], guid_header(source.guid)[1].hex()],
        },
        "keys": {
            "datum": datum,
            "case_no": key_bytes(source, ["case_no"], datum).hex(),
            "step": key_bytes(source, ["step"], datum).hex(),
            "case_no,step": key_bytes(source, ["case_no", "step"], datum).hex(),
        },
        "delivered_key": {
            "secret": secret.hex(),
            "inbound": b"A-1".hex(),
            "hidden": delivered_key(b"A-1", False, secret).hex(),
            "clear": delivered_key(b"A-1", True, secret).hex(),
        },
        "mask_hash": {
            "secret": secret.hex(),
            "encoding": b"\x06A-1".hex(),
            "masked": keyed_hash(secret, b"\x06A-1"),
        },
        "cloudevents": {
            "secret": secret.hex(),
            "dataset": "cases",
            "partition": 3,
            "offset": 17,
            "time_ms": AT_MS,
            "headers": [
                [name, value.decode()] for name, value in events.headers("correct", 3, 17, AT_MS)
            ],
        },
        "schema": {"text": source.text, "digest": source.digest.hex(), "guid": source.guid},
        "projections": [
            {
                "items": {"case_no": "clear", "town": {"mask": "keep", "first": 4, "last": 0}},
                "text": projected.text,
            },
            {"items": {"town": {"mask": "hash"}}, "text": hashed.text},
        ],
        "cursor": {"offsets": {"0": 120, "3": 7}, "text": encode_cursor({3: 7, 0: 120})},
    }


def lanes() -> dict[str, Any]:
    """The rows of topic lanes that one transaction writes, and a loading position."""
    codec = bus_schemas.codec()
    changes = Changes(
        sequence=42,
        header_hash=filled("header", 32),
        positions={"cases": 1200},
        chains={"cases-city": ChainHead(900, filled("chain", 32))},
    )
    rows = StateCodec(codec).encode(changes, audit_from=84)
    said = [
        {"sequence": 42, "header_hash": filled("header", 32).hex(), "audit_offset": 84},
        {"next_offset": 1200},
        {"k": 900, "chain": filled("chain", 32).hex()},
        {"next_offset": 300},
    ]
    stored = [(row.key or b"", row.value or b"") for row in rows]
    stored.append((loading_key("cases-city"), codec.encode(LoadingPosition(300))))
    return {
        "rows": [
            {"key": key.decode(), "value": value.hex(), "says": says}
            for (key, value), says in zip(stored, said, strict=True)
        ]
    }


@dataclass(frozen=True)
class _Signer:
    key: Ed25519PrivateKey
    key_id: str = "control/vector"

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)


def lists() -> dict[str, Any]:
    """Two versions of a small list as signed changes, a snapshot, a registration."""
    signer = _Signer(Ed25519PrivateKey.from_private_bytes(SIGNING_SEED))
    public = signer.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    version: ListVersion | None = None
    records, versions = [], []
    for at_ms, rows in ((AT_MS, _rows("a", "b")), (AT_MS + 1, _rows("b", "c"))):
        version, parts = make_change(version, *difference(version, rows), at_ms)
        records += [encode_change(part, signer).decode() for part in parts]
        versions.append(
            {
                "n": version.number,
                "digest": version.digest.hex(),
                "rows": {row_id: digest.hex() for row_id, digest in version.digests.items()},
            }
        )
    assert version is not None
    registration = Registration(1, "shutong.inbound.cases-value", 1, sample_schema())
    key, value = encode_registration(registration)
    return {
        "public_key": public.hex(),
        "changes": records,
        "snapshot": [encode_change(part, signer).decode() for part in make_snapshot(version)],
        "versions": versions,
        "registration": {"key": key.decode(), "value": value.decode()},
    }


def _rows(*purposes: str) -> Sequence[AnyRow]:
    return [bus(), *(Purpose(id=each, title=f"用途{each}") for each in purposes)]


def quarantine() -> dict[str, Any]:
    """A refused record sealed, and one that is too large to keep."""
    codec, secret, source = bus_schemas.codec(), filled("seal", 32), Source("cases", 3, 17)
    kept = refused_record(b"A-1", b"\x00\x00\x00\x01\x02body", [("ce_id", EVENT_ID.encode())])
    large = refused_record(b"A-1", bytes(3 * 1024 * 1024), [])
    told = QuarantineHeaders(PUBLISHER, EVENT_ID, Reason.BAD_ID_NUMBER, "id_number", source)
    return {
        "key": secret.hex(),
        "source": {"dataset": "cases", "lane": 3, "offset": 17},
        "plain": codec.encode(kept).hex(),
        "sealed": seal(codec, secret, kept, source, lambda size: filled("nonce", size)).hex(),
        "headers": [[name, value.decode()] for name, value in quarantine_headers(told)],
        "too_large_plain": codec.encode(large).hex(),
    }


VECTORS = {"wire": wire, "lanes": lanes, "lists": lists, "quarantine": quarantine}


def text(name: str) -> str:
    """The file of one vector set."""
    return json.dumps(VECTORS[name](), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in VECTORS:
        (FOLDER / f"{each}.json").write_text(text(each), encoding="utf-8")
