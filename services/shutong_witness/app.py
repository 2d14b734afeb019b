"""HTTP routes of a witness: C2SP tlog-witness, with the notes it keeps for whoever asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shutong_core.audit.checkpoint import TreeName, parse_origin
from shutong_core.audit.signednote import (
    NoteKey,
    Sign,
    cosign,
    signature_line,
    with_signatures,
)
from shutong_core.audit.witnessing import (
    REQUEST_BYTES_MAX,
    AddCheckpoint,
    Answer,
    NotCosigned,
    judge,
    parse_request,
)
from shutong_core.domain.errors import Rejected
from shutong_core.runtime.httpbody import BodyTooLarge, bounded_body
from shutong_core.runtime.metrics import Metrics
from shutong_witness.memory import WitnessMemory

BODY_S_MAX = 10.0
#: Media type of the size in a conflict (C2SP tlog-witness).
SIZE_TYPE = "text/x.tlog.size"
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Witness:
    """Its key, its memory, whom it trusts: auditor keys of a tree, none if it is not witnessed."""

    key: NoteKey
    sign: Sign
    memory: WitnessMemory
    keys: Callable[[TreeName], Sequence[NoteKey]]
    now_s: Callable[[], float] = time.time

    def add(self, request: AddCheckpoint) -> str:
        """The cosignature line. Raises NotCosigned; what is returned is on disk before."""
        origin = request.note.text.partition("\n")[0]
        try:
            keys = self.keys(parse_origin(origin))
        except Rejected as error:
            raise NotCosigned(Answer.UNKNOWN_LOG, str(error)) from error
        judge(request, self.memory.known(origin), keys)
        signature = cosign(request.note.text, self.key, self.sign, int(self.now_s()))
        try:
            self.memory.remember(origin, with_signatures(request.note, [signature]))
        except Rejected as error:
            raise NotCosigned(Answer.UNKNOWN_LOG, str(error)) from error
        return signature_line(signature)


def make_app(witness: Witness, metrics: Metrics) -> Starlette:
    """The ASGI application."""
    one_at_a_time = asyncio.Lock()

    async def add_checkpoint(request: Request) -> Response:
        try:
            asked = parse_request(await _body(request))
            # Comparing and remembering are one step: two requests must not both pass.
            async with one_at_a_time:
                line = await asyncio.to_thread(witness.add, asked)
        except Rejected as error:
            return _refused(NotCosigned(Answer.MALFORMED, str(error)), metrics)
        except NotCosigned as error:
            return _refused(error, metrics)
        metrics.count("shutong_witness_requests_total", answer="cosigned")
        return PlainTextResponse(line)

    async def note(request: Request) -> Response:
        found = witness.memory.note(request.query_params.get("origin", ""))
        if found is None:
            return PlainTextResponse("no such tree is known here\n", 404)
        return Response(found.encode(), media_type="text/plain; charset=utf-8")

    async def vkey(_: Request) -> Response:
        return PlainTextResponse(f"{witness.key.vkey}\n")

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/checkpoint", note),
            Route("/vkey", vkey),
        ]
    )


def _refused(error: NotCosigned, metrics: Metrics) -> Response:
    metrics.count("shutong_witness_requests_total", answer=error.answer.name.lower())
    _log.warning("not cosigned", code=error.answer.name.lower(), reason=str(error))
    if error.answer is Answer.CONFLICT:
        return Response(f"{error.known_size}\n", 409, media_type=SIZE_TYPE)
    return PlainTextResponse(f"{error}\n", error.answer.value)


async def _body(request: Request) -> bytes:
    """The body. Raises Rejected if it is too long or does not come in time."""
    try:
        return await bounded_body(request, REQUEST_BYTES_MAX, BODY_S_MAX)
    except BodyTooLarge:
        raise Rejected(f"more than {REQUEST_BYTES_MAX} bytes") from None
    except (TimeoutError, ClientDisconnect) as error:
        raise Rejected("the body did not come in time") from error
