"""What one process holds of control.lists and control.schemas; fed record by record, no I/O.

Rule: what is not signed by a trusted key is refused and the last good list stays in force. What a
trusted key signed as *newer* than the list held, but cannot be used here, stops everything: going
on would mean placing by a list that is known to be old.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping

import rfc8785

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.changes import Assembler
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import ListVersion
from shutong_core.wire.schemarecords import Registry, decode_registration
from shutong_core.wire.schemas import Schema

Verify = Callable[[str, bytes, bytes], bool]


class ListView:
    """The list in force, the schemas it speaks of, and what is wrong, if anything."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._assembler = Assembler(verify)
        self._registry = Registry()
        self._version: ListVersion | None = None
        self._waiting: ListVersion | None = None
        self._unusable: str | None = None
        self.problem: str | None = None
        self.refused = 0

    @property
    def version(self) -> ListVersion | None:
        """The list in force; None before the first."""
        return self._version

    @property
    def registry(self) -> Registry:
        """All registered schemas."""
        return self._registry

    @property
    def schemas(self) -> Mapping[int, Schema]:
        """Registered schemas by id, as they are now and will be."""
        return self._registry.schemas

    @property
    def usable(self) -> bool:
        """False once a newer list is known that cannot be used here."""
        return self._unusable is None and self._waiting is None

    def add_schema(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record of control.schemas; a wrong one is refused and noted."""
        try:
            self._registry.add(decode_registration(key, value))
        except Rejected as error:
            self._refuse(str(error))

    def add_change(self, value: bytes | None) -> None:
        """Take one record of control.lists; a wrong one is refused and noted."""
        if value is None:
            self._refuse("a record of control.lists is null")
            return
        try:
            version = self._assembler.add(value)
        except Rejected as error:
            self._refuse(str(error))
            if self._is_newer(value):
                self._unusable = str(error)
            return
        if version is not None:
            self._waiting = version

    def settle(self) -> bool:
        """Put the newest complete list in force; call it with control.schemas read to its end.

        Returns True if the list in force changed.
        """
        if self._waiting is None:
            return False
        missing = self._missing_schema(self._waiting)
        if missing is not None:
            self.problem = missing
            return False
        self._version, self._waiting = self._waiting, None
        if self._unusable is None:
            self.problem = None
        return True

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self.problem = why

    def _missing_schema(self, version: ListVersion) -> str | None:
        known = self._registry.schemas
        for dataset in version.of(Dataset):
            if not isinstance(dataset, Dataset):
                continue
            for reference in dataset.schemas:
                schema = known.get(reference.id)
                if schema is None:
                    return f"list {version.number} names schema {reference.id}: not registered"
                if schema.digest.hex() != reference.digest or schema.guid != reference.guid:
                    return f"list {version.number} names another schema {reference.id}"
        for grant in version.of(Grant):
            if not isinstance(grant, Grant):
                continue
            for projection in grant.projections:
                schema = known.get(projection.delivered_id)
                if schema is None or schema.guid != projection.guid:
                    wanted = projection.delivered_id
                    return f"list {version.number} names schema {wanted}: not registered"
        return None

    def _is_newer(self, data: bytes) -> bool:
        """True if a trusted key signed this record as newer than the list held.

        A record that anybody wrote, or an old one written again, must not be able to stop the bus.
        """
        try:
            record = json.loads(data)
            signed = rfc8785.dumps(record["body"])
            signature = base64.b64decode(record["signature"], validate=True)
            if not self._verify(record["key"], signed, signature):
                return False
            number = record["body"]["n"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        held = self._assembler.version
        return isinstance(number, int) and number > (held.number if held else 0)
