"""Tables of docs/formats that can go stale are compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import next_version
from shutong_core.wire.topics import Topics, topic_specs
from unit.listing_fixtures import minimal_rows

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ROOT / "docs" / "formats"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WORDS = {
    "for ever": "-1",
    "the dataset's `retention_days`, default 400": str(400 * 86_400_000),
    "the grant's `retention_days`, default 30": str(30 * 86_400_000),
    "`audit_term_days`, at least 1096": str(1096 * 86_400_000),
}


def _rows(page: str, first: str) -> list[list[str]]:
    """Cells of the table whose head begins with `first`."""
    lines = (FORMATS / page).read_text(encoding="utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_page_of_reasons_has_every_reason() -> None:
    told = _rows("reasons.md", "number")
    made = [[str(each.number), f"`{each.name}`", each.zh, each.en] for each in Reason]
    assert told == sorted(made, key=lambda row: int(row[0]))


def test_the_table_of_topics_says_what_the_bus_makes() -> None:
    version = next_version(None, list(minimal_rows().values()), [], 0)
    topics = Topics("x")
    told = {}
    for name, partitions, cleanup, kept, size, compression in _rows("wire.md", "topic"):
        topic = re.sub(r"<\w+>", "*", name.strip("`"))
        told[topic] = (partitions, cleanup, WORDS[kept], size, compression)
    made = {}
    for spec in topic_specs(version, topics, 3, 2):
        name = spec.name.removeprefix("x.")
        one = spec.partitions == 1
        if topics.dataset_of(spec.name):
            name = "inbound.*"
        elif topics.grant_of(spec.name):
            name = "delivery.*"
        made[name] = (
            "1 or lanes" if name == "delivery.*" else "1" if one else "lanes",
            spec.configs["cleanup.policy"],
            spec.configs.get("retention.ms", "-1"),
            spec.configs["max.message.bytes"],
            spec.configs.get("compression.type", ""),
        )
    assert told == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_every_decision_stands_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for page in sorted(folder.glob("0*.md")):
        number, _, title = page.read_text(encoding="utf-8").partition("\n")[0][2:].partition(" ")
        assert page.name.startswith(f"{number}-")
        assert f"| [{number}]({page.name}) | {title} |" in index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8"))
    there = [
        str(path.relative_to(ROOT))
        for folder in ("services", "tests", "deploy")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert [
        name for name in named if not any(f"/{each}".endswith(f"/{name}") for each in there)
    ] == []
