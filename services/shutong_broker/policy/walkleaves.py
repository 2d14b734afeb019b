"""Generates the walk over one value that holds no other, see `walkgen` for the names and runs."""

from __future__ import annotations

from shutong_broker.policy.emit import Emission
from shutong_core.wire.shapes import RANGES, Enum, Fixed, Plain


class LeafWriter:
    """Writes the walk of leaves; `x` is the variable for the raw value, None if not needed."""

    def __init__(self, out: Emission) -> None:
        self.out = out
        #: Whether the present run may hold text; false only where that is certain.
        self.dirty = False

    def plain(self, shape: Plain, x: str | None) -> None:
        """A primitive."""
        out = self.out
        if shape.logical == "uuid":
            with out.block("if b[p] != 72 or not uuid_form(b, p + 1, p + 37):"):
                out("raise Declined")
            out("p += 37", *([f"{x} = b[p - 36:p]"] if x else []))
        elif shape.avro == "string":
            self.string(x)
        elif shape.avro in ("int", "long"):
            self.integer(shape, x)
        elif shape.avro == "boolean":
            out("n = b[p]", "p += 1")
            with out.block("if n > 1:"):
                out("raise Declined")
            if x:
                out(f"{x} = n")
        elif shape.logical == "decimal":
            self.decimal(shape, x)
        elif shape.avro == "bytes":
            self.end_run()
            out("n, q = length(b, p)", "p = s = q + n")
            if x:
                out(f"{x} = b[q:p]")
        else:
            self.real(shape.avro, x)

    def end_run(self) -> None:
        """Check the texts of the run; what follows must move `s` behind itself."""
        if self.dirty:
            self.out("b[s:p].decode()")
            self.dirty = False

    def string(self, x: str | None) -> None:
        """Text; lengths below 64 take one byte, below 8192 two."""
        out = self.out
        out("n = b[p]")
        with out.block("if n & 129:"):
            if self.dirty:
                out("b[s:p].decode()")
            out("m = b[p + 1]")
            with out.block("if n & 1:"):
                out("raise Declined")
            with out.block("if 0 < m < 128:"):
                out("q = p + 2", "p = s = q + ((n & 127 | m << 7) >> 1)")
            with out.block("else:"):
                out("n, q = length(b, p)", "p = s = q + n")
            out(*([f"{x} = b[q:p]", f"{x}.decode()"] if x else ["b[q:p].decode()"]))
        with out.block("else:"):
            if x:
                out("q = p + 1", "p = q + (n >> 1)", f"{x} = b[q:p]")
            else:
                out("p += 1 + (n >> 1)")
        self.dirty = True

    def integer(self, shape: Plain, x: str | None) -> None:
        """An int or long within the range of its logical type."""
        low, high = RANGES[shape.avro, shape.logical]
        size = {"timestamp-millis": 6, "local-timestamp-millis": 6}.get(shape.logical or "", 0)
        size = {"timestamp-micros": 8, "local-timestamp-micros": 8}.get(shape.logical or "", size)
        if size and x is None:
            self.instant(size, low, high)
            return
        out = self.out
        out("n = b[p]")
        with out.block("if n > 127:"):
            if self.dirty:
                out("b[s:p].decode()")
            self.long_number(low, high)
            out("s = p")
        with out.block("else:"):
            out("p += 1")
        if low == 0:
            with out.block(f"if n & 1 or n > {2 * high}:"):
                out("raise Declined")
        if x:
            out(f"{x} = n >> 1 ^ -(n & 1)")

    def long_number(self, low: int, high: int) -> None:
        """A number of two bytes, of three, or of more."""
        out = self.out
        out("m = b[p + 1]")
        with out.block("if m < 128:"):
            with out.block("if not m:"):
                out("raise Declined")
            out("n = n & 127 | m << 7", "p += 2")
        with out.block("else:"):
            out("o = b[p + 2]")
            with out.block("if 0 < o < 128:"):
                out("n = n & 127 | (m & 127) << 7 | o << 14", "p += 3")
            with out.block("else:"):
                out("n, p = varint(b, p)")
            self.in_range(low, high)

    def in_range(self, low: int, high: int) -> None:
        """Refuse `n` outside `low` … `high`; where `low` is 0 `integer` does it for all sizes."""
        if low:
            # Up to here both signs are in range; beyond it the number itself must be looked at.
            safe = min(2 * high, -2 * low - 1)
            head = f"if n > {safe} and not {low} <= (n >> 1 ^ -(n & 1)) <= {high}:"
            with self.out.block(head):
                self.out("raise Declined")

    def instant(self, size: int, low: int, high: int) -> None:
        """A moment whose value nobody asks for: of the present century it has `size` bytes.

        All numbers of that many bytes are in range.
        """
        out = self.out
        self.end_run()
        every, but_last = int("80" * size, 16), int("80" * (size - 1), 16)
        head = f"if number(b[p:p + {size}], 'little') & {every:#x} == {but_last:#x}"
        with out.block(f"{head} and b[p + {size - 1}]:"):
            out(f"p += {size}")
        with out.block("else:"):
            out("n, p = varint(b, p)")
            self.in_range(low, high)
        out("s = p")

    def symbol(self, shape: Enum, x: str | None) -> None:
        """An enum's index."""
        out = self.out
        most = out.constant(2 * (len(shape.symbols) - 1))
        out("n = b[p]")
        if len(shape.symbols) > 64:
            with out.block("if n > 127:"):
                if self.dirty:
                    out("b[s:p].decode()")
                out("n, p = varint(b, p)", "s = p")
            with out.block("else:"):
                out("p += 1")
        else:
            out("p += 1")
        with out.block(f"if n & 1 or n > {most}:"):
            out("raise Declined")
        if x:
            out(f"{x} = n >> 1")

    def decimal(self, shape: Plain, x: str | None) -> None:
        """A decimal over bytes: minimal, within its precision; no admitted one has 64 bytes."""
        out = self.out
        out("n = b[p]")
        self.end_run()
        with out.block("if n & 129 or not n:"):
            out("raise Declined")
        out("q = p + 1", "p = s = q + (n >> 1)")
        with out.block("if n > 2:"):
            out("m = b[q]")
            with out.block("if m == 0:"), out.block("if b[q + 1] < 128:"):
                out("raise Declined")
            with out.block("elif m == 255:"), out.block("if b[q + 1] > 127:"):
                out("raise Declined")
        bound = 10**shape.precision
        # The largest size of which every number is within the precision.
        safe = max(size for size in range(64) if size == 0 or 1 << 8 * size - 1 < bound)
        with out.block(f"if n > {out.constant(2 * safe)}:"):
            self.digits(bound)
        if x:
            out(f"{x} = number(b[q:p], 'big', signed=True)")

    def digits(self, bound: int) -> None:
        """Refuse a decimal from `q` to `p` that is not below `bound`."""
        head = f"if abs(number(b[q:p], 'big', signed=True)) >= {self.out.constant(bound)}:"
        with self.out.block(head):
            self.out("raise Declined")

    def fixed(self, shape: Fixed, x: str | None) -> None:
        """Fixed bytes, or a decimal over them."""
        out = self.out
        self.end_run()
        out("q = p", f"p = s = q + {out.constant(shape.size)}")
        if shape.logical == "decimal":
            if shape.size > 64:
                out("raise Declined")
            self.digits(10**shape.precision)
            if x:
                out(f"{x} = number(b[q:p], 'big', signed=True)")
        elif x:
            out(f"{x} = b[q:p]")

    def real(self, kind: str, x: str | None) -> None:
        """A float or double; an exponent of all ones is no finite number (IEEE 754)."""
        out = self.out
        self.end_run()
        size, ones = (4, 127) if kind == "float" else (8, 239)
        with out.block(f"if b[p + {size - 1}] & 127 == 127 and b[p + {size - 2}] > {ones}:"):
            out("raise Declined")
        out(f"p = s = p + {size}")
        if x:
            out(f"{x} = unpack_{kind}(b, p - {size})[0]")
