"""Writes a table into a file, by the ending of its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from shutong_auditor.sheet import KINDS, sheet_bytes
from shutong_core.domain.errors import Rejected


def write_sheet(path: Path, heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Write `path`, by its ending .csv (UTF-8 with BOM), .xlsx or .json. Raises Rejected."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise Rejected(
            f"{path}: 请用 .csv、.xlsx 或 .json。 Use a name that ends in .csv, .xlsx or .json."
        )
    try:
        path.write_bytes(sheet_bytes(kind, heads, lines))
    except OSError as error:
        raise Rejected(f"{path}: 无法写入 cannot be written ({error.strerror})") from None
