"""What the players report while they play; the live table and the narration are made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shutong_story.plan import BadFile, InputFile, Reader


@dataclass(frozen=True, slots=True)
class StepBegins:
    """The first file of a step is about to be published."""

    step: int


@dataclass(frozen=True, slots=True)
class ResidentSent:
    """The story's resident is in the batch that is being sent; `at` is monotonic seconds."""

    input: InputFile
    at: float


@dataclass(frozen=True, slots=True)
class BatchPublished:
    """A batch was answered; refusals are counted by reason name."""

    input: InputFile
    accepted: int
    refused: dict[str, int]


@dataclass(frozen=True, slots=True)
class BadSent:
    """A bad case was sent whole: taken over HTTP, refused there by reason name."""

    case: BadFile
    accepted: int
    refused: dict[str, int]

    @property
    def as_expected(self) -> bool:
        """Whether the door did what the plan says; of the lane's own refusals it tells nothing."""
        if self.case.door == "lane":
            return self.accepted == self.case.records and not self.refused
        return self.refused == {self.case.reason: self.case.records} and not self.accepted


@dataclass(frozen=True, slots=True)
class PagePulled:
    """A reader got records; `total` counts from its very start."""

    reader: Reader
    records: int
    total: int


@dataclass(frozen=True, slots=True)
class ResidentArrived:
    """A record about the story's resident was pulled; `at` is monotonic seconds."""

    reader: Reader
    operation: str
    items: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class ReaderRefused:
    """The consumer service lets nothing out to this reader, for a reason (suspended, expired)."""

    reader: Reader
    status: int
    reason: str


Progress = (
    StepBegins
    | ResidentSent
    | BatchPublished
    | BadSent
    | PagePulled
    | ResidentArrived
    | ReaderRefused
)
OnProgress = Callable[[Progress], None]
