"""The live table: per dataset and grant what was published, placed, fetched, withheld, refused."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group, RenderableType
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
RATE_WINDOW_S = 30.0
#: Of a picture that must fit, so many grants are shown before lines of the story give way.
GRANTS_MIN = 3
#: Title and heads of the grants' table, with the note under it.
_GRANTS_FRAME = 5


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
    """Records per second over the last half minute."""

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

    def forget(self) -> None:
        """Begin anew: what was counted so far did not happen at the pace at which it was read."""
        self._seen.clear()


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
        console: Console,
        below: Sequence[RenderableType] = (),
        *,
        current: bool = True,
    ) -> RenderableType:
        """One picture of the bus that fits `console`: tables, the story's last lines, `below`.

        `current` is False while the audit of earlier runs is still being read: then what cannot
        be compared yet is left out.
        """
        datasets = self._datasets(tally, figures, current=current)
        height = console.height - 1  # the cursor's line
        fixed = _height(console, datasets, *below)
        told = [Text(line) for line in lines]
        while told and fixed + _height(console, *told) + _GRANTS_FRAME + GRANTS_MIN > height:
            told.pop(0)
        rows_max = height - fixed - _height(console, *told) - _GRANTS_FRAME
        grants = self._grants(tally, figures, max(1, rows_max), current=current)
        return Group(datasets, *grants, *told, *below)

    def _datasets(self, tally: Tally, figures: Figures, *, current: bool) -> Table:
        reading = "" if current else " · 正在读以前的审计 reading the audit of before"
        table = _table(
            f"数据资源 datasets · 入口拒自本次启动 door: since this start{reading}",
            "数据资源\ndataset",
            "已受理\npublished",
            "已裁决\ndecided",
            "退回\nrefused",
            "入口拒\ndoor",
            "条/秒\n/s",
        )
        rows = Counter({name: found.rows for name, found in tally.datasets.items()})
        rates = _rates(self._dataset_rates, rows, current=current)
        for row in self.version.of(Dataset):
            found = tally.datasets.get(row.id)
            table.add_row(
                row.id,
                # What is decided had arrived, even if it was not there yet when that was asked.
                f"{max(figures.arrived[row.id], rows[row.id]):,}",
                f"{rows[row.id]:,}",
                f"{found.refused.total() if found else 0:,}",
                f"{figures.refused_at_door[row.id]:,}",
                _rate(rates, row.id),
            )
        return table

    def _grants(
        self, tally: Tally, figures: Figures, rows_max: int, *, current: bool
    ) -> tuple[Table, Text]:
        p50, p99 = figures.quantile_ms(0.5), figures.quantile_ms(0.99)
        table = _table(
            f"许可 grants · 发布到投放 publish → placed: p50 {_ms(p50)}, p99 {_ms(p99)}",
            "许可\ngrant",
            "已投放\nplaced",
            "已取用\nfetched",
            "已签收\nsigned",
            "不予投放\nwithheld",
            "条/秒\n/s",
        )
        verdicts = {row.id: tally.grant(row.id) for row in self.version.of(Grant)}
        placed = Counter({name: found[PLACED] for name, found in verdicts.items()})
        rates = _rates(self._grant_rates, placed, current=current)
        busiest = sorted(verdicts, key=lambda name: (-(rates or {}).get(name, 0), -placed[name]))
        shown = set(busiest[:rows_max])
        of_class = {
            row.id
            for row in self.version.rows.values()
            if isinstance(row, Grant) and row.requester_class is not None
        }
        for name in (each for each in verdicts if each in shown):
            table.add_row(
                f"{name} *" if name in of_class else name,
                f"{placed[name]:,}",
                f"{figures.fetched[name]:,}" if current else "–",
                f"{figures.acknowledged[name]:,}" if current else "–",
                f"{verdicts[name].total() - placed[name]:,}",
                _rate(rates, name),
            )
        notes = []
        if of_class & shown:
            notes.append("* 按类许可只有示例的两个镇取用 of these the sample's two towns read")
        if len(verdicts) > len(shown):
            notes.append(f"另有 {len(verdicts) - len(shown)} 个许可 more grants")
        return table, Text("\n".join(notes), style="dim")


def _height(console: Console, *parts: RenderableType) -> int:
    """Lines that the parts take on this console."""
    return len(console.render_lines(Group(*parts), pad=False)) if parts else 0


def _rates(rates: Rates, counts: Counter[str], *, current: bool) -> dict[str, float] | None:
    if current:
        return rates.update(counts)
    rates.forget()
    return None


def _rate(rates: Mapping[str, float] | None, name: str) -> str:
    return "–" if rates is None else f"{rates.get(name, 0):,.0f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"≤ {value:,.0f} ms" if value != float("inf") else "超过 over 10 s"


def _table(title: str, first: str, *others: str) -> Table:
    """A table without borders: every line and column counts on a small screen."""
    table = Table(title=title, title_justify="left", expand=True, box=None, pad_edge=False)
    table.add_column(first, overflow="fold", ratio=1)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


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
