"""The list in force as this process decides by it, swapped whole between transactions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shutong_broker.policy.model import DatasetPolicy
from shutong_core.domain.version import ListVersion


@dataclass(frozen=True, slots=True)
class PolicySet:
    """One list version, made ready to decide: a policy per dataset."""

    version: ListVersion
    by_dataset: Mapping[str, DatasetPolicy]

    @property
    def datasets(self) -> frozenset[str]:
        """Datasets that the list carries."""
        return frozenset(self.by_dataset)
