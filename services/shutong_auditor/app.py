"""HTTP routes of the auditor: questions to the index, tree files for whoever verifies.

Hash tiles and checkpoints are public, as transparency logs are; entries and sums are by right.
Every refusal for want of a right is an event on `access`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shutong_auditor.access_rights import Asker, ListSource, Refused, asker_of
from shutong_auditor.index.questions import Answer, Question, matrix, sums
from shutong_auditor.treereader import CHECKPOINT, tree_directory
from shutong_core.audit.access import Act
from shutong_core.audit.acts import ActName
from shutong_core.audit.checkpoint import ACCESS, AUDIT
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import Level
from shutong_core.runtime.accesslog import AccessLog

_TILE = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?")
_TEXT_MAX = 64
#: Requests at once: each may go through years of sums, in a thread and a connection of its own.
REQUESTS_MAX = 16
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class Desk:
    """What answers: the list, API keys, the index, the trees, the log of refusals."""

    lists: ListSource
    lookup: Callable[[str], str | None]
    engine: Engine
    data_dir: Path
    access: AccessLog
    _inside: list[int] = field(default_factory=lambda: [0])

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """One request's stay. Raises Refused (429) where there are too many at once."""
        if self._inside[0] >= REQUESTS_MAX:
            raise Refused(Reason.TOO_MANY, 429)
        self._inside[0] += 1
        try:
            yield
        finally:
            self._inside[0] -= 1

    async def on_record(
        self, name: ActName, asker: Asker, target: str, detail: str, request: Request
    ) -> None:
        """Have an act written. Raises Refused (503): then it must not be done."""
        client = request.client.host if request.client else ""
        now_ms = int(time.time() * 1000)
        act = Act(now_ms, asker.actor, name.stored, target, detail=detail, client=client)
        if not await self.access.record(act):
            raise Refused(Reason.KAFKA_UNAVAILABLE, 503)


def make_app(desk: Desk, more: Sequence[Route] = ()) -> Starlette:
    """The ASGI application; `more`: routes of other modules."""
    answers = _Answers(desk)
    return Starlette(
        routes=[
            Route("/v1/audit/search", guarded(desk, "audit.search", answers.search)),
            Route("/v1/audit/matrix", guarded(desk, "audit.matrix", answers.levels)),
            Route(
                "/trees/{topic}/{number:int}/{path:path}",
                guarded(desk, "audit.tree", answers.tree_file),
            ),
            *more,
        ]
    )


class _Answers:
    """One method a route; each raises Refused or Rejected."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def search(self, request: Request) -> Response:
        question = asker_for(self._desk, request).narrowed(question_of(request))
        by = request.query_params.get("by", "day,grant_id,verdict").split(",")
        limit, skip = number_of(request, "limit", 1_000), number_of(request, "skip", 0)
        return lines_of(await asyncio.to_thread(sums, self._desk.engine, question, by, limit, skip))

    async def levels(self, request: Request) -> Response:
        question = asker_for(self._desk, request).narrowed(question_of(request))
        return lines_of(await asyncio.to_thread(matrix, self._desk.engine, question))

    async def tree_file(self, request: Request) -> Response:
        topic, number = str(request.path_params["topic"]), int(request.path_params["number"])
        name = str(request.path_params["path"])
        if topic not in (AUDIT, ACCESS):
            raise Refused(Reason.NOT_FOUND, 404)
        if name != CHECKPOINT:
            self._may_have(name, request)
        path = tree_directory(self._desk.data_dir, topic, number) / name
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError:
            raise Refused(Reason.NOT_FOUND, 404) from None
        if name == CHECKPOINT:
            return Response(data, media_type="text/plain; charset=utf-8")
        return Response(data, media_type="application/octet-stream", headers=_FOREVER)

    def _may_have(self, name: str, request: Request) -> None:
        found = _TILE.fullmatch(name)
        if found is None or not 0 < int(found[3] or 256) <= 256:
            raise Refused(Reason.NOT_FOUND, 404)
        if found[1] == "entries" and not (asker := asker_for(self._desk, request)).everything:
            raise Refused(Reason.NOT_YOUR_AUDIT, 403, asker.actor)


def guarded(
    desk: Desk, action: str, answer: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that turns refusals into answers, those for want of a right into events."""

    async def endpoint(request: Request) -> Response:
        try:
            with desk.inside():
                return await answer(request)
        except Refused as error:
            await _note(desk, action, error, request)
            return _problem(error.status, error.reason, error.reason.en)
        except Rejected as error:
            return _problem(400, Reason.BAD_REQUEST, str(error))

    return endpoint


def asker_for(desk: Desk, request: Request) -> Asker:
    """Who asks, by the list in force. Raises Refused."""
    return asker_of(request.headers.get("authorization"), desk.lookup, desk.lists)


def question_of(request: Request) -> Question:
    """The question in the query parameters. Raises Rejected for a value that cannot be one."""
    asked = request.query_params

    def text(name: str) -> str | None:
        found = asked.get(name)
        if found is not None and not 0 < len(found) <= _TEXT_MAX:
            raise Rejected(f"{name}: 1 to {_TEXT_MAX} characters")
        return found

    def day(name: str) -> str | None:
        found = text(name)
        if found is not None and not _DAY.fullmatch(found):
            raise Rejected(f"{name}: a day is YYYY-MM-DD")
        return found

    def level(name: str) -> int | None:
        found = text(name)
        return None if found is None else int(Level.named(found))

    return Question(
        first_day=day("from"),
        last_day=day("to"),
        organisation=text("organisation"),
        publisher=text("publisher"),
        provider=text("provider"),
        requester=text("requester"),
        dataset=text("dataset"),
        grant=text("grant"),
        list_number=number_of(request, "list", -1) if "list" in asked else None,
        verdict=text("verdict"),
        direction=text("direction"),
        giver=level("giver"),
        receiver=level("receiver"),
    )


def number_of(request: Request, name: str, default: int) -> int:
    """A whole number among the query parameters. Raises Rejected for anything else."""
    found = request.query_params.get(name)
    if found is None:
        return default
    if not found.isascii() or not found.isdigit() or len(found) > 12:
        raise Rejected(f"{name} is no number")
    return int(found)


def lines_of(answer: Answer) -> Response:
    """An answer of the index as JSON."""
    lines = [dict(zip(answer.columns, line, strict=True)) for line in answer.lines]
    return JSONResponse(
        {"lines": lines, "more": answer.more}, headers={"Cache-Control": "no-store"}
    )


def _problem(status: int, reason: Reason, detail: str) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "status": status,
        "reason": reason.name,
        "zh": reason.zh,
        "en": reason.en,
        "detail": detail,
    }
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers, media_type="application/problem+json")


async def _note(desk: Desk, action: str, error: Refused, request: Request) -> None:
    if error.status not in (401, 403):
        return  # for want of a right alone
    client = request.client.host if request.client else ""
    now_ms = int(time.time() * 1000)
    await desk.access.record(
        Act(
            now_ms, error.actor, action, refused=error.reason, detail=error.reason.en, client=client
        )
    )
