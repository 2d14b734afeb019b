"""What the auditor gives out as documents, and records of use: by right, on record before."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.testclient import TestClient

from audit_samples import CLUSTER
from shutong_auditor import actroutes
from shutong_auditor.actroutes import Office, act_routes
from shutong_auditor.app import REQUESTS_MAX, Desk, make_app
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.events import EventWriter
from shutong_auditor.index.indexer import Indexer, day_of
from shutong_auditor.index.questions import Span
from shutong_auditor.reconcile import GrantDay
from shutong_auditor.userecords import UseRecords
from shutong_auditor.useroutes import use_routes
from shutong_core.audit.access import AccessChain, Act
from shutong_core.audit.certificate import parse_certificate
from shutong_core.domain.grants import Bus, Grant, RequesterClass
from shutong_core.domain.organisations import Organisation, Role, System
from shutong_core.domain.regions import Level
from shutong_core.runtime.keyring import Keyring
from unit.bus_schemas import codec
from unit.test_index import REGIONS, TABLE, USCC, block, indexed, version

CITY, TOWN, COUNTY = USCC[Level.CITY], USCC[Level.TOWN], USCC[Level.COUNTY]
DAY = day_of(1_780_000_000_001)
KEYS = {
    "k-auditor": "watch",
    "k-city": "city-sys",
    "k-town": "town-sys",
    "k-county": "county-sys",
    "k-head": "head-sys",
    "k-far": "far-sys",
}
SYSTEMS = {
    "watch": "OFFICE",
    "city-sys": CITY,
    "town-sys": TOWN,
    "county-sys": COUNTY,
    "head-sys": "HEAD",
    "far-sys": "FAR",
}
USE = {
    "grant": "g2-4",
    "first_day": "2026-05-01",
    "last_day": "2026-05-31",
    "scenario": "救助核对",
    "process": "逐条比对",
    "effect": "减少证明一项",
    "storage": "专网库，六个月",
    "destruction": "期满清除",
}


def organisation(name: str, region: str, *roles: Role) -> Organisation:
    return Organisation.model_construct(id=name, name=name, region=region, line="x", roles=roles)


def the_list() -> Any:
    made = version()
    rows = dict(made.rows)
    rows["organisation/OFFICE"] = organisation("OFFICE", REGIONS[Level.PROVINCE], Role.AUDITOR)
    rows["organisation/HEAD"] = organisation("HEAD", REGIONS[Level.CITY], Role.AUTHORITY)
    # An authority too, but of another region.
    rows["organisation/FAR"] = organisation("FAR", "440100000000", Role.AUTHORITY)
    for system, uscc in SYSTEMS.items():
        rows[f"system/{system}"] = System.model_construct(id=system, organisation=uscc)
    rows["grant/towns"] = Grant.model_construct(
        id="towns",
        dataset="d2",
        requester=None,
        requester_class=RequesterClass(level="town", within="440000000000"),
        return_flow=False,
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
    )
    rows["bus/bus"] = Bus.model_construct(lanes=2)
    return type(made)(7, made.digest, 0, rows, {}, made.grants_by_dataset)


@dataclass
class Lists:
    current: bool = True
    version: Any = field(default_factory=the_list)


@dataclass
class Log:
    acts: list[Act] = field(default_factory=list)
    away: bool = False

    async def record(self, act: Act) -> bool:
        if not self.away:
            self.acts.append(act)
        return not self.away

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(act.action, act.target) for act in self.acts if act.refused is None]


@dataclass
class World:
    http: TestClient
    log: Log
    desk: Desk
    office: Any
    uses: UseRecords
    publics: tuple[bytes, ...]

    def ask(self, path: str, key: str = "k-auditor", body: Any = None, **query: str) -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if body is None:
            return self.http.get(path, params=query, headers=headers)
        return self.http.post(path, json=body, params=query, headers=headers)


@pytest.fixture
def world(tmp_path: Path) -> World:
    engine = open_index(None, tmp_path)
    Indexer(engine, TABLE, CLUSTER).add([indexed(block())])
    chain, made = AccessChain("consumer", "ee" * 16), []
    for actor, action in ((f"{CITY}/city-sys", "pull"), ("x/y", '=cmd|"')):
        encoded, chain = chain.next(Act(1_780_000_000_000, actor, action), codec().encode)
        made.append((len(made), encoded, 0))
    EventWriter(engine, codec()).add(0, made)
    log, lists = Log(), Lists()
    desk = Desk(lists, KEYS.get, engine, tmp_path, log)  # type: ignore[arg-type]
    asked: list[Sequence[Span]] = []
    state = {"fresh": True, "asked": asked}

    async def fresh(within_s: float) -> bool:
        return bool(state["fresh"])

    async def compare(day: str, spans: Sequence[Span]) -> list[GrantDay]:
        asked.append(spans)
        return [
            GrantDay(each.grant, each.count, each.count - 1, 0, [("少", "-1")]) for each in spans
        ]

    signer = Keyring(tmp_path / "keyring").signer("auditor")
    office = Office(desk, CLUSTER, signer.key_id, signer.sign, fresh, compare)
    uses = UseRecords(engine)
    app = make_app(desk, [*act_routes(office), *use_routes(desk, uses, TABLE)])
    return World(TestClient(app), log, desk, state, uses, (signer.public,))


@pytest.mark.parametrize("question", ["search", "matrix", "events", "reconcile"])
@pytest.mark.parametrize("kind", ["csv", "xlsx", "json"])
def test_an_answer_leaves_as_a_file_that_is_on_record_and_without_formulas(
    world: World, question: str, kind: str
) -> None:
    asked = {"question": question, "format": kind, "day": DAY}
    answer = world.ask("/v1/audit/exports", **asked)
    assert answer.status_code == 200, answer.text
    assert f'filename="shutong-{question}.{kind}"' in answer.headers["content-disposition"]
    assert world.log.told == [("audit.sheet", f"question/{question}")]
    if kind == "csv":
        assert answer.content.startswith(b"\xef\xbb\xbf")
        cells = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    elif kind == "xlsx":
        sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).active
        cells = [list(row) for row in sheet.iter_rows(values_only=True)]
    else:
        cells = answer.json()["lines"]
    assert len(cells) > 1
    formulas = [c for line in cells for c in line if isinstance(c, str) and c.startswith("=")]
    assert formulas == ([] if kind != "json" or question != "events" else ['=cmd|"'])


def test_what_cannot_be_put_on_record_is_not_given_out(world: World) -> None:
    world.log.away = True
    for answer in (
        world.ask("/v1/audit/exports"),
        world.ask("/v1/use-records", "k-town", USE),
        world.ask("/v1/audit/certificates", body=asked_by(CITY)),
    ):
        assert (answer.status_code, answer.json()["reason"]) == (503, "KAFKA_UNAVAILABLE")
        assert b"records" not in answer.content
    assert world.uses.find(None) == ([], False)


def test_a_department_takes_out_its_own_alone(world: World) -> None:
    answer = world.ask(
        "/v1/audit/exports", "k-city", format="json", by="publisher,provider,requester"
    )
    lines = answer.json()["lines"]
    assert lines
    assert all(CITY in line[:3] for line in lines)
    world.ask("/v1/audit/exports", "k-city", question="reconcile", day=DAY)
    grants = {span.grant for span in world.office["asked"][-1]}
    assert grants == {f"g2-{n}" for n in range(5)} | {f"g{n}-2" for n in range(5)}
    found = world.ask("/v1/audit/events", "k-city").json()["events"]
    assert [each["actor"] for each in found] == [f"{CITY}/city-sys"]
    assert len(world.ask("/v1/audit/events").json()["events"]) == 2
    refused = world.ask("/v1/audit/events", "k-city", actor="x/y")
    assert (refused.status_code, refused.json()["reason"]) == (403, "NOT_YOUR_AUDIT")
    assert world.log.acts[-1].refused is not None


def test_a_day_is_reconciled_only_once_the_index_has_all_of_the_audit(world: World) -> None:
    answer = world.ask("/v1/audit/reconcile", day=DAY).json()
    assert not answer["ok"]
    assert answer["grants"][0]["differences"] == [{"zh": "少", "en": "-1"}]
    assert len(answer["grants"]) == 25
    world.office["fresh"] = False
    assert world.ask("/v1/audit/reconcile", day=DAY).status_code == 503
    assert world.ask("/v1/audit/certificates", body=asked_by(CITY)).status_code == 503


def asked_by(uscc: str) -> dict[str, str]:
    return {"organisation": uscc, "first_day": DAY, "last_day": DAY}


def test_a_department_gets_its_own_certificate_and_an_auditor_any(world: World) -> None:
    for key in ("k-city", "k-auditor"):
        answer = world.ask("/v1/audit/certificates", key, asked_by(CITY))
        assert answer.status_code == 201, answer.text
        said = parse_certificate(answer.content, CLUSTER, world.publics)
        assert said["organisation"] == CITY
        assert {each["outcome"] for each in said["intakes"]} == {"passed", "BAD_ID_NUMBER"}
        assert {each["grant"] for each in said["placed"]} == {f"g2-{n}" for n in range(5)}
    assert world.log.told == [("audit.certify", f"organisation/{CITY}")] * 2
    refused = world.ask("/v1/audit/certificates", "k-town", asked_by(CITY))
    assert (refused.status_code, refused.json()["reason"]) == (403, "NOT_YOUR_AUDIT")
    assert len(world.log.told) == 2


def test_a_certificate_holds_under_the_auditors_key_alone(world: World) -> None:
    data = world.ask("/v1/audit/certificates", body=asked_by(CITY)).content
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for wrong, keys in ((data, (other,)), (data.replace(b"passed", b"passes"), world.publics)):
        with pytest.raises(Exception, match="certificate"):
            parse_certificate(wrong, CLUSTER, keys)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"organisation": CITY, "first_day": DAY},
        {"organisation": CITY, "first_day": "2026-13-01", "last_day": DAY},
        {"organisation": CITY, "first_day": "2026-12-01", "last_day": "2026-11-01"},
        {"organisation": CITY, "first_day": 20260101, "last_day": DAY},
        {"organisation": "nobody", "first_day": DAY, "last_day": DAY},
        asked_by(CITY) | {"more": 1},
    ],
)
def test_a_certificate_that_makes_no_sense_is_refused(world: World, body: Any) -> None:
    assert world.ask("/v1/audit/certificates", body=body).status_code == 400
    assert world.log.told == []


@pytest.mark.parametrize(
    "query",
    [
        {"question": "drop"},
        {"format": "exe"},
        {"question": "reconcile", "day": "x"},
        {"question": "events", "skip": "-1"},
        {"question": "events", "actor": "x" * 500},
        {"by": "nothing"},
    ],
)
def test_an_export_that_makes_no_sense_is_refused(world: World, query: dict[str, str]) -> None:
    assert world.ask("/v1/audit/exports", **query).status_code == 400
    assert world.log.told == []


def test_a_record_of_use_is_filed_by_who_receives_and_proved_by_its_event(world: World) -> None:
    answer = world.ask("/v1/use-records", "k-town", USE)
    assert answer.status_code == 201, answer.text
    act = world.log.acts[-1]
    assert (act.action, act.target, act.actor) == ("use.record", "grant/g2-4", f"{TOWN}/town-sys")
    assert act.detail == f"use-record {answer.json()['id']} sha256 {answer.json()['digest']}"
    assert "救助" not in act.detail
    (found,) = world.ask("/v1/use-records", "k-town").json()["records"]
    assert {name: found[name] for name in USE if name != "grant"} == {
        name: text for name, text in USE.items() if name != "grant"
    }
    assert (found["grant_id"], found["provider"], found["requester"]) == ("g2-4", CITY, TOWN)


def test_a_town_files_for_its_class_grant(world: World) -> None:
    assert world.ask("/v1/use-records", "k-town", USE | {"grant": "towns"}).status_code == 201
    refused = world.ask("/v1/use-records", "k-county", USE | {"grant": "towns"})
    assert (refused.status_code, refused.json()["reason"]) == (403, "NOT_YOUR_GRANT")


@pytest.mark.parametrize(
    ("key", "status"),
    [("k-city", 403), ("k-county", 403), ("k-auditor", 403), ("k-head", 403), ("", 401)],
)
def test_nobody_files_for_another(world: World, key: str, status: int) -> None:
    assert world.ask("/v1/use-records", key, USE).status_code == status
    assert world.log.acts[-1].refused is not None
    assert world.uses.find(None) == ([], False)


@pytest.mark.parametrize(
    ("key", "sees"),
    [
        ("k-town", True),  # who used
        ("k-city", True),  # whose data
        ("k-auditor", True),
        ("k-head", True),  # authority of their region
        ("k-far", False),  # authority of another
        ("k-county", False),  # a third department
    ],
)
def test_a_record_of_use_is_read_by_those_concerned(world: World, key: str, sees: bool) -> None:
    world.ask("/v1/use-records", "k-town", USE)
    assert len(world.ask("/v1/use-records", key).json()["records"]) == int(sees)
    assert world.ask("/v1/use-records", key, grant="g0-0").json()["records"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"grant": "Not An Id"},
        {"scenario": ""},
        {"scenario": "   "},
        {"process": None},
        {"effect": 5},
        {"effect": "x" * 5000},
        {"storage": "张三 11010519491231002X"},
        {"first_day": "2026-06-30"},
        {"first_day": "2026-02-31"},
        {"last_day": "tomorrow"},
        {"more": "x"},
        {"destruction": "a\x00b"},
    ],
)
def test_a_record_of_use_that_is_not_whole_is_refused(world: World, change: Any) -> None:
    answer = world.ask("/v1/use-records", "k-town", USE | change)
    assert answer.status_code == 400
    assert "11010519491231002X" not in answer.text
    assert world.log.told == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'"' + b"x" * 70_000])
def test_a_body_that_is_no_object_is_refused(world: World, body: bytes) -> None:
    headers = {"Authorization": "Bearer k-town"}
    for path in ("/v1/use-records", "/v1/audit/certificates"):
        assert world.http.post(path, content=body, headers=headers).status_code == 400


def test_too_many_at_once_are_told_to_come_back(world: World) -> None:
    world.desk._inside[0] = REQUESTS_MAX
    assert world.ask("/v1/audit/events").status_code == 429
    world.desk._inside[0] = 0
    assert world.ask("/v1/audit/events").status_code == 200


def test_an_export_of_more_than_a_file_holds_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actroutes, "LINES_MAX", 3)
    answer = world.ask("/v1/audit/exports", by="grant_id")
    assert answer.status_code == 400
    assert "3" in answer.json()["detail"]
    assert json.loads(world.ask("/v1/audit/exports", by="month", format="json").content)["lines"]
