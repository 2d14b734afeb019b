"""The reference job: its records, grants and list; nothing here measures.

Twelve items, about 150 bytes of Avro, of eight cities of one province; three grants: (a) three
cities, six items, identity number masked; (b) all rows, ten items; (c) one city and active only,
four items. Region codes are real ones, everything else is invented.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import fastavro

from shutong_core.domain.regions import RegionTable, parse_table
from shutong_core.domain.rows import Row
from shutong_core.domain.version import parse_row
from shutong_core.runtime.node import DIVISIONS_FILE
from shutong_core.runtime.resources import package_file
from shutong_core.wire.framing import frame
from shutong_core.wire.schemas import Schema, parse_schema_text
from unit import listing_fixtures as listing

LANES = 6
PERSONAL = ("id_number", "name", "born", "address", "phone")
DATASET = "minimum-living"
PROVINCE = "440000000000"
CITIES = 8  # records are of these; one more city has none
ROLE = "居住地"
SCHEMA_FILE = "resident.avsc"
SYSTEM = "wuhua-civil"
PUBLISHER = f"{listing.PROVIDER}/{SYSTEM}".encode()

_TEXT = "string"
_ITEMS: tuple[tuple[str, Any], ...] = (
    ("id_number", _TEXT),
    ("name", _TEXT),
    ("sex", {"type": "enum", "name": "Sex", "symbols": ["MALE", "FEMALE", "UNKNOWN"]}),
    ("born", {"type": "int", "logicalType": "date"}),
    ("town_code", _TEXT),
    ("address", _TEXT),
    ("phone", ["null", _TEXT]),
    ("household", _TEXT),
    ("status", _TEXT),
    ("updated_at", {"type": "long", "logicalType": "timestamp-millis"}),
    (
        "income",
        ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}],
    ),
    ("remarks", ["null", _TEXT]),
)
_FIRST: dict[str, Any] = {"id_number": {"mask": "keep", "first": 6, "last": 4}}
_FIRST |= dict.fromkeys(["name", "sex", "born", "town_code", "status"], "clear")
#: The three grants: items, cities by number (None: all rows), condition.
REFERENCE: dict[str, dict[str, Any]] = {
    "a": {"items": _FIRST, "regions": [1, 2, 3]},
    "b": {"items": dict.fromkeys([name for name, _ in _ITEMS[:10]], "clear"), "regions": None},
    "c": {
        "items": dict.fromkeys(["id_number", "name", "town_code", "status"], "clear"),
        "regions": [4],
        "condition": 'status == "active"',
    },
}


@cache
def divisions() -> RegionTable:
    """The division table that ships with the product."""
    return parse_table(package_file(DIVISIONS_FILE).read_bytes())


@cache
def city(n: int) -> str:
    """Code of city `n`; records are of cities 0 to 7."""
    return divisions().children(PROVINCE)[n]


@cache
def towns(n: int) -> tuple[str, ...]:
    """Codes of the towns of city `n`."""
    table = divisions()
    return tuple(town for county in table.children(city(n)) for town in table.children(county))


def schema_text() -> str:
    """The record's Avro schema as a schema file has it."""
    fields = [{"name": name, "type": avro, "shutong": _about(name)} for name, avro in _ITEMS]
    record = {"type": "record", "name": "Resident", "namespace": "gov", "fields": fields}
    return json.dumps(record)


def _about(item: str) -> dict[str, Any]:
    about = {"title": item, "grade": "general_2"}
    return about | {"personal": True} if item in PERSONAL else about


@cache
def schema() -> Schema:
    """The record's schema, linted and parsed."""
    return parse_schema_text(schema_text())


def id_number(n: int) -> str:
    """The identity number of record `n`: a valid check character, no two alike below 18 million."""
    day = date(1950, 1, 1) + timedelta(days=n * 7 % 18_000)
    body = f"44{n % 8 + 1:02d}{n % 10 + 1:02d}{day:%Y%m%d}{n // 18_000 % 1000:03d}"
    total = sum(int(c) * (2 ** (17 - at) % 11) for at, c in enumerate(body))
    return body + "10X98765432"[total % 11]


def datum(n: int) -> dict[str, Any]:
    """Record `n`: about 150 bytes of Avro."""
    here = towns(n % CITIES)
    return {
        "id_number": id_number(n),
        "name": "示例" + "甲乙丙丁戊己庚辛"[n % 8],
        "sex": ("MALE", "FEMALE")[n % 2],
        "born": date(1950, 1, 1) + timedelta(days=n * 7 % 18_000),
        "town_code": here[n // CITIES % len(here)],
        "address": f"示例市示例县示例镇示例路第{n % 40}村{n % 90}号" + "东座二单元三楼" * (n % 2),
        "phone": f"138{n % 10**8:08d}" if n % 3 else None,
        "household": f"H{n // 3:09d}",
        "status": "active" if n % 5 else "ended",
        "updated_at": datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=n),
        "income": Decimal(n % 900_000).scaleb(-2) if n % 2 else None,
        "remarks": "示例备注" if n % 10 == 0 else None,
    }


@dataclass(frozen=True, slots=True)
class Message:
    """One inbound record as the producer service writes it; librdkafka chooses the partition."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def messages(first: int, count: int, schema_id: int) -> Iterator[Message]:
    """Records `first` to `first + count - 1`, each with the two headers of the producer service."""
    parsed = fastavro.parse_schema(json.loads(schema_text()))
    for n in range(first, first + count):
        values = datum(n)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, values)
        headers = [("shutong_publisher", PUBLISHER), ("ce_id", b"event-%d" % n)]
        yield Message(values["id_number"].encode(), frame(schema_id, body.getvalue()), headers)


def dataset_row(dataset: str = DATASET, **fields: Any) -> dict[str, Any]:
    """The dataset's row without its schemas."""
    body = listing.dataset(dataset).body() | {
        "key": ["id_number"],
        "regions": {ROLE: "town_code"},
        "provider_role": ROLE,
        "subjects": ["id_number"],
        "birth_items": ["born"],
    }
    return _without(body, "schemas") | fields


def grant_row(grant: str, given: Mapping[str, Any], dataset: str = DATASET) -> dict[str, Any]:
    """One grant's row without its projections; `given` as in REFERENCE, or with region `codes`."""
    codes = given.get("codes") or [city(n) for n in given["regions"] or ()] or [PROVINCE]
    body = listing.grant(grant).body() | {
        "dataset": dataset,
        "items": dict(given["items"]),
        "scope": {"role": ROLE, "regions": codes},
        "condition": given.get("condition"),
        "purpose": f"use-{grant}",
        "partitions": "lanes",
        "valid_until": "2099-01-01T00:00:00Z",
    }
    return _without(body, "projections")


def base_rows() -> list[Row]:
    """What every list of the benchmark begins with: bus, organisations, system."""
    return [
        listing.bus(lanes=LANES, division_digest=divisions().digest.hex()),
        listing.requester(),
        listing.organisation(region=PROVINCE),
        listing.authority(),
        listing.system(),
    ]


def sections(
    datasets: Iterable[Mapping[str, Any]], grants: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """A list file with these datasets and grants, as a mapping of its sections.

    Purposes follow from the grants: each names its own, so that no two overlap.
    """
    uses: dict[str, list[str]] = {}
    rows = [_without(dict(each), "kind") for each in grants]
    for row in rows:
        uses.setdefault(row["dataset"], []).append(row["purpose"])
    named = [_without(dict(each), "kind") for each in datasets]
    of_kind: dict[str, list[dict[str, Any]]] = {}
    for each in base_rows():
        of_kind.setdefault(each.body()["kind"], []).append(_without(each.body(), "kind"))
    return {
        "bus": of_kind["bus"][0],
        "purposes": [{"id": row["purpose"], "title": row["purpose"]} for row in rows],
        "organisations": of_kind["organisation"],
        "systems": of_kind["system"],
        "datasets": [
            {"schema_files": [SCHEMA_FILE]} | each | {"purposes": uses.get(each["id"], ["unused"])}
            for each in named
        ],
        "grants": rows,
    }


def reference_sections() -> dict[str, Any]:
    """The list file of the reference job."""
    grants = [grant_row(name, given) for name, given in REFERENCE.items()]
    return sections([dataset_row()], grants)


def reference_schemas() -> dict[str, str]:
    """Schema files of the reference job, by their names in the list file."""
    return {SCHEMA_FILE: schema_text()}


def parsed_row(body: Mapping[str, Any], kind: str, **allotted: Any) -> Any:
    """A row of a list in force from a row of a list file and what publishing allots."""
    return parse_row({"kind": kind, **body, **allotted})


def _without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name and value is not None}
