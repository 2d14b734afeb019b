"""What linting a schema yields: the rules it breaks, or its shape and metadata; and the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shutong_core.domain.catalogue import Item
from shutong_core.wire.metadata import DeliveredItem
from shutong_core.wire.shapes import Record

TEXT_BYTES_MAX: Final = 64 * 1024
#: Avro libraries recurse in C on nested types; far below any stack, far above any real schema.
DEPTH_MAX: Final = 16
#: Fields of all records, counted again at each use of a named type.
FIELDS_MAX: Final = 512
SYMBOLS_MAX: Final = 2000
FIXED_BYTES_MAX: Final = 64 * 1024
FULL_NAME_MAX: Final = 255
FINDINGS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that the schema breaks: where (`address.lines[]`, "" = the record), what to do."""

    path: str
    zh: str
    en: str


@dataclass(slots=True)
class Reading:
    """What linting found; `record` is usable only if there are no `findings`."""

    findings: list[Finding] = field(default_factory=list)
    parsed: Mapping[str, Any] = field(default_factory=dict)
    record: Record | None = None
    items: dict[str, Item] = field(default_factory=dict)
    delivered: dict[str, DeliveredItem] = field(default_factory=dict)

    def found(self, path: str, zh: str, en: str) -> None:
        """Note one finding."""
        self.findings.append(Finding(path, zh, en))
