"""Fetch sessions: only what changed is named, a lost one begins anew (KIP-227)."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11

from shutong_broker.fetchwire import Bounds, FetchAnswer, FetchSession

BOUNDS = Bounds(500, 4_000, 2_000)


def asked(session: FetchSession, wanted: dict[str, int]) -> tuple[int, int, dict[str, int], Any]:
    """Session, epoch, what is named and what is forgotten, as aiokafka reads the request."""
    body = session.request(wanted, BOUNDS)
    read = FetchRequest_v11.decode(body)
    assert read.encode() == body
    assert (read.replica_id, read.max_wait_time, read.min_bytes) == (-1, 500, 1)
    assert (read.max_bytes, read.isolation_level, read.rack_id) == (4_000, 1, "")
    named = {}
    for topic, ((partition, epoch, offset, start, most),) in read.topics:
        assert (partition, epoch, start, most) == (3, -1, -1, 2_000)
        named[topic] = offset
    return read.session_id, read.session_epoch, named, read.forgotten_topics_data


def test_only_changes_are_named_once_a_session_stands() -> None:
    session = FetchSession(3)
    assert asked(session, {"a": 1, "b": 2}) == (0, 0, {"a": 1, "b": 2}, [])
    assert session.settle(FetchAnswer(0, 77, []))
    assert asked(session, {"a": 1, "b": 5, "c": 0}) == (77, 1, {"b": 5, "c": 0}, [])
    assert session.settle(FetchAnswer(0, 77, []))
    assert asked(session, {"b": 5}) == (77, 2, {}, [("a", [3]), ("c", [3])])


def test_without_a_free_slot_everything_is_named_each_time() -> None:
    session = FetchSession(3)
    for _ in range(2):
        assert asked(session, {"a": 1}) == (0, 0, {"a": 1}, [])
        assert session.settle(FetchAnswer(0, 0, []))


@pytest.mark.parametrize("code", [70, 71])
def test_a_forgotten_session_begins_anew_and_closes_the_old(code: int) -> None:
    session = FetchSession(3)
    asked(session, {"a": 1})
    session.settle(FetchAnswer(0, 77, []))
    asked(session, {"a": 1})
    assert not session.settle(FetchAnswer(code, 0, []))
    assert asked(session, {"a": 1}) == (77, 0, {"a": 1}, [])


def test_another_refusal_is_an_error_and_the_session_is_not_trusted_any_more() -> None:
    session = FetchSession(3)
    asked(session, {"a": 1})
    session.settle(FetchAnswer(0, 77, []))
    asked(session, {"a": 2})
    with pytest.raises(KafkaError):
        session.settle(FetchAnswer(-1, 0, []))
    assert asked(session, {"a": 2})[2] == {"a": 2}


def test_an_answer_says_what_aiokafka_reads_in_it() -> None:
    topics = [
        ("a", [(3, 0, 9, 8, 0, [(5, 2), (6, 4)], -1, b"batches")]),
        ("b", [(3, 1, -1, -1, -1, None, -1, b"")]),
    ]
    body = FetchResponse_v11(0, 0, 77, topics).encode()
    raw = BytesIO(b"\0\0\0\1" + body)  # aiokafka has read the correlation id
    raw.seek(4)
    answer = FetchAnswer.decode(raw)
    assert (answer.error, answer.session) == (0, 77)
    assert [tuple(each) for each in answer.partitions] == [
        ("a", 3, 0, ((5, 2), (6, 4)), b"batches"),
        ("b", 3, 1, (), b""),
    ]
    for end in range(len(body)):
        with pytest.raises(struct.error):
            FetchAnswer.decode(BytesIO(body[:end]))
