"""Receives the JSON object that a request posts, within bounds of bytes and time."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from shutong_core.domain.errors import Rejected
from shutong_core.runtime.httpbody import BodyTooLarge, bounded_body

BODY_BYTES_MAX = 64 * 1024
BODY_S_MAX = 10.0


async def posted_object(request: Request) -> dict[str, Any]:
    """The object in the request's body. Raises Rejected for anything else."""
    try:
        found: Any = json.loads(await bounded_body(request, BODY_BYTES_MAX, BODY_S_MAX))
    except BodyTooLarge:
        raise Rejected(f"请求体过大。 The body is larger than {BODY_BYTES_MAX} bytes.") from None
    except (TimeoutError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Rejected("请求体应为一个 JSON 对象。 The body must be one JSON object.")
    return found
