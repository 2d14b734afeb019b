"""Inputs of one lane share its transactions: nobody waits for ever, nothing piles up in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from shutong_broker.fetchwire import Fetched, FetchLine
from shutong_broker.input import Input
from shutong_broker.plan import Polled
from shutong_broker.source import InboundSource
from shutong_core.runtime.aiokafka_inside import record_batch
from shutong_core.wire.batches import ColumnBatch
from shutong_core.wire.topics import Topics

MIB = 1024 * 1024
#: So much of what was polled goes into one transaction, beginning with the first.
TRANSACTION_BYTES = 4 * MIB


class Bus:
    """A source whose inputs are fed by hand, and a lane that uses a part of each poll."""

    def __init__(self, *datasets: str) -> None:
        self.source = InboundSource({}, Topics("p"), "group", 0)
        self.inputs = {name: Input(name, f"p.inbound.{name}", 0, 0) for name in datasets}
        self.source._inputs = self.inputs
        self.source._fetching._hot = set(self.inputs.values())
        self.used: Counter[str] = Counter()
        self.peak_bytes = 0

    def feed(self, dataset: str, count: int, size: int) -> None:
        """One record batch more."""
        each = self.inputs[dataset]
        columns = ColumnBatch(each.topic, 0, [b"k"] * count, [b"v" * size] * count)
        builder, _ = record_batch(columns, 0, 16 * MIB)
        assert each.feed(each.fetched.to_bytes(8, "big") + bytes(builder.build())[8:], ())
        self.source._fetching.tell(each)

    def fill(self, *datasets: str, size: int) -> None:
        """What the fetches do: bring more for whom they can while there is room."""
        while not self.source._fetching._full:
            for dataset in datasets:
                self.feed(dataset, 2 * MIB // size, size)

    async def transaction(self, records_max: int) -> None:
        """Use the first of what was polled, give back the rest."""
        self._use(await self.source.poll(10, records_max))

    def _use(self, polled: Sequence[Polled]) -> None:
        room = TRANSACTION_BYTES
        for each in polled:
            count = 0
            for record in each.records if room > 0 else ():
                room -= len(record.value or b"")
                count += 1
                if room <= 0:
                    break
            self.used[each.dataset] += count
            if count < len(each.records):
                self.source.reread(each.dataset, each.records[count].offset)
        held = 0
        for one in self.inputs.values():
            held += sum(len(record.value or b"") for record in one._again)
            held += sum(reader.bytes_left for reader in one._readers)
        self.peak_bytes = max(self.peak_bytes, held)


@pytest.mark.parametrize("quiet", ["a-quiet", "z-quiet"])
async def test_an_input_under_load_does_not_keep_another_waiting(quiet: str) -> None:
    bus = Bus("m-busy", quiet)
    bus.fill("m-busy", size=20_000)
    bus.feed(quiet, 3, 100)
    for _ in range(4):
        await bus.transaction(4_000)
        bus.fill("m-busy", size=20_000)
        await asyncio.sleep(0)
    assert bus.used[quiet] == 3


async def test_inputs_under_load_get_about_as_much() -> None:
    bus = Bus("a", "b", "c")
    for _ in range(30):
        bus.fill("a", "b", "c", size=20_000)
        await bus.transaction(4_000)
    least, most = min(bus.used.values()), max(bus.used.values())
    assert len(bus.used) == 3
    assert most <= 2 * least


async def test_what_is_given_back_does_not_pile_up() -> None:
    bus = Bus("a", "b")
    for _ in range(60):
        bus.fill("a", "b", size=20_000)
        await bus.transaction(4_000)
    assert bus.peak_bytes <= 24 * MIB


async def test_without_a_fetch_session_the_one_fed_longest_ago_is_asked_for_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"d{n}" for n in range(8)]
    bus = Bus(*names)
    fetching, asked_first = bus.source._fetching, []
    loop_time = asyncio.get_running_loop().time

    async def answer(_: FetchLine, wanted: dict[str, int], *__: object) -> list[Fetched]:
        first = next(iter(wanted))  # it alone fills the answer
        asked_first.append(first)
        await asyncio.sleep(0.002)  # time passes: who was fed last is told by it
        base = wanted[first].to_bytes(8, "big")
        builder, _count = record_batch(ColumnBatch(first, 0, [b"k"], [b"v" * MIB]), 0, 16 * MIB)
        data = base + bytes(builder.build())[8:]
        return [Fetched(first, 0, 0, (), data)]

    monkeypatch.setattr(FetchLine, "fetch", answer)
    monkeypatch.setattr("shutong_broker.fetching.AHEAD_BYTES", 1 << 40)
    for each in bus.inputs.values():
        each.is_hot, each.node = True, 1
        each.fed_at = loop_time()
    fetching._inputs = {each.topic: each for each in bus.inputs.values()}
    task = asyncio.create_task(fetching._run_hot(1))
    try:
        async with asyncio.timeout(5):
            while len(asked_first) < 3 * len(names):
                await asyncio.sleep(0.001)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert set(Counter(asked_first[: 3 * len(names)]).values()) == {3}
