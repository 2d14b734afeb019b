"""Organisations of the exchange, the systems they run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator

from shutong_core.domain.identity import check_uscc
from shutong_core.domain.rows import Identifier, Part, RegionCode, Row, Text

#: 统一社会信用代码 with a valid check character (GB 32100).
Uscc = Annotated[str, AfterValidator(check_uscc)]


class Role(StrEnum):
    """What an organisation does in the exchange (政务数据共享条例 Art. 8, 10)."""

    PROVIDER = "provider"  # 提供部门
    REQUESTER = "requester"  # 需求部门
    AUTHORITY = "authority"  # 主管部门
    AUDITOR = "auditor"  # 审计


class Person(Part):
    """A responsible person, by name and post; no identity number is kept."""

    name: Text
    post: Text


class Organisation(Row):
    """部门: who provides, requests, rules or audits. `id` is the USCC."""

    kind: Literal["organisation"] = "organisation"
    id: Uscc
    name: Text
    region: RegionCode
    line: Text  # 条线, e.g. 民政
    type: Literal["government", "dispatched", "functional_zone"] = "government"
    roles: tuple[Role, ...]
    head: Person | None = None  # 部门负责人
    office_head: Person | None = None  # 政务数据共享工作机构负责人 (条例 Art. 10)
    hosted_by: Uscc | None = None  # 代管


class System(Row):
    """A departmental system: the principal that publishes or reads."""

    kind: Literal["system"] = "system"
    id: Identifier
    organisation: Uscc
    title: Text
