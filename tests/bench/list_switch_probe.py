"""How a broker takes up a list of 10,000 grants: `python tests/bench/list_switch_probe.py`.

One process, no Kafka. Tasks that are always busy stand for the lanes; a ticker on the same event
loop measures how long anything is held up. A small list is in force and datasets are in use; then
every grant changes at once, then one grant is suspended. Printed: time until the new list decides,
the longest stall in between, pauses of garbage collection; all in
processor time, since the machine may be shared.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time as now

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.listworld import Control, large_list
from shutong_broker.collector import Collector
from shutong_broker.policies import PREPARE_S_MAX
from shutong_broker.policy.build import Policies, PolicyMaker
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_core.domain.changes import encode_change, make_change
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import AnyRow, ListVersion, parse_row
from shutong_core.runtime.listview import ListView
from shutong_core.runtime.slices import in_slices
from unit import listing_fixtures as listing

DATASETS, GRANTS_EACH = 1000, 10
IN_USE = 300
#: Lanes, and how long each keeps the loop at a time.
LANES, TURN_S = 6, 0.004


@dataclass
class Watch:
    """What was seen of the loop and the collector."""

    stalls: list[float] = field(default_factory=list)
    pauses: dict[int, list[float]] = field(default_factory=dict)
    turns: int = 0
    _began: float = 0.0

    def collecting(self, phase: str, info: dict[str, int]) -> None:
        """For `gc.callbacks`."""
        if phase == "start":
            self._began = now()
        else:
            took = now() - self._began
            self.pauses.setdefault(info["generation"], []).append(took)

    async def lane(self) -> None:
        """Keeps the loop for a while, again and again, as a lane under load does."""
        while True:
            end = now() + TURN_S
            while now() < end:
                sum(range(200))
            self.turns += 1
            await asyncio.sleep(0)

    async def ticker(self) -> None:
        """Notes how much longer than the lanes' own turns the loop took to come back."""
        last = now()
        while True:
            await asyncio.sleep(0)
            back = now()
            self.stalls.append(back - last)
            last = back


class Broker:
    """Feed's view, policies and collector, as the broker joins them."""

    def __init__(self, registrations: Iterator[tuple[bytes, bytes]], verify: Control) -> None:
        self.view = ListView(verify.verify)
        self.maker = PolicyMaker(
            listing.divisions(), lambda key_id: key_id.encode().ljust(32, b".")[:32], CompiledPolicy
        )
        self.policies: Policies | None = None
        self.collector = Collector()
        for key, value in registrations:
            self.view.add_schema(key, value)

    async def take(self, records: list[bytes]) -> tuple[float, float]:
        """Seconds until the list was read and until it decides."""
        began = now()
        for record in records:
            await in_slices(self.view.adding_change(record), now)
        if not self.view.settle() or self.view.version is None:
            raise SystemExit(f"the list is not in force: {self.view.problem}")
        read = now() - began
        made = self.maker.policies(self.view.version, self.view.schemas)
        steps = made.preparing(self.policies.in_use if self.policies else ())
        limit = now() + PREPARE_S_MAX

        def some() -> Iterator[None]:
            for _ in steps:
                yield
                if now() > limit:
                    return

        await in_slices(some(), now)  # type: ignore[arg-type]
        self.policies = made
        decides = now() - began
        await in_slices(steps, now)
        print(f"    all policies in use made after {1000 * (now() - began):.0f} ms")
        return read, decides


@contextmanager
def told(name: str, watch: Watch) -> Iterator[Callable[[float, float], None]]:
    """Prints what `watch` saw meanwhile."""
    watch.stalls.clear()
    watch.pauses.clear()
    turns, began = watch.turns, now()

    def times(read: float, decides: float) -> None:
        print(f"{name}: read after {1000 * read:.0f} ms, decides after {1000 * decides:.0f} ms")

    yield times
    share = (watch.turns - turns) * TURN_S / (now() - began)
    own = LANES * TURN_S
    print(
        f"    longest stall {1000 * (max(watch.stalls) - own):.0f} ms beyond the lanes' own"
        f" {1000 * own:.0f} ms; lanes had {100 * share:.0f} % of the time"
    )
    for generation, pauses in sorted(watch.pauses.items()):
        print(
            f"    gc generation {generation}: {len(pauses)} times, longest"
            f" {1000 * max(pauses):.1f} ms, {1000 * sum(pauses):.0f} ms in all"
        )


def changed(version: ListVersion, count: int) -> list[AnyRow]:
    """The first `count` grants with another scenario, the first of all suspended."""
    grants = [row for row in version.of(Grant) if isinstance(row, Grant)][:count]
    suspended = {"since": "2026-11-01T00:00:00Z", "reason": "示例"}
    bodies = [row.body() | {"scenario": f"{row.scenario} {version.number}"} for row in grants]
    return [parse_row(bodies[0] | {"suspended": suspended}), *map(parse_row, bodies[1:])]


async def probe() -> None:
    """Three switches under load."""
    control = Control()
    world = large_list(DATASETS, GRANTS_EACH)
    first, parts = make_change(None, world.rows, (), 0)
    second, all_parts = make_change(first, changed(first, DATASETS * GRANTS_EACH), (), 0)
    _, one_part = make_change(second, changed(second, 1), (), 0)
    switches = [
        [encode_change(part, control) for part in of] for of in (parts, all_parts, one_part)
    ]
    broker = Broker(world.schema_records(), control)
    del world, first, second, parts, all_parts, one_part
    gc.collect()
    watch = Watch()
    gc.callbacks.append(watch.collecting)
    read, _ = await broker.take(switches[0])
    broker.collector.taken_up(DATASETS * GRANTS_EACH)
    print(f"first list, nothing else running: read after {1000 * read:.0f} ms")
    for index in range(IN_USE):
        for _ in broker.policies[f"d-{index:04d}"].prepare():  # type: ignore
            pass
    tasks = [asyncio.create_task(watch.lane()) for _ in range(LANES)]
    tasks.append(asyncio.create_task(watch.ticker()))
    for name, records in (("every grant changed", switches[1]), ("one grant", switches[2])):
        with told(name, watch) as times:
            times(*await broker.take(records))
            broker.collector.taken_up(1)
    for task in tasks:
        task.cancel()
    began = now()
    gc.collect()
    print(f"one full collection now: {1000 * (now() - began):.0f} ms")


if __name__ == "__main__":
    asyncio.run(probe())
