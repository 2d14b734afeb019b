"""The producer service's HTTP interface in memory: no Kafka, everything else as in service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import httpx2

from shutong_core.audit.access import Act
from shutong_core.runtime.accesslog import AccessLog
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.wire.batches import RecordBatch
from shutong_core.wire.topics import Topics
from shutong_producer.app import make_app
from shutong_producer.desk import Desk, KeyLookup, ListSource
from shutong_producer.gate import Bounds
from shutong_producer.intake import Intake
from shutong_producer.outcome import Seal
from shutong_producer.quarantine import QuarantineTail
from unit.intake_world import DATASET, Keys, Lists, world

WORLD = world()
PATH = f"/v1/datasets/{DATASET}/records"
JSON, NDJSON, AVRO = "application/json", "application/x-ndjson", "application/avro"


class Writer:
    """Takes everything, or nothing."""

    def __init__(self) -> None:
        self.batches: list[RecordBatch] = []
        self.away = False

    async def write(self, batches: Sequence[RecordBatch], on_sent: Callable[[], None]) -> list[int]:
        if self.away:
            raise Unacknowledged("away")
        on_sent()
        self.batches += batches
        return [0 for _ in batches]

    @property
    def records(self) -> int:
        return sum(len(each.records) for each in self.batches)


class Access:
    """Remembers the acts."""

    def __init__(self) -> None:
        self.acts: list[Act] = []

    async def record(self, act: Act) -> bool:
        self.acts.append(act)
        return True


class FrontDoor:
    """The interface in memory."""

    def __init__(
        self, lists: ListSource | None = None, keys: KeyLookup | None = None, **bounds: Any
    ) -> None:
        self.writer, self.access = Writer(), Access()
        self.lists = lists or Lists(WORLD.version, WORLD.schemas)
        bounds.setdefault("rate_per_s", 1e6)
        access = cast(AccessLog, self.access)
        self.desk = Desk(self.lists, keys or Keys(), access, Bounds(**bounds))
        seal = Seal("cluster-1", "intake/1", lambda _: bytes(64))
        intake = Intake(self.desk, cast(AckedWriter, self.writer), Topics("t"), seal)
        self.tail = QuarantineTail({}, "t.quarantine")
        self.app = make_app(self.desk, intake, self.tail)

    @property
    def publisher(self) -> str:
        """Whose key is key-1."""
        return self.desk.identify("Bearer key-1", "")[1].publisher

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://bus")

    async def post(
        self, body: Any, kind: str = JSON, key: str = "key-1", path: str = PATH, **more: Any
    ) -> Any:
        """The answer to one POST."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        headers |= more.pop("headers", {})
        async with self.client() as http:
            return await http.post(path, content=body, headers=headers, **more)
