"""What decides a dataset's records, as `shutong policy explain` tells it.

Everything is taken from the plan that the broker decides by, so what is told is what is done; of
keys only their effect is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.plan import DatasetPlan, GrantPlan
from shutong_broker.policy.planning import Planner
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Band, Grant, Keep
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.steps import run
from shutong_core.domain.version import ListVersion
from shutong_core.wire.schemas import Schema

_REGIONS_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class Explained:
    """A dataset's plan under one list, and the generated source."""

    version: ListVersion
    dataset: Dataset
    plan: DatasetPlan
    source: str
    table: RegionTable
    now_ms: int


def explain_dataset(
    version: ListVersion,
    schemas: Mapping[int, Schema],
    table: RegionTable,
    dataset_id: str,
    now_ms: int,
) -> Explained:
    """What decides the records of a dataset. Raises Rejected if the list does not have it."""
    dataset = version.dataset(dataset_id)
    if dataset is None:
        known = ", ".join(row.id for row in version.of(Dataset)[:20])
        raise Rejected(
            f"清单 {version.number} 中没有数据资源 {dataset_id}；有：{known}。"
            f" List {version.number} has no dataset {dataset_id}; it has: {known}."
        )
    plan = run(Planner(version, schemas, table, _stand_in).planning(dataset))
    source = CompiledPolicy(plan, table).explain_source()
    return Explained(version, dataset, plan, source, table, now_ms)


def _stand_in(key_id: str) -> bytes:
    """A constant in place of the key: explaining needs none, so none is read."""
    return hashlib.sha256(b"no key: " + key_id.encode()).digest()


def explained_json(told: Explained, only: str | None) -> dict[str, Any]:
    """All of it for programs; grants but `only` are left out."""
    dataset, plan = told.dataset, told.plan
    return {
        "list": {
            "number": told.version.number,
            "digest": told.version.digest.hex(),
        },
        "dataset": {
            "id": dataset.id,
            "title": dataset.title,
            "in_force": plan.in_force,
            "lanes": plan.lanes,
            "publishers": {
                organisation: sorted(regions)
                for organisation, regions in sorted(plan.jurisdictions.items())
            },
            "provider_role": dataset.provider_role,
            "schemas": sorted({key for key in plan.schemas if isinstance(key, int)}),
        },
        "grants": [_grant_json(told, grant) for grant in _grants(told, only)],
        "source": told.source,
    }


def explained_lines(told: Explained, only: str | None) -> Iterator[str]:
    """All of it for people."""
    found = explained_json(told, only)
    dataset = found["dataset"]
    number = found["list"]["number"]
    yield f"{dataset['id']} {dataset['title']} — 清单 list {number} {found['list']['digest']}"
    if not dataset["in_force"]:
        reason = Reason.DATASET_NOT_IN_FORCE
        yield f"  全部拒收 every record is refused: {reason.zh} · {reason.en}"
    for organisation, regions in dataset["publishers"].items():
        row = told.version.organisation(organisation)
        name = f"{row.name} {organisation}" if row else organisation
        yield f"  发布 publisher {name}: {dataset['provider_role']} ∈ {_regions(told, regions)}"
    if not found["grants"]:
        yield "  无共享许可，不投放 no grant: nothing is placed"
    for grant in found["grants"]:
        yield ""
        yield f"{grant['id']} → {grant['requester_name']}"
        yield f"  现在 now: {grant['now']['zh']} · {grant['now']['en']}"
        for each in grant["decides"]:
            yield f"  - {each['zh']} · {each['en']}"
        for name, how in grant["items"].items():
            yield f"    {name}: {how}"
        if grant["not_granted"]:
            yield f"    不流出 not granted: {', '.join(grant['not_granted'])}"
    yield ""
    yield "裁决程序 The generated source:"
    yield ""
    yield told.source.rstrip("\n")


def _grants(told: Explained, only: str | None) -> list[Grant]:
    grants = told.version.grants_by_dataset.get(told.dataset.id, ())
    found = [grant for grant in grants if only in (None, grant.id)]
    if only is not None and not found:
        known = ", ".join(grant.id for grant in grants[:20]) or "—"
        raise Rejected(
            f"数据资源 {told.dataset.id} 没有许可 {only}；有：{known}。"
            f" Dataset {told.dataset.id} has no grant {only}; it has: {known}."
        )
    return found


def _grant_json(told: Explained, grant: Grant) -> dict[str, Any]:
    plans = {
        key: next(each for each in of.grants if each.grant.id == grant.id)
        for key, of in told.plan.schemas.items()
        if isinstance(key, int)
    }
    items = {name: _how(how) for name, how in grant.items.items()}
    schemas = [of.schema for key, of in told.plan.schemas.items() if isinstance(key, int)]
    all_items = dict.fromkeys(name for schema in schemas for name in schema.fields)
    now = _standing(list(plans.values()), told.now_ms)
    return {
        "id": grant.id,
        "requester": grant.requester,
        "requester_name": _requester(told, grant),
        "items": items,
        "not_granted": [name for name in all_items if items.get(name, "drop") == "drop"],
        "condition": grant.condition,
        "from": grant.valid_from.isoformat(),
        "until": grant.valid_until.isoformat(),
        "suspended": grant.suspended.since.isoformat() if grant.suspended else None,
        "schemas": [key for key, plan in plans.items() if plan.projection is not None],
        "now": _now(now),
        "decides": [{"zh": zh, "en": en} for zh, en in _decides(told, grant, plans)],
    }


def _now(reason: Reason | None) -> dict[str, str | None]:
    if reason is None:
        return {"reason": None, "zh": "逐条裁决", "en": "each record is decided by what follows"}
    return {"reason": reason.name, "zh": f"不投放：{reason.zh}", "en": f"withheld: {reason.en}"}


def _standing(plans: list[GrantPlan], now_ms: int) -> Reason | None:
    """Why nothing is placed now, whatever a record says; None if it depends on the record."""
    if not plans:
        return Reason.SCHEMA_NOT_GRANTED
    over = plans[0].out_of_time(now_ms)
    if over is not None:
        return over
    for reason, holds in (
        (Reason.NEGATIVE_LIST, all(each.blocked for each in plans)),
        (Reason.SCHEMA_NOT_GRANTED, all(each.projection is None for each in plans)),
        (Reason.GRANT_REGION_UNKNOWN, all(each.region_item is None for each in plans)),
        (Reason.CONDITION_ERROR, all(each.condition_broken for each in plans)),
    ):
        if holds:
            return reason
    return None


def _decides(
    told: Explained, grant: Grant, plans: Mapping[int, GrantPlan]
) -> Iterator[tuple[str, str]]:
    """What must hold for a record to be placed, in the order in which it is looked at."""
    span = f"{grant.valid_from.isoformat()} – {grant.valid_until.isoformat()}"
    yield f"有效期 {span}", f"valid {span}"
    if grant.suspended is not None:
        since = grant.suspended.since.isoformat()
        yield f"自 {since} 起中止：{grant.suspended.reason}", f"suspended since {since}"
    item = told.dataset.regions.get(grant.scope.role, "—")
    regions = sorted({code for plan in plans.values() for code in plan.scope})
    within = _regions(told, regions)
    if grant.requester_class is not None:
        # For a class every territory is in scope, each for its own member.
        within = f"{grant.requester_class.level} × {len(regions)}"
    yield f"{grant.scope.role}（{item}）在 {within} 之内", f"{item} lies in {within}"
    if grant.condition is not None:
        yield (
            f"条件为真，空值不算：{grant.condition}",
            f"the condition is true, null is not: {grant.condition}",
        )
    if grant.minors:
        yield "含未满十四周岁未成年人", "persons under 14 are covered"
    elif any(of.tells_age for of in told.plan.schemas.values()):
        yield "不含未满十四周岁未成年人", "no person under 14"
    for key, plan in plans.items():
        if plan.projection is None:
            yield f"模式 {key} 未覆盖", f"schema {key} is not covered"
        else:
            delivered = plan.projection.delivered_id
            yield f"模式 {key} 投影为 {delivered}", f"schema {key} becomes {delivered}"
    clear = all(plan.key_clear for plan in plans.values())
    if clear:
        yield "键原样", "the key stays as it is"
    else:
        yield "键为本许可专用的密钥哈希", "the key is a keyed hash, another one for each grant"


def _how(how: Any) -> str:
    """What happens to an item."""
    if isinstance(how, str):
        return how
    if isinstance(how, Keep):
        return f"keep {how.first}+{how.last}"
    if isinstance(how, Band):
        return f"band {how.by or ', '.join(f'{bound:g}' for bound in how.bounds or ())}"
    name: str = how.mask
    return name


def _requester(told: Explained, grant: Grant) -> str:
    if grant.requester is None:
        asked = grant.requester_class
        return f"按类 every {asked.level} in {asked.within}" if asked else "—"
    row = told.version.organisation(grant.requester)
    return f"{row.name} {grant.requester}" if row else grant.requester


def _regions(told: Explained, codes: list[str]) -> str:
    shown = [_region(told, code) for code in codes[:_REGIONS_SHOWN_MAX]]
    more = len(codes) - len(shown)
    return (", ".join(shown) or "∅") + (f" … +{more}" if more else "")


def _region(told: Explained, code: str) -> str:
    found = told.table.get(code)
    return f"{found.name} {code}" if found else code
