"""A subscriber's own stored records of a grant, held against an audit copy.

The two were not taken at the same time: what either has beyond the other is told, not held against
anybody.
"""

from __future__ import annotations

from collections.abc import Iterator

from shutong_auditor.copyfiles import AuditCopy, DeliveryFiles
from shutong_core.audit.chain import SEGMENT_HEADER
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.audit.verify_delivery import DeliveryVerifier, Ledger
from shutong_core.domain.errors import Rejected
from shutong_core.wire.topics import lanes_writing_to


class OwnCheck:
    """One pass over a subscriber's files; `from_start=False`: they begin anywhere."""

    def __init__(
        self,
        own: DeliveryFiles,
        copy: AuditCopy,
        ledger: Ledger,
        partitions: int | None,
        *,
        from_start: bool = True,
    ) -> None:
        """`partitions`: of the delivery topics; None: as many as the copy has files of a grant."""
        self._own = own
        self._copy = copy
        self._ledger = ledger
        self._given = partitions
        self._from_start = from_start
        self.records = 0
        self.checked: list[Statement] = []
        self.not_checked: list[Statement] = []

    def run(self) -> Iterator[Finding]:
        """All findings. Raises Rejected if there are no files."""
        files = self._own.deliveries()
        if not files:
            raise Rejected(
                f"{self._own.directory} 中没有 delivery/<许可>/<分区>.records 文件。"
                f" {self._own.directory} has no files delivery/<grant>/<partition>.records."
            )
        there = [grant for grant, _ in self._copy.deliveries()]
        for grant, number in files:
            count = self._given or there.count(grant)
            if not count:
                raise Rejected(
                    f"审计副本中没有许可 {grant} 的投放文件：请用 --partitions 指明其主题的分区数。"
                    f" The audit copy has no delivery file of grant {grant}: say with --partitions"
                    " how many partitions its topic has."
                )
            yield from self._file(grant, number, count)

    def _file(self, grant: str, number: int, partitions: int) -> Iterator[Finding]:
        lanes = lanes_writing_to(number, partitions, range(self._copy.about.lanes))
        cluster = self._copy.about.cluster
        verifier = DeliveryVerifier(
            cluster, grant, lanes, self._ledger, from_start=self._from_start
        )
        try:
            for mark, run in self._own.runs(grant, number):
                headers = () if mark is None else ((SEGMENT_HEADER, mark),)
                yield from verifier.feed_run(verifier.records, headers, run, newer=True)
        except Rejected as error:
            yield Finding("copy", Statement(f"文件损坏：{error}", str(error)), grant=grant)
        # What the audit has beyond is told below: it may not have been fetched yet.
        yield from (each for each in verifier.finish() if each.code != "count")
        strangers = sorted(verifier.positions.keys() - set(lanes))
        if strangers:
            text = Statement("该分道不写入此分区", "this lane does not write to this partition")
            yield Finding("lane", text, lane=strangers[0], grant=grant)
        self.records += verifier.records
        if verifier.skipped:
            self._without_segment(grant, verifier.skipped)
        for lane in lanes:
            place = verifier.positions.get(lane)
            self._tell(grant, lane, place.k if place else 0)

    def _without_segment(self, grant: str, count: int) -> None:
        self.not_checked.append(
            Statement(
                f"许可 {grant} 的前 {count} 条：不知属于哪一段",
                f"the first {count} records of grant {grant}: their segment is not known",
            )
        )

    def _tell(self, grant: str, lane: int, k: int) -> None:
        proved, audited = self._ledger.proved(grant, lane, k)
        if proved:
            self.checked.append(
                Statement(
                    f"许可 {grant} 分道 {lane}：至第 {proved} 条与审计一致",
                    f"grant {grant} lane {lane}: as audited up to record {proved}",
                )
            )
        if k > proved:
            self.not_checked.append(
                Statement(
                    f"许可 {grant} 分道 {lane} 第 {proved + 1} 至 {k} 条：副本中尚无其块的末尾",
                    f"records {proved + 1} to {k} of grant {grant} lane {lane}: no block of the"
                    " audit copy ends with them",
                )
            )
        if audited > k:
            self.not_checked.append(
                Statement(
                    f"许可 {grant} 分道 {lane}：审计另有第 {k + 1} 至 {audited} 条，"
                    "尚未取用，或在末尾缺失",
                    f"grant {grant} lane {lane}: the audit also has records {k + 1} to {audited},"
                    " not fetched yet, or missing at the end",
                )
            )
