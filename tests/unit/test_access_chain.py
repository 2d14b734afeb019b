"""Access events chain per process, so that none is dropped or altered without a trace."""

from __future__ import annotations

import dataclasses

import pytest
from bus_schemas import codec

from shutong_core.audit.access import (
    NO_ID,
    TEXT_CHARS_MAX,
    AccessChain,
    AccessVerifier,
    Act,
    event_hash,
    named,
)
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire.busrecords import AccessEvent

CODEC = codec()
REFUSED = Act(
    at_ms=1_780_000_000_000,
    actor="11330100002489514D/social-1",
    action="pull",
    target="deaths-city",
    refused=Reason.NOT_YOUR_GRANT,
    client="127.0.0.1",
)


def _decode(data: bytes) -> AccessEvent:
    return CODEC.decode_as(AccessEvent, data)


def _events(count: int, process: str = "ab" * 16) -> list[bytes]:
    chain, out = AccessChain("consumer", process), []
    for number in range(count):
        encoded, chain = chain.next(
            dataclasses.replace(REFUSED, at_ms=REFUSED.at_ms + number), CODEC.encode
        )
        out.append(encoded)
    return out


def _faults(events: list[bytes]) -> list[str]:
    verifier = AccessVerifier(_decode)
    return [fault for event in events if (fault := verifier.feed(event)) is not None]


def test_an_event_says_who_asked_what_and_why_it_was_refused():
    event = _decode(_events(1)[0])
    assert (event.sequence, event.previous) == (1, bytes(32))
    assert (event.actor, event.action, event.target) == (REFUSED.actor, "pull", "deaths-city")
    assert event.reason == Reason.NOT_YOUR_GRANT.number
    assert event.detail == "[127.0.0.1]"


def test_each_event_holds_the_hash_of_the_one_before():
    first, second = _events(2)
    assert _decode(second).previous == event_hash(first)


def test_an_act_that_was_not_refused_has_reason_0():
    encoded, _ = AccessChain("cli", "x").next(Act(1, "root", "halt all"), CODEC.encode)
    assert _decode(encoded).reason == 0


def test_the_chain_itself_does_not_move_until_taken_over():
    chain = AccessChain("consumer", "p")
    assert chain.next(REFUSED, CODEC.encode) == chain.next(REFUSED, CODEC.encode)
    assert chain.sequence == 0


def test_what_a_client_sends_does_not_grow_the_log_at_will():
    long = dataclasses.replace(REFUSED, actor="x" * 9999, detail="y" * 9999)
    event = _decode(AccessChain("consumer", "p").next(long, CODEC.encode)[0])
    assert len(event.actor) == len(event.detail) == TEXT_CHARS_MAX


def test_whole_chains_of_several_processes_verify():
    one, two = _events(3, "a"), _events(3, "b")
    assert _faults([one[0], two[0], two[1], one[1], one[2], two[2]]) == []


@pytest.mark.parametrize("change", ["drop", "swap", "repeat", "alter", "garbage"])
def test_every_tampering_shows(change):
    events = _events(4)
    if change == "drop":
        del events[1]
    elif change == "swap":
        events[1], events[2] = events[2], events[1]
    elif change == "repeat":
        events.insert(1, events[1])
    elif change == "alter":
        event = dataclasses.replace(_decode(events[1]), actor="somebody/else")
        events[1] = CODEC.encode(event)
    else:
        events[1] = b"garbage"
    assert _faults(events)


def test_the_number_of_processes_is_bounded():
    verifier = AccessVerifier(_decode, processes_max=1)
    verifier.feed(_events(1, "a")[0])
    with pytest.raises(Rejected):
        verifier.feed(_events(1, "b")[0])


@pytest.mark.parametrize(
    "asked",
    ["", "x" * 49, "a\nb", "a\n", "\x1b[2J", "低保", "A", "11010519491231002x", "13800138000"],
)
def test_what_was_asked_for_is_named_only_if_it_can_be_an_id(asked: str) -> None:
    assert named(asked, known=False) == NO_ID
    assert named("minimum-living-2026", known=False) == "minimum-living-2026"
    assert named("grant-114414240000000115", known=True) == "grant-114414240000000115"
