"""What one process holds of control.lists and control.schemas; fed record by record, no I/O.

Rule: what is not signed by a trusted key is refused and the last good list stays in force. What a
trusted key signed as *newer* than the list held, but cannot be used here, stops everything: going
on would mean placing by a list that is known to be old. The same holds for the very next list
under a key of control that is not trusted *yet*: who already trusts it obeys that list. Garbage,
keys of other names and numbers that cannot be next do not stop anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from shutong_core.domain.canonical import canonical
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.changes import Assembler
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Grant
from shutong_core.domain.steps import Steps, run
from shutong_core.domain.version import AnyRow, ListVersion
from shutong_core.wire.schemarecords import Registration, Registry, decode_registration
from shutong_core.wire.schemas import Schema

Verify = Callable[[str, bytes, bytes], bool]
Place = tuple[int, bytes]
"""Number and hash of a list."""
_CONTROL_KEY = re.compile(r"control/[0-9a-f]{16}")
_SIGNATURE_BYTES = 64
#: Rows looked at for the schemas they name in one step: at most some milliseconds.
ROWS_A_STEP = 512


class _Wanted(NamedTuple):
    """A schema that a row names; `digest` in hex is "" where the row gives none."""

    schema_id: int
    guid: str
    digest: str


class ListView:
    """The list in force, the schemas it speaks of, and what is wrong, if anything."""

    def __init__(self, verify: Verify, before: ListView | None = None) -> None:
        """`before` read the same topics: a history without the list it saw is refused. What it
        read already and comes again is taken from it."""
        self._verify = verify
        self._floor = before.newest if before else None
        self._assembler: Assembler = Assembler(
            verify, known=before._assembler.version if before else None
        )
        self._registry = Registry()
        # SHA-256 of key and value -> the registration in them.
        self._registrations: dict[bytes, Registration] = {}
        self._known_registrations = before._registrations if before else {}
        self._version: ListVersion | None = None
        self._waiting: ListVersion | None = None
        # What the waiting list names and was not registered when it came.
        self._unresolved: list[_Wanted] = []
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
    def adds_since(self) -> int:
        """Number of the oldest list to which `newest` only adds; its own where it changes more."""
        return self._assembler.adds_since

    @property
    def additions_missing(self) -> int:
        """Records that a change under way still needs, if it says that it only adds; else 0."""
        return self._assembler.additions_missing

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
        mark = hashlib.sha256((key or b"") + b"\0" + (value or b"")).digest()
        try:
            registration = self._known_registrations.get(mark) or decode_registration(
                key, value, self._registry.by_digest
            )
            self._registry.add(registration)
        except Rejected as error:
            self._refuse(str(error))
        else:
            self._registrations[mark] = registration

    def add_change(self, value: bytes | None) -> None:
        """Take one record of control.lists; a wrong one is refused and noted."""
        run(self.adding_change(value))

    def adding_change(self, value: bytes | None) -> Steps[None]:
        """`add_change` in steps. Add nothing else before they are done."""
        if value is None:
            self._refuse("a record of control.lists is null")
            return
        try:
            version = yield from self._assembler.adding(value)
        except Rejected as error:
            self._refuse(str(error))
            self._weigh(value, str(error))
            return
        if version is not None:
            unresolved = yield from self._naming_unknown(version)
            self._waiting, self._unresolved = version, unresolved
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
        self._unresolved = [
            wanted for wanted in self._unresolved if self._missing(wanted) is not None
        ]
        if self._unresolved:
            missing = self._missing(self._unresolved[0])
            self._noted = f"list {self._waiting.number} names {missing}"
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

    def _naming_unknown(self, version: ListVersion) -> Steps[list[_Wanted]]:
        """What the rows of `version` that are not in force name and is not registered.

        A registration never changes: what was found once for a row needs no second look.
        """
        held = self._version.rows if self._version else {}
        unknown: list[_Wanted] = []
        for count, (row_id, row) in enumerate(version.rows.items(), 1):
            if held.get(row_id) is not row:
                unknown += [each for each in _named(row) if self._missing(each) is not None]
            if count % ROWS_A_STEP == 0:
                yield
        return unknown

    def _missing(self, wanted: _Wanted) -> str | None:
        """What is wrong with the schema that a row names; None if it is registered as named."""
        schema = self._registry.schemas.get(wanted.schema_id)
        if schema is None:
            return f"schema {wanted.schema_id}: not registered"
        if schema.guid != wanted.guid or wanted.digest not in ("", schema.digest.hex()):
            return f"another schema {wanted.schema_id}"
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


def _named(row: AnyRow) -> list[_Wanted]:
    if isinstance(row, Dataset):
        return [_Wanted(each.id, each.guid, each.digest) for each in row.schemas]
    if isinstance(row, Grant):
        return [_Wanted(each.delivered_id, each.guid, "") for each in row.projections]
    return []


def _origin(data: bytes, verify: Verify) -> tuple[Literal["trusted", "unknown", "none"], int, str]:
    """Who seems to have written a record, the number it claims, the key id it names."""
    try:
        record = json.loads(data)
        signed = canonical(record["body"])
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
