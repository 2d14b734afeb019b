"""What one process holds of control.lists and control.schemas; fed record by record, no I/O.

Rule: what is not signed by a trusted key is refused and the last good list stays in force. What a
trusted key signed as *newer* than the list held, but cannot be used here, stops everything: going
on would mean placing by a list that is known to be old. The same holds for the very next list
under a key of control that is not trusted *yet*: who already trusts it obeys that list. Garbage,
keys of other names and numbers that cannot be next do not stop anything.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Literal

import rfc8785

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.changes import Assembler
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import ListVersion
from shutong_core.wire.schemarecords import Registry, decode_registration
from shutong_core.wire.schemas import Schema

Verify = Callable[[str, bytes, bytes], bool]
Place = tuple[int, bytes]
"""Number and hash of a list."""
_CONTROL_KEY = re.compile(r"control/[0-9a-f]{16}")
_SIGNATURE_BYTES = 64


class ListView:
    """The list in force, the schemas it speaks of, and what is wrong, if anything."""

    def __init__(self, verify: Verify, floor: Place | None = None) -> None:
        """`floor` is a list that was seen before: a history without it is refused."""
        self._verify = verify
        self._floor = floor
        self._assembler = Assembler(verify)
        self._registry = Registry()
        self._version: ListVersion | None = None
        self._waiting: ListVersion | None = None
        self._unusable: str | None = None
        # Newest number under a key of control that is not trusted, and what to say of it.
        self._doubt: tuple[int, str] | None = None
        self._noted: str | None = None
        self._strayed: str | None = None
        self.refused = 0
        #: Refused although a trusted key signed them: lists not newer than the one held.
        self.repeats = 0

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
    def newest(self) -> Place | None:
        """The newest list that was read whole, in force or waiting for its schemas."""
        found = self._assembler.version
        return (found.number, found.digest) if found else None

    @property
    def blocked(self) -> bool:
        """True if only another reading of the topics, or other keys, can help."""
        return self._unusable is not None or self._doubt is not None

    @property
    def doubted(self) -> bool:
        """True if nothing is wrong but a next list under a key of control that is not trusted."""
        return self._doubt is not None and self._unusable is None and self._waiting is None

    @property
    def usable(self) -> bool:
        """False once a newer list is known that cannot be used here."""
        return not self.blocked and self._waiting is None

    @property
    def problem(self) -> str | None:
        """What is wrong, the gravest first; None if nothing is."""
        return self._unusable or (self._doubt[1] if self._doubt else self._noted)

    def block(self, why: str) -> None:
        """Let nothing be decided by this view any more."""
        self._unusable = why

    @property
    def gone_back(self) -> str | None:
        """What is wrong with a history that should have led to the floor; None if it did."""
        if self._strayed or self._floor is None:
            return self._strayed
        number = self.newest[0] if self.newest else 0
        if number >= self._floor[0]:
            return None
        return _gone_back(f"止于清单 {number}", f"ends at list {number}", self._floor[0])

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
            self._weigh(value, str(error))
            return
        if version is not None:
            self._waiting = version
            self._compare(version)
            if self._doubt is not None and version.number >= self._doubt[0]:
                # A trusted key said what this list is; what the other key said is overtaken.
                self._doubt = None

    def settle(self) -> bool:
        """Put the newest complete list in force; call it with control.schemas read to its end.

        Returns True if the list in force changed.
        """
        if self._waiting is None:
            return False
        missing = self._missing_schema(self._waiting)
        if missing is not None:
            self._noted = missing
            return False
        self._version, self._waiting = self._waiting, None
        self._noted = None
        return True

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self._noted = why

    def _compare(self, version: ListVersion) -> None:
        if self._floor is None or version.number != self._floor[0]:
            return
        if version.digest != self._floor[1]:
            number = version.number
            self._strayed = _gone_back(
                f"的清单 {number} 与之不同", f"has another list {number}", number
            )
            self.block(self._strayed)

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

    def _weigh(self, data: bytes, why: str) -> None:
        """Whether a refused record shows that the list held is no longer the newest.

        What anybody may have written must not be able to stop the bus for good: a record under
        an unknown key of control counts only if it could be the next one, and until a trusted key
        signs a list of that number.
        """
        held = self.newest[0] if self.newest else 0
        origin, number, key_id = _origin(data, self._verify)
        if origin == "trusted" and number > held:
            self._unusable = why
        elif origin == "trusted":
            self.repeats += 1
        elif origin == "unknown" and held < number <= max(held, self._doubted) + 1:
            self._doubt = (max(number, self._doubted), _not_trusted(number, key_id))

    @property
    def _doubted(self) -> int:
        return self._doubt[0] if self._doubt else 0


def _origin(data: bytes, verify: Verify) -> tuple[Literal["trusted", "unknown", "none"], int, str]:
    """Who seems to have written a record, the number it claims, the key id it names."""
    try:
        record = json.loads(data)
        signed = rfc8785.dumps(record["body"])
        signature = base64.b64decode(record["signature"], validate=True)
        key_id, number = record["key"], record["body"]["n"]
        if not isinstance(number, int) or not isinstance(key_id, str):
            return "none", 0, ""
        if verify(key_id, signed, signature):
            return "trusted", number, key_id
        if _CONTROL_KEY.fullmatch(key_id) and len(signature) == _SIGNATURE_BYTES:
            return "unknown", number, key_id
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return "none", 0, ""


def _not_trusted(number: int, key_id: str) -> str:
    return (
        f"清单 {number} 由未受信任的密钥 {key_id} 签发：若属实请信任该密钥，"
        f"否则有人擅自写入 control.lists。 List {number} is signed by {key_id}, which is not"
        " trusted here: trust that key if it is yours; if not, somebody wrote to control.lists."
    )


def _gone_back(zh: str, en: str, seen: int) -> str:
    return (
        f"control.lists {zh}，而本进程已见过清单 {seen}：请恢复该主题，确认无误后再重启。"
        f" control.lists {en}, but this process has seen list {seen}: restore the topic; restart"
        " only if the older list is meant."
    )
