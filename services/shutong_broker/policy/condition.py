"""The row condition of a grant: CEL's syntax, typed by the items, three-valued like SQL.

A comparison with a null item is unknown, and a record passes only on true: with CEL's own rule
`null != 'X'` would be true and let through what nobody decided to share. Only the parser is
celpy's; everything but the operators listed in `_COMPARISONS`, `in`, `&&`, `||`, `!` and `has(x)`
is refused when the condition is compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from celpy.celparser import CELParseError, CELParser
from lark import Token, Tree

from shutong_broker.policy.literals import BadLiteral, Kind, kind_of, literal_value
from shutong_broker.policy.truth import (
    And,
    Compare,
    CompareItems,
    Flag,
    Has,
    In,
    Node,
    Not,
    Or,
    evaluate,
)
from shutong_core.domain.errors import Rejected
from shutong_core.domain.schemaview import FieldType, SchemaView

TEXT_CHARS_MAX = 2000  # as the grant's row allows
DEPTH_MAX = 32
NODES_MAX = 200
#: Texts kept parsed: parsing takes a millisecond.
PARSED_MAX = 1024

#: celpy's names of the comparisons.
_COMPARISONS = {
    "relation_eq": "==",
    "relation_ne": "!=",
    "relation_lt": "<",
    "relation_le": "<=",
    "relation_gt": ">",
    "relation_ge": ">=",
}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
#: celpy keeps one Lark instance for the process; its lexer callbacks are not said to be safe.
_PARSING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked condition: its text and its tree over one schema version."""

    text: str
    root: Node

    def passes(self, datum: Mapping[str, Any]) -> bool:
        """True only if the condition is true for `datum`: false and unknown both do not pass.

        `datum` holds every item of the schema version, as the codec decodes it. Raises (KeyError,
        TypeError) if it does not; the caller counts that as refusal.
        """
        return evaluate(self.root, datum) is True


def check_condition(text: str, view: SchemaView) -> str | None:
    """Why `text` cannot be a condition over `view`, for people; None if it can."""
    try:
        compile_condition(text, view)
    except Rejected as error:
        return str(error)
    return None


def compile_condition(text: str, view: SchemaView) -> Condition:
    """The condition in `text`, checked against the items of `view`.

    Raises Rejected with a reason in Chinese and English and the column where it can be told.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise Rejected(
            f"条件超过 {TEXT_CHARS_MAX} 个字符 · condition longer than {TEXT_CHARS_MAX} characters"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Rejected("条件含有无效字符 · the condition is not valid text") from None
    return Condition(text, _Translator(view.fields).expression(_parsed(text), 1))


def load_parser() -> None:
    """Make celpy's parser, which takes a tenth of a second, now and not at the first condition."""
    _parsed("true")


@lru_cache(maxsize=PARSED_MAX)
def _parsed(text: str) -> Tree[Token]:
    """celpy's tree of `text`, which nobody changes: the same text stands in many grants."""
    try:
        with _PARSING:
            return CELParser().parse(text)
    except CELParseError as error:
        where = error.column or 1
        raise Rejected(f"第 {where} 列：语法错误 · column {where}: syntax error") from None


@dataclass(frozen=True, slots=True)
class _Literal:
    token: Token


@dataclass(frozen=True, slots=True)
class _Name:
    field: FieldType
    tree: Any


@dataclass(frozen=True, slots=True)
class _ListOf:
    literals: tuple[_Literal, ...]


class _Translator:
    """Turns celpy's parse tree into typed nodes, counting depth and nodes."""

    def __init__(self, fields: Mapping[str, FieldType]) -> None:
        self._fields = fields
        self._nodes = 0

    def expression(self, tree: Any, depth: int) -> Node:
        """A truth-valued node for `tree`, which starts at nesting `depth`."""
        if depth > DEPTH_MAX:
            raise _refusal(tree, f"嵌套超过 {DEPTH_MAX} 层", f"nested deeper than {DEPTH_MAX}")
        tree = _unwrap(tree)
        match tree.data:
            case "conditionalor" | "conditionaland":
                self._count(tree)
                # `a && b && c` is nested to the left as often as it has terms: no recursion.
                terms = tuple(self.expression(term, depth + 1) for term in _operands(tree))
                return Or(terms) if tree.data == "conditionalor" else And(terms)
            case "unary":
                if tree.children[0].data != "unary_not":
                    raise _refusal(tree, "不支持负号运算", "negation of numbers is not supported")
                self._count(tree)
                return Not(self.expression(tree.children[1], depth + 1))
            case "paren_expr":
                return self.expression(tree.children[0], depth + 1)
            case "relation":
                return self._relation(tree)
            case "ident_arg":
                return self._has(tree)
            case _:
                return self._flag(tree)

    def _relation(self, tree: Any) -> Node:
        left_side, right_tree = tree.children
        left = self._operand(left_side.children[0])
        right = self._operand(right_tree)
        self._count(tree)
        if left_side.data == "relation_in":
            if not (isinstance(left, _Name) and isinstance(right, _ListOf)):
                raise _refusal(
                    tree, "in 只能写作 信息项 in [常量, …]", "write `item in [literal, …]`"
                )
            self._needs(left, Kind.EQUALITY)
            values = tuple(self._typed(literal, left.field) for literal in right.literals)
            return In(left.field.name, values)
        op = _COMPARISONS[left_side.data]
        if isinstance(left, _Literal) and isinstance(right, _Name):
            left, op, right = right, _MIRRORED[op], left
        if not isinstance(left, _Name) or isinstance(right, _ListOf):
            raise _refusal(
                tree, "比较的一边必须是信息项", "one side of a comparison must be an item"
            )
        self._needs(left, Kind.EQUALITY if op in {"==", "!="} else Kind.ORDER)
        if isinstance(right, _Literal):
            return Compare(left.field.name, op, self._typed(right, left.field))
        if (left.field.avro, left.field.logical, left.field.symbols) != (
            right.field.avro,
            right.field.logical,
            right.field.symbols,
        ):
            raise _refusal(tree, "两个信息项类型不同", "the two items have different types")
        return CompareItems(left.field.name, op, right.field.name)

    def _operand(self, tree: Any) -> _Literal | _Name | _ListOf:
        tree = _unwrap(tree)
        self._count(tree)
        match tree.data:
            case "literal":
                return _Literal(tree.children[0])
            case "ident":
                return _Name(self._field(tree), tree)
            case "list_lit" if tree.children:
                found = tuple(self._operand(item) for item in tree.children[0].children)
                literals = tuple(item for item in found if isinstance(item, _Literal))
                if len(literals) == len(found):
                    return _ListOf(literals)
        raise _refusal(
            tree,
            "比较的两边只能是信息项或常量",
            "a comparison takes an item and a literal, a list of literals or another item",
        )

    def _has(self, tree: Any) -> Node:
        name, *arguments = tree.children
        inner = _unwrap(arguments[0].children[0]) if arguments else None
        if name != "has" or inner is None or len(arguments[0].children) != 1:
            raise _refusal(tree, "只支持函数 has(信息项)", "the only function is has(item)")
        if inner.data != "ident":
            raise _refusal(tree, "has 的参数必须是信息项", "has takes the name of an item")
        self._count(tree)
        return Has(self._field(inner).name)

    def _flag(self, tree: Any) -> Node:
        if tree.data == "ident":
            field = self._field(tree)
            if field.avro == "boolean":
                self._count(tree)
                return Flag(field.name)
        raise _refusal(
            tree,
            "此处需要比较、has(信息项) 或布尔信息项",
            "a comparison, has(item) or a boolean item is needed here",
        )

    def _field(self, tree: Any) -> FieldType:
        name = str(tree.children[0])
        field = self._fields.get(name)
        if field is None:
            raise _refusal(tree, f"没有信息项 {name[:64]}", f"there is no item `{name[:64]}`")
        return field

    def _needs(self, name: _Name, kind: Kind) -> None:
        if kind_of(name.field) < kind:
            type_name = name.field.logical or name.field.avro
            raise _refusal(
                name.tree,
                f"类型 {type_name} 不能这样比较",
                f"items of type {type_name} cannot be compared like this",
            )

    def _typed(self, literal: _Literal, field: FieldType) -> Any:
        if literal.token.type == "NULL_LIT":
            raise _refusal(
                literal.token, "与 null 比较没有结果，请用 has(信息项)", "use has(item), not null"
            )
        try:
            return literal_value(literal.token.type, str(literal.token), field)
        except BadLiteral as error:
            raise _refusal(literal.token, error.zh, error.en) from None

    def _count(self, tree: Any) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _refusal(tree, f"条件多于 {NODES_MAX} 个节点", f"more than {NODES_MAX} nodes")


def _unwrap(tree: Any) -> Any:
    """The first tree below `tree` that is more than a grammar rule passing on its only child."""
    while (
        tree.data != "paren_expr"
        and len(tree.children) == 1
        and isinstance(tree.children[0], Tree)
        and tree.data not in {"list_lit", "ident_arg"}
    ):
        tree = tree.children[0]
    return tree


def _operands(tree: Any) -> list[Any]:
    """The terms of a left-nested chain of one connective, in the order written."""
    found: list[Any] = []
    rule = tree.data
    while isinstance(tree, Tree) and tree.data == rule:
        *left, last = tree.children
        found.append(last)
        if not left:
            break
        # celpy nests the left operand either directly or one rule of the same name deeper.
        tree = left[0]
        while isinstance(tree, Tree) and tree.data == rule and len(tree.children) == 1:
            tree = tree.children[0]
    else:
        found.append(tree)
    return found[::-1]


def _refusal(at: Any, zh: str, en: str) -> Rejected:
    column = at.column if isinstance(at, Token) else getattr(at.meta, "column", None)
    where = column or 1
    return Rejected(f"第 {where} 列：{zh} · column {where}: {en}")
