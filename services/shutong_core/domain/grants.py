"""Grants (共享许可) and duties (责任): who receives what, who owes what."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from shutong_core.domain.catalogue import ItemName, SchemaId
from shutong_core.domain.organisations import Uscc
from shutong_core.domain.rows import Identifier, Part, RegionCode, Row, Text

#: Larger integers have no one RFC 8785 form (I-JSON, RFC 7493 2.2).
_INTEGER_MAX = 2**53 - 1
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


def _rfc_3339(value: object) -> object:
    """Refuses what pydantic would take for a moment: numbers, digits, other forms of text."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or _RFC_3339.fullmatch(value) is None:
        raise ValueError("not a time of RFC 3339 with offset")
    return value


#: RFC 3339 with offset.
Timestamp = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc_3339)]


class Keep(Part):
    """Mask *keep*: first and last code points stay, eight `*` between."""

    mask: Literal["keep"]
    first: Annotated[int, Field(ge=0, le=32)] = 0
    last: Annotated[int, Field(ge=0, le=32)] = 0


class Hash(Part):
    """Mask *hash*: HMAC-SHA-256 with the grant's key over the Avro encoding, 16 bytes base64url."""

    mask: Literal["hash"]


class Band(Part):
    """Mask *band*: numbers by ascending bounds, dates by `year` or `month`."""

    mask: Literal["band"]
    bounds: tuple[float, ...] | None = None
    by: Literal["year", "month"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Band:
        if (self.bounds is None) == (self.by is None):
            raise ValueError("band needs either bounds or by")
        if self.bounds is not None and (
            not self.bounds
            or any(a >= b for a, b in zip(self.bounds, self.bounds[1:], strict=False))
        ):
            raise ValueError("bounds must be ascending and not empty")
        return self


class Drop(Part):
    """Mask *drop*: the item is absent from the output."""

    mask: Literal["drop"]


Mask = Annotated[Keep | Hash | Band | Drop, Field(discriminator="mask")]


class RequesterClass(Part):
    """A class of requesters, each for its own territory (按类许可)."""

    level: Literal["province", "city", "county", "town"]
    within: RegionCode
    #: Cities without counties answer for their towns' systems; extra territories by code.
    also: tuple[RegionCode, ...] = ()


class Scope(Part):
    """Which regions, on which region role of the dataset."""

    role: str
    regions: tuple[RegionCode, ...] = ()  # class grants leave it empty: `within` is the scope


class SensitiveBasis(Part):
    """What a grant that lists sensitive items rests on (个人信息保护法 Art. 28, 55)."""

    necessity: Text
    assessment: Text


class Suspension(Part):
    """A grant that is stopped for now (政务数据共享条例 Art. 27)."""

    since: Timestamp
    reason: Text


class Projection(Part):
    """Allotted at publishing: what records of writer schema `schema_id` become for this grant."""

    schema_id: SchemaId
    delivered_id: SchemaId
    guid: str


class Grant(Row):
    """共享许可. Items not listed do not flow."""

    kind: Literal["grant"] = "grant"
    id: Identifier
    dataset: Identifier
    requester: Uscc | None = None
    requester_class: RequesterClass | None = None
    items: dict[ItemName, Literal["clear"] | Mask]
    scope: Scope
    purpose: Identifier
    basis: Text  # 使用依据
    scenario: Text  # 使用场景
    mode: Literal["interface", "batch", "file"]
    valid_from: Timestamp
    valid_until: Timestamp
    agreement: Text  # agreement id
    approvers: tuple[Text, ...]
    quota: Annotated[int, Field(ge=1, le=_INTEGER_MAX)] | None = None
    return_flow: bool = False  # 下行回流 (条例 Art. 24)
    condition: Annotated[str, Field(max_length=2000)] | None = None
    cloudevents: bool = False
    sensitive_basis: SensitiveBasis | None = None
    minors: bool = False
    suspended: Suspension | None = None
    replaces: Identifier | None = None
    key_epoch: Annotated[int, Field(ge=1, le=_INTEGER_MAX)] = 1
    own_client: bool = False  # the agency reads Kafka itself
    partitions: Literal["one", "lanes"] = "one"
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    projections: tuple[Projection, ...]

    @model_validator(mode="after")
    def _one_requester(self) -> Grant:
        if (self.requester is None) == (self.requester_class is None):
            raise ValueError("a grant needs either requester or requester_class")
        return self


class Duty(Row):
    """责任: the provider must supply this dataset, this fresh and this complete."""

    kind: Literal["duty"] = "duty"
    id: Identifier
    provider: Uscc
    dataset: Identifier
    grants: tuple[Identifier, ...]
    basis: Text
    update_cycle: Literal["realtime", "daily", "weekly", "monthly", "quarterly", "yearly"]
    completeness_percent: Annotated[float, Field(ge=0, le=100)] = 99.9
    responsible: Text


class Purpose(Row):
    """A purpose code that grants may name."""

    kind: Literal["purpose"] = "purpose"
    id: Identifier
    title: Text


class Negative(Row):
    """负面清单: these items of a dataset (none named: all) are not shared."""

    kind: Literal["negative"] = "negative"
    id: Identifier
    dataset: Identifier
    items: tuple[ItemName, ...] = ()
    basis: Text


class Bus(Row):
    """What the whole node has in common; exactly one row, id `bus`."""

    kind: Literal["bus"] = "bus"
    id: Literal["bus"] = "bus"
    title: Text
    region: RegionCode
    lanes: Annotated[int, Field(ge=1, le=64)]
    division_table: Text  # date of the table, e.g. 2023-06-30
    division_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    audit_term_days: Annotated[int, Field(ge=1096, le=36_500)] = 1096  # >= 3 years (条例 Art. 29)
    #: Without a checkpoint of a lane for this long nothing is placed on it any more.
    checkpoint_grace_s: Annotated[int, Field(ge=10, le=7 * 86_400)] = 14_400
