"""A small world for deciding: one table, one dataset with every kind of item, one grant.

What is not bent is allowed: the default record by the default publisher is placed for the default
grant. Rows are given as their JSON bodies, so that scenarios can be data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from shutong_broker.policy.build import build_policy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import DatasetPolicy, Decision, InboundRecord, LaneFacts
from shutong_broker.policy.plan import DatasetPlan
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Grant
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable, parse_table
from shutong_core.domain.version import AnyRow, next_version, parse_row
from shutong_core.wire.codec import decode, encode
from shutong_core.wire.framing import frame
from shutong_core.wire.keys import key_bytes, partition_of
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemas import Schema, parse_schema_text
from unit import listing_fixtures as listing

NOW = "2026-11-20T10:00:00+08:00"
ARRIVED_MS = 1_795_000_000_000
LANES = 6
MEIZHOU_GRANT = "minimum-living-meizhou"
ADULT = "11010519491231002X"  # the standard's own example
CHILD = "440000202001010014"  # area 440000 was never issued

_TABLE = """\
#divisions\t2023-06-30
000000000000\t0\t国家\t\t中华人民共和国
440000000000\t1\t省级\t000000000000\t广东省
440100000000\t2\t地级\t440000000000\t广州市
440106000000\t3\t县级\t440100000000\t天河区
440106001000\t4\t街道\t440106000000\t五山街道
441400000000\t2\t地级\t440000000000\t梅州市
441424000000\t3\t县级\t441400000000\t五华县
441424100000\t4\t镇\t441424000000\t水寨镇
441424104000\t4\t镇\t441424000000\t转水镇
441481000000\t3\t县级\t441400000000\t兴宁市
441481100000\t4\t镇\t441481000000\t福兴镇
441900000000\t2\t不设区县的地级市\t440000000000\t东莞市
441900003000\t4\t街道\t441900000000\t东城街道
!441425000000\t原梅县一部\t1990\t441481000000
!441426000000\t原某县\t1990\t441424000000,441481000000
"""


def _item(title: str, **fields: Any) -> dict[str, Any]:
    return {"title": title, "grade": "general_2", **fields}


def _field(name: str, avro: Any, title: str, **metadata: Any) -> dict[str, Any]:
    field: dict[str, Any] = {"name": name, "type": avro, "shutong": _item(title, **metadata)}
    if isinstance(avro, list):
        field["default"] = None
    return field


_DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
_DATE = {"type": "int", "logicalType": "date"}
_MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
FIELDS: dict[str, dict[str, Any]] = {
    field["name"]: field
    for field in (
        _field("decision_no", "string", "决定文号"),
        _field("id_number", ["null", "string"], "公民身份号码", personal=True),
        _field("name", "string", "姓名", personal=True),
        _field("born", ["null", _DATE], "出生日期", personal=True),
        _field("agency", ["null", "string"], "经办机构"),
        _field(
            "category",
            {"type": "enum", "name": "Category", "symbols": ["URBAN", "RURAL"]},
            "救助类别",
        ),
        _field("active", "boolean", "在保"),
        _field("members", "int", "家庭人数"),
        _field("adults", "int", "成年人数"),
        _field("children", ["null", "int"], "未成年人数"),
        _field("amount", ["null", _DECIMAL], "保障金额", personal=True),
        _field("score", "double", "评分"),
        _field("decided_on", _DATE, "决定日期"),
        _field("updated_at", _MILLIS, "更新时间"),
        _field("town_code", "string", "受理乡镇"),
        _field("home_code", ["null", "string"], "户籍地"),
        _field("deed", ["null", "string"], "操作"),
        _field("remarks", ["null", "string"], "备注"),
    )
}
RECORD: dict[str, Any] = {
    "decision_no": "MZ-2026-0001",
    "id_number": ADULT,
    "name": "示例丙丁",
    "born": None,
    "agency": None,
    "category": "RURAL",
    "active": True,
    "members": 3,
    "adults": 2,
    "children": 1,
    "amount": "980.50",
    "score": 61.5,
    "decided_on": "2026-11-02",
    "updated_at": "2026-11-02T08:30:00+00:00",
    "town_code": "441424100000",
    "home_code": "441481100000",
    "deed": None,
    "remarks": None,
}


def table() -> RegionTable:
    """The province with three cities, one of them without counties, and two retired codes."""
    return parse_table(_TABLE.encode())


def schema(changed: Mapping[str, Any] | None = None) -> Schema:
    """The dataset's schema; `changed` replaces parts of fields, or (None) takes fields away."""
    fields = []
    for name, field in FIELDS.items():
        change = (changed or {}).get(name, {})
        if change is None:
            continue
        metadata = field["shutong"] | change.get("shutong", {})
        fields.append({**field, **change, "shutong": metadata})
    text = {"type": "record", "name": "Decision", "namespace": "gov.civil", "fields": fields}
    return parse_schema_text(json.dumps(text))


def keys(key_id: str) -> bytes:
    """A different 32-byte secret for each key id."""
    return key_id.encode().ljust(32, b".")[:32]


def typed(values: Mapping[str, Any], of: Schema) -> dict[str, Any]:
    """JSON values as the codec's datum."""
    datum: dict[str, Any] = {}
    for name, value in values.items():
        logical = of.fields[name].logical
        if value is None or not isinstance(value, str):
            datum[name] = value
        elif logical == "decimal":
            datum[name] = Decimal(value)
        elif logical == "date":
            datum[name] = date.fromisoformat(value)
        elif logical is not None:
            datum[name] = datetime.fromisoformat(value)
        else:
            datum[name] = value
    return datum


def plain(value: Any) -> Any:
    """A datum's value as scenarios write it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def now_ms(moment: str = NOW) -> int:
    """Milliseconds since the epoch of an RFC 3339 moment."""
    return (datetime.fromisoformat(moment) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1
    )


class World:
    """A list built from bent rows, its policy, and records to decide by it."""

    def __init__(
        self,
        given: Mapping[str, Any] | None = None,
        make: Callable[[DatasetPlan, RegionTable], DatasetPolicy] = PolicyInterpreter,
    ) -> None:
        given = given or {}
        self.schema = schema(given.get("schema"))
        self.other = schema({"remarks": None})
        self.schemas: dict[int, Schema] = {1: self.schema, 2: self.other}
        dataset = self._dataset(given.get("dataset", {}), given.get("schema_versions", [1]))
        grants = given.get("grants", {MEIZHOU_GRANT: {}})
        rows: dict[str, AnyRow] = {
            row.row_id: row
            for row in (
                *listing.minimal_rows().values(),
                dataset,
                *(self._grant(grant_id, change, dataset) for grant_id, change in grants.items()),
                *(parse_row(body) for body in given.get("rows", [])),
            )
        }
        if MEIZHOU_GRANT not in grants:
            del rows[f"grant/{MEIZHOU_GRANT}"]
        for row_id in given.get("without", []):
            del rows[row_id]
        self.version = next_version(None, rows.values(), (), listing.EFFECTIVE_MS)
        self.policy: DatasetPolicy = build_policy(self.version, self.schemas, table(), keys, make)[
            dataset.id
        ]

    def _dataset(self, change: Mapping[str, Any], versions: list[int]) -> Dataset:
        refs = [
            {"version": n, "id": n, "guid": self.schemas[n].guid, "digest": digest}
            for n in versions
            for digest in [self.schemas[n].digest.hex()]
        ]
        body = listing.dataset().body() | {
            "regions": {"受理地": "town_code", "户籍地": "home_code"},
            "subjects": ["id_number"],
            "birth_items": ["id_number", "born"],
            "schemas": refs,
        }
        row = parse_row(body | dict(change))
        assert isinstance(row, Dataset)
        return row

    def _grant(self, grant_id: str, change: Mapping[str, Any], dataset: Dataset) -> Grant:
        body = listing.grant(grant_id).body() | {"projections": []} | dict(change)
        if "requester_class" in change:
            del body["requester"]
        row = parse_row(body)
        assert isinstance(row, Grant)
        if "projections" not in change:
            body["projections"] = [self._projection(row, ref.id) for ref in dataset.schemas]
        bound = parse_row(body)
        assert isinstance(bound, Grant)
        return bound

    def _projection(self, grant: Grant, schema_id: int) -> dict[str, Any]:
        try:
            delivered = project_schema(self.schemas[schema_id], grant.items, grant.dataset)
        except Rejected:  # the scenario wants a grant that should never have been published
            return {"schema_id": schema_id, "delivered_id": 999, "guid": listing.GUID.format(999)}
        known = [n for n, each in self.schemas.items() if each == delivered]
        delivered_id = known[0] if known else 101 + len(self.schemas)
        self.schemas[delivered_id] = delivered
        return {"schema_id": schema_id, "delivered_id": delivered_id, "guid": delivered.guid}

    def record(self, when: Mapping[str, Any] | None = None) -> InboundRecord:
        """The default record, or as `when` bends it (items, value, key, partition, headers)."""
        when = when or {}
        schema_id = when.get("schema_id", 1)
        of = self.schemas.get(schema_id, self.schema)
        values = {**RECORD, **when.get("record", {})}
        if "long_remark" in when:
            values["remarks"] = "x" * when["long_remark"]
        datum = typed({name: values[name] for name in of.fields}, of)
        value: bytes | None = frame(schema_id, encode(of, datum))
        if "value_hex" in when:
            value = bytes.fromhex(when["value_hex"]) if when["value_hex"] is not None else None
        if value is not None and "append_hex" in when:
            value += bytes.fromhex(when["append_hex"])
        if value is not None:
            value += bytes(when.get("append_zeros", 0))
        row = self.version.dataset("minimum-living")
        key: bytes | None = key_bytes(of, row.key if row else ("decision_no",), datum)
        if "key" in when:
            key = None if when["key"] is None else str(when["key"]).encode()
        headers = {
            "shutong_publisher": f"{listing.PROVIDER}/wuhua-civil",
            "ce_id": "event-1",
            **when.get("headers", {}),
            **({"x": "x" * when["long_header"]} if "long_header" in when else {}),
        }
        return InboundRecord(
            dataset=when.get("topic_of", "minimum-living"),
            partition=when.get("partition", partition_of(key or b"", LANES)),
            offset=when.get("offset", 41),
            key=key,
            value=value,
            headers=tuple((n, str(v).encode()) for n, v in headers.items() if v is not None),
            timestamp_ms=ARRIVED_MS,
        )

    def decide(self, when: Mapping[str, Any] | None = None) -> Decision:
        """What the policy decides on `record(when)`."""
        when = when or {}
        repeat = Reason[when["repeat"]] if "repeat" in when else None
        moment = now_ms(when.get("now", NOW))
        return self.policy.decide(self.record(when), LaneFacts(repeat), moment)

    def delivered(self, value: bytes) -> dict[str, Any]:
        """The items of a placed value, as scenarios write them."""
        of = self.schemas[int.from_bytes(value[1:5], "big")]
        return {name: plain(item) for name, item in decode(of, value[5:]).items()}
