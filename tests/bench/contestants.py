"""Who races: the bus in its forms, and the peers. Each knows how it is started and what it owes.

The first of a contestant's tunings is the one that was mostly best so far.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench import peerjob, quixvenv, streamsjar
from bench.children import Child
from bench.inbound import Expected
from bench.peerjob import CODECS, Tuning
from bench.stage import Stage
from shutong_core.runtime.servicesettings import BrokerSettings

_TESTS = Path(__file__).parents[1]
_PROFILED = str(Path(__file__).with_name("profiled_broker.py"))
NATIVE_MODULE = "shutong_kernel"
_ENGINE = "engine"  # the broker's setting: pure or native


class Contestant(Protocol):
    """One way to do the reference job; `share` of the records is all that a slow one gets."""

    @property
    def name(self) -> str: ...
    @property
    def share(self) -> float: ...
    @property
    def tunings(self) -> Sequence[Tuning]: ...

    def missing(self) -> str | None:
        """Why it cannot race here; None if it can. May build what it needs."""
        ...

    def running(self, stage: Stage, tuning: Tuning) -> AbstractContextManager[list[Child]]:
        """Its processes, started; ended at the end."""
        ...

    def group(self, stage: Stage) -> str:
        """The group under which it commits input offsets."""
        ...

    def owes(self, due: Mapping[str, Expected]) -> Mapping[str, Expected]:
        """What it must deliver, of what is due for each grant."""
        ...


@dataclass(frozen=True)
class Bus:
    """`count` broker processes; `engine` pure or native."""

    name: str
    count: int
    engine: str = "pure"
    env: Mapping[str, str] = field(default_factory=dict)
    profile: str | None = None
    share: float = 1.0
    tunings: Sequence[Tuning] = (Tuning(),)

    def missing(self) -> str | None:
        if self.engine == "native" and importlib.util.find_spec(NATIVE_MODULE) is None:
            return f"the optional module {NATIVE_MODULE} is not installed"
        if self.engine == "native" and _ENGINE not in BrokerSettings.model_fields:
            return "the broker has no setting that chooses its engine"
        return None

    @contextmanager
    def running(self, stage: Stage, tuning: Tuning) -> Iterator[list[Child]]:
        env = dict(self.env)
        if _ENGINE in BrokerSettings.model_fields:
            env["SHUTONG_BROKER_ENGINE"] = self.engine
        command: tuple[str, ...] = ("-m", "shutong_broker")
        if self.profile:
            command, env["BENCH_PROFILE"] = (_PROFILED,), self.profile
        with stage.brokers(self.count, env, command=command) as brokers:
            yield list(brokers)

    def group(self, stage: Stage) -> str:
        return stage.topics.lanes_group

    def owes(self, due: Mapping[str, Expected]) -> Mapping[str, Expected]:
        return due


@dataclass(frozen=True)
class LanePeer:
    """The peers in Python with six lanes: `fastavro` or `copy`."""

    name: str
    kind: str
    share: float = 1.0
    tunings: Sequence[Tuning] = tuple(Tuning(codec) for codec in CODECS)

    def missing(self) -> str | None:
        return None

    @contextmanager
    def running(self, stage: Stage, tuning: Tuning) -> Iterator[list[Child]]:
        told = peerjob.write_job(stage, tuning)
        path = os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "bench.peers.lanes", self.kind, str(told)]
        log = stage.directory / "peer.log"
        with Child(self.name, command, log, {**os.environ, "PYTHONPATH": path}) as child:
            yield [child]

    def group(self, stage: Stage) -> str:
        return peerjob.group(stage)

    def owes(self, due: Mapping[str, Expected]) -> Mapping[str, Expected]:
        # A copy is not projected: only how many there are can be held against the grant.
        return due if self.kind == "fastavro" else {}


@dataclass(frozen=True)
class Streams:
    """Kafka Streams in Java, exactly_once_v2."""

    name: str = "streams"
    share: float = 1.0
    tunings: Sequence[Tuning] = (
        *(Tuning(codec, threads, 100) for threads in (2, 1, 3) for codec in CODECS),
        Tuning("snappy", 2, 250),
        Tuning("snappy", 2, 500),
    )

    def missing(self) -> str | None:
        return streamsjar.build()

    @contextmanager
    def running(self, stage: Stage, tuning: Tuning) -> Iterator[list[Child]]:
        told = peerjob.write_job(stage, tuning)
        log = stage.directory / "peer.log"
        with Child(self.name, streamsjar.command(told), log) as child:
            yield [child]

    def group(self, stage: Stage) -> str:
        return peerjob.group(stage)

    def owes(self, due: Mapping[str, Expected]) -> Mapping[str, Expected]:
        return due


@dataclass(frozen=True)
class Quix:
    """Quix Streams with fastavro, one process, in a virtual environment of its own."""

    name: str = "quix"
    share: float = 0.2
    tunings: Sequence[Tuning] = (
        *(Tuning(codec, 1, 1000) for codec in CODECS),
        Tuning("snappy", 1, 250),
    )

    def missing(self) -> str | None:
        return quixvenv.build()

    @contextmanager
    def running(self, stage: Stage, tuning: Tuning) -> Iterator[list[Child]]:
        told = peerjob.write_job(stage, tuning)
        log = stage.directory / "peer.log"
        with Child(self.name, quixvenv.command(told), log) as child:
            yield [child]

    def group(self, stage: Stage) -> str:
        return peerjob.group(stage)

    def owes(self, due: Mapping[str, Expected]) -> Mapping[str, Expected]:
        return due


def everyone(env: Mapping[str, str], profile: str | None) -> list[Contestant]:
    """All contestants, in the order of the first round."""
    return [
        Bus("bus-1", 1, env=env, profile=profile),
        Streams(),
        Bus("bus-2", 2, env=env, profile=profile),
        LanePeer("fastavro", "fastavro"),
        Bus("native-1", 1, "native", env, profile),
        Quix(),
        Bus("native-2", 2, "native", env, profile),
        LanePeer("copy", "copy"),
    ]
