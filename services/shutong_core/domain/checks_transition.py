"""Checks of the step from the list in force to the next: what must not change in silence.

条例 Art. 15 (no conditions added by oneself), Art. 27 (no service ended or altered at will).
"""

from __future__ import annotations

from collections.abc import Iterator

from shutong_core.domain.catalogue import Dataset, ShareClass
from shutong_core.domain.checks_context import Listing, finding
from shutong_core.domain.findings import Finding
from shutong_core.domain.grants import Bus, Grant

_STRICTNESS = tuple(ShareClass)
#: What makes the delivery topic of a grant what it is; changed terms are a new grant.
_FIXED_OF_GRANT = ("dataset", "requester", "requester_class", "items", "partitions")
_FIXED_OF_DATASET = ("key", "provider")


def lanes_fixed(listing: Listing) -> Iterator[Finding]:
    """The number of lanes stays: order per key and the audit chains hang on it."""
    held = listing.previous.rows.get("bus/bus") if listing.previous else None
    row = listing.version.rows.get("bus/bus")
    if isinstance(held, Bus) and isinstance(row, Bus) and held.lanes != row.lanes:
        yield finding(
            "lanes-changed",
            row,
            "lanes",
            (f"分道数安装后不能改，现为 {held.lanes}", f"lanes are fixed at {held.lanes}"),
            (f"写 {held.lanes}", f"write {held.lanes}"),
        )


def schemas_appended(listing: Listing) -> Iterator[Finding]:
    """Schema versions in force stay as they are; new ones come after them."""
    for row, held in _kept_datasets(listing):
        if row.schemas[: len(held.schemas)] != held.schemas:
            yield finding(
                "schema-changed",
                row,
                "schemas",
                (
                    "已生效的模式版本被改动或删除",
                    "a schema version in force was altered or taken away",
                ),
                (
                    "保留原有模式文件，新版本加在后面",
                    "keep the schema files as they were, add the new one at the end",
                ),
            )


def terms_not_tightened_alone(listing: Listing) -> Iterator[Finding]:
    """A stricter class or changed conditions need the authority's approval with a basis."""
    for row, held in _kept_datasets(listing):
        stricter = _STRICTNESS.index(row.share) > _STRICTNESS.index(held.share)
        fewer = bool(row.purposes) and not set(row.purposes) >= set(held.purposes)
        limited = bool(row.purposes) and not held.purposes
        worded = row.use_conditions is not None and row.use_conditions != held.use_conditions
        approved = row.tightening is not None and row.tightening != held.tightening
        if (stricter or fewer or limited or worded) and not approved:
            yield finding(
                "condition-added-alone",
                row,
                "tightening",
                (
                    "收紧共享属性或增设条件，未附主管部门批准和依据（条例第十五条）",
                    "a stricter class or a new condition without approval and basis (Art. 15)",
                ),
                (
                    "在 tightening 写批准文号和依据，或恢复原条件",
                    "write approval and basis in `tightening`, or restore the terms",
                ),
            )


def rows_fixed(listing: Listing) -> Iterator[Finding]:
    """Keys of datasets, items and receivers of grants do not change under the same id."""
    if listing.previous is None:
        return
    for row in listing.version.rows.values():
        held = listing.previous.rows.get(row.row_id)
        if isinstance(row, Grant) and isinstance(held, Grant):
            fixed: tuple[str, ...] = _FIXED_OF_GRANT
        elif isinstance(row, Dataset) and isinstance(held, Dataset):
            fixed = _FIXED_OF_DATASET
        else:
            continue
        for field in fixed:
            if getattr(row, field) != getattr(held, field):
                yield finding(
                    "changed-in-place",
                    row,
                    field,
                    (
                        f"{field} 不能在同一编号下改动",
                        f"`{field}` does not change under the same id",
                    ),
                    (
                        "新建一项，许可用 replaces 接替旧项",
                        "make a new row with another id; a grant `replaces` the old one",
                    ),
                )
        if isinstance(row, Grant) and isinstance(held, Grant) and row.key_epoch < held.key_epoch:
            yield finding(
                "key-epoch-lower",
                row,
                "key_epoch",
                (f"密钥期号不能小于 {held.key_epoch}", f"the key epoch was {held.key_epoch}"),
                ("写相同或更大的期号", "write the same or a higher one"),
            )


def _kept_datasets(listing: Listing) -> Iterator[tuple[Dataset, Dataset]]:
    """Datasets that are in both lists: (next, in force)."""
    if listing.previous is None:
        return
    for row in listing.datasets():
        held = listing.previous.dataset(row.id)
        if held is not None:
            yield row, held
