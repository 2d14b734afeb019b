"""Level 2 of an audit copy: delivery chains computed anew, receipts held against them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

from shutong_auditor.copyfiles import AuditCopy, delivery_file
from shutong_core.audit.chain import SEGMENT_HEADER
from shutong_core.audit.follow import SegmentEnd
from shutong_core.audit.receipts import DeliveryReceipt, parse_receipt
from shutong_core.audit.trust import TrustBundle
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.audit.verify_delivery import DeliveryVerifier, Ledger
from shutong_core.domain.errors import Rejected
from shutong_core.wire.topics import lanes_writing_to


class DeliveryCheck:
    """One pass over the delivery files. Memory: the receipts, the ledger, one position a lane."""

    def __init__(self, copy: AuditCopy, trust: TrustBundle, ledger: Ledger) -> None:
        self._copy = copy
        self._trust = trust
        self._ledger = ledger
        #: (grant, lane) → k → receipts that end there.
        self._open: defaultdict[tuple[str, int], defaultdict[int, list[DeliveryReceipt]]]
        self._open = defaultdict(lambda: defaultdict(list))
        self._territories = 0
        self._unsigned = 0
        self._signer = ""
        self._found: list[Finding] = []
        self.records = 0
        self.receipts = 0
        self.late: list[str] = []
        self.not_checked: list[Statement] = []

    def run(self) -> Iterator[Finding]:
        """All findings."""
        yield from self._read_receipts()
        there = self._copy.deliveries()
        partitions = {grant: 0 for grant, _ in there}
        for grant, _ in there:
            partitions[grant] += 1
        for grant in self._ledger.grants:
            if grant not in partitions:
                text = Statement("副本中没有其投放记录", "the copy has no delivery file of it")
                yield Finding("no-topic", text, grant=grant)
        for grant, number in there:
            yield from self._partition(grant, number, partitions[grant])
        yield from self._left_over()
        self._tell()

    def _partition(self, grant: str, number: int, partitions: int) -> Iterator[Finding]:
        lanes = lanes_writing_to(number, partitions, range(self._copy.about.lanes))
        name = delivery_file(grant, number)
        late = name.removesuffix(".records") in self._copy.about.late
        if late:
            self.late.append(name.removesuffix(".records"))
        verifier = DeliveryVerifier(
            self._trust.cluster,
            grant,
            lanes,
            self._ledger,
            from_start=not late,
            on_segment=partial(self._segment, grant),
        )
        try:
            for mark, run in self._copy.runs(grant, number):
                headers = () if mark is None else ((SEGMENT_HEADER, mark),)
                yield from verifier.feed_run(verifier.records, headers, run)
        except Rejected as error:
            yield Finding("copy", Statement(f"副本文件损坏：{error}", str(error)), grant=grant)
        yield from verifier.finish()
        yield from self._taken()
        self.records += verifier.records

    def _read_receipts(self) -> Iterator[Finding]:
        number = 0
        try:
            for number, stored in enumerate(self._copy.receipts()):
                if stored:
                    yield from self._receipt(number, stored)
        except Rejected as error:
            yield Finding("copy", Statement(f"副本文件损坏：{error}", str(error)), offset=number)

    def _receipt(self, number: int, stored: bytes) -> Iterator[Finding]:
        try:
            receipt = parse_receipt(stored, self._signed)
            if self._signer != receipt.agency.partition("/")[0]:
                raise Rejected("it is signed by a key of another organisation")
            if receipt.cluster != self._trust.cluster:
                raise Rejected(f"it is of bus {receipt.cluster}")
        except Rejected as error:
            text = Statement(f"回执第 {number} 份不成立：{error}", f"receipt {number}: {error}")
            yield Finding("receipt", text, offset=number)
            return
        self.receipts += 1
        if receipt.territory is not None:
            self._territories += 1
            return
        self._open[receipt.grant, receipt.lane][receipt.last].append(receipt)

    def _signed(self, key_id: str, message: bytes, signature: bytes) -> bool:
        kind, _, organisation = key_id.rpartition("/")[0].partition("/")
        self._signer = organisation if kind == "agency" else ""
        if organisation not in self._trust.agencies:
            self._unsigned += 1
            return True
        return self._trust.agency_signed(key_id, message, signature)

    def _segment(self, grant: str, end: SegmentEnd) -> None:
        waiting = self._open.get((grant, end.lane))
        if waiting is None:
            return
        for receipt in waiting.pop(end.last, ()):
            if receipt.chain != end.chain.hex():
                self._found.append(
                    Finding(
                        "receipt-chain",
                        Statement(
                            f"{receipt.agency} 签收至第 {end.last} 条的链值 {receipt.chain[:16]}…，"
                            f"由记录算得 {end.chain.hex()[:16]}…：所签收的不是这些记录",
                            f"{receipt.agency} signed chain {receipt.chain[:16]}… up to record"
                            f" {end.last}, the records give {end.chain.hex()[:16]}…: these are not"
                            " the records it read",
                        ),
                        lane=end.lane,
                        grant=grant,
                        k=end.last,
                    )
                )

    def _taken(self) -> Iterable[Finding]:
        found, self._found = self._found, []
        return found

    def _left_over(self) -> Iterator[Finding]:
        """Receipts that end nowhere: beyond what was placed, or inside a segment."""
        late = {name.split("/")[1] for name in self.late}
        unreached = 0
        for (grant, lane), by_k in sorted(self._open.items()):
            ends = self._ledger.of(grant).get(lane)
            placed = ends.ks[-1] if ends else 0
            for k, receipts in sorted(by_k.items()):
                if not receipts:
                    continue
                if k <= placed and grant in late:
                    unreached += len(receipts)
                    continue
                text = Statement(
                    f"{receipts[0].agency} 签收至第 {k} 条，审计只投放 {placed} 条"
                    if k > placed
                    else f"{receipts[0].agency} 签收至第 {k} 条，该处不是一段的末尾",
                    f"{receipts[0].agency} signed for {k} records, the audit placed {placed}"
                    if k > placed
                    else f"{receipts[0].agency} signed up to record {k}, where no segment ends",
                )
                yield Finding("receipt-chain", text, lane=lane, grant=grant, k=k)
        if unreached:
            self.not_checked.append(
                Statement(
                    f"{unreached} 份回执所及的记录已过保存期",
                    f"{unreached} receipts for records past their term",
                )
            )

    def _tell(self) -> None:
        if self._territories:
            self.not_checked.append(
                Statement(
                    f"{self._territories} 份按类许可的回执（须按区划拆分）",
                    f"{self._territories} receipts of class grants (their topics would have to be"
                    " split by territory)",
                )
            )
        if self._unsigned:
            self.not_checked.append(
                Statement(
                    f"{self._unsigned} 份回执的签名（信任包中没有该部门的公钥）",
                    f"signatures of {self._unsigned} receipts (the trust bundle has no key of these"
                    " agencies)",
                )
            )
