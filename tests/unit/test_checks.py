"""What a list must keep before it is published: each rule broken once, beside a list that keeps it.

Every case is (rule, code of the finding, where it is found, rows that break it, rows that do not).
The rows are put into the minimal list in place of those with the same id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from shutong_core.domain.catalogue import (
    AgesUntold,
    Grade,
    IdNumberRule,
    OperationItem,
    Publisher,
    RequiredRule,
    ShareClass,
    SumRule,
    Tightening,
)
from shutong_core.domain.checks import CHECKS, check_list
from shutong_core.domain.checks_context import Listing, publishing_systems
from shutong_core.domain.findings import PROBLEMS_MAX, Finding, path_text
from shutong_core.domain.grants import (
    Band,
    Drop,
    Hash,
    Keep,
    RequesterClass,
    Scope,
    SensitiveBasis,
    Suspension,
)
from shutong_core.domain.organisations import Role
from shutong_core.domain.schemaview import FieldType, PlainSchemaView
from shutong_core.domain.version import AnyRow, ListVersion
from unit import listing_fixtures as made

PROVINCE_OFFICE = made.uscc(4, made.GUANGDONG)
HOST = made.uscc(5, made.GUANGDONG)
TOWN = made.uscc(6, made.SHUIZHAI)
NEXT_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
YEAR_AFTER = datetime(2028, 1, 1, tzinfo=UTC)
BASIS = SensitiveBasis(necessity="核对待遇", assessment="PIA-2026-009")
PUBLISHERS = (Publisher(organisation=made.PROVIDER, region=made.WUHUA),)

Column = tuple[FieldType, Any] | None


def province_provider(**fields: Any) -> AnyRow:
    """An organisation above all others of the list."""
    given: dict[str, Any] = {"name": "广东省民政厅（示例）", "region": made.GUANGDONG}
    return made.organisation(PROVINCE_OFFICE, **(given | fields))


def without(*names: str) -> dict[str, Any]:
    """The default grant's items but those named."""
    return {name: how for name, how in made.grant().items.items() if name not in names}


def items(**more: Any) -> dict[str, Any]:
    return without() | more


def return_flow(**fields: Any) -> AnyRow:
    return made.grant(return_flow=True, **fields)


def county_class(**fields: Any) -> AnyRow:
    given: dict[str, Any] = {
        "requester_class": RequesterClass(level="county", within=made.MEIZHOU),
        "scope": Scope(role="受理地"),
    }
    return made.grant(**(given | fields))


def text(name: str, **fields: Any) -> tuple[FieldType, Any]:
    return FieldType(name, "string"), made.item(name, **fields)


FROM_PROVINCE = (province_provider(), made.dataset(provider=PROVINCE_OFFICE))
OPERATION = FieldType("op", "enum", symbols=("put", "delete"))
OTHER_DATASET: dict[str, Any] = {"dataset_id": "other", "resource_code": "203001/2"}
IMPORTANT: dict[str, Column] = {"name": text("name", grade=Grade.IMPORTANT, personal=True)}
SENSITIVE_GRANT: dict[str, Any] = {"items": items(amount="clear")}


@dataclass(frozen=True)
class Case:
    rule: str
    code: str
    where: str
    broken: tuple[AnyRow, ...] = ()
    kept: tuple[AnyRow, ...] = ()
    columns: dict[str, Column] = field(default_factory=dict)
    kept_columns: dict[str, Column] | None = None
    gone: tuple[str, ...] = ()


CASES = (
    # the node, regions, organisations
    Case("the list has a row for the node", "bus-missing", "bus/bus ", gone=("bus/bus",)),
    Case(
        "the list names the date of the table installed",
        "division-table-differs",
        "bus/bus division_table",
        (made.bus(division_table="2020-01-01"),),
    ),
    Case(
        "the list names the digest of the table installed",
        "division-table-differs",
        "bus/bus division_digest",
        (made.bus(division_digest="0" * 64),),
    ),
    Case(
        "a region is in the table",
        "region-unknown",
        "grant/minimum-living-meizhou scope.regions[1]",
        (made.grant(scope=Scope(role="受理地", regions=(made.MEIZHOU, "999999000000"))),),
        (made.grant(scope=Scope(role="受理地", regions=(made.MEIZHOU, made.GUANGZHOU))),),
    ),
    Case(
        "a region is current",
        "region-retired",
        "grant/minimum-living-meizhou scope.regions[0]",
        (made.grant(scope=Scope(role="受理地", regions=("440102000000",))),),
        (made.grant(scope=Scope(role="受理地", regions=("440104000000",))),),
    ),
    Case(
        "an organisation has a role",
        "role-missing",
        f"organisation/{made.AUTHORITY} roles",
        (made.authority(roles=()),),
    ),
    Case(
        "an organisation belongs to a government",
        "organisation-region",
        f"organisation/{made.AUTHORITY} region",
        (made.authority(region="440000000000@self"),),
    ),
    Case(
        "a department names the head of its sharing office",
        "office-head-missing",
        f"organisation/{made.REQUESTER} office_head",
        (made.requester(office_head=None),),
    ),
    Case(
        "a provider names its head",
        "head-missing",
        f"organisation/{made.PROVIDER} head",
        (made.organisation(head=None),),
        (made.requester(head=None),),
    ),
    Case(
        "an authority is not the auditor",
        "authority-audits-itself",
        f"organisation/{made.AUTHORITY} roles",
        (made.authority(roles=(Role.AUTHORITY, Role.AUDITOR)),),
        (province_provider(roles=(Role.AUDITOR,)),),
    ),
    Case(
        "a town has no authority",
        "authority-level",
        f"organisation/{TOWN} roles",
        (made.organisation(TOWN, region=made.SHUIZHAI, roles=(Role.AUTHORITY,)),),
        (made.organisation(TOWN, region=made.WUHUA, roles=(Role.AUTHORITY,)),),
    ),
    Case(
        "a region has one authority",
        "authority-double",
        f"organisation/{PROVINCE_OFFICE} roles",
        (province_provider(roles=(Role.AUTHORITY,)),),
        (province_provider(roles=(Role.AUTHORITY,), region=made.GUANGZHOU),),
    ),
    Case(
        "a system belongs to an organisation of the list",
        "organisation-unknown",
        "system/stray organisation",
        (made.system("stray", HOST),),
        (made.system("stray", made.REQUESTER),),
    ),
    Case(
        "a host manages itself",
        "host-unsuited",
        f"organisation/{made.PROVIDER} hosted_by",
        (made.organisation(hosted_by=made.PROVIDER),),
        (made.organisation(hosted_by=made.AUTHORITY),),
    ),
    Case(
        "a duty is of a dataset of the list",
        "dataset-unknown",
        "duty/minimum-living-duty dataset",
        (made.duty(dataset="nothing"),),
        (made.duty(),),
    ),
    Case(
        "a duty is the provider's own",
        "duty-of-another",
        "duty/minimum-living-duty provider",
        (made.duty(provider=made.REQUESTER),),
        (made.duty(),),
    ),
    Case(
        "a duty names grants of its dataset",
        "duty-grant-unknown",
        "duty/minimum-living-duty grants[0]",
        (made.duty(grants=("nothing",)),),
        (made.duty(),),
    ),
    # catalogue
    Case(
        "a state dataset is not carried yet",
        "state-dataset-not-yet",
        "dataset/minimum-living nature",
        (made.dataset(nature="state"),),
    ),
    Case(
        "secrets are not carried",
        "secrecy-not-none",
        "dataset/minimum-living secrecy",
        (made.dataset(secrecy="work"),),
    ),
    Case(
        "a provider is in the list",
        "organisation-unknown",
        "dataset/minimum-living provider",
        (made.dataset(provider=HOST, publishers=PUBLISHERS),),
        (made.organisation(HOST), made.dataset(provider=HOST, publishers=PUBLISHERS)),
    ),
    Case(
        "a provider has that role",
        "not-a-provider",
        "dataset/minimum-living provider",
        (made.organisation(roles=(Role.REQUESTER,)),),
    ),
    Case(
        "a publisher writes for its own region",
        "publisher-outside-region",
        "dataset/minimum-living publishers[0].region",
        (made.dataset(publishers=(Publisher(organisation=made.PROVIDER, region=made.MEIZHOU),)),),
        (made.dataset(publishers=(Publisher(organisation=made.PROVIDER, region=made.SHUIZHAI),)),),
    ),
    Case(
        "a publisher is listed once",
        "publisher-double",
        "dataset/minimum-living publishers[1]",
        (made.dataset(publishers=PUBLISHERS * 2),),
        (made.dataset(publishers=PUBLISHERS),),
    ),
    Case(
        "an own client is the only writer",
        "own-client-one-writer",
        "dataset/minimum-living inbound",
        (made.dataset(inbound="own_client"), made.system("second")),
        (made.dataset(inbound="own_client"),),
    ),
    Case(
        "conditional sharing states its scope",
        "condition-unlisted",
        "dataset/minimum-living share_scope",
        (made.dataset(share_scope=None),),
        (made.dataset(share=ShareClass.UNCONDITIONAL, share_scope=None),),
    ),
    Case(
        "a conditional item states the scope too",
        "condition-unlisted",
        "dataset/minimum-living share_scope",
        (made.dataset(share=ShareClass.UNCONDITIONAL, share_scope=None),),
        columns={"name": text("name", personal=True, share=ShareClass.CONDITIONAL)},
    ),
    Case(
        "what is not shared states a basis",
        "refusal-without-basis",
        "dataset/minimum-living not_shared_basis_kind",
        (
            made.dataset(
                share=ShareClass.NOT_SHARED, not_shared_reason="x", not_shared_basis="某法第一条"
            ),
        ),
        (
            made.dataset(
                share=ShareClass.NOT_SHARED,
                not_shared_reason="x",
                not_shared_basis="某法第一条",
                not_shared_basis_kind="law",
            ),
        ),
        gone=("grant/minimum-living-meizhou",),
    ),
    Case(
        "permitted purposes are in the list",
        "purpose-unknown",
        "dataset/minimum-living purposes[1]",
        (made.dataset(purposes=("social-relief", "research")),),
        (made.dataset(purposes=("social-relief", "research")), made.purpose("research")),
    ),
    Case(
        "core data are not carried",
        "core-data",
        "dataset/minimum-living schemas[0]",
        columns={"name": text("name", grade=Grade.CORE, personal=True)},
    ),
    Case(
        "important data have a risk record",
        "important-without-risk-record",
        "dataset/minimum-living risk_record",
        kept=(made.dataset(risk_record="FX-2026-1"),),
        columns=IMPORTANT,
        kept_columns=IMPORTANT,
    ),
    Case(
        "personal data have an impact assessment",
        "privacy-assessment-missing",
        "dataset/minimum-living privacy_assessment",
        (made.dataset(privacy_assessment=None),),
    ),
    Case(
        "derived data need the source's consent",
        "derived-without-consent",
        "dataset/minimum-living onward_consent",
        (made.dataset(derived_from=("minimum-living-meizhou",)),),
        (made.dataset(derived_from=("minimum-living-meizhou",), onward_consent="TY-2026-1"),),
    ),
    Case(
        "derived data name grants of the list",
        "derived-grant-unknown",
        "dataset/minimum-living derived_from[0]",
        (made.dataset(derived_from=("nothing",), onward_consent="TY-2026-1"),),
        (made.dataset(derived_from=("minimum-living-meizhou",), onward_consent="TY-2026-1"),),
    ),
    Case(
        "the same data have one source, whatever the punctuation of the title",
        "title-double",
        "dataset/other title",
        (made.dataset(**OTHER_DATASET, title="最低生活保障（审批）信息"),),
        (made.dataset(**OTHER_DATASET, title="最低生活保障发放信息"),),
    ),
    Case(
        "a resource code is unique",
        "resource-code-double",
        "dataset/other resource_code",
        (made.dataset("other", title="另一数据"),),
        (made.dataset(**OTHER_DATASET, title="另一数据"),),
    ),
    Case(
        "a title names data, not a system",
        "title-names-system",
        "dataset/minimum-living title",
        (made.dataset(title="社会救助管理系统"),),
    ),
    Case(
        "share modes are given",
        "share-modes-missing",
        "dataset/minimum-living share_modes",
        (made.dataset(share_modes=()),),
        gone=("grant/minimum-living-meizhou",),
    ),
    Case(
        "a file format is shared as files",
        "format-mode-clash",
        "dataset/minimum-living share_modes",
        (made.dataset(format="电子文件", share_modes=("interface",)),),
        (made.dataset(format="电子文件", share_modes=("interface", "file")),),
    ),
    # catalogue entry and schema
    Case(
        "a dataset has a schema",
        "schema-missing",
        "dataset/minimum-living schemas",
        (made.dataset(schemas=()),),
        gone=("grant/minimum-living-meizhou",),
    ),
    Case(
        "schema versions count up from one",
        "schema-versions",
        "dataset/minimum-living schemas",
        (made.dataset(schemas=(made.schema_ref(1, 2),)),),
    ),
    Case(
        "a schema is registered",
        "schema-unknown",
        "dataset/minimum-living schemas[1]",
        (made.dataset(schemas=(made.schema_ref(1, 1), made.schema_ref(7, 2))),),
        (made.dataset(schemas=(made.schema_ref(1, 1), made.schema_ref(2, 2))),),
    ),
    Case(
        "a dataset has a key",
        "key-missing",
        "dataset/minimum-living key",
        (made.dataset(key=()),),
        (made.dataset(key=("decision_no", "id_number")),),
    ),
    Case(
        "a key item is in the schema",
        "item-unknown",
        "dataset/minimum-living key[0]",
        (made.dataset(key=("nothing",)),),
    ),
    Case(
        "a key item is never null",
        "item-unsuited",
        "dataset/minimum-living key[0]",
        (made.dataset(key=("remarks",)),),
        (made.dataset(key=("category",)),),
    ),
    Case(
        "jurisdiction is checked on a region role of the dataset",
        "region-role-unknown",
        "dataset/minimum-living provider_role",
        (made.dataset(provider_role="户籍地"),),
    ),
    Case(
        "a region item is text",
        "item-unsuited",
        "dataset/minimum-living regions.户籍地",
        (made.dataset(regions={"受理地": "town_code", "户籍地": "decided_on"}),),
        (made.dataset(regions={"受理地": "town_code", "户籍地": "remarks"}),),
    ),
    Case(
        "an item that identifies persons is marked personal",
        "item-unsuited",
        "dataset/minimum-living subjects[0]",
        (made.dataset(subjects=("decision_no",)),),
        (made.dataset(subjects=("name",)),),
    ),
    Case(
        "an age comes from a date or an identity number",
        "item-unsuited",
        "dataset/minimum-living birth_items[0]",
        (made.dataset(birth_items=("category",)),),
        (made.dataset(birth_items=("decided_on",)),),
    ),
    Case(
        "where persons are identified something tells their age, or the list says why nothing does",
        "ages-untold",
        "dataset/minimum-living birth_items",
        (made.dataset(birth_items=()),),
        (
            made.dataset(
                birth_items=(),
                ages_untold=AgesUntold(reason="均为成年人", basis="示例办法"),
            ),
        ),
    ),
    Case(
        "a dataset that identifies nobody needs no age",
        "ages-untold",
        "dataset/minimum-living birth_items",
        (made.dataset(birth_items=()),),
        (made.dataset(birth_items=(), subjects=()),),
    ),
    Case(
        "an operation item says put, correct or delete",
        "item-unsuited",
        "dataset/minimum-living operation.item",
        (
            made.dataset(operation=OperationItem(item="category")),
            made.grant(items=items(op="clear")),
        ),
        (
            made.dataset(operation=OperationItem(item="op")),
            made.grant(items=items(op="clear")),
        ),
        columns={"op": (OPERATION, made.item("操作"))},
        kept_columns={"op": (OPERATION, made.item("操作"))},
    ),
    Case(
        "a quality rule names items of the schema",
        "item-unknown",
        "dataset/minimum-living quality[0].items[1]",
        (made.dataset(quality=(RequiredRule(rule="required", items=("name", "nothing")),)),),
        (made.dataset(quality=(RequiredRule(rule="required", items=("name", "remarks")),)),),
    ),
    Case(
        "a number check is of text",
        "item-unsuited",
        "dataset/minimum-living quality[0].items[0]",
        (made.dataset(quality=(IdNumberRule(rule="id_number", items=("amount",)),)),),
        (made.dataset(quality=(IdNumberRule(rule="id_number", items=("id_number",)),)),),
    ),
    Case(
        "a sum is of exact numbers",
        "item-unsuited",
        "dataset/minimum-living quality[0].parts[0]",
        (made.dataset(quality=(SumRule(rule="sum", total="amount", parts=("ratio",)),)),),
        (made.dataset(quality=(SumRule(rule="sum", total="amount", parts=("months",)),)),),
        columns={"ratio": (FieldType("ratio", "double"), made.item("比例"))},
        kept_columns={"months": (FieldType("months", "int"), made.item("月数"))},
    ),
    Case(
        "a total is none of its parts",
        "sum-rule",
        "dataset/minimum-living quality[0].parts",
        (made.dataset(quality=(SumRule(rule="sum", total="amount", parts=("amount",)),)),),
    ),
    # grants
    Case(
        "a grant is of a dataset of the list",
        "dataset-unknown",
        "grant/minimum-living-meizhou dataset",
        (made.grant(dataset="nothing"),),
    ),
    Case(
        "a requester is in the list",
        "organisation-unknown",
        "grant/minimum-living-meizhou requester",
        (made.grant(requester=HOST),),
        (made.grant(requester=HOST), made.organisation(HOST)),
    ),
    Case(
        "a requester has that role",
        "not-a-requester",
        "grant/minimum-living-meizhou requester",
        (made.requester(roles=(Role.PROVIDER,)),),
    ),
    Case(
        "a grant's region role is one of the dataset's",
        "region-role-unknown",
        "grant/minimum-living-meizhou scope.role",
        (made.grant(scope=Scope(role="参保地", regions=(made.MEIZHOU,))),),
    ),
    Case(
        "a grant's purpose is in the list",
        "purpose-unknown",
        "grant/minimum-living-meizhou purpose",
        (made.grant(purpose="research"),),
    ),
    Case(
        "a grant's purpose is permitted by the catalogue entry",
        "purpose-not-permitted",
        "grant/minimum-living-meizhou purpose",
        (made.grant(purpose="research"), made.purpose("research")),
        (
            made.grant(purpose="research"),
            made.purpose("research"),
            made.dataset(purposes=("research",)),
        ),
    ),
    Case(
        "a grant's mode is offered",
        "mode-not-offered",
        "grant/minimum-living-meizhou mode",
        (made.dataset(share_modes=("batch",)),),
        (made.dataset(share_modes=("interface",)),),
    ),
    Case(
        "a grant was approved",
        "approver-missing",
        "grant/minimum-living-meizhou approvers",
        (made.grant(approvers=()),),
    ),
    Case(
        "a grant ends after it begins",
        "validity-empty",
        "grant/minimum-living-meizhou valid_until",
        (made.grant(valid_from=NEXT_YEAR),),
        (made.grant(valid_from=NEXT_YEAR, valid_until=YEAR_AFTER),),
    ),
    Case(
        "a grant names its regions",
        "scope-empty",
        "grant/minimum-living-meizhou scope.regions",
        (made.grant(scope=Scope(role="受理地")),),
    ),
    Case(
        "a class grant names no other regions",
        "class-scope-given",
        "grant/minimum-living-meizhou scope.regions",
        (county_class(scope=Scope(role="受理地", regions=(made.WUHUA,))),),
        (county_class(),),
    ),
    Case(
        "a class has members",
        "class-empty",
        "grant/minimum-living-meizhou requester_class",
        (county_class(requester_class=RequesterClass(level="city", within=made.WUHUA)),),
        (county_class(requester_class=RequesterClass(level="town", within=made.WUHUA)),),
    ),
    Case(
        "further members of a class lie in its region",
        "class-outside",
        "grant/minimum-living-meizhou requester_class.also[0]",
        (
            county_class(
                requester_class=RequesterClass(
                    level="county", within=made.MEIZHOU, also=(made.GUANGZHOU,)
                )
            ),
        ),
        (
            county_class(
                requester_class=RequesterClass(
                    level="county", within=made.GUANGDONG, also=(made.GUANGZHOU,)
                )
            ),
        ),
    ),
    Case(
        "return flow accepts no condition",
        "return-flow-condition",
        "grant/minimum-living-meizhou condition",
        (*FROM_PROVINCE, made.system("s", PROVINCE_OFFICE), return_flow(condition="true")),
        (*FROM_PROVINCE, return_flow(items=items(name=Keep(mask="keep", first=1)))),
    ),
    Case(
        "return flow has no quota",
        "return-flow-condition",
        "grant/minimum-living-meizhou quota",
        (*FROM_PROVINCE, return_flow(quota=5)),
        (*FROM_PROVINCE, return_flow()),
    ),
    Case(
        "return flow is of the requester's own region",
        "return-flow-outside",
        "grant/minimum-living-meizhou scope.regions[1]",
        (
            *FROM_PROVINCE,
            return_flow(scope=Scope(role="受理地", regions=(made.WUHUA, made.GUANGZHOU))),
        ),
        (*FROM_PROVINCE, return_flow(scope=Scope(role="受理地", regions=(made.WUHUA,)))),
    ),
    Case(
        "return flow goes down",
        "return-flow-not-down",
        "grant/minimum-living-meizhou return_flow",
        (return_flow(),),
        (*FROM_PROVINCE, return_flow()),
    ),
    Case(
        "return flow to a class goes down",
        "return-flow-not-down",
        "grant/minimum-living-meizhou return_flow",
        (county_class(return_flow=True),),
        (*FROM_PROVINCE, county_class(return_flow=True)),
    ),
    Case(
        "a grant replaces one that exists",
        "replaces-unsuited",
        "grant/minimum-living-meizhou replaces",
        (made.grant(replaces="nothing"),),
        (
            made.grant(replaces="old"),
            made.grant("old", valid_from=NEXT_YEAR, valid_until=YEAR_AFTER),
        ),
    ),
    Case(
        "no record reaches a requester twice for one purpose",
        "grant-overlap",
        "grant/second ",
        (made.grant("second", scope=Scope(role="受理地", regions=(made.WUHUA,))),),
        (made.grant("second", scope=Scope(role="受理地", regions=(made.GUANGZHOU,))),),
    ),
    Case(
        "a replaced grant ends or is suspended before the new one begins",
        "grant-overlap",
        "grant/second ",
        (made.grant("second", replaces="minimum-living-meizhou"),),
        (
            made.grant("second", replaces="minimum-living-meizhou"),
            made.grant(suspended=Suspension(since=NEXT_YEAR, reason="由新许可接替")),
        ),
    ),
    Case(
        "nobody reads the topic of a class grant",
        "class-own-client",
        "grant/minimum-living-meizhou own_client",
        (county_class(own_client=True),),
        (county_class(),),
    ),
    Case(
        "an own client belongs to a system of the requester",
        "own-client-no-system",
        "grant/minimum-living-meizhou own_client",
        (made.grant(own_client=True),),
        (made.grant(own_client=True), made.system("meizhou-second", made.REQUESTER)),
        gone=("system/meizhou-civil",),
    ),
    # what flows
    Case(
        "something flows",
        "items-none",
        "grant/minimum-living-meizhou items",
        (made.grant(items={"name": Drop(mask="drop")}),),
        (made.grant(items={"name": "clear"}),),
    ),
    Case(
        "a granted item is in the schema",
        "item-unknown",
        "grant/minimum-living-meizhou items.nothing",
        (made.grant(items=items(nothing="clear")),),
    ),
    Case(
        "keep is for text",
        "mask-misfit",
        "grant/minimum-living-meizhou items.category",
        (made.grant(items=items(category=Keep(mask="keep", first=1))),),
        (made.grant(items=items(name=Keep(mask="keep", first=1))),),
    ),
    Case(
        "bands by bounds are for numbers",
        "mask-misfit",
        "grant/minimum-living-meizhou items.decided_on",
        (made.grant(items=items(decided_on=Band(mask="band", bounds=(1.0,)))),),
        (made.grant(items=items(amount=Band(mask="band", bounds=(1.0,))), sensitive_basis=BASIS),),
    ),
    Case(
        "bands by year are for dates",
        "mask-misfit",
        "grant/minimum-living-meizhou items.name",
        (made.grant(items=items(name=Band(mask="band", by="year"))),),
        (made.grant(items=items(decided_on=Band(mask="band", by="year"))),),
    ),
    Case(
        "a photo can only be dropped",
        "biometric-only-dropped",
        "grant/minimum-living-meizhou items.photo",
        (made.grant(items=items(photo=Hash(mask="hash"))),),
        (made.grant(items=items(photo=Drop(mask="drop"))),),
        columns={"photo": text("photo", biometric=True)},
        kept_columns={"photo": text("photo", biometric=True)},
    ),
    Case(
        "a dataset that is not shared has no grants",
        "not-shared",
        "grant/minimum-living-meizhou dataset",
        (
            made.dataset(
                share=ShareClass.NOT_SHARED,
                not_shared_reason="x",
                not_shared_basis="某法第一条",
                not_shared_basis_kind="law",
            ),
        ),
    ),
    Case(
        "an item that is not shared does not flow",
        "item-not-shared",
        "grant/minimum-living-meizhou items.name",
        columns={"name": text("name", personal=True, share=ShareClass.NOT_SHARED)},
    ),
    Case(
        "the negative list blocks an item",
        "negative-list",
        "grant/minimum-living-meizhou items.name",
        (made.negative(items=("name",)),),
        (made.negative(items=("amount",)),),
    ),
    Case(
        "the negative list blocks a whole dataset",
        "negative-list",
        "grant/minimum-living-meizhou items.name",
        (made.negative(items=()),),
    ),
    Case(
        "a row of the negative list names a dataset of the list",
        "dataset-unknown",
        "negative/no-amount dataset",
        (made.negative(dataset="nothing"),),
        (made.negative(),),
    ),
    Case(
        "a row of the negative list names items of the schema",
        "item-unknown",
        "negative/no-amount items[0]",
        (made.negative(items=("nothing",)),),
        (made.negative(),),
    ),
    Case(
        "data of minors need a basis",
        "minors-without-basis",
        "grant/minimum-living-meizhou minors",
        (made.grant(minors=True),),
        (made.grant(minors=True, sensitive_basis=BASIS),),
    ),
    Case(
        "a sensitive item needs a basis",
        "sensitive-without-basis",
        "grant/minimum-living-meizhou items.amount",
        (made.grant(**SENSITIVE_GRANT),),
        (made.grant(**SENSITIVE_GRANT, sensitive_basis=BASIS),),
    ),
    Case(
        "a masked sensitive item needs a basis too, a dropped one does not",
        "sensitive-without-basis",
        "grant/minimum-living-meizhou items.amount",
        (made.grant(items=items(amount=Hash(mask="hash"))),),
        (made.grant(items=items(amount=Drop(mask="drop"))),),
    ),
    Case(
        "no own client reads sensitive items",
        "own-client-sensitive",
        "grant/minimum-living-meizhou items.amount",
        (made.grant(**SENSITIVE_GRANT, sensitive_basis=BASIS, own_client=True),),
        (made.grant(own_client=True),),
    ),
    Case(
        "no own client reads important items",
        "own-client-sensitive",
        "grant/minimum-living-meizhou items.name",
        (made.grant(own_client=True), made.dataset(risk_record="FX-2026-1")),
        (made.dataset(risk_record="FX-2026-1"),),
        columns=IMPORTANT,
        kept_columns=IMPORTANT,
    ),
    Case(
        "the operation of ce_type is not lost",
        "operation-lost",
        "grant/minimum-living-meizhou cloudevents",
        (made.dataset(operation="ce_type"),),
        (made.dataset(operation="ce_type"), made.grant(cloudevents=True)),
    ),
    Case(
        "the operation item is not lost",
        "operation-lost",
        "grant/minimum-living-meizhou items.op",
        (made.dataset(operation=OperationItem(item="op")),),
        (
            made.dataset(operation=OperationItem(item="op")),
            made.grant(items=items(op="clear")),
        ),
        columns={"op": (OPERATION, made.item("操作"))},
        kept_columns={"op": (OPERATION, made.item("操作"))},
    ),
    Case(
        "a class grant tells in clear whose record it is",
        "class-region-item",
        "grant/minimum-living-meizhou items.town_code",
        (county_class(items=items(town_code=Hash(mask="hash"))),),
        (county_class(),),
    ),
    Case(
        "a condition can be evaluated",
        "condition-unsound",
        "grant/minimum-living-meizhou condition",
        (made.grant(condition="nothing == 1"),),
        (made.grant(condition="category == 'RURAL'"),),
    ),
    Case(
        "a grant has a projection of a schema of its dataset",
        "projection-unbound",
        "grant/minimum-living-meizhou projections",
        (made.grant(projections=(made.projection(9),)),),
    ),
    Case(
        "a grant has a projection",
        "projection-unbound",
        "grant/minimum-living-meizhou projections",
        (made.grant(projections=()),),
    ),
)


def condition_problem(condition: str, _view: object) -> str | None:
    return "没有信息项 nothing / no item nothing" if "nothing" in condition else None


def found_in(
    version: ListVersion,
    columns: dict[str, Column] | None = None,
    previous: ListVersion | None = None,
) -> tuple[Finding, ...]:
    view = made.schema_view(**(columns or {}))
    schemas: dict[int, PlainSchemaView] = {1: view, 2: view}
    return check_list(version, schemas, made.divisions(), condition_problem, previous)


def places(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(one.code, f"{one.row_id} {one.field_path}") for one in findings}


def test_the_minimal_list_keeps_every_rule() -> None:
    assert found_in(made.minimal()) == ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule(case: Case) -> None:
    broken = found_in(made.minimal(*case.broken, without=case.gone), case.columns)
    assert (case.code, case.where) in places(broken)
    gone = case.gone if case.kept else ()
    assert found_in(made.minimal(*case.kept, without=gone), case.kept_columns) == ()


SECOND_SCHEMA = (made.schema_ref(1, 1), made.schema_ref(2, 2))
CONDITION = Tightening(approval="PF-2026-1", basis="某条例第一条")


@dataclass(frozen=True)
class Step:
    rule: str
    code: str
    where: str
    before: AnyRow
    broken: tuple[AnyRow, ...]
    kept: tuple[AnyRow, ...]


STEPS = (
    Step(
        "the number of lanes stays",
        "lanes-changed",
        "bus/bus lanes",
        made.bus(),
        (made.bus(lanes=12),),
        (made.bus(title="另一名称"),),
    ),
    Step(
        "schema versions in force stay, new ones follow",
        "schema-changed",
        "dataset/minimum-living schemas",
        made.dataset(schemas=SECOND_SCHEMA),
        (made.dataset(),),
        (made.dataset(schemas=SECOND_SCHEMA),),
    ),
    Step(
        "no department makes its class stricter by itself",
        "condition-added-alone",
        "dataset/minimum-living tightening",
        made.dataset(share=ShareClass.UNCONDITIONAL),
        (made.dataset(),),
        (made.dataset(tightening=CONDITION),),
    ),
    Step(
        "no department adds a condition by itself",
        "condition-added-alone",
        "dataset/minimum-living tightening",
        made.dataset(tightening=CONDITION),
        (made.dataset(use_conditions="须另行盖章", tightening=CONDITION),),
        (made.dataset(tightening=CONDITION, summary="另一说明"),),
    ),
    Step(
        "no department takes a purpose away by itself",
        "condition-added-alone",
        "dataset/minimum-living tightening",
        made.dataset(purposes=("social-relief", "research")),
        (made.dataset(),),
        (made.dataset(tightening=CONDITION),),
    ),
    Step(
        "changed items are a new grant",
        "changed-in-place",
        "grant/minimum-living-meizhou items",
        made.grant(),
        (made.grant(items=items(name=Hash(mask="hash"))),),
        (made.grant("second", items=items(name=Hash(mask="hash")), replaces=made.grant().id),),
    ),
    Step(
        "a dataset keeps its key",
        "changed-in-place",
        "dataset/minimum-living key",
        made.dataset(),
        (made.dataset(key=("id_number",)),),
        (made.dataset(summary="另一说明"),),
    ),
    Step(
        "a key epoch never falls",
        "key-epoch-lower",
        "grant/minimum-living-meizhou key_epoch",
        made.grant(key_epoch=3),
        (made.grant(key_epoch=2),),
        (made.grant(key_epoch=4),),
    ),
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.rule)
def test_rule_of_the_step_to_the_next_list(step: Step) -> None:
    extra = (made.purpose("research"),)
    held = made.minimal(step.before, *extra)
    broken = found_in(made.minimal(*step.broken, *extra), previous=held)
    assert (step.code, step.where) in places(broken)
    taken = ("grant/minimum-living-meizhou",) if step.kept[0].id == "second" else ()
    assert found_in(made.minimal(*step.kept, *extra, without=taken), previous=held) == ()


def test_every_finding_says_what_is_wrong_and_what_to_do_in_both_languages() -> None:
    for case in CASES:
        for one in found_in(made.minimal(*case.broken, without=case.gone), case.columns):
            assert any("\u4e00" <= c <= "\u9fff" for c in one.zh + one.remedy_zh), one
            assert one.remedy_zh
            assert one.remedy_en
            assert not one.zh.endswith("。")
            assert not one.en.endswith(".")


def test_findings_are_bounded() -> None:
    strays = (made.system(f"stray-{index}", HOST) for index in range(PROBLEMS_MAX * 2))
    assert len(found_in(made.minimal(*strays))) == PROBLEMS_MAX


def test_a_check_that_fails_refuses_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_listing: Listing) -> Iterator[Finding]:
        raise KeyError("x")

    monkeypatch.setattr("shutong_core.domain.checks.CHECKS", (*CHECKS, failing))
    assert [one.code for one in found_in(made.minimal())] == ["check-failed"]


def test_every_check_has_a_docstring_that_states_its_rule() -> None:
    assert all(check.__doc__ for check in CHECKS)
    assert len(set(CHECKS)) == len(CHECKS)


def test_the_writer_of_an_own_client_dataset_is_found() -> None:
    version = made.minimal()
    systems = publishing_systems(version, made.dataset(inbound="own_client"))
    assert [system.id for system in systems] == ["wuhua-civil"]


def test_a_path_is_written_as_people_write_it() -> None:
    assert path_text(("scope", "regions", 0)) == "scope.regions[0]"
