"""The HTTP interface of the producer service: routes, headers, problem documents, OpenAPI."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shutong_core.domain.reasons import Reason
from shutong_core.wire.cursor import CURSOR_CHARS_MAX, decode_cursor, encode_cursor
from shutong_producer import openapi
from shutong_producer.body import Posted
from shutong_producer.catalogue import datasets_document
from shutong_producer.desk import Desk
from shutong_producer.intake import Intake
from shutong_producer.quarantine import QuarantineTail
from shutong_producer.refusals import Gone
from shutong_producer.refused import MEDIA_TYPE, RequestRefused, bad_request

REFUSALS_LIMIT_MAX = 1_000
REASONS_MAX = 64
#: (status, seconds) of each finished request.
OnRequest = Callable[[int, float], None]
_log = structlog.stdlib.get_logger(__name__)


def make_app(
    desk: Desk, intake: Intake, tail: QuarantineTail, on_request: OnRequest = lambda *_: None
) -> ASGIApp:
    """The ASGI application."""
    # No page that loads scripts from elsewhere: nodes often have no way out.
    app = FastAPI(
        title="Shutong 疏通 producer",
        summary=openapi.SUMMARY,
        description=openapi.DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    _handlers(app)
    _publish_route(app, intake)
    _refusals_route(app, desk, tail)
    _datasets_route(app, desk, intake)
    _describe_security(app)
    return _Counted(app, on_request)


def _describe_security(app: FastAPI) -> None:
    plain = app.openapi

    def with_security() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {})["securitySchemes"] = openapi.SECURITY_SCHEMES
        return document

    app.openapi = with_security  # type: ignore[method-assign]


def _publish_route(app: FastAPI, intake: Intake) -> None:
    @app.post("/v1/datasets/{dataset}/records", **openapi.PUBLISH)
    async def publish(
        request: Request,
        dataset: Annotated[str, Path(description="数据资源编号 Dataset id")],
        mode: Annotated[str, Query(description=openapi.MODE)] = "all-or-nothing",
    ) -> Response:
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            # Two statements of one length: what smuggling lives on (RFC 9112 section 6.3).
            raise bad_request("请求体长度有两种说法", "the body's length is stated twice")
        posted = Posted(
            dataset=dataset,
            mode=mode,
            authorization=_one(request, "authorization"),
            content_type=_one(request, "content-type"),
            content_encoding=_one(request, "content-encoding"),
            content_length=_one(request, "content-length"),
            event_id=_text(_one(request, "x-event-id")),
            operation=_one(request, "x-operation"),
            client=_client(request),
            body=aiter(request.stream()),
        )
        return Response(await intake.publish(posted), media_type="application/json")


def _refusals_route(app: FastAPI, desk: Desk, tail: QuarantineTail) -> None:
    @app.get("/v1/refusals", **openapi.REFUSALS)
    async def refusals(
        request: Request,
        since: Annotated[str | None, Query(max_length=CURSOR_CHARS_MAX)] = None,
        limit: Annotated[int, Query(ge=1, le=REFUSALS_LIMIT_MAX)] = 100,
        reason: Annotated[
            list[str] | None, Query(max_length=REASONS_MAX, description=openapi.REASON)
        ] = None,
        exclude: Annotated[
            list[str] | None, Query(max_length=REASONS_MAX, description=openapi.EXCLUDE)
        ] = None,
    ) -> Response:
        _, caller = await _identified(request, desk, "refusals")
        if not tail.ready:
            raise RequestRefused(
                Reason.KAFKA_UNAVAILABLE,
                "退回记录正在读取，请稍后再试",
                "refusals are being read, try again later",
                retry_after_s=2,
            )
        position = decode_cursor(since) if since is not None else None
        if isinstance(position, Reason):
            raise RequestRefused(position)
        only, never = _reasons("reason", reason), _reasons("exclude", exclude)
        page = tail.index.page(
            caller.publisher,
            position,
            limit,
            lambda each: each not in never and (not only or each in only),
        )
        if isinstance(page, Gone):
            raise RequestRefused(Reason.CURSOR_GONE, more={"oldest": encode_cursor(page.oldest)})
        return JSONResponse(
            {
                "refusals": [each.document() for each in page.records],
                "next": encode_cursor(page.following),
                "more": page.more,
            }
        )


def _datasets_route(app: FastAPI, desk: Desk, intake: Intake) -> None:
    @app.get("/v1/datasets", **openapi.DATASETS)
    async def datasets(request: Request) -> Response:
        version, caller = await _identified(request, desk, "datasets")
        return JSONResponse(datasets_document(version, caller, intake, desk.bounds))


def _reasons(parameter: str, names: list[str] | None) -> frozenset[Reason]:
    """The reasons named, each alone or several with commas. Raises RequestRefused."""
    told = [name.strip() for each in names or () for name in each.split(",") if name.strip()]
    if any(name not in Reason.__members__ for name in told):
        raise bad_request(
            f"参数 {parameter} 应为退回原因代码，如 DUPLICATE",
            f"parameter {parameter} takes reason codes such as DUPLICATE",
        )
    return frozenset(Reason[name] for name in told)


async def _identified(request: Request, desk: Desk, action: str) -> Any:
    client = _client(request)
    try:
        return desk.identify(_one(request, "authorization"), client)
    except RequestRefused as refused:
        if refused.status < 500:
            await desk.note(action, refused.reason, client, actor="", target="")
        raise


def _one(request: Request, name: str) -> str | None:
    """A header that may stand there once. Raises RequestRefused for two of them."""
    found = request.headers.getlist(name)
    if len(found) > 1:
        raise bad_request(f"请求头 {name} 出现两次", f"header {name} stands there twice")
    return found[0] if found else None


def _text(raw: str | None) -> str | None:
    """A header sent as UTF-8; what is not stays as it is and is refused as an event id."""
    if raw is None:
        return None
    try:
        return raw.encode("latin-1").decode()
    except UnicodeError:
        return "\x00"


def _client(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _problem(refused: RequestRefused) -> Response:
    return JSONResponse(
        refused.document(), refused.status, headers=refused.headers(), media_type=MEDIA_TYPE
    )


def _handlers(app: FastAPI) -> None:
    async def on_refused(_: Request, error: Exception) -> Response:
        if not isinstance(error, RequestRefused):
            raise error
        return _problem(error)

    async def on_invalid(_: Request, error: Exception) -> Response:
        # FastAPI's own answer would repeat what was sent.
        names = {
            str(each["loc"][-1])[:40]
            for each in (error.errors() if isinstance(error, RequestValidationError) else ())
        }
        shown = ", ".join(sorted(names))
        return _problem(bad_request(f"参数有误：{shown}", f"wrong parameter: {shown}"))

    async def on_http(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = getattr(error, "headers", None) or {}
        if status == 404:
            return _problem(RequestRefused(Reason.NOT_FOUND))
        refused = RequestRefused(Reason.BAD_REQUEST, status=status)
        if status == 405:  # Starlette puts the methods that are taken into Allow
            allowed = headers.get("Allow", "")
            refused = bad_request(f"此地址请用 {allowed}", f"use {allowed} here", status)
        answer = _problem(refused)
        answer.headers.update(headers)
        return answer

    async def on_gone(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    async def on_defect(_: Request, error: Exception) -> Response:
        _log.error("request failed", error_type=type(error).__name__)
        refused = RequestRefused(
            Reason.KAFKA_UNAVAILABLE,
            "服务内部错误，结果未知，请用同一编号重试",
            "internal error: outcome unknown, retry with the same ids",
            status=500,
        )
        return _problem(refused)

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        RequestRefused: on_refused,
        RequestValidationError: on_invalid,
        HTTPException: on_http,
        ClientDisconnect: on_gone,
        Exception: on_defect,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


class _Counted:
    """Counts requests by status and time; keeps answers out of caches."""

    def __init__(self, app: ASGIApp, on_request: OnRequest) -> None:
        self._app = app
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"cache-control", b"no-store")]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._on_request(status, time.monotonic() - begun)
