"""A broker process with one fault built in: `python mutant_broker.py NAME`.

The checker is only worth what it can find: each mutant must turn one of its checks red.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shutong_broker import planner as plans
from shutong_broker.__main__ import main
from shutong_broker.deciding import Deciding
from shutong_broker.policies import PolicyBook
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_core.runtime.transaction import TransactionalProducer

EVERY = 7


def _changing_outputs(change: Callable[[Any, list[int], Any], None]) -> None:
    """Let `change(records, victims, placed)` alter what a grant gets from a run of records.

    `victims` are places in the columns of every seventh record.
    """
    original = CompiledPolicy.run

    def run(self: Any, records: Any, salt: bytes, now_ms: int) -> Any:
        columns = original(self, records, salt, now_ms)
        for placed in columns.placed.values():
            victims = [at for at, row in enumerate(placed.rows) if records[row].offset % EVERY == 3]
            change(records, victims, placed)
        return columns

    CompiledPolicy.run = run  # type: ignore[method-assign]


def leak_a_field() -> None:
    """Some records are placed with an item that is not granted."""

    def leak(records: Any, victims: list[int], placed: Any) -> None:
        for at in victims:
            placed.values[at] = records[placed.rows[at]].value

    _changing_outputs(leak)


def drop_a_record() -> None:
    """Some records are not placed though granted; the audit agrees with what was placed."""

    def drop(_: Any, victims: list[int], placed: Any) -> None:
        for at in reversed(victims):
            del placed.rows[at], placed.keys[at], placed.values[at]

    _changing_outputs(drop)


def double_a_record() -> None:
    """Some records are written twice to a delivery topic."""
    original = plans._Making._segments

    def segments(self: Any, grant: str, output: Any) -> Any:
        output.keys.append(output.keys[-1])
        output.values.append(output.values[-1])
        return original(self, grant, output)

    plans._Making._segments = segments  # type: ignore[method-assign]


def swap_two_records() -> None:
    """Neighbours of one key change places before they are chained."""
    original = plans._Making._segments

    def segments(self: Any, grant: str, output: Any) -> Any:
        keys, values = output.keys, output.values
        for at in range(len(keys)):
            for other in range(at + 1, len(keys)):
                if keys[at] == keys[other]:
                    values[at], values[other] = values[other], values[at]
                    return original(self, grant, output)
        return original(self, grant, output)

    plans._Making._segments = segments  # type: ignore[method-assign]


def skip_an_audit_row() -> None:
    """Some refused records leave no row; the block closes over them."""
    original = Deciding._add_row

    def add_row(self: Any, record: Any, decision: Any, hashed: Any) -> None:
        if decision.refusal is None:
            original(self, record, decision, hashed)
        else:
            self.refusals.append((record, decision))

    Deciding._add_row = add_row  # type: ignore[method-assign]


def place_without_audit() -> None:
    """Some records are placed though their block does not name them."""
    original = plans._Making._segments

    def segments(self: Any, grant: str, output: Any) -> Any:
        batches, head = original(self, grant, output)
        if head.k > EVERY:
            last = batches[-1]
            keys, values = [*last.keys, last.keys[-1]], [*last.values, last.values[-1]]
            batches[-1] = replace(last, keys=keys, values=values)
        return batches, head

    plans._Making._segments = segments  # type: ignore[method-assign]


def commit_despite_a_failed_send() -> None:
    """Failed sends are not looked at before the commit."""

    async def flush(self: TransactionalProducer) -> None:
        await asyncio.gather(*self._sends, return_exceptions=True)

    TransactionalProducer.flush = flush  # type: ignore[method-assign]


def reuse_after_a_lost_request() -> None:
    """The producer goes on after a request of which nothing was heard."""
    TransactionalProducer.poisoned = property(  # type: ignore[assignment]
        lambda _: False, lambda *_: None
    )


def place_without_a_lease() -> None:
    """The list lease is not looked at."""
    PolicyBook.may_place = lambda *_: True  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        leak_a_field,
        drop_a_record,
        double_a_record,
        swap_two_records,
        skip_an_audit_row,
        place_without_audit,
        commit_despite_a_failed_send,
        reuse_after_a_lost_request,
        place_without_a_lease,
    )
}


if __name__ == "__main__":
    MUTANTS[sys.argv[1]]()
    sys.exit(main())
