"""What the rules of the list need to know of an Avro schema, without reading Avro.

`wire.schemas.Schema` fits this protocol; tests and tools may build a `PlainSchemaView`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shutong_core.domain.catalogue import Grade, Item

#: Order of severity: the higher index is the higher grade.
_GRADES = tuple(Grade)


@dataclass(frozen=True, slots=True)
class FieldType:
    """Type of one top-level field.

    `avro` is the Avro type name without the null branch: `string`, `bytes`, `int`, `long`,
    `float`, `double`, `boolean`, `enum`, `fixed`, `array`, `map` or `record`; `logical` is its
    logical type (`date`, `timestamp-millis`, `decimal`, …); `nullable` says that it stood in a
    union `[null, T]`; `symbols` are those of an enum, else empty.
    """

    name: str
    avro: str
    logical: str | None = None
    nullable: bool = False
    symbols: tuple[str, ...] = ()


class SchemaView(Protocol):
    """One schema version of a dataset, as rules see it.

    `items` and `fields` have the same keys, the names of the top-level fields, in schema order;
    `grade` is the highest grade of any item (就高从严).
    """

    @property
    def items(self) -> Mapping[str, Item]:
        """Item metadata by field name."""
        ...

    @property
    def fields(self) -> Mapping[str, FieldType]:
        """Type by field name."""
        ...

    @property
    def grade(self) -> Grade:
        """The highest grade of any item."""
        ...


@dataclass(frozen=True, slots=True)
class PlainSchemaView:
    """A `SchemaView` made from its parts."""

    items: Mapping[str, Item]
    fields: Mapping[str, FieldType]

    @property
    def grade(self) -> Grade:
        """The highest grade of any item; GENERAL_1 without items."""
        return highest_grade(self.items)


def highest_grade(items: Mapping[str, Item]) -> Grade:
    """The highest grade among `items` (就高从严, GB/T 43697-2024); GENERAL_1 without items."""
    return max((item.grade for item in items.values()), key=_GRADES.index, default=Grade.GENERAL_1)
