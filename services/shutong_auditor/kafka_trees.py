"""What a verification from Kafka adds where there is a trust bundle: trees, signed checkpoints,
access events.

Checkpoints and tree files are taken before the audit is read, so what they name must be in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shutong_auditor.kafka_read import KafkaReading
from shutong_auditor.signedheads import SignedHeads, Stored, rotations_of
from shutong_auditor.treecheck import TreeCheck
from shutong_auditor.treecopy import copy_tree
from shutong_auditor.treereader import TreeReader
from shutong_core.audit.access import AccessVerifier, event_hash
from shutong_core.audit.body import Body
from shutong_core.audit.checkpoint import ACCESS, AUDIT, TreeName
from shutong_core.audit.signednote import SignedNote
from shutong_core.audit.trust import TrustBundle
from shutong_core.audit.verdict import Finding, Statement, Verdict
from shutong_core.domain.errors import Rejected
from shutong_core.wire.busrecords import AccessEvent, BusCodec
from shutong_core.wire.topics import Topics

PROCESSES_MAX = 2_000_000
#: Checkpoints of a hundred trees signed every half minute for a year would be more: cut by then.
_RECORDS_MAX = 5_000_000


@dataclass(frozen=True, slots=True)
class Signed:
    """What the trees of a bus are held against.

    `trees`: directory with tree files, `<topic>/<number>/…`, None for none. `scratch`: an empty
    directory for a copy of them, since the auditor may go on. `known`: checkpoints kept elsewhere.
    """

    trust: TrustBundle
    trees: Path | None = None
    scratch: Path | None = None
    known: Sequence[SignedNote] = ()
    compute: bool = True  # row roots from the bodies; else from the tree files where they are


class KafkaTrees:
    """The trees of one verification."""

    def __init__(
        self, reading: KafkaReading, topics: Topics, codec: BusCodec, given: Signed
    ) -> None:
        self._reading = reading
        self._topics = topics
        self._given = given
        self._codec = codec
        self._heads = SignedHeads(given.trust)
        self._checks: dict[tuple[str, int], TreeCheck] = {}
        self.events = 0

    @property
    def cluster(self) -> str:
        """The bus that the trust bundle is of."""
        return self._given.trust.cluster

    async def start(self) -> list[Finding]:
        """Read what was signed until now. Raises Rejected for a known checkpoint that is not."""
        records = await self._checkpoints()
        trust = self._given.trust
        self._heads = SignedHeads(trust.rotated(rotations_of(records, trust.cluster)))
        found = list(self._heads.elsewhere(self._given.known))
        found += self._heads.topic(records)
        numbers = len(self._reading.partitions(self._topics.audit))
        for topic in (AUDIT, ACCESS):
            for number in range(numbers):
                tree = TreeName(trust.cluster, topic, number)
                try:
                    reader = await self._files(topic, number)
                except Rejected as error:
                    text = Statement(f"树文件无法读取：{error}", f"tree files: {error}")
                    found.append(Finding("tile", text, lane=number))
                    continue
                if reader is not None:
                    found += self._heads.stored(tree, reader)
        found += self._heads.known.beyond(numbers)
        return found

    def skip(self, lane: int, blocks: int) -> list[Finding]:
        """The first `blocks` of the lane were cut by their term."""
        return list(self._check(AUDIT, lane).skip(blocks))

    def block(self, lane: int, header: bytes, body: Body | None) -> list[Finding]:
        """The next block of a lane."""
        check = self._check(AUDIT, lane)
        return list(check.block(header, body, compute=self._given.compute))

    def finish(self, topic: str, number: int) -> list[Finding]:
        """The tree's records are all read."""
        return list(self._check(topic, number).finish())

    async def access(self) -> list[Finding]:
        """The events of topic `access`: chains of the processes, trees."""
        verifier = AccessVerifier(self._decode, processes_max=PROCESSES_MAX)
        found: list[Finding] = []
        ends = await self._reading.ends(self._topics.access)
        for partition in self._reading.partitions(self._topics.access):
            first, end = ends[self._topics.access, partition]
            check, begun = self._check(ACCESS, partition), False
            async for record in self._reading.records(self._topics.access, partition, first, end):
                event = record.value or b""
                if first > 0 and not begun:
                    found += check.skip_to(event_hash(event))
                begun = True
                found += _event(verifier, partition, record.offset, event, late=first > 0)
                found += check.leaf(event_hash(event))
                self.events += 1
            found += check.finish()
        return found

    def tell(self, verdict: Verdict) -> None:
        """Adds what was checked, what was not."""
        checks = self._checks.values()
        agreed = sum(each.watch.agreed for each in checks)
        known = len(self._given.known)
        verdict.checked.append(
            Statement(
                f"{len(checks)} 棵树在 {agreed} 处与已签名的检查点一致（其中另存 {known} 份）；"
                f"{self.events} 条访问事件",
                f"{len(checks)} trees agree with signed checkpoints at {agreed} places ({known}"
                f" kept elsewhere); {self.events} access events",
            )
        )
        verdict.not_checked += self._not_checked()

    def _not_checked(self) -> Iterator[Statement]:
        if self._given.trees is None:
            yield Statement("树文件（--trees）", "tree files (--trees)")
        uncovered = sum(each.uncovered for each in self._checks.values())
        if uncovered:
            yield Statement(
                f"{uncovered} 条未与任何检查点比对（最新检查点之后，或早期已截去）",
                f"{uncovered} leaves against a checkpoint (after the newest ones, or cut early)",
            )
        if not self._given.known:
            yield Statement(
                "另存的检查点（--known）：无此则整份旧快照看似完好",
                "checkpoints kept elsewhere (--known): without one an old snapshot looks healthy",
            )

    def _check(self, topic: str, number: int) -> TreeCheck:
        check = self._checks.get((topic, number))
        if check is None:
            tree = TreeName(self._given.trust.cluster, topic, number)
            files = self._copied(topic, number)
            reader = TreeReader(files) if files is not None and files.is_dir() else None
            check = self._checks[topic, number] = TreeCheck(tree, self._heads.known, reader)
        return check

    def _copied(self, topic: str, number: int) -> Path | None:
        scratch = self._given.scratch
        return None if scratch is None else scratch / topic / str(number)

    async def _files(self, topic: str, number: int) -> TreeReader | None:
        """The tree's files as they are now, copied; None if there are none."""
        target = self._copied(topic, number)
        if self._given.trees is None or target is None:
            return None
        source = self._given.trees / topic / str(number)
        if not source.is_dir():
            return None
        await asyncio.to_thread(copy_tree, source, target)
        return TreeReader(target) if target.is_dir() else None

    async def _checkpoints(self) -> list[Stored]:
        topic = self._topics.checkpoints
        if 0 not in self._reading.partitions(topic):
            return []
        first, end = (await self._reading.ends(topic))[topic, 0]
        found: list[Stored] = []
        async for record in self._reading.records(topic, 0, first, end):
            found.append((record.key, record.value))
            if len(found) > _RECORDS_MAX:
                raise Rejected(f"topic checkpoints has more than {_RECORDS_MAX} records")
        return found

    def _decode(self, data: bytes) -> AccessEvent:
        return self._codec.decode_as(AccessEvent, data)


def _event(
    verifier: AccessVerifier, partition: int, offset: int, event: bytes, *, late: bool
) -> Iterable[Finding]:
    wrong = verifier.feed(event, late=late)
    if wrong is not None:
        text = Statement(f"访问事件：{wrong}", f"access event: {wrong}")
        yield Finding("access", text, lane=partition, offset=offset)
