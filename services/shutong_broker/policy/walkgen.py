"""Generates the strict walk over an Avro body: `wire.walk` unrolled for one schema.

In the text: `b` the body, `p` the place, `n` the number just read, `a<i>` where item i begins,
`x<i>` its raw value, `h<i>` its encoding without the union branch; None where it is null.

Text is checked in runs: from `s` to `p` lie texts with nothing but bytes below 0x80 between them
(short lengths, small numbers), so the run is UTF-8 if and only if each text is. Whatever may hold
other bytes ends a run. No bound is checked on the way: places only grow, reading beyond the end
raises IndexError, and the last line compares `p` with the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from shutong_broker.policy.emit import Emission
from shutong_broker.policy.walkleaves import LeafWriter
from shutong_core.wire.shapes import (
    Array,
    Enum,
    Fixed,
    Map,
    Nullable,
    Plain,
    Record,
    Shape,
)
from shutong_core.wire.walk import VALUES_MAX


@dataclass(frozen=True, slots=True)
class Needs:
    """Indexes of the items whose beginning, raw value or encoding is used after the walk."""

    starts: frozenset[int]
    values: frozenset[int]
    encodings: frozenset[int]


def values_bound(shape: Shape) -> int:
    """The most values one `shape` counts, without what its arrays and maps hold."""
    if isinstance(shape, Nullable):
        return 1 + values_bound(shape.value)
    if isinstance(shape, Record):
        return 1 + sum(values_bound(field.shape) for field in shape.fields)
    return 1


class WalkWriter(LeafWriter):
    """Writes the walk of one record into an emission."""

    def __init__(self, out: Emission, record: Record, needs: Needs) -> None:
        super().__init__(out)
        self.record = record
        self.needs = needs
        self.limit = out.constant(VALUES_MAX - values_bound(record))

    def write(self) -> None:
        """The whole walk; afterwards `p` is the end of the body."""
        out = self.out
        out("p = s = v = 0")
        for index, field in enumerate(self.record.fields):
            if index in self.needs.starts:
                out(f"a{index} = p")
            x = f"x{index}" if index in self.needs.values else None
            h = f"h{index}" if index in self.needs.encodings else None
            self.shape(field.shape, x, h)
        self.end_run()
        with out.block("if p != len(b):"):
            out("raise Declined")
        if len(self.record.fields) in self.needs.starts:
            out(f"a{len(self.record.fields)} = p")

    def shape(self, shape: Shape, x: str | None = None, h: str | None = None) -> None:
        """One value."""
        if isinstance(shape, Nullable):
            self.nullable(shape, x, h)
            return
        out = self.out
        begin = out.fresh("o") if h else ""
        if h:
            out(f"{begin} = p")
        if isinstance(shape, Plain):
            self.plain(shape, x)
        elif isinstance(shape, Enum):
            self.symbol(shape, x)
        elif isinstance(shape, Fixed):
            self.fixed(shape, x)
        elif isinstance(shape, Record):
            for field in shape.fields:
                self.shape(field.shape)
            if x:
                out(f"{x} = 1")
        else:
            self.block_of(shape, x)
        if h:
            out(f"{h} = b[{begin}:p]")

    def nullable(self, shape: Nullable, x: str | None, h: str | None) -> None:
        """A union branch and its value."""
        out = self.out
        out("n = b[p]", "p += 1")
        before = self.dirty
        with out.block("if n == 2:"):
            self.shape(shape.value, x, h)
        self.dirty |= before  # where it was null, the run went on
        with out.block("elif n:"):
            out("raise Declined")
        if x or h:
            with out.block("else:"):
                out(" = ".join([*filter(None, (x, h)), "None"]))

    def block_of(self, shape: Array | Map, x: str | None) -> None:
        """An array or a map: one counted block and the end mark."""
        out = self.out
        self.dirty = True  # a loop comes back with whatever its last turn left
        out("n = b[p]")
        with out.block("if n > 127:"):
            out("b[s:p].decode()", "n, p = varint(b, p)", "s = p")
        with out.block("else:"):
            out("p += 1")
        with out.block("if n & 1:"):
            out("raise Declined")
        if x:
            out(f"{x} = n >> 1")
        with out.block("if n:"):
            each = shape.items if isinstance(shape, Array) else shape.values
            out(f"v += (n >> 1) * {out.constant(values_bound(each))}")
            with out.block(f"if v > {self.limit}:"):
                out("raise Declined")
            last, key = out.fresh("last"), out.fresh("key")
            if isinstance(shape, Map):
                out(f"{last} = None")
            with out.block("for _ in range(n >> 1):"):
                if isinstance(shape, Map):
                    self.string(key)
                    with out.block(f"if {last} is not None and {key} <= {last}:"):
                        out("raise Declined")
                    out(f"{last} = {key}")
                self.shape(each)
                self.dirty = True
            with out.block("if b[p]:"):
                out("raise Declined")
            out("p += 1")
        self.dirty = True
