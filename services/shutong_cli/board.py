"""The live table: per dataset and grant what was published, placed, fetched, withheld, refused."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shutong_auditor.tally import PLACED, Tally
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Grant
from shutong_core.domain.regions import Level
from shutong_core.domain.version import ListVersion

LEVEL_NAMES = {
    Level.NATION: "国 nation",
    Level.PROVINCE: "省 province",
    Level.CITY: "市 city",
    Level.COUNTY: "县 county",
    Level.TOWN: "镇 town",
}
RATE_WINDOW_S = 5.0
#: Borders, titles, addresses, bars: what a picture needs beside its rows.
FRAME_LINES = 18


@dataclass(slots=True)
class Figures:
    """What the audit does not tell: totals over all runs, latency since the services started."""

    arrived: Counter[str] = field(default_factory=Counter)  # records in inbound, by dataset
    refused_at_door: Counter[str] = field(default_factory=Counter)  # by dataset, since the start
    fetched: Counter[str] = field(default_factory=Counter)  # by grant
    acknowledged: Counter[str] = field(default_factory=Counter)  # by grant
    latency: Counter[float] = field(default_factory=Counter)  # bucket bound (s) -> cumulative

    def quantile_ms(self, share: float) -> float | None:
        """Upper bound in ms of the bucket that holds this share of transactions."""
        total = self.latency.get(float("inf"), 0)
        if not total:
            return None
        for bound in sorted(self.latency):
            if self.latency[bound] >= share * total:
                return bound * 1000
        return None


async def scrape(http: httpx.AsyncClient, urls: Iterable[str]) -> Figures:
    """What the services measure, summed; one that does not answer is left out."""
    figures = Figures()
    for url in urls:
        try:
            answer = await http.get(f"{url}/metrics")
        except httpx.HTTPError:
            continue
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                _add(figures, sample.name, sample.labels, sample.value)
    return figures


def _add(figures: Figures, name: str, labels: Mapping[str, str], value: float) -> None:
    if name == "shutong_intake_records_total" and labels["outcome"] != "accepted":
        figures.refused_at_door[labels["dataset"]] += int(value)
    elif name == "shutong_publish_to_placed_seconds_bucket":
        figures.latency[float(labels["le"])] += int(value)


class Rates:
    """Records per second over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Counter[str]]] = deque()

    def update(self, counts: Counter[str]) -> dict[str, float]:
        """Take the newest totals; rate by name."""
        now = time.monotonic()
        self._seen.append((now, Counter(counts)))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        elapsed = max(now - began, 0.001)
        return {name: (count - before[name]) / elapsed for name, count in counts.items()}


class Board:
    """Renders the tables; totals of decisions come from the audit, the rest from metrics."""

    def __init__(self, version: ListVersion) -> None:
        self.version = version
        self._dataset_rates = Rates()
        self._grant_rates = Rates()

    def render(
        self,
        tally: Tally,
        figures: Figures,
        lines: Sequence[str],
        addresses: Sequence[str],
        height: int,
    ) -> RenderableType:
        """One picture of the bus, not higher than `height` lines."""
        grants_max = max(3, height - len(tally.datasets) - len(lines) * 2 - FRAME_LINES)
        return Group(
            self._datasets(tally, figures),
            self._grants(tally, figures, grants_max),
            Text("  ".join(addresses), style="dim"),
            Text("\n".join(lines)),
        )

    def _datasets(self, tally: Tally, figures: Figures) -> Table:
        table = Table(title="数据资源 datasets", title_justify="left", expand=True)
        _columns(
            table,
            "数据资源 dataset",
            "已受理 published",
            "已裁决 decided",
            "退回 refused",
            "条/秒 /s",
        )
        rows = Counter({name: found.rows for name, found in tally.datasets.items()})
        rates = self._dataset_rates.update(rows)
        for row in self.version.of(Dataset):
            found = tally.datasets.get(row.id)
            refused = found.refused.total() if found else 0
            table.add_row(
                row.id,
                f"{figures.arrived[row.id]:,}",
                f"{rows[row.id]:,}",
                f"{refused + figures.refused_at_door[row.id]:,}",
                f"{rates.get(row.id, 0):,.0f}",
            )
        return table

    def _grants(self, tally: Tally, figures: Figures, rows_max: int) -> Table:
        p50, p99 = figures.quantile_ms(0.5), figures.quantile_ms(0.99)
        table = Table(
            title=f"许可 grants · 发布到投放 publish → placed p50 ≤ {_ms(p50)}, p99 ≤ {_ms(p99)}",
            title_justify="left",
            expand=True,
        )
        _columns(
            table,
            "许可 grant",
            "已投放 placed",
            "已取用 fetched",
            "已签收 signed",
            "不予投放 withheld",
            "条/秒 /s",
        )
        verdicts = {row.id: tally.grant(row.id) for row in self.version.of(Grant)}
        rates = self._grant_rates.update(Counter({name: v[PLACED] for name, v in verdicts.items()}))
        busiest = sorted(verdicts, key=lambda name: (-rates.get(name, 0), -verdicts[name][PLACED]))
        shown = set(busiest[:rows_max])
        for name in (each for each in verdicts if each in shown):
            counts = verdicts[name]
            table.add_row(
                name,
                f"{counts[PLACED]:,}",
                f"{figures.fetched[name]:,}",
                f"{figures.acknowledged[name]:,}",
                f"{counts.total() - counts[PLACED]:,}",
                f"{rates.get(name, 0):,.0f}",
            )
        if len(verdicts) > len(shown):
            table.caption = f"另有 {len(verdicts) - len(shown)} 个许可 more grants"
        return table


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} ms" if value != float("inf") else "> 10 s"


def _columns(table: Table, first: str, *others: str) -> None:
    table.add_column(first, overflow="fold", ratio=2)
    for name in others:
        table.add_column(name, justify="right", ratio=1)


def matrix(tally: Tally) -> Table:
    """Placed records from level (rows) to level (columns), with their directions."""
    table = Table(title="层级流向 flows between levels（已投放 placed）", title_justify="left")
    table.add_column("从 from \\ 到 to")
    for name in LEVEL_NAMES.values():
        table.add_column(name, justify="right")
    counts = tally.matrix()
    for giver, name in LEVEL_NAMES.items():
        cells = []
        for receiver in LEVEL_NAMES:
            found = {
                direction or "—": count
                for (a, b, direction), count in sorted(counts.items(), key=str)
                if (a, b) == (giver, receiver)
            }
            cells.append("\n".join(f"{way} {count:,}" for way, count in found.items()))
        table.add_row(name, *cells)
    return table
