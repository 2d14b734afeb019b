"""Makes a department's supply certificate (免责凭证) from the index and the trees' checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from shutong_auditor.index.questions import Question, sums, supplied
from shutong_auditor.tally import PLACED
from shutong_auditor.treereader import TreeReader, tree_directory
from shutong_core.audit.certificate import KIND
from shutong_core.audit.checkpoint import AUDIT
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Duty
from shutong_core.domain.version import ListVersion

_LINES_MAX = 5_000


def certificate_body(
    engine: Engine,
    version: ListVersion,
    cluster: str,
    data_dir: Path,
    asked: tuple[str, str, str],
    at_ms: int,
) -> dict[str, Any]:
    """The body of the certificate for (organisation, first day, last day), both days included.

    Raises Rejected if the list has no such organisation or there is too much for one certificate.
    """
    uscc, first_day, last_day = asked
    organisation = version.organisation(uscc)
    if organisation is None:
        raise Rejected(
            f"清单 {version.number} 中没有部门 {uscc}。"
            f" List {version.number} has no organisation {uscc}."
        )
    question = Question(first_day=first_day, last_day=last_day, supplier=uscc, verdict=PLACED)
    placed = sums(engine, question, ("dataset", "grant_id", "requester"), _LINES_MAX)
    if placed.more:
        raise Rejected("期间过长，请分段出具。 Too much for one certificate: ask for less time.")
    return {
        "kind": KIND,
        "cluster": cluster,
        "organisation": uscc,
        "name": organisation.name,
        "first_day": first_day,
        "last_day": last_day,
        "list_number": version.number,
        "intakes": [
            {
                "dataset": dataset,
                "outcome": outcome,
                "records": count,
                "first_ms": first_ms,
                "last_ms": last_ms,
            }
            for dataset, outcome, count, first_ms, last_ms in supplied(
                engine, uscc, first_day, last_day
            )
        ],
        "placed": [
            {"dataset": dataset, "grant": grant, "requester": requester, "records": count}
            for dataset, grant, requester, count in placed.lines
        ],
        "duties": [
            {"id": duty.id, "dataset": duty.dataset, "update_cycle": duty.update_cycle}
            for duty in version.of(Duty)
            if isinstance(duty, Duty) and duty.provider == uscc
        ],
        "checkpoints": _checkpoints(data_dir, version.bus.lanes),
        "at_ms": at_ms,
    }


def _checkpoints(data_dir: Path, lanes: int) -> list[str]:
    """The newest signed checkpoint of each lane that is here: what the figures can be held to."""
    found = []
    for lane in range(lanes):
        note = TreeReader(tree_directory(data_dir, AUDIT, lane)).checkpoint()
        if note is not None:
            found.append(note.encode().decode())
    return found
