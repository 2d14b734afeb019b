"""Compares what was played with the committed expectation: every difference, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shutong_core.runtime.resources import locate
from shutong_story.ledger import Ledger
from shutong_story.plan import Plan
from shutong_story.publish import Published
from shutong_story.pull import reader_id

EXPECTED_FILE = "deploy/samples/story/expected.json"


def sample_expectation() -> dict[str, Any]:
    """The committed counts, worked out by a script that shares nothing with the product."""
    expected: dict[str, Any] = json.loads(locate(EXPECTED_FILE).read_text(encoding="utf-8"))
    return expected


def due(expected: Mapping[str, Any], plan: Plan) -> dict[str, int]:
    """Records each reader must get, by `reader_id`; of a class grant the reader's own territory."""
    return {
        reader_id(reader): (
            expected["grants"][reader.grant]["placed"]
            if reader.territory is None
            else expected["territories"][reader.grant][reader.territory]
        )
        for reader in plan.readers
    }


def published_differences(expected: Mapping[str, Any], published: Published) -> list[str]:
    """Where intake over HTTP differs, one line each; [] if it is exact."""
    found = []
    for dataset, counts in expected["datasets"].items():
        want, got = counts["reached_inbound"], published.accepted[dataset]
        if want != got:
            found.append(f"{dataset}: 入口应收 expected in {want}, 实收 got {got}")
        refused = {name: n for (of, name), n in published.refused.items() if of == dataset}
        if refused != counts["refused"]["http"]:
            found.append(
                f"{dataset}: 入口应拒 expected refusals {counts['refused']['http']}, "
                f"实拒 got {refused}"
            )
    return found


def pulled_differences(expected: Mapping[str, Any], plan: Plan, ledger: Ledger) -> list[str]:
    """Where what the agencies pulled differs, one line each; [] if it is exact."""
    return [
        f"{name}: 应取 due {count}, 实取 pulled {ledger.reader(name).records}"
        for name, count in due(expected, plan).items()
        if ledger.reader(name).records != count
    ]
