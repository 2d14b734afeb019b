"""Registered schemas: the records of topic control.schemas, the registry they add up to.

A registration is never changed and its id never given to other text. Equal texts share one id
under any number of subjects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from shutong_core.domain.canonical import canonical
from shutong_core.domain.errors import Rejected
from shutong_core.wire.findings import TEXT_BYTES_MAX
from shutong_core.wire.schemas import Schema, parse_schema_text

SCHEMA_ID_MAX = 2**31 - 1  # Java clients read the id as a signed 32-bit number
_FIELDS = {"digest", "guid", "id", "schema", "subject", "version"}


Known = Callable[[bytes], Schema | None]
"""A schema's digest → that schema, None if it is not held."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One version of one subject: schema id, GUID, version from 1, the schema."""

    id: int
    subject: str
    version: int
    schema: Schema

    @property
    def guid(self) -> str:
        """The GUID of header mode."""
        return self.schema.guid


def encode_registration(registration: Registration) -> tuple[bytes, bytes]:
    """Key and value of the record in control.schemas (RFC 8785 JSON)."""
    value = canonical(
        {
            "digest": registration.schema.digest.hex(),
            "guid": registration.guid,
            "id": registration.id,
            "schema": registration.schema.text,
            "subject": registration.subject,
            "version": registration.version,
        }
    )
    return str(registration.id).encode(), value


def decode_registration(
    key: bytes | None, value: bytes | None, known: Known = lambda _: None
) -> Registration:
    """The registration in a record. Raises Rejected if anything in it disagrees.

    `known` gives the schema with a digest where it is held already: a list has thousands of
    registrations of few texts, and a parsed schema takes far longer and more memory than its text.
    """
    if key is None or value is None or len(value) > 2 * TEXT_BYTES_MAX + 4096:
        raise Rejected("a record of control.schemas is null or too large")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Rejected("a record of control.schemas is not JSON") from error
    if not isinstance(found, dict) or set(found) != _FIELDS:
        raise Rejected("a record of control.schemas does not have the fields of a registration")
    number, version, subject = found["id"], found["version"], found["subject"]
    if not (_positive(number) and _positive(version) and isinstance(subject, str)):
        raise Rejected("a registration needs a subject and positive numbers")
    if not isinstance(found["schema"], str):
        raise Rejected("a registration needs the schema's text")
    text = found["schema"]
    # Only a canonical text has a known digest: a schema's digest is that of its canonical text.
    schema = known(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    if schema is None:
        schema = parse_schema_text(text)
    registration = Registration(number, subject, version, schema)
    if encode_registration(registration) != (key, value):
        raise Rejected(f"registration {number} is not what its schema says")
    return registration


def _positive(number: object) -> bool:
    return type(number) is int and 1 <= number <= SCHEMA_ID_MAX


@dataclass(slots=True)
class Registry:
    """All registrations, in order of arrival."""

    _by_id: dict[int, Schema] = field(default_factory=dict)
    _ids: dict[bytes, int] = field(default_factory=dict)
    _subjects: dict[str, list[Registration]] = field(default_factory=dict)

    @classmethod
    def of(cls, registrations: Iterable[Registration]) -> Registry:
        """The registry of these registrations. Raises Rejected if they contradict each other."""
        registry = cls()
        for registration in registrations:
            registry.add(registration)
        return registry

    def copy(self) -> Registry:
        """A registry that can be extended without changing this one."""
        subjects = {subject: list(versions) for subject, versions in self._subjects.items()}
        return Registry(dict(self._by_id), dict(self._ids), subjects)

    def add(self, registration: Registration) -> None:
        """Take in one registration. Raises Rejected if id, text and version do not fit."""
        schema, versions = registration.schema, self.versions(registration.subject)
        if self._ids.get(schema.digest, registration.id) != registration.id:
            raise Rejected(f"schema {registration.id} is registered under another id already")
        if self._by_id.get(registration.id, schema) != schema:
            raise Rejected(f"schema id {registration.id} already stands for another text")
        if registration.version != len(versions) + 1:
            raise Rejected(f"{registration.subject} has no version {registration.version} to come")
        self._by_id[registration.id] = schema
        self._ids[schema.digest] = registration.id
        self._subjects.setdefault(registration.subject, []).append(registration)

    def allot(self, subject: str, schema: Schema) -> tuple[Registration, bool]:
        """The registration of `schema` under `subject`, made if need be; True if it is new."""
        for registration in self.versions(subject):
            if registration.schema == schema:
                return registration, False
        number = self._ids.get(schema.digest)
        if number is None:
            number = max(self._by_id, default=0) + 1
        registration = Registration(number, subject, len(self.versions(subject)) + 1, schema)
        self.add(registration)
        return registration, True

    @property
    def schemas(self) -> Mapping[int, Schema]:
        """Schemas by id."""
        return self._by_id

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects, ascending."""
        return tuple(sorted(self._subjects))

    def versions(self, subject: str) -> tuple[Registration, ...]:
        """Versions of a subject, from 1; empty if unknown."""
        return tuple(self._subjects.get(subject, ()))

    def by_digest(self, digest: bytes) -> Schema | None:
        """The schema with that digest."""
        number = self._ids.get(digest)
        return None if number is None else self._by_id[number]

    def by_guid(self, guid: str) -> tuple[int, Schema] | None:
        """Id and schema with that GUID."""
        for number, schema in self._by_id.items():
            if schema.guid == guid:
                return number, schema
        return None

    def uses(self, schema_id: int) -> tuple[Registration, ...]:
        """Every registration of that id, by subject and version."""
        found = (each for versions in self._subjects.values() for each in versions)
        return tuple(
            sorted(
                (each for each in found if each.id == schema_id),
                key=lambda each: (each.subject, each.version),
            )
        )
