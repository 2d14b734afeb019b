"""Checks of a catalogue entry against its schema versions: items it names exist and fit their use.

An item must fit in every version, because records of all versions may be in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shutong_core.domain.catalogue import (
    Dataset,
    IdNumberRule,
    Item,
    OperationItem,
    QualityRule,
    RequiredRule,
    SumRule,
    UsccRule,
)
from shutong_core.domain.checks_context import Listing, finding
from shutong_core.domain.findings import Finding, Path
from shutong_core.domain.schemaview import FieldType

OPERATIONS = frozenset({"put", "correct", "delete"})
# Equal values must have equal bytes: no floats; and one value, so no collections.
_KEY_TYPES = frozenset({"string", "int", "long", "enum", "bytes", "fixed", "boolean"})

Fits = Callable[[FieldType, Item], bool]


def schemas_registered(listing: Listing) -> Iterator[Finding]:
    """A dataset has schema versions 1, 2, …, all registered, none twice."""
    for row in listing.datasets():
        if not row.schemas:
            yield finding(
                "schema-missing",
                row,
                "schemas",
                ("没有已登记的模式", "no schema is registered"),
                ("登记至少一个模式版本", "register a schema version"),
            )
        versions = [ref.version for ref in row.schemas]
        if versions != list(range(1, len(versions) + 1)):
            yield finding(
                "schema-versions",
                row,
                "schemas",
                (
                    "模式版本不是从 1 起逐个递增",
                    "schema versions do not count up from 1 by one",
                ),
                ("按登记次序列出全部版本", "list all versions in the order of registration"),
            )
        for index, ref in enumerate(row.schemas):
            unknown = ref.id not in listing.schemas
            if unknown or ref.id in [other.id for other in row.schemas[:index]]:
                yield finding(
                    "schema-unknown",
                    row,
                    f"schemas/{index}",
                    (
                        f"模式编号 {ref.id} 未登记或重复",
                        f"schema id {ref.id} is not registered, or twice",
                    ),
                    ("先登记模式", "register the schema first"),
                )


def key_fits(listing: Listing) -> Iterator[Finding]:
    """The key is made of items that are never null and have one encoding."""
    for row in listing.datasets():
        if not row.key or len(set(row.key)) != len(row.key):
            yield finding(
                "key-missing",
                row,
                "key",
                ("没有键信息项，或重复", "no key item, or one twice"),
                ("写能区分每条记录的信息项", "name the items that tell records apart"),
            )
        for index, name in enumerate(row.key):
            yield from _item(
                listing,
                row,
                ("key", index),
                name,
                lambda of, _: of.avro in _KEY_TYPES and not of.nullable,
                (
                    "键信息项须非空，类型为文本、整数、枚举或字节",
                    "a key item is never null, and text, whole number, enum or bytes",
                ),
            )


def region_roles_fit(listing: Listing) -> Iterator[Finding]:
    """Region roles point to text items; the provider's jurisdiction is checked on one of them."""
    for row in listing.datasets():
        if row.provider_role not in row.regions:
            yield finding(
                "region-role-unknown",
                row,
                "provider_role",
                (
                    f"区划角色 {row.provider_role} 不在 regions 中",
                    f"region role {row.provider_role} is not in `regions`",
                ),
                (
                    f"从中选一个：{'、'.join(row.regions) or '（空）'}",
                    f"choose one of: {', '.join(row.regions) or '(none)'}",
                ),
            )
        for role, name in row.regions.items():
            yield from _item(
                listing,
                row,
                ("regions", role),
                name,
                lambda of, _: of.avro == "string" and of.logical is None,
                ("区划信息项须为文本", "a region item is text"),
            )


def persons_found(listing: Listing) -> Iterator[Finding]:
    """Items that identify persons are marked personal; ages come from dates or identity numbers."""
    for row in listing.datasets():
        for index, name in enumerate(row.subjects):
            yield from _item(
                listing,
                row,
                ("subjects", index),
                name,
                lambda _, one: one.personal or one.sensitive,
                (
                    "识别个人的信息项须在模式中标为 personal",
                    "an item that identifies a person is marked `personal` in the schema",
                ),
            )
        for index, name in enumerate(row.birth_items):
            yield from _item(
                listing,
                row,
                ("birth_items", index),
                name,
                lambda of, _: of.logical == "date" or (of.avro == "string" and of.logical is None),
                ("须为日期或身份号码", "it is a date or an identity number"),
            )


def ages_told(listing: Listing) -> Iterator[Finding]:
    """Where persons are identified the list says what tells their age, or why nothing does.

    Else the rule for children under 14 would be off without anybody having said so
    (个人信息保护法 Art. 28, 31).
    """
    for row in listing.datasets():
        if row.subjects and not row.birth_items and row.ages_untold is None:
            yield finding(
                "ages-untold",
                row,
                "birth_items",
                (
                    "有识别个人的信息项，但未写判断年龄的信息项，无法保护未满十四周岁未成年人",
                    "persons are identified, but nothing tells who is under 14",
                ),
                (
                    "在 birth_items 写出生日期或身份号码；确无此项的，在 ages_untold 写理由和依据",
                    (
                        "name a birth date or identity number in `birth_items`; if there is none, "
                        "write reason and basis in `ages_untold`"
                    ),
                ),
            )


def operation_readable(listing: Listing) -> Iterator[Finding]:
    """The operation item holds put, correct or delete and nothing else."""
    for row in listing.datasets():
        if isinstance(row.operation, OperationItem):
            yield from _item(
                listing,
                row,
                ("operation", "item"),
                row.operation.item,
                lambda of, _: (
                    (of.avro == "string" and of.logical is None)
                    or (of.avro == "enum" and OPERATIONS.issuperset(of.symbols))
                ),
                (
                    "操作信息项须为文本，或取值为 put、correct、delete 的枚举",
                    "the operation item is text, or an enum of put, correct, delete",
                ),
            )


def quality_rules_fit(listing: Listing) -> Iterator[Finding]:
    """Quality rules name items of the right types; sums are of exact numbers."""
    for row in listing.datasets():
        for index, rule in enumerate(row.quality):
            if isinstance(rule, SumRule) and (not rule.parts or rule.total in rule.parts):
                yield finding(
                    "sum-rule",
                    row,
                    f"quality/{index}/parts",
                    ("求和规则没有分项，或合计也在分项中", "a sum needs parts, the total is none"),
                    ("列出各分项", "list the parts"),
                )
            fits, problem = _fits(rule)
            for path, name in _items_of(rule):
                yield from _item(listing, row, ("quality", index, *path), name, fits, problem)


def _fits(rule: QualityRule) -> tuple[Fits, tuple[str, str]]:
    if isinstance(rule, RequiredRule):
        return lambda _of, _one: True, ("", "")
    if isinstance(rule, SumRule):
        return (
            lambda of, _: (
                of.logical == "decimal" or (of.avro in ("int", "long") and of.logical is None)
            ),
            ("求和的信息项须为整数或 decimal", "items of a sum are whole numbers or decimals"),
        )
    return (
        lambda of, _: of.avro == "string" and of.logical is None,
        ("号码信息项须为文本", "the item of a number check is text"),
    )


def _items_of(rule: QualityRule) -> Iterator[tuple[Path, str]]:
    if isinstance(rule, SumRule):
        yield ("total",), rule.total
        for index, name in enumerate(rule.parts):
            yield ("parts", index), name
    elif isinstance(rule, RequiredRule | IdNumberRule | UsccRule):
        for index, name in enumerate(rule.items):
            yield ("items", index), name


def _item(
    listing: Listing,
    row: Dataset,
    path: Path,
    name: str,
    fits: Fits,
    problem: tuple[str, str],
) -> Iterator[Finding]:
    """The first version in which the item is missing or does not fit."""
    for ref, view in listing.views(row):
        if name not in view.fields or name not in view.items:
            yield Finding(
                "item-unknown",
                row.row_id,
                path,
                f"模式版本 {ref.version} 没有信息项 {name}",
                f"schema version {ref.version} has no item {name}",
                f"改正名称；现有：{'、'.join(list(view.fields)[:20])}",
                f"mend the name; there are: {', '.join(list(view.fields)[:20])}",
            )
            return
        if not fits(view.fields[name], view.items[name]):
            yield Finding(
                "item-unsuited",
                row.row_id,
                path,
                f"信息项 {name} 不能这样使用：{problem[0]}",
                f"item {name} does not suit: {problem[1]}",
                "换一个信息项，或改模式",
                "name another item, or change the schema",
            )
            return
