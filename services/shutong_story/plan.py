"""What there is to play: input files, bad records, readers; kept beside the files as plan.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PLAN_FILE = "plan.json"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One NDJSON file: what one system publishes to one dataset, in order.

    `step` is the story's step; `path` is relative to the plan's directory.
    """

    step: int
    dataset: str
    system: str
    path: str
    records: int


@dataclass(frozen=True, slots=True)
class BadFile:
    """One case of bad records with what must come of it; see `faults.BadCase`.

    An NDJSON file holds `records` lines; an Avro file holds one framed record.
    """

    name: str
    dataset: str
    system: str
    path: str
    records: int
    content_type: str
    door: str
    reason: str
    number: int
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Reader:
    """A system that pulls a grant; `territory` is set where the grant is for a class."""

    step: int
    grant: str
    dataset: str
    system: str
    name: str
    territory: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole story; `resident` names the one person whom the narration follows."""

    directory: Path
    seed: int
    resident: dict[str, str]
    inputs: tuple[InputFile, ...]
    bad: tuple[BadFile, ...]
    readers: tuple[Reader, ...]

    def write(self) -> None:
        """Write plan.json into the plan's directory."""
        body = asdict(self)
        del body["directory"]
        text = json.dumps(body, ensure_ascii=False, indent=1) + "\n"
        (self.directory / PLAN_FILE).write_text(text, encoding="utf-8")


def read_plan(directory: Path) -> Plan:
    """The plan in `directory`. Raises OSError, ValueError or TypeError if there is none."""
    body: dict[str, Any] = json.loads((directory / PLAN_FILE).read_text(encoding="utf-8"))
    return Plan(
        directory=directory,
        seed=body["seed"],
        resident=body["resident"],
        inputs=tuple(InputFile(**entry) for entry in body["inputs"]),
        bad=tuple(BadFile(**entry) for entry in body["bad"]),
        readers=tuple(Reader(**entry) for entry in body["readers"]),
    )
