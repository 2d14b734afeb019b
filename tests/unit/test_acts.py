"""The acts of administration: one closed list, the same in code and on the page."""

from __future__ import annotations

import re
from pathlib import Path

from shutong_core.audit.acts import ActName, local_actor

PAGE = Path(__file__).resolve().parents[2] / "docs/formats/audit.md"


def test_the_page_lists_exactly_the_acts_of_the_code() -> None:
    rows = re.findall(
        r"^\| `([a-z]+\.[a-z]+)` \| (\S+) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert rows == [(each.stored, each.zh, each.en) for each in ActName]


def test_who_acts_from_a_command_line_is_named_within_bounds() -> None:
    assert local_actor("ops", "node-1") == "cli/ops@node-1"
    assert local_actor("a b\n/c", "h") == "cli/a_b__c@h"
    assert len(local_actor("x" * 1000, "h")) == 200
