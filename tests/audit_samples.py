"""Deterministic blocks with the deliveries that belong to them, for tests and vectors.

Two datasets, two grants each on one lane; every third row is refused, one grant has a late
segment, another is loading. Salts and bodies follow from numbers, so vectors stay the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from shutong_core.audit.block import NO_BLOCK, Block, BlockBuilder, BlockFacts, id_hash, row_digest
from shutong_core.audit.chain import SEGMENT_HEADER, Segment, extend, genesis
from shutong_core.domain.reasons import Reason

CLUSTER = "bus-330000"
PUBLISHER = "11330000002482007X/civil-1"
Record = tuple[tuple[tuple[str, bytes], ...], bytes | None, bytes | None]


def filled(text: str, size: int) -> bytes:
    """`size` bytes that follow from `text`."""
    return hashlib.shake_128(text.encode()).digest(size)


def facts(lane: int, sequence: int, previous: bytes, list_number: int = 7) -> BlockFacts:
    return BlockFacts(
        cluster=CLUSTER,
        lane=lane,
        sequence=sequence,
        previous=previous,
        list_number=list_number,
        list_digest=filled(f"list {list_number}", 32),
        engine="shutong 0.1.0",
        decided_ms=1_780_000_000_000 + sequence,
        division_digest=filled("divisions", 32),
        instance=filled("instance", 16),
    )


@dataclass
class SampleLane:
    """A lane that decides rows and places records as the broker does."""

    lane: int = 0
    segment_records: int = 3
    blocks: list[Block] = field(default_factory=list)
    deliveries: dict[str, list[Record]] = field(default_factory=dict)
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)

    @property
    def previous(self) -> bytes:
        return self.blocks[-1].hash if self.blocks else NO_BLOCK

    def add_block(self, rows: int = 8, *, exposed: tuple[str, ...] | None = None) -> Block:
        number = len(self.blocks) + 1
        builder = BlockBuilder(filled(f"salt {self.lane} {number}", 16))
        for dataset in ("deaths", "births"):
            self._add_input(builder, dataset, rows)
        block = builder.build(facts(self.lane, number, self.previous), exposed)
        self.blocks.append(block)
        return block

    def _add_input(self, builder: BlockBuilder, dataset: str, rows: int) -> None:
        first = self.offsets.get(dataset, 0)
        part = builder.add_input(dataset, first)
        placed: dict[str, list[tuple[bytes, bytes]]] = {}
        city, town, late = f"{dataset}-city", f"{dataset}-town", f"{dataset}-late"
        for number in range(rows):
            offset = first + number
            body = filled(f"{dataset} {offset}", 40)
            refused = number % 3 == 2
            row = part.add_row(
                offset,
                "" if number % 5 == 4 else PUBLISHER,
                row_digest(builder.salt, body),
                tuple(filled(f"subject {offset} {n}", 16) for n in range(number % 4)),
                id_hash(PUBLISHER, dataset, f"id-{offset}", b"k" * 32) if number % 2 else None,
                3 if refused else number % 3,
                Reason.BAD_ID_NUMBER if refused else None,
            )
            if refused:
                continue
            part.allow(row, city)
            placed.setdefault(city, []).append((filled(f"key {offset}", 16), body[:20]))
            if number % 2:
                part.allow(row, town)
                placed.setdefault(town, []).append((filled(f"key {offset}", 16), body[:10]))
            else:
                part.withhold(row, town, Reason.EXPIRED)
            part.defer(row, late)
        part.end(first + rows + 1)  # a control marker takes one offset
        self.offsets[dataset] = first + rows + 1
        for grant, records in placed.items():
            self._place(part, grant, records)
        if rows:
            part.place(late, 1, 0, genesis(CLUSTER, late, self.lane))

    def _place(self, part, grant: str, records: list[tuple[bytes, bytes]]) -> None:
        start = k, chain = self.heads.get(grant, (0, genesis(CLUSTER, grant, self.lane)))
        out = self.deliveries.setdefault(grant, [])
        for at in range(0, len(records), self.segment_records):
            run = records[at : at + self.segment_records]
            header = ((SEGMENT_HEADER, Segment(self.lane, k + 1, chain).encode()),)
            out += [(header if n == 0 else (), *record) for n, record in enumerate(run)]
            chain, k = extend(chain, run), k + len(run)
        self.heads[grant] = (k, chain)
        size = sum(len(key) + len(value) for key, value in records)
        part.place(grant, start[0] + 1, size, chain)


def sample_lane(blocks: int = 4, rows: int = 8, lane: int = 0) -> SampleLane:
    """A lane of so many blocks."""
    made = SampleLane(lane)
    for number in range(blocks):
        made.add_block(rows, exposed=("births-city",) if number == 1 else None)
    return made
