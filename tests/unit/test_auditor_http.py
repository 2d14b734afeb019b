"""The auditor over HTTP: auditors see all, departments their own, others none; tiles are public."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from audit_samples import CLUSTER
from shutong_auditor.app import Desk, make_app
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.indexer import Indexer
from shutong_auditor.treereader import tree_directory
from shutong_auditor.treestore import TreeStore
from shutong_core.audit.access import Act
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.domain.organisations import Organisation, Role, System
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import Level
from unit.test_index import TABLE, USCC, block, indexed, version

CITY = USCC[Level.CITY]
KEYS = {"k-auditor": "watch", "k-city": "city-sys", "k-ops": "ops", "k-gone": "gone"}


@dataclass
class Lists:
    current: bool = True

    @property
    def version(self) -> Any:
        made = version()
        rows = dict(made.rows)
        rows["organisation/OFFICE"] = Organisation.model_construct(
            id="OFFICE", name="审计局", region="440000000000", roles=(Role.AUDITOR,)
        )
        for name, organisation in (("watch", "OFFICE"), ("city-sys", CITY), ("gone", "NOBODY")):
            rows[f"system/{name}"] = System.model_construct(id=name, organisation=organisation)
        return type(made)(7, made.digest, 0, rows, {}, made.grants_by_dataset)


@dataclass
class Log:
    acts: list[Act] = field(default_factory=list)

    async def record(self, act: Act) -> bool:
        self.acts.append(act)
        return True


@dataclass
class World:
    http: TestClient
    log: Log
    lists: Lists
    directory: Path

    def get(self, path: str, key: str = "k-auditor", **query: str) -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.http.get(path, params=query, headers=headers)


@pytest.fixture
def world(tmp_path: Path) -> World:
    engine = open_index(None, tmp_path)
    Indexer(engine, TABLE, CLUSTER).add([indexed(block())])
    store = TreeStore(tree_directory(tmp_path, "audit", 0))
    for number in range(300):
        store.add(bytes((number % 256,)) * 40)
    store.flush()
    tree = TreeName(CLUSTER, "audit", 0)
    note = Checkpoint(tree.origin, 300, store.root()).sign(tree.key(bytes(32)), lambda _: bytes(64))
    store.store_checkpoint(note, 300)
    log, lists = Log(), Lists()
    desk = Desk(lists, KEYS.get, engine, tmp_path, log)  # type: ignore[arg-type]
    return World(TestClient(make_app(desk)), log, lists, tmp_path)


def total(answer: Any) -> int:
    assert answer.status_code == 200, answer.text
    return sum(line["count"] for line in answer.json()["lines"])


def test_an_auditor_sees_all_a_department_its_own(world: World) -> None:
    whole = total(world.get("/v1/audit/search", by="grant_id"))
    own = total(world.get("/v1/audit/search", "k-city", by="grant_id"))
    assert 0 < own < whole
    assert own == total(world.get("/v1/audit/search", by="grant_id", organisation=CITY))
    for line in world.get("/v1/audit/search", "k-city", by="provider,requester").json()["lines"]:
        assert CITY in (line["provider"], line["requester"])
    assert total(world.get("/v1/audit/matrix", "k-city")) < total(world.get("/v1/audit/matrix"))
    assert world.log.acts == []


def test_a_department_cannot_ask_about_another_however_it_asks(world: World) -> None:
    other = USCC[Level.PROVINCE]
    refused = world.get("/v1/audit/search", "k-city", organisation=other)
    assert (refused.status_code, refused.json()["reason"]) == (403, "NOT_YOUR_AUDIT")
    assert world.log.acts[0].actor == f"{CITY}/city-sys"
    answer = world.get("/v1/audit/search", "k-city", by="provider,requester", provider=other)
    assert {line["requester"] for line in answer.json()["lines"]} == {CITY}
    answer = world.get("/v1/audit/search", "k-city", provider=other, requester=other)
    assert answer.json()["lines"] == []


@pytest.mark.parametrize("key", ["", "k-nobody", "k-ops", "k-gone"])
def test_who_is_no_system_of_an_organisation_sees_nothing_and_leaves_a_trace(
    world: World, key: str
) -> None:
    for path in ("/v1/audit/search", "/v1/audit/matrix", "/trees/audit/0/tile/entries/000"):
        answer = world.get(path, key)
        assert (answer.status_code, answer.json()["reason"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert [act.refused for act in world.log.acts] == [Reason.UNAUTHENTICATED] * 3


def test_without_word_that_the_list_is_the_newest_nothing_is_let_out(world: World) -> None:
    world.lists.current = False
    assert world.get("/v1/audit/search").status_code == 503


def test_checkpoints_and_hash_tiles_are_public_entries_are_not(world: World) -> None:
    directory = tree_directory(world.directory, "audit", 0)
    for name in ("checkpoint", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"):
        answer = world.get(f"/trees/audit/0/{name}", "")
        assert (answer.status_code, answer.content) == (200, (directory / name).read_bytes())
    entries = world.get("/trees/audit/0/tile/entries/000")
    assert entries.content == (directory / "tile/entries/000").read_bytes()
    assert world.get("/trees/audit/0/tile/entries/000", "k-city").status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/trees/audit/0/position.json",
        "/trees/audit/0/../0/position.json",
        "/trees/audit/0/tile/0/%2e%2e/%2e%2e/position.json",
        "/trees/audit/0/tile/9/000",
        "/trees/audit/0/tile/0/000.p/0",
        "/trees/audit/0/tile/0/000.p/257",
        "/trees/audit/0/tile/0/999",
        "/trees/audit/7/checkpoint",
        "/trees/inbound/0/checkpoint",
        "/trees/audit/-1/checkpoint",
        "/trees/audit/0/",
        "/v1/audit/nothing",
    ],
)
def test_nothing_but_files_of_trees_is_given_out(world: World, path: str) -> None:
    assert world.get(path).status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        {"by": "count"},
        {"by": ""},
        {"by": "day,day"},
        {"limit": "x"},
        {"limit": "0"},
        {"limit": "1000000"},
        {"skip": "-1"},
        {"from": "yesterday"},
        {"giver": "galaxy"},
        {"list": "7.5"},
        {"grant": "x" * 100},
        {"grant": ""},
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_with_what_is_wrong(
    world: World, query: dict[str, str]
) -> None:
    answer = world.get("/v1/audit/search", **query)
    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert world.get("/v1/audit/search").status_code == 200
