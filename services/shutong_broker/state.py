"""What a lane knows about itself; every field is also in topic `lanes`.

Memory moves only after a commit returned: a plan carries the changes, `advance` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: The first block of a lane names 32 zero bytes as its predecessor (docs/formats/audit.md).
NO_PREVIOUS = bytes(32)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where the delivery chain of one (grant, lane) stands: records placed, chain value."""

    k: int
    chain: bytes


@dataclass(slots=True)
class LaneState:
    """Head of the audit chain, next input offsets, heads of the delivery chains.

    `block_offset` is where the head's block stands in topic `audit`, -1 before the first block.
    """

    sequence: int = 0
    header_hash: bytes = NO_PREVIOUS
    block_offset: int = -1
    positions: dict[str, int] = field(default_factory=dict)
    chains: dict[str, ChainHead] = field(default_factory=dict)

    def advance(self, changes: Changes, block_offset: int) -> None:
        """Take over what one committed transaction changed."""
        self.sequence = changes.sequence
        self.header_hash = changes.header_hash
        self.block_offset = block_offset
        self.positions.update(changes.positions)
        self.chains.update(changes.chains)


@dataclass(frozen=True, slots=True)
class Changes:
    """What one transaction changes in a lane's state."""

    sequence: int
    header_hash: bytes
    positions: Mapping[str, int]
    chains: Mapping[str, ChainHead]
