"""Whether a list only adds to the one before, so that deciding by the older lets nothing out that
the newer forbids, nor refuses what the newer takes.

Rule: every row of the older stands unchanged, and no new row says anything of the older's datasets
but who else may receive them.
"""

from __future__ import annotations

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Duty, Grant, Purpose
from shutong_core.domain.organisations import Organisation, System
from shutong_core.domain.steps import Steps
from shutong_core.domain.version import ROWS_A_STEP, AnyRow, ListVersion


def only_adds(older: ListVersion, newer: ListVersion) -> Steps[bool]:
    """True if `newer` is `older` and rows that may wait until they are taken up.

    Not among them: a negative row, which blocks; a grant that replaces another, which ends; a
    system of an organisation already listed, whose records the older would refuse.
    """
    for count, (row_id, digest) in enumerate(older.digests.items(), 1):
        if newer.digests.get(row_id) != digest:
            return False
        if count % ROWS_A_STEP == 0:
            yield
    for count, (row_id, row) in enumerate(newer.rows.items(), 1):
        if row_id not in older.rows and not _may_wait(row, older):
            return False
        if count % ROWS_A_STEP == 0:
            yield
    return True


def _may_wait(row: AnyRow, older: ListVersion) -> bool:
    if isinstance(row, Grant):
        return row.replaces is None
    if isinstance(row, System):
        return older.organisation(row.organisation) is None
    return isinstance(row, (Organisation, Dataset, Duty, Purpose))
