"""CSV in: rows with their lines, or a clear word about what is wrong."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.schemaview import FieldType
from shutong_core.wire.csvrows import LINE_BYTES_MAX, CsvProblem, CsvRejected, CsvRow, csv_rows

FIELDS = {
    each.name: each
    for each in (
        FieldType("name", "string"),
        FieldType("note", "string", nullable=True),
        FieldType("count", "int"),
        FieldType("total", "long", nullable=True),
        FieldType("rate", "double"),
        FieldType("active", "boolean"),
        FieldType("day", "int", "date"),
        FieldType("amount", "bytes", "decimal"),
    )
}


def _lines(data: bytes) -> list[bytes]:
    """Lines as a binary file gives them: only LF ends a line."""
    return io.BytesIO(data).readlines()


def read(text: str | bytes) -> list[CsvRow]:
    data = text.encode() if isinstance(text, str) else text
    return list(csv_rows(_lines(data), FIELDS))


def test_rows_are_objects_with_the_line_they_start_at() -> None:
    assert read("name,note\n甲,x\n乙,y\n") == [
        CsvRow(2, {"name": "甲", "note": "x"}),
        CsvRow(3, {"name": "乙", "note": "y"}),
    ]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_byte_order_mark_and_either_line_end_are_fine(start: bytes, end: bytes) -> None:
    data = start + end.join([b'"name",note', b"a,b", b""])
    assert read(data) == [CsvRow(2, {"name": "a", "note": "b"})]


def test_a_byte_order_mark_elsewhere_is_text() -> None:
    assert read(b"name\n\xef\xbb\xbfa\n") == [CsvRow(2, {"name": "\ufeffa"})]


def test_quoted_cells_may_hold_commas_quotes_and_line_breaks() -> None:
    assert read('name,note\n"a,b","c ""d""\ne"\nf,g\n') == [
        CsvRow(2, {"name": "a,b", "note": 'c "d"\ne'}),
        CsvRow(4, {"name": "f", "note": "g"}),
    ]


def test_cells_of_numbers_and_truth_values_become_json_numbers_and_truth_values() -> None:
    (row,) = read("count,total,rate,active\n-7,9223372036854775807,2.5e3,true\n")
    assert row.values == {"count": -7, "total": 2**63 - 1, "rate": 2500.0, "active": True}
    assert type(row.values["count"]) is int


def test_what_is_no_number_stays_text_for_the_json_mapping_to_refuse() -> None:
    (row,) = read("count,rate,active\n1.0,1e999,TRUE\n")
    assert row.values == {"count": "1.0", "rate": "1e999", "active": "TRUE"}


def test_dates_and_decimals_stay_text() -> None:
    (row,) = read("day,amount\n2026-09-21,12.50\n")
    assert row.values == {"day": "2026-09-21", "amount": "12.50"}


def test_an_empty_cell_is_absent_unless_it_can_only_be_the_empty_string() -> None:
    (row,) = read("name,note,count\n,,\n")
    assert row.values == {"name": ""}


def test_blank_lines_are_skipped_and_counted() -> None:
    assert read("\nname\n\na\n") == [CsvRow(4, {"name": "a"})]


def test_a_row_with_other_cells_than_the_header_is_told_and_the_next_is_read() -> None:
    assert read("name,note\na\nb,c\nd,e,f\n") == [
        CsvRow(2, problem=CsvProblem("有 1 列，表头有 2 列", "1 cells, the header has 2")),
        CsvRow(3, {"name": "b", "note": "c"}),
        CsvRow(4, problem=CsvProblem("有 3 列，表头有 2 列", "3 cells, the header has 2")),
    ]


def test_a_file_in_another_encoding_is_told_once() -> None:
    with pytest.raises(CsvRejected, match=r"第 2 行：文件不是 UTF-8 编码.*CSV UTF-8") as caught:
        read(b"name\n\xbc\xd7\n\xd2\xd2\n")
    assert caught.value.line == 2


def test_a_column_of_ids_is_named_with_the_remedy_and_is_taken_with_it() -> None:
    with pytest.raises(CsvRejected, match="--id-column id"):
        read("id,name\n7,a\n")
    rows = csv_rows([b"id,name\n", b"7,a\n"], FIELDS, "id")
    assert list(rows) == [CsvRow(2, {"id": "7", "name": "a"})]
    with pytest.raises(CsvRejected, match="no id column id"):
        list(csv_rows([b"name\n", b"a\n"], FIELDS, "id"))


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"", 1, "no header row"),
        (b"\n\n", 2, "no header row"),
        (b"\xd0\xd5\xc3\xfb\n", 1, "not UTF-8"),
        (b"name,other\n", 1, "column 2 of the header is no item"),
        (b"name,name\n", 1, "item name stands in the header twice"),
        (b"name" + b",x" * 512 + b"\n", 1, "more than 512 columns"),
        (b'name\na\n"b\nc\n', 3, "quote is not closed"),
        (b'name\n"a"b\n', 2, "quote is not closed or followed"),
        (b"name\na\rb\n", 2, "lone CR"),
        (b"name\n" + b"x" * 131_073 + b"\n", 2, "cell is longer than 131072"),
        (b"name\n" + b"x" * (LINE_BYTES_MAX + 1), 2, "row is longer than 900 KiB"),
    ],
)
def test_a_file_that_cannot_be_read_on_is_rejected_with_its_line(
    data: bytes, line: int, words: str
) -> None:
    with pytest.raises(CsvRejected, match=words) as caught:
        list(csv_rows(_lines(data), FIELDS))
    assert caught.value.line == line


def test_an_open_quote_does_not_swallow_a_file_without_bound() -> None:
    def endless() -> Iterator[bytes]:
        yield b"name\n"
        yield b'"a\n'
        while True:
            yield b"b\n"

    with pytest.raises(CsvRejected, match="quote is not closed"):
        list(csv_rows(endless(), FIELDS))


def test_a_cell_of_a_mistaken_header_is_not_shown() -> None:
    with pytest.raises(CsvRejected) as caught:
        read("44142419900101001X\n")
    assert "44142419900101001X" not in str(caught.value)


def test_rows_before_the_fault_are_given() -> None:
    rows = csv_rows([b"name\n", b"a\n", b'"b'], FIELDS)
    assert next(rows) == CsvRow(2, {"name": "a"})
    with pytest.raises(CsvRejected):
        next(rows)


PIECES = st.sampled_from([b"name", b"count", b",", b'"', b"\r", b"\n", b"\x00", b"\xff", b"7"])


@given(st.lists(PIECES | st.binary(max_size=3), max_size=30).map(b"".join))
def test_any_bytes_give_rows_or_rejected(data: bytes) -> None:
    for start in (b"", b"name,count\n"):
        try:
            rows = list(csv_rows(_lines(start + data), FIELDS))
        except CsvRejected:
            continue
        assert all(row.problem is None or not row.values for row in rows)
