"""The optional compiled kernel, as `shutong_broker.policy.native` uses it."""

from collections.abc import Mapping, Sequence
from typing import Any

FORMAT: int

class Program:
    """One schema version of a dataset under one list: decides runs of its records."""

    def __init__(self, given: Mapping[str, Any]) -> None: ...
    def run(
        self, records: Sequence[Any], first: int, end: int, salt: bytes, moment: Any
    ) -> tuple[Any, ...]: ...
