"""What may be written of a log message that another library made.

Rule: a message's template is the library's own text; its arguments may quote anything, also the
bytes of a record (asyncio shows the repr of exceptions). So of arguments only those of the Kafka
client are written, and of these only names, numbers and the names of error classes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

TEMPLATE_CHARS_MAX = 200
_ARGUMENT_CHARS_MAX = 200
_ITEMS_MAX = 20
_OURS = "shutong"
#: Libraries whose text arguments are names of topics, groups, hosts and members.
_NAMING = "aiokafka"
# asyncio puts reprs into the message itself: only the words before the first of them are fixed.
_FIXED_WORDS = re.compile(r"[A-Za-z][A-Za-z0-9_ ,.'-]*")


def template(record: logging.LogRecord) -> str:
    """The fixed text of a message, without its arguments; equal for messages of one kind."""
    return _fixed(record.name, str(record.msg) if isinstance(record.msg, str) else "")


def message(record: logging.LogRecord) -> str:
    """What may be written of `record`'s message."""
    family = record.name.partition(".")[0]
    if family.startswith(_OURS):
        try:
            return record.getMessage()
        except (TypeError, ValueError):
            return str(record.msg)
    if family != _NAMING or not isinstance(record.msg, str):
        return template(record)
    if not isinstance(record.args, tuple) or not record.args:
        return template(record)
    try:
        return record.msg % tuple(_harmless(each) for each in record.args)
    except (TypeError, ValueError):
        return template(record)


def fixed_words(text: str) -> str:
    """The words before anything that could be a repr: all that is fixed in asyncio's messages."""
    found = _FIXED_WORDS.match(text)
    return found.group()[:TEMPLATE_CHARS_MAX].rstrip() if found else ""


def _fixed(logger: str, text: str) -> str:
    if logger.partition(".")[0] in {"asyncio", "concurrent"}:
        return fixed_words(text)
    return text[:TEMPLATE_CHARS_MAX]


def _harmless(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return _fault(value)
    return _Name(_named(value)[:_ARGUMENT_CHARS_MAX])


def _fault(error: BaseException) -> str:
    """The class, and of a system error what the system says: it speaks of hosts and ports."""
    name = type(error).__name__
    return _Name(f"{name}: {error}"[:_ARGUMENT_CHARS_MAX] if type(error) in _SYSTEM else name)


def _named(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and hasattr(value, "topic") and hasattr(value, "partition"):
        return f"{value.topic}:{value.partition}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_each(value))
    return type(value).__name__


def _each(values: Iterable[Any]) -> Iterable[str]:
    for place, value in enumerate(values):
        if place == _ITEMS_MAX:
            yield "…"
            return
        yield _named(value) if not isinstance(value, int) else str(value)


class _Name(str):
    """Looks the same by %s and %r."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


_SYSTEM = frozenset(
    {OSError, ConnectionRefusedError, ConnectionResetError, ConnectionAbortedError, TimeoutError}
)
