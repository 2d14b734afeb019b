"""Lane state as rows of the compacted topic `lanes`: only what a transaction changed is written."""

from __future__ import annotations

from collections.abc import Mapping

from shutong_broker.state import ChainHead, Changes, LaneState
from shutong_core.domain.errors import Rejected
from shutong_core.wire.batches import KafkaRecord
from shutong_core.wire.busrecords import (
    HEAD_KEY,
    BusCodec,
    DatasetPosition,
    GrantPosition,
    LaneHead,
    dataset_key,
    grant_key,
)


class StateCodec:
    """Writes and reads the rows of one lane."""

    def __init__(self, codec: BusCodec) -> None:
        self._codec = codec

    def encode(self, changes: Changes, audit_from: int) -> list[KafkaRecord]:
        """The rows that `changes` puts; `audit_from` is the offset after the block before it."""
        head = LaneHead(changes.sequence, changes.header_hash, audit_from)
        rows = [KafkaRecord(HEAD_KEY, self._codec.encode(head))]
        for dataset, offset in sorted(changes.positions.items()):
            rows.append(
                KafkaRecord(dataset_key(dataset), self._codec.encode(DatasetPosition(offset)))
            )
        for grant, at in sorted(changes.chains.items()):
            value = self._codec.encode(GrantPosition(at.k, at.chain))
            rows.append(KafkaRecord(grant_key(grant), value))
        return rows

    def decode(self, rows: Mapping[bytes, bytes]) -> tuple[LaneState, int]:
        """The state in `rows`, with the offset from which the head's block is to be found.

        Raises Rejected if a row is of no known kind or cannot be read.
        """
        state, audit_from = LaneState(), 0
        for key, value in rows.items():
            kind, _, name = key.decode("ascii", "replace").partition("/")
            if key == HEAD_KEY:
                head = self._codec.decode_as(LaneHead, value)
                state.sequence, state.header_hash = head.sequence, head.header_hash
                audit_from = head.audit_offset
            elif kind == "p" and name:
                position = self._codec.decode_as(DatasetPosition, value)
                state.positions[name] = position.next_offset
            elif kind == "g" and name:
                chain = self._codec.decode_as(GrantPosition, value)
                state.chains[name] = ChainHead(chain.k, chain.chain)
            else:
                raise Rejected(f"a row of topic lanes has the unknown key {kind!r}")
        return state, audit_from
