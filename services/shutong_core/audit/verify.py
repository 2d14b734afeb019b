"""Level 1: one lane's chain of blocks, from stored bytes alone.

Sequence, previous hash, body hash, counts, list digests, each input's and each grant's continuity.
Takes bytes, returns findings; after a fault it goes on from what is there, so that one fault does
not hide the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

from shutong_core.audit.block import check_counts
from shutong_core.audit.body import Body, GrantColumn, body_hash
from shutong_core.audit.bodyparse import parse_body
from shutong_core.audit.chain import genesis
from shutong_core.audit.follow import Position
from shutong_core.audit.header import NO_BLOCK, Header, header_hash, parse_header
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.domain.errors import Rejected

#: What is wrong: code, Chinese, English.
Fault = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A known block of a lane: its sequence, the hash of its header. Sequence 0: before block 1."""

    sequence: int
    hash: bytes


@dataclass(slots=True)
class Totals:
    """What a lane's blocks add up to."""

    blocks: int = 0
    bodies: int = 0
    rows: int = 0
    refused: int = 0
    placed: int = 0
    after_abort: int = 0

    def add(self, other: Totals) -> None:
        """Add what other blocks add up to."""
        self.blocks += other.blocks
        self.bodies += other.bodies
        self.rows += other.rows
        self.refused += other.refused
        self.placed += other.placed
        self.after_abort += other.after_abort


class LaneVerifier:
    """Feed it one lane's blocks in order, then `finish`.

    Memory: one entry for each input cursor and each grant of the lane.
    """

    def __init__(
        self,
        cluster: str,
        lane: int,
        lists: MutableMapping[int, bytes] | None = None,
        start: Anchor | None = None,
    ) -> None:
        """`lists`: list number → digest, where known (kept lists, other lanes); numbers that are
        not there are added as found. `start`: the last block that is trusted already, if the
        audit was cut before the first block given."""
        self._cluster = cluster
        self._lane = lane
        self._lists: MutableMapping[int, bytes] = {} if lists is None else lists
        self._from_first = start is None
        self._last = start or Anchor(0, NO_BLOCK)
        self._list_number = 0
        self._next: dict[tuple[str, str], int] = {}
        self._grants: dict[str, Position] = {}
        self.totals = Totals()
        self.broken = False  # a block could not be read, so positions may lack what it said

    @property
    def last(self) -> Anchor:
        """The last block fed."""
        return self._last

    @property
    def next_offsets(self) -> Mapping[tuple[str, str], int]:
        """(dataset, loading grant or "") → next input offset after the last block."""
        return self._next

    @property
    def grants(self) -> Mapping[str, Position]:
        """Grant → records placed so far on this lane, chain value after them."""
        return self._grants

    def feed(
        self, offset: int | None, header: bytes, body: bytes | None
    ) -> tuple[list[Finding], Body | None]:
        """Checks the next block; also returns its body, if there is one and it can be read.

        `offset`: of the record in topic audit, for the findings. `body=None` where bodies are not
        kept any more: only the header chain is checked then.
        """
        found: list[Finding] = []
        self.totals.blocks += 1
        try:
            head = parse_header(header)
        except Rejected as error:
            expected = self._last.sequence + 1
            found.append(self._finding("header", expected, offset, "块头无法读取", str(error)))
            self._last = Anchor(expected, header_hash(header))
            self._forget()
            return found, None
        for code, zh, en in self._header_faults(head):
            found.append(self._finding(code, head.sequence, offset, zh, en))
        self._last = Anchor(head.sequence, header_hash(header))
        self._list_number = max(self._list_number, head.list_number)
        self._count(head)
        if body is None:
            self._forget()  # it may have moved inputs and grants
            return found, None
        parsed, faults = self._body(head, body)
        found.extend(self._finding(code, head.sequence, offset, zh, en) for code, zh, en in faults)
        return found, parsed

    def finish(self, head: Anchor | None) -> list[Finding]:
        """`head`: the lane's last block as another source says. Without it a cut-off end, or a
        changed last header, cannot show."""
        if head is None or head == self._last:
            return []
        sequence = self._last.sequence
        if head.sequence == sequence:
            text = "最后一块与分道状态记录的不同", "the last block is not the one the head names"
        elif head.sequence > sequence:
            text = (
                f"缺少第 {sequence + 1} 至 {head.sequence} 块",
                f"blocks {sequence + 1} to {head.sequence} are missing",
            )
        else:
            text = (
                f"分道状态只到第 {head.sequence} 块，其后有多余的块",
                f"the head names block {head.sequence}, more blocks follow it",
            )
        return [self._finding("head", head.sequence, None, *text)]

    def _finding(self, code: str, block: int, offset: int | None, zh: str, en: str) -> Finding:
        return Finding(code, Statement(zh, en), lane=self._lane, block=block, offset=offset)

    def _header_faults(self, head: Header) -> Iterator[Fault]:
        if head.cluster != self._cluster or head.lane != self._lane:
            yield "place", "块属于其他总线或分道", "the block belongs to another cluster or lane"
        expected = self._last.sequence + 1
        if head.sequence != expected:
            yield (
                "sequence",
                f"块序号为 {head.sequence}，应为 {expected}",
                f"sequence {head.sequence}, {expected} expected",
            )
        elif head.previous != self._last.hash:
            yield (
                "previous",
                "与前一块不相连：前一块或本块被改动",
                "does not follow the block before: that one or this one was altered",
            )
        if head.list_number < self._list_number:
            yield (
                "list-back",
                f"清单版本由 {self._list_number} 退回 {head.list_number}",
                f"decided by list {head.list_number} after list {self._list_number}",
            )
        if self._lists.setdefault(head.list_number, head.list_digest) != head.list_digest:
            yield (
                "list-digest",
                f"清单第 {head.list_number} 版的摘要不符",
                f"digest of list {head.list_number} is not the known one",
            )

    def _count(self, head: Header) -> None:
        totals = self.totals
        totals.rows += head.rows
        totals.refused += head.refused
        totals.placed += head.placed
        totals.after_abort += head.after_abort

    def _body(self, head: Header, data: bytes) -> tuple[Body | None, list[Fault]]:
        self.totals.bodies += 1
        if len(data) != head.body_length or body_hash(data) != head.body_hash:
            self._forget()
            return None, [("body-hash", "块体与块头的摘要不符", "the body differs from its hash")]
        faults: list[Fault] = []
        try:
            body = parse_body(data)
        except Rejected as error:
            self._forget()
            return None, [("body", "块体内容不合规范", str(error))]
        try:
            check_counts(head, body)
        except Rejected as error:
            faults.append(("body", "块头与块体的计数不符", str(error)))
        return body, [*faults, *self._input_faults(body), *self._grant_faults(body)]

    def _forget(self) -> None:
        """A body is lost: where inputs and grants stand is taken from the next ones."""
        self.broken = True
        self._from_first = False
        self._next.clear()
        self._grants.clear()

    def _input_faults(self, body: Body) -> Iterator[Fault]:
        for section in body.inputs:
            cursor = (section.dataset, section.loading)
            expected = self._next.get(cursor)
            # A grant may be loaded again from the start: only the main cursor never jumps.
            if expected is not None and section.first != expected and not section.loading:
                yield (
                    "input",
                    f"{section.dataset} 自偏移 {section.first} 读起，应为 {expected}",
                    f"{section.dataset} read from offset {section.first}, {expected} expected",
                )
            self._next[cursor] = section.next

    def _grant_faults(self, body: Body) -> Iterator[Fault]:
        for section in body.inputs:
            for column in section.grants:
                before = self._grants.get(column.grant)
                if before is None and self._from_first:
                    before = Position(0, genesis(self._cluster, column.grant, self._lane))
                if before is not None:
                    yield from _column_faults(column, before)
                self._grants[column.grant] = Position(
                    column.first_k + column.count - 1, column.chain_after
                )


def _column_faults(column: GrantColumn, before: Position) -> Iterator[Fault]:
    if column.first_k != before.k + 1:
        yield (
            "grant-sequence",
            f"{column.grant} 的序号为 {column.first_k}，应为 {before.k + 1}",
            f"{column.grant} goes on at {column.first_k}, {before.k + 1} expected",
        )
    elif (column.count == 0) != (column.chain_after == before.chain):
        yield (
            "grant-chain",
            f"{column.grant} 的链值与投放条数不符",
            f"{column.grant}: chain value does not agree with the number of records placed",
        )
