"""Verifies an audit copy against a trust bundle and checkpoints kept elsewhere.

Level 1: chains, bodies, trees, checkpoints, access events. Level 2: row roots, deliveries,
receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shutong_auditor.copydeliveries import DeliveryCheck
from shutong_auditor.copyfiles import AuditCopy, DeliveryFiles
from shutong_auditor.copyverdict import CopyVerdict, Limits, tell
from shutong_auditor.ownrecords import OwnCheck
from shutong_auditor.signedheads import SignedHeads, rotations_of
from shutong_auditor.treecheck import TreeCheck
from shutong_core.audit.access import AccessVerifier, event_hash
from shutong_core.audit.checkpoint import ACCESS, AUDIT, TreeName
from shutong_core.audit.header import parse_header
from shutong_core.audit.signednote import SignedNote
from shutong_core.audit.trust import TrustBundle
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.audit.verify import Anchor, LaneVerifier
from shutong_core.audit.verify_delivery import Ledger
from shutong_core.domain.errors import Rejected
from shutong_core.wire.busrecords import AccessEvent, BusCodec

#: Starts of processes in topic `access`: each run of a command is one. 200 bytes each.
PROCESSES_MAX = 2_000_000


@dataclass(frozen=True, slots=True)
class Own:
    """A subscriber's own records; `partitions` of its topics, None: as the copy has them.

    `from_start=False`: they need not begin with the first record placed.
    """

    files: DeliveryFiles
    partitions: int | None = None
    from_start: bool = True


def verify_copy(
    copy: AuditCopy,
    trust: TrustBundle,
    codec: BusCodec,
    known: Sequence[SignedNote] = (),
    *,
    level: int = 2,
    own: Own | None = None,
) -> CopyVerdict:
    """The verdict on `copy`; with `own`, on a subscriber's records instead of the copy's.

    `known`: checkpoints kept elsewhere (a witness's, an older copy's), which it must contain.
    Raises Rejected for a known checkpoint that `trust` does not accept.
    """
    run = _Run(copy, _rotated(copy, trust), codec, level)
    run.verdict.cluster = copy.about.cluster
    if copy.about.cluster != trust.cluster:
        run.find(
            "place",
            f"副本属于总线 {copy.about.cluster}，信任包属于 {trust.cluster}",
            f"the copy is of bus {copy.about.cluster}, the trust bundle of {trust.cluster}",
        )
        return run.verdict
    run.heads(known)
    for lane in range(copy.about.lanes):
        run.lane(lane)
    for partition in range(copy.about.lanes):
        run.access(partition)
    if own is not None:
        run.own(own)
    elif level > 1:
        run.deliveries()
    run.limits.known = len(known)
    tell(run.verdict, run.limits, copy.about.lanes, 1 if own is not None else level)
    return run.verdict


def _rotated(copy: AuditCopy, trust: TrustBundle) -> TrustBundle:
    """The bundle with the keys that the copy's rotation records lead to."""
    try:
        return trust.rotated(rotations_of(copy.checkpoints(), trust.cluster))
    except Rejected:
        return trust  # a damaged file, told of when it is read again


class _Run:
    """One verification under way."""

    def __init__(self, copy: AuditCopy, trust: TrustBundle, codec: BusCodec, level: int) -> None:
        self._copy, self._trust, self._codec, self._level = copy, trust, codec, level
        self._heads = SignedHeads(trust)
        self._lists: dict[int, bytes] = {}
        self._ledger = Ledger()
        self._access = AccessVerifier(
            lambda data: codec.decode_as(AccessEvent, data), processes_max=PROCESSES_MAX
        )
        self.limits = Limits()
        self.verdict = CopyVerdict()

    def find(self, code: str, zh: str, en: str, **place: int) -> None:
        """Notes one thing that is wrong."""
        self.verdict.add(Finding(code, Statement(zh, en), **place))  # type: ignore[arg-type]

    def heads(self, known: Iterable[SignedNote]) -> None:
        """Takes all checkpoints: those kept elsewhere, the topic's, the trees'."""
        self._add_all(self._heads.elsewhere(known))
        self._add_all(self._heads.topic(self._guarded(self._copy.checkpoints)))
        self.verdict.checkpoints = self._heads.accepted
        for topic in (AUDIT, ACCESS):
            for number in range(self._copy.about.lanes):
                reader = self._copy.tree(topic, number)
                if reader is not None:
                    tree = TreeName(self._trust.cluster, topic, number)
                    self._add_all(self._heads.stored(tree, reader))
        self._add_all(self._heads.known.beyond(self._copy.about.lanes))

    def lane(self, lane: int) -> None:
        """A lane's blocks, its tree, its checkpoints."""
        check = self._tree_check(AUDIT, lane)
        verifier = None
        for header, body in self._guarded(lambda: self._copy.blocks(lane), lane=lane):
            if verifier is None:
                verifier = self._verifier(lane, header)
                self._add_all(check.skip(verifier.last.sequence))
            found, parsed = verifier.feed(None, header, body)
            self._add_all(found)
            self.limits.no_body += body is None
            if parsed is not None:
                self._ledger.add(lane, parsed)
            self._add_all(check.block(header, parsed, compute=self._level > 1))
        self._finish_tree(f"{AUDIT}/{lane}", check)
        if verifier is not None:
            self.verdict.totals.add(verifier.totals)

    def _tree_check(self, topic: str, number: int) -> TreeCheck:
        tree = TreeName(self._trust.cluster, topic, number)
        return TreeCheck(tree, self._heads.known, self._copy.tree(topic, number))

    def _finish_tree(self, name: str, check: TreeCheck) -> None:
        self._add_all(check.finish())
        self.verdict.agreed += check.watch.agreed
        self.limits.uncovered += check.uncovered
        if check.watch.blind and check.watch.size and check.watch.covered < check.watch.largest:
            self.limits.no_tree.append(name)

    def _verifier(self, lane: int, header: bytes) -> LaneVerifier:
        start, name = None, f"{AUDIT}/{lane}"
        if name in self._copy.about.late:
            self.limits.late.append(name)
            try:
                first = parse_header(header)
                start = Anchor(first.sequence - 1, first.previous) if first.sequence > 1 else None
            except Rejected:
                start = None
        return LaneVerifier(self._trust.cluster, lane, self._lists, start)

    def access(self, partition: int) -> None:
        """The events of a partition of `access`, their chains, their tree."""
        name = f"{ACCESS}/{partition}"
        check, late = self._tree_check(ACCESS, partition), name in self._copy.about.late
        if late:
            self.limits.late.append(name)
        number = 0
        for number, event in enumerate(
            self._guarded(lambda: self._copy.events(partition), lane=partition), 1
        ):
            if late and number == 1:
                self._add_all(check.skip_to(event_hash(event)))
            wrong = self._access.feed(event, late=late)
            if wrong is not None:
                self.find(
                    "access",
                    f"access/{partition} 第 {number - 1} 条：{wrong}",
                    f"event {number - 1} of access/{partition}: {wrong}",
                    offset=number - 1,
                )
            self._add_all(check.leaf(event_hash(event)))
        self.verdict.events += number
        self._finish_tree(name, check)

    def own(self, own: Own) -> None:
        """A subscriber's records against the blocks."""
        check = OwnCheck(
            own.files, self._copy, self._ledger, own.partitions, from_start=own.from_start
        )
        self._add_all(check.run())
        self.verdict.delivered = check.records
        self.verdict.checked += check.checked
        self.verdict.not_checked += check.not_checked
        self.limits.thinned = self._ledger.thinned

    def deliveries(self) -> None:
        """Delivery chains, and receipts against them."""
        check = DeliveryCheck(self._copy, self._trust, self._ledger)
        self._add_all(check.run())
        self.verdict.delivered, self.verdict.receipts = check.records, check.receipts
        self.verdict.not_checked += check.not_checked
        self.limits.late += check.late
        self.limits.thinned = self._ledger.thinned

    def _guarded(self, read: Callable[[], Iterable[Any]], **place: int) -> Iterable[Any]:
        """What `read` gives; a damaged file is a finding and ends there."""
        try:
            yield from read()
        except Rejected as error:
            self.find("copy", f"副本文件损坏：{error}", f"a file of the copy: {error}", **place)

    def _add_all(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.verdict.add(finding)
