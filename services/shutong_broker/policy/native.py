"""The optional compiled kernel: decides runs of records as the generated policy does, faster.

Nothing needs it. Where it is not installed, is of another format or has no program for a schema
version, there is no runner and the pure path decides every record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shutong_broker.policy.columns import Columns, Placed
from shutong_broker.policy.decidegen import Generated
from shutong_broker.policy.head import HeadReader
from shutong_broker.policy.matching import Moment
from shutong_broker.policy.model import InboundRecord
from shutong_broker.policy.nativeplan import describe
from shutong_broker.policy.plan import DatasetPlan, SchemaPlan
from shutong_broker.policy.regionmemo import RegionFlags
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.wire.headers import (
    PUBLISHER_HEADER,
    TIME_HEADER,
    TYPE_HEADER,
    read_headers,
)

#: Version of what this module and `nativeplan` write, and of what the kernel gives.
FORMAT = 1

_make_program: Callable[[dict[str, Any]], Any] | None
try:
    import shutong_kernel

    _make_program = shutong_kernel.Program if shutong_kernel.FORMAT == FORMAT else None
except (ImportError, AttributeError):  # the source directory alone imports as an empty package
    _make_program = None

#: Whether a kernel of this format is installed.
AVAILABLE = _make_program is not None


class NativeRunner:
    """Decides runs of one schema version's records; see `columns` for what it gives."""

    __slots__ = ("_run",)

    def __init__(self, program: Any) -> None:
        self._run = program.run

    def run(
        self, records: Sequence[InboundRecord], first: int, end: int, salt: bytes, moment: Moment
    ) -> Columns:
        """The verdicts on `records[first:end]` up to the first that the pure path must decide.

        `moment` is of the generated policy's matcher; `salt` the audit block's (16 bytes).
        """
        columns = Columns(*self._run(records, first, end, salt, moment))
        placed: dict[str, Any] = columns.placed
        columns.placed = {grant: Placed(*each) for grant, each in placed.items()}
        return columns


def native_runner(
    dataset: DatasetPlan, plan: SchemaPlan, generated: Generated, table: RegionTable
) -> NativeRunner | None:
    """The kernel's program for `plan`; None where there is no kernel or no program."""
    if _make_program is None:
        return None
    try:
        described = describe(dataset, plan, generated.matcher.roles)
        described |= _Heads(dataset, plan, table).described()
        return NativeRunner(_make_program(described))
    except Exception:  # whatever it cannot do, the pure path does by the same rules
        return None


class _Heads:
    """Answers what the kernel asks of headers, once for each value that passes."""

    def __init__(self, dataset: DatasetPlan, plan: SchemaPlan, table: RegionTable) -> None:
        self._dataset = dataset
        self._plan = plan
        self._reader = HeadReader(dataset, table)

    def described(self) -> dict[str, Any]:
        """What the kernel's `Heads` reads."""
        sole = None
        if self._dataset.dataset.inbound == "own_client":
            sole = self._allowed(self._dataset.sole_publisher or "")
            if sole is None:
                raise ValueError("nobody may write the dataset")
        return {
            "sole": sole,
            "publisher": self.publisher,
            "type": self.operation,
            "time": self.is_time,
        }

    def publisher(self, raw: bytes) -> tuple[str, RegionFlags] | None:
        """Publisher and jurisdiction by the header's value; None if it may not write."""
        read = read_headers(((PUBLISHER_HEADER, raw),))
        if isinstance(read, Reason) or read.publisher not in self._dataset.systems:
            return None
        return self._allowed(read.publisher)

    def _allowed(self, publisher: str) -> tuple[str, RegionFlags] | None:
        flags = self._reader.writer(publisher).jurisdiction
        return None if flags is None else (publisher, flags)

    def operation(self, raw: bytes) -> int | None:
        """The operation's number by ce_type; None if the record cannot be accepted with it."""
        read = read_headers(((TYPE_HEADER, raw),))
        if isinstance(read, Reason):
            return None
        if self._plan.operation_item is not None:
            return 0  # the item tells
        operation, fault = self._reader.told(read.ce_type)
        return None if fault is not None else operation.number

    def is_time(self, raw: bytes) -> bool:
        """Whether ce_time is a time; nothing else is asked of it."""
        return not isinstance(read_headers(((TIME_HEADER, raw),)), Reason)
