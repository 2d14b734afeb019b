"""The players of the story, over public interfaces only; what `make run` and `make demo` call."""

from __future__ import annotations

from shutong_story.calls import Endpoints
from shutong_story.expected import (
    due,
    published_differences,
    pulled_differences,
    sample_expectation,
)
from shutong_story.generate import generate, sample_list, sample_table
from shutong_story.ledger import Ledger, open_ledger
from shutong_story.narrate import Narrator
from shutong_story.plan import Plan, read_plan
from shutong_story.publish import FULL_SPEED, SLOW, Pace, Published, publish_all
from shutong_story.pull import pull_all, reader_id

__all__ = [
    "FULL_SPEED",
    "SLOW",
    "Endpoints",
    "Ledger",
    "Narrator",
    "Pace",
    "Plan",
    "Published",
    "due",
    "generate",
    "open_ledger",
    "publish_all",
    "published_differences",
    "pull_all",
    "pulled_differences",
    "read_plan",
    "reader_id",
    "sample_expectation",
    "sample_list",
    "sample_table",
]
