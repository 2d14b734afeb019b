"""RFC 8785 form of JSON values, by the C encoder where it says the same.

The plain implementation takes most of the time in which a large list is read. The C encoder gives
the same text unless there is a float, an integer beyond 2^53, or a character beyond U+FFFF (keys
are sorted by UTF-16 units); whatever might hold one of these is left to the plain one.
"""

from __future__ import annotations

import json
import re
from typing import Any

import rfc8785

_ENCODER = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
)
#: A number that may be a float or not exact; also found inside strings, which only costs time.
_DOUBTFUL_NUMBER = re.compile(r"(?:^|[:,\[])-?[0-9]+(?:[.eE]|(?<=[0-9]{16}))")


def canonical(value: Any) -> bytes:
    """The RFC 8785 form of `value`, whose keys are text.

    Raises ValueError for what has none: NaN, integers beyond 2^53, text that is not Unicode.
    """
    try:
        text = _ENCODER.encode(value)
        if len(text.encode("utf-16-le")) == 2 * len(text) and not _DOUBTFUL_NUMBER.search(text):
            return text.encode()
    except ValueError:
        pass  # the plain implementation says what is wrong
    return rfc8785.dumps(value)
