"""Checks of the node's own row, of regions, organisations, systems, duties.

Articles are those of 政务数据共享条例.
"""

from __future__ import annotations

from collections.abc import Iterator

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.checks_context import Listing, finding
from shutong_core.domain.findings import Finding, Path
from shutong_core.domain.grants import Bus, Duty, Grant
from shutong_core.domain.organisations import Organisation, Role, System
from shutong_core.domain.regions import Level
from shutong_core.domain.version import AnyRow


def bus_row(listing: Listing) -> Iterator[Finding]:
    """The list has a row for the node, made for the division table that is installed."""
    row = listing.version.rows.get("bus/bus")
    if not isinstance(row, Bus):
        yield Finding(
            "bus-missing",
            "bus/bus",
            (),
            "清单缺少 bus 行",
            "the list has no row for the node itself",
            "写 bus 一节",
            "write the section `bus`",
        )
        return
    table = listing.table
    if row.division_table != table.date:
        yield finding(
            "division-table-differs",
            row,
            "division_table",
            (f"区划表不是所装的 {table.date} 版", f"the table installed is of {table.date}"),
            (f'写 "{table.date}"，或换装区划表', f'write "{table.date}", or install the other'),
        )
    if row.division_digest != table.digest.hex():
        yield finding(
            "division-table-differs",
            row,
            "division_digest",
            ("区划表摘要与所装的不符", "this is not the digest of the table installed"),
            (f'写 "{table.digest.hex()}"', f'write "{table.digest.hex()}"'),
        )


def regions_known(listing: Listing) -> Iterator[Finding]:
    """Every region code is in the division table, current and written in full."""
    for row in listing.version.rows.values():
        for path, code in _regions_of(row):
            current = listing.table.normalise(code)
            if current == code:
                continue
            if current is not None:
                yield Finding(
                    "region-retired",
                    row.row_id,
                    path,
                    f"区划代码 {code} 已停用",
                    f"region code {code} is no longer current",
                    f"改用 {current}",
                    f"write {current}",
                )
                continue
            retired = listing.table.retired(code)
            successors = "、".join(retired.successors) if retired else ""
            yield Finding(
                "region-unknown",
                row.row_id,
                path,
                f"区划代码 {code} 不在 {listing.table.date} 区划表中",
                f"region code {code} is not in the division table of {listing.table.date}",
                f"改用现行代码 {successors}" if successors else "核对 12 位代码",
                f"choose among its successors {successors.replace('、', ', ')}"
                if successors
                else "look the 12-digit code up",
            )


def _regions_of(row: AnyRow) -> Iterator[tuple[Path, str]]:
    if isinstance(row, Bus | Organisation):
        yield ("region",), row.region
    elif isinstance(row, Dataset):
        for index, publisher in enumerate(row.publishers):
            yield ("publishers", index, "region"), publisher.region
    elif isinstance(row, Grant):
        for index, code in enumerate(row.scope.regions):
            yield ("scope", "regions", index), code
        if row.requester_class is not None:
            yield ("requester_class", "within"), row.requester_class.within
            for index, code in enumerate(row.requester_class.also):
                yield ("requester_class", "also", index), code


def organisations_complete(listing: Listing) -> Iterator[Finding]:
    """Roles are given, an organisation's region is a government's, the responsible are named.

    政务数据共享条例 Art. 10: each department names the office for data sharing; Art. 13: the
    head of the department approves catalogue entries.
    """
    providers = {dataset.provider for dataset in listing.datasets()}
    for row in listing.version.of(Organisation):
        if not isinstance(row, Organisation):
            continue
        if not row.roles or len(set(row.roles)) != len(row.roles):
            yield finding(
                "role-missing",
                row,
                "roles",
                ("没有角色，或角色重复", "no role, or a role twice"),
                ("写 provider、requester、authority 或 auditor", "name each of its roles once"),
            )
        if row.region.endswith("@self"):
            yield finding(
                "organisation-region",
                row,
                "region",
                ("部门所在区划不能写本级（@self）", "an organisation's region is not `@self`"),
                ("去掉 @self", "take `@self` away"),
            )
        if row.office_head is None and {Role.PROVIDER, Role.REQUESTER} & set(row.roles):
            yield finding(
                "office-head-missing",
                row,
                "office_head",
                (
                    "未写政务数据共享工作机构负责人（条例第十条）",
                    "the head of the data sharing office is not named (Art. 10)",
                ),
                ("补上 office_head 的姓名和职务", "write name and post in `office_head`"),
            )
        if row.head is None and row.id in providers:
            yield finding(
                "head-missing",
                row,
                "head",
                (
                    "目录须经部门负责人审批，未写部门负责人（条例第十三条）",
                    "the head who approves its catalogue entries is not named (Art. 13)",
                ),
                ("补上 head 的姓名和职务", "write name and post in `head`"),
            )


def roles_separate(listing: Listing) -> Iterator[Finding]:
    """One authority per region, from nation to county (条例 Art. 8); it is not its own auditor."""
    authorities: dict[str, Organisation] = {}
    for row in listing.version.of(Organisation):
        if not isinstance(row, Organisation) or Role.AUTHORITY not in row.roles:
            continue
        if Role.AUDITOR in row.roles:
            yield finding(
                "authority-audits-itself",
                row,
                "roles",
                ("主管部门不能同时承担审计", "an authority cannot be the auditor too"),
                ("审计角色另由一个部门承担", "give the role of auditor to another organisation"),
            )
        region = listing.table.get(row.region)
        if region is not None and region.level > Level.COUNTY:
            yield finding(
                "authority-level",
                row,
                "roles",
                (
                    "主管部门只设在县级以上（条例第八条）",
                    "only county level and above has an authority (Art. 8)",
                ),
                ("去掉 authority 角色", "take the role `authority` away"),
            )
        first = authorities.setdefault(row.region, row)
        if first is not row:
            yield finding(
                "authority-double",
                row,
                "roles",
                (f"同一区划已有主管部门 {first.name}", f"{first.id} is authority of this region"),
                ("只保留一个主管部门", "keep one authority for each region"),
            )


def organisations_known(listing: Listing) -> Iterator[Finding]:
    """Systems and hosts belong to organisations of the list; hosting does not chain."""
    version = listing.version
    for row in version.rows.values():
        if isinstance(row, System) and version.organisation(row.organisation) is None:
            yield finding(
                "organisation-unknown",
                row,
                "organisation",
                ("所属部门不在清单中", "its organisation is not in the list"),
                ("先登记该部门，或改正代码", "enter the organisation, or mend the code"),
            )
        if isinstance(row, Organisation) and row.hosted_by is not None:
            host = version.organisation(row.hosted_by)
            if host is None or host.id == row.id or host.hosted_by is not None:
                yield finding(
                    "host-unsuited",
                    row,
                    "hosted_by",
                    (
                        "代管部门不在清单中、是其自身，或其自身也被代管",
                        "the host is not in the list, is itself, or is hosted itself",
                    ),
                    ("写一个自行管理的部门", "name an organisation that is not hosted"),
                )


def duties_fit(listing: Listing) -> Iterator[Finding]:
    """A duty is the provider's own, for grants of its dataset."""
    version = listing.version
    for row in version.of(Duty):
        if not isinstance(row, Duty):
            continue
        dataset = version.dataset(row.dataset)
        if dataset is None:
            yield finding(
                "dataset-unknown",
                row,
                "dataset",
                ("数据资源不在清单中", "its dataset is not in the list"),
                ("改正编号，或先编目", "mend the id, or enter the dataset"),
            )
            continue
        writers = {dataset.provider, *(one.organisation for one in dataset.publishers)}
        if row.provider not in writers:
            yield finding(
                "duty-of-another",
                row,
                "provider",
                (
                    "责任部门不是该数据资源的提供方或发布方",
                    "the organisation neither provides nor publishes the dataset",
                ),
                ("写提供方或发布方", "name the provider or a publisher"),
            )
        for index, grant_id in enumerate(row.grants):
            grant = version.grant(grant_id)
            if grant is None or grant.dataset != row.dataset:
                yield finding(
                    "duty-grant-unknown",
                    row,
                    f"grants/{index}",
                    (
                        f"许可 {grant_id} 不在清单中，或不属于该数据资源",
                        f"grant {grant_id} is not in the list, or not of this dataset",
                    ),
                    ("改正许可编号", "mend the grant's id"),
                )
