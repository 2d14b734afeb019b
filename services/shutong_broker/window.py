"""The memory of a lane for repeated event ids: a bounded window over accepted records.

A publisher that retries sends the same event id again; the lane accepts it once. The window is
rebuilt from audit rows when a lane is taken, so it needs no store of its own. It keeps and forgets
whole blocks, so that no object is made for a record.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from shutong_core.audit.block import RowOperation
from shutong_core.audit.digests import ID_HASH_BYTES, ROW_DIGEST_BYTES
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

    salt: bytes  # of the audit block that holds it
    digest: bytes  # SHA-256(salt ‖ Avro body)
    operation: RowOperation


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """The records with event ids that one block accepted, column by column."""

    salt: bytes
    at_ms: int
    ids: bytes  # 8 each
    digests: bytes  # 32 each
    operations: bytes  # 1 each, `RowOperation`

    def __len__(self) -> int:
        return len(self.operations)

    def find(self, id_hash: bytes) -> Seen | None:
        """The record with this id."""
        at = self.ids.find(id_hash)
        while at >= 0 and at % ID_HASH_BYTES:  # bytes of two neighbours
            at = self.ids.find(id_hash, at + 1)
        if at < 0:
            return None
        row = at // ID_HASH_BYTES
        digest = self.digests[row * ROW_DIGEST_BYTES : (row + 1) * ROW_DIGEST_BYTES]
        return Seen(self.salt, digest, RowOperation(self.operations[row]))

    def each_id(self) -> list[bytes]:
        """The ids one by one."""
        ids = self.ids
        return [ids[at : at + ID_HASH_BYTES] for at in range(0, len(ids), ID_HASH_BYTES)]


class RepeatWindow:
    """Accepted event ids of one lane, oldest first, bounded in number and age."""

    def __init__(self, ids_max: int = WINDOW_IDS_MAX, age_ms_max: int = WINDOW_AGE_MS_MAX) -> None:
        self._ids_max = ids_max
        self._age_ms_max = age_ms_max
        self._by_id: dict[bytes, Accepted] = {}
        self._order: deque[Accepted] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, accepted: Accepted) -> None:
        """Remember a block's records; forgets the oldest blocks that are not needed any more."""
        if not len(accepted):
            return
        self._by_id.update(dict.fromkeys(accepted.each_id(), accepted))
        self._order.append(accepted)
        self._count += len(accepted)
        while self._count - len(self._order[0]) >= self._ids_max:
            self._forget_oldest()
        self.forget_before(accepted.at_ms - self._age_ms_max)

    def forget_before(self, at_ms: int) -> None:
        """Forget what was accepted before `at_ms`."""
        while self._order and self._order[0].at_ms < at_ms:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self._order.popleft()
        self._count -= len(oldest)
        for each in oldest.each_id():
            if self._by_id.get(each) is oldest:
                del self._by_id[each]

    def none_of(self, ids: Sequence[bytes], now_ms: int) -> bool:
        """Whether no accepted record in the window has one of these ids."""
        self.forget_before(now_ms - self._age_ms_max)
        return self._by_id.keys().isdisjoint(ids)

    def find(self, id_hash: bytes, now_ms: int) -> Seen | None:
        """The accepted record under this id, if it is still in the window."""
        accepted = self._by_id.get(id_hash)
        if accepted is None or accepted.at_ms < now_ms - self._age_ms_max:
            return None
        return accepted.find(id_hash)


def compare(seen: Seen, body: bytes, operation: RowOperation | None) -> Reason:
    """DUPLICATE if body and operation are what was accepted under that id, else ID_REUSED.

    `operation` is None where it does not stand beside the body.
    """
    same = hashlib.sha256(seen.salt + body).digest() == seen.digest
    same = same and operation in {None, seen.operation}
    return Reason.DUPLICATE if same else Reason.ID_REUSED
