"""HTTP routes that do more than look: sheets, certificates, reconciliation, events.

Whatever leaves as a document is an act: on record before it is given out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shutong_auditor.access_rights import Asker, Refused
from shutong_auditor.app import Desk, asker_for, guarded, number_of, question_of
from shutong_auditor.index.events import COLUMNS, EventQuestion, events
from shutong_auditor.index.questions import LINES_MAX, Span, matrix, spans, sums
from shutong_auditor.postedbody import posted_object
from shutong_auditor.reconcile import GrantDay
from shutong_auditor.sheet import KINDS, sheet_bytes
from shutong_auditor.supply import certificate_body
from shutong_core.audit.acts import ActName
from shutong_core.audit.certificate import encode_certificate
from shutong_core.audit.signednote import Sign
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import ListVersion

_NO_STORE = {"Cache-Control": "no-store"}
_DAY = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
FRESH_S_MAX = 10.0
_DAY_HEADS = ("grant", "audited", "in_topic", "acknowledged", "differences")


@dataclass(frozen=True, slots=True)
class Office:
    """What the routes below need beside the desk.

    `fresh(within_s)`: whether the index has all that stands in the audit; `compare(day, spans)`:
    the reconciliation.
    """

    desk: Desk
    cluster: str
    key_id: str
    sign: Sign
    fresh: Callable[[float], Awaitable[bool]]
    compare: Callable[[str, Sequence[Span]], Awaitable[list[GrantDay]]]


def act_routes(office: Office) -> list[Route]:
    """The routes."""
    answers = _Office(office)
    desk = office.desk
    return [
        Route("/v1/audit/events", guarded(desk, "audit.events", answers.events)),
        Route("/v1/audit/reconcile", guarded(desk, "audit.reconcile", answers.reconcile)),
        Route("/v1/audit/exports", guarded(desk, "audit.sheet", answers.export)),
        Route(
            "/v1/audit/certificates",
            guarded(desk, "audit.certify", answers.certificate),
            methods=["POST"],
        ),
    ]


class _Office:
    def __init__(self, office: Office) -> None:
        self._office = office
        self._desk = office.desk
        self._comparing = asyncio.Lock()

    async def events(self, request: Request) -> Response:
        asker = asker_for(self._desk, request)
        found, more = await self._events(asker, request)
        return JSONResponse({"events": found, "more": more}, headers=_NO_STORE)

    async def reconcile(self, request: Request) -> Response:
        asker = asker_for(self._desk, request)
        day = _day(request.query_params.get("day"), "day")
        found = await self._compared(asker, day)
        answer = {
            "day": day,
            "ok": not any(each.differences for each in found),
            "grants": [_told(each) for each in found],
        }
        return JSONResponse(answer, headers=_NO_STORE)

    async def export(self, request: Request) -> Response:
        """`question`: search, matrix, reconcile or events; `format`: csv, xlsx or json."""
        asker = asker_for(self._desk, request)
        what = request.query_params.get("question", "search")
        kind = request.query_params.get("format", "csv")
        if kind not in KINDS:
            raise Rejected(f"format: there are {', '.join(KINDS)}")
        heads, lines, more = await self._table(asker, what, request)
        if more:
            raise Rejected(f"超过 {LINES_MAX} 行，请缩小范围。 More than {LINES_MAX} lines.")
        data = await asyncio.to_thread(sheet_bytes, kind, heads, lines)
        detail = f"{kind}, {len(data)} bytes"
        await self._desk.on_record(ActName.AUDIT_SHEET, asker, f"question/{what}", detail, request)
        name = f'attachment; filename="shutong-{what}.{kind}"'
        headers = {**_NO_STORE, "Content-Disposition": name}
        return Response(data, media_type=KINDS[kind], headers=headers)

    async def certificate(self, request: Request) -> Response:
        """Body: {"organisation", "first_day", "last_day"}."""
        asker = asker_for(self._desk, request)
        asked = await posted_object(request)
        if set(asked) != {"organisation", "first_day", "last_day"}:
            raise Rejected("the body has exactly organisation, first_day, last_day")
        organisation = str(asked["organisation"])[:18]
        first, last = _day(asked["first_day"], "first_day"), _day(asked["last_day"], "last_day")
        if last < first:
            raise Rejected("last_day is before first_day")
        asker.about(organisation)
        await self._require_fresh()
        desk, office = self._desk, self._office
        body = await asyncio.to_thread(
            certificate_body,
            desk.engine,
            self._version(),
            office.cluster,
            desk.data_dir,
            (organisation, first, last),
            int(time.time() * 1000),
        )
        data = encode_certificate(body, office.key_id, office.sign)
        await desk.on_record(
            ActName.AUDIT_CERTIFY,
            asker,
            f"organisation/{organisation}",
            f"{first} to {last}",
            request,
        )
        return Response(data, 201, headers=_NO_STORE, media_type="application/json")

    async def _table(
        self, asker: Asker, what: str, request: Request
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]], bool]:
        engine = self._desk.engine
        if what == "search":
            question = asker.narrowed(question_of(request))
            by = request.query_params.get("by", "day,grant_id,verdict").split(",")
            answer = await asyncio.to_thread(sums, engine, question, by, LINES_MAX)
            return answer.columns, answer.lines, answer.more
        if what == "matrix":
            question = asker.narrowed(question_of(request))
            answer = await asyncio.to_thread(matrix, engine, question)
            return answer.columns, answer.lines, answer.more
        if what == "reconcile":
            day = _day(request.query_params.get("day"), "day")
            found = await self._compared(asker, day)
            return _DAY_HEADS, [_line(each) for each in found], False
        if what == "events":
            rows, more = await self._events(asker, request, LINES_MAX)
            return COLUMNS, [[row[name] for name in COLUMNS] for row in rows], more
        raise Rejected("question: there are search, matrix, reconcile, events")

    async def _events(
        self, asker: Asker, request: Request, limit: int | None = None
    ) -> tuple[list[dict[str, Any]], bool]:
        asked = request.query_params

        def text(name: str) -> str | None:
            found = asked.get(name)
            if found is not None and not 0 < len(found) <= 200:
                raise Rejected(f"{name}: 1 to 200 characters")
            return found

        actor = text("actor")
        if not asker.everything:
            # What its own systems asked and did.
            if actor is not None and actor.partition("/")[0] != asker.organisation:
                raise Refused(Reason.NOT_YOUR_AUDIT, 403, asker.actor)
            actor = actor or asker.organisation
        question = EventQuestion(
            first_day=_day(asked["from"], "from") if "from" in asked else None,
            last_day=_day(asked["to"], "to") if "to" in asked else None,
            actor=actor,
            action=text("action"),
            target=text("target"),
            refused=asked["refused"] == "true" if "refused" in asked else None,
        )
        limit = number_of(request, "limit", 1_000) if limit is None else limit
        skip = number_of(request, "skip", 0)
        return await asyncio.to_thread(events, self._desk.engine, question, limit, skip)

    async def _compared(self, asker: Asker, day: str) -> list[GrantDay]:
        if self._comparing.locked():
            raise Refused(Reason.TOO_MANY, 429)  # each reads a day of every delivery topic
        async with self._comparing:
            await self._require_fresh()
            mine = asker.grants(self._version())
            found = await asyncio.to_thread(spans, self._desk.engine, day)
            wanted = [span for span in found if mine is None or span.grant in mine]
            try:
                return await self._office.compare(day, wanted)
            except Retryable:
                raise Refused(Reason.KAFKA_UNAVAILABLE, 503) from None

    async def _require_fresh(self) -> None:
        if not await self._office.fresh(FRESH_S_MAX):
            raise Refused(Reason.KAFKA_UNAVAILABLE, 503)

    def _version(self) -> ListVersion:
        version = self._desk.lists.version
        if version is None:
            raise Refused(Reason.LIST_LEASE_LOST, 503)
        return version


def _told(each: GrantDay) -> dict[str, Any]:
    differences = [{"zh": zh, "en": en} for zh, en in each.differences]
    return {**asdict(each), "differences": differences}


def _line(each: GrantDay) -> list[Any]:
    told = "; ".join(f"{zh} {en}" for zh, en in each.differences)
    return [each.grant, each.audited, each.in_topic, each.acknowledged, told]


def _day(text: object, name: str) -> str:
    if not isinstance(text, str) or _DAY.fullmatch(text) is None:
        raise Rejected(f"{name}: a day is YYYY-MM-DD")
    return text
