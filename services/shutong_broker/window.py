"""The memory of a lane for repeated event ids: a bounded window over accepted records.

A publisher that retries sends the same event id again; the lane accepts it once. The window is
rebuilt from audit rows when a lane is taken, so it needs no store of its own.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

from shutong_core.audit.block import RowOperation
from shutong_core.domain.reasons import Reason

#: Stated to publishers: the last 200,000 accepted ids of a lane, 24 h, or its last 20,000 blocks,
#: whichever is shorter.
WINDOW_IDS_MAX = 200_000
WINDOW_AGE_MS_MAX = 24 * 3_600_000
#: Taking a lane must stay short also where records carry no event ids (about 4 s for these).
WINDOW_BLOCKS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of an accepted record: enough to tell a repeat from other content."""

    id_hash: bytes  # 8 bytes
    salt: bytes  # of the audit block that holds it
    digest: bytes  # SHA-256(salt ‖ Avro body)
    operation: RowOperation
    at_ms: int


class RepeatWindow:
    """Accepted event ids of one lane, oldest first, bounded in number and age."""

    def __init__(self, ids_max: int = WINDOW_IDS_MAX, age_ms_max: int = WINDOW_AGE_MS_MAX) -> None:
        self._ids_max = ids_max
        self._age_ms_max = age_ms_max
        self._by_id: dict[bytes, Seen] = {}
        self._order: deque[Seen] = deque()

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, seen: Seen) -> None:
        """Remember one accepted record; forgets the oldest beyond the bounds."""
        self._by_id[seen.id_hash] = seen
        self._order.append(seen)
        while len(self._order) > self._ids_max:
            self._forget_oldest()
        self.forget_before(seen.at_ms - self._age_ms_max)

    def forget_before(self, at_ms: int) -> None:
        """Forget what was accepted before `at_ms`."""
        while self._order and self._order[0].at_ms < at_ms:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self._order.popleft()
        if self._by_id.get(oldest.id_hash) is oldest:
            del self._by_id[oldest.id_hash]

    def find(self, id_hash: bytes, now_ms: int) -> Seen | None:
        """The accepted record under this id, if it is still in the window."""
        seen = self._by_id.get(id_hash)
        if seen is None or seen.at_ms < now_ms - self._age_ms_max:
            return None
        return seen


def compare(seen: Seen, body: bytes, operation: RowOperation | None) -> Reason:
    """DUPLICATE if body and operation are what was accepted under that id, else ID_REUSED.

    `operation` is None where it does not stand beside the body.
    """
    same = hashlib.sha256(seen.salt + body).digest() == seen.digest
    same = same and operation in {None, seen.operation}
    return Reason.DUPLICATE if same else Reason.ID_REUSED
