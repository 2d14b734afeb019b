"""Chooses what decides runs of records: the compiled kernel or Python alone.

Both give equal decisions; every audit block names the one that made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from shutong_broker.policy import native
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.model import DatasetPolicy
from shutong_broker.policy.plan import DatasetPlan
from shutong_core.domain.errors import Fatal
from shutong_core.domain.regions import RegionTable

PURE = "shutong-compiled/1"
NATIVE = f"shutong-kernel/{native.FORMAT}"


@dataclass(frozen=True, slots=True)
class Engine:
    """Its name in the audit, and what makes a dataset's policy of its plan."""

    name: str
    make: Callable[[DatasetPlan, RegionTable], DatasetPolicy]


def engine_of(setting: Literal["auto", "native", "pure"]) -> Engine:
    """The engine that is set. Raises Fatal if the kernel is asked for and not there."""
    if setting == "native" and not native.AVAILABLE:
        raise Fatal(
            "engine is set to native, and no compiled kernel of this release is installed:"
            " `make kernel`, or set SHUTONG_BROKER_ENGINE=auto"
        )
    if setting == "pure" or not native.AVAILABLE:
        return Engine(PURE, CompiledPolicy)
    return Engine(NATIVE, partial(CompiledPolicy, native=True))
