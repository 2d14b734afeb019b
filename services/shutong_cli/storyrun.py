"""Plays the sample story against a running bus, with a live table or quietly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.live import Live
from rich.text import Text

from shutong_auditor.audit_tail import AuditTail
from shutong_cli.board import Board, Figures, matrix, scrape
from shutong_cli.stack import Stack
from shutong_cli.voice import StoryBars
from shutong_core.domain.errors import Fatal
from shutong_core.runtime.keyring import Keyring
from shutong_story.play import (
    Endpoints,
    Ledger,
    Pace,
    Plan,
    Published,
    generate,
    open_ledger,
    publish_all,
    pull_all,
    read_plan,
    reader_id,
    sample_list,
)

REFRESH_S = 0.5
LINES_SHOWN = 14
CAUGHT_UP_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class StoryFiles:
    """The story's input, its state, the API keys of its cast, under one directory."""

    plan: Plan
    ledger: Ledger
    keys: Mapping[str, str]

    @property
    def published(self) -> int:
        """Records published so far, over all runs."""
        files = sum(each.accepted + each.refused for each in self.ledger.files.values())
        return files + sum(case.records for case in self.plan.bad if case.name in self.ledger.bad)

    @property
    def fetched(self) -> int:
        """Records fetched so far, over all runs."""
        return sum(each.records for each in self.ledger.readers.values())


def prepare_story(directory: Path, stack: Stack) -> StoryFiles:
    """Make the input files and keys at the first run, find them again at the next."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        plan = read_plan(directory)
    except (OSError, ValueError, TypeError):
        plan = generate(directory, stack.node.table, sample_list())
    return StoryFiles(plan, open_ledger(directory / "ledger.json"), _keys(directory, stack, plan))


def _keys(directory: Path, stack: Stack, plan: Plan) -> dict[str, str]:
    """API keys by system; kept beside the story because its cast has no other place."""
    path = directory / "api-keys.json"
    systems = {entry.system for entry in plan.inputs}
    systems |= {entry.system for entry in plan.bad} | {entry.system for entry in plan.readers}
    try:
        keys: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        keys = {}
    keyring: Keyring = stack.node.keyring
    known = keyring.api_keys()
    missing = sorted(each for each in systems if known.lookup(keys.get(each, "")) != each)
    for system in missing:
        keys[system] = keyring.issue_api_key(system)
    if missing:
        path.touch(mode=0o600)
        path.write_text(json.dumps(keys, indent=1), encoding="utf-8")
    return keys


async def play(
    stack: Stack,
    story: StoryFiles,
    pace: Pace,
    tell: Callable[[Any], None],
    published: Callable[[Published], Any],
) -> None:
    """Publish everything while the agencies pull; `published` (awaitable) runs in between.

    When it returns, the agencies read what lies ready and stop.
    """
    endpoints = Endpoints(stack.url("producer"), stack.url("consumer"))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        pulling = tasks.create_task(
            pull_all(story.plan, endpoints, story.keys, tell, story.ledger, stop)
        )
        result = await publish_all(story.plan, endpoints, story.keys, pace, tell, story.ledger)
        await published(result)
        stop.set()
        await pulling


@contextlib.asynccontextmanager
async def audit_tail(stack: Stack) -> AsyncIterator[AuditTail]:
    """Sums over the audit, followed while the context is open."""
    node = stack.node
    tail = AuditTail(node.client, node.topics, node.table, node.keyring.verifier("control"))
    await tail.start()
    try:
        yield tail
    finally:
        await tail.stop()


async def decided(tail: AuditTail, records: int, timeout_s: float) -> None:
    """Wait until the audit speaks of that many records. Raises Fatal with both figures."""
    try:
        async with asyncio.timeout(timeout_s):
            while tail.rows < records:
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Fatal(
            f"{timeout_s:.0f} 秒内只裁决了 {tail.rows} 条，应为 {records} 条。"
            f" After {timeout_s:.0f} s only {tail.rows} of {records} records were decided:"
            f" {tail.problem or 'see the broker log'}"
        ) from None


class Screen:
    """The live table with the story's last lines under it."""

    def __init__(
        self, stack: Stack, tail: AuditTail, story: StoryFiles, console: Console, bars: StoryBars
    ) -> None:
        self._stack = stack
        self._tail = tail
        self._story = story
        self._console = console
        self._bars = bars
        self._lines: deque[str] = deque(maxlen=LINES_SHOWN)
        self._addresses = Text(stack.address_line, style="dim")

    @property
    def _lines_max(self) -> int:
        return max(2, min(LINES_SHOWN, self._console.height // 6))

    def say(self, zh: str, en: str) -> None:
        """One line of the story."""
        self._lines.append(f"{zh} · {en}")

    async def show(self) -> None:
        """Refresh until cancelled."""
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
            with Live(console=self._console, auto_refresh=False, screen=False) as live:
                board: Board | None = None
                while True:
                    self._stack.supervisor.check_all()
                    # Signed first, then fetched, then the audit: what was signed was fetched
                    # before, what was fetched was placed before.
                    signed = Counter(self._tail.acknowledged)
                    figures = await self._figures(http)
                    current = await self._tail.caught_up(CAUGHT_UP_S_MAX)
                    with contextlib.suppress(KafkaError):
                        figures.arrived.update(await self._tail.arrived())
                    figures.acknowledged = signed
                    version = self._tail.version
                    if version is not None:
                        board = board if board and board.version is version else Board(version)
                        self._bars.follow(self._tail.rows, figures.arrived.total())
                        picture = board.render(
                            self._tail.tally,
                            figures,
                            list(self._lines)[-self._lines_max :],
                            self._console,
                            (self._addresses, self._bars.progress),
                            current=current,
                        )
                        live.update(picture, refresh=True)
                    await asyncio.sleep(REFRESH_S)

    async def _figures(self, http: httpx.AsyncClient) -> Figures:
        """What the services measure, with what was fetched over all runs."""
        figures = await scrape(http, self._stack.admin_urls)
        for reader in self._story.plan.readers:
            position = self._story.ledger.reader(reader_id(reader))
            figures.fetched[reader.grant] += position.records
        return figures

    def show_matrix(self) -> None:
        """The last picture: levels against levels."""
        self._console.print(matrix(self._tail.tally))
