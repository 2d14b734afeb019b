"""Bar: offline verification of an audit copy on one core, level 1 in rows, level 2 in rows too.

The copy is made by the product's own builders: blocks of 3,000 rows, three grants as in the
reference job (a row is placed 1.5 times), trees with ten checkpoints each. Level 2 computes row
roots and all delivery chains; its figure counts input rows only, placed records come on top.
Processor time, so that another process on the machine counts for nothing.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import median

from audit_copies import CODEC, TRUST, SampleBus
from audit_samples import CLUSTER, PUBLISHER, Record, SampleLane, facts
from bench.registry import Bench, Result
from shutong_auditor.copyfiles import AuditCopy
from shutong_auditor.copyverify import verify_copy
from shutong_core.audit.block import NO_BLOCK, BlockBuilder
from shutong_core.audit.chain import SEGMENT_HEADER, Segment, extend, genesis
from shutong_core.audit.signednote import SignedNote

ROUNDS = 5
ROWS, RECORDS = 3_000, 600_000
GOALS = {1: 1_000_000, 2: 200_000}
#: Grant → who of eight cities it is for, bytes of a placed record.
GRANTS = {"a-some": (range(3), 70), "b-all": (range(8), 110), "c-one": (range(7, 8), 50)}


def measure(bench: Bench) -> list[Result]:
    """Rows per second of processor time, the median of rounds."""
    results = []
    with tempfile.TemporaryDirectory(prefix="shutong-bench-") as made:
        copy = Path(made) / "copy"
        known = _write(copy, max(1, (bench.records or RECORDS) // ROWS))
        for level, goal in GOALS.items():
            rates = [_rate(copy, known, level) for _ in range((bench.rounds or ROUNDS) + 1)][1:]
            bench.say(f"level {level}: {median(rates):,.0f} rows/s")
            name = f"verification, level {level}"
            results.append(Result(name, median(rates), "rows/s", f">= {goal}", rates))
    return results


def _rate(copy: Path, known: list[SignedNote], level: int) -> float:
    began = time.process_time()
    verdict = verify_copy(AuditCopy(copy), TRUST, CODEC, known, level=level)
    took = time.process_time() - began
    if not verdict.ok:
        raise RuntimeError(verdict.text("en"))
    return verdict.totals.rows / took


def _write(directory: Path, blocks: int) -> list[SignedNote]:
    chance, lane, previous = random.Random(1), SampleLane(0), NO_BLOCK
    for number in range(blocks):
        builder = BlockBuilder(chance.randbytes(16))
        part = builder.add_input("people", number * ROWS)
        placed: dict[str, list[tuple[bytes, bytes]]] = {grant: [] for grant in GRANTS}
        for at in range(ROWS):
            digest, token, hashed = (chance.randbytes(size) for size in (32, 16, 8))
            offset = number * ROWS + at
            row = part.add_row(offset, PUBLISHER, digest, (token,), hashed, 0, None)
            for grant, (cities, size) in GRANTS.items():
                if at % 8 in cities:
                    part.allow(row, grant)
                    placed[grant].append((chance.randbytes(16), chance.randbytes(size)))
        part.end((number + 1) * ROWS)
        for grant, records in placed.items():
            k, chain = lane.heads.get(grant, (0, genesis(CLUSTER, grant, 0)))
            lane.deliveries.setdefault(grant, []).extend(_segment(k, chain, records))
            size = sum(len(key) + len(value) for key, value in records)
            chain = extend(chain, records)
            part.place(grant, k + 1, size, chain)
            lane.heads[grant] = (k + len(records), chain)
        lane.blocks.append(builder.build(facts(0, number + 1, previous)))
        previous = lane.blocks[-1].hash
    bus = SampleBus([lane], steps=10).add_events(20)
    return bus.write(directory)


def _segment(k: int, chain: bytes, records: list[tuple[bytes, bytes]]) -> list[Record]:
    mark = ((SEGMENT_HEADER, Segment(0, k + 1, chain).encode()),)
    return [(mark if at == 0 else (), *each) for at, each in enumerate(records)]
