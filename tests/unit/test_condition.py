"""Conditions: what they mean, what they refuse, and that they agree with SQL's WHERE."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shutong_broker.policy.condition import check_condition, compile_condition
from shutong_broker.policy.truth import evaluate
from shutong_core.domain.errors import Rejected
from shutong_core.domain.schemaview import FieldType, PlainSchemaView

FIELDS = (
    FieldType("a", "int", nullable=True),
    FieldType("b", "int", nullable=True),
    FieldType("big", "long"),
    FieldType("s", "string", nullable=True),
    FieldType("t", "string", nullable=True),
    FieldType("p", "boolean", nullable=True),
    FieldType("q", "boolean", nullable=True),
    FieldType("d", "int", "date", nullable=True),
    FieldType("x", "double", nullable=True),
    FieldType("f", "float", nullable=True),
    FieldType("m", "bytes", "decimal", nullable=True),
    FieldType("e", "enum", symbols=("URBAN", "RURAL")),
    FieldType("at", "long", "timestamp-millis"),
    FieldType("u", "string", "uuid"),
    FieldType("raw", "bytes", nullable=True),
    FieldType("list", "array"),
    FieldType("local", "long", "local-timestamp-millis"),
)
VIEW = PlainSchemaView({}, {field.name: field for field in FIELDS})
TRUTHS: tuple[bool | None, ...] = (True, False, None)


def truth(text: str, **datum: Any) -> bool | None:
    return evaluate(compile_condition(text, VIEW).root, datum)


@pytest.mark.parametrize("p", TRUTHS)
@pytest.mark.parametrize("q", TRUTHS)
def test_and_or_not_follow_kleenes_tables(p: bool | None, q: bool | None) -> None:
    # False < unknown < true: conjunction is the least, disjunction the greatest.
    order = {False: 0, None: 1, True: 2}
    back = {rank: value for value, rank in order.items()}
    assert truth("p && q", p=p, q=q) is back[min(order[p], order[q])]
    assert truth("p || q", p=p, q=q) is back[max(order[p], order[q])]
    assert truth("!p", p=p) is back[2 - order[p]]


@pytest.mark.parametrize("op", ["==", "!=", "<", "<=", ">", ">="])
def test_every_comparison_with_null_is_unknown_and_does_not_pass(op: str) -> None:
    for left, right in ((None, 1), (1, None), (None, None)):
        assert truth(f"a {op} b", a=left, b=right) is None
    assert truth(f"a {op} 1", a=None) is None
    assert not compile_condition(f"a {op} 1", VIEW).passes({"a": None})
    assert not compile_condition(f"!(a {op} 1)", VIEW).passes({"a": None})
    assert truth("a in [1, 2]", a=None) is None


def test_null_differs_from_nothing_so_a_denial_by_difference_holds() -> None:
    condition = compile_condition('s != "secret"', VIEW)
    assert condition.passes({"s": "open"})
    assert not condition.passes({"s": "secret"})
    assert not condition.passes({"s": None})


def test_has_tells_null_from_any_value() -> None:
    for value in (0, -1):
        assert truth("has(a)", a=value) is True
    assert truth("has(s)", s="") is True
    assert truth("has(a)", a=None) is False
    assert truth("has(raw)", raw=b"") is True


def test_an_item_that_is_missing_from_the_datum_is_an_error_even_if_it_would_not_matter() -> None:
    with pytest.raises(KeyError):
        compile_condition("p || a == 1", VIEW).passes({"p": True})


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("a == -1", -1, True),
        ("-1 == a", -1, True),
        ("5 > a", 4, True),
        ("5 >= a", 6, False),
        ("a == 0x1F", 31, True),
        ("a in [1, 2, 3]", 3, True),
        ("a in [1, 2, 3]", 4, False),
        ("big == 9223372036854775807", 2**63 - 1, True),
        ("p == true", False, False),
        ("p", True, True),
        ("(p)", False, False),
        ("e == 'RURAL'", "RURAL", True),
        ('e in ["URBAN"]', "RURAL", False),
        ('s == "a\\"b\\u4e2d\\U0001F600\\\\"', 'a"b中😀\\', True),
        ("s == 'it\\'s'", "it's", True),
        ('s < "中"', "z", True),
        ('s < "\U0001f600"', "｡", True),
        ("m == 1.50", Decimal("1.5"), True),
        ("m > 1", Decimal("1.01"), True),
        ("m == 0.1", Decimal("0.10"), True),
        ("x == 0.1", 0.1, True),
        ("x < 1", 0.5, True),
        ("f == 0.1", struct.unpack("<f", struct.pack("<f", 0.1))[0], True),
        ('d >= "2020-02-29"', date(2020, 2, 29), True),
        ('d < "2020-02-29"', date(2020, 2, 29), False),
        ('at == "2020-01-01T08:00:00+08:00"', datetime(2020, 1, 1, tzinfo=UTC), True),
        ('at < "2020-01-01T00:00:00.001Z"', datetime(2020, 1, 1, tzinfo=UTC), True),
        (
            'u == "00000000-0000-4000-8000-000000000001"',
            UUID("00000000-0000-4000-8000-000000000001"),
            True,
        ),
        ("a == 1 // the rest is a comment", 1, True),
    ],
)
def test_literals_are_read_as_the_item_is(text: str, value: Any, expected: bool) -> None:
    names = [field.name for field in FIELDS]
    datum = dict.fromkeys(names, value)
    assert compile_condition(text, VIEW).passes(datum) is expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "syntax error"),
        ("a ==", "column 3"),
        ("nope == 1", "no item `nope`"),
        ("has(nope)", "no item `nope`"),
        ("a", "boolean item"),
        ("true", "boolean item"),
        ("null", "boolean item"),
        ("a == null", "use has(item)"),
        ("a == 'x'", "an integer"),
        ("a == 1.0", "an integer"),
        ("a == 1u", "an integer"),
        ("a == 2147483648", "out of the item's range"),
        ("big == 9223372036854775808", "out of the item's range"),
        ("s == 1", "a quoted text"),
        ("s == r'x'", "a quoted text"),
        ("s == b'x'", "a quoted text"),
        ("s == '''x'''", "a quoted text"),
        ("s == '\\x41'", "escape"),
        ("s == '\\ud800'", "escape"),
        ('s == "x\\"', "escape"),
        ("s == t && s == a", "different types"),
        ("'x' == 'x'", "must be an item"),
        ("[a] == [1]", "comparison takes"),
        ("a in []", "comparison takes"),
        ("a in [b]", "comparison takes"),
        ("a in 1", "write `item in"),
        ("1 in [1]", "write `item in"),
        ("a in [1, 's']", "an integer"),
        ("s == ['x']", "must be an item"),
        ("e == 'OTHER'", "not a symbol"),
        ("e < 'RURAL'", "cannot be compared"),
        ("p < true", "cannot be compared"),
        ("u < '00000000-0000-4000-8000-000000000001'", "cannot be compared"),
        ("u == '0000'", "UUID"),
        ("raw == 'x'", "cannot be compared"),
        ("list == 'x'", "cannot be compared"),
        ("local == '2020-01-01T00:00:00'", "cannot be compared"),
        ("d == '2020-2-1'", "YYYY-MM-DD"),
        ("d == '2021-02-29'", "YYYY-MM-DD"),
        ("d == '20200101'", "YYYY-MM-DD"),
        ("at == '2020-01-01'", "RFC 3339"),
        ("at == '2020-01-01T00:00:00'", "RFC 3339"),
        ("at == '2020-01-01T00:00:00.0001Z'", "RFC 3339"),
        ("x == 1e309", "out of the item's range"),
        ("f == 1e39", "out of the item's range"),
        ("m == 1e999999", "exponent"),
        ("m == 0x10", "decimal number"),
        ("a + 1 == 2", "comparison takes"),
        ("-a == 1", "comparison takes"),
        ("-p", "negation"),
        ("a == 1 == p", "comparison takes"),
        ("p ? p : q", "boolean item"),
        ("s.size() == 1", "comparison takes"),
        ("s.startsWith('x')", "boolean item"),
        ("matches(s, 'x')", "only function"),
        ("has(a, b)", "only function"),
        ("has(a.b)", "name of an item"),
        ("has()", "only function"),
        ("s[0] == 'x'", "comparison takes"),
        ("A{b: 1}", "boolean item"),
        ("{'a': 1}", "boolean item"),
        ("s == '\ud800'", "not valid text"),
    ],
)
def test_what_is_not_a_condition_is_refused_with_a_reason(text: str, told: str) -> None:
    reason = check_condition(text, VIEW)
    assert reason is not None
    assert told in reason
    with pytest.raises(Rejected):
        compile_condition(text, VIEW)


def test_a_reason_names_the_column_and_has_chinese_text() -> None:
    assert check_condition("p && nope", VIEW) == (
        "第 6 列：没有信息项 nope · column 6: there is no item `nope`"
    )


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        ("p" + " " * 1999, "p" + " " * 2000),
        ("(" * 31 + "p" + ")" * 31, "(" * 32 + "p" + ")" * 32),
        ("!" * 31 + "p", "!" * 32 + "p"),
        ("&&".join(["p"] * 199), "&&".join(["p"] * 200)),
        (f"a in [{','.join('1' * 197)}]", f"a in [{','.join('1' * 198)}]"),
    ],
)
def test_complexity_is_bounded(within: str, beyond: str) -> None:
    assert check_condition(within, VIEW) is None
    assert check_condition(beyond, VIEW) is not None


@pytest.mark.parametrize("text", ["[" * 1000, "[" * 990 + "]" * 990, "has(" * 400, "(" * 1999])
def test_hostile_nesting_is_refused_not_crashed(text: str) -> None:
    assert check_condition(text, VIEW) is not None


@given(st.text(max_size=60))
def test_any_text_is_either_a_condition_or_refused_with_a_reason(text: str) -> None:
    reason = check_condition(text, VIEW)
    assert reason is None or reason


# Differential: SQLite's WHERE has the semantics that the condition promises.


@dataclass(frozen=True)
class Both:
    """One condition in both languages; SQL's literals are parameters."""

    cel: str
    sql: str
    values: tuple[Any, ...] = ()


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=3
) | st.sampled_from(["", "a", "A", "b", "中", "😀", "｡"])
INTS = st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1)
DOUBLES = st.sampled_from([0.0, 0.5, -1.5]) | st.floats(allow_nan=False, allow_infinity=False)
DATES = st.dates(date(1900, 1, 1), date(2100, 12, 31))
DATA = {
    "a": INTS,
    "b": INTS,
    "s": TEXTS,
    "t": TEXTS,
    "p": st.booleans(),
    "q": st.booleans(),
    "d": DATES,
    "x": DOUBLES,
}
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def cel_literal(value: Any) -> str:
    if isinstance(value, str | date):
        text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{text}"'
    return ("true" if value else "false") if isinstance(value, bool) else repr(value)


def sql_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


@st.composite
def atoms(draw: st.DrawFn) -> Both:
    item = draw(st.sampled_from(sorted(DATA)))
    values = DATA[item]
    kind = draw(st.sampled_from(["literal", "mirrored", "items", "in", "has", "flag"]))
    op = draw(st.sampled_from(COMPARISONS[:2] if item in "pq" else COMPARISONS))
    sql_op = "=" if op == "==" else op
    if kind == "has":
        return Both(f"has({item})", f"({item} IS NOT NULL)")
    if kind == "flag":
        flag = draw(st.sampled_from("pq"))
        return Both(flag, f"({flag} = 1)")
    if kind == "items":
        left, right = draw(st.permutations(draw(st.sampled_from(["ab", "st", "pq"]))))
        if left in "pq":
            op, sql_op = "==", "="
        return Both(f"{left} {op} {right}", f"({left} {sql_op} {right})")
    if kind == "in":
        chosen = draw(st.lists(values, min_size=1, max_size=4))
        return Both(
            f"{item} in [{', '.join(map(cel_literal, chosen))}]",
            f"({item} IN ({', '.join('?' * len(chosen))}))",
            tuple(map(sql_value, chosen)),
        )
    value = draw(values)
    if kind == "mirrored":
        return Both(
            f"{cel_literal(value)} {op} {item}", f"(? {sql_op} {item})", (sql_value(value),)
        )
    return Both(f"{item} {op} {cel_literal(value)}", f"({item} {sql_op} ?)", (sql_value(value),))


def compound(inner: st.SearchStrategy[Both]) -> st.SearchStrategy[Both]:
    def join(cel: str, sql: str) -> Any:
        return lambda pair: Both(
            f"({pair[0].cel}) {cel} ({pair[1].cel})",
            f"({pair[0].sql} {sql} {pair[1].sql})",
            pair[0].values + pair[1].values,
        )

    pairs = st.tuples(inner, inner)
    return (
        pairs.map(join("&&", "AND"))
        | pairs.map(join("||", "OR"))
        | inner.map(lambda one: Both(f"!({one.cel})", f"(NOT {one.sql})", one.values))
    )


CONDITIONS = st.recursive(atoms(), compound, max_leaves=8)
RECORDS = st.fixed_dictionaries({name: st.none() | values for name, values in DATA.items()})


def where(both: Both, datum: Mapping[str, Any]) -> tuple[Any, int]:
    """The value of the condition in SQLite, and how many rows its WHERE lets through."""
    connection = sqlite3.connect(":memory:")
    try:
        # No column types: SQLite would convert values by them.
        connection.execute(f"CREATE TABLE r ({', '.join(datum)})")
        marks = ", ".join("?" * len(datum))
        connection.execute(
            f"INSERT INTO r VALUES ({marks})", [sql_value(v) for v in datum.values()]
        )
        value = connection.execute(f"SELECT {both.sql} FROM r", both.values).fetchone()[0]
        rows = connection.execute(f"SELECT 1 FROM r WHERE {both.sql}", both.values).fetchall()
    finally:
        connection.close()
    return value, len(rows)


@settings(max_examples=800, deadline=None)
@given(CONDITIONS, RECORDS)
def test_conditions_agree_with_sqlites_where(both: Both, datum: dict[str, Any]) -> None:
    condition = compile_condition(both.cel, VIEW)
    value, rows = where(both, datum)
    assert evaluate(condition.root, datum) == (None if value is None else bool(value))
    assert condition.passes(datum) is (rows == 1)
