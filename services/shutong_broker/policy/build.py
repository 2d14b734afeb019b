"""From a list version to the policy of each dataset; from list to list only what changed anew.

A dataset's policy is made when it is first asked for, or ahead of time in steps: a list has a
thousand datasets, a lane reads a few. It is used again while nothing it was made from changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import DatasetPolicy
from shutong_broker.policy.plan import DatasetPlan, Keys
from shutong_broker.policy.planning import Planner
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.steps import Steps, run
from shutong_core.domain.version import ListVersion
from shutong_core.wire.schemas import Schema

Make = Callable[[DatasetPlan, RegionTable], DatasetPolicy]


@runtime_checkable
class Preparable(Protocol):
    """A policy that has something left to make when it is built."""

    def prepare(self) -> Iterator[None]:
        """Make it, in steps of bounded work."""
        ...


def build_policy(
    version: ListVersion,
    schemas: Mapping[int, Schema],
    table: RegionTable,
    keys: Keys,
    make: Make = PolicyInterpreter,
) -> Policies:
    """The policy of every dataset of `version`, by dataset id.

    `schemas` holds the registered schemas by id; `keys` gives the secret with a key id and is
    called when a dataset's policy is first looked up, where its errors surface. `make` turns a
    plan into a policy. Raises Rejected if the list has no row bus/bus.
    """
    return PolicyMaker(table, keys, make).policies(version, schemas)


class PolicyMaker:
    """Makes policies for one list after the other, and keeps those that stay the same."""

    def __init__(self, table: RegionTable, keys: Keys, make: Make) -> None:
        self._table = table
        self._keys = keys
        self._make = make
        # The newest policy of each dataset that was asked for, with what it was made from.
        self._kept: dict[str, tuple[tuple[Any, ...], DatasetPolicy]] = {}

    def policies(self, version: ListVersion, schemas: Mapping[int, Schema]) -> Policies:
        """The policies of `version`. Raises Rejected if it has no row bus/bus."""
        policies = Policies(self, Planner(version, schemas, self._table, self._keys))
        for gone in self._kept.keys() - policies.keys():
            del self._kept[gone]
        return policies

    def making(self, planner: Planner, dataset: Dataset) -> Steps[DatasetPolicy]:
        """The policy of `dataset` as the list of `planner` has it. Raises what its keys raise."""
        inputs = planner.inputs(dataset)
        known = self._kept.get(dataset.id)
        if known is not None and known[0] == inputs:
            return known[1]
        plan = yield from planner.planning(dataset)
        made = self._make(plan, self._table)
        self._kept[dataset.id] = inputs, made
        return made


class Policies(Mapping[str, DatasetPolicy]):
    """Policies of one list by dataset id, each made once."""

    def __init__(self, maker: PolicyMaker, planner: Planner) -> None:
        self._maker = maker
        self._planner = planner
        self._datasets = {
            row.id: row for row in planner.version.of(Dataset) if isinstance(row, Dataset)
        }
        # In the order in which they were last asked for.
        self._made: dict[str, DatasetPolicy] = {}

    def __getitem__(self, dataset_id: str) -> DatasetPolicy:
        made = self._made.pop(dataset_id, None)
        if made is None:
            made = run(self._maker.making(self._planner, self._datasets[dataset_id]))
        self._made[dataset_id] = made
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)

    def __contains__(self, dataset_id: object) -> bool:
        return dataset_id in self._datasets

    @property
    def in_use(self) -> tuple[str, ...]:
        """Datasets whose policies were asked for or made ahead, the last asked for first."""
        return tuple(reversed(self._made))

    def preparing(self, datasets: Iterable[str]) -> Steps[None]:
        """Make the policies of `datasets` ahead, the most urgent first, in steps.

        One that cannot be made is left for who asks for it, where its error surfaces. The order
        of `datasets` is that of `in_use` afterwards, as long as nothing else is asked for.
        """
        for dataset_id in datasets:
            dataset = self._datasets.get(dataset_id)
            if dataset is None or dataset_id in self._made:
                continue
            try:
                made = yield from self._maker.making(self._planner, dataset)
            except Exception:  # noqa: S112 - told where it is asked for
                continue
            if isinstance(made, Preparable):
                yield from made.prepare()
            if dataset_id not in self._made:
                # Before those asked for meanwhile, behind those more urgent.
                self._made = {dataset_id: made, **self._made}
