"""The schema registry as Confluent's clients ask it: reading only, over what control.schemas holds.

Pure. Answers have exactly the fields that Confluent's REST API gives, because clients of some
versions stop at a field they do not know; `guid` is therefore only for those that say they accept
such fields. Error codes are Confluent's (40401 subject, 40402 version, 40403 schema, 40408 level
not set, 42201 bad schema, 42202 bad version, 42205 not permitted).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785
from fastavro import parse_schema

from shutong_core.domain.errors import Rejected
from shutong_core.wire.compat import full_transitive
from shutong_core.wire.findings import TEXT_BYTES_MAX
from shutong_core.wire.schemarecords import SCHEMA_ID_MAX, Registration, Registry
from shutong_core.wire.schemas import Schema, parse_schema_text
from shutong_core.wire.topics import Topics

GLOBAL_LEVEL, DELIVERY_LEVEL = "FULL_TRANSITIVE", "NONE"
#: Schemas come with a list or by `shutong schema add`; here they are only read.
MODE = "READONLY"
_VALUE = "-value"
_DIGITS_MAX = 10


class RegistryRefused(Rejected):
    """An answer that is an error: HTTP status, Confluent's code, a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = code // 100 if code >= 1000 else code
        self.message = message


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a long answer; `limit` < 0: all of it."""

    offset: int = 0
    limit: int = -1

    def of(self, found: list[Any]) -> list[Any]:
        """That part."""
        end = None if self.limit < 0 else self.offset + self.limit
        return found[max(0, self.offset) : end]


def unknown_route() -> RegistryRefused:
    """For every path the registry does not have."""
    return RegistryRefused(404, "HTTP 404 Not Found")


def not_permitted() -> RegistryRefused:
    """For whatever would change something."""
    return RegistryRefused(
        42205,
        "只读：模式随清单发布，或用 shutong schema add 登记。"
        " Read-only: schemas are registered with the list, or by `shutong schema add`.",
    )


class RegistryReader:
    """The answers; `full` adds fields for clients that accept ones they do not know."""

    def __init__(self, registry: Registry, topics: Topics, *, full: bool) -> None:
        self._registry = registry
        self._topics = topics
        self._full = full

    def schema_by_id(self, text: str, *, with_max_id: bool) -> dict[str, Any]:
        """GET /schemas/ids/{id}."""
        _, schema = self._by_id(text)
        found = self._schema_string(schema)
        return found | {"maxId": max(self._registry.schemas)} if with_max_id else found

    def schema_by_guid(self, guid: str) -> dict[str, Any]:
        """GET /schemas/guids/{guid}."""
        return self._schema_string(self._by_guid(guid)[1])

    def ids_of_guid(self, guid: str) -> list[dict[str, Any]]:
        """GET /schemas/guids/{guid}/ids."""
        return [{"context": ".", "id": self._by_guid(guid)[0]}]

    def text_by_id(self, text: str) -> str:
        """GET /schemas/ids/{id}/schema."""
        return self._by_id(text)[1].text

    def versions_of_id(self, text: str, subject: str | None) -> list[dict[str, Any]]:
        """GET /schemas/ids/{id}/versions."""
        return [
            {"subject": each.subject, "version": each.version}
            for each in self._registry.uses(self._by_id(text)[0])
            if subject in (None, each.subject)
        ]

    def subjects_of_id(self, text: str, subject: str | None) -> list[str]:
        """GET /schemas/ids/{id}/subjects."""
        uses = self.versions_of_id(text, subject)
        return sorted({each["subject"] for each in uses})

    def subjects(self, prefix: str, page: Page) -> list[str]:
        """GET /subjects; `prefix` may begin with the default context `:.:`, or be `:*:`."""
        wanted = prefix.removeprefix(":*:").removeprefix(":.:")
        return page.of([each for each in self._registry.subjects if each.startswith(wanted)])

    def all_versions(self, prefix: str, page: Page, *, latest_only: bool) -> list[dict[str, Any]]:
        """GET /schemas."""
        found = []
        for subject in self.subjects(prefix, Page()):
            versions = self._registry.versions(subject)
            found += [self._version(each) for each in (versions[-1:] if latest_only else versions)]
        return page.of(found)

    def versions(self, subject: str) -> list[int]:
        """GET /subjects/{subject}/versions."""
        return [each.version for each in self._of(subject)]

    def version(self, subject: str, number: str) -> dict[str, Any]:
        """GET /subjects/{subject}/versions/{version}; `latest` and -1 are the newest."""
        return self._version(self._registration(subject, number))

    def version_text(self, subject: str, number: str) -> str:
        """GET /subjects/{subject}/versions/{version}/schema."""
        return self._registration(subject, number).schema.text

    def referenced_by(self, subject: str, number: str) -> list[int]:
        """GET …/referencedby: the bus's schemas stand alone."""
        self._registration(subject, number)
        return []

    def lookup(self, subject: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST /subjects/{subject}: the version that has this schema, however it is written."""
        return self._version(self._found(subject, body))

    def register(self, subject: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST /subjects/{subject}/versions: the id of a schema that is there; else refused.

        Clients that register by default can so be used as they are, once the list is published.
        """
        try:
            found = self._found(subject, body)
        except RegistryRefused as refused:
            raise not_permitted() from refused
        return {"id": found.id} | self._guid(found.schema)

    def compatibility(
        self, subject: str, number: str | None, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """POST /compatibility/subjects/{subject}/versions[/{version}], with the reasons."""
        earlier = self._of(subject) if number is None else [self._registration(subject, number)]
        if self.level(subject) == DELIVERY_LEVEL:
            return {"is_compatible": True, "messages": []}
        try:
            schema = parse_schema_text(_text_of(body))
        except Rejected as error:
            raise RegistryRefused(42201, f"Invalid schema: {error}") from error
        found = full_transitive(schema, [each.schema for each in earlier])
        return {
            "is_compatible": not found,
            "messages": [f"{each.path or 'schema'}: {each.en}" for each in found],
        }

    def level(self, subject: str, *, default: bool = True) -> str:
        """GET /config/{subject}; what a grant delivers needs no compatibility.

        Other subjects have no level of their own: 40408 unless `default`.
        """
        if self._topics.grant_of(subject.removesuffix(_VALUE)) is not None:
            return DELIVERY_LEVEL
        if not default:
            raise RegistryRefused(
                40408, f"Subject '{subject}' does not have subject-level compatibility configured"
            )
        return GLOBAL_LEVEL

    def _of(self, subject: str) -> tuple[Registration, ...]:
        found = self._registry.versions(subject.removeprefix(":.:"))
        if not found:
            raise RegistryRefused(40401, f"Subject '{subject}' not found.")
        return found

    def _registration(self, subject: str, number: str) -> Registration:
        versions = self._of(subject)
        if number in ("latest", "-1"):
            return versions[-1]
        if not _is_number(number) or int(number) < 1:
            raise RegistryRefused(
                42202,
                f"The specified version '{number[:20]}' is not a valid version id. Allowed values"
                ' are between [1, 2^31-1] and the string "latest"',
            )
        if int(number) > len(versions):
            raise RegistryRefused(40402, f"Version {number} not found.")
        return versions[int(number) - 1]

    def _found(self, subject: str, body: Mapping[str, Any]) -> Registration:
        versions = self._of(subject)
        form = _form_of_text(_text_of(body))
        for each in reversed(versions):
            if _form(each.schema.parsed) == form:
                return each
        raise RegistryRefused(40403, "Schema not found")

    def _by_id(self, text: str) -> tuple[int, Schema]:
        if not _is_number(text):
            raise unknown_route()
        schema = self._registry.schemas.get(int(text))
        if schema is None:
            raise RegistryRefused(40403, f"Schema {text} not found")
        return int(text), schema

    def _by_guid(self, guid: str) -> tuple[int, Schema]:
        found = self._registry.by_guid(guid.lower())
        if found is None:
            raise RegistryRefused(40403, "Schema not found")
        return found

    def _schema_string(self, schema: Schema) -> dict[str, Any]:
        return {"schema": schema.text} | self._guid(schema)

    def _version(self, registration: Registration) -> dict[str, Any]:
        return {
            "subject": registration.subject,
            "version": registration.version,
            "id": registration.id,
            **self._guid(registration.schema),
            "schema": registration.schema.text,
        }

    def _guid(self, schema: Schema) -> dict[str, Any]:
        return {"guid": schema.guid} if self._full else {}


def _is_number(text: str) -> bool:
    plain = text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX
    return plain and int(text) <= SCHEMA_ID_MAX


def _text_of(body: Mapping[str, Any]) -> str:
    """The schema in a request; other fields (metadata, ruleSet) are ignored."""
    text = body.get("schema")
    kind = body.get("schemaType") or "AVRO"
    if not isinstance(text, str) or kind != "AVRO" or len(text.encode()) > TEXT_BYTES_MAX:
        raise RegistryRefused(42201, "Invalid schema: an Avro schema is needed")
    return text


def _form_of_text(text: str) -> bytes:
    try:
        return _form(json.loads(text))
    except (ValueError, RecursionError):
        raise RegistryRefused(42201, "Invalid schema: not JSON") from None


def _form(parsed: Any) -> bytes:
    """A schema apart from how it is written: full names, sorted keys, RFC 8785."""
    try:
        plain = parse_schema(json.loads(json.dumps(parsed)), _write_hint=False)
        return rfc8785.dumps(plain)
    except Exception as error:  # fastavro raises what it meets on a hostile schema
        raise RegistryRefused(42201, f"Invalid schema: {type(error).__name__}") from error
