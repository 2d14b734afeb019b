"""Writes blocks into the index: each once, all of one batch or none of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, inspect, select

from shutong_auditor.index.daysums import add_flows, add_intakes
from shutong_auditor.index.schema import ABOUT, BLOCKS, FLOWS, METADATA, PLACEMENTS, VERSION
from shutong_auditor.tally import TallyMaker
from shutong_core.audit.body import Body
from shutong_core.audit.header import Header, header_hash
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.version import ListVersion

#: Days are those of the people who ask.
CHINA = timezone(timedelta(hours=8))
PASSED = "passed"


@dataclass(frozen=True, slots=True)
class IndexedBlock:
    """A block with all that its rows in the index follow from."""

    next_offset: int  # in topic audit, after the block
    stored_header: bytes
    header: Header
    body: Body
    version: ListVersion  # the list that decided it


@dataclass(slots=True)
class _Rows:
    blocks: list[dict[str, Any]] = field(default_factory=list)
    intakes: list[dict[str, Any]] = field(default_factory=list)
    flows: list[dict[str, Any]] = field(default_factory=list)
    placements: list[dict[str, Any]] = field(default_factory=list)


class Indexer:
    """The one writer of an index."""

    def __init__(self, engine: Engine, table: RegionTable, cluster: str) -> None:
        """Makes the tables where there are none. Raises Fatal if they are of another bus."""
        self._engine = engine
        self._maker = TallyMaker(table)
        self._next: dict[int, int] = {}
        self._begin(cluster)

    def next(self, lane: int) -> tuple[int, int]:
        """(sequence, offset in topic audit) of the first block of the lane not indexed yet."""
        with self._engine.connect() as connection:
            found = connection.execute(
                select(BLOCKS.c.sequence, BLOCKS.c.next_offset)
                .where(BLOCKS.c.lane == lane)
                .order_by(BLOCKS.c.sequence.desc())
                .limit(1)
            ).first()
        sequence, offset = (found[0] + 1, found[1]) if found else (1, 0)
        self._next[lane] = sequence
        return sequence, offset

    def add(self, blocks: Iterable[IndexedBlock]) -> int:
        """Index blocks in their order, in one transaction; how many were new.

        A block that is there already is passed over. Raises Rejected if it is another one under
        the same number, or if one is missing before it.
        """
        rows = _Rows()
        with self._engine.begin() as connection:
            nexts = dict(self._next)
            for block in blocks:
                lane, sequence = block.header.lane, block.header.sequence
                if lane not in nexts:
                    nexts[lane] = self.next(lane)[0]
                if sequence < nexts[lane]:
                    _same(connection, block)
                    continue
                if sequence > nexts[lane] > 1:
                    raise Rejected(f"lane {lane}: block {sequence} comes after {nexts[lane] - 1}")
                nexts[lane] = sequence + 1
                self._rows(block, rows)
            for table, made in (
                (BLOCKS, rows.blocks),
                (FLOWS, rows.flows),
                (PLACEMENTS, rows.placements),
            ):
                if made:
                    connection.execute(insert(table), made)
            add_flows(connection, rows.flows)
            add_intakes(connection, rows.intakes)
        self._next = nexts
        return len(rows.blocks)

    def clear(self) -> None:
        """Forget everything: the index is then made anew from the audit."""
        with self._engine.begin() as connection:
            for table in METADATA.sorted_tables:
                if table is not ABOUT:
                    connection.execute(delete(table))
        self._next.clear()

    def blocks(self) -> int:
        """How many blocks are indexed."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(BLOCKS)).scalar_one())

    def _begin(self, cluster: str) -> None:
        there = inspect(self._engine).has_table(ABOUT.name)
        METADATA.create_all(self._engine)
        with self._engine.begin() as connection:
            found = connection.execute(select(ABOUT.c.version, ABOUT.c.cluster)).first()
            if not there or found is None:
                connection.execute(insert(ABOUT), {"version": VERSION, "cluster": cluster})
            elif found != (VERSION, cluster):
                raise Fatal(
                    f"索引属于 {found[1]}（第 {found[0]} 版）：请另选数据库，或执行 shutong audit"
                    f" index --rebuild。 The index is of {found[1]} (version {found[0]}): choose"
                    " another database, or run `shutong audit index --rebuild`."
                )

    def _rows(self, block: IndexedBlock, rows: _Rows) -> None:
        header = block.header
        rows.blocks.append(
            {
                "lane": header.lane,
                "sequence": header.sequence,
                "next_offset": block.next_offset,
                "header_hash": header_hash(block.stored_header),
                "list_number": header.list_number,
                "decided_ms": header.decided_ms,
                "rows": header.rows,
                "refused": header.refused,
                "placed": header.placed,
            }
        )
        common = {
            "lane": header.lane,
            "sequence": header.sequence,
            "day": day_of(header.decided_ms),
            "decided_ms": header.decided_ms,
            "list_number": header.list_number,
        }
        rows.intakes += ({**common, **each} for each in _intakes(block.body))
        rows.placements += ({**common, **each} for each in _placements(block.body))
        rows.flows += ({**common, **each} for each in self._flows(block))

    def _flows(self, block: IndexedBlock) -> Iterator[dict[str, Any]]:
        self._maker.add(block.body, block.version)
        for flow, count in self._maker.take().flows.items():
            grant = block.version.grant(flow.grant)
            yield {
                "dataset": flow.dataset,
                "grant_id": flow.grant,
                "publisher": flow.publisher,
                "provider": flow.provider,
                "requester": (grant.requester or "") if grant else "",
                "giver": int(flow.giver),
                "receiver": int(flow.receiver),
                "direction": flow.direction or "",
                "verdict": flow.verdict,
                "count": count,
            }


def drop_index(engine: Engine, cluster: str) -> None:
    """Take the tables away, of whatever version. Raises Fatal if they are of another bus."""
    if inspect(engine).has_table(ABOUT.name):
        with engine.connect() as connection:
            of = connection.execute(select(ABOUT.c.cluster)).scalar()
        if of not in (None, cluster):
            raise Fatal(
                f"索引属于另一条总线 {of}，未改动：请另选数据库。"
                f" The index is of another bus, {of}, and was left alone: choose another database."
            )
    METADATA.drop_all(engine)


def day_of(at_ms: int) -> str:
    """The day of a moment in China's time, `YYYY-MM-DD`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(CHINA).date().isoformat()


def _intakes(body: Body) -> Iterator[dict[str, Any]]:
    sums: Counter[tuple[str, int, int]] = Counter()
    for section in body.inputs:
        if section.loading:
            continue  # the same rows a second time, for one grant
        for publisher, refusal in zip(section.publisher_indexes(), section.refusals, strict=True):
            sums[section.dataset, publisher, refusal] += 1
    for (dataset, publisher, refusal), count in sums.items():
        yield {
            "dataset": dataset,
            "publisher": body.publishers[publisher].partition("/")[0],
            "outcome": Reason.of(refusal).name if refusal else PASSED,
            "count": count,
        }


def _placements(body: Body) -> Iterator[dict[str, Any]]:
    for section in body.inputs:
        for column in section.grants:
            if column.count:
                yield {
                    "dataset": section.dataset,
                    "grant_id": column.grant,
                    "first_k": column.first_k,
                    "last_k": column.first_k + column.count - 1,
                    "chain_after": column.chain_after,
                }


def _same(connection: Connection, block: IndexedBlock) -> None:
    header = block.header
    place = (BLOCKS.c.lane == header.lane) & (BLOCKS.c.sequence == header.sequence)
    known = connection.execute(select(BLOCKS.c.header_hash).where(place)).scalar_one_or_none()
    found = header_hash(block.stored_header)
    if known is not None and known != found:
        raise Rejected(
            f"lane {header.lane} block {header.sequence}: indexed as {known.hex()[:16]}…, the topic"
            f" has {found.hex()[:16]}…: there are two histories, verify the audit"
        )
