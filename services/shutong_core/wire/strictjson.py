"""JSON text that means the same to every reader (I-JSON, RFC 7493), or is refused."""

from __future__ import annotations

import json
from typing import Any, Final

#: Nesting; an admitted Avro value nests at most 16 deep, a schema's text about twice that.
DEPTH_MAX: Final = 64


_BOM: Final = b"\xef\xbb\xbf"


class NotJson(ValueError):  # noqa: N818 - says what the text is
    """The text is no JSON that means one thing; `zh` and `en` say why and quote nothing of it."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh
        self.en = en


def loads(text: bytes | str) -> Any:
    """The JSON value in `text`. Raises NotJson, a ValueError; the caller bounds the length.

    A byte order mark before bytes is passed over (RFC 8259 section 8.1). Refused beyond broken
    syntax: a key twice in one object, NaN and infinities, text that is not UTF-8, numbers of more
    than 4300 digits, nesting deeper than DEPTH_MAX.
    """
    try:
        raw = text if isinstance(text, str) else text.removeprefix(_BOM).decode()
        value = json.loads(raw, object_pairs_hook=_unique, parse_constant=_refused)
    except json.JSONDecodeError as error:
        # The library's error holds the whole text, and its message is its own affair.
        raise _syntax(error) from None
    except UnicodeDecodeError as error:
        at = error.start + 1
        raise NotJson(f"第 {at} 个字节起不是 UTF-8 编码", f"not UTF-8 from byte {at} on") from None
    except RecursionError:
        raise _too_deep() from None
    except NotJson:
        raise
    except ValueError:
        raise NotJson("有数字过长", "a number is too long") from None
    if not _is_shallow(value):
        raise _too_deep()
    return value


#: What broken syntax means, by how the standard library's message begins.
_SYNTAX: Final = (
    ("Expecting value", "缺少值，或有多余的逗号", "a value is missing, or a comma is too many"),
    ("Expecting property", "键应写在双引号中", "a key in double quotes is missing"),
    ("Expecting ':'", "键后缺少冒号", "a colon is missing after a key"),
    ("Expecting ','", "缺少逗号或右括号", "a comma or a closing bracket is missing"),
    ("Illegal trailing comma", "末尾多了逗号", "a comma too many at the end"),
    ("Unterminated string", "文本的引号没有闭合", "the quote of a text is not closed"),
    ("Invalid control", "文本中有未转义的控制字符", "a control character in a text is not escaped"),
    ("Invalid \\", "转义写法有误", "a wrong escape"),
    ("Extra data", "一个值之后还有内容", "something follows after the value"),
)


def _syntax(error: json.JSONDecodeError) -> NotJson:
    if not error.doc.strip():
        return NotJson("内容为空", "it is empty")
    zh, en = "写法有误", "the syntax is wrong"
    for begins, *told in _SYNTAX:
        if error.msg.startswith(begins):
            zh, en = told
    if "\n" not in error.doc:
        return NotJson(f"第 {error.colno} 个字符处{zh}", f"{en}, at character {error.colno}")
    zh = f"第 {error.lineno} 行第 {error.colno} 个字符处{zh}"
    return NotJson(zh, f"{en}, at line {error.lineno} character {error.colno}")


def _too_deep() -> NotJson:
    return NotJson(f"嵌套超过 {DEPTH_MAX} 层", f"nested deeper than {DEPTH_MAX} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("一个对象中有重复的键", "an object names a key twice")
    return found


def _refused(_name: str) -> Any:
    raise NotJson("NaN 和 Infinity 不是 JSON 的数", "NaN and Infinity are no numbers in JSON")


def _is_shallow(parsed: Any) -> bool:
    """Whether nesting stays within DEPTH_MAX, found level by level without recursion."""
    level = [parsed]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for value in level
            if isinstance(value, (dict, list))
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return True
    return False
