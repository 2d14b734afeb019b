"""Checks of catalogue entries: who provides, on what terms, of what grade.

Articles are those of 政务数据共享条例.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from shutong_core.domain.catalogue import Dataset, Grade, ShareClass
from shutong_core.domain.checks_context import Listing, finding, publishing_systems
from shutong_core.domain.findings import Finding
from shutong_core.domain.organisations import Role

_FILE_FORMATS = frozenset({"电子文件", "图形图像", "流媒体"})


def datasets_carried(listing: Listing) -> Iterator[Finding]:
    """Events only for now; nothing secret (Art. 2 excludes 国家秘密 and 工作秘密)."""
    for row in listing.datasets():
        if row.nature == "state":
            yield finding(
                "state-dataset-not-yet",
                row,
                "nature",
                (
                    "暂不支持状态类数据：尚不能告知接收方某键已不再符合",
                    "state datasets are not carried yet: receivers could not be told who left",
                ),
                ("改为事件类（event），逐条发布决定", "publish dated events (`nature: event`)"),
            )
        if row.secrecy != "none":
            yield finding(
                "secrecy-not-none",
                row,
                "secrecy",
                ("国家秘密、工作秘密不得上总线（条例第二条）", "secrets are not carried (Art. 2)"),
                ("移出清单", "take the dataset out of the list"),
            )


def providers_known(listing: Listing) -> Iterator[Finding]:
    """Provider and publishers are providers of the list; a publisher writes for its own region."""
    for row in listing.datasets():
        named = [("provider", row.provider)]
        named += [
            (f"publishers/{index}/organisation", one.organisation)
            for index, one in enumerate(row.publishers)
        ]
        for path, uscc in named:
            found = listing.version.organisation(uscc)
            if found is None:
                yield finding(
                    "organisation-unknown",
                    row,
                    path,
                    ("部门不在清单中", "the organisation is not in the list"),
                    ("先登记该部门，或改正代码", "enter the organisation, or mend the code"),
                )
            elif Role.PROVIDER not in found.roles:
                yield finding(
                    "not-a-provider",
                    row,
                    path,
                    ("该部门没有提供部门角色", "the organisation has not the role of provider"),
                    ("为其加 provider 角色，或改写部门", "give it the role, or name another"),
                )
        for index, one in enumerate(row.publishers):
            found = listing.version.organisation(one.organisation)
            if found is not None and not listing.table.contains(found.region, one.region):
                yield finding(
                    "publisher-outside-region",
                    row,
                    f"publishers/{index}/region",
                    (
                        "发布区划不在该部门所辖区划内",
                        "the region lies outside the publisher's own",
                    ),
                    (f"写 {found.region} 或其下级", f"write {found.region} or a region in it"),
                )
            if one in row.publishers[:index]:
                yield finding(
                    "publisher-double",
                    row,
                    f"publishers/{index}",
                    ("同一发布方和区划写了两次", "this publisher and region is there twice"),
                    ("只保留一项", "keep one of the two"),
                )


def one_writer(listing: Listing) -> Iterator[Finding]:
    """A dataset written by an own Kafka client has exactly one system that writes it."""
    for row in listing.datasets():
        systems = publishing_systems(listing.version, row)
        if row.inbound == "own_client" and len(systems) != 1:
            names = ", ".join(system.id for system in systems) or "-"
            yield finding(
                "own-client-one-writer",
                row,
                "inbound",
                (
                    f"自有客户端发布须恰有一个系统，现有：{names}",
                    f"own-client publishing needs exactly one system, found: {names}",
                ),
                (
                    "只留一个发布系统，或改为 producer_service",
                    "leave one publishing system, or use `producer_service`",
                ),
            )


def share_terms(listing: Listing) -> Iterator[Finding]:
    """Conditions list scope and purposes, refusal its reason and basis (Art. 13-15)."""
    for row in listing.datasets():
        conditional = row.share is ShareClass.CONDITIONAL or any(
            item.share is ShareClass.CONDITIONAL
            for _, view in listing.views(row)
            for item in view.items.values()
        )
        if conditional and row.share is not ShareClass.NOT_SHARED:
            for field, value in (
                ("share_scope", row.share_scope),
                ("purposes", row.purposes),
                ("use_conditions", row.use_conditions),
            ):
                if not value:
                    yield finding(
                        "condition-unlisted",
                        row,
                        field,
                        (
                            f"有条件共享须列明 {field}（条例第十三、十五条）",
                            f"conditional sharing must state `{field}` (Art. 13, 15)",
                        ),
                        (f"补上 {field}", f"write `{field}`"),
                    )
        if row.share is ShareClass.NOT_SHARED:
            for field, given in (
                ("not_shared_reason", row.not_shared_reason),
                ("not_shared_basis", row.not_shared_basis),
                ("not_shared_basis_kind", row.not_shared_basis_kind),
            ):
                if given is None:
                    yield finding(
                        "refusal-without-basis",
                        row,
                        field,
                        (
                            "不予共享须写理由和法律、行政法规或国务院决定依据（条例第十四、十五条）",
                            (
                                "not sharing needs reason and basis: law, regulation, decision of "
                                "the State Council (Art. 14, 15)"
                            ),
                        ),
                        (f"补上 {field}", f"write `{field}`"),
                    )
        for index, purpose in enumerate(row.purposes):
            if f"purpose/{purpose}" not in listing.version.rows:
                yield finding(
                    "purpose-unknown",
                    row,
                    f"purposes/{index}",
                    (f"用途 {purpose} 未登记", f"purpose {purpose} is not in the list"),
                    ("先登记该用途，或改正编号", "enter the purpose, or mend its id"),
                )


def graded(listing: Listing) -> Iterator[Finding]:
    """Core data are not carried; important data need a risk record, personal data an assessment."""
    for row in listing.datasets():
        for ref, view in listing.views(row):
            path = f"schemas/{row.schemas.index(ref)}"
            if view.grade is Grade.CORE:
                yield finding(
                    "core-data",
                    row,
                    path,
                    ("含核心数据，不得上总线", "the schema holds core data, which are not carried"),
                    ("从模式中去掉核心数据项", "take the items of grade core out of the schema"),
                )
            if view.grade is Grade.IMPORTANT and row.risk_record is None:
                yield finding(
                    "important-without-risk-record",
                    row,
                    "risk_record",
                    (
                        "含重要数据，缺少风险评估记录",
                        "it holds important data and has no risk record",
                    ),
                    ("补上 risk_record", "write `risk_record`"),
                )
            personal = [name for name, one in view.items.items() if one.personal or one.sensitive]
            if personal and row.privacy_assessment is None:
                yield finding(
                    "privacy-assessment-missing",
                    row,
                    "privacy_assessment",
                    (
                        f"信息项 {personal[0]} 涉及个人信息，缺少影响评估（条例第十二条）",
                        f"item {personal[0]} is personal and no impact assessment is named",
                    ),
                    ("补上评估编号", "write the number of the assessment"),
                )


def derived_with_consent(listing: Listing) -> Iterator[Finding]:
    """What was made of shared data passes on only with the source's consent (Art. 25)."""
    for row in listing.datasets():
        if row.derived_from and row.onward_consent is None:
            yield finding(
                "derived-without-consent",
                row,
                "onward_consent",
                (
                    "由共享数据加工而成，未经来源方同意不得再提供（条例第二十五条）",
                    "made from shared data: passing it on needs the source's consent (Art. 25)",
                ),
                ("补上同意文号", "write the number of the consent"),
            )
        for index, grant_id in enumerate(row.derived_from):
            if listing.version.grant(grant_id) is None:
                yield finding(
                    "derived-grant-unknown",
                    row,
                    f"derived_from/{index}",
                    (f"来源许可 {grant_id} 不在清单中", f"grant {grant_id} is not in the list"),
                    ("改正许可编号", "mend the grant's id"),
                )


def entries_distinct(listing: Listing) -> Iterator[Finding]:
    """One lead source and one name for the same data (Art. 19); titles name data, not systems."""
    titles: dict[str, Dataset] = {}
    codes: dict[str, Dataset] = {}
    for row in listing.datasets():
        folded = _folded(row.title)
        first = titles.setdefault(folded, row)
        if first is not row:
            yield finding(
                "title-double",
                row,
                "title",
                (f"名称与 {first.id} 相同（不计标点）", f"same title as {first.id}"),
                (
                    "一数一源：合并为一个数据资源，或改名（条例第十九条）",
                    "one source for one kind of data: merge the two, or rename (Art. 19)",
                ),
            )
        first = codes.setdefault(row.resource_code, row)
        if first is not row:
            yield finding(
                "resource-code-double",
                row,
                "resource_code",
                (f"资源代码与 {first.id} 相同", f"same resource code as {first.id}"),
                ("换一个顺序码", "choose another serial number"),
            )
        if folded.endswith(("系统", "平台")):
            yield finding(
                "title-names-system",
                row,
                "title",
                ("名称写的是系统，不是数据", "the title names a system, not data"),
                ("以数据内容命名", "name what the data are about"),
            )


def modes_fit(listing: Listing) -> Iterator[Finding]:
    """Share modes are given and can carry the format (Art. 13, 22)."""
    for row in listing.datasets():
        if not row.share_modes:
            yield finding(
                "share-modes-missing",
                row,
                "share_modes",
                ("未写共享方式（条例第十三条）", "no share mode is given (Art. 13)"),
                ("写 interface、batch 或 file", "name `interface`, `batch` or `file`"),
            )
        needed = "interface" if row.format == "服务接口" else None
        needed = "file" if row.format in _FILE_FORMATS else needed
        if row.share_modes and needed is not None and needed not in row.share_modes:
            yield finding(
                "format-mode-clash",
                row,
                "share_modes",
                (f"格式 {row.format} 须含共享方式 {needed}", f"this format needs mode {needed}"),
                (f"加上 {needed}，或改格式", f"add `{needed}`, or change the format"),
            )


def _folded(title: str) -> str:
    """The title without what does not tell two names apart: width, case, spaces, punctuation."""
    plain = unicodedata.normalize("NFKC", title).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] not in "PZC")
