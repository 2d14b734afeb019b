"""Checks of what a grant lets flow: items, masks, persons.

政务数据共享条例 Art. 14; 个人信息保护法 Art. 28, 55.
"""

from __future__ import annotations

from collections.abc import Iterator

from shutong_core.domain.catalogue import Grade, OperationItem, ShareClass
from shutong_core.domain.checks_context import Listing, finding, flowing
from shutong_core.domain.findings import Finding
from shutong_core.domain.grants import Band, Drop, Grant, Keep, Mask
from shutong_core.domain.schemaview import FieldType

_NUMBERS = frozenset({"int", "long", "float", "double"})


def _at(
    code: str, row: Grant, name: str, problem: tuple[str, str], remedy: tuple[str, str]
) -> Finding:
    return Finding(code, row.row_id, ("items", name), *problem, *remedy)


def items_known(listing: Listing) -> Iterator[Finding]:
    """A grant lists items of the dataset, and lets at least one flow."""
    for row, dataset in listing.granted():
        if not flowing(row):
            yield finding(
                "items-none",
                row,
                "items",
                ("没有任何信息项可以提供", "no item flows"),
                ("列出所需的信息项", "list the items that are needed"),
            )
        views = listing.views(dataset)
        for name in row.items:
            if views and not any(name in view.fields for _, view in views):
                yield _at(
                    "item-unknown",
                    row,
                    name,
                    (f"数据资源没有信息项 {name}", f"the dataset has no item {name}"),
                    (
                        f"改正名称；现有：{'、'.join(list(views[-1][1].fields)[:20])}",
                        f"mend the name; there are: {', '.join(list(views[-1][1].fields)[:20])}",
                    ),
                )


def masks_fit(listing: Listing) -> Iterator[Finding]:
    """A mask fits the item's type; what is biometric is dropped and nothing else."""
    for row, dataset in listing.granted():
        for name, how in row.items.items():
            for _, view in listing.views(dataset):
                if name not in view.fields or isinstance(how, Drop):
                    continue
                if view.items[name].biometric:
                    yield _at(
                        "biometric-only-dropped",
                        row,
                        name,
                        ("照片、指纹等生物识别信息不得提供", "photos and fingerprints do not flow"),
                        ("删除该项，或写 {mask: drop}", "take it away, or write {mask: drop}"),
                    )
                    break
                problem = None if how == "clear" else _misfit(how, view.fields[name])
                if problem is not None:
                    yield _at(
                        "mask-misfit",
                        row,
                        name,
                        problem,
                        ("换一种掩码；hash 和 drop 适用任何类型", "hash and drop fit any type"),
                    )
                    break


def _misfit(how: Mask, of: FieldType) -> tuple[str, str] | None:
    if isinstance(how, Keep) and (of.avro != "string" or of.logical is not None):
        return ("keep 只用于文本", "mask keep is for text only")
    if isinstance(how, Band) and how.by is not None and of.logical != "date":
        return ("band 的 by 只用于日期", "mask band with `by` is for dates only")
    number = of.logical == "decimal" or (of.avro in _NUMBERS and of.logical is None)
    if isinstance(how, Band) and how.bounds is not None and not number:
        return ("band 的 bounds 只用于数值", "mask band with `bounds` is for numbers only")
    return None


def shared_items_only(listing: Listing) -> Iterator[Finding]:
    """What is not shared or on the negative list is not granted; the stricter class holds."""
    for row, dataset in listing.granted():
        if dataset.share is ShareClass.NOT_SHARED:
            yield finding(
                "not-shared",
                row,
                "dataset",
                (
                    f"该数据资源不予共享：{dataset.not_shared_basis or ''}",
                    f"this dataset is not shared: {dataset.not_shared_basis or ''}",
                ),
                ("撤销此许可", "take the grant away"),
            )
        views = listing.views(dataset)
        for name in flowing(row):
            if any(
                name in view.items and view.items[name].share is ShareClass.NOT_SHARED
                for _, view in views
            ):
                yield _at(
                    "item-not-shared",
                    row,
                    name,
                    (f"信息项 {name} 不予共享", f"item {name} is not shared"),
                    ("删除该项", "take the item away"),
                )
        for negative in listing.negatives():
            if negative.dataset != dataset.id:
                continue
            blocked = negative.items or tuple(flowing(row))
            for name in blocked:
                if name in flowing(row):
                    yield _at(
                        "negative-list",
                        row,
                        name,
                        (
                            f"信息项 {name} 列入负面清单 {negative.id}：{negative.basis}",
                            f"item {name} is on the negative list, {negative.id}: {negative.basis}",
                        ),
                        ("删除该项", "take the item away"),
                    )


def negatives_resolve(listing: Listing) -> Iterator[Finding]:
    """A row of the negative list names a dataset and items that exist, else it protects nothing."""
    for row in listing.negatives():
        dataset = listing.version.dataset(row.dataset)
        if dataset is None:
            yield finding(
                "dataset-unknown",
                row,
                "dataset",
                (f"数据资源 {row.dataset} 不在清单中", f"{row.dataset} is not in the list"),
                ("改正编号", "mend the id"),
            )
            continue
        views = listing.views(dataset)
        for index, name in enumerate(row.items):
            if views and not any(name in view.items for _, view in views):
                yield finding(
                    "item-unknown",
                    row,
                    f"items/{index}",
                    (f"数据资源没有信息项 {name}", f"the dataset has no item {name}"),
                    ("改正名称", "mend the name"),
                )


def persons_protected(listing: Listing) -> Iterator[Finding]:
    """Sensitive items and data of minors need necessity and assessment, and the bus's own readers.

    个人信息保护法 Art. 28 (under 14 is sensitive), 55. Kafka cannot force read_committed on an
    agency's own client, so sensitive and important items go through the consumer service.
    """
    for row, dataset in listing.granted():
        if row.minors and row.sensitive_basis is None:
            yield finding(
                "minors-without-basis",
                row,
                "minors",
                (
                    "未满十四周岁未成年人信息属敏感个人信息，须写必要性和影响评估",
                    "data of children under 14 are sensitive: necessity and assessment are needed",
                ),
                ("补上 sensitive_basis", "write `sensitive_basis`"),
            )
        for name in flowing(row):
            found = [view.items[name] for _, view in listing.views(dataset) if name in view.items]
            sensitive = any(one.sensitive for one in found)
            if sensitive and row.sensitive_basis is None:
                yield _at(
                    "sensitive-without-basis",
                    row,
                    name,
                    (
                        f"信息项 {name} 是敏感个人信息，须写必要性和影响评估",
                        f"item {name} is sensitive: necessity and assessment are needed",
                    ),
                    (
                        "补上 sensitive_basis，或删除该项",
                        "write `sensitive_basis`, or take the item away",
                    ),
                )
            important = any(one.grade in (Grade.IMPORTANT, Grade.CORE) for one in found)
            if row.own_client and (sensitive or important):
                yield _at(
                    "own-client-sensitive",
                    row,
                    name,
                    (
                        f"信息项 {name} 敏感或重要，不能由自有客户端读取",
                        f"item {name} is sensitive or important: no own client may read it",
                    ),
                    ("去掉 own_client，经订阅服务读取", "take `own_client` away"),
                )


def needed_items_present(listing: Listing) -> Iterator[Finding]:
    """The operation reaches every receiver; a class grant tells whose record it is."""
    for row, dataset in listing.granted():
        if dataset.operation == "ce_type" and not row.cloudevents:
            yield finding(
                "operation-lost",
                row,
                "cloudevents",
                (
                    "操作类型（更正、撤销）由 ce_type 带来，许可须含 cloudevents",
                    "the operation comes from ce_type: without `cloudevents` it would be lost",
                ),
                ("写 cloudevents: true", "write `cloudevents: true`"),
            )
        needed = []
        if isinstance(dataset.operation, OperationItem):
            needed.append(("operation-lost", dataset.operation.item, "操作类型", "the operation"))
        if row.requester_class is not None and row.scope.role in dataset.regions:
            region = dataset.regions[row.scope.role]
            needed.append(("class-region-item", region, "分送所依的区划", "the region to split by"))
        for code, name, zh, en in needed:
            if row.items.get(name) != "clear":
                yield _at(
                    code,
                    row,
                    name,
                    (f"信息项 {name} 是{zh}，须明文提供", f"item {name} is {en}: it must be clear"),
                    (f"写 {name}: clear", f"write `{name}: clear`"),
                )


def conditions_sound(listing: Listing) -> Iterator[Finding]:
    """A condition can be evaluated on every schema version of the dataset."""
    for row, dataset in listing.granted():
        if row.condition is None:
            continue
        for ref, view in listing.views(dataset):
            problem = listing.check_condition(row.condition, view)
            if problem is not None:
                yield finding(
                    "condition-unsound",
                    row,
                    "condition",
                    (
                        f"条件在模式版本 {ref.version} 上不成立：{problem}",
                        (
                            f"the condition does not hold up on schema version {ref.version}: "
                            f"{problem}"
                        ),
                    ),
                    ("改正条件", "mend the condition"),
                )
                break


def projections_bound(listing: Listing) -> Iterator[Finding]:
    """Each grant has a projection for at least one schema version of its dataset, none twice."""
    for row, dataset in listing.granted():
        known = {ref.id for ref in dataset.schemas}
        made = [projection.schema_id for projection in row.projections]
        if not made or len(set(made)) != len(made) or not known.issuperset(made):
            yield finding(
                "projection-unbound",
                row,
                "projections",
                (
                    "没有投影模式，或投影不属于该数据资源的模式",
                    "no projected schema, one twice, or one of a schema the dataset has not",
                ),
                ("重新发布清单以分配投影", "publish the list again to have projections allotted"),
            )
