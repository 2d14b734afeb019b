"""OffsetFetch that waits for transactions under way (KIP-447), which aiokafka does not speak.

Without it Kafka tells the offset from before a transaction that was just committed, as long as
the mark of its end has not reached the group's own topic.
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

#: UNSTABLE_OFFSET_COMMIT: a transaction is about to move this offset.
UNSTABLE = 88


class _Answer(Response):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _Struct(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partitions", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class StableOffsetFetch(Request[_Struct]):  # type: ignore[misc]  # aiokafka is untyped
    """Asks for the offsets of one partition of each topic."""

    API_KEY = 9

    def __init__(self, group: str, topics: list[str], partition: int) -> None:
        self._group = group
        no_tags: dict[int, bytes] = {}
        self._topics = [(topic, [partition], no_tags) for topic in topics]

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        """For aiokafka's connection."""
        return request_struct_class(self._group, self._topics, True, {})


def offsets_told(answer: Any) -> tuple[dict[str, int], list[int]]:
    """Offset by topic (-1: none committed), and every error code that is not 0."""
    offsets: dict[str, int] = {}
    codes = [answer.error_code] if answer.error_code else []
    for name, partitions, _ in answer.topics:
        for _, offset, _, _, code, _ in partitions:
            offsets[name] = offset
            if code:
                codes.append(code)
    return offsets, codes
