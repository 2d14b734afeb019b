"""Receives a request's whole body within bounds of bytes and time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request


class BodyTooLarge(Exception):  # noqa: N818 - what it is, for the caller's own words
    """The body has more bytes than the bound; nothing more of it was read."""


async def bounded_body(request: Request, bytes_max: int, within_s: float) -> bytes:
    """The body. Raises BodyTooLarge, or TimeoutError if it does not come in time."""
    body = bytearray()
    async with asyncio.timeout(within_s):
        async for piece in request.stream():
            body += piece
            if len(body) > bytes_max:
                raise BodyTooLarge
    return bytes(body)
