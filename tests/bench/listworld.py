"""A list as large as a province's: datasets, schemas, ten grants each; for benches of lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.policy_bench import schema
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import AnyRow, parse_row
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemarecords import Registration, Registry, encode_registration
from shutong_core.wire.schemas import Schema, parse_schema_text
from unit import listing_fixtures as listing

_KEEP = {"mask": "keep", "first": 6, "last": 4}
#: Three forms of grants: all in clear, masked number, few items and a condition.
_FORMS: tuple[Mapping[str, Any], ...] = (
    {"items": dict.fromkeys(("id_number", "name", "sex", "born", "town_code"), "clear")},
    {"items": {"id_number": _KEEP, "name": "clear", "town_code": "clear", "income": "clear"}},
    {
        "items": {"id_number": "clear", "town_code": "clear", "status": "clear"},
        "condition": 'status == "ACTIVE" && (has(phone) || sex in ["MALE", "FEMALE"])',
    },
)


class Control:
    """A key that signs lists, and the one that verifies them."""

    key_id = "control/0000000000000000"

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._public = self._key.public_key()

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        return self._key.sign(data)

    def verify(self, key_id: str, data: bytes, signature: bytes) -> bool:
        """True, or an exception: benches forge nothing."""
        self._public.verify(signature, data)
        return key_id == self.key_id


@dataclass(frozen=True)
class LargeList:
    """Rows of the list, and the registrations it names."""

    rows: tuple[AnyRow, ...]
    registrations: tuple[Registration, ...]

    def schema_records(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of control.schemas."""
        return map(encode_registration, self.registrations)


def large_list(datasets: int, grants_each: int) -> LargeList:
    """The list; the first dataset is called d-0000, its first grant g-0000-000."""
    rows: list[AnyRow] = [listing.bus(), listing.requester(), listing.system(), listing.purpose()]
    rows.append(listing.organisation(region=listing.GUANGDONG))
    registry, made = Registry(), []
    for index in range(datasets):
        name = f"d-{index:04d}"
        of = parse_schema_text(
            json.dumps({**schema().parsed, "namespace": f"cn.gov.example.d{index:04d}"})
        )
        registration, _ = registry.allot(f"{name}-value", of)
        made.append(registration)
        rows.append(_dataset(name, registration))
        for form, given in enumerate(_FORMS):
            row = listing.grant().body() | {"items": given["items"]}
            items = _parsed(row).items
            delivered, _ = registry.allot(f"{name}-p{form}", project_schema(of, items, name))
            made.append(delivered)
            for number in range(form, grants_each, len(_FORMS)):
                grant = f"g-{index:04d}-{number:03d}"
                rows.append(_grant(grant, name, given, registration, delivered))
    return LargeList(tuple(rows), tuple(made))


def _dataset(name: str, registration: Registration) -> AnyRow:
    of: Schema = registration.schema
    body = listing.dataset(name).body() | {
        "key": ["id_number"],
        "regions": {"居住地": "town_code"},
        "provider_role": "居住地",
        "subjects": ["id_number"],
        "birth_items": ["born"],
        "schemas": [
            {"version": 1, "id": registration.id, "guid": of.guid, "digest": of.digest.hex()}
        ],
    }
    return parse_row(body)


def _grant(
    name: str,
    dataset: str,
    form: Mapping[str, Any],
    registration: Registration,
    delivered: Registration,
) -> AnyRow:
    projection = {
        "schema_id": registration.id,
        "delivered_id": delivered.id,
        "guid": delivered.schema.guid,
    }
    body = listing.grant(name).body() | {
        "dataset": dataset,
        "items": form["items"],
        "scope": {"role": "居住地", "regions": [listing.MEIZHOU, listing.WUHUA]},
        "condition": form.get("condition"),
        "minors": False,
        "projections": [projection],
    }
    return parse_row({key: value for key, value in body.items() if value is not None})


def _parsed(body: Mapping[str, Any]) -> Grant:
    row = parse_row(body)
    if not isinstance(row, Grant):
        raise TypeError("not a grant")
    return row
