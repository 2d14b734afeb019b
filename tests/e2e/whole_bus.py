"""The whole bus as processes, driven from tests: start, stop, one service at a time, and who asks.

The bus runs on an event loop of its own thread, so tests stay plain functions and may block.
Every HTTP answer is kept, with who got it: what leaked into an answer can be found later.
"""

from __future__ import annotations

import asyncio
import io
import json
import signal
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import httpx2 as httpx
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from e2e.kafka_reading import read_all
from e2e.waiting import until
from shutong_cli.stack import Stack, running
from shutong_cli.voice import Voice
from shutong_core.runtime.settings import Settings

LIST = Path(__file__).with_name("list.yaml")
DATASETS, LANES = ("aid-decision", "licence-event", "gauge-reading"), 3
SERVICES = ("control", "auditor", "broker", "producer", "consumer")
START_S, STOP_S = 90.0, 60.0


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: who asked, for what, and all of it that came back."""

    who: str
    service: str
    path: str
    status: int
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw.partition(b"\r\n\r\n")[2])


@dataclass
class Bus:
    """One data directory, on which the bus is started and stopped."""

    settings: Settings
    list_file: Path = LIST
    answers: list[Answer] = field(default_factory=list)
    said: io.StringIO = field(default_factory=io.StringIO)
    keys: dict[str, str] = field(default_factory=dict)
    stack: Stack | None = None
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=40, trust_env=False))

    def start(self) -> None:
        """Start everything; returns when every service is ready."""
        self._loop = asyncio.new_event_loop()
        self._begun, self._fault = threading.Event(), None
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)
        self._thread.start()
        assert self._begun.wait(START_S), "the bus did not start"
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Stop everything, as Ctrl-C does."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(STOP_S)
            assert not self._thread.is_alive(), "the bus did not stop"
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._main())
            except BaseException as fault:
                self._fault = fault
            finally:
                self.stack = None
                self._begun.set()

    async def _main(self) -> None:
        self._ending = asyncio.Event()
        voice = Voice(Console(file=self.said, width=200))
        async with running(self.settings, self.list_file, voice, any_port=True) as self.stack:
            self._begun.set()
            await self._ending.wait()

    def call(self, work: Coroutine[Any, Any, Any], seconds: float = 60.0) -> Any:
        """The result of `work`, done on the bus's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    # What is running.

    @property
    def up(self) -> Stack:
        assert self.stack is not None, "the bus does not run"
        return self.stack

    @property
    def bootstrap(self) -> str:
        return str(self.up.node.client["bootstrap_servers"])

    @property
    def topics(self) -> Any:
        return self.up.node.topics

    def url(self, service: str) -> str:
        return self.up.url(service)

    def admin(self, service: str) -> str:
        return next(plan.admin_url for plan in self.up.supervisor.plans if plan.name == service)

    def log_files(self) -> list[Path]:
        return sorted((self.settings.data_dir / "logs").glob("*.log"))

    def end_service(self, name: str, seconds: float) -> int:
        """SIGTERM to one service; its exit code. AssertionError if it takes longer."""
        child = self.up.supervisor._children[name]
        child.send_signal(signal.SIGTERM)
        return int(self.call(asyncio.wait_for(child.wait(), seconds), seconds + 1))

    def start_service(self, name: str) -> None:
        """Start one service again where it was; returns when it is ready."""
        supervisor = self.up.supervisor
        plan = next(plan for plan in supervisor.plans if plan.name == name)
        self.call(supervisor.start(plan))
        self.call(supervisor.ready())

    def schemas(self) -> dict[int, Any]:
        """Registered schemas by id, as fastavro reads them."""
        return {row["id"]: row["parsed"] for row in self._registered()}

    def schema(self, topic: str) -> tuple[int, Any]:
        """Id and schema of the newest version for a topic (without prefix)."""
        subject = f"{self.topics.prefix}.{topic}-value"
        found = [row for row in self._registered() if row["subject"] == subject]
        newest = max(found, key=lambda row: row["version"])
        return newest["id"], newest["parsed"]

    def _registered(self) -> list[dict[str, Any]]:
        rows = [json.loads(each.value) for each in read_all(self.bootstrap, [self.topics.schemas])]
        for row in rows:
            row["parsed"] = fastavro.parse_schema(json.loads(row["schema"]))
        return rows

    # Who asks.

    def key(self, system: str) -> str:
        """An API key of `system`."""
        if system not in self.keys:
            self.keys[system] = self.up.node.keyring.issue_api_key(system)
        return self.keys[system]

    def ask(
        self,
        who: str,
        service: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        admin: bool = False,
    ) -> Answer:
        """One request by system `who` ("" = nobody); the answer is kept."""
        base = self.admin(service) if admin else self.url(service)
        given = dict(headers or {})
        if who:
            given.setdefault("Authorization", f"Bearer {self.key(who)}")
        method = "GET" if body is None else "POST"
        found = self.http.request(method, base + path, content=body, headers=given)
        head = "\r\n".join(f"{name}: {value}" for name, value in found.headers.items())
        raw = head.encode() + b"\r\n\r\n" + found.content
        answer = Answer(who, service, path, found.status_code, raw)
        self.answers.append(answer)
        return answer

    def publish(
        self, who: str, dataset: str, entries: list[dict[str, Any] | bytes], mode: str = ""
    ) -> Answer:
        """POST entries as NDJSON; bytes are sent as they are."""
        lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in entries]
        query = f"?mode={mode}" if mode else ""
        return self.ask(
            who,
            "producer",
            f"/v1/datasets/{dataset}/records{query}",
            body=b"\n".join(lines) + b"\n",
            headers={"Content-Type": "application/x-ndjson"},
        )

    def pull(self, who: str, grant: str, **query: Any) -> Answer:
        """One page of a grant."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return self.ask(who, "consumer", f"/v1/grants/{grant}/records?{asked}")

    def pull_all(self, who: str, grant: str) -> list[dict[str, Any]]:
        """Every record of a grant, from the start."""
        found: list[dict[str, Any]] = []
        query: dict[str, Any] = {}
        while True:
            answer = self.pull(who, grant, **query)
            assert answer.status == 200, answer.raw
            found += answer.json["records"]
            if answer.json["at_end"]:
                return found
            query = {"cursor": answer.json["next_cursor"]}

    def refusals(self, who: str) -> list[dict[str, Any]]:
        """All that GET /v1/refusals tells `who`."""
        found: list[dict[str, Any]] = []
        path = "/v1/refusals?limit=1000"
        while True:
            answer = self.ask(who, "producer", path)
            assert answer.status == 200, answer.raw
            found += answer.json["refusals"]
            if not answer.json["more"]:
                return found
            path = f"/v1/refusals?limit=1000&since={answer.json['next']}"

    def wait_decided(self, seconds: float = 40.0) -> None:
        """Wait until the lanes have decided every record there is."""
        topics = self.topics
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": topics.lanes_group})
        wanted = [
            TopicPartition(topics.inbound(dataset), lane)
            for dataset in DATASETS
            for lane in range(LANES)
        ]

        def decided() -> bool:
            behind = []
            for each in reader.committed(wanted, timeout=10):
                _, end = reader.get_watermark_offsets(each, timeout=10)
                behind.append(max(each.offset, 0) < end)
            return not any(behind)

        try:
            until(decided, seconds, "every record decided")
        finally:
            reader.close()

    def readiness(self, service: str) -> tuple[int, dict[str, Any]]:
        """(status, checks) of /readyz?verbose."""
        answer = self.ask("", service, "/readyz?verbose", admin=True)
        return answer.status, answer.json["checks"]
