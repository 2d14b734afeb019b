"""The HTTP interface of the consumer service: pages of a grant, receipts, problem documents."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shutong_consumer.answer import JSON, NDJSON, GuardedAnswer, page_body, wants_ndjson
from shutong_consumer.countersign import Countersigner, receipts_body
from shutong_consumer.frontdesk import FrontDesk
from shutong_consumer.pull import LIMIT_DEFAULT, LIMIT_MAX, WAIT_MS_MAX, Asked, Pull
from shutong_consumer.refused import MEDIA_TYPE, RequestRefused
from shutong_consumer.rights import Right
from shutong_core.audit.access import named
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.httpbody import BodyTooLarge, bounded_body
from shutong_core.runtime.metrics import Metrics

BODY_BYTES_MAX = 16 * 1024
BODY_S_MAX = 10.0
_DESCRIPTION = """\
An agency reads its own grants, page by page, and countersigns what it has read.

Each request carries `Authorization: Bearer <API key>`. A page's `next_cursor` is where the next one
begins; keep it together with what was made of the page, then every record counts exactly once. Each
record has its partition, offset, key, operation (put, correct, delete) and the granted items as
`data`. An error is a problem document (RFC 9457) with a `reason`; 429 and 503 may be repeated.
"""
_log = structlog.stdlib.get_logger(__name__)


class Interface:
    """The routes' common part: identity, bounds, traces of refusals, figures."""

    def __init__(
        self, desk: FrontDesk, pull: Pull, countersigner: Countersigner, metrics: Metrics
    ) -> None:
        self.desk = desk
        self.pull = pull
        self.countersigner = countersigner
        self.metrics = metrics

    async def answer(
        self,
        request: Request,
        action: str,
        grant: str,
        make: Callable[[str, str], Awaitable[Response]],
    ) -> Response:
        """`make(system, client)`'s answer, or the refusal's, once that was noted."""
        client = request.client.host if request.client is not None else ""
        begun, system = time.monotonic(), ""
        try:
            system = self.desk.identify(_one(request, "authorization"))
            with self.desk.inside(system):
                made = await make(system, client)
        except RequestRefused as refused:
            made = await self.refuse(refused, action, grant, system, client)
        except ClientDisconnect:
            made = Response(status_code=400)  # nobody is there to read it
        self.metrics.count("shutong_egress_requests_total", status=str(made.status_code))
        self.metrics.observe("shutong_egress_seconds", time.monotonic() - begun, mode=action)
        return made

    async def refuse(
        self, refused: RequestRefused, action: str, grant: str, system: str, client: str
    ) -> Response:
        """The problem document; a refusal for want of a right leaves its trace before."""
        if refused.of_right:
            version = self.desk.lists.version
            row = version.system(system) if version and system else None
            actor = f"{row.organisation}/{system}" if row else system
            known = version is not None and version.grant(grant) is not None
            target = f"grant/{named(grant, known=known)}"
            await self.desk.note_refusal(action, refused, client, actor, target)
        return problem(refused)

    def guarded(
        self, request: Request, action: str, right: Right, body: bytes, kind: str, count: int
    ) -> Response:
        """An answer that is let out as long as `right` holds; then counted."""
        grant, system = right.grant.id, right.caller.system
        client = request.client.host if request.client is not None else ""

        async def refuse(refused: RequestRefused) -> Response:
            return await self.refuse(refused, action, grant, system, client)

        def on_sent() -> None:
            if count:
                self.metrics.count("shutong_fetched_total", count, grant=grant, mode=action)

        return GuardedAnswer(body, kind, lambda: self.desk.still(right), refuse, on_sent)


def make_app(interface: Interface) -> FastAPI:
    """The ASGI application."""
    # No page that loads scripts from elsewhere: nodes often have no way out.
    app = FastAPI(
        title="Shutong 疏通 consumer",
        description=_DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    _handlers(app)
    _records_route(app, interface)
    _receipts_route(app, interface)
    return app


def _records_route(app: FastAPI, interface: Interface) -> None:
    @app.get("/v1/grants/{grant}/records", summary="取数 One page of a grant's records")
    async def records(
        request: Request,
        grant: Annotated[str, Path(description="共享许可编号 Grant id")],
        cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
        limit: Annotated[str | None, Query(description="1-1000, default 500")] = None,
        wait_ms: Annotated[str | None, Query(description="0-30000: wait for news")] = None,
        territory: Annotated[str | None, Query(description="代管多个区划时指明一个")] = None,
    ) -> Response:
        async def make(system: str, client: str) -> Response:
            asked = Asked(
                system=system,
                grant=grant,
                cursor=cursor,
                limit=_number("limit", limit, LIMIT_DEFAULT, 1, LIMIT_MAX),
                wait_s=_number("wait_ms", wait_ms, 0, 0, WAIT_MS_MAX) / 1000,
                territory=territory,
                client=client,
                gone=request.is_disconnected,
            )
            given = await interface.pull.page(asked)
            if await request.is_disconnected():
                raise ClientDisconnect
            kind = NDJSON if wants_ndjson(request.headers.get("accept")) else JSON
            body = page_body(given, kind)
            return interface.guarded(request, "pull", given.right, body, kind, len(given.lines))

        return await interface.answer(request, "pull", grant, make)


def _receipts_route(app: FastAPI, interface: Interface) -> None:
    @app.post("/v1/grants/{grant}/receipts", summary="签收 Countersign up to a cursor")
    async def receipts(
        request: Request,
        grant: Annotated[str, Path(description="共享许可编号 Grant id")],
    ) -> Response:
        async def make(system: str, client: str) -> Response:
            asked = await _posted(request)
            right = interface.desk.right(system, grant, asked.get("territory"))
            signed = await interface.countersigner.countersign(right, asked["cursor"], client)
            body = receipts_body(signed)
            return interface.guarded(request, "countersign", signed.right, body, JSON, 0)

        return await interface.answer(request, "countersign", grant, make)


async def _posted(request: Request) -> dict[str, str]:
    """The posted object: `cursor` and perhaps `territory`, both text. Raises RequestRefused."""
    try:
        found: Any = json.loads(await bounded_body(request, BODY_BYTES_MAX, BODY_S_MAX))
    except BodyTooLarge:
        raise RequestRefused(Reason.TOO_LARGE) from None
    except (TimeoutError, ValueError, RecursionError):
        found = None
    names = {"cursor", "territory"}
    if (
        not isinstance(found, dict)
        or not {"cursor"} <= set(found) <= names
        or not all(isinstance(value, str) for value in found.values())
    ):
        raise RequestRefused(
            Reason.BAD_REQUEST,
            '请求体应为 {"cursor": "…"}',
            'the body must be {"cursor": "…"}',
        )
    return found


def _number(name: str, text: str | None, default: int, least: int, most: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and least <= int(text) <= most):
        raise RequestRefused(
            Reason.BAD_REQUEST,
            f"参数 {name} 应为 {least} 到 {most} 的整数",
            f"parameter {name} must be a whole number from {least} to {most}",
        )
    return int(text)


def _one(request: Request, name: str) -> str | None:
    """A header that may stand there once; two of them count as none."""
    found = request.headers.getlist(name)
    return found[0] if len(found) == 1 else None


def problem(refused: RequestRefused) -> Response:
    """The refusal as an answer."""
    return JSONResponse(
        refused.document(), refused.status, headers=refused.headers(), media_type=MEDIA_TYPE
    )


def _handlers(app: FastAPI) -> None:
    async def on_invalid(_: Request, __: Exception) -> Response:
        return problem(RequestRefused(Reason.BAD_REQUEST))

    async def on_http(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        reason = Reason.NOT_FOUND if status == 404 else Reason.BAD_REQUEST
        return problem(RequestRefused(reason, status=status))

    async def on_defect(_: Request, error: Exception) -> Response:
        _log.error("request failed", exc_info=error)
        return problem(
            RequestRefused(Reason.KAFKA_UNAVAILABLE, "服务内部错误", "internal error", status=500)
        )

    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_defect)
