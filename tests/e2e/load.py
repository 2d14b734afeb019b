"""A publisher and a subscriber that behave as they should while services come and go.

The publisher repeats a request of unknown outcome under the same ids; the subscriber moves its
cursor only after it took a page in. Then every record must arrive exactly once.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx

from e2e.kafka_reading import read_all
from e2e.samples import aid
from e2e.scene import decoded
from e2e.waiting import until
from e2e.whole_bus import Bus

GRANT, READER, WRITER = "aid-city", "city-medical", "city-civil"
BATCH = 10


class Load:
    """Publishes and pulls from `start` to `stop`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.published: list[str] = []
        self.pulled: Counter[str] = Counter()
        self.repeats = 0
        self._quit = threading.Event()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._cursor = self._end()
        self._faults: list[BaseException] = []

    @contextlib.contextmanager
    def running(self, seconds: float = 30.0) -> Iterator[None]:
        """Load while the block runs; afterwards all was decided and pulled."""
        self._writer.start()
        self._reader.start()
        until(lambda: self.pulled, seconds, "the first records arrive")
        try:
            yield
            before = len(self.published)
            until(lambda: len(self.published) > before, seconds, "publishing goes on")
            before = self.pulled.total()
            until(lambda: self.pulled.total() > before, seconds, "pulling goes on")
        finally:
            self._quit.set()
            self._writer.join(seconds)
        with contextlib.suppress(AssertionError):
            until(lambda: self.pulled.total() >= len(self.published), seconds, "all pulled")
        self._reader.join(seconds)
        assert not self._writer.is_alive()
        assert not self._reader.is_alive()
        assert not self._faults, self._faults

    def check(self) -> None:
        """Nothing lost, nothing doubled: by the subscriber's count and on the topic itself."""
        want = dict.fromkeys(self.published, 1)
        assert len(want) == len(self.published)
        assert dict(self.pulled) == want
        bus = self._bus
        topic = bus.topics.delivery(GRANT)
        on_topic = Counter(
            datum["case_no"] for _, datum in decoded(bus, read_all(bus.bootstrap, [topic]))
        )
        assert {case: on_topic[case] for case in want} == want

    def _write(self) -> None:
        with self._guarded(), httpx.Client(timeout=15, trust_env=False) as http:
            while not self._quit.is_set():
                entries = [aid() for _ in range(BATCH)]
                self._send(http, entries)
                self.published += [each["data"]["case_no"] for each in entries]
                time.sleep(0.05)

    def _send(self, http: httpx.Client, entries: list[dict[str, Any]]) -> None:
        body = b"".join(json.dumps(each).encode() + b"\n" for each in entries)
        end = time.monotonic() + 30
        while True:
            # Whether a request reached Kafka is not known when its answer does not come.
            with contextlib.suppress(httpx.HTTPError):
                answer = http.post(
                    f"{self._bus.url('producer')}/v1/datasets/aid-decision/records",
                    content=body,
                    headers=self._headers(WRITER) | {"Content-Type": "application/x-ndjson"},
                )
                if answer.status_code == 200:
                    return
                assert answer.status_code in {429, 500, 503}, answer.text
            assert time.monotonic() < end, "publishing does not go on"
            self.repeats += 1
            time.sleep(0.1)

    def _read(self) -> None:
        with self._guarded(), httpx.Client(timeout=15, trust_env=False) as http:
            while True:
                # Asked before: what is published later than this is read in the next round.
                last = self._quit.is_set() and not self._writer.is_alive()
                page = self._page(http, self._cursor)
                if page is not None:
                    self.pulled.update(each["data"]["case_no"] for each in page["records"])
                    self._cursor = page["next_cursor"]
                    done = self.pulled.total() >= len(self.published)
                    if last and page["at_end"] and done:
                        return
                if last and not hasattr(self, "_until"):
                    self._until = time.monotonic() + 20
                if last and time.monotonic() > self._until:
                    return

    def _page(self, http: httpx.Client, cursor: str | None) -> dict[str, Any] | None:
        query = f"&cursor={cursor}" if cursor else ""
        try:
            answer = http.get(
                f"{self._bus.url('consumer')}/v1/grants/{GRANT}/records?wait_ms=300{query}",
                headers=self._headers(READER),
            )
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
            assert answer.status_code in {429, 500, 503}, answer.text
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
        return None

    def _end(self) -> str:
        """The cursor behind everything that is there before the load."""
        cursor: str | None = None
        with httpx.Client(timeout=15, trust_env=False) as http:
            while True:
                page = self._page(http, cursor)
                assert page is not None
                cursor = page["next_cursor"]
                if page["at_end"]:
                    return str(cursor)

    def _headers(self, system: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._bus.key(system)}"}

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as fault:
            self._faults.append(fault)
