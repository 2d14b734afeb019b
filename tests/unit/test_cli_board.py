"""The live table fits small screens, and its figures do not contradict each other."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from shutong_auditor.tally import OUTSIDE, PLACED, DatasetTally, Flow, Tally
from shutong_cli.board import Board, Figures
from shutong_cli.publishing import list_check
from shutong_cli.voice import StoryBars
from shutong_control.draftfile import read_draft
from shutong_control.publish import prepare
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Grant
from shutong_core.domain.regions import Level
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings
from shutong_core.wire.schemarecords import Registry
from shutong_story.plan import InputFile, Plan
from shutong_story.progress import BatchPublished

LIST = Path(__file__).parents[2] / "deploy/samples/story/list.yaml"
LINE = "  梅州市医保局 收到 +123 ms，9 项 ·   arrived under allowance-meizhou-medical-aid +123 ms"
INPUT = InputFile(2, "subsistence-allowance", "wuhua-civil", "a.ndjson", 1_000)


@cache
def version() -> ListVersion:
    node = Node("test", Settings(data_dir=Path("/nonexistent")))
    check = list_check(node.table, lambda: None)
    made = prepare(read_draft(LIST), Registry(), None, node.topics, check, 0)
    assert made is not None
    return made.version


def tally() -> Tally:
    found = Tally()
    for row in version().rows.values():
        if isinstance(row, Dataset):
            found.datasets[row.id] = DatasetTally(41_352, Counter({"DUPLICATE": 1_234}))
        elif isinstance(row, Grant):
            for verdict in (PLACED, OUTSIDE):
                flow = Flow(row.dataset, row.id, "x", Level.CITY, Level.CITY, None, verdict)
                found.flows[flow] = 41_352
    return found


def figures() -> Figures:
    found = Figures()
    for row in version().rows.values():
        found.fetched[row.id] = found.acknowledged[row.id] = 41_000
        found.arrived[row.id] = 41_000
        found.refused_at_door[row.id] = 17
    found.latency = Counter({0.1: 5, float("inf"): 10})
    return found


def bars(console: Console) -> StoryBars:
    return StoryBars(Plan(Path(), 1, {}, (INPUT,), (), ()), console)


def picture(width: int, height: int, *, current: bool = True) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True)
    addresses = Text(
        "kafka 127.0.0.1:9092 · control 8803 · producer 8801 · consumer 8802\n"
        "管理 admin (/readyz /metrics): control 9803, broker 9800, producer 9801, consumer 9802"
    )
    below = (addresses, bars(console).progress)
    shown = Board(version()).render(
        tally(), figures(), [LINE] * 12, console, below, current=current
    )
    lines = console.render_lines(shown, pad=False)
    return ["".join(part.text for part in line) for line in lines]


@pytest.mark.parametrize(("width", "height"), [(100, 40), (80, 24), (200, 60)])
def test_the_picture_fits_the_screen_without_an_ellipsis(width: int, height: int) -> None:
    lines = picture(width, height)
    assert len(lines) < height
    assert max(map(cell_len, lines)) <= width
    assert "…" not in "".join(lines)
    for head in ("published", "decided", "refused", "door", "placed", "fetched", "withheld"):
        assert any(head in line for line in lines)
    assert any("/readyz" in line for line in lines)
    assert sum("41,352" in line for line in lines) >= 4 + 3


def test_refusals_at_the_door_stand_apart_from_those_of_the_lanes() -> None:
    (row,) = [line for line in picture(100, 40) if line.startswith("death-certificate ")]
    assert row.split()[3:5] == ["1,234", "17"]


def test_published_is_never_less_than_decided() -> None:
    (row,) = [line for line in picture(100, 40) if line.startswith("death-certificate ")]
    assert row.split()[1:3] == ["41,352", "41,352"]


def test_latency_beyond_the_buckets_is_said_in_words() -> None:
    title = next(line for line in picture(100, 40) if "publish → placed" in line)
    assert "p50 ≤ 100 ms, p99 超过 over 10 s" in title


def test_of_class_grants_it_says_who_reads() -> None:
    lines = picture(200, 60)
    assert any(line.startswith("allowance-towns *") for line in lines)
    assert any("the sample's two towns" in line for line in lines)


def test_nothing_is_compared_while_old_audit_is_read() -> None:
    lines = picture(200, 60, current=False)
    assert any("reading the audit of before" in line for line in lines)
    row = next(line for line in lines if line.startswith("death-nation-health"))
    assert row.split()[1:] == ["41,352", "–", "–", "41,352", "–"]


def test_bars_measure_the_story_and_the_bus_each_by_its_own_total() -> None:
    made = bars(Console(file=io.StringIO()))
    published, decided, _ = made.progress.tasks
    made.tell(BatchPublished(INPUT, 90, {"BAD_VALUE": 10}))
    made.follow(50, 300)  # others published 210
    assert (published.completed, published.total) == (100, 1_000)
    assert (decided.completed, decided.total) == (50, 300)
    made.follow(60)
    assert (decided.completed, decided.total) == (60, 90)
    made.follow(95)  # decided before its answer came
    assert (decided.completed, decided.total) == (95, 95)
