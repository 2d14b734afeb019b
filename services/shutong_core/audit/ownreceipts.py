"""What an agency that reads Kafka itself may countersign: whole segments, their chains recomputed.

Feed it every record of its delivery topic in order, as read under read_committed. Nothing is ever
countersigned beyond a record that does not fit the chain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from shutong_core.audit.follow import ChainFollower, Event, Mismatch, Position, SegmentEnd
from shutong_core.audit.receipts import DeliveryReceipt
from shutong_core.domain.errors import Rejected

STATE_BYTES_MAX = 1024 * 1024
_FORMAT = "shutong-own-receipts-v1"


class ChainBroken(Exception):  # noqa: N818 - what it means for the agency
    """The records are not those that were placed: keep them, countersign nothing, tell the bus."""

    def __init__(self, mismatch: Mismatch) -> None:
        super().__init__(
            f"投放链在分道 {mismatch.lane} 第 {mismatch.k} 条处不符（{mismatch.wrong}）。"
            f" The delivery chain breaks at lane {mismatch.lane} record {mismatch.k}"
            f" ({mismatch.wrong}): expected {mismatch.expected[:16]}, found {mismatch.found[:16]}"
        )
        self.mismatch = mismatch


@dataclass(slots=True)
class OwnState:
    """Where to go on: next offset of each partition, where a segment begins; chain by lane.

    `signed`: up to which record each lane was countersigned.
    """

    offsets: dict[int, int] = field(default_factory=dict)
    lanes: dict[int, Position] = field(default_factory=dict)
    signed: dict[int, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The state as a file: JSON."""
        table = {
            "format": _FORMAT,
            "offsets": {str(each): offset for each, offset in sorted(self.offsets.items())},
            "lanes": {
                str(lane): {"k": at.k, "chain": at.chain.hex(), "signed": self.signed.get(lane, 0)}
                for lane, at in sorted(self.lanes.items())
            },
        }
        return json.dumps(table, indent=1).encode() + b"\n"


def parse_state(data: bytes) -> OwnState:
    """The state in `data`. Raises Rejected for anything else."""
    try:
        table = json.loads(data[: STATE_BYTES_MAX + 1])
        if table["format"] != _FORMAT or len(data) > STATE_BYTES_MAX:
            raise ValueError
        state = OwnState({int(each): int(at) for each, at in table["offsets"].items()})
        for name, lane in table["lanes"].items():
            chain = bytes.fromhex(lane["chain"])
            if len(chain) != 32 or lane["k"] < lane["signed"] or lane["signed"] < 0:
                raise ValueError
            state.lanes[int(name)] = Position(int(lane["k"]), chain)
            state.signed[int(name)] = int(lane["signed"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Rejected("this is no state of receipts") from None
    return state


class OwnReceipts:
    """One grant as one agency reads it. Memory: one position a lane."""

    def __init__(
        self, cluster: str, grant: str, agency: str, state: OwnState | None = None
    ) -> None:
        """`agency`: `<organisation>/<system>`. Without `state` every partition begins anew."""
        self._cluster = cluster
        self._grant = grant
        self._agency = agency
        self._state = state or OwnState()
        self._followers: dict[int, ChainFollower] = {}
        #: Lanes taken up late: their first chain value is the bus's own word.
        self.late: set[int] = set()

    @property
    def state(self) -> OwnState:
        """Where to go on; store it once the receipts made so far are written."""
        return self._state

    def begin(self, partition: int, first: int) -> int:
        """Offset to read `partition` from; `first` is the first that the topic still has."""
        known = self._state.offsets.get(partition)
        gone = known is not None and known < first
        offset = first if known is None or gone else known
        self._state.offsets[partition] = offset
        self._followers[partition] = ChainFollower(
            self._cluster,
            self._grant,
            {} if gone else self._state.lanes,
            from_start=offset == 0 or (known is not None and not gone),
        )
        return offset

    def feed(
        self,
        partition: int,
        offset: int,
        headers: Iterable[tuple[str, bytes]],
        key: bytes | None,
        value: bytes | None,
    ) -> None:
        """The partition's next record. Raises ChainBroken."""
        self._took(partition, offset, self._followers[partition].feed(headers, key, value))

    def at_end(self, partition: int, position: int) -> None:
        """All that is committed before offset `position` was fed: the last segment is whole."""
        self._took(partition, position, self._followers[partition].end_segment())

    def receipts(self, at_ms: int) -> list[DeliveryReceipt]:
        """What can be countersigned now and was not before; each is given once."""
        made = []
        for lane, at in sorted(self._state.lanes.items()):
            signed = self._state.signed.get(lane, 0)
            if at.k > signed:
                made.append(
                    DeliveryReceipt(
                        cluster=self._cluster,
                        grant=self._grant,
                        lane=lane,
                        first=signed + 1,
                        last=at.k,
                        chain=at.chain.hex(),
                        agency=self._agency,
                        at_ms=at_ms,
                    )
                )
                self._state.signed[lane] = at.k
        return made

    def _took(self, partition: int, offset: int, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, Mismatch):
                raise ChainBroken(event)
            self._ended(partition, offset, event)

    def _ended(self, partition: int, offset: int, end: SegmentEnd) -> None:
        """A segment is whole: the next one begins at `offset`."""
        known = self._state.lanes.get(end.lane)
        if end.first > (known.k if known else 0) + 1:
            # Who starts late signs from there: what was before he never read.
            self.late.add(end.lane)
            self._state.signed[end.lane] = end.first - 1
        self._state.lanes[end.lane] = Position(end.last, end.chain)
        self._state.offsets[partition] = offset
