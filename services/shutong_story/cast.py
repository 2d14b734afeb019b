"""Who reads what: found in the story's list, so that list and players cannot disagree."""

from __future__ import annotations

from typing import Any

import yaml

from shutong_story.places import SHUIZHAI, XIAOLAN
from shutong_story.plan import Reader

#: Steps of the story by dataset; class grants are the return flow of step 5.
STEPS = {
    "divisions-2023": 1,
    "subsistence-allowance": 2,
    "remote-medical-settlement": 3,
    "death-certificate": 4,
}
RETURN_STEP = 5
TOWNS = (SHUIZHAI, XIAOLAN)


def readers(list_text: str) -> tuple[Reader, ...]:
    """One reader per grant, one per town and class grant, in the list's order.

    `list_text` is the story's own list file; the two towns of the story stand for their class.
    """
    rows: dict[str, list[dict[str, Any]]] = yaml.safe_load(list_text)
    system_of = {row["organisation"]: row["id"] for row in rows["systems"]}
    named = {row["id"]: row for row in rows["organisations"]}
    town_of = {row["region"]: row["id"] for row in rows["organisations"] if row["region"] in TOWNS}
    found = []
    for grant in rows["grants"]:
        dataset = grant["dataset"]
        takers: list[tuple[int, str, str | None]]
        if "requester" in grant:
            takers = [(STEPS[dataset], grant["requester"], None)]
        else:
            takers = [(RETURN_STEP, town_of[town], town) for town in TOWNS]
        for step, uscc, territory in takers:
            found.append(
                Reader(
                    step=step,
                    grant=grant["id"],
                    dataset=dataset,
                    system=system_of[uscc],
                    name=named[uscc]["name"],
                    territory=territory,
                )
            )
    return tuple(found)
