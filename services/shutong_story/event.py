"""One record as a publishing system sends it: event id, operation, data in JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """A line of an input file.

    `operation` is None where the dataset's own operation item in `data` carries it. Values of
    `data` are in the bus's JSON form: decimals as strings, dates, RFC 3339 times with offset.
    """

    id: str
    data: dict[str, Any]
    operation: str | None = None

    def line(self) -> bytes:
        """The event as one NDJSON line with its line feed, the same bytes every time."""
        body: dict[str, Any] = {"id": self.id}
        if self.operation is not None:
            body["operation"] = self.operation
        body["data"] = self.data
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def changed(self, **items: Any) -> Event:
        """The same event id with other values."""
        return replace(self, data={**self.data, **items})


def yuan(cents: int) -> str:
    """Money as the bus writes decimals of scale 2, e.g. `1234.50`."""
    return f"{cents // 100}.{cents % 100:02d}"
