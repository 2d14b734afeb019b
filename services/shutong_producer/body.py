"""Receives a request's body within its bounds: bytes, time, encoding, kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal, cast

from shutong_core.domain.reasons import Reason
from shutong_producer.entries import AVRO, JSON, NDJSON
from shutong_producer.gate import Bounds, Hold
from shutong_producer.refused import RequestRefused, bad_request

Mode = Literal["all-or-nothing", "per-record"]
#: The longest pause between two parts of a body.
_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Posted:
    """One POST as it came in; `body` gives its parts. Header texts are None where absent."""

    dataset: str
    mode: str
    authorization: str | None
    content_type: str | None
    content_encoding: str | None
    content_length: str | None
    event_id: str | None
    operation: str | None
    client: str
    body: AsyncIterator[bytes]


def mode_of(text: str) -> Mode:
    """The mode asked for. Raises RequestRefused."""
    if text not in {"all-or-nothing", "per-record"}:
        raise bad_request(
            "mode 应为 all-or-nothing 或 per-record", "mode is all-or-nothing or per-record"
        )
    return cast(Mode, text)


def kind_of(posted: Posted) -> str:
    """The media type, one of three, without coding. Raises RequestRefused (415)."""
    # Compressed bodies are refused: a few KiB could unpack to gigabytes (RFC 9110, 415).
    if (posted.content_encoding or "identity").strip().lower() != "identity":
        raise bad_request("不接受压缩的请求体", "a compressed body is not accepted", 415)
    kind, _, parameters = (posted.content_type or "").partition(";")
    kind = kind.strip().lower()
    charset = parameters.replace(" ", "").replace('"', "").lower()
    if kind not in {JSON, NDJSON, AVRO} or charset not in {"", "charset=utf-8"}:
        raise bad_request(
            f"Content-Type 应为 {JSON}、{NDJSON} 或 {AVRO}，编码 UTF-8",
            f"Content-Type is {JSON}, {NDJSON} or {AVRO}, in UTF-8",
            415,
        )
    return kind


def bytes_max_of(kind: str, bounds: Bounds) -> int:
    """The largest body of that kind."""
    if kind == NDJSON:
        return bounds.request_bytes_max
    if kind == JSON:
        return min(bounds.json_bytes_max, bounds.request_bytes_max)
    return bounds.record_bytes_max + 5  # framing


async def parts(
    posted: Posted,
    bytes_max: int,
    bounds: Bounds,
    hold: Hold,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[bytes]:
    """The body, part by part, each held until the caller gives it back.

    Raises RequestRefused: 413 above `bytes_max`, 408 where the sender is too slow, 429 where all
    requests together hold too much.
    """
    told = posted.content_length or ""
    if told.isdecimal() and len(told) < 20 and int(told) > bytes_max:
        raise _oversize(bytes_max)
    received, deadline = 0, clock() + bounds.body_s
    source = aiter(posted.body)
    while True:
        try:
            async with asyncio.timeout(max(0.0, min(_PAUSE_S, deadline - clock()))):
                part = await anext(source, None)
        except TimeoutError:
            raise bad_request("请求体接收超时", "the body came too slowly", 408) from None
        if part is None:
            return
        received += len(part)
        if received > bytes_max:
            raise _oversize(bytes_max)
        hold.take(len(part))
        yield part


async def whole(posted: Posted, bytes_max: int, bounds: Bounds, hold: Hold) -> bytes:
    """The whole body. Raises as `parts` does."""
    return b"".join([part async for part in parts(posted, bytes_max, bounds, hold)])


def _oversize(bytes_max: int) -> RequestRefused:
    size = f"{bytes_max // 1024} KiB"
    return RequestRefused(Reason.TOO_LARGE, f"请求体超过 {size}", f"the body is larger than {size}")
