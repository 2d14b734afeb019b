"""A person's report: who received records about them, for what purpose, on what basis, when.

The audit holds a keyed token of each subject, not the identifier; whoever asks has the key of the
tokens and the number, which is used for this one question and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_auditor.index.listshelf import ListShelf
from shutong_core.audit.block import parse_block
from shutong_core.audit.body import Body, InputSection
from shutong_core.audit.digests import TOKEN_BYTES
from shutong_core.audit.header import Header
from shutong_core.domain.changes import Verify
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import partitions_of
from shutong_core.runtime.consumers import committed_records, reading_committed
from shutong_core.wire.topics import Topics

LINES_MAX = 10_000
_LIST_S = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """One record about the person, placed for one grant."""

    decided_ms: int
    dataset: str
    publisher: str  # organisation
    provider: str
    grant: str
    requester: str  # organisation, or the class of requesters
    purpose: str
    basis: str
    list_number: int
    lane: int
    block: int
    k: int


def lines_of(header: Header, body: Body, token: bytes, version: ListVersion) -> Iterator[Line]:
    """What one block, decided by `version`, placed about the subject of `token`."""
    for section in body.inputs:
        rows = _rows_of(section, token)
        if not rows:
            continue
        dataset = version.dataset(section.dataset)
        publishers = section.publisher_indexes()
        for column in section.grants:
            allowed = int.from_bytes(column.allowed, "little")
            grant = version.grant(column.grant)
            for row in rows:
                if not allowed >> row & 1:
                    continue
                before = (allowed & ((1 << row) - 1)).bit_count()
                asked = grant.requester_class if grant else None
                yield Line(
                    decided_ms=header.decided_ms,
                    dataset=section.dataset,
                    publisher=body.publishers[publishers[row]].partition("/")[0],
                    provider=dataset.provider if dataset else "",
                    grant=column.grant,
                    requester=f"class {asked.level} within {asked.within}"
                    if asked
                    else ((grant.requester or "") if grant else ""),
                    purpose=grant.purpose if grant else "",
                    basis=grant.basis if grant else "",
                    list_number=header.list_number,
                    lane=header.lane,
                    block=header.sequence,
                    k=column.first_k + before,
                )


def _rows_of(section: InputSection, token: bytes) -> list[int]:
    """Rows that are about the subject."""
    found, at, tokens = [], -1, section.tokens
    places: list[int] = []
    while (at := tokens.find(token, at + 1)) >= 0:
        if at % TOKEN_BYTES == 0:
            places.append(at // TOKEN_BYTES)
    if not places:
        return []
    row, end = 0, section.token_counts[0]
    for place in places:
        while place >= end:
            row += 1
            end += section.token_counts[row]
        found.append(row)
    return sorted(set(found))


@dataclass(frozen=True, slots=True)
class Lawful:
    """What is not shown, as settings say: purposes concealed by law, and what is too recent."""

    purposes: frozenset[str]
    until_ms: int

    def shows(self, line: Line) -> bool:
        """Whether the person may be told of this record now."""
        return line.purpose not in self.purposes and line.decided_ms <= self.until_ms


async def subject_report(
    client: Mapping[str, Any],
    topics: Topics,
    verify: Verify,
    token: bytes,
    span_ms: tuple[int, int],
    lawful: Lawful,
) -> list[Line]:
    """All that was placed about the subject between two moments, oldest first.

    Reads every block of that time. Raises Rejected if there is more than a report holds,
    Retryable if Kafka does not answer.
    """
    found: list[Line] = []
    shelf = ListShelf(client, topics.lists, verify)
    try:
        async with reading_committed(client, max_partition_fetch_bytes=4 * 1024 * 1024) as reader:
            lanes = (await partitions_of(client, [topics.audit])).get(topics.audit, 0)
            for lane in range(lanes):
                place = TopicPartition(topics.audit, lane)
                first, end = await _offsets(reader, place, span_ms)
                async for record in committed_records(reader, place, first, end):
                    value = record.value or b""
                    if value.find(token) < 0:
                        continue  # most blocks: nothing of them is parsed
                    header, body = parse_block(record.key or b"", value)
                    version = await shelf.get(header.list_number, header.list_digest, _LIST_S)
                    found += filter(lawful.shows, lines_of(header, body, token, version))
                    if len(found) > LINES_MAX:
                        raise Rejected(
                            f"超过 {LINES_MAX} 条，请缩短期间。"
                            f" More than {LINES_MAX} records: ask for less time."
                        )
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"audit cannot be read: {type(error).__name__}") from error
    finally:
        await shelf.close()
    return sorted(found, key=lambda line: (line.decided_ms, line.lane, line.block, line.k))


async def _offsets(
    reader: AIOKafkaConsumer, place: TopicPartition, span_ms: tuple[int, int]
) -> tuple[int, int]:
    """First offset, and end, of what was appended to a partition in a time."""
    end: int = (await reader.end_offsets([place]))[place]
    first = (await reader.offsets_for_times({place: max(0, span_ms[0])}))[place]
    after = (await reader.offsets_for_times({place: span_ms[1] + 1}))[place]
    return end if first is None else first.offset, end if after is None else after.offset
