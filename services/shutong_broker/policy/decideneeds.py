"""What the decision on one schema version uses of a record, and where it lies in `r`.

`r` is the tuple of what conditions, masks and projections look at: the body, the beginnings of
items, raw values, encodings. Items that nothing looks at get no place, so no object is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shutong_broker.policy.conditiongen import items_of
from shutong_broker.policy.plan import GrantPlan, ProjectionPlan, SchemaPlan
from shutong_broker.policy.walkgen import Needs
from shutong_core.domain.grants import Hash
from shutong_core.wire.shapes import Plain, Shape, inner


@dataclass(slots=True)
class Layout:
    """Places in `r` by item index, and everything that the walk must keep."""

    names: dict[str, int]
    shapes: tuple[Shape, ...]
    starts: set[int] = field(default_factory=set)
    values: set[int] = field(default_factory=set)
    encodings: set[int] = field(default_factory=set)
    row: list[str] = field(default_factory=lambda: ["b"])

    @property
    def needs(self) -> Needs:
        """For the walk."""
        return Needs(frozenset(self.starts), frozenset(self.values), frozenset(self.encodings))

    def value(self, item: str) -> str:
        """The variable with the item's raw value."""
        self.values.add(self.names[item])
        return f"x{self.names[item]}"

    def slice(self, first: int, end: int) -> tuple[str, str]:
        """The variables where item `first` begins and item `end` begins (or the body ends)."""
        self.starts |= {first, end}
        return f"a{first}", f"a{end}"

    def place(self, variable: str) -> int:
        """The variable's place in `r`; it gets one if it has none."""
        if variable not in self.row:
            self.row.append(variable)
        return self.row.index(variable)

    def value_place(self, item: str) -> int:
        """The place of the item's raw value."""
        return self.place(self.value(item))

    def encoding_place(self, item: str) -> int:
        """The place of the item's encoding without union branch."""
        self.encodings.add(self.names[item])
        return self.place(f"h{self.names[item]}")

    def is_text(self, item: str | None) -> bool:
        """Whether the item is text without logical type, as region codes must be."""
        if item is None:
            return False
        return inner(self.shapes[self.names[item]]) == Plain("string")


def layout_of(plan: SchemaPlan) -> Layout:
    """An empty layout over the schema version."""
    fields = plan.schema.record.fields
    names = {each.name: index for index, each in enumerate(fields)}
    return Layout(names, tuple(each.shape for each in fields))


def placeable(plan: SchemaPlan, layout: Layout) -> Iterator[GrantPlan]:
    """The grants that records of the schema version can get to at some time."""
    for grant in plan.grants:
        if not grant.blocked and grant.projection is not None and layout.is_text(grant.region_item):
            yield grant


def condition_places(grant: GrantPlan, layout: Layout) -> dict[str, int]:
    """Places of the items that the grant's condition looks at."""
    if grant.condition is None:
        return {}
    return {item: layout.value_place(item) for item in sorted(items_of(grant.condition.root))}


@dataclass(frozen=True, slots=True)
class Run:
    """Items of a projection that stand together in the body: `r[first]` to `r[end]`."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked item: `r[place]` is what the mask takes."""

    item: str
    place: int


def columns_of(
    grant: GrantPlan, projection: ProjectionPlan, layout: Layout
) -> tuple[Run | Masked, ...]:
    """A projection as slices of the body and masked items, in its order."""
    found: list[Run | Masked] = []
    first = end = -1  # the run that is growing

    def close() -> None:
        if first >= 0:
            begin, after = layout.slice(first, end)
            found.append(Run(layout.place(begin), layout.place(after)))

    for item, masker in projection.columns:
        index = layout.names[item]
        if masker is not None:
            close()
            first = end = -1
            hashed = isinstance(grant.grant.items[item], Hash)
            place = layout.encoding_place(item) if hashed else layout.value_place(item)
            found.append(Masked(item, place))
        elif index == end:
            end += 1
        else:
            close()
            first, end = index, index + 1
    close()
    return tuple(found)
