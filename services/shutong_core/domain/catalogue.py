"""Datasets as the catalogue holds them (数据资源).

Items and their grades live in the Avro schema (field property `shutong`), so that policy follows
the schema; the row says who provides, under what conditions, by which rules of quality.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shutong_core.domain.organisations import Uscc
from shutong_core.domain.rows import Identifier, Part, RegionCode, Row, Text

ItemName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
#: Four bytes in the Confluent wire format.
SchemaId = Annotated[int, Field(ge=0, le=2**32 - 1)]
Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ShareClass(StrEnum):
    """共享属性 (政务数据共享条例 Art. 14); later members are stricter."""

    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"
    NOT_SHARED = "not_shared"


class Grade(StrEnum):
    """分级 (GB/T 43697-2024); later members are higher."""

    GENERAL_1 = "general_1"
    GENERAL_2 = "general_2"
    GENERAL_3 = "general_3"
    GENERAL_4 = "general_4"
    IMPORTANT = "important"
    CORE = "core"


class Item(Part):
    """信息项: property `shutong` of a top-level field of the dataset's Avro schema."""

    title: Text
    grade: Grade
    personal: bool = False
    sensitive: bool = False  # 敏感个人信息 (个人信息保护法 Art. 28)
    biometric: bool = False  # photo, fingerprint (个人信息保护法 Art. 28): can only be dropped
    share: ShareClass | None = None  # own share class; the stricter of this and the dataset's holds


class SchemaRef(Part):
    """One registered schema version of a dataset; `id` and `guid` are allotted at registration."""

    version: Annotated[int, Field(ge=1, le=10_000)]
    id: SchemaId
    guid: str
    digest: Sha256Hex  # SHA-256 over the full schema in RFC 8785 form: policy identity


class Publisher(Part):
    """An organisation that writes a dataset for its lead provider, for one region."""

    organisation: Uscc
    region: RegionCode


class RequiredRule(Part):
    """Items that must be neither null nor empty."""

    rule: Literal["required"]
    items: tuple[ItemName, ...]


class IdNumberRule(Part):
    """Items that hold a 公民身份号码 (GB 11643); null passes."""

    rule: Literal["id_number"]
    items: tuple[ItemName, ...]


class UsccRule(Part):
    """Items that hold a 统一社会信用代码 (GB 32100); null passes."""

    rule: Literal["uscc"]
    items: tuple[ItemName, ...]


class SumRule(Part):
    """`total` = the sum of `parts`, exactly; a null in any of them fails the record."""

    rule: Literal["sum"]
    total: ItemName
    parts: tuple[ItemName, ...]


QualityRule = Annotated[
    RequiredRule | IdNumberRule | UsccRule | SumRule, Field(discriminator="rule")
]


class OperationItem(Part):
    """The operation stands in an enum or string item with values put, correct, delete."""

    item: ItemName


class AgesUntold(Part):
    """Why a dataset about identified persons has no item that tells their age.

    Without one the bus cannot withhold children's records (个人信息保护法 Art. 28, 31).
    """

    reason: Text  # such as: holders of the licence are of age by law
    basis: Text  # the article, or the number of the assessment


class Tightening(Part):
    """What an edit that tightens the share class or adds a condition rests on.

    政务数据共享条例 Art. 15 forbids conditions that a department adds by itself.
    """

    approval: Text  # number of the authority's approval, a new one for each tightening
    basis: Text


class Dataset(Row):
    """数据资源: a catalogue entry in force."""

    kind: Literal["dataset"] = "dataset"
    id: Identifier
    title: Text
    summary: Text
    # 分类码/顺序码 of the catalogue; stable over all versions.
    resource_code: Annotated[str, Field(pattern=r"^[1-3][0-9]{5}[0-9]*/[0-9]+$")]
    provider: Uscc  # lead provider, 数源部门
    publishers: tuple[Publisher, ...] = ()
    nature: Literal["event", "state"] = "event"
    inbound: Literal["producer_service", "own_client"] = "producer_service"
    key: tuple[ItemName, ...]
    regions: dict[str, ItemName]  # region role (发生地, 户籍地, …) -> item
    provider_role: str  # the role the publisher's jurisdiction is checked on
    # Items that identify persons; become tokens in the audit, whose rows hold at most 255.
    subjects: Annotated[tuple[ItemName, ...], Field(max_length=255)] = ()
    birth_items: tuple[ItemName, ...] = ()  # birth dates or identity numbers that tell the age
    ages_untold: AgesUntold | None = None  # needed where subjects stand without birth items
    operation: Literal["ce_type"] | OperationItem | None = None
    quality: tuple[QualityRule, ...] = ()
    share: ShareClass
    share_scope: Text | None = None  # CONDITIONAL needs it (条例 Art. 15)
    purposes: tuple[Identifier, ...] = ()  # permitted purpose codes; empty only if UNCONDITIONAL
    not_shared_reason: Text | None = None
    not_shared_basis: Text | None = None  # 法律, 行政法规 or 国务院决定
    not_shared_basis_kind: Literal["law", "regulation", "state_council"] | None = None
    use_conditions: Text | None = None
    tightening: Tightening | None = None
    update_cycle: Literal["realtime", "daily", "weekly", "monthly", "quarterly", "yearly"]
    format: Text
    share_modes: tuple[Literal["interface", "batch", "file"], ...]
    data_class: Text
    secrecy: Literal["none", "work", "state"] = "none"
    secrecy_assessment: Text
    privacy_assessment: Text | None = None  # needed when an item is personal (条例 Art. 13)
    risk_record: Text | None = None  # needed for grade IMPORTANT (policy of the bus)
    approver: Text  # 部门负责人
    derived_from: tuple[Identifier, ...] = ()  # grants it was made from (条例 Art. 25)
    onward_consent: Text | None = None
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 400
    schemas: tuple[SchemaRef, ...]
