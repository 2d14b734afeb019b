"""A broker process with one fault built in: `python mutant_broker.py NAME`.

The checker is only worth what it can find: each mutant must turn one of its checks red.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shutong_broker import plan as plans
from shutong_broker.__main__ import main
from shutong_broker.policies import PolicyBook
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_core.runtime.transaction import TransactionalProducer
from shutong_core.wire.batches import KafkaRecord

EVERY = 7


def _changing_placements(change: Callable[[Any, Any], list[Any]]) -> None:
    """Let `change(record, placement)` say what becomes of every seventh record's placements."""
    original = CompiledPolicy.decide

    def decide(self: Any, record: Any, facts: Any, now_ms: int) -> Any:
        decision = original(self, record, facts, now_ms)
        if record.offset % EVERY == 3 and decision.placements:
            changed = [each for placed in decision.placements for each in change(record, placed)]
            return decision._replace(placements=tuple(changed))
        return decision

    CompiledPolicy.decide = decide  # type: ignore[method-assign]


def leak_a_field() -> None:
    """Some records are placed with an item that is not granted."""
    _changing_placements(lambda record, placed: [placed._replace(value=record.value)])


def drop_a_record() -> None:
    """Some records are not placed though granted; the audit agrees with what was placed."""
    _changing_placements(lambda record, placed: [])


def double_a_record() -> None:
    """Some records are written twice to a delivery topic."""
    original = plans._Making._segments

    def segments(self: Any, grant: str, output: Any) -> Any:
        output.records.append(output.records[-1])
        return original(self, grant, output)

    plans._Making._segments = segments  # type: ignore[method-assign]


def swap_two_records() -> None:
    """Neighbours of one key change places before they are chained."""
    original = plans._Making._segments

    def segments(self: Any, grant: str, output: Any) -> Any:
        records = output.records
        for at in range(len(records)):
            for other in range(at + 1, len(records)):
                if records[at].key == records[other].key:
                    records[at], records[other] = records[other], records[at]
                    return original(self, grant, output)
        return original(self, grant, output)

    plans._Making._segments = segments  # type: ignore[method-assign]


def skip_an_audit_row() -> None:
    """Some refused records leave no row; the block closes over them."""
    original = plans._Making._add_row

    def add_row(self: Any, part: Any, record: Any, decision: Any, *more: Any) -> None:
        if decision.refusal is None:
            original(self, part, record, decision, *more)
        else:
            self._refused.append(self._quarantined(record, decision, decision.refusal))

    plans._Making._add_row = add_row  # type: ignore[method-assign]


def place_without_audit() -> None:
    """Some records are placed though their block does not name them."""
    original = plans._Making._segments

    def segments(self: Any, grant: str, output: Any) -> Any:
        batches, head = original(self, grant, output)
        if head.k > EVERY:
            last = batches[-1].records[-1]
            extra = KafkaRecord(last.key, last.value)
            batches[-1] = replace(batches[-1], records=[*batches[-1].records, extra])
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
