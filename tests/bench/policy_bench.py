"""Records per second of the policy alone: `python tests/bench/policy_bench.py [seconds]`.

One process, no Kafka: interpreter and compiled policy on the same records of the reference job (12
items, three grants), then the compiled policy under 1, 100 and 10,000 grants of which one matches.
Every figure is the median of rounds in processor time, since the machine may be shared.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from shutong_broker.policy.build import build_policy
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import DatasetPolicy, InboundRecord, LaneFacts
from shutong_core.domain.regions import RegionTable, parse_table
from shutong_core.domain.version import next_version, parse_row
from shutong_core.wire.codec import encode
from shutong_core.wire.framing import frame
from shutong_core.wire.keys import key_bytes, partition_of
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemas import Schema, parse_schema_text
from unit import listing_fixtures as listing

LANES = 6
RECORDS = 4000
ROUNDS = 7
NOW_MS = 1_795_000_000_000
DATASET = "minimum-living"

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
#: Grants of the reference job: three of eight cities masked; all rows; one city and active only.
_FIRST = {"id_number": {"mask": "keep", "first": 6, "last": 4}}
_FIRST |= dict.fromkeys(["name", "sex", "born", "town_code", "status"], "clear")
REFERENCE: dict[str, dict[str, Any]] = {
    "a": {"items": _FIRST, "regions": [1, 2, 3]},
    "b": {"items": dict.fromkeys([n for n, _ in _ITEMS[:10]], "clear"), "regions": None},
    "c": {
        "items": dict.fromkeys(["id_number", "name", "town_code", "status"], "clear"),
        "regions": [4],
        "condition": 'status == "active"',
    },
}


def city(n: int) -> str:
    """Code of city `n` of eight; each has ten counties of ten towns."""
    return f"44{n + 1:02d}00000000"


def divisions() -> RegionTable:
    """One province, nine cities of which eight have records, 90 counties, 900 towns."""
    rows = ["000000000000\t0\t国家\t\tx", "440000000000\t1\t省级\t000000000000\tx"]
    for n in range(9):
        rows.append(f"{city(n)}\t2\t地级\t440000000000\tx")
        for c in range(10):
            county = f"{city(n)[:4]}{c + 1:02d}000000"
            rows.append(f"{county}\t3\t县级\t{city(n)}\tx")
            rows += [f"{county[:6]}{t + 1:03d}000\t4\t镇\t{county}\tx" for t in range(10)]
    return parse_table(("#divisions\t2023-06-30\n" + "\n".join(rows) + "\n").encode())


def schema() -> Schema:
    """The reference job's record."""
    fields = [
        {"name": name, "type": avro, "shutong": {"title": name, "grade": "general_2"}}
        for name, avro in _ITEMS
    ]
    text = {"type": "record", "name": "Resident", "namespace": "gov", "fields": fields}
    return parse_schema_text(json.dumps(text))


def id_number(n: int) -> str:
    day = date(1950, 1, 1) + timedelta(days=n * 7 % 18_000)
    body = f"44{n % 8 + 1:02d}{n % 10 + 1:02d}{day:%Y%m%d}{n % 1000:03d}"
    total = sum(int(c) * (2 ** (17 - at) % 11) for at, c in enumerate(body))
    return body + "10X98765432"[total % 11]


def datum(n: int) -> dict[str, Any]:
    """Record `n`: about 150 bytes of Avro."""
    town = f"{city(n % 8)[:4]}{n // 8 % 10 + 1:02d}{n // 80 % 10 + 1:03d}000"
    return {
        "id_number": id_number(n),
        "name": "示例" + "甲乙丙丁戊己庚辛"[n % 8],
        "sex": ("MALE", "FEMALE")[n % 2],
        "born": date(1950, 1, 1) + timedelta(days=n * 7 % 18_000),
        "town_code": town,
        "address": f"示例市示例县示例镇示例路第{n % 40}村{n % 90}号" + "东座二单元三楼" * (n % 2),
        "phone": f"138{n % 10**8:08d}" if n % 3 else None,
        "household": f"H{n // 3:09d}",
        "status": "active" if n % 5 else "ended",
        "updated_at": datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=n),
        "income": Decimal(n % 900_000).scaleb(-2) if n % 2 else None,
        "remarks": "示例备注" if n % 10 == 0 else None,
    }


def world(
    grants: Mapping[str, Mapping[str, Any]],
    make: Callable[..., DatasetPolicy],
    table: RegionTable,
) -> DatasetPolicy:
    """The policy of a list with those grants."""
    of = schema()
    schemas = {1: of}
    dataset = listing.dataset().body() | {
        "key": ["id_number"],
        "regions": {"居住地": "town_code"},
        "provider_role": "居住地",
        "subjects": ["id_number"],
        "birth_items": [],
        "schemas": [{"version": 1, "id": 1, "guid": of.guid, "digest": of.digest.hex()}],
    }
    rows = [listing.bus(lanes=LANES), listing.requester(), listing.system(), parse_row(dataset)]
    rows.append(listing.organisation(region="440000000000"))
    delivered: dict[str, tuple[int, Schema]] = {}
    for grant_id, given in grants.items():
        codes = given.get("codes") or [city(n) for n in given["regions"] or ()] or ["440000000000"]
        body = listing.grant(grant_id).body() | {
            "items": given["items"],
            "scope": {"role": "居住地", "regions": codes},
            "condition": given.get("condition"),
            "minors": True,
            "projections": [],
        }
        key = json.dumps(given["items"])
        if key not in delivered:
            row = parse_row(body)
            made = project_schema(of, row.items, DATASET)  # type: ignore[union-attr]
            delivered[key] = (101 + len(delivered), made)
            schemas[delivered[key][0]] = made
        number, made = delivered[key]
        body["projections"] = [{"schema_id": 1, "delivered_id": number, "guid": made.guid}]
        rows.append(parse_row(body))
    version = next_version(None, rows, (), 0)
    keys = lambda key_id: key_id.encode().ljust(32, b".")[:32]  # noqa: E731
    return build_policy(version, schemas, table, keys, make)[DATASET]


def records(count: int) -> list[InboundRecord]:
    """`count` sound records, as the lane reads them."""
    of = schema()
    publisher = f"{listing.PROVIDER}/wuhua-civil".encode()
    made = []
    for n in range(count):
        values = datum(n)
        key = key_bytes(of, ("id_number",), values)
        headers = (("shutong_publisher", publisher), ("ce_id", b"event-%d" % n))
        value = frame(1, encode(of, values))
        lane = partition_of(key, LANES)
        made.append(InboundRecord(DATASET, lane, n, key, value, headers, NOW_MS))
    return made


def rate(policy: DatasetPolicy, inbound: list[InboundRecord]) -> float:
    """Records per second of processor time: the median of rounds after one to warm up."""
    facts = LaneFacts()
    found = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        for record in inbound:
            policy.decide(record, facts, NOW_MS)
        found.append(len(inbound) / (time.process_time() - began))
    return statistics.median(found[1:])


def many(count: int, table: RegionTable) -> dict[str, dict[str, Any]]:
    """`count` grants; the first gets all rows, the others a town without records each."""
    towns = [town for county in table.children(city(8)) for town in table.children(county)]
    items = REFERENCE["b"]["items"]
    made: dict[str, dict[str, Any]] = {"g00000": {"items": items, "regions": None}}
    for n in range(1, count):
        made[f"g{n:05d}"] = {"items": items, "codes": [towns[n % len(towns)]]}
    return made


def main() -> None:
    table = divisions()
    inbound = records(RECORDS)
    size = statistics.mean(len(record.value or b"") for record in inbound)
    print(f"reference job, {size:.0f} bytes a record, three grants")
    rates = {}
    for make, some in ((PolicyInterpreter, inbound[:400]), (CompiledPolicy, inbound)):
        policy = world(REFERENCE, make, table)
        rates[make] = rate(policy, some)
        print(f"  {make.__name__:20} {rates[make]:10,.0f} records/s {1e6 / rates[make]:8.2f} µs")
        if isinstance(policy, CompiledPolicy) and policy.declined:
            print(f"  {policy.declined} records were left to the interpreter")
    print(f"  ratio {rates[CompiledPolicy] / rates[PolicyInterpreter]:.1f}")
    alone = 0.0
    for count in (1, 100, 10_000):
        grants = many(count, table)
        policy = world(grants, CompiledPolicy, table)
        found = rate(policy, inbound)
        alone = alone or found
        print(f"  {count:6,} grants        {found:10,.0f} records/s, {found / alone:.2f} of one")


if __name__ == "__main__":
    main()
