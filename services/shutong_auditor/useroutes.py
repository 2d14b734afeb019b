"""HTTP routes of records of use: a requester files about its own grant, those concerned read."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shutong_auditor.access_rights import Asker, Refused
from shutong_auditor.app import Desk, asker_for, guarded, number_of
from shutong_auditor.postedbody import posted_object
from shutong_auditor.userecords import Filed, Use, UseRecords, filed, parse_use
from shutong_core.audit.acts import ActName
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.version import ListVersion

_NO_STORE = {"Cache-Control": "no-store"}


def use_routes(desk: Desk, records: UseRecords, table: RegionTable) -> list[Route]:
    """`/v1/use-records`: POST files one, GET lists those that the caller may read."""
    answers = _Uses(desk, records, table)
    path = "/v1/use-records"
    return [
        Route(path, guarded(desk, "use.file", answers.file), methods=["POST"]),
        Route(path, guarded(desk, "use.read", answers.find), methods=["GET"]),
    ]


class _Uses:
    def __init__(self, desk: Desk, records: UseRecords, table: RegionTable) -> None:
        self._desk = desk
        self._records = records
        self._table = table

    async def file(self, request: Request) -> Response:
        asker = asker_for(self._desk, request)
        use = parse_use(await posted_object(request))
        record = self._filed(asker, use)
        detail = f"use-record {record.id} sha256 {record.digest}"
        await self._desk.on_record(ActName.USE_RECORD, asker, f"grant/{use.grant}", detail, request)
        await asyncio.to_thread(self._records.add, record)
        answer = {"id": record.id, "at_ms": record.at_ms, "digest": record.digest}
        return JSONResponse(answer, 201, headers=_NO_STORE)

    async def find(self, request: Request) -> Response:
        asker = asker_for(self._desk, request)
        version = self._version()
        everyone = await asyncio.to_thread(self._records.organisations)
        sides = asker.reads_use_of(version, self._table, everyone)
        grant = request.query_params.get("grant")
        if grant is not None and not 0 < len(grant) <= 48:
            raise Rejected("grant: 1 to 48 characters")
        skip = number_of(request, "skip", 0)
        found, more = await asyncio.to_thread(self._records.find, sides, grant, skip)
        return JSONResponse({"records": found, "more": more}, headers=_NO_STORE)

    def _filed(self, asker: Asker, use: Use) -> Filed:
        """Only who receives by a grant says how it was used; a town by its class grant too."""
        version = self._version()
        grant = version.grant(use.grant)
        dataset = version.dataset(grant.dataset) if grant else None
        if grant is None or dataset is None or not self._receives(version, asker, use.grant):
            raise Refused(Reason.NOT_YOUR_GRANT, 403, asker.actor)
        now_ms = int(time.time() * 1000)
        side = (dataset.id, dataset.provider)
        return filed(use, asker.actor, asker.organisation, side, now_ms)

    def _receives(self, version: ListVersion, asker: Asker, grant_id: str) -> bool:
        grant, me = version.grant(grant_id), version.organisation(asker.organisation)
        if grant is None or me is None:
            return False
        if grant.requester_class is None:
            return grant.requester == asker.organisation
        asked = grant.requester_class
        code = self._table.normalise(me.region) or ""
        within = self._table.normalise(asked.within) or ""
        named = code in {self._table.normalise(each) for each in asked.also}
        level = self._table.get(code)
        of_level = level is not None and level.level.name.lower() == asked.level
        return named or (of_level and self._table.contains(within, code))

    def _version(self) -> ListVersion:
        version = self._desk.lists.version
        if version is None:
            raise Refused(Reason.LIST_LEASE_LOST, 503)
        return version
