"""One HTTP call of a player: with its key, repeated while the bus says that it may help."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx2

from shutong_core.domain.errors import Rejected, Retryable

#: Answers after which the same request may succeed later (RFC 9110, RFC 6585).
_PASSING = frozenset({429, 502, 503, 504})
_WAIT_FIRST_S = 0.2
_WAIT_MAX_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs of the two public interfaces, without a slash at the end."""

    producer: str
    consumer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON body of an answer ({} if the body is none)."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """The reason name of a refusal, "" if it names none."""
        return reason_in(self.body)


def reason_in(body: Any) -> str:
    """The reason name of a refusal: of a whole answer, of one result, of its first fault.

    A whole answer and a fault name it as `reason`, a result under `problem`; "" if none does.
    """
    if not isinstance(body, dict):
        return ""
    reason = body.get("reason")
    if isinstance(reason, str) and reason:
        return reason
    faults = body.get("errors")
    return reason_in(
        body.get("problem") or (faults[0] if isinstance(faults, list) and faults else None)
    )


async def call(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    key: str,
    *,
    patience_s: float,
    **arguments: Any,
) -> Answer:
    """The answer to one request; passing faults are tried again for up to `patience_s` seconds.

    Raises Retryable when patience ends, Rejected if the answer is not JSON or too large.
    """
    headers = {"Authorization": f"Bearer {key}", **arguments.pop("headers", {})}
    deadline = asyncio.get_running_loop().time() + patience_s
    wait_s = _WAIT_FIRST_S
    while True:
        try:
            response = await client.request(method, url, headers=headers, **arguments)
        except httpx2.TransportError as error:
            fault = type(error).__name__
        else:
            if response.status_code not in _PASSING:
                return _answer(response)
            fault = f"HTTP {response.status_code}"
        if asyncio.get_running_loop().time() + wait_s > deadline:
            raise Retryable(f"{method} {url}: {fault}, no success within {patience_s:.0f} s")
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _WAIT_MAX_S)


def _answer(response: httpx2.Response) -> Answer:
    if len(response.content) > ANSWER_BYTES_MAX:
        raise Rejected(f"an answer of {len(response.content)} bytes is more than can be meant")
    if not response.content:
        return Answer(response.status_code, {})
    try:
        body = response.json()
    except ValueError:
        body = {}
    return Answer(response.status_code, body if isinstance(body, dict) else {"body": body})
