"""The minimal list as the text of a list file."""

from __future__ import annotations

import json
from typing import Any

from shutong_core.domain.listschema import ALLOTTED, SECTIONS
from unit import listing_fixtures as made

SCHEMA_FILE = "schemas/minimum-living.avsc"


def entries() -> dict[str, Any]:
    """Sections of the minimal list, as JSON values."""
    rows = made.minimal_rows().values()
    found: dict[str, Any] = {}
    for section, model in SECTIONS.items():
        bodies = [row.body() for row in rows if type(row) is model]
        for body in bodies:
            del body["kind"]
            body.pop(ALLOTTED.get(model, ""), None)
            if section == "datasets":
                body["schema_files"] = [SCHEMA_FILE]
        if section == "bus":
            found[section] = bodies[0]
        elif bodies:
            found[section] = bodies
    return found


def text_of(sections: Any) -> str:
    """The list file of `sections`: JSON is YAML; one entry a line, closed by `...`."""
    lines = []
    for section, value in sections.items():
        lines.append(f"{section}:")
        if isinstance(value, list):
            lines += [f"- {json.dumps(entry, ensure_ascii=False)}" for entry in value]
        else:
            lines.append(f"  {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, "...", ""])
