"""The chain of access events: refused and privileged requests and acts of administration.

Each start of a process has its own chain; an event holds the SHA-256 of the encoded event before
it, so that none can be dropped or altered later without a trace.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire.busrecords import AccessEvent

NO_EVENT = bytes(32)
#: Longest text of an event, in characters: what a client sends must not grow the log at will.
TEXT_CHARS_MAX = 500
#: Target of an event whose request named something that cannot be an id.
NO_ID = "(no id)"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}\Z")
#: As long as a telephone number: a person's number mistaken for an id must not stay for ever.
_LONG_NUMBER = re.compile(r"[0-9]{11}")


@dataclass(frozen=True, slots=True)
class Act:
    """What happened: who did or asked what, about what; `detail` holds no value of a record."""

    at_ms: int
    actor: str  # "<organisation>/<system>" or the principal, "" if unknown
    action: str
    target: str = ""
    refused: Reason | None = None
    detail: str = ""
    client: str = ""  # address of the client, stands before the detail


@dataclass(frozen=True, slots=True)
class AccessChain:
    """Where the chain of one process stands: `sequence` events, hash of the last."""

    service: str
    process: str  # unique for each start, in hexadecimal
    sequence: int = 0
    previous: bytes = NO_EVENT

    def next(self, act: Act, encode: Callable[[AccessEvent], bytes]) -> tuple[bytes, AccessChain]:
        """The encoded next event, the chain after it; take the chain over once it is written."""
        detail = f"[{act.client}] {act.detail}".rstrip() if act.client else act.detail
        event = AccessEvent(
            process=self.process,
            sequence=self.sequence + 1,
            previous=self.previous,
            at_ms=act.at_ms,
            service=self.service,
            actor=act.actor[:TEXT_CHARS_MAX],
            action=act.action[:TEXT_CHARS_MAX],
            target=act.target[:TEXT_CHARS_MAX],
            reason=act.refused.number if act.refused else 0,
            detail=detail[:TEXT_CHARS_MAX],
        )
        encoded = encode(event)
        after = AccessChain(self.service, self.process, event.sequence, event_hash(encoded))
        return encoded, after


def named(asked: str, *, known: bool) -> str:
    """The id that a request asked for, as an event may hold it; NO_ID where it is none.

    `known`: the list in force has it. Other text is the client's own and kept only if it has the
    form of an id and no long number in it.
    """
    plausible = _ID.match(asked) is not None and _LONG_NUMBER.search(asked) is None
    return asked if known or plausible else NO_ID


def event_hash(encoded: bytes) -> bytes:
    """SHA-256 of an event as stored: what the next one's `previous` holds."""
    return hashlib.sha256(encoded).digest()


class AccessVerifier:
    """Checks the chains of all processes in one pass. Memory: one position a process."""

    def __init__(self, decode: Callable[[bytes], AccessEvent], processes_max: int = 100_000):
        self._decode = decode
        self._processes_max = processes_max
        self._chains: dict[str, tuple[int, bytes]] = {}

    def feed(self, encoded: bytes, *, late: bool = False) -> str | None:
        """Takes the next stored event; returns what is wrong with it, in English, or None.

        `late`: earlier events are past their term, so a process may be taken up anywhere. Raises
        Rejected when there are more processes than this verifier may remember.
        """
        try:
            event = self._decode(encoded)
        except Rejected as error:
            return f"event cannot be read: {error}"
        sequence, previous = self._chains.get(event.process, (0, NO_EVENT))
        if event.process not in self._chains and len(self._chains) >= self._processes_max:
            raise Rejected(f"more than {self._processes_max} processes in topic access")
        begun = event.process in self._chains
        self._chains[event.process] = (event.sequence, event_hash(encoded))
        if late and not begun:
            return None
        where = f"process {event.process} event {event.sequence}"
        if event.sequence != sequence + 1:
            return f"{where}: event {sequence + 1} expected"
        if event.previous != previous:
            return f"{where}: does not follow the event before it"
        return None
