"""How a long-running command talks to a person: lines, spinners for waits, bars for the story."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shutong_story.play import Plan
from shutong_story.progress import BadSent, BatchPublished, PagePulled
from shutong_story.progress import Progress as StoryEvent


class Voice:
    """Lines in Chinese and English with the time since the start."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, zh: str, en: str) -> None:
        """One line."""
        self.console.print(
            f"[dim]{self.elapsed_s:6.1f}s[/dim] {zh} · [dim]{en}[/dim]", highlight=False
        )

    @contextlib.contextmanager
    def busy(self, zh: str, en: str) -> Iterator[None]:
        """A step that takes a while: a spinner while it lasts, a line once it is done."""
        began = time.monotonic()
        with self.console.status(f"{zh} · [dim]{en}[/dim]"):
            yield
        self.say(f"{zh}：完成", f"{en}: done in {time.monotonic() - began:.1f} s")


class StoryBars:
    """Bars of the story: published by departments, decided by the bus, pulled by agencies."""

    def __init__(self, plan: Plan, console: Console, due: int | None = None) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        total = sum(entry.records for entry in plan.inputs) + sum(c.records for c in plan.bad)
        self._published = self.progress.add_task("发布 published", total=total)
        self._decided = self.progress.add_task("裁决 decided", total=None)
        self._pulled = self.progress.add_task("取用 fetched", total=due)
        self._accepted = 0

    def start_at(self, published: int, fetched: int) -> None:
        """What earlier runs have published and fetched already."""
        self.progress.update(self._published, completed=published)
        self.progress.update(self._pulled, completed=fetched)

    def tell(self, event: StoryEvent) -> None:
        """Move the bars by what a player reports."""
        match event:
            case BatchPublished(accepted=accepted, refused=refused):
                self._accepted += accepted
                self.progress.advance(self._published, accepted + sum(refused.values()))
            case BadSent(case=case, accepted=accepted):
                self._accepted += accepted
                self.progress.advance(self._published, case.records)
            case PagePulled(records=records):
                self.progress.advance(self._pulled, records)
            case _:
                pass

    def follow(self, decided: int, arrived: int | None = None) -> None:
        """Move the bar of decisions: `decided` of the records that `arrived` in inbound.

        Others than the story may publish too. None: as many arrived as the story was told.
        """
        total = max(decided, self._accepted if arrived is None else arrived)
        self.progress.update(self._decided, completed=decided, total=total or None)
