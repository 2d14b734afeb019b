"""CSV in: the lines of a file as JSON objects with line numbers, or what is wrong with a line.

UTF-8 with or without byte order mark, RFC 4180 quoting, first row = item names. A row that is
wrong by itself does not stop the rows after it. Wrong quoting does: from there on a line could as
well be the middle of a cell, and must not be taken for a record. CSV knows only text, so the
dataset's fields say which cells are numbers or truth values; whether a value then fits its item
is for the JSON mapping to say.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from shutong_core.domain.errors import Rejected
from shutong_core.domain.schemaview import FieldType

#: Longest line and, with quoted line breaks, longest row; as for a record over HTTP (900 KiB).
LINE_BYTES_MAX = 900 * 1024
COLUMNS_MAX = 512

_BOM = b"\xef\xbb\xbf"
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_BROKEN = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
_TRUTH = {"true": True, "false": False}

JsonValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class CsvProblem:
    """Why a row cannot be read; names columns and counts, never shows a cell."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row: `line` is the number (from 1) of the file's line where it starts.

    `values` are JSON values by item name, empty if `problem` is set.
    """

    line: int
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    problem: CsvProblem | None = None


class CsvRejected(Rejected):
    """The file cannot be read on; `line` is where that shows."""

    def __init__(self, line: int, zh: str, en: str) -> None:
        super().__init__(f"第 {line} 行：{zh}。 Line {line}: {en}.")
        self.line = line
        self.zh = zh
        self.en = en


def csv_rows(
    lines: Iterable[bytes], fields: Mapping[str, FieldType], id_column: str | None = None
) -> Iterator[CsvRow]:
    """The rows of a CSV whose first row names items of `fields`, and `id_column` if there is one.

    `id_column` holds ids; where it is no item, its cells are text.

    `lines` are the file's lines with their ends; a caller that must bound memory cuts them at
    `LINE_BYTES_MAX` + 1 bytes (`readline(LINE_BYTES_MAX + 1)`), which is refused here. An empty
    cell is absent; for a string item that may not be null it is the empty string. Blank lines
    are skipped. Raises CsvRejected if there is no usable header row, a line or cell is too long,
    the text is not UTF-8, or quoting is wrong.
    """
    if id_column is not None and id_column not in fields:
        fields = {**fields, id_column: FieldType(id_column, "string", nullable=True)}
    source = _Lines(lines)
    rows = csv.reader(source, strict=True)
    header: list[str] | None = None
    while True:
        source.row_starts()
        try:
            cells = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            raise _unreadable(source.start, str(error)) from None
        if source.bad_text:
            # Not one bad row but a file in another encoding, as Excel's plain CSV is.
            raise CsvRejected(
                source.start,
                "文件不是 UTF-8 编码，请在 Excel 或 WPS 中另存为“CSV UTF-8”",
                'the file is not UTF-8: save it as "CSV UTF-8"',
            )
        if header is None:
            header = _header(cells, fields, source.start, id_column) if cells else None
        elif cells:
            yield _row(source.start, header, cells, fields)
    if header is None:
        raise CsvRejected(max(source.line, 1), "文件没有表头行", "the file has no header row")


class _Lines:
    """Lines as text for csv.reader, counted and bounded; remembers what was not UTF-8."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self.line = 0
        self.start = 1
        self.bad_text = False
        self._row_bytes = 0

    def row_starts(self) -> None:
        """The next line read is the first of a row."""
        self.start = self.line + 1
        self.bad_text = False
        self._row_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        self.line += 1
        self._row_bytes += len(raw)
        if self._row_bytes > LINE_BYTES_MAX:
            size = f"{LINE_BYTES_MAX // 1024} KiB"
            raise CsvRejected(
                self.start,
                f"一行超过 {size}，或引号没有闭合",
                f"a row is longer than {size}, or a quote is not closed",
            )
        if self.line == 1:
            raw = raw.removeprefix(_BOM)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.bad_text = True
            return raw.decode("utf-8", "replace")


def _unreadable(line: int, cause: str) -> CsvRejected:
    if "field limit" in cause:
        limit = csv.field_size_limit()
        return CsvRejected(
            line,
            f"单元格超过 {limit} 个字符，或引号没有闭合",
            f"a cell is longer than {limit} characters, or a quote is not closed",
        )
    return CsvRejected(
        line,
        "引号没有闭合、引号后有多余字符，或换行符有误",
        "a quote is not closed or followed by other text, or a line ends in a lone CR",
    )


def _header(
    cells: list[str], fields: Mapping[str, FieldType], line: int, id_column: str | None
) -> list[str]:
    if len(cells) > COLUMNS_MAX:
        raise CsvRejected(
            line, f"列数超过 {COLUMNS_MAX}", f"there are more than {COLUMNS_MAX} columns"
        )
    names = [cell.strip() for cell in cells]
    for number, name in enumerate(names, start=1):
        if name not in fields:
            raise _no_item(line, number, names, fields)
        if names.index(name) != number - 1:
            raise CsvRejected(
                line, f"信息项 {name} 出现两次", f"item {name} stands in the header twice"
            )
    if id_column is not None and id_column not in names:
        raise CsvRejected(
            line, f"表头没有编号列 {id_column}", f"the header has no id column {id_column}"
        )
    return names


def _no_item(
    line: int, number: int, names: list[str], fields: Mapping[str, FieldType]
) -> CsvRejected:
    """The header's column `number` (from 1) is no item of the dataset."""
    name = names[number - 1]
    zh, en = f"表头第 {number} 列", f"column {number} of the header is no item of the dataset"
    # Where no cell is an item, the first row may be data by mistake, which is not shown.
    if name.lower() != "id" and not any(each in fields for each in names):
        return CsvRejected(
            line,
            f"{zh}不是该数据资源的信息项；首行应为信息项名称：{'、'.join(fields)}",
            f"{en}; the first row must name items: {', '.join(fields)}",
        )
    shown = re.sub(r"[^\w.-]", "?", name[:64])
    return CsvRejected(
        line,
        f"{zh} {shown} 不是该数据资源的信息项；如为记录编号请加 --id-column {shown or 'NAME'}，"
        f"否则请删除该列。信息项：{'、'.join(fields)}",
        f"{en}: {shown}; if it holds the records' ids add --id-column {shown or 'NAME'}, else"
        f" remove it. Items: {', '.join(fields)}",
    )


def _row(line: int, header: list[str], cells: list[str], fields: Mapping[str, FieldType]) -> CsvRow:
    if len(cells) != len(header):
        return CsvRow(
            line,
            problem=CsvProblem(
                f"有 {len(cells)} 列，表头有 {len(header)} 列",
                f"{len(cells)} cells, the header has {len(header)}",
            ),
        )
    values: dict[str, JsonValue] = {}
    for name, cell in zip(header, cells, strict=True):
        value = _value(cell, fields[name])
        if value is not None:
            values[name] = value
    return CsvRow(line, values)


def _value(cell: str, kind: FieldType) -> JsonValue | None:
    """The cell as the JSON value its field takes; text that is no number stays text."""
    if cell == "":
        return "" if kind.avro == "string" and not kind.nullable else None
    if kind.avro in {"int", "long"} and kind.logical is None and _WHOLE.fullmatch(cell):
        return int(cell)
    if kind.avro in {"float", "double"} and _BROKEN.fullmatch(cell):
        number = float(cell)
        return number if math.isfinite(number) else cell
    if kind.avro == "boolean":
        return _TRUTH.get(cell, cell)
    return cell
