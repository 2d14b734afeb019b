"""Checks of grants: who may receive what region's records, why, until when.

Articles are those of 政务数据共享条例.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.checks_context import Listing, finding
from shutong_core.domain.errors import Rejected
from shutong_core.domain.findings import Finding
from shutong_core.domain.grants import Grant
from shutong_core.domain.organisations import Role, System
from shutong_core.domain.regions import Level


def grants_resolve(listing: Listing) -> Iterator[Finding]:
    """Dataset, requester, purpose and region role of a grant are in the list."""
    version = listing.version
    for row in listing.grants():
        dataset = version.dataset(row.dataset)
        if dataset is None:
            yield finding(
                "dataset-unknown",
                row,
                "dataset",
                (f"数据资源 {row.dataset} 不在清单中", f"{row.dataset} is not in the list"),
                ("改正编号，或先编目", "mend the id, or enter the dataset"),
            )
        elif row.scope.role not in dataset.regions:
            yield finding(
                "region-role-unknown",
                row,
                "scope/role",
                (
                    f"数据资源没有区划角色 {row.scope.role}",
                    f"the dataset has no region role {row.scope.role}",
                ),
                (
                    f"从中选一个：{'、'.join(dataset.regions)}",
                    f"choose one of: {', '.join(dataset.regions)}",
                ),
            )
        if f"purpose/{row.purpose}" not in version.rows:
            yield finding(
                "purpose-unknown",
                row,
                "purpose",
                (f"用途 {row.purpose} 未登记", f"purpose {row.purpose} is not in the list"),
                ("先登记该用途，或改正编号", "enter the purpose, or mend its id"),
            )
        if row.requester is None:
            continue
        found = version.organisation(row.requester)
        if found is None:
            yield finding(
                "organisation-unknown",
                row,
                "requester",
                ("需求部门不在清单中", "the requester is not in the list"),
                ("先登记该部门，或改正代码", "enter the organisation, or mend the code"),
            )
        elif Role.REQUESTER not in found.roles:
            yield finding(
                "not-a-requester",
                row,
                "requester",
                ("该部门没有需求部门角色", "the organisation has not the role of requester"),
                ("为其加 requester 角色，或改写部门", "give it the role, or name another"),
            )


def terms_kept(listing: Listing) -> Iterator[Finding]:
    """A grant stays within the catalogue entry's purposes and modes, is approved, has a term."""
    for row, dataset in listing.granted():
        if dataset.purposes and row.purpose not in dataset.purposes:
            yield finding(
                "purpose-not-permitted",
                row,
                "purpose",
                (
                    "目录未列明此用途（条例第十五条）",
                    "the catalogue entry does not permit this purpose (Art. 15)",
                ),
                (
                    f"从中选一个：{'、'.join(dataset.purposes)}",
                    f"choose one of: {', '.join(dataset.purposes)}",
                ),
            )
        if row.mode not in dataset.share_modes:
            yield finding(
                "mode-not-offered",
                row,
                "mode",
                ("目录未提供此共享方式", "the catalogue entry does not offer this mode"),
                (
                    f"从中选一个：{'、'.join(dataset.share_modes)}",
                    f"choose one of: {', '.join(dataset.share_modes)}",
                ),
            )
    for row in listing.grants():
        if not row.approvers:
            yield finding(
                "approver-missing",
                row,
                "approvers",
                ("没有审批人（条例第二十、二十一条）", "nobody approved it (Art. 20, 21)"),
                ("写双方工作机构负责人", "name the heads of both offices"),
            )
        if row.valid_from >= row.valid_until:
            yield finding(
                "validity-empty",
                row,
                "valid_until",
                ("使用时限的结束不晚于开始", "it ends before it begins"),
                ("改正起止时间", "mend the two times"),
            )


def scopes_fit(listing: Listing) -> Iterator[Finding]:
    """A grant to one names its regions; a class grant is scoped by its class, which has members."""
    for row in listing.grants():
        members = row.requester_class
        if members is None:
            if not row.scope.regions:
                yield finding(
                    "scope-empty",
                    row,
                    "scope/regions",
                    ("没有写使用范围的区划（条例第二十条）", "no region is named (Art. 20)"),
                    ("列出区划代码，全国写 000000000000", "list codes; the nation is 000000000000"),
                )
            continue
        if row.scope.regions:
            yield finding(
                "class-scope-given",
                row,
                "scope/regions",
                (
                    "按类许可的范围就是各自辖区，不另写区划",
                    "a class grant's scope is each member's own territory",
                ),
                ("删除 regions，用 within 限定", "take `regions` away, `within` bounds the class"),
            )
        try:
            found = listing.table.territories(
                Level.named(members.level), members.within, members.also
            )
        except Rejected:
            continue  # codes not in the table are told by `regions_known`
        if not found:
            yield finding(
                "class-empty",
                row,
                "requester_class",
                ("该区划内没有这一级政府", "no government of this level lies in the region"),
                ("改正 level 或 within", "mend `level` or `within`"),
            )
        for index, code in enumerate(members.also):
            if not listing.table.contains(members.within, code):
                yield finding(
                    "class-outside",
                    row,
                    f"requester_class/also/{index}",
                    ("区划不在 within 之内", "the region lies outside `within`"),
                    ("删除，或扩大 within", "take it away, or widen `within`"),
                )


def return_flow_free(listing: Listing) -> Iterator[Finding]:
    """Return flow goes down, of the receiver's own territory, without conditions (Art. 24)."""
    for row, dataset in listing.granted():
        if not row.return_flow:
            continue
        for field, given in (("condition", row.condition), ("quota", row.quota)):
            if given is not None:
                yield finding(
                    "return-flow-condition",
                    row,
                    field,
                    (
                        "数据回流不得附加条件（条例第二十四条）",
                        "return flow accepts no extra condition (Art. 24)",
                    ),
                    (f"删除 {field}；可用掩码", f"take `{field}` away; masks are allowed"),
                )
        yield from _downwards(listing, row, dataset)


def _downwards(listing: Listing, row: Grant, dataset: Dataset) -> Iterator[Finding]:
    provider = listing.version.organisation(dataset.provider)
    requester = listing.version.organisation(row.requester) if row.requester else None
    if row.requester_class is not None:
        territory = row.requester_class.within
        # The class's members lie below `within` unless they are of its own level.
        below = _level(listing, territory) < Level.named(row.requester_class.level)
    elif requester is not None:
        territory, below = requester.region, False
        for index, code in enumerate(row.scope.regions):
            if not listing.table.contains(territory, code):
                yield finding(
                    "return-flow-outside",
                    row,
                    f"scope/regions/{index}",
                    (
                        "回流数据限于需求部门本行政区域",
                        "return flow is of the requester's own territory only",
                    ),
                    (f"写 {territory} 或其下级", f"write {territory} or a region in it"),
                )
    else:
        return
    if provider is None:
        return
    inside = listing.table.contains(provider.region, territory)
    if not inside or (territory == provider.region and not below):
        yield finding(
            "return-flow-not-down",
            row,
            "return_flow",
            (
                "回流须由上级部门向其辖区内下级政府提供",
                "return flow goes from an upper department to a lower government in its region",
            ),
            (
                "去掉 return_flow，或改正提供方、需求方",
                "take `return_flow` away, or mend the parties",
            ),
        )


def _level(listing: Listing, code: str) -> Level:
    region = listing.table.get(code)
    return Level.TOWN if region is None else region.level


def replaced_well(listing: Listing) -> Iterator[Finding]:
    """A grant replaces another one of the same dataset and requester."""
    for row in listing.grants():
        if row.replaces is None:
            continue
        # The old grant may be gone from this list; then it is looked up in the one in force.
        held = listing.previous.grant(row.replaces) if listing.previous else None
        old = listing.version.grant(row.replaces) or held
        if old is None or old.id == row.id or _receiver(old) != _receiver(row):
            yield finding(
                "replaces-unsuited",
                row,
                "replaces",
                (
                    "被替换的许可不存在、是其自身，或数据资源、需求方不同",
                    (
                        "the replaced grant is not there, is itself, or is of another dataset or "
                        "requester"
                    ),
                ),
                ("改正编号，或去掉 replaces", "mend the id, or take `replaces` away"),
            )


def grants_disjoint(listing: Listing) -> Iterator[Finding]:
    """No record reaches one requester twice for one purpose."""
    groups: dict[object, list[Grant]] = defaultdict(list)
    for row in listing.grants():
        if row.suspended is None:
            groups[(*_receiver(row), row.purpose, row.mode, row.scope.role)].append(row)
    for rows in groups.values():
        for first, second in combinations(rows, 2):
            if _overlap(listing, first, second):
                yield finding(
                    "grant-overlap",
                    second,
                    "",
                    (
                        f"与许可 {first.id} 重叠：同一需求方、用途、区划和时段",
                        f"overlaps with grant {first.id}: same requester, purpose, region, time",
                    ),
                    (
                        "合并两项，或先结束旧许可再由新许可接替（replaces）",
                        "merge the two, or end the old one before the new one (`replaces`) begins",
                    ),
                )


def _receiver(row: Grant) -> tuple[object, ...]:
    members = row.requester_class
    return (row.dataset, row.requester, members and (members.level, members.within))


def _overlap(listing: Listing, a: Grant, b: Grant) -> bool:
    if a.valid_until <= b.valid_from or b.valid_until <= a.valid_from:
        return False
    if a.condition is not None and b.condition is not None and a.condition != b.condition:
        return False  # two conditions may share records out between them
    if a.requester_class is not None:
        return True
    contains = listing.table.contains
    return any(
        contains(one, two) or contains(two, one)
        for one in a.scope.regions
        for two in b.scope.regions
    )


def own_clients_allowed(listing: Listing) -> Iterator[Finding]:
    """Only a requester with a system of its own reads Kafka itself; a class never does."""
    owners = {row.organisation for row in listing.version.of(System) if isinstance(row, System)}
    for row in listing.grants():
        if not row.own_client:
            continue
        if row.requester_class is not None:
            yield finding(
                "class-own-client",
                row,
                "own_client",
                (
                    "按类许可由订阅服务分送，不能自有客户端读取",
                    "a class grant is split by the consumer service, nobody reads its topic",
                ),
                ("去掉 own_client", "take `own_client` away"),
            )
        elif row.requester not in owners:
            yield finding(
                "own-client-no-system",
                row,
                "own_client",
                ("需求部门没有登记系统", "the requester has no system in the list"),
                ("先登记系统", "enter its system"),
            )
