"""How much may come in at once: requests, bytes held, requests a second of one system.

Pure but for the clock it is given. Every table is bounded: a flood of names or addresses costs
no memory.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shutong_producer.refused import busy

#: Bytes of bodies held by all requests together; a parsed document counts eightfold.
HELD_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the door. Bytes are of request bodies; `rate_per_s` is of one system."""

    record_bytes_max: int = 900 * 1024
    request_bytes_max: int = 16 * 1024 * 1024
    json_bytes_max: int = 4 * 1024 * 1024  # one document: parsed as a whole, tenfold in memory
    request_records_max: int = 5_000
    requests_at_once_max: int = 64
    held_bytes_max: int = HELD_BYTES_MAX
    rate_per_s: float = 200
    body_s: float = 60.0  # to receive one body
    list_age_s_max: float = 30.0  # Kafka's last word on the list; what lets data OUT uses 3 s


class Rates:
    """Token buckets by name: `rate_per_s` on average, one second's worth at once."""

    def __init__(
        self, rate_per_s: float, clock: Callable[[], float], names_max: int = 10_000
    ) -> None:
        self._rate = rate_per_s
        self._burst = max(1.0, rate_per_s)
        self._clock = clock
        self._names_max = names_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """0 if `name` may go on (and takes a token), else seconds until it may."""
        now = self._clock()
        tokens, at = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[name] = (tokens - 1 if wait == 0 else tokens, now)
        while len(self._buckets) > self._names_max:
            self._buckets.popitem(last=False)
        return wait


class Gate:
    """Counts what is inside; `enter` raises RequestRefused (429) where a bound is reached."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._systems = Rates(bounds.rate_per_s, clock)
        self._requests = 0
        self._held_bytes = 0

    @property
    def requests(self) -> int:
        """Requests inside."""
        return self._requests

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies held."""
        return self._held_bytes

    def pace(self, system: str) -> None:
        """Count one request of `system`. Raises RequestRefused if it sends too many a second."""
        wait = self._systems.wait_s(system)
        if wait:
            raise busy(retry_after_s=max(1, math.ceil(wait)))

    @contextmanager
    def enter(self) -> Iterator[Hold]:
        """One request's stay; the hold counts its bytes and gives them back at the end."""
        if self._requests >= self._bounds.requests_at_once_max:
            raise busy("同时处理的请求已满，请稍后再试", "too many requests at once")
        self._requests += 1
        hold = Hold(self)
        try:
            yield hold
        finally:
            self._requests -= 1
            hold.give_back(hold.bytes)

    def take_bytes(self, count: int) -> None:
        """Count bytes held. Raises RequestRefused when all requests together hold too many."""
        if self._held_bytes + count > self._bounds.held_bytes_max:
            raise busy("正在接收的数据过多，请稍后再试", "too many bytes are being received")
        self._held_bytes += count

    def give_bytes(self, count: int) -> None:
        """Bytes no longer held."""
        self._held_bytes -= count


class Hold:
    """Bytes that one request holds."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.bytes = 0

    def take(self, count: int) -> None:
        """Hold `count` more bytes. Raises RequestRefused."""
        self._gate.take_bytes(count)
        self.bytes += count

    def give_back(self, count: int) -> None:
        """Hold `count` bytes less."""
        count = min(count, self.bytes)
        self._gate.give_bytes(count)
        self.bytes -= count
