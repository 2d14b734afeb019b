"""A small list for the producer service's tests: one dataset, who may publish it and who not."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from shutong_core.domain.version import AnyRow, ListVersion, next_version, parse_row
from shutong_core.wire.codec import encode
from shutong_core.wire.framing import frame
from shutong_core.wire.schemas import Schema
from shutong_producer.door import Door
from unit import listing_fixtures as listing
from unit.policy_world import RECORD, World, schema, typed

DATASET = "minimum-living"
SYSTEM = "wuhua-civil"
PUBLISHER = f"{listing.PROVIDER}/{SYSTEM}"
SECOND = "xingning-civil"
SECOND_ORG = listing.uscc(4, listing.XINGNING)
READER = "meizhou-civil"
KEYS = {"key-1": SYSTEM, "key-2": SECOND, "key-reader": READER, "key-gone": "not-in-the-list"}
RULES: list[dict[str, Any]] = [
    {"rule": "required", "items": ["agency"]},
    {"rule": "id_number", "items": ["id_number"]},
    {"rule": "sum", "total": "members", "parts": ["adults", "children"]},
]


def world(**dataset: Any) -> World:
    """The policy world with a second publisher, a reader and three datasets beside the default.

    Keyword arguments change the default dataset's row.
    """
    changed = {
        "quality": RULES,
        "publishers": [{"organisation": SECOND_ORG, "region": listing.XINGNING}],
        **dataset,
    }
    rows = [
        listing.organisation(
            SECOND_ORG, name="兴宁市民政局（示例）", region=listing.XINGNING
        ).body(),
        listing.system(SECOND, SECOND_ORG).body(),
        listing.system(READER, listing.REQUESTER).body(),
    ]
    of = schema()
    for name, change in {
        "own-client": {"inbound": "own_client"},
        "work-secret": {"secrecy": "work"},
        "derived": {"derived_from": ["minimum-living-meizhou"]},
        "not-mine": {"provider": listing.REQUESTER},
    }.items():
        body = listing.dataset(name).body() | change
        body["regions"] = {"受理地": "town_code"}
        ref = {"version": 1, "id": 1, "guid": of.guid, "digest": of.digest.hex()}
        rows.append(body | {"schemas": [ref]})
    return World({"dataset": changed, "rows": rows})


def data(**changed: Any) -> dict[str, Any]:
    """The default record's `data`, sound under RULES."""
    return {**copy.deepcopy(RECORD), "agency": "水寨镇", **changed}


def avro(schema_id: int = 1, **changed: Any) -> bytes:
    """The default record as framed Avro."""
    of = schema()
    return frame(schema_id, encode(of, typed(data(**changed), of)))


def door(publisher: str = PUBLISHER, bytes_max: int = 900 * 1024, **dataset: Any) -> Door:
    """The default dataset's door."""
    it = world(**dataset)
    row = it.version.dataset(DATASET)
    assert row is not None
    return Door(it.version, row, it.schemas, publisher, bytes_max, lambda: "made-1")


class Lists:
    """Stands for the list feed."""

    def __init__(self, version: ListVersion | None, schemas: Mapping[int, Schema]) -> None:
        self.version = version
        self.schemas = schemas
        self.word_age_s = 0.0

    def without(self, *row_ids: str) -> None:
        """Put the next version in force, without these rows."""
        assert self.version is not None
        self.version = next_version(self.version, (), row_ids, listing.EFFECTIVE_MS)

    def with_row(self, body: dict[str, Any]) -> None:
        """Put the next version in force, with this row."""
        row: AnyRow = parse_row(body)
        self.version = next_version(self.version, [row], (), listing.EFFECTIVE_MS)


class Keys:
    """Stands for the keyring's API keys."""

    def lookup(self, key: str) -> str | None:
        return KEYS.get(key)
