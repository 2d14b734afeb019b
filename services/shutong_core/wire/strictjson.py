"""JSON text that means the same to every reader (I-JSON, RFC 7493), or is refused."""

from __future__ import annotations

import json
from typing import Any, Final

#: Nesting; an admitted Avro value nests at most 16 deep, a schema's text about twice that.
DEPTH_MAX: Final = 64


def loads(text: bytes | str) -> Any:
    """The JSON value in `text`. Raises ValueError; the caller bounds the length.

    Refused beyond broken syntax: a key twice in one object, NaN and infinities, text that is not
    UTF-8, numbers of more than 4300 digits, nesting deeper than DEPTH_MAX.
    """
    try:
        raw = text if isinstance(text, str) else text.decode()
        value = json.loads(raw, object_pairs_hook=_unique, parse_constant=_refused)
    except json.JSONDecodeError as error:
        # The library's message quotes nothing of the text, but its arguments hold all of it.
        where = f"line {error.lineno} column {error.colno}"
        raise ValueError(f"{error.msg} at {where}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not _is_shallow(value):
        raise ValueError("nested too deeply")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


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
