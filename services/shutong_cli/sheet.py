"""Writes a table as CSV or XLSX for people who live in a spreadsheet.

A cell never becomes a formula, whatever stands in it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openpyxl import Workbook

from shutong_core.domain.errors import Rejected

#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_sheet(path: Path, heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Write `path`, by its ending .csv (UTF-8 with BOM) or .xlsx. Raises Rejected."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".xlsx"):
        raise Rejected(f"{path}: 请用 .csv 或 .xlsx。 Use a name that ends in .csv or .xlsx.")
    try:
        if kind == ".csv":
            with path.open("w", encoding="utf-8-sig", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(map(plain, heads))
                writer.writerows([plain(cell) for cell in line] for line in lines)
            return
        book = Workbook(write_only=True)
        sheet = book.create_sheet("shutong")
        sheet.append([plain(each) for each in heads])
        for line in lines:
            sheet.append([plain(cell) for cell in line])
        book.save(path)
    except OSError as error:
        raise Rejected(f"{path}: 无法写入 cannot be written ({error.strerror})") from None


def plain(cell: Any) -> Any:
    """The cell, a text that would be taken for a formula with an apostrophe before it."""
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return f"'{cell}"
    return cell
