"""Reads GET /v1/refusals page by page: the client side of `shutong refusals`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from shutong_core.domain.errors import Rejected
from shutong_producer.fileclient import BusClient, OnFault, no_word

PAGE_RECORDS = 1_000
#: As many pages as the service's index can fill.
PAGES_MAX = 200
PATIENCE_S = 30.0
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Refusals:
    """Refusals as the service tells them, the cursor after them, whether there are more."""

    refusals: list[dict[str, Any]]
    following: str
    more: bool


async def fetch_refusals(
    url: str,
    key: str,
    *,
    since: str | None = None,
    day: str | None = None,
    reasons: Sequence[str] = (),
    exclude: Sequence[str] = (),
    trust_env: bool = True,
    on_fault: OnFault = no_word,
    client: httpx2.AsyncClient | None = None,
) -> Refusals:
    """Every refusal kept for the system with API key `key`, from cursor `since` on.

    `day` (`YYYY-MM-DD`, may go on as RFC 3339 does, UTC) leaves out what was refused before it.
    Raises Rejected if key, cursor or reasons are wrong, Retryable if the service stays away.
    """
    found: list[dict[str, Any]] = []
    http = client or httpx2.AsyncClient(timeout=_ANSWER_S, trust_env=trust_env)
    async with http:
        bus = BusClient(http, url.rstrip("/"), key, "", PATIENCE_S, on_fault)
        for _ in range(PAGES_MAX):
            answer = await bus.refusals(since, PAGE_RECORDS, reasons, exclude)
            page, since = answer.get("refusals"), answer.get("next")
            if not isinstance(page, list) or not isinstance(since, str):
                raise Rejected(
                    "无法识别的回答，请核对 --url。 The answer is not understood: check --url."
                )
            found += [each for each in page if day is None or str(each.get("at", "")) >= day]
            if not answer.get("more"):
                return Refusals(found, since, more=False)
    return Refusals(found, since or "", more=True)
