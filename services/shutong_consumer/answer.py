"""Answers that carry records: sent in pieces, and before each piece it is asked whether it may go.

A reader that is slow on purpose gets no more of a page than was let out before its grant was
revoked. What counts as fetched is what was handed to the connection whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from shutong_consumer.pull import Given
from shutong_consumer.refused import RequestRefused

PIECE_BYTES = 64 * 1024
#: A connection that takes no piece in this time is given up.
PIECE_S = 20.0
JSON, NDJSON = "application/json", "application/x-ndjson"
_log = structlog.stdlib.get_logger(__name__)


def page_body(given: Given, media_type: str) -> bytes:
    """The page as one JSON object, or a line for each record and a last one with the cursor."""
    at_end = "true" if given.at_end else "false"
    tail = f'"next_cursor":"{given.next_cursor}","at_end":{at_end}}}'
    if media_type == NDJSON:
        return "".join(f"{line}\n" for line in (*given.lines, "{" + tail)).encode()
    return f'{{"records":[{",".join(given.lines)}],{tail}'.encode()


def wants_ndjson(accept: str | None) -> bool:
    """Whether the header Accept names NDJSON."""
    kinds = {each.partition(";")[0].strip().lower() for each in (accept or "").split(",")}
    return NDJSON in kinds


class GuardedAnswer(Response):
    """A body that `check` must let out piece by piece; it raises RequestRefused if not.

    If it refuses before the first piece, `refuse` makes the answer instead; later the connection
    is cut, which a client sees by Content-Length. `on_sent` is called when all was sent.
    """

    def __init__(
        self,
        body: bytes,
        media_type: str,
        check: Callable[[], None],
        refuse: Callable[[RequestRefused], Awaitable[Response]],
        on_sent: Callable[[], None],
    ) -> None:
        super().__init__(body, media_type=media_type)
        self._check = check
        self._refuse = refuse
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            self._check()
        except RequestRefused as refused:
            await (await self._refuse(refused))(scope, receive, send)
            return
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        body = memoryview(self.body)
        try:
            for at in range(0, len(body), PIECE_BYTES):
                self._check()
                piece = bytes(body[at : at + PIECE_BYTES])
                more = at + PIECE_BYTES < len(body)
                async with asyncio.timeout(PIECE_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
        except (RequestRefused, TimeoutError) as error:
            # Leaving the body unfinished makes the server close the connection.
            _log.warning("answer cut off", error_type=type(error).__name__)
            return
        self._on_sent()
