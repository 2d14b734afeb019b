"""The data of the fault tests: one dataset, three grants, and who must receive what.

Written so that the expectation is trivial: a record is of the province or it is refused, a grant is
a test of one field, its items are a tuple of names. Nothing here asks the product.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastavro

DATASET = "visits"
PROVIDER, CITY = "11440000DEM000073A", "11441400DEM000233J"
PUBLISHER = f"{PROVIDER}/visits-system".encode()
MEIZHOU, GUANGZHOU, BEIJING = "441424100000", "440106001000", "110101001000"
CANARY = "CANARY"


def _field(name: str, avro: Any) -> dict[str, Any]:
    return {"name": name, "type": avro, "shutong": {"title": name, "grade": "general_1"}}


FIELDS = (("serial", "string"), ("person", "string"), ("town_code", "string"))
FIELDS += (("amount", "int"), ("remarks", "string"))
SCHEMA_TEXT = json.dumps(
    {
        "type": "record",
        "name": "Visit",
        "namespace": "test.faults",
        "fields": [_field(name, avro) for name, avro in FIELDS],
    }
)


def _plain_schema(items: tuple[str, ...]) -> Any:
    fields = [{"name": name, "type": avro} for name, avro in FIELDS if name in items]
    return fastavro.parse_schema({"type": "record", "name": "Plain", "fields": fields})


WHOLE = _plain_schema(tuple(name for name, _ in FIELDS))


@dataclass(frozen=True)
class GrantRule:
    """What one grant receives: `takes(record)` of the good records, `items` of each."""

    takes: Callable[[dict[str, Any]], bool]
    items: tuple[str, ...]
    row: dict[str, Any]

    @property
    def schema(self) -> Any:
        """Avro schema of what is delivered."""
        return _plain_schema(self.items)


GRANTS = {
    "visits-province": GrantRule(
        lambda record: True,
        ("serial", "person", "town_code", "amount"),
        {"requester": PROVIDER, "scope": {"role": "就医地", "regions": ["440000000000"]}},
    ),
    "visits-meizhou": GrantRule(
        lambda record: record["town_code"] == MEIZHOU,
        ("serial", "person", "amount"),
        {"requester": CITY, "scope": {"role": "就医地", "regions": ["441400000000"]}},
    ),
    "visits-large": GrantRule(
        lambda record: record["amount"] >= 500,
        ("serial", "person"),
        {
            "requester": CITY,
            "scope": {"role": "就医地", "regions": ["440000000000"]},
            "condition": "amount >= 500",
            "purpose": "oversight",
            "partitions": "lanes",
        },
    ),
}


def refusal(record: dict[str, Any]) -> str | None:
    """Why the record as a whole is refused, repeats aside."""
    return None if record["town_code"].startswith("44") else "OUT_OF_JURISDICTION"


def encode(record: dict[str, Any], schema_id: int) -> bytes:
    """The Confluent wire format of a record."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, WHOLE, record)
    return b"\0" + struct.pack(">I", schema_id) + body.getvalue()


def decode(value: bytes, schema: Any) -> dict[str, Any]:
    """A record of exactly this schema; ValueError if bytes are left over."""
    body = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(body, schema, None)
    if value[:1] != b"\0" or body.tell() != len(value) - 5:
        raise ValueError("not one framed record of this schema")
    return dict(record)


def list_file(lanes: int, division_digest: str, suspended: frozenset[str] = frozenset()) -> str:
    """The list of the dataset and its grants, as the text of a list file."""
    person = {"name": "示例甲", "post": "负责人"}
    organisation = {"type": "government", "head": person, "office_head": person}
    common = {
        "dataset": DATASET,
        "purpose": "care",
        "basis": "示例条例 第一条",
        "scenario": "示例",
        "mode": "interface",
        "valid_from": "2025-01-01T00:00:00+08:00",
        "valid_until": "2099-01-01T00:00:00+08:00",
        "agreement": "示例协议",
        "approvers": ["示例甲"],
    }
    stopped = {"suspended": {"since": "2026-01-01T00:00:00+08:00", "reason": "示例"}}
    sections: dict[str, Any] = {
        "bus": {
            "id": "bus",
            "title": "示例节点",
            "region": "440000000000",
            "lanes": lanes,
            "division_table": "2023-06-30",
            "division_digest": division_digest,
        },
        "purposes": [{"id": "care", "title": "示例"}, {"id": "oversight", "title": "示例"}],
        "organisations": [
            {
                "id": PROVIDER,
                "name": "示例省级部门",
                "region": "440000000000",
                "line": "医保",
                "roles": ["provider", "requester"],
                **organisation,
            },
            {
                "id": CITY,
                "name": "示例市级部门",
                "region": "441400000000",
                "line": "医保",
                "roles": ["requester"],
                **organisation,
            },
        ],
        "systems": [{"id": "visits-system", "organisation": PROVIDER, "title": "示例系统"}],
        "datasets": [
            {
                "id": DATASET,
                "title": "就医示例",
                "summary": "示例",
                "resource_code": "20700201/100001",
                "provider": PROVIDER,
                "publishers": [{"organisation": PROVIDER, "region": "440000000000"}],
                "key": ["person"],
                "regions": {"就医地": "town_code"},
                "provider_role": "就医地",
                "share": "unconditional",
                "update_cycle": "realtime",
                "format": "服务接口",
                "share_modes": ["interface"],
                "data_class": "示例",
                "secrecy_assessment": "示例1号",
                "approver": "示例甲",
                "schema_files": ["visits.avsc"],
            }
        ],
        "grants": [
            {
                "id": name,
                **common,
                "items": dict.fromkeys(rule.items, "clear"),
                **rule.row,
                **(stopped if name in suspended else {}),
            }
            for name, rule in GRANTS.items()
        ],
    }
    lines = []
    for section, value in sections.items():
        lines.append(f"{section}:")
        entries = value if isinstance(value, list) else [value]
        lead = "- " if isinstance(value, list) else "  "
        lines += [lead + json.dumps(entry, ensure_ascii=False) for entry in entries]
    return "\n".join([*lines, "...", ""])
