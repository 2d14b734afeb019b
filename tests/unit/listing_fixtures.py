"""A minimal valid responsibility list, and builders to bend one row of it at a time.

五华县民政局 provides 最低生活保障 decisions; 梅州市民政局 of the level above reads six items of its
own city. Every builder takes keyword arguments that replace fields of its default row; all names
and codes of organisations are invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from shutong_core.domain.catalogue import Dataset, Grade, Item, SchemaRef, ShareClass
from shutong_core.domain.grants import (
    Bus,
    Duty,
    Grant,
    Negative,
    Projection,
    Purpose,
    Scope,
)
from shutong_core.domain.organisations import Organisation, Person, Role, System
from shutong_core.domain.regions import RegionTable, parse_table
from shutong_core.domain.schemaview import FieldType, PlainSchemaView
from shutong_core.domain.version import AnyRow, ListVersion, next_version

_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)

GUANGDONG = "440000000000"
GUANGZHOU = "440100000000"
MEIZHOU = "441400000000"
WUHUA = "441424000000"
XINGNING = "441481000000"
SHUIZHAI = "441424100000"

#: The few regions these tests speak of; a stand-in for the real table, made by the same rules.
_DIVISIONS = """#divisions\t2023-06-30
000000000000\t0\t国家\t\t中华人民共和国
440000000000\t1\t省级\t000000000000\t广东省
440100000000\t2\t地级\t440000000000\t广州市
440104000000\t3\t县级\t440100000000\t越秀区
441400000000\t2\t地级\t440000000000\t梅州市
441424000000\t3\t县级\t441400000000\t五华县
441424100000\t4\t镇\t441424000000\t水寨镇
441481000000\t3\t县级\t441400000000\t兴宁市
!440102000000\t东山区\t2005\t440104000000
"""

EFFECTIVE_MS = 1_790_000_000_000  # 2026-09-21
GUID = "00000000-0000-0000-0000-{:012d}"


@cache
def divisions() -> RegionTable:
    """The small division table that the default `bus()` names."""
    return parse_table(_DIVISIONS.encode())


def uscc(serial: int, region: str = GUANGDONG) -> str:
    """An invented USCC of a government body (`11`) with a valid check character (GB 32100)."""
    body = f"11{region[:6]}{serial:09d}"
    total = sum(_USCC_ALPHABET.index(c) * w for c, w in zip(body, _USCC_WEIGHTS, strict=True))
    return body + _USCC_ALPHABET[(31 - total % 31) % 31]


PROVIDER = uscc(1, WUHUA)
REQUESTER = uscc(2, MEIZHOU)
AUTHORITY = uscc(3, GUANGDONG)


def organisation(org_id: str = PROVIDER, **fields: Any) -> Organisation:
    """五华县民政局（示例）, provider, unless fields say otherwise."""
    defaults: dict[str, Any] = {
        "id": org_id,
        "name": "五华县民政局（示例）",
        "region": WUHUA,
        "line": "民政",
        "roles": (Role.PROVIDER, Role.REQUESTER),
        "head": Person(name="示例甲", post="局长"),
        "office_head": Person(name="示例乙", post="数据股股长"),
    }
    return Organisation(**(defaults | fields))


def requester(**fields: Any) -> Organisation:
    """梅州市民政局（示例）, requester."""
    defaults: dict[str, Any] = {"name": "梅州市民政局（示例）", "region": MEIZHOU}
    return organisation(REQUESTER, **(defaults | fields))


def authority(**fields: Any) -> Organisation:
    """广东省政务数据主管部门（示例）, authority of the province."""
    defaults: dict[str, Any] = {
        "name": "广东省政务数据主管部门（示例）",
        "region": GUANGDONG,
        "line": "政务数据",
        "roles": (Role.AUTHORITY,),
    }
    return organisation(AUTHORITY, **(defaults | fields))


def system(system_id: str = "wuhua-civil", org_id: str = PROVIDER, **fields: Any) -> System:
    """A departmental system, by default the provider's."""
    return System(**({"id": system_id, "organisation": org_id, "title": "救助系统"} | fields))


def bus(**fields: Any) -> Bus:
    """The node of the province, six lanes."""
    defaults: dict[str, Any] = {
        "title": "广东省节点（示例）",
        "region": GUANGDONG,
        "lanes": 6,
        "division_table": "2023-06-30",
        "division_digest": divisions().digest.hex(),
    }
    return Bus(**(defaults | fields))


def purpose(purpose_id: str = "social-relief", **fields: Any) -> Purpose:
    """A purpose code."""
    return Purpose(**({"id": purpose_id, "title": "社会救助"} | fields))


def dataset(dataset_id: str = "minimum-living", **fields: Any) -> Dataset:
    """最低生活保障 decisions, conditional, schema id 1."""
    defaults: dict[str, Any] = {
        "id": dataset_id,
        "title": "最低生活保障审批信息",
        "summary": "县级民政部门作出的最低生活保障决定",
        "resource_code": "203001/1",
        "provider": PROVIDER,
        "key": ("decision_no",),
        "regions": {"受理地": "town_code"},
        "provider_role": "受理地",
        "subjects": ("id_number",),
        "birth_items": ("id_number",),
        "share": ShareClass.CONDITIONAL,
        "share_scope": "民政、医保部门",
        "purposes": ("social-relief",),
        "use_conditions": "仅限救助业务核对",
        "update_cycle": "realtime",
        "format": "自描述格式",
        "share_modes": ("interface", "batch", "file"),
        "data_class": "社会保障",
        "secrecy_assessment": "BM-2026-001",
        "privacy_assessment": "PIA-2026-001",
        "approver": "示例甲",
        "schemas": (schema_ref(),),
    }
    return Dataset(**(defaults | fields))


def schema_ref(schema_id: int = 1, version_number: int = 1) -> SchemaRef:
    """A registered schema version with an invented digest."""
    return SchemaRef(
        version=version_number,
        id=schema_id,
        guid=GUID.format(schema_id),
        digest=f"{schema_id:064x}",
    )


def grant(grant_id: str = "minimum-living-meizhou", **fields: Any) -> Grant:
    """Six items of 最低生活保障 for 梅州市民政局, own city, interface."""
    defaults: dict[str, Any] = {
        "id": grant_id,
        "dataset": "minimum-living",
        "requester": REQUESTER,
        "items": {
            "decision_no": "clear",
            "id_number": "clear",
            "name": "clear",
            "category": "clear",
            "decided_on": "clear",
            "town_code": "clear",
        },
        "scope": Scope(role="受理地", regions=(MEIZHOU,)),
        "purpose": "social-relief",
        "basis": "社会救助暂行办法 第五十八条",
        "scenario": "救助对象核对",
        "mode": "interface",
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "valid_until": datetime(2027, 1, 1, tzinfo=UTC),
        "agreement": "XY-2026-001",
        "approvers": ("示例乙",),
        "projections": (projection(),),
    }
    if "requester_class" in fields:
        defaults.pop("requester")
    return Grant(**(defaults | fields))


def projection(schema_id: int = 1, delivered_id: int = 101) -> Projection:
    """What records of one schema version become, with an invented GUID."""
    return Projection(
        schema_id=schema_id, delivered_id=delivered_id, guid=GUID.format(delivered_id)
    )


def duty(duty_id: str = "minimum-living-duty", **fields: Any) -> Duty:
    """五华县民政局 owes the default grant's data."""
    defaults: dict[str, Any] = {
        "id": duty_id,
        "provider": PROVIDER,
        "dataset": "minimum-living",
        "grants": ("minimum-living-meizhou",),
        "basis": "政务数据共享条例 第二十二条",
        "update_cycle": "realtime",
        "responsible": "示例甲",
    }
    return Duty(**(defaults | fields))


def negative(negative_id: str = "no-amount", **fields: Any) -> Negative:
    """The amount of 最低生活保障 is on the negative list."""
    defaults: dict[str, Any] = {
        "id": negative_id,
        "dataset": "minimum-living",
        "items": ("amount",),
        "basis": "示例条例 第一条",
    }
    return Negative(**(defaults | fields))


def item(title: str, **fields: Any) -> Item:
    """An item's metadata, grade GENERAL_2 unless fields say otherwise."""
    return Item(**({"title": title, "grade": Grade.GENERAL_2} | fields))


def schema_view(**changed: tuple[FieldType, Item] | None) -> PlainSchemaView:
    """The default dataset's schema 1, with fields replaced, added or (None) taken away."""
    columns: dict[str, tuple[FieldType, Item] | None] = {
        "decision_no": (FieldType("decision_no", "string"), item("决定文号")),
        "id_number": (FieldType("id_number", "string"), item("公民身份号码", personal=True)),
        "name": (FieldType("name", "string"), item("姓名", personal=True)),
        "category": (
            FieldType("category", "enum", symbols=("URBAN", "RURAL")),
            item("救助类别", personal=True),
        ),
        "amount": (
            FieldType("amount", "bytes", "decimal"),
            item("保障金额", personal=True, sensitive=True, grade=Grade.GENERAL_3),
        ),
        "decided_on": (FieldType("decided_on", "int", "date"), item("决定日期")),
        "town_code": (FieldType("town_code", "string"), item("受理乡镇")),
        "remarks": (FieldType("remarks", "string", nullable=True), item("备注")),
    }
    columns.update(changed)
    kept = {name: column for name, column in columns.items() if column is not None}
    return PlainSchemaView(
        items={name: column[1] for name, column in kept.items()},
        fields={name: column[0] for name, column in kept.items()},
    )


def minimal_rows() -> dict[str, AnyRow]:
    """Rows of the minimal valid list, by row id."""
    rows: tuple[AnyRow, ...] = (
        bus(),
        purpose(),
        organisation(),
        requester(),
        authority(),
        system(),
        system("meizhou-civil", REQUESTER),
        dataset(),
        grant(),
    )
    return {row.row_id: row for row in rows}


def version(*rows: AnyRow) -> ListVersion:
    """List version 1 of exactly these rows, nothing checked across rows."""
    return next_version(None, rows, (), EFFECTIVE_MS)


def minimal(*rows: AnyRow, without: tuple[str, ...] = ()) -> ListVersion:
    """The minimal valid list with `rows` put in (same row id: replaced), row ids taken away."""
    kept: Mapping[str, AnyRow] = minimal_rows() | {row.row_id: row for row in rows}
    return version(*(row for row_id, row in kept.items() if row_id not in without))
