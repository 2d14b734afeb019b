"""The model's complaints about one row, turned into findings that an author can act on.

Knows the error types of pydantic and nothing of files: places in a file are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

from shutong_core.domain.findings import Finding, Path, path_text

Texts = tuple[str, str, str, str]  # zh, en, remedy zh, remedy en


class Tree(Protocol):
    """A value that knows the text it was written as, see `yamltree.Node`."""

    value: Any
    raw: str | None


def findings_of(
    errors: Iterable[Mapping[str, Any]], tree: Tree, row_id: str, known: Iterable[str]
) -> Iterator[Finding]:
    """One finding per wrong field; `known` are the names of the row's own fields.

    pydantic reports every branch of a union (`clear` or a mask): only the branch that the author
    meant is told.
    """
    told: set[Path] = set()
    for error in errors:
        path, node = _walk(error, tree)
        literal_branch = any(str(step).startswith("literal[") for step in error["loc"])
        if literal_branch and node is not None and isinstance(node.value, dict):
            continue
        if path in told:
            continue
        told.add(path)
        code, texts = _say(error, path, node, known)
        yield Finding(code, row_id, path, *texts)


def _walk(error: Mapping[str, Any], tree: Tree) -> tuple[Path, Tree | None]:
    """The path that exists in the tree; names of union branches in `loc` are left out."""
    path: list[str | int] = []
    node: Tree | None = tree
    steps = error["loc"]
    for place, step in enumerate(steps):
        inner = None if node is None else node.value
        if (isinstance(inner, dict) and step in inner) or (
            isinstance(inner, list) and isinstance(step, int) and step < len(inner)
        ):
            node = inner[step]
        elif error["type"] == "missing" and place == len(steps) - 1:
            node = None
        else:
            continue
        path.append(step)
    return tuple(path), node


def _say(
    error: Mapping[str, Any], path: Path, node: Tree | None, known: Iterable[str]
) -> tuple[str, Texts]:
    kind = error["type"]
    if kind == "string_type" and node is not None and node.raw is not None:
        return "not-quoted", _not_quoted(node.raw)
    if kind == "extra_forbidden":
        return "field-unknown", _unknown_field(path_text(path[-1:]), known)
    if kind in _MADE:
        code, make = _MADE[kind]
        return code, make(path, error.get("ctx", {}))
    if kind == "value_error":
        return _value_error(str(error["ctx"]["error"]))
    return _TYPES.get(kind, ("bad-value", _other(error["msg"])))


def _missing(path: Path, _context: Mapping[str, Any]) -> Texts:
    name = path_text(path[-1:])
    return (
        f"缺少字段 {name}",
        f"the field `{name}` is missing",
        f"补上 {name}",
        f"write `{name}`",
    )


def _form(_path: Path, context: Mapping[str, Any]) -> Texts:
    return FORMS.get(context["pattern"], _FORM_OTHER)


def _unknown_field(name: str, known: Iterable[str]) -> Texts:
    close = get_close_matches(name, list(known), n=1)
    if close:
        return (
            f"没有字段 {name}",
            f"there is no field `{name}`",
            f"可能应写 {close[0]}",
            f"did you mean `{close[0]}`",
        )
    return (
        f"没有字段 {name}",
        f"there is no field `{name}`",
        "删除该字段；字段名见公布的清单格式",
        "take it away; the published schema of the list names the fields",
    )


def _not_quoted(raw: str) -> Texts:
    if raw == "":
        return (
            "此处没有内容",
            "there is nothing here",
            "写入文本",
            "write the text",
        )
    return (
        f"{raw} 未加引号，读作数字或逻辑值，此处应为文本",
        f"{raw} without quotes is a number or a yes/no value, text is needed here",
        f'加引号，写作 "{raw}"',
        f'quote it: "{raw}"',
    )


def _choice(path: Path, context: Mapping[str, Any]) -> Texts:
    allowed = str(context.get("expected", context.get("expected_tags", "")))
    listed = allowed.replace("'", "").replace(" or ", ", ")
    if len(path) >= 2 and path[-2] == "items" and listed == "clear":
        return (
            "信息项后应写 clear 或一种掩码",
            "an item is followed by `clear` or a mask",
            "写 clear，或 {mask: keep|hash|band|drop}",
            "write `clear`, or {mask: keep|hash|band|drop}",
        )
    if listed == "ce_type":
        return (
            "操作来源应为 ce_type 或一个信息项",
            "the operation comes from `ce_type` or from an item",
            "写 ce_type，或 {item: 信息项名}",
            "write `ce_type`, or {item: name}",
        )
    return (
        "不是允许的取值",
        "this is not one of the allowed values",
        f"从中选一个：{listed}",
        f"choose one of: {listed}",
    )


def _too_long(_path: Path, context: Mapping[str, Any]) -> Texts:
    limit = context["max_length"]
    return (
        f"文本超过 {limit} 字",
        f"the text is longer than {limit} characters",
        "缩短文本",
        "shorten it",
    )


def _too_short(_path: Path, _context: Mapping[str, Any]) -> Texts:
    return ("文本为空", "the text is empty", "写入内容", "write something")


def _range(_path: Path, context: Mapping[str, Any]) -> Texts:
    if "ge" in context:
        return (
            f"数值小于 {context['ge']}",
            f"the number is less than {context['ge']}",
            f"写不小于 {context['ge']} 的数",
            f"write {context['ge']} or more",
        )
    return (
        f"数值大于 {context.get('le')}",
        f"the number is greater than {context.get('le')}",
        f"写不大于 {context.get('le')} 的数",
        f"write {context.get('le')} or less",
    )


def _value_error(text: str) -> tuple[str, Texts]:
    for part, found in _VALUE_ERRORS.items():
        if part in text:
            return found
    return "bad-value", _other(text)


def _other(text: str) -> Texts:
    return (
        "字段的值不合要求",
        f"the value does not fit the field ({text})",
        "按公布的清单格式改正",
        "see the published schema of the list",
    )


#: Texts that need the error's context.
_MADE: Mapping[str, tuple[str, Callable[[Path, Mapping[str, Any]], Texts]]] = {
    "missing": ("field-missing", _missing),
    "string_pattern_mismatch": ("bad-form", _form),
    "literal_error": ("bad-choice", _choice),
    "enum": ("bad-choice", _choice),
    "union_tag_invalid": ("bad-choice", _choice),
    "string_too_long": ("bad-length", _too_long),
    "string_too_short": ("bad-length", _too_short),
    "greater_than_equal": ("out-of-range", _range),
    "less_than_equal": ("out-of-range", _range),
}
_NOT_MAPPING = (
    "此处应为若干“字段: 值”",
    "a mapping `field: value` is needed here",
    "按“字段: 值”书写，下级缩进",
    "write `field: value` lines, indented",
)
_MOMENT = (
    "时间的写法不对",
    "this is not a time with its offset",
    '写作 "2026-01-01T00:00:00+08:00"',
    'write it as "2026-01-01T00:00:00+08:00"',
)
_TYPES: Mapping[str, tuple[str, Texts]] = {
    "string_type": ("not-text", ("此处应为文本", "text is needed here", "写入文本", "write text")),
    "tuple_type": (
        "not-a-list",
        (
            "此处应为列表",
            "a list is needed here",
            "写作 [一, 二]，或每行以 - 开头",
            "write [one, two], or lines that begin with `-`",
        ),
    ),
    "dict_type": ("not-a-mapping", _NOT_MAPPING),
    "model_type": ("not-a-mapping", _NOT_MAPPING),
    "model_attributes_type": ("not-a-mapping", _NOT_MAPPING),
    "int_type": (
        "not-a-number",
        ("此处应为整数", "a whole number is needed here", "写整数，不加引号", "write it unquoted"),
    ),
    "int_from_float": (
        "not-a-number",
        ("此处应为整数", "a whole number is needed here", "去掉小数", "take the fraction away"),
    ),
    "float_type": (
        "not-a-number",
        ("此处应为数", "a number is needed here", "写数，不加引号", "write it unquoted"),
    ),
    "bool_type": (
        "not-true-or-false",
        (
            "此处应为 true 或 false",
            "true or false is needed here",
            "写 true 或 false，不加引号",
            "write true or false, unquoted",
        ),
    ),
    "union_tag_not_found": (
        "field-missing",
        (
            "缺少 mask 或 rule",
            "the field `mask` or `rule` that says which kind this is, is missing",
            "补上掩码的 mask 或质量规则的 rule",
            "write `mask` for a mask, `rule` for a rule of quality",
        ),
    ),
    "timezone_aware": ("bad-time", _MOMENT),
    "datetime_parsing": ("bad-time", _MOMENT),
    "datetime_from_date_parsing": ("bad-time", _MOMENT),
    "datetime_type": ("bad-time", _MOMENT),
    "datetime_object_invalid": ("bad-time", _MOMENT),
}
_VALUE_ERRORS: Mapping[str, tuple[str, Texts]] = {
    "RFC 3339": ("bad-time", _MOMENT),
    "GB 32100": (
        "bad-uscc",
        (
            "统一社会信用代码不是 18 位或校验不通过",
            "not a unified social credit code: 18 characters with a valid check character",
            "核对代码，检查字母与数字是否混淆",
            "look the code up; letters and digits are easily mistaken",
        ),
    ),
    "either bounds or by": (
        "bad-mask",
        (
            "分段掩码须写 bounds 或 by 之一",
            "the mask band needs either `bounds` or `by`",
            "数值写 bounds，日期写 by: year 或 month",
            "write `bounds` for numbers, `by: year` or `by: month` for dates",
        ),
    ),
    "bounds must be ascending": (
        "bad-mask",
        (
            "分段界限须从小到大且不为空",
            "the bounds of a band must ascend and not be empty",
            "按从小到大写界限",
            "write the bounds in ascending order",
        ),
    ),
    "either requester or requester_class": (
        "requester-missing",
        (
            "须写 requester 或 requester_class 之一",
            "a grant needs either `requester` or `requester_class`",
            "写一个部门，或写一类部门",
            "name one organisation, or one class of them",
        ),
    ),
}
_FORM_OTHER = (
    "写法不合要求",
    "not in the required form",
    "按公布的清单格式改正",
    "see the published schema of the list",
)
#: By the patterns of `rows`, `catalogue`; a test holds that every pattern has its text.
FORMS: Mapping[str, Texts] = {
    r"^[a-z0-9][a-z0-9-]{0,47}$": (
        "编号只能用小写字母、数字和 -，最长 48 位",
        "an id has lower-case letters, digits and `-`, at most 48, not beginning with `-`",
        "改写编号",
        "write another id",
    ),
    r"^[0-9]{12}(@self)?$": (
        "区划代码应为 12 位数字，本级写作 <代码>@self",
        "a region code has 12 digits, `<code>@self` for what a government keeps itself",
        "右侧补 0 至 12 位，并加引号",
        "pad it with zeros on the right and quote it",
    ),
    r"^[A-Za-z_][A-Za-z0-9_]{0,63}$": (
        "信息项名称只能用字母、数字和下划线，不以数字开头，最长 64 位",
        "an item's name has letters, digits and `_`, at most 64, not beginning with a digit",
        "写模式中的字段名",
        "write the name of the field in the schema",
    ),
    r"^[0-9a-f]{64}$": (
        "应为 64 位小写十六进制摘要",
        "a digest of 64 lower-case hexadecimal digits is needed",
        "填入所用文件的 SHA-256",
        "write the SHA-256 of the file meant",
    ),
    r"^[1-3][0-9]{5}[0-9]*/[0-9]+$": (
        "资源代码应为 类1位项2位目3位细目/顺序码",
        "a resource code is class 1 digit, item 2, head 3, detail any, `/`, serial number",
        "写作如 203001/1，并加引号",
        'write it like "203001/1"',
    ),
}
