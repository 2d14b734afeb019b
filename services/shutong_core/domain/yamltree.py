"""YAML as far as a list file may use it: mappings, lists, scalars, each with its place.

Nothing is guessed: a plain scalar is a number, true, false, null or text, dates stay text. What
makes YAML hard to review is refused: anchors, aliases, merge keys, tags, repeated keys, several
documents. The text must end with the document end line `...`, because a file that was cut off
between two rows would otherwise read as a shorter list, and what is lost may be a denial.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from shutong_core.domain.findings import PROBLEMS_MAX, Finding, Problem

TEXT_BYTES_MAX = 8 * 1024 * 1024
DEPTH_MAX = 16
NODES_MAX = 2_000_000
SCALAR_CHARACTERS_MAX = 10_000

# JSON's numbers without leading zeros, so that codes such as 044 stay text.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
# CPython refuses to convert longer digit strings; no field needs more than 2**53.
_DIGITS_MAX = 30


@dataclass(slots=True)
class Node:
    """A value with its place (line and column from 1).

    `value` is dict[str, Node], list[Node], str, int, float, bool or None; `key_places` are the
    places of a mapping's keys; `raw` is the text of a plain scalar that was read as no text.
    """

    line: int
    column: int
    value: Any
    raw: str | None = None
    key_places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value as JSON values, places left out."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class _Stop(Exception):  # noqa: N818 - ends the reading, the problem is already noted
    pass


def read_yaml(text: str, name: str) -> tuple[Node | None, list[Problem]]:
    """The tree in `text`, and what is wrong with it; no tree if it cannot be read at all."""
    return _Reader(name).read(text)


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0
        self._problems: list[Problem] = []

    def read(self, text: str) -> tuple[Node | None, list[Problem]]:
        try:
            self._check_text(text)
            return self._document(_events(text)), self._problems
        except _Stop:
            return None, self._problems
        except yaml.YAMLError as error:
            self._syntax(error, text)
            return None, self._problems

    def _note(self, code: str, place: tuple[int, int], texts: tuple[str, str, str, str]) -> None:
        finding = Finding(code, "", (), *texts)
        self._problems.append(Problem(self._name, place[0], place[1], finding))
        if len(self._problems) >= PROBLEMS_MAX:
            raise _Stop

    def _check_text(self, text: str) -> None:
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            line = text.count("\n", 0, error.start) + 1
            self._note("not-text", (line, 1), _NOT_TEXT)
            raise _Stop from None
        if size > TEXT_BYTES_MAX:
            self._note("file-too-large", (1, 1), _TOO_LARGE)
            raise _Stop

    def _syntax(self, error: yaml.YAMLError, text: str) -> None:
        mark = getattr(error, "problem_mark", None)
        if _NO_COLON in str(getattr(error, "problem", "")):
            mark = getattr(error, "context_mark", None) or mark  # the line that lacks it
        if mark is not None:
            place = (mark.line + 1, mark.column + 1)
        else:  # a character that YAML does not allow: the reader tells its position only
            before = text[: getattr(error, "position", 0)]
            place = (before.count("\n") + 1, 1)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        hint = next((texts for key, texts in _SYNTAX.items() if key in problem), None)
        zh, en, remedy_zh, remedy_en = hint or _SYNTAX_OTHER
        self._problems.append(
            Problem(
                self._name,
                *place,
                Finding("yaml-syntax", "", (), zh, f"{en} ({problem})", remedy_zh, remedy_en),
            )
        )

    def _document(self, events: Iterator[Any]) -> Node | None:
        next(events)  # stream start
        first = next(events)
        if isinstance(first, yaml.StreamEndEvent):
            self._note("file-empty", (1, 1), _EMPTY)
            return None
        root = self._value(next(events), events, 0)
        end = next(events)
        if not end.explicit:
            self._note("file-cut-off", _place(end.start_mark), _CUT_OFF)
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._note("second-document", _place(after.start_mark), _SECOND)
            raise _Stop
        return root

    def _value(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        place = _place(event.start_mark)
        self._nodes += 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:
            self._note("too-deep-or-many", place, _TOO_DEEP)
            raise _Stop
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._note("anchor", place, _ANCHOR)
            if isinstance(event, yaml.AliasEvent):
                return Node(*place, None)
        if event.tag is not None:
            self._note("tag", place, _TAG)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            found: list[Node] = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                found.append(self._value(inner, events, depth + 1))
            return Node(*place, found)
        return self._mapping(place, events, depth)

    def _mapping(self, place: tuple[int, int], events: Iterator[Any], depth: int) -> Node:
        found: dict[str, Node] = {}
        places: dict[str, tuple[int, int]] = {}
        while not isinstance(inner := next(events), yaml.MappingEndEvent):
            key_place = _place(inner.start_mark)
            key_node = self._value(inner, events, depth + 1)
            value = self._value(next(events), events, depth + 1)
            key = key_node.value if key_node.raw is None else key_node.raw
            if not isinstance(key, str) or key == "<<":
                self._note("bad-key", key_place, _BAD_KEY)
            elif key in found:
                self._note("repeated-key", key_place, _repeated(key, places[key][0]))
            else:
                found[key], places[key] = value, key_place
        return Node(*place, found, key_places=places)

    def _scalar(self, event: yaml.ScalarEvent, place: tuple[int, int]) -> Node:
        text: str = event.value
        if len(text) > SCALAR_CHARACTERS_MAX:
            self._note("text-too-long", place, _TOO_LONG)
            return Node(*place, "")
        if not event.implicit[0]:  # quoted or block: text and nothing else
            return Node(*place, text)
        if text in _WORDS:
            return Node(*place, _WORDS[text], raw=text)
        if _NUMBER.fullmatch(text):
            if len(text) > _DIGITS_MAX:
                return Node(*place, text)
            number = int(text) if _INTEGER.fullmatch(text) else float(text)
            return Node(*place, number if math.isfinite(number) else text, raw=text)
        return Node(*place, text)


def _events(text: str) -> Iterator[Any]:
    # libyaml is ten times faster; the pure loader reads the same language where it is missing.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    return events


def _place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _repeated(key: str, line: int) -> tuple[str, str, str, str]:
    return (
        f"字段 {key} 重复，第 {line} 行已写过",
        f"`{key}` is given twice, first on line {line}",
        "只保留一处",
        "keep one of the two",
    )


_NOT_TEXT = (
    "文件含有不能用 UTF-8 表示的字符",
    "the file holds characters that UTF-8 cannot carry",
    "另存为 UTF-8 文本",
    "save the file as UTF-8 text",
)
_TOO_LARGE = (
    "文件超过 8 MiB",
    "the file is larger than 8 MiB",
    "按类许可可以代替逐个许可，或分拆节点",
    "use class grants in place of single grants, or split the node",
)
_EMPTY = ("文件为空", "the file is empty", "写入 bus 等各节", "write `bus` and the other sections")
_CUT_OFF = (
    "文件没有以一行 ... 结束，可能被截断",
    "the file does not end with a line `...`; it may have been cut off",
    "核对文件完整后，在最后一行写 ...",
    "make sure the file is whole, then write `...` as its last line",
)
_SECOND = (
    "文件含有不止一个文档",
    "the file holds more than one document",
    "一个文件只写一份清单，去掉多余的 ---",
    "write one list in one file, take the second `---` away",
)
_TOO_DEEP = (
    f"嵌套超过 {DEPTH_MAX} 层，或内容项超过 {NODES_MAX} 个",
    f"nested more than {DEPTH_MAX} deep, or more than {NODES_MAX} values",
    "按清单格式书写",
    "write the file in the published form of the list",
)
_ANCHOR = (
    "不能使用锚点和引用（& 和 *）",
    "anchors and aliases (`&`, `*`) are not allowed",
    "把内容写全；若是文本，请加引号",
    "write the value out; if it is text, put it in quotes",
)
_TAG = (
    "不能使用类型标记（!）",
    "tags (`!`) are not allowed",
    "去掉标记；若是文本，请加引号",
    "take the tag away; if it is text, put it in quotes",
)
_BAD_KEY = (
    "字段名必须是文本，且不能是 <<",
    "a key must be text, and not `<<`",
    "改写字段名",
    "write a field name here",
)
_TOO_LONG = (
    f"文本超过 {SCALAR_CHARACTERS_MAX} 字",
    f"a text is longer than {SCALAR_CHARACTERS_MAX} characters",
    "缩短文本；检查引号是否成对",
    "shorten it; look for a missing closing quote",
)
_SYNTAX_OTHER = (
    "此处不是有效的 YAML",
    "not valid YAML here",
    "检查此行及上一行的缩进、冒号、引号",
    "look at indents, colons and quotes on this line and the one before",
)
_NO_COLON = "could not find expected ':'"
#: Texts of libyaml and PyYAML that authors meet most, by a part of the message.
_SYNTAX = {
    _NO_COLON: (
        "字段名后缺少冒号和空格",
        "no colon and space after the name of the field",
        "写半角冒号加空格（: ），不用全角冒号（：）",
        "write `: ` with a space; a full-width colon (：) is none",
    ),
    "mapping values are not allowed": (
        "此处不能再出现冒号",
        "a second colon on this line, a full-width colon on the one before, or a wrong indent",
        "含冒号的文本请加引号；上一行不用全角冒号（：）；或改正缩进",
        (
            "quote text that holds a colon; write `: ` and not `：` on the line before; "
            "or mend the indent"
        ),
    ),
    "end of stream": (
        "引号没有结束",
        "a quote is not closed",
        "补上结束的引号",
        "write the closing quote",
    ),
    "cannot start any token": (
        "此处的字符不能作文本开头",
        "this character cannot begin a text",
        "给文本加引号；缩进只用空格，不用制表符",
        "put the text in quotes; indent with spaces, not with tabs",
    ),
    "expected ',' or": (
        "方括号或花括号没有结束，或缺少逗号",
        "a bracket is not closed, or a comma is missing",
        "补上括号或逗号",
        "write the missing bracket or comma",
    ),
    "expected key": (
        "缩进与上文不一致",
        "the indent does not fit the lines before",
        "与同级字段对齐",
        "align the line with the fields of the same level",
    ),
    "expected '-' indicator": (
        "列表项应以 - 开头",
        "an entry of this list must begin with `-`",
        "补上 - ，或改正缩进",
        "write the `-`, or mend the indent",
    ),
    "escape": (
        "双引号内的反斜杠用法不对",
        "a backslash in double quotes is not a known escape",
        "改用单引号",
        "use single quotes",
    ),
    "control characters": (
        "含有控制字符",
        "a control character",
        "删除该字符",
        "take the character away",
    ),
}
