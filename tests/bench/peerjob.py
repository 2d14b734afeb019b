"""What a peer process is told: one JSON file, the same for Java and Python peers."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import job, reference
from bench.stage import Stage
from shutong_core.wire.projection import project_schema

CODECS = ("snappy", "none", "lz4")


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is tried for a peer: the best of its tunings races."""

    codec: str = "none"
    threads: int = 1
    commit_ms: int = 100

    def __str__(self) -> str:
        return f"codec {self.codec}, threads {self.threads}, commit {self.commit_ms} ms"


def group(stage: Stage) -> str:
    """The consumer group of a peer."""
    return f"{stage.prefix}.peer"


def write_job(stage: Stage, tuning: Tuning) -> Path:
    """The job's file for a peer on this stage, whose list is in force."""
    version = stage.version
    assert version is not None
    (dataset,) = [row for row in version.rows.values() if row.row_id == f"dataset/{job.DATASET}"]
    path = stage.directory / "peer.json"
    told = {
        "bootstrap": stage.bootstrap,
        "inbound": stage.topics.inbound(dataset.id),
        "group": group(stage),
        "lanes": job.LANES,
        "tuning": asdict(tuning),
        "state_dir": str(stage.directory / "peer-state"),
        "schema": job.schema_text(),
        "grants": [_grant(stage, version.grant(name), name) for name in job.REFERENCE],
    }
    path.write_text(json.dumps(told))
    return path


def _grant(stage: Stage, row: Any, name: str) -> dict[str, Any]:
    given = job.REFERENCE[name]
    cities = given["regions"]
    return {
        "grant": name,
        "topic": stage.topics.delivery(name),
        "delivered_id": row.projections[0].delivered_id,
        "schema": project_schema(job.schema(), row.items, job.DATASET).text,
        "items": [item for item in job.schema().items if item in given["items"]],
        "mask_id_number": given["items"]["id_number"] != "clear",
        "cities": None if cities is None else [job.city(n)[:4] for n in cities],
        "active_only": "condition" in given,
        "secret": None if reference.KEY_IS_CLEAR[name] else os.urandom(32).hex(),
    }
