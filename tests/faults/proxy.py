"""A TCP proxy that understands Kafka's framing: hold, drop, delay or cut by API key.

It listens on the port that `kafka.ports.advertised` names and forwards to `kafka.ports.proxied`, so
a client that bootstraps by `kafka.proxied_bootstrap_servers` stays behind it. Each request is a
4-byte length, then i16 API key, i16 version, i32 correlation id; an answer is a length and the
correlation id, by which it is matched with its request on the same connection.

    async with KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy:
        held = proxy.hold(END_TXN)               # the next request waits
        await held.reached()
        proxy.cut()                              # the client sees its connection close
        held.release()                           # the broker sees the old request now
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP = 8, 9, 10, 11
HEARTBEAT, LEAVE_GROUP, SYNC_GROUP, API_VERSIONS = 12, 13, 14, 18
INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN = 22, 24, 25
END_TXN, TXN_OFFSET_COMMIT = 26, 28

FRAME_BYTES_MAX = 128 * 1024 * 1024
HOST = "127.0.0.1"
AFTER_HOLD_S = 0.5

Side = Literal["request", "response"]
Action = Literal["hold", "drop", "delay", "close", "edit"]


@dataclass(eq=False)
class Rule:
    """What happens to the `nth` to `nth + count - 1`-th frames of one API and side from now on.

    hold: kept until `release()`; then forwarded, even if the client closed its end meanwhile.
    drop: swallowed. delay: forwarded `seconds` later. close: swallowed, both ends are closed.
    edit: `change(frame)` is forwarded instead; the frame starts with the header, without length.
    """

    api_key: int
    side: Side
    action: Action
    nth: int = 1
    count: int = 1
    seconds: float = 0.0
    change: Callable[[bytes], bytes] | None = None
    seen: int = 0
    _hit: asyncio.Event = field(default_factory=asyncio.Event)
    _go: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, api_key: int, side: Side) -> bool:
        """Count the frame; True if the rule is for it."""
        if (api_key, side) != (self.api_key, self.side):
            return False
        self.seen += 1
        if self.nth <= self.seen < self.nth + self.count:
            self._hit.set()
            return True
        return False

    async def reached(self, timeout_s: float = 10) -> None:
        """Wait until a frame met the rule; TimeoutError says that the fault never happened."""
        async with asyncio.timeout(timeout_s):
            await self._hit.wait()

    @property
    def met(self) -> bool:
        """True once a frame met the rule."""
        return self._hit.is_set()

    def release(self) -> None:
        """Let held frames go on."""
        self._go.set()

    async def released(self) -> None:
        """Wait for `release()`."""
        await self._go.wait()


class _Connection:
    """One client connection and its twin to the broker."""

    def __init__(self, proxy: KafkaProxy, client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.broker: asyncio.StreamWriter | None = None
        self.apis: dict[int, int] = {}
        self.held = False

    async def run(self, from_client: asyncio.StreamReader) -> None:
        try:
            from_broker, self.broker = await asyncio.open_connection(HOST, self.proxy.target)
        except OSError:
            self.client.close()
            return
        back = asyncio.create_task(self._pump(from_broker, "response"))
        try:
            await self._pump(from_client, "request")
        finally:
            if self.held:
                # The client may be gone; the broker must still read what was let go.
                await asyncio.sleep(AFTER_HOLD_S)
            back.cancel()
            self.close()
            await asyncio.gather(back, return_exceptions=True)

    def close(self) -> None:
        for writer in (self.client, self.broker):
            if writer is not None:
                writer.close()

    async def _pump(self, source: asyncio.StreamReader, side: Side) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = struct.unpack(">i", await source.readexactly(4))[0]
                if not 0 <= size <= FRAME_BYTES_MAX:
                    break
                await self._carry(await source.readexactly(size), side)
        if side == "response":
            self.client.close()

    async def _carry(self, frame: bytes, side: Side) -> None:
        if side == "request":
            api_key, _, correlation = struct.unpack_from(">hhi", frame)
            self.apis[correlation] = api_key
        else:
            (correlation,) = struct.unpack_from(">i", frame)
            api_key = self.apis.pop(correlation, -1)
        self.proxy.log.append((side, api_key))
        rule = self.proxy.rule_for(api_key, side)
        if rule is None:
            await self._forward(frame, side)
        elif rule.action == "close":
            self.close()
        elif rule.action == "edit" and rule.change is not None:
            await self._forward(rule.change(frame), side)
        elif rule.action == "delay":
            await asyncio.sleep(rule.seconds)
            await self._forward(frame, side)
        elif rule.action == "hold":
            self.held = True
            await rule.released()
            await self._forward(frame, side)

    async def _forward(self, frame: bytes, side: Side) -> None:
        writer = self.broker if side == "request" else self.client
        if writer is None or writer.is_closing():
            return
        with contextlib.suppress(OSError):
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()


class KafkaProxy:
    """The proxy; an async context manager. `log` holds (side, api key) of every frame seen."""

    def __init__(self, listen: int, target: int) -> None:
        self.listen = listen
        self.target = target
        self.log: list[tuple[Side, int]] = []
        self._rules: list[Rule] = []
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> KafkaProxy:
        self._server = await asyncio.start_server(self._accept, HOST, self.listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        for rule in self._rules:
            rule.release()
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._connections.add(connection)
        try:
            await connection.run(reader)
        finally:
            self._connections.discard(connection)

    def rule_for(self, api_key: int, side: Side) -> Rule | None:
        """The first rule that the frame meets; every rule counts it."""
        met = [rule for rule in self._rules if rule.matches(api_key, side)]
        return met[0] if met else None

    def hold(self, api_key: int, side: Side = "request", nth: int = 1, count: int = 1) -> Rule:
        """Keep frames back until the rule's `release()`."""
        return self._add(Rule(api_key, side, "hold", nth, count))

    def drop(self, api_key: int, side: Side = "response", nth: int = 1, count: int = 1) -> Rule:
        """Swallow frames; the client waits until its own timeout."""
        return self._add(Rule(api_key, side, "drop", nth, count))

    def delay(
        self, api_key: int, seconds: float, side: Side = "request", nth: int = 1, count: int = 1
    ) -> Rule:
        """Forward frames `seconds` later; what follows on the connection waits behind them."""
        return self._add(Rule(api_key, side, "delay", nth, count, seconds))

    def close_at(self, api_key: int, side: Side = "response", nth: int = 1) -> Rule:
        """Close the connection instead of forwarding the frame."""
        return self._add(Rule(api_key, side, "close", nth))

    def edit(
        self, api_key: int, change: Callable[[bytes], bytes], side: Side = "response", nth: int = 1
    ) -> Rule:
        """Forward `change(frame)` instead, e.g. with another error code."""
        return self._add(Rule(api_key, side, "edit", nth, change=change))

    def _add(self, rule: Rule) -> Rule:
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Drop all rules; held frames go on."""
        for rule in self._rules:
            rule.release()
        self._rules.clear()

    def cut(self) -> None:
        """Close the clients' ends of all connections; held requests still reach the broker."""
        for connection in list(self._connections):
            connection.client.close()

    async def refuse(self) -> None:
        """Stop listening and cut everything, as a network that is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.held = False
            connection.close()

    async def accept_again(self) -> None:
        """Listen again after `refuse`."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.listen)

    def count(self, api_key: int, side: Side = "request") -> int:
        """How many frames of that API passed or were met."""
        return self.log.count((side, api_key))
