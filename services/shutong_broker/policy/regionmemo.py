"""What the division table says of the regions that records name, remembered by their bytes.

Only regions that the table knows are remembered: a record cannot fill the memory with other text.
"""

from __future__ import annotations

from shutong_core.domain.regions import RegionTable

#: Far more than the county-level regions of the nation in all their forms; then it starts anew.
REMEMBERED_MAX = 65_536


def region_of(table: RegionTable, raw: bytes | None) -> str | None:
    """The region that the text `raw` (UTF-8) names in full form; None if it names none."""
    return None if raw is None else table.normalise(raw.decode())


class RegionFlags(dict[bytes | None, bool]):
    """Whether a region lies in `scope`, by its raw value; indexing gives None for no region."""

    def __init__(self, table: RegionTable, scope: frozenset[str]) -> None:
        super().__init__()
        self._table = table
        self._scope = scope

    def __missing__(self, raw: bytes | None) -> bool | None:
        code = region_of(self._table, raw)
        if code is None:
            return None
        inside = self._table.in_scope(code, self._scope)
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[raw] = inside
        return inside
