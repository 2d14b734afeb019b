"""Makes a table a file for people who live in a spreadsheet, or for programs: CSV, XLSX, JSON.

A cell never becomes a formula, whatever stands in it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from openpyxl import Workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from shutong_core.domain.errors import Rejected

#: Kind → media type.
KINDS = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
}
#: Lines of one file.
LINES_MAX = 50_000
#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def sheet_bytes(kind: str, heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> bytes:
    """The table as `csv` (UTF-8 with BOM), `xlsx` or `json`.

    Raises Rejected for another kind, or for more lines than a file holds.
    """
    if kind not in KINDS:
        raise Rejected(f"请用 {'、'.join(KINDS)}。 There are {', '.join(KINDS)}.")
    held: list[list[Any]] = []
    for line in lines:
        if len(held) == LINES_MAX:
            raise Rejected(
                f"超过 {LINES_MAX} 行，请缩小范围。 More than {LINES_MAX} lines: ask for less."
            )
        held.append(list(line))
    if kind == "json":
        table = {"columns": list(heads), "lines": held}
        return json.dumps(table, ensure_ascii=False, indent=1).encode() + b"\n"
    plain = [[_plain(cell) for cell in line] for line in ([*heads], *held)]
    return _csv(plain) if kind == "csv" else _xlsx(plain)


def _csv(lines: list[list[Any]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(lines)
    return stream.getvalue().encode("utf-8-sig")


def _xlsx(lines: list[list[Any]]) -> bytes:
    book = Workbook(write_only=True)
    sheet = book.create_sheet("shutong")
    for line in lines:
        # Control characters cannot stand in XML.
        clean = (ILLEGAL_CHARACTERS_RE.sub("", x) if isinstance(x, str) else x for x in line)
        sheet.append(list(clean))
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def _plain(cell: Any) -> Any:
    """The cell, a text that would be taken for a formula with an apostrophe before it."""
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA):
        return f"'{cell}"
    return cell
