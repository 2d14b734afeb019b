"""HTTP routes of the schema registry, for Confluent clients as they are.

Every answer, errors and unknown paths included, is JSON of the registry's media type; a slash at
the end of a path does not matter. There is no authentication in this stage: schemas are no
secrets, and the listener is on loopback unless it has TLS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shutong_control.registry import (
    GLOBAL_LEVEL,
    MODE,
    Page,
    RegistryReader,
    RegistryRefused,
    not_permitted,
    unknown_route,
)
from shutong_core.runtime.httpbody import BodyTooLarge, bounded_body
from shutong_core.wire.findings import TEXT_BYTES_MAX
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.topics import Topics

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
BODY_BYTES_MAX = 2 * TEXT_BYTES_MAX + 64 * 1024
BODY_S_MAX = 10.0
_log = structlog.stdlib.get_logger(__name__)


class SchemaSource(Protocol):
    """The registered schemas; `runtime.listfeed.ListFeed` is one."""

    @property
    def registry(self) -> Registry:
        """All registrations."""
        ...

    @property
    def word_age_s(self) -> float:
        """Age of Kafka's word that nothing is missing; infinite before the first."""
        ...


#: Method and path template → the answer's JSON value.
_Answer = Callable[[RegistryReader, "_Asked"], Any]


class _Asked:
    """One request: path and query parameters, the posted object."""

    def __init__(self, request: Request, body: dict[str, Any]) -> None:
        self._request = request
        self.body = body

    def path(self, name: str) -> str:
        return str(self._request.path_params[name])

    def text(self, name: str) -> str | None:
        return self._request.query_params.get(name)

    def flag(self, name: str) -> bool:
        return (self.text(name) or "").lower() == "true"

    def page(self) -> Page:
        return Page(self._number("offset", 0), self._number("limit", -1))

    def _number(self, name: str, default: int) -> int:
        text = self.text(name) or ""
        plain = text.removeprefix("-")
        return int(text) if plain.isascii() and plain.isdecimal() and len(plain) < 10 else default


_GET: dict[str, _Answer] = {
    "/": lambda _, __: {},
    "/schemas/types": lambda _, __: ["AVRO"],
    "/schemas": lambda r, a: r.all_versions(
        a.text("subjectPrefix") or "", a.page(), latest_only=a.flag("latestOnly")
    ),
    "/schemas/ids/{id}": lambda r, a: r.schema_by_id(
        a.path("id"), with_max_id=a.flag("fetchMaxId")
    ),
    "/schemas/ids/{id}/schema": lambda r, a: _Raw(r.text_by_id(a.path("id"))),
    "/schemas/ids/{id}/versions": lambda r, a: r.versions_of_id(a.path("id"), a.text("subject")),
    "/schemas/ids/{id}/subjects": lambda r, a: r.subjects_of_id(a.path("id"), a.text("subject")),
    "/schemas/guids/{guid}": lambda r, a: r.schema_by_guid(a.path("guid")),
    "/schemas/guids/{guid}/ids": lambda r, a: r.ids_of_guid(a.path("guid")),
    "/subjects": lambda r, a: r.subjects(a.text("subjectPrefix") or "", a.page()),
    "/subjects/{subject}/versions": lambda r, a: r.versions(a.path("subject")),
    "/subjects/{subject}/versions/{version}": lambda r, a: r.version(
        a.path("subject"), a.path("version")
    ),
    "/subjects/{subject}/versions/{version}/schema": lambda r, a: _Raw(
        r.version_text(a.path("subject"), a.path("version"))
    ),
    "/subjects/{subject}/versions/{version}/referencedby": lambda r, a: r.referenced_by(
        a.path("subject"), a.path("version")
    ),
    "/config": lambda _, __: {"compatibilityLevel": GLOBAL_LEVEL},
    "/config/{subject}": lambda r, a: {
        "compatibilityLevel": r.level(a.path("subject"), default=a.flag("defaultToGlobal"))
    },
    "/mode": lambda _, __: {"mode": MODE},
    "/mode/{subject}": lambda _, __: {"mode": MODE},
    "/contexts": lambda _, __: ["."],
}
#: What is posted only to be compared.
_POST: dict[str, _Answer] = {
    "/subjects/{subject}": lambda r, a: r.lookup(a.path("subject"), a.body),
    "/subjects/{subject}/versions": lambda r, a: r.register(a.path("subject"), a.body),
    "/compatibility/subjects/{subject}/versions": lambda r, a: _compatible(r, a, None),
    "/compatibility/subjects/{subject}/versions/{version}": lambda r, a: _compatible(
        r, a, a.path("version")
    ),
}


class _Raw(str):
    """A text that is the body itself."""

    __slots__ = ()


def _compatible(reader: RegistryReader, asked: _Asked, version: str | None) -> dict[str, Any]:
    found = reader.compatibility(asked.path("subject"), version, asked.body)
    # Without `verbose` the real registry leaves the reasons out.
    return found if asked.flag("verbose") else {"is_compatible": found["is_compatible"]}


def make_registry_app(source: SchemaSource, topics: Topics) -> ASGIApp:
    """The ASGI application."""

    def endpoint(answer: _Answer) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            return await _answered(source, topics, request, answer)

        return handle

    routes = [Route(path, endpoint(answer), methods=["GET"]) for path, answer in _GET.items()]
    routes += [Route(path, endpoint(answer), methods=["POST"]) for path, answer in _POST.items()]

    async def on_http(request: Request, _: Exception) -> Response:
        # GET of what is not there, or a method that would change something.
        reads = request.method in ("GET", "HEAD", "OPTIONS")
        return _refused(unknown_route() if reads else not_permitted())

    async def on_defect(_: Request, error: Exception) -> Response:
        _log.error("request failed", exc_info=error)
        return _refused(RegistryRefused(50001, "Error in the backend data store"))

    app = Starlette(
        routes=routes, exception_handlers={404: on_http, 405: on_http, Exception: on_defect}
    )
    app.router.redirect_slashes = False
    return _Slashes(app)


async def _answered(
    source: SchemaSource, topics: Topics, request: Request, answer: _Answer
) -> Response:
    try:
        if source.word_age_s == float("inf"):
            raise RegistryRefused(50001, "The registered schemas were not read from Kafka yet")
        body = await _posted(request) if request.method == "POST" else {}
        reader = RegistryReader(source.registry, topics, full=_takes_new_fields(request))
        found = answer(reader, _Asked(request, body))
    except RegistryRefused as refused:
        return _refused(refused)
    return _json(found if isinstance(found, _Raw) else json.dumps(found, ensure_ascii=False))


def _takes_new_fields(request: Request) -> bool:
    """Whether the client knows GUIDs: it says so, or has a version that came with them."""
    accepts = request.headers.get("confluent-accept-unknown-properties", "")
    return accepts.lower() == "true" or "confluent-client-version" in request.headers


async def _posted(request: Request) -> dict[str, Any]:
    try:
        found: Any = json.loads(await bounded_body(request, BODY_BYTES_MAX, BODY_S_MAX))
    except BodyTooLarge:
        raise RegistryRefused(42201, "Invalid schema: too large") from None
    except (TimeoutError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RegistryRefused(42201, "Invalid schema: the body is not a JSON object")
    return found


def _refused(refused: RegistryRefused) -> Response:
    body = {"error_code": refused.code, "message": refused.message}
    return _json(json.dumps(body, ensure_ascii=False), refused.status)


def _json(text: str, status: int = 200) -> Response:
    return Response(text.encode(), status, media_type=MEDIA_TYPE)


class _Slashes:
    """Takes the slash off the end of a path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)
